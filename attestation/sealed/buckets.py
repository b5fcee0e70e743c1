"""The sizes that may be seen: rungs of one ladder, each a third or a half above the one before.

    16, 32, 48, 64, 96, 128, 192, 256, 384, ...

A request is padded to sixteen bytes for each step of its rung, an answer to one frame for each sixteen tokens of its
rung; what is billed follows from the rungs, so a receipt says no more than the sizes did (answer.md A3).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

STEP: Final = 16  # tokens of the smallest rung, and of a frame
BYTES_PER_STEP: Final = 16  # of a request
BYTES_PER_TOKEN: Final = 4  # of a request, as it is billed


def _ladder(last: int) -> tuple[int, ...]:
    rungs = [STEP, 2 * STEP, 3 * STEP]
    power = 4 * STEP
    while power <= last:
        rungs += [power, power + power // 2]
        power *= 2
    return tuple(rungs)


RUNGS: Final = _ladder(1 << 20)


def rung(size: int) -> int:
    """The first rung that holds `size`. Raises ValueError beyond the last: callers bound before."""
    at = bisect_left(RUNGS, size)
    if at == len(RUNGS):
        raise ValueError(f"no rung holds {size}")
    return RUNGS[at]


def request_bytes(size: int) -> int:
    """To how many bytes a request of `size` is padded."""
    return BYTES_PER_STEP * rung(-(-size // BYTES_PER_STEP))


def billed_in(padded: int) -> int:
    """Tokens in, of a request padded to `padded` bytes."""
    return padded // BYTES_PER_TOKEN


def answer_frames(tokens: int) -> int:
    """How many frames an answer of this rung has: its words', and one that ends it."""
    return tokens // STEP + 1


def rung_of_frames(content: int) -> int:
    """The rung of an answer whose words need `content` frames."""
    return rung(STEP * max(content, 1))
