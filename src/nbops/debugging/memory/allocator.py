"""What CUDA's caching allocator reserves for a trace: blocks are rounded, split, kept and used again.

Source: c10/cuda/CUDACachingAllocator.cpp of PyTorch 2 and its note "CUDA memory management": sizes are rounded up to
512 bytes; requests of at most 1 MiB share segments of 2 MiB, those below 10 MiB segments of 20 MiB, larger ones get a
segment of their own, rounded to 2 MiB; the smallest free block that fits is taken, and split if what is left over
is worth it. No segment is given back until the device is full.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from nbops.debugging.memory.trace import Trace

_ROUND = 512
_SMALL = 1 << 20  # bytes: at most so much comes from the small pool
_SMALL_SEGMENT = 2 << 20
_MIDDLE = 10 << 20
_MIDDLE_SEGMENT = 20 << 20
_LARGE_ROUND = 2 << 20


@dataclass
class _Block:
    size: int
    address: int
    is_small: bool
    is_free: bool = True
    before: _Block | None = None
    after: _Block | None = None


@dataclass
class _Pool:
    """Free blocks of one pool: smallest first, and among those of one size the lowest address."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    blocks: dict[int, _Block] = field(default_factory=dict)

    def add(self, block: _Block) -> None:
        bisect.insort(self.sizes, (block.size, block.address))
        self.blocks[block.address] = block

    def remove(self, block: _Block) -> None:
        self.sizes.pop(bisect.bisect_left(self.sizes, (block.size, block.address)))
        del self.blocks[block.address]

    def take(self, size: int) -> _Block | None:
        at = bisect.bisect_left(self.sizes, (size, 0))
        if at == len(self.sizes):
            return None
        block = self.blocks[self.sizes[at][1]]
        self.remove(block)
        return block


def reserved_bytes(trace: Trace) -> int:
    """Return the bytes that the allocator holds at most for the events of `trace`."""
    pools = {True: _Pool(), False: _Pool()}
    held: dict[int, _Block] = {}
    reserved = 0
    for number in trace.events:
        size = trace.pieces[abs(number)].size
        if not size:
            continue
        if number < 0:
            _give_back(pools, held.pop(-number))
            continue
        need = -(-size // _ROUND) * _ROUND
        pool = pools[need <= _SMALL]
        block = pool.take(need)
        if block is None:
            segment = _segment_of(need)
            block = _Block(segment, reserved, need <= _SMALL)
            reserved += segment
        held[number] = _split(pool, block, need)
    return reserved


def _segment_of(need: int) -> int:
    if need <= _SMALL:
        return _SMALL_SEGMENT
    if need < _MIDDLE:
        return _MIDDLE_SEGMENT
    return -(-need // _LARGE_ROUND) * _LARGE_ROUND


def _split(pool: _Pool, block: _Block, need: int) -> _Block:
    """Cut off what is left over, if that is worth a block of its own."""
    rest = block.size - need
    block.is_free = False
    if rest < (_ROUND if block.is_small else _SMALL + 1):
        return block
    tail = _Block(rest, block.address + need, block.is_small, before=block, after=block.after)
    if block.after is not None:
        block.after.before = tail
    block.after, block.size = tail, need
    pool.add(tail)
    return block


def _give_back(pools: dict[bool, _Pool], block: _Block) -> None:
    """Free a block, joined with free neighbours of its segment."""
    pool = pools[block.is_small]
    block.is_free = True
    for other in (block.before, block.after):
        if other is None or not other.is_free:
            continue
        pool.remove(other)
        first, second = (other, block) if other is block.before else (block, other)
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        block = first
    pool.add(block)
