"""Bodies that come packed: gzip, piece by piece, never much of it in memory."""

import zlib
from collections.abc import Iterator

from accentor.errors import TooLargeError, UnreadableBodyError

PIECE_BYTES = 1 << 20
GZIP = zlib.MAX_WBITS | 16
ENCODINGS = ("identity", "gzip")


class Unpacker:
    """Unpacks a body as it comes.

    Parameters
    ----------
    encoding
        The request's Content-Encoding: empty, ``identity`` or ``gzip``.
    limit
        Unpacked bytes that are taken.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding.strip().lower() or "identity"
        if self._encoding not in ENCODINGS:
            raise UnreadableBodyError(f"the body is encoded as {encoding[:40]!r}: expected {' or '.join(ENCODINGS)}")
        self._limit = limit
        self._taken = 0
        self._gzip = zlib.decompressobj(GZIP)
        self._is_open = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return what these bytes hold, in pieces of at most a megabyte.

        Raises
        ------
        UnreadableBodyError
            If the bytes are no gzip.
        TooLargeError
            If that makes more bytes than are taken.
        """
        if self._encoding == "identity":
            yield self._counted(data)
            return
        while data:
            if self._gzip.eof:
                self._gzip = zlib.decompressobj(GZIP)
            self._is_open = True
            try:
                yield self._counted(self._gzip.decompress(data, PIECE_BYTES))
            except zlib.error as error:
                raise UnreadableBodyError(f"the body is no gzip: {error}") from error
            data = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail

    def close(self) -> None:
        """Raise `UnreadableBodyError` if the end is missing."""
        if self._encoding == "gzip" and not self._gzip.eof:
            reason = "it breaks off before its end" if self._is_open else "it is empty"
            raise UnreadableBodyError(f"the body is announced as gzip, but {reason}: {self._taken} bytes were unpacked")

    def _counted(self, piece: bytes) -> bytes:
        self._taken += len(piece)
        if self._taken > self._limit:
            raise TooLargeError(
                f"the body has {self._taken} unpacked bytes or more, at most {self._limit} are taken",
                bytes=self._taken,
                limit=self._limit,
            )
        return piece


def unpack(data: bytes, encoding: str, limit: int) -> bytes:
    """Return a whole body unpacked; `Unpacker` says what is refused."""
    unpacker = Unpacker(encoding, limit)
    pieces = list(unpacker.feed(data))
    unpacker.close()
    return b"".join(pieces)
