"""`python -m playfield` is the command line."""

import importlib
import os
import signal
from typing import Any


def main() -> int:
    """Run the command line. Ctrl-C is a line from the first moment on, also while modules are imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    code: int = importlib.import_module("playfield.cli").main()
    return code


def _stop(signum: int, _frame: Any) -> None:
    os.write(2, b"playfield: stopped\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    raise SystemExit(main())
