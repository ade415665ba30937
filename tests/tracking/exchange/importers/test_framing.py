"""The framings and the wire format: what they were written from comes back, damage is found and told."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core.errors import CorruptData
from nbops.tracking.exchange.importers.framing import masked_crc32c, tf_records, wandb_records
from nbops.tracking.exchange.importers.protobuf import Message, varint

WANDB = "wandb/run-abc123.wandb"


def event_file(samples: Path) -> Path:
    return next((samples / "tensorboard" / "fit").glob("*tfevents*"))


def test_the_checksum_is_that_of_the_standard() -> None:
    crc = (masked_crc32c(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF
    assert ((crc >> 17) | (crc << 15)) & 0xFFFFFFFF == 0xE3069283  # the check value of CRC-32C


def test_whole_files_are_read_to_their_end(samples: Path) -> None:
    assert len(list(tf_records(event_file(samples)))) == 12
    assert len(list(wandb_records(samples / WANDB))) == 34


def test_a_record_longer_than_a_block_is_joined(tmp_path: Path) -> None:
    import zlib

    data = bytes(range(256)) * 400
    path, out, at, first = tmp_path / "long.wandb", bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0)), 0, True
    while at < len(data):
        room = 32768 - len(out) % 32768
        if room < 7:
            out += b"\0" * room
            continue
        piece = data[at : at + room - 7]
        at += len(piece)
        kind = (1 if at == len(data) else 2) if first else (4 if at == len(data) else 3)
        out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
        first = False
    path.write_bytes(out)
    assert list(wandb_records(path)) == [data]


@pytest.mark.parametrize("reader", ["tensorboard", "wandb"])
def test_a_cut_file_gives_what_is_whole_and_says_so(samples: Path, reader: str) -> None:
    path = event_file(samples) if reader == "tensorboard" else samples / WANDB
    read = tf_records if reader == "tensorboard" else wandb_records
    whole = list(read(path))
    data = path.read_bytes()
    for cut in range(len(data) - 1, len(data) - 60, -7):
        path.write_bytes(data[:cut])
        got: list[bytes] = []
        with suppress(CorruptData):  # a cut between two records is an end like any other
            got.extend(read(path))
        assert got == whole[: len(got)]
        assert len(got) < len(whole)
    path.write_bytes(data[:-3])
    with pytest.raises(CorruptData, match="is cut"):
        list(read(path))


@pytest.mark.parametrize("reader", ["tensorboard", "wandb"])
def test_a_changed_byte_is_found(samples: Path, reader: str) -> None:
    path = event_file(samples) if reader == "tensorboard" else samples / WANDB
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptData, match="wrong checksum"):
        list((tf_records if reader == "tensorboard" else wandb_records)(path))


def test_another_file_is_no_wandb_file(tmp_path: Path) -> None:
    (tmp_path / "x.wandb").write_bytes(b"something else")
    with pytest.raises(CorruptData, match="is no .wandb file"):
        list(wandb_records(tmp_path / "x.wandb"))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_come_back(value: int) -> None:
    raw = _varint(value % 2**64)
    assert varint(raw, 0) == (value % 2**64, len(raw))
    assert Message(b"\x08" + raw).integer(1) == value
    zigzag = _varint((value << 1 ^ value >> 63) % 2**64)
    assert Message(b"\x08" + zigzag).zigzag(1) == value


@given(st.floats(allow_nan=False), st.text())
def test_numbers_and_text_come_back(number: float, text: str) -> None:
    raw = text.encode()
    message = Message(b"\x09" + struct.pack("<d", number) + b"\x12" + _varint(len(raw)) + raw)
    assert (message.double(1), message.text(2), message.text(9), message.integer(1)) == (number, text, "", 0)


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\x08" + b"\xff" * 11])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptData, match="no protocol buffer message"):
        Message(data)
