"""Bodies that come packed, and samples of lines: piece by piece, never much in memory."""

import gzip
import statistics

import pytest

from accentor.errors import TooLargeError, UnreadableBodyError
from accentor_api.unpacking import PIECE_BYTES, Unpacker, unpack
from accentor_api.uploads import Sample

LARGE = 10 * PIECE_BYTES


def test_a_bomb_is_unpacked_in_pieces_and_only_up_to_the_limit() -> None:
    bomb = gzip.compress(bytes(LARGE))
    pieces = list(Unpacker("gzip", 10 * LARGE).feed(bomb))
    assert sum(map(len, pieces)) == LARGE
    assert max(map(len, pieces)) <= PIECE_BYTES
    taken: list[bytes] = []
    with pytest.raises(TooLargeError, match=f"at most {2 * PIECE_BYTES} are taken"):
        taken.extend(Unpacker("gzip", 2 * PIECE_BYTES).feed(bomb))
    assert sum(map(len, taken)) == 2 * PIECE_BYTES


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_bytes_may_come_in_any_portions(size: int) -> None:
    plain = bytes(range(256)) * 40
    packed = gzip.compress(plain) + gzip.compress(b"more")
    unpacker = Unpacker("GZIP", 10**6)
    portions = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert b"".join(piece for portion in portions for piece in unpacker.feed(portion)) == plain + b"more"
    unpacker.close()


@pytest.mark.parametrize("encoding", ["", "identity", "gzip"])
def test_what_is_whole_is_taken(encoding: str) -> None:
    assert unpack(gzip.compress(b"x") if encoding == "gzip" else b"x", encoding, 10) == b"x"


def test_what_breaks_off_is_refused() -> None:
    packed = gzip.compress(b"x" * 1000)
    for cut in range(len(packed)):
        with pytest.raises(UnreadableBodyError):
            unpack(packed[:cut], "gzip", 10**6)


def test_every_line_is_kept_with_the_same_probability() -> None:
    sample = Sample(500)
    for number in range(10_000):
        sample.add(b"%d" % number)
    kept = sorted(map(int, sample.lines))
    assert len(set(kept)) == 500
    assert statistics.mean(kept) == pytest.approx(5_000, abs=4 * 10_000 / (12 * 500) ** 0.5)
    assert sum(number < 2_500 for number in kept) == pytest.approx(125, abs=40)
