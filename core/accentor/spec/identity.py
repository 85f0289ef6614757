"""Content identity: the same job has the same key, whoever asks and wherever it runs."""

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import Field

ENGINE_VERSION = 6
"""Raised by one whenever the engine's pixels change: results of another version are never taken for ours."""

_SHA256 = re.compile(r"[0-9a-f]{64}")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 in lower-case hexadecimal digits")]


def canonical_json(value: Any) -> bytes:
    """Serialise to UTF-8 JSON with sorted keys and no white space; NaN and infinity are refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_hex(data: bytes) -> str:
    """Return the sha256 of the bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def is_sha256(text: str) -> bool:
    """Tell whether the text is a sha256 in lower-case hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None
