"""Certificates of a little subnet of our own: what verifies, and each way in which one must not."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.consensus import hashtree
from attestation.consensus.certificate import VerifiedCertificate, describe_path, open_envelope, parse_certificate
from attestation.consensus.delegation import DelegationCache, VerifiedDelegation, verify_delegation
from attestation.consensus.hashtree import Empty, Fork, Found, Labeled, Leaf, Pruned, to_cbor
from attestation.consensus.refusals import (
    BlsRefused,
    ConsensusRefused,
    DelegationRefused,
    EncodingRefused,
    LookupRefused,
    RangesRefused,
    TimeRefused,
    TreeRefused,
)
from foundation import leb128
from foundation.cbor import SELF_DESCRIBED, Encodable, Tag, decode_foreign, encode
from tests.little_subnet import (
    CANISTER,
    NOW_NS,
    RANGE,
    ROOT,
    STATE_ROOT,
    SUBNET,
    SUBNET_SIGNER,
    LittleState,
    Shape,
    Signer,
    certificate_bytes,
    flat_delegation,
    grow,
    little_certificate,
    prune,
    ranges,
    sharded_delegation,
)
from tests.unit.attestation.consensus.certificate_verification import CERTIFIED_DATA, refusal, verify

IDENTITY_KEY = b"\xc0" + bytes(95)


# --- what holds ---------------------------------------------------------------------------------------------


def test_a_good_certificate_says_what_the_subnet_said() -> None:
    state = LittleState()
    verified = verify(little_certificate(state))
    assert verified.certified_data() == state.certified_data
    assert verified.time_ns == NOW_NS
    assert verified.root_hash == state.tree().digest
    assert verified.subnet == SUBNET
    assert verified.canister == CANISTER
    assert verified.delegation is not None
    assert verified.delegation.time_ns == NOW_NS
    assert verified.delegation.public_key == SUBNET_SIGNER.public_key


def test_the_root_subnet_signs_with_the_root_key_itself() -> None:
    verified = verify(certificate_bytes(LittleState().tree(), ROOT))
    assert verified.subnet is None
    assert verified.certified_data() == bytes(range(32))


def test_a_pruned_certificate_verifies_and_shows_less() -> None:
    tree = prune(LittleState().tree(), lambda path: path in ((b"canister",), (b"time",)))
    verified = verify(certificate_bytes(tree, SUBNET_SIGNER, flat_delegation()))
    assert verified.root_hash == LittleState().tree().digest
    assert verified.lookup(CERTIFIED_DATA) == hashtree.Unknown()
    with pytest.raises(LookupRefused) as caught:
        verified.certified_data()
    assert caught.value.code == "lookup.unknown"


@pytest.mark.parametrize("tagged", [True, False])
def test_the_tag_before_a_certificate_is_free(tagged: bool) -> None:
    # certificates.md K1
    value = decode_foreign(little_certificate())
    assert isinstance(value, Tag)
    verify(encode(value if tagged else value.value))


def test_map_order_is_free() -> None:
    # certificates.md K1
    value = decode_foreign(little_certificate())
    assert isinstance(value, Tag)
    assert isinstance(value.value, dict)
    parts = {name: encode(name) + encode(part) for name, part in value.value.items()}
    for order in (("tree", "signature", "delegation"), ("delegation", "signature", "tree")):
        verify(b"\xa3" + b"".join(parts[name] for name in order))


# --- signatures ---------------------------------------------------------------------------------------------


def test_another_root_is_refused_at_the_delegation() -> None:
    # certificates.md K5
    code = refusal(little_certificate(), DelegationRefused, root=Signer(7).public_key)
    assert code == "delegation.signature.invalid"


def test_a_subnet_certificate_without_its_delegation_is_refused() -> None:
    # certificates.md K5
    bare = certificate_bytes(LittleState().tree(), SUBNET_SIGNER)
    assert refusal(bare, BlsRefused) == "signature.invalid"


def test_a_certificate_by_a_key_the_root_did_not_name_is_refused() -> None:
    forged = certificate_bytes(LittleState().tree(), Signer(7), flat_delegation())
    assert refusal(forged, BlsRefused) == "signature.invalid"


def test_identity_points_are_refused_wherever_they_stand() -> None:
    # certificates.md K4
    assert refusal(little_certificate(), DelegationRefused, root=IDENTITY_KEY).endswith("key-identity")
    plain = certificate_bytes(LittleState().tree(), ROOT)
    assert refusal(plain, BlsRefused, root=IDENTITY_KEY) == "signature.key-identity"
    identity = b"\xc0" + bytes(47)
    signature = ROOT.sign(STATE_ROOT + LittleState().tree().digest)
    assert refusal(plain.replace(signature, identity), BlsRefused) == "signature.identity"
    der = SUBNET_SIGNER.der[:37] + IDENTITY_KEY
    code = refusal(little_certificate(delegation=flat_delegation(der=der)), DelegationRefused)
    assert code == "delegation.signature.key-identity"


# --- delegations --------------------------------------------------------------------------------------------


def test_a_delegation_by_a_subnet_is_refused() -> None:
    # certificates.md K5
    inner = certificate_bytes(grow({b"time": leb128.unsigned(NOW_NS)}), SUBNET_SIGNER, flat_delegation())
    assert refusal(little_certificate(delegation=inner), DelegationRefused) == "delegation.nested"


def test_a_delegation_for_another_subnet_gives_no_key() -> None:
    other = bytes(28) + b"\x02"
    data = little_certificate(delegation=flat_delegation(subnet=other))
    assert refusal(data, DelegationRefused) == "delegation.key"


@pytest.mark.parametrize("der", [b"", SUBNET_SIGNER.public_key, SUBNET_SIGNER.der + b"\x00", bytes(133)])
def test_a_delegated_key_that_is_no_key_is_refused(der: bytes) -> None:
    data = little_certificate(delegation=flat_delegation(der=der))
    assert refusal(data, DelegationRefused) == "delegation.key.der"


def test_a_subnet_can_be_demanded() -> None:
    verify(little_certificate(), subnet=SUBNET)
    assert refusal(little_certificate(), DelegationRefused, subnet=bytes(29)) == "delegation.subnet"
    root_certificate = certificate_bytes(LittleState().tree(), ROOT)
    assert refusal(root_certificate, DelegationRefused, subnet=SUBNET) == "delegation.subnet"


def test_a_verified_delegation_is_kept_and_only_for_its_own_bytes_and_root() -> None:
    # certificates.md K6
    kept = DelegationCache(entries_max=2)
    first = verify(little_certificate(), kept=kept)
    assert len(kept) == 1
    again = verify(little_certificate(LittleState(time=leb128.unsigned(NOW_NS + 1))), kept=kept)
    assert again.delegation is first.delegation
    with pytest.raises(DelegationRefused):
        verify(little_certificate(), root=Signer(7).public_key, kept=kept)
    with pytest.raises(RangesRefused):
        verify(little_certificate(), canister=b"\x00" * 10, kept=kept)
    forged = parse_certificate(little_certificate())
    assert forged.delegation is not None
    elsewhere = replace(forged.delegation, subnet=bytes(29))
    with pytest.raises(DelegationRefused):
        verify_delegation(elsewhere, ROOT.public_key, kept)
    assert len(kept) == 1
    for last in (1, 2, 3):
        listed = ranges((RANGE[0], RANGE[1][:-1] + bytes([last])))
        verify(little_certificate(delegation=flat_delegation(listed)), kept=kept)
    assert len(kept) == 2


# --- what is looked up --------------------------------------------------------------------------------------


def test_a_lookup_reaches_no_other_canister() -> None:
    # certificates.md K9
    verified = verify(little_certificate())
    other = bytes.fromhex("00000000003000010101")
    for path in ((b"canister",), (b"canister", other), (b"canister", other, b"certified_data")):
        with pytest.raises(RangesRefused):
            verified.lookup(path)
        with pytest.raises(RangesRefused):
            verified.find(path)
    without = verify(little_certificate(), canister=None)
    with pytest.raises(RangesRefused):
        without.certified_data()
    with pytest.raises(RangesRefused):
        without.lookup((b"request_status", bytes(32), b"reply"))
    assert isinstance(without.lookup((b"time",)), Found)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ((b"canister", CANISTER, b"nothing"), "lookup.absent"),
        ((b"canister", CANISTER), "lookup.misplaced"),
        ((*CERTIFIED_DATA, b"deeper"), "lookup.misplaced"),
        ((b"request_status", bytes(32)), "lookup.absent"),
    ],
)
def test_what_was_demanded_and_is_not_shown_is_refused(path: tuple[bytes, ...], code: str) -> None:
    # certificates.md K10
    with pytest.raises(LookupRefused) as caught:
        verify(little_certificate()).demand(path)
    assert caught.value.code == code
    assert describe_path(path) in str(caught.value)


def test_a_canister_s_own_tree_is_held_against_its_certified_data() -> None:
    # certificates.md K12
    own = grow({b"previous_hash": bytes(32), b"entries": {b"\x00": b"x"}})
    verified = verify(little_certificate(LittleState(certified_data=own.digest)))
    assert verified.certified_tree(own) is own
    with pytest.raises(TreeRefused):
        verified.certified_tree(grow({b"previous_hash": bytes(32)}))


# --- time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [b"", b"\x80", b"\x80\x00", b"\xff" * 11])
def test_a_time_that_is_no_number_is_refused(time: bytes) -> None:
    assert refusal(little_certificate(LittleState(time=time)), TimeRefused) == "time.encoding"


def test_a_certificate_without_its_time_is_refused() -> None:
    # certificates.md K13
    pruned = prune(LittleState().tree(), lambda path: path != (b"time",))
    data = certificate_bytes(pruned, SUBNET_SIGNER, flat_delegation())
    assert refusal(data, LookupRefused) == "lookup.unknown"


# --- format -------------------------------------------------------------------------------------------------


def _changed(**parts: Encodable) -> bytes:
    value = decode_foreign(little_certificate())
    assert isinstance(value, Tag)
    assert isinstance(value.value, dict)
    fields: dict[str, Encodable] = {**value.value, **parts}
    return encode(Tag(SELF_DESCRIBED, {name: part for name, part in fields.items() if part != "gone"}))


GOOD = flat_delegation()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "certificate.cbor.truncated"),
        (little_certificate() + b"\x00", "certificate.cbor.trailing"),
        (little_certificate()[:-1], "certificate.cbor.truncated"),
        (encode([]), "certificate.shape"),
        (encode({}), "certificate.fields"),
        (_changed(tree="gone"), "certificate.fields"),
        (_changed(signature="gone"), "certificate.fields"),
        (_changed(extra=1), "certificate.fields"),
        (_changed(delegation=None), "certificate.shape"),
        (_changed(delegation={}), "certificate.fields"),
        (_changed(delegation={"subnet_id": SUBNET, "certificate": GOOD, "x": 0}), "certificate.fields"),
        (_changed(delegation={"subnet_id": b"", "certificate": GOOD}), "certificate.subnet"),
        (_changed(delegation={"subnet_id": bytes(30), "certificate": GOOD}), "certificate.subnet"),
        (_changed(delegation={"subnet_id": "x", "certificate": GOOD}), "certificate.shape"),
        (_changed(delegation={"subnet_id": SUBNET, "certificate": b""}), "certificate.cbor.truncated"),
        (_changed(delegation={"subnet_id": SUBNET, "certificate": [0]}), "certificate.shape"),
        (_changed(signature=bytes(47)), "certificate.signature"),
        (_changed(signature=bytes(49)), "certificate.signature"),
        (_changed(signature="x" * 48), "certificate.signature"),
        (_changed(tree=b"\x81\x00"), "tree.node"),
        (_changed(tree=Tag(SELF_DESCRIBED, [0])), "tree.node"),
        (encode(Tag(SELF_DESCRIBED, Tag(SELF_DESCRIBED, {}))), "certificate.shape"),
        (b"\xc1" + little_certificate()[3:], "certificate.cbor.tag"),
    ],
)
def test_malformed_certificates_are_refused_before_anything_is_checked(data: bytes, code: str) -> None:
    # certificates.md K1
    with pytest.raises(EncodingRefused) as caught:
        parse_certificate(data)
    assert caught.value.code == code


def test_a_tree_in_a_certificate_is_well_formed_or_nothing() -> None:
    # certificates.md K2
    twice = [1, [2, b"time", [3, b"\x01"]], [2, b"time", [3, b"\x02"]]]
    with pytest.raises(EncodingRefused) as caught:
        parse_certificate(_changed(tree=twice))
    assert caught.value.code == "tree.label-order"


def test_envelopes_are_opened_and_others_are_not() -> None:
    data = little_certificate()
    assert open_envelope(data).certificate == data
    for extra in ({}, {"status": "replied"}):
        assert open_envelope(encode({"certificate": data, **extra})).certificate == data
    own = grow({b"sig": b""})
    signature = open_envelope(encode(Tag(SELF_DESCRIBED, {"certificate": data, "tree": to_cbor(own)})))
    assert signature.certificate == data
    assert signature.tree is not None
    assert signature.tree.digest == own.digest
    for bad in (encode({"certificate": data, "more": 1}), encode({"certificate": 1}), b"\xa0\x00"):
        with pytest.raises(EncodingRefused):
            open_envelope(bad)


# --- properties ---------------------------------------------------------------------------------------------


def test_nothing_makes_a_verified_certificate_but_the_verifier() -> None:
    verified = verify(little_certificate())
    with pytest.raises(TypeError):
        replace(verified, canister=b"\x01", verifier=object())
    with pytest.raises(TypeError):
        VerifiedCertificate(
            tree=verified.tree, root_hash=verified.root_hash, time_ns=0, canister=None, delegation=None, verifier=None
        )
    assert verified.delegation is not None
    with pytest.raises(TypeError):
        VerifiedDelegation(subnet=SUBNET, public_key=ROOT.public_key, tree=Empty(), time_ns=None, verifier=object())
    with pytest.raises(AttributeError):
        verified.canister = b"\x01"  # type: ignore[misc]
    assert copy.copy(verified).canister == CANISTER


@cache
def _good(sharded: bool) -> bytes:
    shards: dict[bytes, Shape] = {RANGE[0]: ranges(RANGE)}
    return little_certificate(delegation=sharded_delegation(shards) if sharded else None)


@given(st.data(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_verifies_to_anything_else(data: st.DataObject, sharded: bool) -> None:
    good = _good(sharded)
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ConsensusRefused):
        verify(bytes(flipped))


def test_a_level_s_pruned_siblings_are_not_proof_of_absence() -> None:
    tree = Fork(
        Fork(Labeled(b"canister", Fork(Pruned(bytes(32)), Pruned(bytes(32)))), Pruned(bytes(32))),
        Labeled(b"time", Leaf(leb128.unsigned(NOW_NS))),
    )
    verified = verify(certificate_bytes(tree, SUBNET_SIGNER, flat_delegation()))
    assert verified.lookup(CERTIFIED_DATA) == hashtree.Unknown()
    assert verified.lookup((b"request_status", bytes(32))) == hashtree.Unknown()
