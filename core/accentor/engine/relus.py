"""The ReLUs of a network, wherever they are computed by PyTorch's functions or modules, computed in another way."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn, relu, relu_
from torch.overrides import TorchFunctionMode

RELU6 = 6.0
_RELUS: frozenset[Callable[..., Any]] = frozenset(
    {nn.functional.relu, relu, relu_, nn.functional.relu_, Tensor.relu, Tensor.relu_}
)
_IN_PLACE: frozenset[Callable[..., Any]] = frozenset({relu_, nn.functional.relu_, Tensor.relu_})
_CLAMPS: frozenset[Callable[..., Any]] = frozenset(
    {nn.functional.relu6, nn.functional.hardtanh, nn.functional.hardtanh_}
)


class ReluMode(TorchFunctionMode):
    """A context in which `relu` computes the ReLUs; the network itself is not touched. What is scripted is not seen."""

    def relu(self, x: Tensor, top: float | None, *, in_place: bool) -> Tensor | None:
        """Return the ReLU of x (``top`` none) or its ReLU6; none: as PyTorch does it."""
        raise NotImplementedError

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RELUS or func in _CLAMPS:
            x, top, in_place = _read(func, args, kwargs)
            found = None if top == 0 else self.relu(x, top, in_place=in_place)
            if found is not None:
                return found
        return func(*args, **kwargs)


def _read(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, float | None, bool]:
    """Return x, where the function is cut off above (none: nowhere; 0: it is no ReLU), and whether it is in place."""
    given = dict(zip(("input", "inplace"), args, strict=False))
    if func in _RELUS or func is nn.functional.relu6:
        given |= kwargs
        top = RELU6 if func is nn.functional.relu6 else None
        return given["input"], top, func in _IN_PLACE or bool(given.get("inplace", False))
    given = dict(zip(("input", "min_val", "max_val", "inplace"), args, strict=False)) | kwargs
    is_relu6 = (given.get("min_val", -1.0), given.get("max_val", 1.0)) == (0.0, RELU6)
    in_place = func is nn.functional.hardtanh_ or bool(given.get("inplace", False))
    return given["input"], RELU6 if is_relu6 else 0.0, in_place
