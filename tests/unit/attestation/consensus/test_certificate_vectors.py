"""Real certificates, judged as their index says. They lie beside the project and are not part of it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from attestation.consensus import hashtree, principal
from attestation.consensus.certificate import VerifiedCertificate, parse_certificate, verify_certificate
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.refusals import ConsensusRefused, LookupRefused
from attestation.consensus.roots import MAINNET_ROOT_KEY

VECTORS = Path(__file__).resolve().parents[5] / "shared" / "vectors" / "icp"

POSITIVE: list[dict[str, Any]] = []
NEGATIVE: list[dict[str, Any]] = []
if VECTORS.is_dir():
    POSITIVE = json.loads((VECTORS / "index.json").read_text())["vectors"]
    NEGATIVE = json.loads((VECTORS / "neg" / "index.json").read_text())

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no certificate vectors at {VECTORS}")

# The stage each refusal comes from: an auditor is told where it failed, not only that it did.
STAGES = {
    "03_ivg37_sharded_pruned": "ranges",
    "15_local_dfx_not_mainnet": "signature",
    "n01_tampered_certified_data": "signature",
    "n03_sig_bitflip": "signature",
    "n04_sig_identity_point": "signature",
    "n07_delegation_removed": "signature",
    "n10_nested_delegation": "delegation",
    "n12_canister_out_of_range": "ranges",
    "n13_subnet_readstate_cert_for_canister": "ranges",
    "n15_trailing_bytes": "format",
    "n18_certified_data_pruned": "lookup",
    "n19_duplicate_map_key": "format",
}


def _named(entries: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=[entry["name"] for entry in entries])


def _read(entry: dict[str, Any]) -> bytes:
    return (VECTORS / entry["file"]).read_bytes()


def _verify(entry: dict[str, Any], cache: DelegationCache | None = None) -> VerifiedCertificate:
    return verify_certificate(
        parse_certificate(_read(entry)),
        root_key=MAINNET_ROOT_KEY,
        canister=principal.from_text(entry["effective_canister"]),
        cache=cache,
    )


@_named([entry for entry in POSITIVE if entry["expect"] == "valid"])
def test_a_real_certificate_says_what_its_index_says(entry: dict[str, Any]) -> None:
    cache = DelegationCache()
    for verified in (_verify(entry), _verify(entry, cache), _verify(entry, cache)):
        assert verified.root_hash.hex() == entry["root_hash"]
        assert verified.time_ns == entry["time_ns"]
        assert verified.canister is not None
        found = verified.lookup((b"canister", verified.canister, b"certified_data"))
        assert type(found).__name__ == entry["certified_data"]["lookup"]
        if isinstance(found, hashtree.Found):
            assert verified.certified_data().hex() == entry["certified_data"]["value"]
        delegation = entry["delegation"]
        assert (verified.delegation is None) == (delegation is None)
        if verified.delegation is not None:
            assert principal.to_text(verified.delegation.subnet) == delegation["subnet"]
            assert verified.delegation.tree.digest.hex() == delegation["root_hash"]
            assert verified.delegation.time_ns == delegation["time_ns"]
    leaves = dict(hashtree.leaves(parse_certificate(_read(entry)).tree))
    for leaf in entry["leaves_first6"]:
        shown = leaves[tuple(bytes.fromhex(label) for label in leaf["path_hex"])]
        assert shown.hex().startswith(leaf["value_hex"])


@_named([entry for entry in POSITIVE if entry["expect"] == "invalid"] + NEGATIVE)
def test_a_bad_certificate_is_refused_at_its_stage(entry: dict[str, Any]) -> None:
    with pytest.raises(ConsensusRefused) as caught:
        _verify(entry).certified_data()
    assert caught.value.stage == STAGES[entry["name"]]


def test_a_pruned_value_is_unknown_and_not_absent() -> None:
    entry = next(entry for entry in NEGATIVE if entry["name"] == "n18_certified_data_pruned")
    verified = _verify(entry)
    assert verified.canister is not None
    assert verified.lookup((b"canister", verified.canister, b"certified_data")) == hashtree.Unknown()
    with pytest.raises(LookupRefused) as caught:
        verified.certified_data()
    assert caught.value.code == "lookup.unknown"


@_named([entry for entry in POSITIVE if "data_tree_file" in entry])
def test_certified_data_is_the_digest_of_the_canister_s_own_tree(entry: dict[str, Any]) -> None:
    tree = hashtree.parse((VECTORS / entry["data_tree_file"]).read_bytes())
    assert tree.digest == _verify(entry).certified_data()
    assert tree.digest.hex() == entry["data_tree_root"]


def test_the_chain_of_vector_10_is_followed_from_the_root_key_to_its_entries() -> None:
    entry = next(entry for entry in POSITIVE if entry["name"].startswith("10_"))
    verified = _verify(entry)
    block = hashtree.parse((VECTORS / entry["data_tree_file"]).read_bytes())
    assert block.digest == verified.certified_data()
    # The first block: it links back to 32 zero bytes. Its own digest is what the next one would hold.
    assert hashtree.lookup(block, (b"certified_blocks", b"previous_hash")) == hashtree.Found(bytes(32))
    found = hashtree.find(block, (b"certified_blocks",))
    assert isinstance(found, hashtree.FoundTree)
    *listed, (last, _) = hashtree.leaves(found.tree)
    assert last == (b"previous_hash",)
    assert [int.from_bytes(path[0], "big") for path, _ in listed] == list(range(17))
    assert all(len(digest) == 32 for _, digest in listed)
    # Nothing is pruned, so the tree proves that there is no eighteenth entry.
    after = len(listed).to_bytes(4, "big")
    assert hashtree.lookup(block, (b"certified_blocks", after)) == hashtree.Absent()
    # An entry or the link changed in any bit is another block.
    for bit in (0, 255):
        changed = (int.from_bytes(listed[3][1], "big") ^ 1 << bit).to_bytes(32, "big")
        raw = hashtree.serialise(block).replace(listed[3][1], changed)
        assert hashtree.parse(raw).digest != verified.certified_data()


@_named([entry for entry in POSITIVE if "canister_sig_lookup" in entry])
def test_a_canister_signature_is_found_under_its_seed(entry: dict[str, Any]) -> None:
    tree = hashtree.parse((VECTORS / entry["data_tree_file"]).read_bytes())
    assert tree.digest == _verify(entry).certified_data()
    under_seed = hashtree.find(tree, (b"sig", sha256(bytes.fromhex(entry["seed_hex"])).digest()))
    assert isinstance(under_seed, hashtree.FoundTree)
    assert [value for _, value in hashtree.leaves(under_seed.tree)] == [b""]
