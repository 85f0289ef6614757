"""What: whether an accentuation means the same to a network that took no part in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accentor.engine.evaluate.values import BATCH, clean_views
from accentor.engine.layers import OUTPUT
from accentor.engine.models import Model
from accentor.errors import InvalidRequestError


@dataclass(frozen=True)
class Transfer:
    """How a class's log-probability changed in another network.

    Attributes
    ----------
    share
        The part of the pictures in which it rose, 0..1.
    rise
        Its mean change, in nats.
    logit_rise
        The mean change of the class's logit, which unlike the log-probability has no upper end.
    rises
        The change of the log-probability in each picture.
    """

    share: float
    rise: float
    logit_rise: float
    rises: tuple[float, ...]


def transfer(judge: Model, before: Tensor, after: Tensor, classes: Sequence[int], *, multilabel: bool) -> Transfer:
    """Measure what accentuations of classes do to a network that took no part in the optimisation.

    Parameters
    ----------
    judge
        That network, with logits.
    before, after
        Seeds and accentuations, [N, 3, H, W] in 0..1.
    classes
        The logit of each picture's class in the judge.
    multilabel
        Whether its logits are one yes or no each (log σ(z)), not one choice among all (log softmax z).
    """
    was, now = (_class_logits(judge, images, classes) for images in (before, after))
    each = torch.arange(len(classes))
    rises = _log(now, multilabel=multilabel)[each, classes] - _log(was, multilabel=multilabel)[each, classes]
    raised = (rises > 0).double().mean().item()
    logit_rise = (now - was)[each, classes].mean().item()
    return Transfer(raised, rises.mean().item(), logit_rise, tuple(rises.tolist()))


def log_probabilities(model: Model, images: Tensor, classes: Sequence[int], *, multilabel: bool) -> Tensor:
    """Return the log-probability [N], in nats, of one class per whole image [N, 3, H, W]; see `transfer`."""
    logits = _class_logits(model, images, classes)
    return _log(logits, multilabel=multilabel)[torch.arange(len(logits)), classes]


def _log(logits: Tensor, *, multilabel: bool) -> Tensor:
    return logsigmoid(logits) if multilabel else logits.log_softmax(dim=1)


def _class_logits(model: Model, images: Tensor, classes: Sequence[int]) -> Tensor:
    """Return the logits [N, K] of whole images, once the classes are known to be among them."""
    if not len(images) == len(classes) > 0:
        raise InvalidRequestError(
            f"{len(images)} images and {len(classes)} classes: expected equally many, at least one"
        )
    if model.card.outputs is None:
        raise InvalidRequestError(f"{model.card.name} gives no logits: expected a network with classes")
    if min(classes) < 0 or max(classes) >= model.card.outputs:
        raise InvalidRequestError(
            f"classes {min(classes)} to {max(classes)} were given: {model.card.name} has 0 to {model.card.outputs - 1}"
        )
    with model.frozen(), torch.no_grad():
        parts = [
            model.activations(clean_views(model, images[start : start + BATCH]), frozenset({OUTPUT}))[OUTPUT]
            for start in range(0, len(images), BATCH)
        ]
    return torch.cat(parts).double().cpu()
