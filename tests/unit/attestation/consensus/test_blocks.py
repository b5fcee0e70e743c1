"""order.md O1 to O6, O9: requests, headers, links and blocks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.blocks import (
    BLOCK_BYTES_MAX,
    HEADER_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    REQUESTS_MAX,
    UINT_MAX,
    Block,
    BlockRefused,
    Header,
    Ids,
    Kind,
    Request,
    genesis,
    has_expired,
    header_from,
    request_root,
    requests_from,
)
from attestation.consensus.slices import Body
from foundation import cbor
from foundation.digests import domain
from foundation.secrecy import Prompt

SPEC = Path(__file__).resolve().parents[4] / "docs" / "spec" / "order.md"
CANISTER = bytes.fromhex("00000000fff000050101")

uints = st.one_of(st.integers(0, 300), st.integers(0, UINT_MAX))
digests = st.binary(min_size=32, max_size=32)
principals = st.binary(min_size=1, max_size=29)
requests = st.builds(Request, uints, principals, st.sampled_from(Kind), st.builds(Prompt, st.binary(max_size=300)))


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    count = draw(st.integers(1, 6))
    first_id = draw(st.integers(0, UINT_MAX - count))
    inside = tuple(replace(draw(requests), id=first_id + k) for k in range(count))
    header = Header(
        canister=draw(principals),
        height=draw(st.integers(1, UINT_MAX)),
        parent=draw(digests),
        beacon=draw(digests),
        time_ns=draw(uints),
        first_id=first_id,
        count=count,
        request_root=request_root(inside),
    )
    return Block(header, inside)


def request_value(request: Request) -> list[cbor.Value]:
    return [request.id, request.caller, int(request.kind), request.payload.reveal()]


def header_value(header: Header) -> list[cbor.Value]:
    return [
        1,
        header.canister,
        header.height,
        header.parent,
        header.beacon,
        header.time_ns,
        header.first_id,
        header.count,
        header.request_root,
    ]


@given(blocks())
def test_our_short_encoders_write_what_the_general_one_does(block: Block) -> None:
    inside: list[cbor.Value] = [request_value(request) for request in block.requests]
    assert block.header.encode() == cbor.encode(header_value(block.header))
    assert [request.encode() for request in block.requests] == [cbor.encode(value) for value in inside]
    assert block.encode() == cbor.encode([header_value(block.header), inside])


@given(blocks())
def test_a_block_is_read_back_as_it_was_written(block: Block) -> None:
    assert Block.decode(block.encode()) == block
    assert header_from(cbor.decode(block.header.encode())) == block.header


@given(st.binary(max_size=200))
def test_any_bytes_are_a_block_or_a_refusal(raw: bytes) -> None:
    try:
        block = Block.decode(raw)
    except BlockRefused:
        return
    assert block.encode() == raw


def example() -> tuple[Header, tuple[Request, ...]]:
    inside = tuple(Request(k, b"\x04", Kind.PLAIN, Prompt(bytes([0xA0 + k]))) for k in range(2))
    header = Header(CANISTER, 1, genesis(CANISTER), b"\x07" * 32, 1000, 0, 2, request_root(inside))
    return header, inside


def test_the_example_of_the_specification_is_what_the_code_computes() -> None:
    # order.md O1, O2, O3, O4, O5, O8: the page and the code, line by line.
    header, inside = example()
    shown = re.sub(r"\n {16}", "", SPEC.read_text(encoding="utf-8"))
    written = dict(re.findall(r"^([a-z0-9 ]+?) {2,}([0-9a-f]+)$", shown, re.MULTILINE))
    assert written == {
        "request 0": inside[0].encode().hex(),
        "request 1": inside[1].encode().hex(),
        "leaf 0": inside[0].digest().hex(),
        "leaf 1": inside[1].digest().hex(),
        "request root": request_root(inside).hex(),
        "genesis": genesis(CANISTER).hex(),
        "header": header.encode().hex(),
        "link": header.link().hex(),
        "body": Body(1, inside).encode().hex(),
    }


def test_links_and_genesis_are_hashes_of_different_things() -> None:
    # order.md O4, O5: the tag is one length byte and its text.
    assert domain("anchorhold/link/v1") == b"\x12anchorhold/link/v1"
    header, _ = example()
    assert header.link() != genesis(header.encode())


def test_the_widest_header_fits_its_bound() -> None:
    before = UINT_MAX - 256
    expired = tuple([Ids(before - 70_000 * number, 65_535) for number in range(12, 0, -1)])
    header = Header(bytes(29), UINT_MAX, bytes(32), bytes(32), UINT_MAX, before, 256, bytes(32), expired)
    assert len(header.encode()) == HEADER_BYTES_MAX
    assert header_from(cbor.decode(header.encode())) == header


def expiring(*ranges: tuple[int, int], first_id: int = 1_000_000) -> list[cbor.Value]:
    header = Header(CANISTER, 9, bytes(32), bytes(32), 1, first_id, 1, bytes(32), (Ids(0, 1),))
    value = cbor.decode(header.encode())
    assert isinstance(value, list)
    return [*value[:9], [list(each) for each in ranges]]


@pytest.mark.parametrize("ranges", [((0, 1),), ((3, 2), (6, 1)), ((0, 65_535), (65_535, 7)), ((999_999, 1),)])
def test_a_header_says_what_expired_in_one_spelling(ranges: tuple[tuple[int, int], ...]) -> None:
    # order.md O36
    value = expiring(*ranges)
    header = header_from(value)
    assert [(ids.first, ids.count) for ids in header.expired] == list(ranges)
    assert header.encode() == cbor.encode(value)
    assert has_expired([header], ranges[0][0])
    assert not has_expired([header], ranges[-1][0] + ranges[-1][1])


@pytest.mark.parametrize(
    "ranges",
    [
        (),  # then it is version 1
        ((0, 0),),
        ((0, 65_536),),
        ((0, 1), (1, 1)),  # one range, said as two
        ((5, 1), (3, 1)),
        ((5, 3), (6, 1)),
        ((1_000_000, 1),),  # a request of this very block
        tuple([(2 * number, 1) for number in range(13)]),
    ],
)
def test_expired_ranges_out_of_form_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    # order.md O36
    with pytest.raises(BlockRefused, match=r"block\.expired"):
        header_from(expiring(*ranges))


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (0, 3, "block.version"),
        (0, 2, "block.header"),
        (0, True, "block.version"),
        (1, b"", "block.canister"),
        (1, bytes(30), "block.canister"),
        (1, "text", "block.canister"),
        (2, 0, "block.height"),
        (2, -1, "block.height"),
        (2, True, "block.height"),
        (3, bytes(31), "block.parent"),
        (4, bytes(33), "block.beacon"),
        (5, None, "block.time"),
        (6, b"\x00", "block.first-id"),
        (6, UINT_MAX, "block.first-id"),
        (7, 0, "block.count"),
        (7, REQUESTS_MAX + 1, "block.count"),
        (8, bytes(0), "block.request-root"),
    ],
)
def test_a_header_field_out_of_form_is_named(place: int, value: cbor.Value, code: str) -> None:
    # order.md O3
    fields = header_value(example()[0])
    fields[place] = value
    with pytest.raises(BlockRefused) as refused:
        header_from(fields)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (0, -1, "block.id"),
        (0, False, "block.id"),
        (1, b"", "block.caller"),
        (1, bytes(30), "block.caller"),
        (2, 2, "block.kind"),
        (2, True, "block.kind"),
        (2, "0", "block.kind"),
        (3, "text", "block.payload"),
        (3, bytes(PAYLOAD_BYTES_MAX + 1), "block.payload"),
    ],
)
def test_a_request_field_out_of_form_is_named(place: int, value: cbor.Value, code: str) -> None:
    # order.md O1, O9
    fields = request_value(example()[1][0])
    fields[place] = value
    with pytest.raises(BlockRefused) as refused:
        requests_from([fields])
    assert refused.value.code == code


@pytest.mark.parametrize("value", [[], [[0, b"\x04", 0]], {}, 7, [[0, b"\x04", 0, b"", 0]], [7]])
def test_a_list_of_requests_out_of_form_is_refused(value: cbor.Value) -> None:
    with pytest.raises(BlockRefused):
        requests_from(value)


def test_a_block_has_at_most_256_requests() -> None:
    # order.md O2
    full: list[cbor.Value] = [request_value(Request(k, b"\x04", Kind.PLAIN, Prompt(b""))) for k in range(257)]
    assert len(requests_from(full[:256])) == 256
    with pytest.raises(BlockRefused, match="count"):
        requests_from(full)


def test_a_block_whose_parts_do_not_belong_together_is_refused() -> None:
    # order.md O6
    header, inside = example()
    changed = replace(inside[1], payload=Prompt(b"other"))
    for requests, code in (
        (inside[:1], "block.count"),
        ((inside[1], inside[0]), "block.id"),
        ((inside[0], replace(inside[1], id=7)), "block.id"),
        ((inside[0], changed), "block.request-root"),
    ):
        with pytest.raises(BlockRefused) as refused:
            Block.decode(Block(header, requests).encode())
        assert refused.value.code == code


def test_bytes_after_a_block_and_a_second_encoding_are_refused() -> None:
    # order.md O9
    raw = Block(*example()).encode()
    longer = raw.replace(b"\x84\x00\x41\x04", b"\x84\x18\x00\x41\x04", 1)
    assert longer != raw
    for bent in (raw + b"\x00", longer, bytes(BLOCK_BYTES_MAX + 1), b""):
        with pytest.raises(BlockRefused) as refused:
            Block.decode(bent)
        assert refused.value.code == "block.encoding"


def test_a_request_never_shows_its_payload() -> None:
    request = Request(1, b"\x04", Kind.PLAIN, Prompt(b"the prompt itself"))
    assert "prompt itself" not in f"{request!r} {request}"
