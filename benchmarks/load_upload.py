"""Upload a file of JSON Lines as fast as it is taken, and say as JSON how long that took."""

import json
import sys
import time
from collections.abc import Iterator

import httpx

PIECE_BYTES = 65_536


def pieces(path: str) -> Iterator[bytes]:
    """Return the file piece by piece."""
    with open(path, "rb") as file:  # noqa: PTH123
        while piece := file.read(PIECE_BYTES):
            yield piece


def main() -> None:
    """Upload the file."""
    url, path, encoding = sys.argv[1:4]
    headers = {"Content-Type": "application/x-ndjson"} | ({"Content-Encoding": encoding} if encoding else {})
    began = time.perf_counter()
    answer = httpx.post(url, content=pieces(path), headers=headers, timeout=600.0, trust_env=False)
    seconds = time.perf_counter() - began
    sys.stdout.write(json.dumps({"seconds": seconds, "status": answer.status_code, "text": answer.text[:2000]}))


if __name__ == "__main__":
    main()
