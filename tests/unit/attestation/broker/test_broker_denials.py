"""key-release.md R6 to R17: whatever is wrong, alone, is denied by name, logged, and no key byte leaves."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from attestation.broker.administration import revoke, set_release
from attestation.broker.errors import Denied, StoreRefused
from attestation.broker.session import SESSION_SECONDS, GrantTerms
from attestation.decision_log.words import ReleaseState, RevocationKind
from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.policy import document
from attestation.rcar.encodings import to_base64url
from attestation.rcar.evidence import attestation_of, bound_members
from attestation.rcar.messages import Challenge, nonce_bytes
from attestation.report_data import Purpose, Statement
from attestation.tee.produce import release
from devnet.sim_snp import PatchLevels, SimulatedSnp
from devnet.tee import policy_document, simulated_snp
from measurements.reference import ReferenceValues
from tests.little_broker import MODEL_KEY, NOW_NS, LittleBroker, LittleCell, bent
from tests.little_tee import CONFIG, KEYSET, MEASUREMENT, SEED, VALIDITY
from tests.unit.attestation.broker.denials import TEE, attested, expect_denied

DEBUG = 1 << 19


def _other_nonce(cell: LittleCell) -> None:
    cell.nonce = "A" * 43 + "="


def _other_key(cell: LittleCell) -> None:
    cookie, nonce = cell.cookie, cell.nonce
    cell.__post_init__()
    cell.cookie, cell.nonce = cookie, nonce


def _identity(cell: LittleCell) -> bytes:
    """A statement of the other purpose, in the place of ours."""
    value = attested(cell)
    statement = Statement(Purpose.IDENTITY, cell.tee.kind, nonce_bytes(cell.nonce), KEYSET.digest, CONFIG)
    members = json.loads(value["tee-evidence"]["additional_evidence"])
    members["anchorhold"] = to_base64url(statement.encode())
    value["tee-evidence"]["additional_evidence"] = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return json.dumps(value).encode()


def _report_data(cell: LittleCell) -> bytes:
    """A genuine report over other bytes: evidence of the same machine for another key."""
    value = attested(cell)
    other = LittleCell(cell.tee)
    other.nonce = cell.nonce
    value["tee-evidence"]["primary_evidence"] = attested(other)["tee-evidence"]["primary_evidence"]
    return json.dumps(value).encode()


def _report_bit(cell: LittleCell) -> bytes:
    value = attested(cell)
    primary = value["tee-evidence"]["primary_evidence"]
    raw = bytearray(base64.urlsafe_b64decode(primary["report"] + "=="))
    raw[0x90] ^= 1
    primary["report"] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return json.dumps(value).encode()


def _keyset(cell: LittleCell) -> bytes:
    """Another keyset than the statement's digest names, bound by the quote all the same."""
    other = Keyset((PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, b"\x09" * 32),))
    bundle = release(
        cell.tee,
        cell.nonce,
        cell.key.jwk(),
        cell.keyset,
        measured_config=cell.config,
        other_evidence=bound_members(other),
    )
    return attestation_of(bundle).encode()


WRONG: dict[str, tuple[Callable[[], LittleCell], Callable[[LittleCell], object] | None, str]] = {
    "measurement": (lambda: LittleCell(bent(TEE, measurement=b"\x4e" * 48)), None, "snp.measurement"),
    "debug": (lambda: LittleCell(bent(TEE, policy=TEE.fields.policy | DEBUG)), None, "snp.policy.debug"),
    "firmware": (lambda: LittleCell(bent(TEE, firmware=(1, 50, 1))), None, "snp.firmware"),
    "vmpl": (lambda: LittleCell(bent(TEE, vmpl=1)), None, "snp.vmpl"),
    "configuration": (lambda: LittleCell(TEE, config=b"\xc1" * 32), None, "release.config"),
    "nonce": (lambda: LittleCell(TEE), _other_nonce, "session.nonce"),
    "key": (lambda: LittleCell(TEE), _other_key, "session.key"),
    "purpose": (lambda: LittleCell(TEE), _identity, "report-data.purpose"),
    "report data": (lambda: LittleCell(TEE), _report_data, "bundle.report-data"),
    "a bit of the report": (lambda: LittleCell(TEE), _report_bit, "snp.signature"),
    "keyset": (lambda: LittleCell(TEE), _keyset, "bundle.statement"),
}


@pytest.mark.parametrize("what", WRONG)
def test_one_wrong_thing_is_denied_by_its_name(little: LittleBroker, what: str) -> None:
    make, bend, code = WRONG[what]
    cell = make()
    cell.ask(little.broker)
    raw = bend(cell) if bend else None
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker, raw if isinstance(raw, bytes) else None)
    assert caught.value.code == code
    expect_denied(little, cell, code)


def test_an_old_platform_is_denied(little: LittleBroker) -> None:
    tee = simulated_snp(SimulatedSnp.create(SEED, VALIDITY, tcb=PatchLevels(microcode=1)), MEASUREMENT)
    little = little.again(tee)
    cell = LittleCell(tee)
    cell.ask(little.broker)
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker)
    assert caught.value.code.startswith("snp.tcb.")
    expect_denied(little, cell, caught.value.code)


