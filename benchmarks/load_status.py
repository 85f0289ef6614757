"""Ask for a batch's status so often a second while many listen to its events, and say as JSON how long answers took.

Plain HTTP/1.1 over kept connections, so that the asking costs little; a request is sent when its time has come,
whether or not earlier ones were answered, and its seconds count from that time.
``python load_status.py HOST PORT BATCH LISTENERS REQUESTS_A_SECOND SECONDS``
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

CONNECTIONS = 32
SETTLE_S = 2.0


@dataclass
class Load:
    """What is asked for, and what came of it."""

    host: str
    port: int
    batch: str
    seconds: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    events: int = 0
    refused: int = 0

    async def listen(self) -> None:
        """Follow the batch, counting events."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self._request("/events"))
        try:
            if b" 200 " not in await reader.readline():
                self.refused += 1
            while data := await reader.read(65_536):
                self.events += data.count(b"event: status")
        finally:
            writer.close()

    async def ask(self, free: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]", due: float) -> None:
        """Ask once for the status over a connection that is free."""
        self.lags.append(time.perf_counter() - due)
        reader, writer = await free.get()
        writer.write(self._request(""))
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields[b"content-length"]))
        self.refused += b" 200 " not in head.split(b"\r\n", 1)[0]
        self.seconds.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    def _request(self, path: str) -> bytes:
        return f"GET /v1/batches/{self.batch}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode()


async def run(load: Load, listeners: int, rate: float, seconds: float) -> float:
    """Listen and ask; return the events a second."""
    listening = [asyncio.create_task(load.listen()) for _ in range(listeners)]
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection(load.host, load.port))
    await asyncio.sleep(SETTLE_S)
    events, began = load.events, time.perf_counter()
    asking = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.append(asyncio.create_task(load.ask(free, due)))
    await asyncio.gather(*asking)
    told = (load.events - events) / (time.perf_counter() - began)
    for listener in listening:
        listener.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    return told


def main() -> None:
    """Load the API."""
    host, port, batch, listeners, rate, seconds = sys.argv[1:7]
    load = Load(host, int(port), batch)
    told = asyncio.run(run(load, int(listeners), float(rate), float(seconds)))
    answer = {"seconds": load.seconds, "lags": load.lags, "events_a_second": told, "refused": load.refused}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
