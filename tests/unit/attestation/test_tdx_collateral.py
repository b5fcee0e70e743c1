"""Collateral of a TDX quote that is missing, spoiled, revoked or out of date."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.unit.attestation.forge_tdx import NOW, World, issue, new_key, qe_identity, revocations, tcb_info
from tests.unit.attestation.tdx_judging import flip, refusal


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
