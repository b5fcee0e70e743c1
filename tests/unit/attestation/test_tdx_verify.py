"""Each proof of a TDX quote, spoiled alone in an otherwise sound simulated world, is missed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.errors import EvidenceRefused
from attestation.evidence.tdx_collateral import TcbStatus, TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.verify import tdx
from attestation.verify.tdx import INTEL_ROOT_SPKI, verify_tdx, verify_tdx_with_root_ca
from attestation.verify.verified import SEAL, Seal
from attestation.verify.verified_tdx import SecondOpinion, VerifiedEventLog, VerifiedTdx
from tests.unit.attestation.forge_tdx import (
    NOW,
    SEPT_VE_DISABLE,
    SGX_OID,
    Identity,
    QuoteParts,
    World,
    issue,
    new_key,
    qe_identity,
    revocations,
    sgx_extension,
    tcb_info,
)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def judge(world: World, quote: bytes, collateral: dict[str, str] | None, at: datetime = NOW) -> VerifiedTdx:
    endorsed = None if collateral is None else TdxCollateral.parse(json.dumps(collateral))
    return verify_tdx_with_root_ca(TdxQuote.parse(quote), endorsed, at=at, root_der=world.root.der)


def refusal(world: World, quote: bytes, collateral: dict[str, str] | None, at: datetime = NOW) -> tuple[str, str]:
    with pytest.raises(EvidenceRefused) as refused:
        judge(world, quote, collateral, at)
    return refused.value.stage, refused.value.code


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


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


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


def test_without_collateral_nobody_can_tell(world: World) -> None:  # evidence-tdx.md E68, E70
    assert refusal(world, world.quote(), None) == ("collateral", "tdx.collateral")
    # A spoiled quote is refused for what it is, collateral or not.
    assert refusal(world, world.quote(after_signing=flip(48)), None)[0] == "signature"


def two_signers(world: World) -> dict[str, str]:
    """The QE identity has a signer of its own, and that one is revoked."""
    other = issue("SIM other Signing", world.root, ca=None)
    theirs = world.collateral(signer=other)
    members = {name: value for name, value in theirs.items() if name.startswith("qe_identity")}
    return world.collateral(root_ca_crl=revocations(world.root, [other]).hex()) | members


OTHER = World()

COLLATERAL: dict[str, tuple[Callable[[World], dict[str, str]], tuple[str, str]]] = {
    "leaf revoked": (
        lambda w: w.collateral(pck_crl=revocations(w.authority, [w.leaf]).hex()),
        ("revoked", "tdx.pck_revoked"),
    ),
    "authority revoked": (
        lambda w: w.collateral(root_ca_crl=revocations(w.root, [w.authority]).hex()),
        ("revoked", "tdx.pck_ca_revoked"),
    ),
    "signer revoked": (
        lambda w: w.collateral(root_ca_crl=revocations(w.root, [w.signer]).hex()),
        ("revoked", "tdx.tcb_info_chain.revoked"),
    ),
    "signer of the qe identity alone revoked": (two_signers, ("revoked", "tdx.qe_identity_chain.revoked")),
    "root list forged": (
        lambda w: w.collateral(root_ca_crl=revocations(w.root, key=new_key()).hex()),
        ("chain", "tdx.root_crl.signature"),
    ),
    "root list of another name": (
        lambda w: w.collateral(
            root_ca_crl=revocations(w.root, name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])).hex()
        ),
        ("chain", "tdx.root_crl.signature"),
    ),
    "leaf list forged": (
        lambda w: w.collateral(pck_crl=revocations(w.authority, key=new_key()).hex()),
        ("chain", "tdx.pck_crl.signature"),
    ),
    "leaf list by the root": (
        lambda w: w.collateral(pck_crl=revocations(w.root).hex()),
        ("chain", "tdx.pck_crl.signature"),
    ),
    "a partial list": (
        lambda w: w.collateral(pck_crl=revocations(w.authority, partial=True).hex()),
        ("chain", "tdx.pck_crl.extension"),
    ),
    "a partial root list": (
        lambda w: w.collateral(root_ca_crl=revocations(w.root, partial=True).hex()),
        ("chain", "tdx.root_crl.extension"),
    ),
    "no root list": (lambda w: w.collateral(root_ca_crl=""), ("format", "tdx.root_crl")),
    "root list early": (
        lambda w: w.collateral(root_ca_crl=revocations(w.root, start=NOW + timedelta(1)).hex()),
        ("collateral", "tdx.root_crl.validity"),
    ),
    "no list": (lambda w: w.collateral(pck_crl=""), ("format", "tdx.pck_crl")),
    "root list late": (
        lambda w: w.collateral(root_ca_crl=revocations(w.root, end=NOW - timedelta(1)).hex()),
        ("collateral", "tdx.root_crl.validity"),
    ),
    "leaf list late": (
        lambda w: w.collateral(pck_crl=revocations(w.authority, end=NOW - timedelta(1)).hex()),
        ("collateral", "tdx.pck_crl.validity"),
    ),
    "leaf list early": (
        lambda w: w.collateral(pck_crl=revocations(w.authority, start=NOW + timedelta(1)).hex()),
        ("collateral", "tdx.pck_crl.validity"),
    ),
    "tcb info late": (
        lambda w: w.collateral(info=tcb_info(nextUpdate="2026-11-19T23:59:59Z")),
        ("collateral", "tdx.tcb_info_validity"),
    ),
    "tcb info early": (
        lambda w: w.collateral(info=tcb_info(issueDate="2026-11-20T00:00:01Z")),
        ("collateral", "tdx.tcb_info_validity"),
    ),
    "qe identity late": (
        lambda w: w.collateral(identity=qe_identity(nextUpdate="2026-11-19T23:59:59Z")),
        ("collateral", "tdx.qe_identity_validity"),
    ),
    "qe identity early": (
        lambda w: w.collateral(identity=qe_identity(issueDate="2026-11-20T00:00:01Z")),
        ("collateral", "tdx.qe_identity_validity"),
    ),
    "tcb info spaced otherwise": (
        lambda w: w.collateral(tcb_info=json.dumps(tcb_info())),
        ("signature", "tdx.tcb_info_signature"),
    ),
    "a chain of three": (
        lambda w: w.collateral(qe_identity_issuer_chain=w.signer.pem + w.root.pem + w.root.pem),
        ("chain", "tdx.qe_identity_chain"),
    ),
    "signer early": (
        lambda w: w.collateral(signer=issue("SIM TCB Signing", w.root, ca=None, start=NOW + timedelta(1))),
        ("collateral", "tdx.tcb_info_chain.validity"),
    ),
    "tcb info signed by another": (
        lambda w: w.collateral(tcb_info_signature=OTHER.collateral()["tcb_info_signature"]),
        ("signature", "tdx.tcb_info_signature"),
    ),
    "qe identity signed by another": (
        lambda w: w.collateral(qe_identity_signature=OTHER.collateral()["qe_identity_signature"]),
        ("signature", "tdx.qe_identity_signature"),
    ),
    "tcb info edited": (
        lambda w: w.collateral(tcb_info=json.dumps(tcb_info(tcbEvaluationDataNumber=99))),
        ("signature", "tdx.tcb_info_signature"),
    ),
    "signer of another root": (
        lambda w: w.collateral(tcb_info_issuer_chain=OTHER.signer.pem + OTHER.root.pem),
        ("chain", "tdx.tcb_info_chain.root"),
    ),
    "signer nobody issued": (
        lambda w: w.collateral(signer=issue("SIM TCB Signing", w.root, ca=None, forged=True)),
        ("chain", "tdx.tcb_info_chain.signature"),
    ),
    "signer late": (
        lambda w: w.collateral(signer=issue("SIM TCB Signing", w.root, ca=None, end=NOW - timedelta(1))),
        ("collateral", "tdx.tcb_info_chain.validity"),
    ),
    "signer unnamed": (lambda w: w.collateral(qe_identity_issuer_chain=""), ("collateral", "tdx.qe_identity_chain")),
    "another platform": (
        lambda w: w.collateral(info=tcb_info(fmspc="00906ED50001")),
        ("collateral", "tdx.tcb_info_platform"),
    ),
    "another pce": (lambda w: w.collateral(info=tcb_info(pceId="0001")), ("collateral", "tdx.tcb_info_platform")),
    "another enclave signer": (
        lambda w: w.collateral(identity=qe_identity(mrsigner="AB" * 32)),
        ("binding", "tdx.qe_mr_signer"),
    ),
    "another enclave product": (
        lambda w: w.collateral(identity=qe_identity(isvprodid=3)),
        ("binding", "tdx.qe_isv_prod_id"),
    ),
    "another enclave mode": (
        lambda w: w.collateral(identity=qe_identity(attributes="13" + "00" * 15)),
        ("binding", "tdx.qe_attributes"),
    ),
    "another enclave misc": (
        lambda w: w.collateral(identity=qe_identity(miscselect="00000001")),
        ("binding", "tdx.qe_misc_select"),
    ),
}


@pytest.mark.parametrize("name", COLLATERAL)
def test_collateral_that_does_not_hold_is_refused(world: World, name: str) -> None:  # evidence-tdx.md E69, E70, E71
    make, expected = COLLATERAL[name]
    assert refusal(world, world.quote(), make(world)) == expected


def test_the_qe_identity_masks_what_may_differ(world: World) -> None:  # evidence-tdx.md E71
    quote = world.quote(qe_attributes=b"\x15" + bytes(7) + b"\xe7" + bytes(7))
    assert judge(world, quote, world.collateral())
    masked = world.collateral(identity=qe_identity(miscselectMask="FFFFFFFE"))
    assert judge(world, world.quote(qe_misc=1), masked)


DATE = "2026-01-01T00:00:00Z"


def level(status: str, svn: int = 5, **tcb: Any) -> dict[str, Any]:
    base = tcb_info()["tcbLevels"][0]["tcb"]
    tdx_svns = [{"svn": svn}, {"svn": 1}, {"svn": 2}] + [{"svn": 0}] * 13
    return {
        "tcb": {**base, "tdxtcbcomponents": tdx_svns, **tcb},
        "tcbDate": DATE,
        "tcbStatus": status,
        "advisoryIDs": [f"INTEL-SA-{status}"],
    }


def module(status: str, svn: int = 5) -> list[dict[str, Any]]:
    one = tcb_info()["tdxModuleIdentities"][0]
    return [{**one, "tcbLevels": [{"tcb": {"isvsvn": svn}, "tcbDate": DATE, "tcbStatus": status}]}]


def enclave(status: str, svn: int = 4) -> dict[str, Any]:
    return qe_identity(tcbLevels=[{"tcb": {"isvsvn": svn}, "tcbDate": DATE, "tcbStatus": status}])


@pytest.mark.parametrize(
    "status",
    [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ],
)
def test_the_status_is_the_platforms(world: World, status: str) -> None:  # evidence-tdx.md E72
    verified = judge(world, world.quote(), world.collateral(info=tcb_info(tcbLevels=[level(status)])))
    assert verified.tcb.status.value == status
    assert verified.tcb.advisories == (f"INTEL-SA-{status}",)
    assert verified.second_opinion.status == status


def test_a_revoked_level_proves_nothing(world: World) -> None:  # evidence-tdx.md E73
    for collateral in (
        world.collateral(info=tcb_info(tcbLevels=[level("Revoked")])),
        world.collateral(info=tcb_info(tdxModuleIdentities=module("Revoked"))),
        world.collateral(identity=enclave("Revoked")),
    ):
        assert refusal(world, world.quote(), collateral) == ("revoked", "tdx.tcb_revoked")


def test_the_first_level_that_is_reached_counts(world: World) -> None:  # evidence-tdx.md E72
    info = tcb_info(tcbLevels=[level("UpToDate", pcesvn=12), level("OutOfDate", pcesvn=11)])
    assert judge(world, world.quote(), world.collateral(info=info)).tcb.platform is TcbStatus.OUT_OF_DATE


@pytest.mark.parametrize(
    "tcb",
    [
        {"pcesvn": 12},
        {"sgxtcbcomponents": [{"svn": 5}] * 15 + [{"svn": 6}]},
        {"tdxtcbcomponents": [{"svn": 5}, {"svn": 1}, {"svn": 3}] + [{"svn": 0}] * 13},
    ],
)
def test_a_platform_no_level_describes_is_unlisted(world: World, tcb: dict[str, Any]) -> None:  # evidence-tdx.md E72
    info = tcb_info(tcbLevels=[level("UpToDate", **tcb)])
    verified = judge(world, world.quote(), world.collateral(info=info))
    assert (verified.tcb.status, verified.tcb.platform) == (TcbStatus.UNLISTED, TcbStatus.UNLISTED)
    assert verified.second_opinion.declined.startswith("No matching TCB level")


def test_the_module_has_levels_of_its_own(world: World) -> None:  # evidence-tdx.md E72
    stale = world.collateral(info=tcb_info(tdxModuleIdentities=module("OutOfDate")))
    assert judge(world, world.quote(), stale).tcb.module is TcbStatus.OUT_OF_DATE
    assert judge(world, world.quote(), stale).tcb.status is TcbStatus.OUT_OF_DATE
    # The module's own number is judged by its identity, not by the platform's first component.
    low = world.quote(tee_tcb_svn=bytes([4, 1, 2]) + bytes(13))
    found = judge(world, low, world.collateral()).tcb
    assert (found.platform, found.module) == (TcbStatus.UP_TO_DATE, TcbStatus.UNLISTED)
    other = world.quote(tee_tcb_svn=bytes([9, 2, 2]) + bytes(13))
    assert judge(world, other, world.collateral()).tcb.module is TcbStatus.UNLISTED


def test_a_module_from_before_versions_is_judged_with_the_platform(world: World) -> None:  # evidence-tdx.md E72
    old = world.quote(tee_tcb_svn=bytes([5, 0, 2]) + bytes(13))
    flat = [{"svn": 5}, {"svn": 0}, {"svn": 2}] + [{"svn": 0}] * 13
    good = world.collateral(info=tcb_info(tcbLevels=[level("UpToDate", tdxtcbcomponents=flat)]))
    assert judge(world, old, good).tcb.status is TcbStatus.UP_TO_DATE
    newer = [{"svn": 6}, *flat[1:]]
    short = world.collateral(info=tcb_info(tcbLevels=[level("UpToDate", tdxtcbcomponents=newer)]))
    assert judge(world, old, short).tcb.status is TcbStatus.UNLISTED


def test_the_modules_signer_and_attributes_are_intels(world: World) -> None:  # evidence-tdx.md E72
    signed = world.quote(seam_signer=b"\1" * 48)
    assert refusal(world, signed, world.collateral()) == ("binding", "tdx.module_signer")
    debug = world.quote(seam_attributes=b"\1" + bytes(7))
    assert refusal(world, debug, world.collateral()) == ("binding", "tdx.module_attributes")


def test_the_worst_part_decides(world: World) -> None:  # evidence-tdx.md E72
    stale = world.collateral(identity=enclave("OutOfDate"))
    assert judge(world, world.quote(), stale).tcb.status is TcbStatus.OUT_OF_DATE
    both = world.collateral(info=tcb_info(tcbLevels=[level("ConfigurationNeeded")]), identity=enclave("OutOfDate"))
    assert judge(world, world.quote(), both).tcb.status is TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    older = world.collateral(identity=enclave("UpToDate", svn=5))
    assert judge(world, world.quote(), older).tcb.quoting_enclave is TcbStatus.UNLISTED


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [(SEPT_VE_DISABLE | 1, "Debug mode"), (0, "SEPT_VE_DISABLE"), (SEPT_VE_DISABLE | 1 << 29, "TD migration")],
)
def test_what_dcap_qvl_refuses_as_policy_is_kept_for_the_policy(
    world: World, attributes: int, reason: str
) -> None:  # evidence-tdx.md E74
    verified = judge(world, world.quote(attributes=attributes), world.collateral())
    assert verified.second_opinion.declined.startswith(reason)


def opine(monkeypatch: pytest.MonkeyPatch, opinion: SecondOpinion, *, simulated: bool) -> None:
    """dcap-qvl's answer replaced: the two verifiers agree on everything that can be forged here."""
    monkeypatch.setattr(tdx, "_second_opinion", lambda *_: opinion)
    if not simulated:
        build = tdx.TrustAnchor
        monkeypatch.setattr(tdx, "TrustAnchor", lambda name, spki, **_: build(name, spki, simulated=False))


