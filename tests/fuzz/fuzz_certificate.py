"""Invariant: whatever the bytes, parsing a certificate, an envelope, a hash tree or canister ranges ends in a
value or in ConsensusRefused; a parsed tree serialises to a tree of the same digest; and no certificate but
those of the seeds' signers ever verifies.
"""

from __future__ import annotations

from attestation.consensus import hashtree, ranges
from attestation.consensus.certificate import Certificate, open_envelope, parse_certificate, verify_certificate
from attestation.consensus.refusals import ConsensusRefused
from foundation.cbor import encode
from tests.little_subnet import (
    CANISTER,
    RANGE,
    ROOT,
    LittleState,
    flat_delegation,
    little_certificate,
    sharded_delegation,
)
from tests.little_subnet import ranges as encoded_ranges

_STATE = LittleState()
SEEDS: list[bytes] = [
    little_certificate(),
    little_certificate(delegation=sharded_delegation({RANGE[0]: encoded_ranges(RANGE)})),
    flat_delegation(),
    hashtree.serialise(_STATE.tree()),
    encoded_ranges(RANGE),
    encode({"certificate": little_certificate()}),
    encode({"certificate": little_certificate(), "tree": hashtree.to_cbor(_STATE.tree())}),
]
_SIGNED = {_STATE.tree().digest, parse_certificate(flat_delegation()).tree.digest}


def one_input(data: bytes) -> None:
    _certificate(data)
    _tree(data)
    try:
        for low, high in ranges.parse_ranges(data):
            assert low <= high
    except ConsensusRefused:
        pass


def _certificate(data: bytes) -> None:
    try:
        envelope = open_envelope(data)
        certificate: Certificate = parse_certificate(envelope.certificate)
        verified = verify_certificate(certificate, root_key=ROOT.public_key, canister=CANISTER)
    except ConsensusRefused:
        return
    # Pruned otherwise or not, a certificate that verifies is one of the two trees that were signed.
    assert verified.root_hash in _SIGNED


def _tree(data: bytes) -> None:
    try:
        tree = hashtree.parse(data)
    except ConsensusRefused:
        return
    again = hashtree.parse(hashtree.serialise(tree))
    assert again.digest == tree.digest
    for path, value in hashtree.leaves(tree):
        assert hashtree.lookup(tree, path) == hashtree.Found(value)
