"""``accentor models`` and ``accentor layers``: what can be accentuated."""

from typing import Annotated

import typer

from accentor.cli.console import ApiKey, AsJson, WeightsOption, print_json, stdout
from accentor.errors import InvalidRequestError
from accentor.spec import LayerInfo, ModelCard

ServiceUrl = Annotated[str | None, typer.Option("--url", envvar="ACCENTOR_URL", help="Ask this service.")]


def models(
    url: ServiceUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List the models there are: in this process, or those a service serves."""
    if url is not None:
        from accentor_client import Client

        with Client(url, api_key) as client:
            names = [model.name for model in client.models.list()]
    else:
        from accentor.engine.models import available_models

        names = available_models()
    if as_json:
        print_json(names)
    else:
        typer.echo("\n".join(names))


def layers(
    model: Annotated[str, typer.Argument(help="Such as reference, torchvision:resnet50 or timm:NAME.")],
    weights: WeightsOption = None,
    url: ServiceUrl = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List a model's layers in the order in which they run, with the shape of their activations.

    Layers with positions are shown with their rows and columns, and how many pixels of the input lie between two. No
    weights are needed or downloaded to list the layers of a torchvision or timm model.
    """
    from rich.table import Table

    card = _local_card(model, weights) if url is None else _served_card(model, weights, url, api_key)
    if as_json:
        print_json([layer.model_dump(mode="json") for layer in card.layers])
        return
    caption = f"input: {card.channels} × {card.input_size} × {card.input_size}; "
    caption += f"default regularisation layer: {card.regularization_layer}"
    table = Table("layer", "type", "activations", "grid", "stride", "class tokens", caption=caption)
    for layer in card.layers:
        table.add_row(layer.name, layer.type, " × ".join(map(str, layer.shape)), *_places(layer))
    stdout().print(table)


def _local_card(model: str, weights: str | None) -> ModelCard:
    from accentor.engine import load_model
    from accentor.engine.models import TIMM, TORCHVISION, UNTRAINED

    untrained = UNTRAINED if model.partition(":")[0] in (TORCHVISION, TIMM) else None
    return load_model(model, weights=weights or untrained, device="cpu").card


def _served_card(model: str, weights: str | None, url: str, api_key: str | None) -> ModelCard:
    if weights is not None:
        raise InvalidRequestError("--weights and --url do not go together: a service has its models' weights")
    from accentor_client import Client

    with Client(url, api_key) as client:
        return client.models.get(model)


def _places(layer: LayerInfo) -> tuple[str, str, str]:
    """Return a layer's grid, stride and class tokens as text; empty where it has none."""
    grid = " × ".join(map(str, layer.grid_shape)) if layer.grid_shape else ""
    steps = dict.fromkeys(f"{step:.3g}" for step in layer.stride or ())
    return grid, " × ".join(steps), str(layer.class_tokens or "")
