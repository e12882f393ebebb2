"""A CUDA device that is not there: its tensors lie in the machine's memory and must not meet those of the CPU.

What this finds: a tensor that was left on the wrong side, and one that is read as an array without a copy. What it
does not: other rounding, kernels that a device lacks, and its memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
MIXES = {  # as those of a real device do
    Tensor.copy_,
    Tensor.__getitem__,
    Tensor.__setitem__,
    Tensor.data.__set__,
    torch._has_compatible_shallow_copy_type,
}


def tensors(value: Any) -> list[Tensor]:
    """Those in a value, in lists, tuples and dictionaries too."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for part in value for found in tensors(part)] if isinstance(value, list | tuple) else []


class SimulatedGpu(TorchFunctionMode):
    """Inside, `cuda` is a device of its own, in this thread.

    Attributes:
        calls: of functions on its tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self._there: dict[int, Any] = {}  # kept, so that no other memory comes to lie where it was
        self.calls = 0

    def __contains__(self, tensor: Tensor) -> bool:
        storage = Tensor.untyped_storage(tensor)
        return storage.data_ptr() in self._there

    def _put(self, value: Any) -> Any:
        for tensor in tensors(value):
            storage = Tensor.untyped_storage(tensor)
            if storage.nbytes():
                self._there[storage.data_ptr()] = storage
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [t for t in tensors([args, kwargs]) if t.numel()]
        there = [t in self for t in given]
        name = getattr(func, "__name__", str(func))
        if func == Tensor.device.__get__:
            return CUDA if any(there) else CPU
        if name in ("numpy", "__array__") and any(there):
            raise TypeError("can't convert cuda tensor to numpy: use Tensor.cpu() to copy it to host memory first")
        if func is Tensor.cpu or func is Tensor.to:
            return self._moved(args, kwargs)
        if "device" in kwargs and kwargs["device"] is not None:
            on = torch.device(kwargs.pop("device")).type == "cuda"
            value = func(*args, **kwargs, device=CPU)
            return self._put(value) if on else value
        if any(there):
            self.calls += 1
            sides = {side for side, tensor in zip(there, given, strict=True) if side or tensor.dim()}
            if len(sides) > 1 and func not in MIXES:
                raise RuntimeError(f"{name}: expected all tensors to be on the same device, cuda and cpu were found")
        value = func(*args, **kwargs)
        on = args[0] in self if func is Tensor.__getitem__ else any(there) and func not in MIXES
        return self._put(value) if on else value

    def _moved(self, args: Any, kwargs: Any) -> Any:
        """What `to` and `cpu` return."""
        tensor, *rest = args
        where = CUDA if tensor in self else CPU
        asked = [torch.device(a) for a in rest if isinstance(a, str | torch.device)]
        rest = [a for a in rest if isinstance(a, torch.dtype)]
        if "device" in kwargs:
            asked.append(torch.device(kwargs.pop("device")))
        if len(args) == 1 and not kwargs and not asked:  # of `cpu`
            asked = [CPU]
        to = asked[0] if asked else where
        value = Tensor.to(tensor, *rest, **kwargs) if rest or kwargs else tensor
        if to.type != where.type:
            value = value.detach().clone() if not value.requires_grad else value.clone()
        return self._put(value) if to.type == "cuda" else value
