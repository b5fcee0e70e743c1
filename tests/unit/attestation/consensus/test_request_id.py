"""Request ids, and what a certified reply binds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.certificate import VerifiedCertificate, parse_certificate, verify_certificate
from attestation.consensus.refusals import EncodingRefused, LookupRefused, RangesRefused
from attestation.consensus.request_id import UpdateCall, certified_reply, representation_independent_hash
from tests.little_subnet import CANISTER, ROOT, LittleState, Shape, little_certificate

CALL = UpdateCall(
    canister=CANISTER,
    method="get_proposal_info",
    argument=b"DIDL\x00\x00",
    sender=b"\x04",
    expiry_ns=1_700_000_240_000_000_000,
    nonce=b"once",
)


def verified(status: Shape, canister: bytes | None = CANISTER) -> VerifiedCertificate:
    data = little_certificate(LittleState(request_status={CALL.request_id: status}))
    return verify_certificate(parse_certificate(data), root_key=ROOT.public_key, canister=canister)


def test_the_specification_s_example() -> None:
    call = UpdateCall(
        canister=bytes.fromhex("00000000000004d2"),
        method="hello",
        argument=b"DIDL\x00\xfd*",
        sender=b"\x04",
        expiry_ns=1_685_570_400_000_000_000,
    )
    assert call.request_id.hex() == "1d1091364d6bb8a6c16b203ee75467d59ead468f523eb058880ae8ec80e2b101"


def test_a_reply_is_read_for_its_own_call() -> None:
    # certificates.md K11
    assert certified_reply(verified({b"status": b"replied", b"reply": b"42"}), CALL) == b"42"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "get_proposal_info_"},
        {"argument": b"DIDL\x00\x01"},
        {"sender": b"\x05"},
        {"expiry_ns": 1},
        {"nonce": None},
        {"nonce": b""},
    ],
)
def test_every_part_of_the_call_is_bound(change: dict[str, Any]) -> None:
    other = replace(CALL, **change)
    assert other.request_id != CALL.request_id
    with pytest.raises(LookupRefused):
        certified_reply(verified({b"status": b"replied", b"reply": b"42"}), other)


def test_a_reply_of_another_canister_is_refused() -> None:
    certificate = verified({b"status": b"replied", b"reply": b"42"})
    with pytest.raises(RangesRefused):
        certified_reply(certificate, replace(CALL, canister=bytes(10)))
    with pytest.raises(RangesRefused):
        certified_reply(verified({b"status": b"replied", b"reply": b"42"}, canister=None), CALL)


@pytest.mark.parametrize("status", [b"received", b"processing", b"rejected", b"done", b"Replied", b""])
def test_every_other_status_is_refused(status: bytes) -> None:
    # certificates.md K11
    with pytest.raises(LookupRefused) as caught:
        certified_reply(verified({b"status": status, b"reply": b"42"}), CALL)
    assert caught.value.code == "lookup.status"


@pytest.mark.parametrize("shape", [{b"status": b"replied"}, {b"reply": b"42"}, {}])
def test_a_reply_needs_both_its_status_and_itself(shape: Shape) -> None:
    with pytest.raises(LookupRefused) as caught:
        certified_reply(verified(shape), CALL)
    assert caught.value.code == "lookup.absent"


fields = st.recursive(
    st.binary(max_size=8) | st.text("aé水", max_size=8) | st.integers(0, 1 << 70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text("abcdef", max_size=3), fields, min_size=1, max_size=5), st.randoms())
def test_the_order_of_fields_does_not_matter(value: dict[str, Any], random: Any) -> None:
    shuffled = list(value.items())
    random.shuffle(shuffled)
    assert representation_independent_hash(dict(shuffled)) == representation_independent_hash(value)


@pytest.mark.parametrize("value", [-1, True, None, 1.5])
def test_other_values_have_no_hash(value: Any) -> None:
    with pytest.raises(EncodingRefused):
        representation_independent_hash({"arg": value})
