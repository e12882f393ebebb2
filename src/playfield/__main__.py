"""`python -m playfield` is the command line."""

import importlib
import os
import signal
from typing import Any

PACKAGES = {
    "PIL": "pillow",
    "ale_py": "ale-py",
    "av": "av",
    "cv2": "opencv-python-headless",
    "gymnasium": "gymnasium",
    "lz4": "lz4",
    "matplotlib": "matplotlib",
    "numba": "numba",
    "numpy": "numpy",
    "pygame": "pygame-ce",
    "rich": "rich",
    "safetensors": "safetensors",
    "starlette": "starlette",
    "tensorboard": "tensorboard",
    "torch": "torch",
    "uvicorn": "uvicorn",
    "websockets": "websockets",
}
"""What playfield needs, by the module that is imported: one that is missing is a line, not a traceback."""


def main() -> int:
    """Run the command line. Ctrl-C is a line from the first moment on, also while modules are imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        code: int = importlib.import_module("playfield.cli").main()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in PACKAGES:
            raise
        package = PACKAGES[missing]
        os.write(2, f"playfield: the package {package} is missing ({missing}): pip install {package}\n".encode())
        return 2
    return code


def _stop(signum: int, _frame: Any) -> None:
    os.write(2, b"playfield: stopped\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    raise SystemExit(main())
