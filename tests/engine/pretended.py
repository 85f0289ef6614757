"""A GPU that is not there: its tensors say that they are on ``cuda:0`` and may not meet the CPU's, which computes them.

A tensor's device is that of its storage. PyTorch is patched where Python gives it a device or asks for one; a dispatch
mode looks at the arguments of all operations below, those of backward passes too. What PyTorch makes of nothing by
itself, such as the scalar within a quantile, goes with both. Threads of one's own are not looked at.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, is_tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
FREE, TOTAL = 8 * 2**30, 16 * 2**30

MAKERS = (
    "arange", "as_tensor", "empty", "empty_like", "eye", "frombuffer", "from_numpy", "full", "full_like", "linspace",
    "ones", "ones_like", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "tensor", "zeros",
    "zeros_like",
)  # fmt: skip
METHODS = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
OF_NUMBERS = {"as_tensor", "new_tensor", "tensor"}
CPU_ALONE = ("numpy", "__array__")

COPIES = {"aten._to_copy", "aten.copy_"}
WAITING = {"aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten._unique2"}
UNREPEATABLE = {
    "aten.grid_sampler_2d_backward", "aten.index_add", "aten.index_add_", "aten.scatter_add", "aten.scatter_add_",
    "aten.upsample_bilinear2d_backward", "aten._upsample_bilinear2d_aa_backward", "aten.upsample_bicubic2d_backward",
    "aten.reflection_pad2d_backward", "aten.replication_pad2d_backward", "aten._embedding_bag_backward", "aten.cumsum",
    "aten.embedding_dense_backward", "aten.put_", "aten.histc",
}  # fmt: skip
"""What a GPU adds up in another order each time, if it is of floats; see torch.use_deterministic_algorithms."""


class MixedDevicesError(AssertionError):
    """An operation on tensors of two devices."""


class Pretended(TorchDispatchMode):
    """Knows the device of every storage, and looks at every operation while it is entered.

    Attributes
    ----------
    sums
        Operations on floats of the GPU that are among `UNREPEATABLE`.
    waits
        How often the host had to wait for the GPU, by what for: numbers read, copies to and from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sums: set[str] = set()
        self.waits: Counter[str] = Counter()
        self._there: dict[int, StorageWeakRef] = {}
        self._anywhere: dict[int, StorageWeakRef] = {}
        self._makes = 0

    def of(self, tensor: Tensor) -> torch.device:
        """Return the device that a tensor says it is on."""
        if tensor.is_meta:
            return torch.device("meta")
        return GPU if tensor.untyped_storage()._cdata in self._there else CPU

    def put(self, tensor: Tensor, device: torch.device | None) -> Tensor:
        """Say where a tensor is, with all that share its memory; none: anywhere."""
        if not tensor.is_meta:
            storage = tensor.untyped_storage()
            for kept, wanted in ((self._there, device == GPU), (self._anywhere, device is None)):
                kept.pop(storage._cdata, None)
                if wanted:
                    kept[storage._cdata] = StorageWeakRef(storage)
        return tensor

    def alive(self) -> int:
        """Return how many storages there are on the GPU."""
        return sum(not one.expired() for one in self._there.values())

    @contextmanager
    def making(self) -> Iterator[None]:
        """Take what is made of nothing for a tensor of the CPU: whoever makes it says where it is."""
        self._makes += 1
        try:
            yield
        finally:
            self._makes -= 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        given = [one for one in tree_leaves((args, kwargs)) if is_tensor(one) and not one.is_meta]
        where = self._where(name, given)
        result = func(*args, **(kwargs or {}))
        if where == GPU:
            masks = [one for one in tree_leaves(args[1:]) if is_tensor(one) and one.dtype == torch.bool]
            if name in WAITING or (name.startswith(("aten.index", "aten._index")) and masks):
                self.waits[name] += 1
            if name in UNREPEATABLE and any(one.is_floating_point() for one in given[-1:]):
                self.sums.add(name)
        known = {one.untyped_storage()._cdata for one in given}
        for one in tree_leaves(result):
            if is_tensor(one) and not one.is_meta and one.untyped_storage()._cdata not in known:
                self.put(one, where)
        return result

    def _where(self, name: str, given: Sequence[Tensor]) -> torch.device | None:
        """Return where the result is, or refuse; a tensor without dimensions may come from the CPU."""
        bound = [one for one in given if one.untyped_storage()._cdata not in self._anywhere]
        devices = {self.of(one) for one in bound}
        if not bound:
            return CPU if self._makes else None
        if len(devices) > 1 and name in COPIES:
            self.waits[name] += 1
            return self.of(given[0])
        if len(devices) > 1 and any(one.dim() and self.of(one) == CPU for one in bound):
            told = ", ".join(f"{self.of(one)} {list(one.shape)}" for one in bound)
            raise MixedDevicesError(f"{name} of {told}")
        return GPU if GPU in devices else CPU


