"""Files that say the labels of a dataset's images."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from accentor.errors import InvalidRequestError
from accentor.spec.datasets import MAX_LABEL

FORMS = '.csv with id,label, .json with {id: label}, or .jsonl with {"id": …, "label": …} a line'
HEADER = ("id", "label")


def read_labels(key: str, data: bytes) -> dict[str, str]:
    """Return the label of each id that the file names.

    Raises
    ------
    InvalidRequestError
        If it is none of the forms, or says two labels for one id.
    """
    try:
        pairs = list(_pairs(key, data.decode("utf-8-sig")))
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InvalidRequestError(f"the labels {key} cannot be read: {error}; expected {FORMS}") from error
    labels: dict[str, str] = {}
    for name, label in pairs:
        if labels.setdefault(name, label) != label:
            raise InvalidRequestError(f"the labels {key} call {name!r} {labels[name]!r} and {label!r}")
    return labels


def label_text(value: Any, where: str) -> str:
    """Return a label as text.

    Raises
    ------
    InvalidRequestError
        If it is no text and no number, empty or too long.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidRequestError(f"the label of {where} is {value!r}: expected text or a number")
    text = str(value).strip()
    if not 0 < len(text) <= MAX_LABEL:
        raise InvalidRequestError(f"the label of {where} has {len(text)} characters: expected 1 to {MAX_LABEL}")
    return text


def _pairs(key: str, text: str) -> Iterable[tuple[str, str]]:
    if key.endswith(".json"):
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return [(name, label_text(label, name)) for name, label in found.items()]
    if key.endswith(".jsonl"):
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [(str(row["id"]), label_text(row["label"], str(row["id"]))) for row in rows]
    if key.endswith(".csv"):
        lines = [row for row in csv.reader(io.StringIO(text)) if row]
        if short := [row for row in lines if len(row) != 2]:
            raise ValueError(f"a line has {len(short[0])} columns: {short[0]}")
        first = 1 if lines and tuple(cell.strip().lower() for cell in lines[0]) == HEADER else 0
        return [(name, label_text(label, name)) for name, label in lines[first:]]
    raise ValueError("its name has another ending")
