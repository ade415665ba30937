"""A closed-loop HTTP load generator: N connections, each sends its next request when the answer is there.

``python load.py HOST PORT CONNECTIONS SECONDS FILE`` sends the bytes of FILE (one whole HTTP request) again and
again and prints JSON: requests, errors (answers that are not 200), seconds, and p50 and p99 in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path


class Connection(asyncio.Protocol):
    """One connection of the loop."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        if time.perf_counter() >= self.load.until:
            self.transport.close()
            return
        self.began = time.perf_counter()
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.wanted:
            head = self.buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            low = self.buffer[:head].lower()
            at = low.index(b"content-length:") + 15
            self.wanted = head + 4 + int(low[at : low.find(b"\r", at) if low.find(b"\r", at) > 0 else None])
        if len(self.buffer) >= self.wanted:
            self.load.took.append(time.perf_counter() - self.began)
            self.load.errors += not self.buffer.startswith(b"HTTP/1.1 200")
            self.buffer, self.wanted = b"", 0
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or time.perf_counter() < self.load.until:
            self.load.errors += 1
        self.load.open -= 1
        if not self.load.open:
            self.load.ended.set()


class Load:
    """What all connections share."""

    def __init__(self, request: bytes, connections: int) -> None:
        self.request = request
        self.open = connections
        self.took: list[float] = []
        self.errors = 0
        self.until = 0.0
        self.ended = asyncio.Event()

    async def run(self, host: str, port: int, seconds: float) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        self.until = began + seconds
        for _ in range(self.open):
            await loop.create_connection(lambda: Connection(self), host, port)
        await self.ended.wait()
        took = sorted(self.took)
        return {
            "requests": len(took),
            "errors": self.errors,
            "seconds": time.perf_counter() - began,
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[int(len(took) * 0.99)] * 1000,
        }


def main(host: str, port: str, connections: str, seconds: str, file: str) -> None:
    import uvloop

    async def go() -> dict[str, float]:
        return await Load(Path(file).read_bytes(), int(connections)).run(host, int(port), float(seconds))

    print(json.dumps(uvloop.run(go())))


if __name__ == "__main__":
    main(*sys.argv[1:])
