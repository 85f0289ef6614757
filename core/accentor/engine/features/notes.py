"""What a user should know about what was accentuated."""

from accentor.spec import Encoder, Feature

PRE_CODE_NOTE = (
    "the target is the dictionary's pre-code wᵀ(a − b₀) + b, before its {activation}: "
    "where that is off the code has no gradient"
)


def notes_of(feature: Feature) -> tuple[str, ...]:
    """Return notes on what was taken as the target of a feature, each once."""
    chosen = {
        atom.activation: PRE_CODE_NOTE.format(activation=NAMES[atom.activation])
        for atom in feature.factors_of()
        if isinstance(atom, Encoder) and atom.code == "pre" and atom.activation in NAMES
    }
    return tuple(chosen.values())


NAMES = {"relu": "ReLU", "jumprelu": "JumpReLU", "topk": "TopK"}
