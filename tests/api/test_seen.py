"""Remembering names compactly."""

import random
import tracemalloc

from accentor_api.seen import Seen


def test_it_remembers_as_a_dictionary_does() -> None:
    draw = random.Random(0)
    seen, expected = Seen(), dict[str, int]()
    for number in range(50_000):
        name = f"name-{draw.randrange(20_000)}"
        assert (name in seen) == (name in expected)
        assert seen.add(name, number) == expected.get(name)
        expected.setdefault(name, number)
    assert len(seen) == len(expected)
    assert "elsewhere" not in seen


def test_a_name_takes_few_bytes() -> None:
    tracemalloc.start()
    seen = Seen()
    for number in range(100_000):
        seen.add(str(number), number)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 27 * 100_000
    assert peak < 30 * 100_000
    assert len(seen) == 100_000
