"""When things happen in a run: the learning rate of a step, and the steps after which an image is kept."""

import math

from accentor.spec import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return Adam's learning rate in a step, counted from 0: constant, or falling towards 0 after the last."""
    share = step / recipe.steps
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "linear":
            return recipe.learning_rate * (1 - share)
        case "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2


def snapshot_steps(recipe: Recipe) -> frozenset[int]:
    """Return the steps after which a snapshot is kept, evenly spaced, the last one included."""
    count = max(recipe.snapshots, 1)
    return frozenset(round(recipe.steps * (i + 1) / count) for i in range(count)) - {0}


def strength_step(recipe: Recipe, strength: float) -> int:
    """Return the step after which the image of this strength is kept, at least 1; of strength 0 the seed's, 0."""
    return max(round(abs(strength) * recipe.steps), 1 if strength else 0)


def steps_needed(recipe: Recipe, *, suppress: bool = False) -> int:
    """Return how many steps a run takes, of the feature or of its negative, to reach all the recipe's strengths."""
    strengths = [strength for strength in recipe.strengths if (strength < 0) == suppress]
    reached = [strength_step(recipe, strength) for strength in strengths]
    return max(reached, default=0) if suppress else max([recipe.steps, *reached])


def kept_steps(recipe: Recipe, steps: int) -> frozenset[int]:
    """Return the steps of a run of so many after which an image is kept: its snapshots and its strengths."""
    strengths = {strength_step(recipe, strength) for strength in recipe.strengths}
    return frozenset(step for step in snapshot_steps(recipe) | strengths | {steps} if 0 < step <= steps)