class Generator(torch.Generator):
    """A generator of the CPU that says where it is."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made: Generator = super().__new__(cls)
        made.place = _found(device) or CPU
        return made

    @property
    def device(self) -> torch.device:
        return self.place


def pretend(patch: pytest.MonkeyPatch) -> Pretended:
    """Give this process a GPU until the patches are undone; what is to be looked at has to run in the mode."""
    mode = Pretended()
    for name in MAKERS:
        patch.setattr(torch, name, _making(mode, name, getattr(torch, name)))
    for name in METHODS:
        patch.setattr(Tensor, name, _making(mode, name, getattr(Tensor, name)))
    for name in CPU_ALONE:
        patch.setattr(Tensor, name, _refusing(mode, getattr(Tensor, name)))
    move, copy = _moving(mode, Tensor.to), Tensor.__deepcopy__
    patch.setattr(Tensor, "to", move)
    patch.setattr(Tensor, "cpu", lambda tensor: move(tensor, CPU))
    patch.setattr(Tensor, "__deepcopy__", lambda tensor, memo: mode.put(copy(tensor, memo), mode.of(tensor)))
    patch.setattr(Tensor, "device", property(mode.of))
    patch.setattr(torch, "Generator", Generator)
    for name in ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"):
        patch.setattr(torch.optim.Optimizer, name, lambda _: None, raising=False)
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "get_device_capability": (8, 0),
        "mem_get_info": (FREE, TOTAL),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": None,
    }
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    return mode


def _found(device: Any) -> torch.device | None:
    """Return the device of this name with its number; there is one GPU."""
    found = None if device is None else torch.device(device)
    if found is None or found.type != "cuda":
        return found
    if found.index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return GPU


def _making(mode: Pretended, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    like = name.endswith("_like") or name in METHODS

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Any:
        target = _found(device) or (mode.of(args[0]) if like else CPU)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != target.type:
            raise RuntimeError(f"Expected a '{target.type}' device type for generator but found '{generator.device}'")
        with mode.making():
            result = make(*args, **({} if device is None else {"device": CPU if target == GPU else target}), **kwargs)
        if target == GPU and name in OF_NUMBERS:
            mode.waits["numbers of the host"] += 1
        return mode.put(result, target)

    return made


def _moving(mode: Pretended, to: Callable[..., Any]) -> Callable[..., Tensor]:
    def moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        like = next((one for one in args if is_tensor(one)), None)
        named = next((one for one in args if isinstance(one, str | torch.device)), kwargs.get("device"))
        target = mode.of(like) if like is not None else _found(named) or mode.of(tensor)
        types = [one for one in args if isinstance(one, torch.dtype)]
        dtype = like.dtype if like is not None else kwargs.get("dtype") or next(iter(types), tensor.dtype)
        rest = {key: kwargs[key] for key in ("copy", "memory_format") if key in kwargs}
        if target == mode.of(tensor):
            return to(tensor, dtype, **rest)
        if target.type == "meta":
            return to(tensor, target, dtype, **rest)
        mode.waits["copies"] += 1
        return mode.put(to(tensor, dtype, **(rest | {"copy": True})), target)

    return moved


def _refusing(mode: Pretended, read: Callable[..., Any]) -> Callable[..., Any]:
    def refused(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if mode.of(tensor) == GPU:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return read(tensor, *args, **kwargs)

    return refused
