"""Links to artefacts: the store's own, or signed ones that this API serves."""

import hashlib
import hmac
import time
from collections.abc import Iterable
from urllib.parse import quote, urlencode

from pydantic import SecretStr
from starlette.exceptions import HTTPException

from accentor.errors import InvalidRequestError
from accentor.settings import Settings
from accentor.storage import ObjectStore
from accentor.storage.keys import artefact_key

OBJECTS_PATH = "/v1/objects"


def check_secret(settings: Settings) -> None:
    """Raise `InvalidRequestError` if the artefacts lie in a folder and nothing signs links to them."""
    if settings.signing_secret is None and settings.storage_url.startswith("file://"):
        raise InvalidRequestError(
            f"the artefacts lie in {settings.storage_url}, so this API must sign links to them: "
            "give ACCENTOR_SIGNING_SECRET, a long random text"
        )


class Links:
    """Makes links to objects and checks those that come back.

    Parameters
    ----------
    objects
        The store that the links lead to.
    secret
        Signs the links of a store that serves none itself.
    seconds
        How long a link stays valid.
    """

    def __init__(self, objects: ObjectStore, secret: SecretStr | None, seconds: int) -> None:
        self._objects = objects
        self._secret = None if secret is None else secret.get_secret_value().encode()
        self._seconds = seconds

    def of_result(self, key: str, names: Iterable[str]) -> dict[str, str]:
        """Return a link to each named artefact of the result with this content key."""
        return {name: self.to(artefact_key(key, name)) for name in names}

    def to(self, key: str) -> str:
        """Return a link to the object: absolute from the store, relative to this API where it serves it."""
        served = self._objects.url(key, expires_s=self._seconds)
        if served is not None:
            return served
        expires = int(time.time()) + self._seconds
        query = urlencode({"expires": expires, "signature": self._signature(key, expires)})
        return f"{OBJECTS_PATH}/{quote(key)}?{query}"

    def check(self, key: str, expires: int, signature: str) -> None:
        """Refuse a link that was not signed here for this object, or that has expired."""
        if not hmac.compare_digest(self._signature(key, expires).encode(), signature.encode()):
            raise HTTPException(403, "the link's signature is not valid: ask for the job again to get a new link")
        if expires < time.time():
            raise HTTPException(403, "the link has expired: ask for the job again to get a new link")

    def _signature(self, key: str, expires: int) -> str:
        if self._secret is None:
            raise HTTPException(403, "this service signs no links: its store serves its own")
        return hmac.new(self._secret, f"{key}\n{expires}".encode(), hashlib.sha256).hexdigest()