def test_evidence_of_another_kind_is_denied(little: LittleBroker) -> None:
    """A session opened for genuine SNP takes no simulated machine, nor one opened for TDX an SNP report."""
    for kind in ("snp", "simulated-tdx", "tdx"):
        cell = LittleCell(TEE)
        reply = little.broker.auth(json.dumps({"version": "0.4.0", "tee": kind, "extra-params": ""}).encode())
        cell.cookie, cell.nonce = reply.cookie, Challenge.parse(reply.body).nonce
        with pytest.raises(Denied) as caught:
            cell.attest(little.broker)
        expect_denied(little, cell, caught.value.code)
        assert caught.value.code in ("bundle.kind", "bundle.certificates", "bundle.crls", "bundle.statement")


def test_the_simulated_root_is_not_believed_where_it_was_not_given(little: LittleBroker) -> None:
    little.broker._judging = replace(little.broker._judging, simulated_root=None)
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker)
    expect_denied(little, cell, caught.value.code)


def test_a_stale_nonce_is_denied(little: LittleBroker) -> None:
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    little.now_ns += SESSION_SECONDS * 10**9
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker)
    assert caught.value.code == "session.expired"
    expect_denied(little, cell, "session.expired")


@pytest.mark.parametrize("kind", RevocationKind)
@pytest.mark.parametrize("when", ["before", "between"])
def test_what_is_revoked_gets_nothing(little: LittleBroker, kind: RevocationKind, when: str) -> None:
    cell = LittleCell(TEE)
    value = {
        RevocationKind.CHIP: TEE.platform.hardware_id,
        RevocationKind.MEASUREMENT: MEASUREMENT,
        RevocationKind.RELEASE: b"little-1",
        RevocationKind.KEY: KEYSET.digest,
    }[kind]
    cell.ask(little.broker)
    if when == "before":
        revoke(little.store, kind, value, NOW_NS)
        with pytest.raises(Denied) as caught:
            cell.attest(little.broker)
        expect_denied(little, cell, f"revoked.{kind.value}")
    else:
        cell.attest(little.broker)
        revoke(little.store, kind, value, NOW_NS)
        with pytest.raises(Denied) as caught:
            cell.fetch(little.broker, MODEL_KEY)
    assert caught.value.code == f"revoked.{kind.value}"
    assert little.last().details["code"] == f"revoked.{kind.value}"


def masked_is_taken(little: LittleBroker) -> None:
    """From here on by a policy that asks for no list of machines and lets a report hide its own."""
    lenient = (
        policy_document(TEE).decode() + 'chip_id = { unchecked = "any machine of this site" }\n'
        'masked_chip_id = "accept"\n'
    )
    little.broker._judging = replace(little.broker._judging, policy=document.parse(lenient.encode()))


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_revoked_chip_that_hides_its_id_gets_nothing(little: LittleBroker, when: str) -> None:
    """R11: CHIP_ID is the host's to mask; the HWID in the certificate is not."""
    masked_is_taken(little)
    hidden = bent(TEE, chip_masked=True)
    assert LittleCell(hidden).admitted(little.broker).fetch(little.broker, MODEL_KEY)
    cell = LittleCell(hidden)
    cell.ask(little.broker)
    if when == "between":
        cell.attest(little.broker)
    revoke(little.store, RevocationKind.CHIP, TEE.platform.hardware_id, NOW_NS)
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker) if when == "before" else cell.fetch(little.broker, MODEL_KEY)
    assert caught.value.code == "revoked.chip"


def test_a_chip_that_nobody_can_name_is_denied_once_any_is_revoked(little: LittleBroker) -> None:
    """R11: a VLEK's certificate names no chip, and a masked report neither."""
    terms = GrantTerms(document.builtin("strict"), ReferenceValues.none(), {})
    terms.refuse_revoked_chip(None)
    terms = replace(terms, revoked=frozenset({(RevocationKind.MEASUREMENT, b"\x01" * 48)}))
    terms.refuse_revoked_chip(None)
    terms = replace(terms, revoked=frozenset({(RevocationKind.CHIP, b"\x01" * 64)}))
    terms.refuse_revoked_chip(b"\x02" * 64)
    with pytest.raises(Denied) as caught:
        terms.refuse_revoked_chip(None)
    assert caught.value.code == "revoked.chip.unknown"


@pytest.mark.parametrize("size", [8, 64])
def test_zeros_cannot_be_revoked(little: LittleBroker, size: int) -> None:
    with pytest.raises(StoreRefused):
        revoke(little.store, RevocationKind.CHIP, bytes(size), NOW_NS)


@pytest.mark.parametrize("state", [ReleaseState.PROPOSED, ReleaseState.RETIRED])
def test_a_release_that_is_not_approved_gets_nothing(little: LittleBroker, state: ReleaseState) -> None:
    cell = LittleCell(TEE).admitted(little.broker)
    set_release(little.store, "little-1", state, NOW_NS)
    with pytest.raises(Denied, match="unapproved"):
        cell.fetch(little.broker, MODEL_KEY)
    late = LittleCell(TEE)
    late.ask(little.broker)
    with pytest.raises(Denied) as caught:
        late.attest(little.broker)
    assert caught.value.code == "release.unapproved"
    assert little.last().details["code"] == "release.unapproved"
