"""Reading a model's layers: tracing them once, and capturing activations while running no deeper than needed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from accentor.errors import InvalidFeatureError
from accentor.spec import LayerInfo

OUTPUT = ""
"""Name under which the model's own output is captured: the logits."""


class _ReachedError(Exception):
    """Ends a forward pass at the deepest layer that is needed."""


def trace(module: nn.Module, image: Tensor) -> tuple[list[LayerInfo], dict[str, int], int | None]:
    """Run the model once and list its layers.

    Parameters
    ----------
    module
        The network.
    image
        One input, [1, C, S, S].

    Returns
    -------
    layers
        Every module that gives one tensor [1, C], [1, tokens, C] or [1, C, H, W], in the order in which they finish.
    calls
        How often each of them ran: a shared module counts by its last run.
    outputs
        Number of logits; none if the model's output is no vector.
    """
    finished: dict[str, LayerInfo] = {}
    calls: Counter[str] = Counter()

    def note(name: str, layer: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and _has_known_axes(output):
            finished.pop(name, None)
            finished[name] = LayerInfo(name=name, type=type(layer).__name__, shape=tuple(output.shape[1:]))
            calls[name] += 1

    with frozen(module), _hooks(module, [name for name, _ in module.named_modules() if name], note), torch.no_grad():
        output = module(image)
    vector = isinstance(output, Tensor) and output.dim() == 2
    return list(finished.values()), dict(calls), output.shape[1] if vector else None


def _has_known_axes(output: Tensor) -> bool:
    """Tell whether it is [1, C], [1, tokens, C] or [1, C, H, W], whose maps are square as the inputs are."""
    return output.dim() in (2, 3) or (output.dim() == 4 and output.shape[2] == output.shape[3])


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode without parameter gradients, and back as it was, bit for bit."""
    modes = {layer: layer.training for layer in module.modules()}
    gradients = {parameter: parameter.requires_grad for parameter in module.parameters()}
    try:
        module.eval()
        module.requires_grad_(requires_grad=False)
        yield
    finally:
        for layer, training in modes.items():
            layer.training = training
        for parameter, needed in gradients.items():
            parameter.requires_grad_(needed)


@contextmanager
def _hooks(module: nn.Module, names: Sequence[str], note: Any) -> Iterator[None]:
    layers = dict(module.named_modules())
    handles = []
    try:
        for name in names:

            def hook(layer: nn.Module, _: Any, output: Any, name: str = name) -> Any:
                return note(name, layer, output)

            handles.append(layers[name].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def activations(
    module: nn.Module, inputs: Tensor, names: frozenset[str], order: Sequence[str], calls: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return the activations at the named layers, running the model no deeper than the last of them.

    Parameters
    ----------
    inputs
        Normalised images, [B, C, S, S].
    names
        Dotted module names; `OUTPUT` for the model's own output.
    order, calls
        Layers in the order in which they finish, and how often each runs, from `trace`.

    Raises
    ------
    InvalidFeatureError
        If the model did not run one of them this time.
    """
    captured: dict[str, Tensor] = {}
    ran: Counter[str] = Counter()
    wanted = [name for name in order if name in names]
    last = None if OUTPUT in names else wanted[-1]

    def capture(name: str, _: nn.Module, output: Tensor) -> Tensor:
        captured[name] = output
        ran[name] += 1
        if name == last and ran[name] == calls[name]:
            raise _ReachedError
        return output.clone()

    with _hooks(module, wanted, capture):
        try:
            output = module(inputs)
            if OUTPUT in names:
                captured[OUTPUT] = output
        except _ReachedError:
            pass
    if missing := names - captured.keys():
        raise InvalidFeatureError(f"the model did not run its layers {', '.join(sorted(missing))}")
    return captured
