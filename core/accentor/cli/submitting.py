"""``accentor submit``: images and features to a service."""

from typing import Annotated

import typer

from accentor.cli.console import (
    DEFAULT_URL,
    AsJson,
    FeatureOption,
    Images,
    RecipeOption,
    Url,
    list_images,
    print_json,
    read_recipe,
    stdout,
)
from accentor.spec import Feature, parse_feature


def submit(
    images: Images,
    feature: FeatureOption,
    model: Annotated[str, typer.Option("--model", "-m", help="A model that the service serves.")] = "reference",
    recipe: RecipeOption = "natural",
    seeds: Annotated[int, typer.Option(min=1, help="Random seeds per pair.")] = 1,
    url: Url = DEFAULT_URL,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit every FEATURE × every IMAGE as one batch; images the service has already are not sent again."""
    from accentor.cli.following import end_with, report
    from accentor_client import Client

    features = [by_value(parse_feature(text)) for text in feature]
    with Client(url) as client:
        batch = client.batches.create(
            model=model,
            features=features,
            images=list(list_images(images)),
            recipe=read_recipe(recipe),
            seeds=seeds,
        )
        if wait:
            batch.wait(progress=not as_json)
    if as_json:
        print_json(batch.status.model_dump(mode="json"))
    elif wait:
        report(batch.status)
    else:
        stdout().print(f"{batch.id}  {batch.status.total} jobs", highlight=False)
        stdout().print(
            f"accentor watch {batch.id}\naccentor fetch {batch.id} --out results", style="dim", highlight=False
        )
    if wait:
        end_with(batch.status)


def by_value(feature: Feature) -> Feature:
    """Return the feature with its files and dictionaries read here: a service takes features by value."""
    if feature.references:
        from accentor.engine import inline

        return inline(feature)
    return feature
