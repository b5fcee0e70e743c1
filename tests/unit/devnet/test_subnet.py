"""The stand-in subnet: the same calls give the same bytes, in the real format, under its own root alone."""

from __future__ import annotations

from hashlib import sha256

import pytest

from attestation.consensus.certificate import parse_certificate, verify_certificate
from attestation.consensus.hashtree import Absent, Found, Unknown
from attestation.consensus.refusals import ConsensusRefused
from attestation.consensus.roots import MAINNET_ROOT_KEY
from devnet.misbehaviour import Misbehaviour
from devnet.statetree import Tree, digest, uleb128, witness
from devnet.subnet import DER_PREFIX, GATEWAY, NEIGHBOUR, RangesLayout, Subnet

NOW = 1_700_000_000_000_000_000
DATA = sha256(b"data").digest()


@pytest.mark.parametrize("layout", RangesLayout)
@pytest.mark.parametrize("delegated", [True, False])
def test_its_certificates_verify_under_its_root_and_not_under_the_mainnets(
    layout: RangesLayout, delegated: bool
) -> None:
    subnet = Subnet(b"seed", layout=layout, delegated=delegated)
    certificate = parse_certificate(subnet.certify(GATEWAY, DATA, NOW))
    verified = verify_certificate(certificate, root_key=subnet.root_key, canister=GATEWAY)
    assert (verified.certified_data(), verified.time_ns) == (DATA, NOW)
    assert verified.subnet == (subnet.subnet_id if delegated else None)
    with pytest.raises(ConsensusRefused):
        verify_certificate(certificate, root_key=MAINNET_ROOT_KEY, canister=GATEWAY)


def test_a_seed_decides_every_byte() -> None:
    assert Subnet(b"a").certify(GATEWAY, DATA, NOW) == Subnet(b"a").certify(GATEWAY, DATA, NOW)
    assert Subnet(b"a").root_key != Subnet(b"b").root_key
    assert Subnet(b"a").root_key != MAINNET_ROOT_KEY


def test_a_reply_is_certified_under_its_request_id() -> None:
    subnet = Subnet(b"replies")
    request_id = sha256(b"request").digest()
    raw = subnet.reply(GATEWAY, request_id, b"DIDL\x00\x00", NOW)
    verified = verify_certificate(parse_certificate(raw), root_key=subnet.root_key, canister=GATEWAY)
    assert verified.lookup((b"request_status", request_id, b"status")) == Found(b"replied")
    assert verified.lookup((b"request_status", request_id, b"reply")) == Found(b"DIDL\x00\x00")
    assert verified.lookup((b"request_status", request_id, b"reject_code")) == Absent()


def test_a_rejection_is_certified_too() -> None:
    subnet = Subnet(b"replies")
    request_id = sha256(b"request").digest()
    raw = subnet.rejection(GATEWAY, request_id, 4, "no such method", time_ns=NOW)
    verified = verify_certificate(parse_certificate(raw), root_key=subnet.root_key, canister=GATEWAY)
    assert verified.lookup((b"request_status", request_id, b"status")) == Found(b"rejected")
    assert verified.lookup((b"request_status", request_id, b"reject_code")) == Found(b"\x04")


@pytest.mark.parametrize("lie", [Misbehaviour.WRONG_KEY, Misbehaviour.EMPTY_RANGES, Misbehaviour.NO_TIME])
def test_a_reply_can_be_bent_as_well(lie: Misbehaviour) -> None:
    subnet = Subnet(b"replies")
    with pytest.raises(ConsensusRefused):
        verify_certificate(
            parse_certificate(subnet.reply(GATEWAY, bytes(32), b"", NOW, misbehaviour=lie)),
            root_key=subnet.root_key,
            canister=GATEWAY,
        )


def test_a_witness_shows_what_was_asked_and_has_the_whole_trees_digest() -> None:
    tree: Tree = {b"a": b"1", b"b": {b"x": b"2", b"y": b"3"}, b"c": b"4"}
    whole = digest(witness(tree, [(b"a",), (b"b",), (b"c",)]))
    for paths in ([], [(b"b", b"y")], [(b"b", b"z")], [(b"0",)], [(b"d",)], [(b"a",), (b"c",)]):
        assert digest(witness(tree, paths)) == whole


def test_a_path_that_is_not_there_is_shown_to_be_absent() -> None:
    subnet = Subnet(b"absent", delegated=False)
    raw = subnet.certify(GATEWAY, DATA, NOW)
    verified = verify_certificate(parse_certificate(raw), root_key=subnet.root_key, canister=GATEWAY)
    assert verified.lookup((b"canister", GATEWAY, b"module_hash")) == Unknown()
    assert isinstance(verified.lookup((b"time",)), Found)


def test_numbers_are_leb128() -> None:
    known = {0: b"\x00", 127: b"\x7f", 128: b"\x80\x01", 624485: b"\xe5\x8e\x26"}
    assert {number: uleb128(number) for number in known} == known


def test_a_key_is_named_as_the_internet_computer_names_it() -> None:
    subnet = Subnet(b"seed")
    assert len(subnet.subnet_id) == 29
    assert len(DER_PREFIX + subnet.root_key) == 133
    assert GATEWAY != NEIGHBOUR
