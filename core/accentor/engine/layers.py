"""Running a network: capturing activations no deeper than needed, and leaving it as it was."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from accentor.errors import InvalidFeatureError
from accentor.spec import LayerInfo

OUTPUT = ""
"""Name under which the model's own output is captured: the logits."""

INPUT = "@input"
"""Name under which a model's input is captured: images in 0 to 1, before its normalisation."""

PREACTIVATION = ".input"
"""What follows an activation module's name in the name of the layer that is the tensor it receives."""

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Where a module keeps its hooks."""


def is_compiled(module: nn.Module) -> bool:
    """Tell whether ``torch.compile`` has any part of a network."""
    return any(hasattr(one, "_orig_mod") or one._compiled_call_impl is not None for one in module.modules())


class _ReachedError(BaseException):
    """Ends a forward pass at the deepest layer that is needed; no network's own handlers are to catch it."""


@dataclass(frozen=True)
class Trace:
    """What one run of a network told about it.

    Attributes
    ----------
    layers
        In the order in which they finish; a module that runs several times counts by its last run.
    calls
        How often each of them runs.
    width
        Length of the vector that the network gives; none if it gives something else.
    headless
        Whether that vector is taken for features instead of logits.
    inputs
        Names of those layers that are what an activation module receives.
    overwritten
        Names of those that the network changes in place later: these are copied when they are captured. Grows where a
        run shows more of them.
    """

    layers: tuple[LayerInfo, ...]
    calls: Mapping[str, int]
    width: int | None
    headless: bool = False
    inputs: frozenset[str] = frozenset()
    overwritten: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", {layer.name: index for index, layer in enumerate(self.layers)})
        object.__setattr__(self, "last", frozenset(layer.name for layer in self.layers if layer.channels_last))

    position: Mapping[str, int] = field(init=False, repr=False)
    last: frozenset[str] = field(init=False, repr=False)


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


def activations(module: nn.Module, inputs: Tensor, names: frozenset[str], trace: Trace) -> dict[str, Tensor]:
    """Return the activations at the named layers, running the model no deeper than the last of them.

    They are part of the graph: what the model computes from a layer has a gradient with respect to its activations.
    Maps are [B, C, H, W] even where the module gives [B, H, W, C].

    Parameters
    ----------
    inputs
        Normalised images, [B, C, S, S].
    names
        Names of layers; `OUTPUT` for the model's own output.
    trace
        From tracing this module.

    Raises
    ------
    InvalidFeatureError
        If the model did not run one of them this time.
    """
    while True:
        run = _Run(names, trace)
        captured = run.of(module, inputs)
        if missing := names - captured.keys():
            raise InvalidFeatureError(f"the model did not run its layers {', '.join(sorted(missing))}")
        if not (spoiled := run.spoiled()):
            return captured
        trace.overwritten.update(spoiled)


class _Run:
    """One forward pass that captures layers.

    A captured tensor is the network's own, not a copy, unless the network is known to change it in place. One that was
    changed after all shows it by its version counter: then the pass has to be run again with a copy of it.
    """

    def __init__(self, names: frozenset[str], trace: Trace) -> None:
        self._trace, self._names = trace, names
        self._wanted = sorted(names & trace.position.keys(), key=lambda name: trace.position[name])
        self._last = None if OUTPUT in names or not self._wanted else self._wanted[-1]
        self._captured: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._ran: Counter[str] = Counter()

    def of(self, module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        """Run the model as deep as needed and return what was captured."""
        with ExitStack() as hooks:
            for name in self._wanted:
                hooks.callback(self._hook(module, name).remove)
            try:
                output = module(inputs)
                if OUTPUT in self._names:
                    self._captured[OUTPUT] = output
            except _ReachedError:
                pass
        return self._captured

    def spoiled(self) -> set[str]:
        """Return the names of the captured layers that were changed in place after they were captured."""
        return {name for name, version in self._versions.items() if self._captured[name]._version != version}

    def _hook(self, module: nn.Module, name: str) -> Any:
        if name in self._trace.inputs:

            def before(_: nn.Module, received: tuple[Any, ...]) -> Any:
                passed = self._capture(name, received[0])
                return None if passed is None else (passed, *received[1:])

            return module.get_submodule(name.removesuffix(PREACTIVATION)).register_forward_pre_hook(before)

        def after(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            return self._capture(name, output)

        return module.get_submodule(name).register_forward_hook(after)

    def _capture(self, name: str, tensor: Tensor) -> Tensor | None:
        """Keep the tensor; return what the network is to go on with, or none for the tensor itself."""
        self._ran[name] += 1
        kept = tensor.permute(0, 3, 1, 2) if name in self._trace.last else tensor
        done = name == self._last and self._ran[name] == self._trace.calls[name]
        if not done and (tensor.is_inference() or name in self._trace.overwritten):
            kept = kept.clone()
            if kept.requires_grad:
                # Copied back into the same memory, so that all who share it go on from the captured tensor.
                tensor.copy_(kept.permute(0, 2, 3, 1) if name in self._trace.last else kept)
            self._captured[name] = kept
            return None
        self._captured[name] = kept
        if done:
            raise _ReachedError
        self._versions[name] = kept._version
        return kept.permute(0, 2, 3, 1) if name in self._trace.last else None
