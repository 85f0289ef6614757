"""``accentor bench``: how long accentuations take on this machine."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accentor.cli.accentuating import progress
from accentor.cli.console import AsJson, ModelOption, RecipeOption, WeightsOption, print_json, stdout
from accentor.cli.recipes import SetOption, StepsOption, changed_recipe
from accentor.spec import Recipe, parse_feature

if TYPE_CHECKING:
    from accentor.engine import Model, Pair
    from accentor.engine.running import OnStep

HOUR_S = 3600


def bench(
    model: ModelOption = "reference",
    weights: WeightsOption = None,
    recipe: RecipeOption = "natural",
    steps: StepsOption = None,
    settings: SetOption = None,
    feature: Annotated[str, typer.Option("--feature", "-f", help="What is accentuated.")] = "logit:0",
    pairs: Annotated[int, typer.Option(min=1, max=4096, help="Accentuations, all in one engine call.")] = 8,
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; the GPU if there is one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how long accentuations take here, with sample scenes as seeds; nothing is kept."""
    chosen = changed_recipe(recipe, steps=steps, strengths=(), settings=settings or ())
    from accentor.engine import Pair, load_model
    from accentor.engine.reference import sample_paths

    loaded = load_model(model, weights=weights, device=device)
    loaded.card.check_recipe(chosen)
    wanted = parse_feature(feature)
    loaded.card.resolve(wanted)
    scenes = sample_paths()
    some = [Pair(scenes[place % len(scenes)], wanted, place) for place in range(pairs)]
    _seconds(loaded, some[:1], chosen.model_copy(update={"steps": 1, "snapshots": 1}), None)
    with progress(pairs, shown=not as_json) as (advance, _):
        seconds = _seconds(loaded, some, chosen, advance)
    found: dict[str, Any] = {
        "model": model,
        "device": str(loaded.device),
        "pairs": pairs,
        "steps": chosen.steps,
        "crops": chosen.crops,
        "seconds": seconds,
        "seconds_per_pair": seconds / pairs,
        "pairs_per_hour": HOUR_S * pairs / seconds,
    }
    if as_json:
        print_json(found)
        return
    stdout().print(
        "{pairs} accentuations of {steps} steps × {crops} crops by {model} on {device}: {seconds:.2f} s, "
        "{seconds_per_pair:.3f} s each, {pairs_per_hour:.0f} an hour".format(**found),
        soft_wrap=True,
        highlight=False,
    )


def _seconds(model: "Model", pairs: "list[Pair]", recipe: Recipe, on_step: "OnStep | None") -> float:
    """Return the seconds that a run takes; raise what any of its pairs fails with."""
    from accentor.engine import Accentuation, accentuate_pairs

    started = time.perf_counter()
    for _, ending in accentuate_pairs(model, pairs, recipe, on_step=on_step):
        if not isinstance(ending, Accentuation):
            raise ending
    return time.perf_counter() - started
