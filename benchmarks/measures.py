"""One row of the quality table: what a method's pictures are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from accentor.engine.evaluate import (
    coherence,
    feature_values,
    latent_distance,
    log_probabilities,
    mean_coherence,
    ssim,
    transfer,
    where,
)
from methods import Picture, at_rest
from suites import Suite, stacked


@dataclass(frozen=True)
class Row:
    """Means over a suite's cases; none where it cannot be measured.

    Attributes
    ----------
    rise, log_rise
        Of the target's logit and of its log-probability in the network itself, on the clean image.
    share, transfer, transfer_logit
        In the judge, on scenes that do not show the label: the part of them in which its log-probability rose, its mean
        rise in nats, and the mean rise of its logit.
    auroc, pointing
        Of the opacity map, on scenes that show the label.
    coherence
        Pearson's correlation of attribution vectors with natural images', mean over layers.
    ssim, distance, rms
        To the seed: structural similarity; relative latent distance; root mean square change of a pixel value.
    seconds
        Per pair, in this run.
    """

    name: str
    rise: float
    log_rise: float
    share: float | None
    transfer: float | None
    transfer_logit: float | None
    auroc: float | None
    pointing: float | None
    coherence: float
    ssim: float
    distance: float
    rms: float
    seconds: float | None


def measure(name: str, suite: Suite, pictures: Sequence[Picture]) -> Row:
    """Measure a method's pictures of a suite's cases."""
    before, after = stacked(suite.cases), at_rest(pictures)
    features = [case.feature for case in suite.cases]
    units = [case.unit for case in suite.cases]
    rises = feature_values(suite.model, features, after) - feature_values(suite.model, features, before)
    logs = [log_probabilities(suite.model, x, units, multilabel=suite.multilabel) for x in (before, after)]
    share, nats, logit = _transfer(suite, pictures)
    auroc, pointing = _where(suite, pictures)
    times = [picture.seconds for picture in pictures if picture.seconds is not None]
    return Row(
        name=name,
        rise=rises.mean().item(),
        log_rise=(logs[1] - logs[0]).mean().item(),
        share=share,
        transfer=nats,
        transfer_logit=logit,
        auroc=auroc,
        pointing=pointing,
        coherence=_coherence(suite, pictures),
        ssim=ssim(before, after).mean().item(),
        distance=latent_distance(suite.model, after, before).mean().item(),
        rms=(after - before).square().mean(dim=(1, 2, 3)).sqrt().mean().item(),
        seconds=fmean(times) if times else None,
    )


def _transfer(suite: Suite, pictures: Sequence[Picture]) -> tuple[float | None, float | None, float | None]:
    chosen = [index for index, case in enumerate(suite.cases) if case.mask is None]
    if suite.judge is None or not chosen:
        return None, None, None
    cases = [suite.cases[index] for index in chosen]
    after = at_rest([pictures[index] for index in chosen])
    units = [case.unit for case in cases]
    found = transfer(suite.judge, stacked(cases), after, units, multilabel=suite.multilabel)
    return found.share, found.rise, found.logit_rise


def _where(suite: Suite, pictures: Sequence[Picture]) -> tuple[float | None, float | None]:
    found = [
        where(picture.opacity, case.mask)
        for case, picture in zip(suite.cases, pictures, strict=True)
        if case.mask is not None and picture.opacity is not None
    ]
    return (fmean(one.auroc for one in found), fmean(one.pointing for one in found)) if found else (None, None)


def _coherence(suite: Suite, pictures: Sequence[Picture]) -> float:
    by_unit: dict[int, list[int]] = {}
    for index, case in enumerate(suite.cases):
        by_unit.setdefault(case.unit, []).append(index)
    weighted = 0.0
    for unit, indices in by_unit.items():
        images = torch.stack([pictures[index].pixels for index in indices])
        found = mean_coherence(coherence(suite.model, f"logit:{unit}", images, suite.natural[unit]))
        weighted += found.pearson * len(indices)
    return weighted / len(suite.cases)
