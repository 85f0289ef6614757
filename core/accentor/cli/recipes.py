"""A recipe from the command line: a preset or JSON, and what is changed in it."""

import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

import typer

from accentor.cli.console import read_recipe
from accentor.errors import InvalidRecipeError
from accentor.spec import Recipe, resolve_recipe

PANEL = "Recipe"

StepsOption = Annotated[int | None, typer.Option("--steps", help="Steps of Adam.", rich_help_panel=PANEL)]
StrengthOption = Annotated[
    list[str] | None,
    typer.Option(
        "--strength",
        help="Keep an image at this share of the steps; below 0 the feature is suppressed. Repeatable, or -1,0,0.5,1.",
        rich_help_panel=PANEL,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting of the recipe, such as size=256 or regularization_layer=layer1; repeatable.",
        rich_help_panel=PANEL,
    ),
]


def changed_recipe(
    recipe: str, *, steps: int | None = None, strengths: Sequence[str] = (), settings: Sequence[str] = ()
) -> Recipe:
    """Return the recipe that a text means, with these settings in place of its own.

    Raises
    ------
    InvalidRecipeError
        With the setting that is unknown, given twice or out of its range, and what was expected.
    """
    changes: dict[str, Any] = {}
    for name, value in _given(steps, strengths, settings):
        if name in changes:
            raise InvalidRecipeError(f"{name} is given twice: {changes[name]!r} and {value!r}")
        changes[name] = value
    chosen = read_recipe(recipe)
    return resolve_recipe(chosen.model_dump() | changes) if changes else chosen


def _given(steps: int | None, strengths: Sequence[str], settings: Sequence[str]) -> list[tuple[str, Any]]:
    changes = [read_setting(text) for text in settings]
    if steps is not None:
        changes.append(("steps", steps))
    if strengths:
        changes.append(("strengths", [_value(part) for text in strengths for part in text.split(",")]))
    return changes


def read_setting(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``; a value is a number, true, false, none, a text, or a list by commas.

    Raises
    ------
    InvalidRecipeError
        If there is no ``=``, or no setting of this name: with the nearest names.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise InvalidRecipeError(f"--set {text!r}: expected NAME=VALUE, such as size=256")
    if name not in Recipe.model_fields:
        near = difflib.get_close_matches(name, Recipe.model_fields, n=3)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(Recipe.model_fields)}"
        raise InvalidRecipeError(f"the recipe has no setting {name!r}: {meant}")
    if "," in value and not value.startswith("[") and _takes_several(Recipe.model_fields[name].annotation):
        return name, [_value(part) for part in value.split(",")]
    return name, _value(value)


def _value(text: str) -> Any:
    text = text.strip()
    if text.lower() == "none":
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _takes_several(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_takes_several, get_args(annotation)))
