"""A file while it comes over the network: the event loop puts blocks in, a thread that stores them takes them out."""

from __future__ import annotations

import asyncio
import queue
from typing import BinaryIO, cast

_BLOCKS = 64


class Upload:
    """A bounded pipe from a coroutine to a reading thread."""

    def __init__(self) -> None:
        self._blocks: queue.Queue[bytes | OSError | None] = queue.Queue(_BLOCKS)
        self._rest = b""
        self._ended = False
        self._given_up = False

    async def feed(self, block: bytes) -> None:
        """Add a block; waits while the reader is behind, and drops it if the reader has gone."""
        while not self._given_up:
            try:
                self._blocks.put_nowait(block)
                return
            except queue.Full:
                await asyncio.sleep(0.002)

    async def end(self) -> None:
        """Say that all has come."""
        while not self._given_up:
            try:
                self._blocks.put_nowait(None)
                return
            except queue.Full:
                await asyncio.sleep(0.002)

    def abort(self) -> None:
        """Say that the sender has gone: the reader gets an error, so that nothing is stored."""
        self._given_up = True
        while True:
            try:
                self._blocks.put_nowait(ConnectionError("the upload was cut off"))
                return
            except queue.Full:
                self._blocks.get_nowait()

    def give_up(self) -> None:
        """Say that nobody reads any more."""
        self._given_up = True

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, empty at the end.

        Raises
        ------
        ConnectionError
            The sender has gone.
        """
        while not self._rest and not self._ended:
            block = self._blocks.get()
            if isinstance(block, OSError):
                raise block
            self._ended, self._rest = block is None, block or b""
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    @property
    def stream(self) -> BinaryIO:
        """This pipe as what the artifact store reads from."""
        return cast(BinaryIO, self)
