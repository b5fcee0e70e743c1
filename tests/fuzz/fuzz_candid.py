"""`foundation.candid.decode` gives values that survive a round trip, or raises `CandidRefused`; nothing else."""

from __future__ import annotations

from foundation.candid import (
    BLOB,
    NAT64,
    NULL,
    PRINCIPAL,
    TEXT,
    CandidRefused,
    Opt,
    Record,
    Variant,
    Vec,
    decode,
    encode,
)

TYPES = (
    Record({"height": NAT64, "link": BLOB, "who": Opt(PRINCIPAL), "names": Vec(TEXT)}),
    Variant({"empty": NULL, "sealed": Record({"count": NAT64}), "text": TEXT}),
)
SEEDS: list[bytes] = [
    encode(TYPES, [{"height": 7, "link": b"link", "who": b"\x04", "names": ["a", "b"]}, ("sealed", {"count": 3})]),
    encode(TYPES, [{"height": 0, "link": b"", "who": None, "names": []}, ("empty", None)]),
    # An empty vector of another type where a blob belongs: once read as an empty list.
    bytes.fromhex(
        "4449444c066c04beceea0201e78fb01278faafccbd0402c89f92b409036e686d7f6d716b03ad99e7e704719ca7cc9706058df5e8fe067f"
        "6c01cf898dd30478020004000000000000000000000002"
    ),
    b"DIDL\x00\x00",
    b"DIDL\x01\x6d\x00\x01\x00\x01\x01\x01\x01",
]


def one_input(data: bytes) -> None:
    try:
        values = decode(TYPES, data)
    except CandidRefused:
        return
    assert decode(TYPES, encode(TYPES, values)) == values
