"""``accentor layers`` and ``accentor models``: shapes, grids and strides."""

import json

import pytest
from typer.testing import CliRunner

from accentor.cli.main import build


def lines(*arguments):
    result = CliRunner().invoke(build(), arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0
    return result.stdout.splitlines()


def row_of(name, table):
    """Return the cells of the row of this layer."""
    return next(cells for line in table if (cells := [cell.strip() for cell in line.split("│")[1:-1]])[:1] == [name])


def test_layers_with_grid_and_stride():
    table = lines("layers", "reference")
    assert row_of("block1", table) == ["block1", "ConvUnit", "40 × 28 × 28", "28 × 28", "4", ""]
    assert row_of("block1.act.input", table)[1] == "SiLU input"
    assert any("input: 3 × 112 × 112" in line and "regularisation layer: block1" in line for line in table)


def test_layers_of_a_transformer_need_no_weights():
    pytest.importorskip("timm", reason="timm is not installed")
    table = lines("layers", "timm:test_vit")
    assert row_of("blocks.2", table) == ["blocks.2", "Block", "101 × 64", "10 × 10", "16", "1"]
    assert row_of("head", table)[2:] == ["1000", "", "", ""]


def test_layers_as_json_say_the_same():
    layers = {one["name"]: one for one in json.loads("\n".join(lines("layers", "reference", "--json")))}
    assert layers["block1"]["stride"] == [4.0, 4.0]
    assert layers["block1"]["grid_shape"] == [28, 28]


def test_models_are_listed():
    names = lines("models")
    assert {"reference", "torchvision:resnet50"} <= set(names)
