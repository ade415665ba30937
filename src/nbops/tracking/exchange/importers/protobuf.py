"""The wire format of protocol buffers, as far as reading needs it: fields by number, no schema.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from nbops.core.errors import CorruptData

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value: TypeAlias = "int | bytes"


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value): an int for a varint, the raw bytes for everything else.

    Raises
    ------
    CorruptData
        The bytes are no message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise _broken(data)
        if at + size > end:
            raise _broken(data)
        yield number, data[at : at + size]
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends."""
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _broken(data)


def _broken(data: bytes) -> CorruptData:
    return CorruptData(f"{len(data)} bytes are no protocol buffer message", hint="Copy the file again.")


class Message:
    """One message, taken apart once; the last value of a field counts, as the format says.

    Parameters
    ----------
    data : bytes
        The message as it is stored.
    """

    def __init__(self, data: bytes) -> None:
        self._values: dict[int, list[int | bytes]] = {}
        for number, value in fields(data):
            self._values.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def all(self, number: int) -> list[bytes]:
        """Return every value of a repeated field of bytes, text or messages."""
        return [value for value in self._values.get(number, ()) if isinstance(value, bytes)]

    def bytes(self, number: int) -> bytes:
        """Return a field of bytes, empty if absent."""
        return (self.all(number) or [b""])[-1]

    def text(self, number: int) -> str:
        """Return a field of text, empty if absent."""
        return self.bytes(number).decode("utf-8", "replace")

    def texts(self, number: int) -> list[str]:
        """Return a repeated field of text."""
        return [value.decode("utf-8", "replace") for value in self.all(number)]

    def message(self, number: int) -> Message:
        """Return a field that is a message, an empty one if absent."""
        return Message(self.bytes(number))

    def messages(self, number: int) -> list[Message]:
        """Return a repeated field of messages."""
        return [Message(value) for value in self.all(number)]

    def integer(self, number: int) -> int:
        """Return an int32, int64, bool or enum field, 0 if absent."""
        value = self._values.get(number, [0])[-1]
        if not isinstance(value, int):
            return 0
        return value - (1 << 64) if value >= 1 << 63 else value

    def zigzag(self, number: int) -> int:
        """Return a sint32 or sint64 field, 0 if absent."""
        value = self._values.get(number, [0])[-1]
        return (value >> 1) ^ -(value & 1) if isinstance(value, int) else 0

    def double(self, number: int) -> float:
        """Return a double field, 0.0 if absent."""
        value = self.bytes(number)
        return float(struct.unpack("<d", value)[0]) if len(value) == 8 else 0.0

    def float32(self, number: int) -> float:
        """Return a float field as the double of the same value, 0.0 if absent."""
        value = self.bytes(number)
        return float(struct.unpack("<f", value)[0]) if len(value) == 4 else 0.0
