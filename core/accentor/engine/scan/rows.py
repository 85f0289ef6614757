"""What a scan says of every image: its top features, and what the network takes it for."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from accentor.errors import InvalidRequestError
from accentor.spec import ModelCard


@dataclass(frozen=True)
class ImageRow:
    """One image.

    Attributes
    ----------
    image, id
        Its index in the scan, and what it is called.
    height, width
        In pixels.
    label, prediction
        Class by index; none: not known.
    probability
        Of the prediction.
    features, values
        Its top features, by value, descending.
    """

    image: int
    id: str
    height: int
    width: int
    label: int | None
    prediction: int | None
    probability: float | None
    features: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def misclassified(self) -> bool:
        """Whether the class is known and another than the prediction."""
        return None not in (self.label, self.prediction) and self.label != self.prediction


@dataclass
class ImageRows:
    """The rows of the images of a scan, in their order."""

    rows: list[ImageRow] = field(default_factory=list)

    def __iter__(self) -> Iterator[ImageRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def misclassified(self) -> list[ImageRow]:
        """The images of known class that the network takes for another."""
        return [row for row in self.rows if row.misclassified]


def label_index(label: str | int | None, card: ModelCard) -> int | None:
    """Return the class of a label; none if there is none, or the model knows no such class.

    Raises
    ------
    InvalidRequestError
        If an index is beyond the model's logits.
    """
    if label is None or card.outputs is None:
        return None
    if isinstance(label, int):
        if not 0 <= label < card.outputs:
            raise InvalidRequestError(f"label {label}: {card.name} has logits 0 to {card.outputs - 1}")
        return label
    known = [name.casefold() for name in card.labels or ()]
    found = [index for index, name in enumerate(known) if name == label.casefold()]
    return found[0] if len(found) == 1 else None
