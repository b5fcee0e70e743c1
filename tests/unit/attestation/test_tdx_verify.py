"""Each proof of a TDX quote, spoiled alone in an otherwise sound simulated world, is missed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import EvidenceRefused
from attestation.evidence.tdx_collateral import TcbStatus, TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.verify import tdx
from attestation.verify.tdx import INTEL_ROOT_SPKI, verify_tdx
from attestation.verify.verified import SEAL, Seal
from attestation.verify.verified_tdx import SecondOpinion, VerifiedEventLog
from tests.unit.attestation.forge_tdx import NOW, SGX_OID, Identity, QuoteParts, World, issue, new_key, sgx_extension
from tests.unit.attestation.tdx_judging import flip, judge, refusal


@pytest.mark.parametrize("version", [4, 5])
# evidence-tdx.md E75, E82
def test_a_sound_quote_is_genuine_and_says_whose_root_it_is_under(world: World, version: int) -> None:
    quote = world.quote(version=version, report_data=b"\x07" * 64)
    verified = judge(world, quote, world.collateral())
    assert verified.root.simulated
    assert verified.root.spki_sha256 == world.root.spki
    assert verified.quote_version == version
    assert verified.report.report_data == b"\x07" * 64
    assert (verified.report.mr_service_td is None) == (version == 4)
    assert verified.tcb.status is TcbStatus.UP_TO_DATE
    assert verified.second_opinion == SecondOpinion("UpToDate", "")
    assert (verified.pck.ppid, verified.pck.pce_svn) == (b"\x11" * 16, 11)
    assert verified.evaluation_number == 20  # the lower of the two documents
    assert verified.collateral_until == datetime(2034, 1, 1, tzinfo=UTC)  # the earlier of the two
    assert verified.verified_at == NOW
    assert verified.event_log is None


def test_zeros_behind_the_quote_are_padding(world: World) -> None:  # evidence-tdx.md E63
    bare = world.quote()
    padded = judge(world, bare + bytes(4096), world.collateral())
    assert padded.signed_digest == judge(world, bare, world.collateral()).signed_digest


def test_a_simulated_world_is_nothing_under_intels_root(world: World) -> None:  # evidence-tdx.md E66
    with pytest.raises(EvidenceRefused) as refused:
        verify_tdx(TdxQuote.parse(world.quote()), TdxCollateral.parse(json.dumps(world.collateral())), at=NOW)
    assert (refused.value.stage, refused.value.code) == ("chain", "tdx.pck_chain.root")


def test_the_name_of_intels_root_is_not_its_key() -> None:  # evidence-tdx.md E66
    assert INTEL_ROOT_SPKI.hex() == "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"
    posing = World(root=issue("Intel SGX Root CA", None, ca=1))
    collateral = TdxCollateral.parse(json.dumps(posing.collateral()))
    with pytest.raises(EvidenceRefused) as refused:
        verify_tdx(TdxQuote.parse(posing.quote()), collateral, at=NOW)
    assert refused.value.code == "tdx.pck_chain.root"


def test_intels_pre_production_root_cannot_be_handed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:  # evidence-tdx.md E66
    monkeypatch.setattr(tdx, "INTEL_PRE_PRODUCTION_ROOT_SPKI", world.root.spki)
    assert refusal(world, world.quote(), world.collateral()) == ("chain", "tdx.root_ca")


def leaf(world: World, **changes: Any) -> Identity:
    extension = changes.pop("extension", sgx_extension())
    extra = [(SGX_OID, extension, False)] if extension is not None else []
    arguments: dict[str, Any] = {"ca": None, "extra": extra, **changes}
    return issue("SIM PCK", arguments.pop("issuer", world.authority), **arguments)


KEY_USAGE = "2.5.29.15"
SIGNING, ENCIPHERMENT = b"\3\2\7\x80", b"\3\2\5\x20"


def renamed(identity: Identity, name: str) -> Identity:
    """The same key under another name."""
    return Identity(identity.key, issue(name, None, ca=0, key=identity.key).certificate)


CHAINS: dict[str, tuple[Callable[[World], Identity], tuple[str, str]]] = {
    "another issuer's key": (lambda w: leaf(w, forged=True), ("chain", "tdx.pck_chain.signature")),
    "issued by the root": (lambda w: leaf(w, issuer=w.root), ("chain", "tdx.pck_chain.signature")),
    "issued under another name": (
        lambda w: leaf(w, issuer=renamed(w.authority, "SIM other CA")),
        ("chain", "tdx.pck_chain.signature"),
    ),
    "a key that may not sign": (
        lambda w: leaf(w, usage=False, extra=[(SGX_OID, sgx_extension(), False), (KEY_USAGE, ENCIPHERMENT, True)]),
        ("chain", "tdx.pck_chain.key_usage"),
    ),
    "a CA as leaf": (lambda w: leaf(w, ca=0), ("chain", "tdx.pck_chain.role")),
    "an unknown critical extension": (
        lambda w: leaf(w, extra=[(SGX_OID, sgx_extension(), False), ("1.2.3.4", b"\5\0", True)]),
        ("chain", "tdx.pck_chain.extension"),
    ),
    "not yet valid": (lambda w: leaf(w, start=NOW + timedelta(1)), ("chain", "tdx.pck_chain.validity")),
    "expired": (lambda w: leaf(w, end=NOW - timedelta(1)), ("chain", "tdx.pck_chain.validity")),
    "no platform extension": (lambda w: leaf(w, extension=None), ("chain", "tdx.pck_chain.leaf")),
    "a key on another curve": (lambda w: leaf(w, key=new_key(ec.SECP384R1())), ("chain", "tdx.pck.key")),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_leaf_that_does_not_lead_to_the_root_is_refused(world: World, name: str) -> None:  # evidence-tdx.md E67
    make, expected = CHAINS[name]
    if name == "a key on another curve":

        def quote_of(identity: Identity) -> bytes:
            chain = identity.pem + world.authority.pem + world.root.pem
            return world.quote(chain=chain)
    else:

        def quote_of(identity: Identity) -> bytes:
            return world.quote(leaf=identity)

    assert refusal(world, quote_of(make(world)), world.collateral()) == expected


def test_the_authority_has_to_be_one(world: World) -> None:  # evidence-tdx.md E67
    for wrong, code in (
        (issue("Intel SGX PCK Platform CA", world.root, ca=None), "tdx.pck_chain.role"),
        (issue("Intel SGX PCK Platform CA", world.root, ca=0, end=NOW - timedelta(1)), "tdx.pck_chain.validity"),
        (issue("Intel SGX PCK Platform CA", None, ca=0), "tdx.pck_chain.signature"),
        (
            issue("Intel SGX PCK Platform CA", world.root, ca=0, usage=False, extra=[(KEY_USAGE, SIGNING, True)]),
            "tdx.pck_chain.key_usage",
        ),
    ):
        pck = leaf(world, issuer=wrong)
        quote = world.quote(leaf=pck, chain=pck.pem + wrong.pem + world.root.pem)
        assert refusal(world, quote, world.collateral()) == ("chain", code)


def test_a_root_may_forbid_the_path(world: World) -> None:  # evidence-tdx.md E67
    narrow = World(root=issue("SIM Root CA", None, ca=0))
    assert refusal(narrow, narrow.quote(), narrow.collateral()) == ("chain", "tdx.pck_chain.path_length")


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_chain_has_three_certificates(world: World, count: int) -> None:  # evidence-tdx.md E62
    pems = [world.leaf.pem, world.authority.pem, world.root.pem, world.root.pem][:count]
    quote = world.quote(chain="".join(pems) or "\n")
    assert refusal(world, quote, world.collateral()) == ("chain", "tdx.pck_chain")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pem: pem + "x",
        lambda pem: "x" + pem,
        lambda pem: pem + "\0\0",
        lambda pem: pem + "\n\n",
        lambda pem: pem.replace("-----\n-----BEGIN", "-----\n\n-----BEGIN"),
        lambda pem: pem.replace("MII", "MI?", 1),
        lambda pem: pem.replace("MII", "AAA", 1),
    ],
)
def test_a_chain_is_pem_and_nothing_else(world: World, spoil: Callable[[str], str]) -> None:  # evidence-tdx.md E62
    chain = world.leaf.pem + world.authority.pem + world.root.pem
    assert refusal(world, world.quote(chain=spoil(chain)), world.collateral()) == ("chain", "tdx.pck_chain")
    for end in ("", "\0", "\n", "\n\0"):
        assert judge(world, world.quote(chain=chain + end), world.collateral())


# Version 4: header 48, report 584, size 4; signature 64, key 64, type 2, size 4, QE report 384, signature 64.
SIGNED = {
    "header": (28, ("signature", "tdx.quote_signature")),
    "mr_td": (48 + 136, ("signature", "tdx.quote_signature")),
    "report_data": (48 + 520, ("signature", "tdx.quote_signature")),
    "signature": (636 + 3, ("signature", "tdx.quote_signature")),
    "attestation key": (636 + 64, ("binding", "tdx.attestation_key")),
    "qe report": (636 + 134 + 70, ("signature", "tdx.qe_report_signature")),
    "the key in the qe report": (636 + 134 + 320, ("signature", "tdx.qe_report_signature")),
    "qe report signature": (636 + 134 + 384, ("signature", "tdx.qe_report_signature")),
    "auth data": (636 + 134 + 384 + 64 + 2, ("binding", "tdx.attestation_key")),
}


@pytest.mark.parametrize("part", SIGNED)
def test_a_changed_byte_is_found_where_it_was_signed(world: World, part: str) -> None:  # evidence-tdx.md E68
    at, expected = SIGNED[part]
    assert refusal(world, world.quote(after_signing=flip(at)), world.collateral()) == expected


def test_the_qe_report_has_to_name_the_attestation_key(world: World) -> None:  # evidence-tdx.md E68
    assert refusal(world, world.quote(binding=bytes(32)), world.collateral()) == ("binding", "tdx.attestation_key")


def test_an_attestation_key_off_the_curve_is_malformed(world: World) -> None:  # evidence-tdx.md E68
    """Named by the QE report, so that nothing but the point itself is wrong."""
    quote = world.quote(attestation_key=b"\1" * 64)
    assert refusal(world, quote, world.collateral()) == ("format", "tdx.attestation_key")


class Talkative(World):
    """A quoting enclave that writes something behind the digest of the attestation key."""

    def _qe_report(self, p: QuoteParts, binding: bytes) -> bytes:
        return super()._qe_report(p, binding + b"\1")


def test_the_qe_report_says_nothing_behind_the_digest() -> None:  # evidence-tdx.md E68
    world = Talkative()
    assert refusal(world, world.quote(), world.collateral()) == ("binding", "tdx.attestation_key")


def test_verified_types_are_made_by_the_verifier_alone(world: World) -> None:
    verified = judge(world, world.quote(), world.collateral())
    with pytest.raises(TypeError):
        replace(verified, seal=Seal())
    with pytest.raises(TypeError):
        VerifiedEventLog((), Seal())
    assert VerifiedEventLog((), SEAL).events == ()