@pytest.mark.parametrize(("status", "declined"), [("OutOfDate", ""), ("", "Invalid signature"), ("", "")])
def test_two_verifiers_that_disagree_refuse(
    world: World, monkeypatch: pytest.MonkeyPatch, status: str, declined: str
) -> None:  # evidence-tdx.md E74
    opine(monkeypatch, SecondOpinion(status, declined), simulated=False)
    assert refusal(world, world.quote(), world.collateral()) == ("not genuine", "tdx.second_opinion")


@pytest.mark.parametrize(
    "reason",
    ["Debug mode is enabled", "No matching TCB level found", "Invalid MR service TD", "Invalid QE auth data length"],
)
def test_a_reason_without_its_fact_does_not_excuse(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:  # evidence-tdx.md E74
    opine(monkeypatch, SecondOpinion("", reason), simulated=False)
    assert refusal(world, world.quote(), world.collateral()) == ("not genuine", "tdx.second_opinion")


@pytest.mark.parametrize(
    ("reason", "quote", "info"),
    [
        ("Debug mode is enabled", {"attributes": SEPT_VE_DISABLE | 1}, None),
        ("Invalid MR service TD", {"version": 5, "service_td": b"\1" * 48}, None),
        ("Invalid QE auth data length", {"auth_bytes": 0}, None),
        ("No matching TCB level found", {}, tcb_info(tcbLevels=[])),
    ],
)
def test_a_reason_with_its_fact_is_for_the_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: str, quote: dict[str, Any], info: dict[str, Any] | None
) -> None:  # evidence-tdx.md E74
    opine(monkeypatch, SecondOpinion("", reason), simulated=False)
    verified = judge(world, world.quote(**quote), world.collateral(info=info))
    assert verified.second_opinion.declined == reason


# evidence-tdx.md E74
def test_an_advised_relaunch_is_out_of_date(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opine(monkeypatch, SecondOpinion("TDRelaunchAdvised", ""), simulated=False)
    stale = world.collateral(info=tcb_info(tcbLevels=[level("OutOfDate")]))
    assert judge(world, world.quote(), stale).tcb.status is TcbStatus.OUT_OF_DATE
    assert refusal(world, world.quote(), world.collateral()) == ("not genuine", "tdx.second_opinion")


# evidence-tdx.md E75
def test_a_declined_simulated_quote_is_for_the_policy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opine(monkeypatch, SecondOpinion("", "Malformed"), simulated=True)
    assert judge(world, world.quote(), world.collateral()).second_opinion.declined == "Malformed"


def test_verified_types_are_made_by_the_verifier_alone(world: World) -> None:
    verified = judge(world, world.quote(), world.collateral())
    with pytest.raises(TypeError):
        replace(verified, seal=Seal())
    with pytest.raises(TypeError):
        VerifiedEventLog((), Seal())
    assert VerifiedEventLog((), SEAL).events == ()
