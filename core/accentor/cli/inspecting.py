"""``accentor models`` and ``accentor layers``: what can be accentuated."""

from typing import Annotated

import typer

from accentor.cli.console import AsJson, WeightsOption, print_json, stdout


def models(
    url: Annotated[str | None, typer.Option("--url", envvar="ACCENTOR_URL", help="Ask this service.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models there are: in this process, or those a service serves."""
    if url is not None:
        from accentor_client import Client

        with Client(url) as client:
            names = [model.name for model in client.models.list()]
    else:
        from accentor.engine.models import available_models

        names = available_models()
    if as_json:
        print_json(names)
    else:
        typer.echo("\n".join(names))


def layers(
    model: Annotated[str, typer.Argument(help="Such as reference or torchvision:resnet50.")],
    weights: WeightsOption = None,
    as_json: AsJson = False,
) -> None:
    """List a model's layers in the order in which they run, with the shape of their activations.

    No weights are needed or downloaded to list the layers of a torchvision model.
    """
    from rich.table import Table

    from accentor.engine import load_model
    from accentor.engine.models import TORCHVISION, UNTRAINED

    untrained = UNTRAINED if model.startswith(f"{TORCHVISION}:") else None
    card = load_model(model, weights=weights or untrained, device="cpu").card
    if as_json:
        print_json([layer.model_dump(mode="json") for layer in card.layers])
        return
    table = Table("layer", "type", "activations", caption=f"default regularisation layer: {card.regularization_layer}")
    for layer in card.layers:
        table.add_row(layer.name, layer.type, " × ".join(map(str, layer.shape)))
    stdout().print(table)
