"""A release manifest, a charter, an authority: what parses is the one spelling of it; all else is refused by name."""

from __future__ import annotations

from measurements.governance.authority import Chain, encode_authority, parse_authority
from measurements.governance.charter import Charter
from measurements.release.document import render
from measurements.release.errors import ReleaseDocumentRefused
from measurements.release.manifest import Manifest, launch_document, parse_launch
from tests.charters import AUTHORITY, KEEPERS
from tests.releases import made_manifest

_FIRST = made_manifest()
SEEDS: list[bytes] = [
    _FIRST.encode(),
    made_manifest("0.2.0", _FIRST).encode(),
    render(launch_document(_FIRST.launch)),
    KEEPERS.encode(),
    encode_authority(AUTHORITY),
    encode_authority(Chain(bytes(96), b"\x01\x01", "get_proposal", 1_000)),
    b"",
    b"{}\n",
]


def one_input(data: bytes) -> None:
    for parse, encode in (
        (Manifest.parse, lambda value: value.encode()),
        (Charter.parse, lambda value: value.encode()),
        (parse_authority, encode_authority),
        (parse_launch, lambda value: render(launch_document(value))),
    ):
        try:
            value = parse(data)
        except ReleaseDocumentRefused:
            continue
        assert encode(value) == data
