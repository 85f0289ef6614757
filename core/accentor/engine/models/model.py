"""A network with everything accentuation needs to know of it."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from accentor.engine.layers import HOOKS, INPUT, OUTPUT, Trace, activations, frozen, is_compiled
from accentor.engine.models.defaults import default_regularization_layer
from accentor.engine.models.devices import is_out_of_memory, read_device
from accentor.engine.models.folding import fold
from accentor.engine.models.weights import check_finite, digest
from accentor.engine.precision import name_of
from accentor.engine.rectification import rectified
from accentor.engine.redirection import redirected
from accentor.engine.stems import stemmed
from accentor.engine.tracing import trace
from accentor.errors import InvalidRecipeError, InvalidRequestError
from accentor.spec import ModelCard

BLANKS = 2
"""Images that a network is traced with."""
FOLDED = "folded"
"""Under which the folded copy is kept, beside those by type."""


class Model:
    """A network in evaluation, with its preprocessing, labels and layers.

    The network itself is never changed: hooks, modes and gradient flags are as they were after every use.

    Parameters
    ----------
    module
        Takes images [B, C, S, S], normalised; usually gives logits [B, K].
    input_size
        S, in pixels.
    mean, std
        Normalisation of images in 0..1 by channel; their number is C: one for grey images, three for colour.
    labels
        Names of the K logits.
    regularization_layer
        The default ℓ; none: see `default_regularization_layer`.
    name, source
        What it is called, and where it is from.
    logits
        Whether a vector that the network gives is logits; none: unless it has no classes or ends in an ``nn.Identity``,
        as a backbone without its head does, and does not say that it has as many classes (``num_classes``).

    Raises
    ------
    InvalidRequestError
        If the network does not run on such images, or has no layer that can be read.
    InvalidWeightsError
        If its weights are not finite.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        input_size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        labels: Sequence[str] | None = None,
        regularization_layer: str | None = None,
        name: str = "model",
        source: str = "module",
        logits: bool | None = None,
    ) -> None:
        _check_normalization(mean, std)
        self.module = module
        first = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
        self.device = first.device
        self._dtype = first.dtype
        self._mean = torch.tensor(mean, device=self.device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, -1, 1, 1)
        self._copies: dict[torch.dtype | str, tuple[tuple[int, ...], Model]] = {}
        self.folded_layers: frozenset[str] = frozenset()
        check_finite(module)
        blank = self._blank(len(mean), input_size)
        self._trace = _trace(module, blank)
        self._format = _layout(module, blank)
        layers = self._trace.layers
        outputs = self._trace.width if logits or (logits is None and not self._trace.headless) else None
        types = ((layer.name, layer.type) for layer in layers if layer.name not in self._trace.inputs)
        self.card = ModelCard(
            name=name,
            source=source,
            digest=digest(module, [source, input_size, *mean, *std, *types]),
            input_size=input_size,
            channels=len(mean),
            labels=tuple(labels) if labels is not None and len(labels) == outputs else None,
            outputs=outputs,
            regularization_layer=regularization_layer or default_regularization_layer(module, layers, input_size),
            layers=layers,
        )

    def __repr__(self) -> str:
        return f"<model {self.card}, on {self.device}>"

    def activations(self, images: Tensor, names: frozenset[str], *, redirect: bool = False) -> dict[str, Tensor]:
        """Return the activations at the named layers, running no deeper than needed, in the network's present mode.

        A network of your own that is in training mode is evaluated within `frozen`.

        Parameters
        ----------
        images
            [B, C, S, S] in 0..1, float32. They are normalised in float32, then cast to the network's own type.
        names
            Names of layers; `OUTPUT` for the network's output, `INPUT` for these images.
        redirect
            Whether gradients pass ReLUs that are off, as in `redirected`.

        Returns
        -------
        dict of str to Tensor
            [B, C, H, W], [B, tokens, C] or [B, C], in the network's own type; each with the graph to the images, and
            part of the graph of what lies behind it.
        """
        found = {INPUT: images} if INPUT in names else {}
        if deeper := names - {INPUT}:
            normalized = ((images - self._mean) / self._std).to(self._dtype)
            inputs = normalized.contiguous(memory_format=self._format)
            ours = self.device.type == "cpu" and not is_compiled(self.module)
            relus = redirected() if redirect else rectified(wanted=ours and self._dtype == torch.bfloat16)
            with relus, stemmed(wanted=ours and torch.is_grad_enabled() and inputs.requires_grad):
                found |= activations(self.module, inputs, deeper, self._trace)
        return found

    def to(self, device: str | torch.device) -> "Model":
        """Return this model on another device: itself if it is there already, else a copy."""
        target = read_device(device)
        if target == self.device or torch.device(device) == torch.device(self.device.type):
            return self
        twin = self._twin(copy.deepcopy(self.module).to(target))
        twin.device = target
        twin._mean, twin._std = self._mean.to(target), self._std.to(target)
        return twin

    def cast(self, dtype: torch.dtype) -> "Model":
        """Return a copy that computes in this type; made once, then kept. For its own type it is the model itself.

        It has this model's card, digest and all, and takes the same float32 images. This network stays as it is; if its
        weights or hooks are others a new copy is made.

        Raises
        ------
        InvalidRecipeError
            If the network does not run in this type.
        """
        return self if dtype == self._dtype else self._copy(dtype, lambda: self._cast(dtype))

    def folded(self) -> "Model":
        """Return a copy whose convolutions do the work of the batch norms behind them; made once, as by `cast`.

        It gives what this model gives, up to rounding, in all layers but its ``folded_layers``. Where there is nothing
        to fold, and in anything but float32, it is the model itself.
        """
        return self if self._dtype != torch.float32 else self._copy(FOLDED, self._fold)

    def depth(self, names: frozenset[str]) -> int:
        """Return how many layers finish before the last of these does; the output counts as the last."""
        position = {INPUT: 0, **self._trace.position}
        return max(position.get(name, len(self._trace.layers)) for name in names)

    def frozen(self) -> AbstractContextManager[None]:
        """Return a context in which the network is in evaluation mode without parameter gradients."""
        return frozen(self.module)

    def renamed(self, name: str, source: str | None = None) -> "Model":
        """Return this model under another name, its network shared."""
        twin = self._twin(self.module)
        twin.card = self.card.model_copy(update={"name": name, "source": source or self.card.source})
        return twin

    @property
    def precision(self) -> str:
        """What the network computes in, such as ``float32``."""
        return name_of(self._dtype)

    def _blank(self, channels: int, side: int) -> Tensor:
        return torch.zeros(BLANKS, channels, side, side, device=self.device, dtype=self._dtype)

    def _twin(self, module: nn.Module) -> "Model":
        twin = copy.copy(self)
        twin.module, twin._copies = module, {}
        return twin

    def _copy(self, kind: torch.dtype | str, make: Callable[[], "Model"]) -> "Model":
        state = _state(self.module)
        kept = self._copies.get(kind)
        if kept is None or kept[0] != state:
            kept = (state, make())
            self._copies[kind] = kept
        return kept[1]

    def _fold(self) -> "Model":
        blank = self._blank(self.card.channels, self.card.input_size)
        noise = torch.randn(blank.shape, generator=torch.Generator().manual_seed(0)).to(blank)
        found = fold(self.module, noise.contiguous(memory_format=self._format))
        if found is None:
            return self
        twin = self._twin(found[0])
        twin.folded_layers = found[1]
        return twin

    @torch.inference_mode(mode=False)
    def _cast(self, dtype: torch.dtype) -> "Model":
        module = copy.deepcopy(self.module).eval().requires_grad_(requires_grad=False)
        twin = self._twin(module.to(dtype=dtype, memory_format=self._format))  # type: ignore[call-overload]
        twin._dtype = dtype
        try:
            with torch.no_grad():
                twin.activations(self._blank(self.card.channels, self.card.input_size).float(), frozenset({OUTPUT}))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise InvalidRecipeError(f"{self.card.name} does not run in {name_of(dtype)}: {error}") from error
        return twin


