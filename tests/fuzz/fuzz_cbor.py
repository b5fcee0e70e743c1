"""Invariant: whatever the bytes, `decode` either refuses with CborRefused or gives a value that encodes back
to exactly them; `decode_foreign` either refuses with CborRefused or gives a value whose encoding it accepts.
"""

from __future__ import annotations

from foundation.cbor import SELF_DESCRIBED, CborRefused, Limits, decode, decode_foreign, encode

LIMITS = Limits(bytes_max=1 << 16, depth_max=64, items_max=1 << 12)
TAGS = frozenset({18, SELF_DESCRIBED})

SEEDS: list[bytes] = [
    bytes.fromhex(text)
    for text in (
        "00",
        "1bffffffffffffffff",
        "3bffffffffffffffff",
        "4401020304",
        "6449455446",
        "f6",
        "83010203",
        "8301820203820405",
        "a201020304",
        "a26161016162820203",
        "826161a161626163",
        "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
        "d9d9f7a2647472656581006973696e617475726540",
        "d28443a10126a04054",
        "5b7fffffffffffffff00",
        "9f01ff",
        "f97e00",
        "a2616202616101",
        "63eda080",
    )
] + [b"\x81" * 70 + b"\x00"]


def one_input(data: bytes) -> None:
    try:
        value = decode(data, LIMITS, tags=TAGS)
    except CborRefused:
        pass
    else:
        assert encode(value) == data
    try:
        foreign = decode_foreign(data, LIMITS)
    except CborRefused:
        return
    again = encode(foreign)
    assert decode_foreign(again, LIMITS) == foreign
    assert len(again) == len(data)
