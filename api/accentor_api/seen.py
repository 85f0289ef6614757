"""Remembering a million names in a few megabytes."""

from array import array

PARTS = 64
FIRST_SLOTS = 64
FULLEST = 0.7
GROWTH = 1.5
EMPTY = 0


class Seen:
    """Names with the number each was first given with.

    A name is kept as Python's own keyed 64-bit hash, in open hash tables of flat arrays: about 20 bytes a name. Among a
    million names two different ones are taken for the same with a probability of 3·10⁻⁸.
    """

    def __init__(self) -> None:
        self._tables = [_Table() for _ in range(PARTS)]

    def __len__(self) -> int:
        return sum(table.count for table in self._tables)

    def __contains__(self, name: str) -> bool:
        value = _hash(name)
        return self._tables[value % PARTS].has(value)

    def add(self, name: str, number: int) -> int | None:
        """Remember a name; return the number it was given with before, or none if it is new."""
        value = _hash(name)
        return self._tables[value % PARTS].add(value, number)


class _Table:
    """One of many small tables: while one of them grows, little is held twice."""

    def __init__(self) -> None:
        self.count = 0
        self._clear(FIRST_SLOTS)

    def has(self, value: int) -> bool:
        return self._hashes[self._slot(value)] != EMPTY

    def add(self, value: int, number: int) -> int | None:
        slot = self._slot(value)
        if self._hashes[slot] == value:
            return self._numbers[slot]
        self._hashes[slot], self._numbers[slot] = value, number
        self.count += 1
        if self.count > FULLEST * self._slots:
            self._grow()
        return None

    def _slot(self, value: int) -> int:
        hashes, slots = self._hashes, self._slots
        slot = value // PARTS % slots
        while (found := hashes[slot]) != EMPTY and found != value:
            slot = (slot + 1) % slots
        return slot

    def _grow(self) -> None:
        hashes, numbers = self._hashes, self._numbers
        self._clear(int(GROWTH * self._slots))
        for value, number in zip(hashes, numbers, strict=True):
            if value != EMPTY:
                slot = self._slot(value)
                self._hashes[slot], self._numbers[slot] = value, number

    def _clear(self, slots: int) -> None:
        self._slots = slots
        self._hashes = array("Q", bytes(8 * slots))
        self._numbers = array("I", bytes(4 * slots))


def _hash(name: str) -> int:
    return hash(name) & 0xFFFF_FFFF_FFFF_FFFF or 1
