"""Ending early: which pairs have reached their activation target, without waiting for the device in every step."""

from dataclasses import dataclass

import torch
from torch import Tensor

RUNS = -1
"""Stands for the step at which a pair has reached its target while it has not."""

ASKED_EVERY = 8
"""Steps after which a GPU is asked whether all pairs have reached their targets."""


@dataclass(frozen=True)
class Frame:
    """The images [N, C, H, W] after a step, with f [N] and R [N] on the clean images, and Σ|∂f/∂x| [N, H, W] so far."""

    step: int
    images: Tensor
    value: Tensor
    distance: Tensor
    accumulated: Tensor


class Stops:
    """Which pairs have reached their target, after which step, and how they were then.

    All of it is kept on the device, which is asked now and then whether any pair has a reason to go on: an answer has
    to be waited for.
    """

    def __init__(self, targets: Tensor | None, start: Frame) -> None:
        self._targets = targets
        self._step = torch.full_like(start.value, RUNS, dtype=torch.long)
        self._asked_every = 1 if start.value.device.type == "cpu" else ASKED_EVERY
        self.reached = start

    def __bool__(self) -> bool:
        return self._targets is not None

    def steps(self) -> tuple[int | None, ...]:
        """Return after which step each pair reached its target; none for those that did not."""
        return tuple(None if step == RUNS else step for step in self._step.tolist())

    def all_ended(self, frame: Frame, *, ask: bool) -> bool:
        """Note the pairs that are at their target now; tell whether none has a reason to go on, if asked.

        One has if it is finite and not yet at its target.
        """
        if self._targets is not None:
            self._note(frame, (self._step == RUNS) & (frame.value >= self._targets))
        if not (ask or frame.step % self._asked_every == 0):
            return False
        return not bool((frame.value.isfinite() & (self._step == RUNS)).any())

    def running(self, gradients: Tensor) -> Tensor:
        """Return the gradients [N, C, H, W] with those of stopped pairs set to 0."""
        if self._targets is None:
            return gradients
        return torch.where((self._step == RUNS)[:, None, None, None], gradients, 0.0)

    def _note(self, frame: Frame, new: Tensor) -> None:
        self._step = torch.where(new, frame.step, self._step)
        before, image = self.reached, new[:, None, None]
        self.reached = Frame(
            step=frame.step,
            images=torch.where(image[..., None], frame.images, before.images),
            value=torch.where(new, frame.value, before.value),
            distance=torch.where(new, frame.distance, before.distance),
            accumulated=torch.where(image, frame.accumulated, before.accumulated),
        )