def _trace(module: nn.Module, blank: Tensor) -> Trace:
    try:
        traced = trace(module, blank)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise InvalidRequestError(
            f"{type(module).__name__} does not run on images {list(blank.shape[1:])}: {error}; give the input_size and "
            "as many entries of mean and std as it takes channels"
        ) from error
    if not traced.layers:
        raise InvalidRequestError(
            f"{type(module).__name__} has no layer that gives [B, C], [B, tokens, C], [B, C, H, W] or [B, H, W, C]"
        )
    return traced


def _state(module: nn.Module) -> tuple[int, ...]:
    """Return what changes whenever the network's numbers or hooks do."""
    tensors = (number for one in (*module.parameters(), *module.buffers()) for number in (one._version, one.data_ptr()))
    hooks = (name for one in module.modules() for kind in HOOKS for name in getattr(one, kind))
    return (*tensors, *hooks)


def _layout(module: nn.Module, blank: Tensor) -> torch.memory_format:
    """Return the memory layout of images: channels last, which convolutions are fastest in, if the network takes it.

    One that calls ``view`` on its maps does not.
    """
    try:
        with frozen(module), torch.no_grad():
            module(blank.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return torch.contiguous_format
    return torch.channels_last


def _check_normalization(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != len(std) or not mean:
        raise InvalidRequestError(f"mean has {len(mean)} entries, std {len(std)}: expected one each by channel")
    if min(std) <= 0:
        raise InvalidRequestError(f"std is {tuple(std)}: expected numbers above 0")
