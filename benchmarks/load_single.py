"""Many clients that each submit one job after the other and wait for its end; say as JSON how long all of it took.

``python load_single.py URL CLIENTS JOBS``, the jobs as a JSON list on standard input, spread over the clients.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx

WAIT_S = 60


async def work(client: httpx.AsyncClient, jobs: list[dict[str, Any]]) -> list[float]:
    """Take jobs until there are none; return the seconds that each of them took."""
    seconds = []
    while jobs:
        began = time.perf_counter()
        answer = await client.post("/v1/jobs", json=jobs.pop(), headers={"Prefer": f"wait={WAIT_S}"})
        while answer.raise_for_status().json()["state"] in {"queued", "running"}:
            await asyncio.sleep(0.1)
            answer = await client.get(f"/v1/jobs/{answer.json()['id']}")
        assert answer.json()["state"] == "succeeded", answer.text
        seconds.append(time.perf_counter() - began)
    return seconds


async def run(url: str, clients: int, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Let the clients work; return the seconds of all and of each."""
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=2 * WAIT_S, limits=limits, trust_env=False) as client:
        began = time.perf_counter()
        each = await asyncio.gather(*(work(client, jobs) for _ in range(clients)))
        return {"took_s": time.perf_counter() - began, "seconds": sum(each, [])}


def main() -> None:
    """Load the API."""
    sys.stdout.write(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
