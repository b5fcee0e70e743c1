"""The `/time` a subnet certifies: nanoseconds since 1970, unsigned LEB128.

Not a proof that anything is recent: an old certificate is as genuine as a new one. Whoever has a clock may
hold a certificate against it with `check_near`; a cell has none, and keeps certified time monotonic instead.
"""

from __future__ import annotations

from typing import Final

from attestation.consensus.refusals import TimeRefused

SKEW_NS_MAX: Final = 5 * 60 * 1_000_000_000

_BYTES_MAX = 10  # 64 bits, seven to a byte


def parse_time(raw: bytes) -> int:
    """The one number `raw` encodes. Refuses every second encoding of it."""
    if not 1 <= len(raw) <= _BYTES_MAX:
        raise _refused("1 to 10 bytes of LEB128", f"{len(raw)} bytes")
    if any(byte < 0x80 for byte in raw[:-1]) or raw[-1] >= 0x80:
        raise _refused("one number", raw.hex())
    if len(raw) > 1 and raw[-1] == 0:
        raise _refused("the shortest form", raw.hex())
    number = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(raw))
    if number >= 1 << 64:
        raise _refused("at most 64 bits", f"{number.bit_length()}")
    return number


def check_near(time_ns: int, now_ns: int, skew_ns: int = SKEW_NS_MAX) -> None:
    """Refuses a certified time more than `skew_ns` after or before `now_ns`."""
    if time_ns > now_ns + skew_ns:
        raise TimeRefused("time.future", expected=f"at most {now_ns + skew_ns} ns", got=f"{time_ns} ns")
    if time_ns < now_ns - skew_ns:
        raise TimeRefused("time.stale", expected=f"at least {now_ns - skew_ns} ns", got=f"{time_ns} ns")


def _refused(expected: str, got: str) -> TimeRefused:
    return TimeRefused("time.encoding", expected=expected, got=got)
