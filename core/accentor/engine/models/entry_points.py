"""Models of one's own by entry point: a package that is installed offers them in the group ``accentor.models``."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accentor.engine.models.model import Model
from accentor.errors import AccentorError, UnknownModelError

GROUP = "accentor.models"


def entry_point_names() -> list[str]:
    """Return the names of the models that installed packages offer."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def find_entry_point(name: str) -> EntryPoint | None:
    """Return the entry point of this name, if an installed package has one."""
    return next(iter(entry_points(group=GROUP, name=name)), None)


def load_entry_point(
    entry: EntryPoint, weights: str | Path | None, device: torch.device, name: str, options: dict[str, Any]
) -> Model:
    """Load a model that a package offers.

    Raises
    ------
    UnknownModelError
        If the entry point is broken: it cannot be imported, fails, or gives no model; it is named.
    """
    where = f"the entry point {entry.name!r} of {GROUP} ({entry.value})"
    try:
        made = entry.load()(weights=weights, **options)
    except AccentorError:
        raise
    except Exception as error:  # noqa: BLE001 - others' code may raise anything
        raise UnknownModelError(f"{where} is broken: {type(error).__name__}: {error}") from error
    if isinstance(made, Model):
        return made.to(device).renamed(name, entry.name)
    if isinstance(made, nn.Module):
        return Model(made, name=name, source=entry.name).to(device)
    raise UnknownModelError(f"{where} gave a {type(made).__name__}: expected an nn.Module or a Model")
