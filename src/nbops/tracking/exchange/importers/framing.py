"""Log files of checked records: TensorFlow's TFRecord and LevelDB's log as W&B writes it.

Sources: TensorFlow's ``tfrecord`` tutorial ("TFRecords format details"); LevelDB's ``log_format.md``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from nbops.core.errors import CorruptData

_BLOCK = 32 << 10
_LOG_HEAD = struct.Struct("<IHB")  # checksum, bytes, type
_FILE_HEAD = struct.Struct("<4sHB")
_WANDB = (b":W&B", 0xBEE1)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_TF_HEAD = struct.Struct("<QI")
_TF_CHECKED_BYTES = 64 << 10  # larger records are images and graphs, which are not imported
_TF_MAX_BYTES = 1 << 31


@cache
def _crc_table() -> tuple[int, ...]:
    """Return the table of CRC-32C (Castagnoli), reflected polynomial 0x82F63B78."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def masked_crc32c(data: bytes) -> int:
    """Return TensorFlow's masked checksum of `data`."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def tf_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file.

    Raises
    ------
    CorruptData
        A checksum is wrong, or the last record is cut; every record before it was yielded.
    """
    with path.open("rb") as stream:
        while head := stream.read(_TF_HEAD.size):
            if len(head) < _TF_HEAD.size:
                raise _cut(path, stream)
            size, checksum = _TF_HEAD.unpack(head)
            if masked_crc32c(head[:8]) != checksum or size > _TF_MAX_BYTES:
                raise _wrong(path, stream)
            data, tail = stream.read(size), stream.read(4)
            if len(data) < size or len(tail) < 4:
                raise _cut(path, stream)
            if size <= _TF_CHECKED_BYTES and masked_crc32c(data) != int.from_bytes(tail, "little"):
                raise _wrong(path, stream)
            yield data


def wandb_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a ``.wandb`` file.

    Raises
    ------
    CorruptData
        It is no such file, a checksum is wrong, or the last record is cut; every record before it
        was yielded.
    """
    with path.open("rb") as stream:
        head = stream.read(_FILE_HEAD.size)
        if len(head) < _FILE_HEAD.size or _FILE_HEAD.unpack(head)[:2] != _WANDB:
            raise CorruptData(f"{path.name} is no .wandb file", hint="Pass the run-….wandb file or its folder.")
        at, parts = _FILE_HEAD.size, list[bytes]()
        while True:
            room = _BLOCK - at % _BLOCK
            if room < _LOG_HEAD.size:  # the end of a block is filled up
                stream.read(room)
                at += room
                continue
            head = stream.read(_LOG_HEAD.size)
            if not head:
                if parts:
                    raise _cut(path, stream)
                return
            if len(head) < _LOG_HEAD.size:
                raise _cut(path, stream)
            checksum, size, kind = _LOG_HEAD.unpack(head)
            data = stream.read(size)
            at += _LOG_HEAD.size + size
            if len(data) < size:
                raise _cut(path, stream)
            if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(head[6:7] + data) != checksum:
                raise _wrong(path, stream)
            parts.append(data)
            if kind in (_FULL, _LAST):
                yield b"".join(parts)
                parts = []


def _cut(path: Path, stream: BinaryIO) -> CorruptData:
    return CorruptData(f"{path.name} is cut in a record that ends after byte {stream.tell():,}",
                       hint="Copy it again if the tool that writes it has ended.")  # fmt: skip


def _wrong(path: Path, stream: BinaryIO) -> CorruptData:
    return CorruptData(f"{path.name} has a wrong checksum before byte {stream.tell():,}", hint="Copy it again.")
