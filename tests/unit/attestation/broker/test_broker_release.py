"""key-release.md R6 to R17: the right cell gets its key; whatever is wrong, alone, is denied by name, logged, and no
key byte leaves.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.broker.administration import add_secret, forget_secret, revoke, set_release
from attestation.broker.errors import BrokerRefused, Denied, StoreRefused, Unauthenticated, Unknown
from attestation.broker.session import SESSION_SECONDS, TOKEN_SECONDS, ReleaseState, RevocationKind, Terms, refuse_lax
from attestation.evidence.evidence_bundle import DeviceEvidence
from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.policy import document
from attestation.policy.ear import read_ear
from attestation.rcar.encodings import to_base64url
from attestation.rcar.errors import GrantRefused, MessageRefused, SealRefused
from attestation.rcar.evidence import attestation_of, bound_members, bundle_of
from attestation.rcar.grant import GrantPurpose, check_challenge, checked_context
from attestation.rcar.jwe import open_sealed
from attestation.rcar.messages import Attestation, Challenge, Request, nonce_bytes, request_digest
from attestation.report_data import Purpose, Statement
from attestation.tee.produce import release
from devnet.broker import measurement_of
from devnet.sim_snp import PatchLevels, SimulatedSnp
from devnet.tee import policy_document, simulated_snp
from foundation.secrecy import Secret
from measurements.reference import ReferenceValues
from tests.little_broker import (
    MODEL_KEY,
    MODEL_ROOT,
    NOW_NS,
    PLAIN,
    SECRETS,
    SERVICE_KEY,
    LittleBroker,
    LittleCell,
    MakeBroker,
    bent,
)
from tests.little_tee import CONFIG, KEYSET, MEASUREMENT, SEED, VALIDITY, snp_tee, tdx_tee

DEBUG = 1 << 19


@pytest.fixture
def little(tmp_path: Path, make_broker: MakeBroker) -> LittleBroker:
    return make_broker(tmp_path)


@pytest.mark.parametrize("make", [snp_tee, tdx_tee], ids=["snp", "tdx"])
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()], ids=["P-256", "P-521"])
def test_the_right_cell_gets_its_keys(
    tmp_path: Path, make: Callable, curve: ec.EllipticCurve, make_broker: MakeBroker
) -> None:
    tee = make()
    little = make_broker(tmp_path, tee)
    cell = LittleCell(tee, curve=curve).admitted(little.broker)
    for resource in (MODEL_KEY, SERVICE_KEY, PLAIN):
        context, secret = cell.open(cell.fetch(little.broker, resource), little.public)
        entry = little.last()
        assert secret == SECRETS[resource]
        assert (context.resource, context.release, context.model_root) == (resource, "little-1", MODEL_ROOT)
        assert (context.measurement, context.nonce) == (measurement_of(tee), nonce_bytes(cell.nonce))
        assert (context.decision, context.position, entry.kind) == (entry.digest, entry.position, "granted")
        assert (context.key, context.version) == (cell.key.thumbprint, 1)
    assert little.audit() == little.last().position


def test_the_token_says_what_was_judged(little: LittleBroker) -> None:
    cell = LittleCell(snp_tee())
    cell.ask(little.broker)
    claims = read_ear(cell.attest(little.broker), little.keys.token.public_key())
    assert claims["submods"]["cpu0"]["ear.status"] == "affirming"
    assert (claims["tee-pubkey"], claims["nonce"]) == (cell.key.jwk(), cell.nonce)


def _other_nonce(cell: LittleCell) -> None:
    cell.nonce = "A" * 43 + "="


def _other_key(cell: LittleCell) -> None:
    cookie, nonce = cell.cookie, cell.nonce
    cell.__post_init__()
    cell.cookie, cell.nonce = cookie, nonce


def attested(cell: LittleCell) -> dict:
    return json.loads(cell.attestation())


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
        cell.tee, cell.nonce, cell.key.jwk(), cell.keyset, cell.config, other_evidence=bound_members(other)
    )
    return attestation_of(bundle).encode()


TEE = snp_tee()
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


def expect_denied(little: LittleBroker, cell: LittleCell, code: str) -> None:
    assert (little.last().kind, little.last().details["code"]) == ("denied", code)
    for resource in SECRETS:
        with pytest.raises(Unauthenticated):
            little.broker.resource(cell.cookie, resource)
    with pytest.raises(Unauthenticated):
        cell.attest(little.broker)
    assert "granted" not in [entry.kind for entry in little.entries()]
    little.audit()


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
    terms = Terms(document.builtin("strict"), ReferenceValues.none(), {})
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


def test_a_model_key_is_for_its_model(little: LittleBroker) -> None:
    other = "default/model-key/other"
    add_secret(little.store, little.wrapping, other, Secret(b"another"), b"\x31" * 32, NOW_NS)
    cell = LittleCell(TEE).admitted(little.broker)
    with pytest.raises(Denied) as caught:
        cell.fetch(little.broker, other)
    assert caught.value.code == "grant.model-root"
    assert little.last().details["code"] == "grant.model-root"


def test_a_purpose_changed_in_the_store_does_not_open(little: LittleBroker) -> None:
    cell = LittleCell(TEE).admitted(little.broker)
    with little.store.engine.begin() as connection:
        connection.execute(sa.text("update secrets set purpose='resource' where resource=:r"), {"r": MODEL_KEY})
    with pytest.raises(Denied) as caught:
        cell.fetch(little.broker, MODEL_KEY)
    assert caught.value.code == "grant.purpose"


def test_an_unknown_resource_is_denied_and_logged(little: LittleBroker) -> None:
    cell = LittleCell(TEE).admitted(little.broker)
    for path in ("default/model-key/none", "default/model-key/none/more", "..", ""):
        with pytest.raises(Unknown):
            little.broker.resource(cell.cookie, path)
    assert little.last().details["code"] == "resource.unknown"


def test_a_revoked_secret_is_gone(little: LittleBroker) -> None:
    forget_secret(little.store, MODEL_KEY, NOW_NS)
    cell = LittleCell(TEE).admitted(little.broker)
    with pytest.raises(Unknown):
        cell.fetch(little.broker, MODEL_KEY)
    little.audit()


def test_a_rotated_secret_is_the_new_one(little: LittleBroker) -> None:
    add_secret(little.store, little.wrapping, MODEL_KEY, Secret(b"newer"), MODEL_ROOT, NOW_NS, rotate=True)
    cell = LittleCell(TEE).admitted(little.broker)
    context, secret = cell.open(cell.fetch(little.broker, MODEL_KEY), little.public)
    assert (secret, context.version) == (b"newer", 2)
    little.audit()


def test_a_session_attests_once_and_gets_each_resource_once(little: LittleBroker) -> None:
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    first, raw = cell.cookie, cell.attestation()
    cell.attest(little.broker, raw)
    with pytest.raises(Unauthenticated):
        little.broker.attest(first, raw)
    with pytest.raises(BrokerRefused):
        little.broker.attest(cell.cookie, raw)
    cell.fetch(little.broker, MODEL_KEY)
    with pytest.raises(Denied) as caught:
        cell.fetch(little.broker, MODEL_KEY)
    assert caught.value.code == "grant.repeated"


def test_a_replayed_attestation_is_of_no_use_in_another_session(little: LittleBroker) -> None:
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    raw = cell.attestation()
    cell.attest(little.broker, raw)
    again = LittleCell(TEE)
    again.ask(little.broker)
    with pytest.raises(Denied) as caught:
        again.attest(little.broker, raw)
    assert caught.value.code == "session.nonce"


def test_a_stolen_cookie_opens_nothing(little: LittleBroker) -> None:
    """Before the attestation it is bound to a key; after it, the name that was known is worth nothing; and what a
    cookie stolen later fetches is sealed to the cell."""
    cell, thief = LittleCell(TEE), LittleCell(TEE)
    cell.ask(little.broker)
    old = cell.cookie
    cell.attest(little.broker)
    with pytest.raises(Unauthenticated):
        little.broker.resource(old, MODEL_KEY)
    thief.cookie = cell.cookie
    sealed = thief.fetch(little.broker, MODEL_KEY)
    with pytest.raises(SealRefused):
        thief.open(sealed, little.public)
    victim = LittleCell(TEE)
    victim.ask(little.broker)
    thief.cookie, thief.nonce = victim.cookie, victim.nonce
    with pytest.raises(Denied) as caught:
        thief.attest(little.broker)
    assert caught.value.code == "session.key"


def test_of_concurrent_attests_one_wins(little: LittleBroker) -> None:
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    raw, cookie = cell.attestation(), cell.cookie

    def attest(_: int) -> str:
        try:
            little.broker.attest(cookie, raw)
        except Unauthenticated as refusal:
            return refusal.code
        return "admitted"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attest, range(8)))
    assert outcomes.count("admitted") == 1
    assert set(outcomes) <= {"admitted", "session.used", "session.unknown"}
    assert [entry.kind for entry in little.entries()].count("admitted") == 1


def test_a_token_expires(little: LittleBroker) -> None:
    cell = LittleCell(TEE).admitted(little.broker)
    little.now_ns += TOKEN_SECONDS * 10**9
    with pytest.raises(Unauthenticated):
        cell.fetch(little.broker, MODEL_KEY)


def test_the_broker_signs_what_it_asks_and_gives(little: LittleBroker, tmp_path: Path, make_broker: MakeBroker) -> None:
    request = Request(TEE.kind).encode()
    challenge = Challenge.parse(little.broker.auth(request).body)
    nonce = nonce_bytes(challenge.nonce)
    check_challenge(little.public, challenge.signature, nonce, request_digest(request))
    with pytest.raises(GrantRefused):
        check_challenge(little.public, challenge.signature, nonce, request_digest(b"another"))
    cell = LittleCell(TEE).admitted(little.broker)
    sealed = cell.fetch(little.broker, MODEL_KEY)
    assert checked_context(sealed, little.public).purpose is GrantPurpose.MODEL
    (tmp_path / "other").mkdir()
    other = make_broker(tmp_path / "other")
    with pytest.raises(GrantRefused):
        checked_context(sealed, other.public)


def test_no_member_of_a_sealed_grant_can_be_changed(little: LittleBroker) -> None:
    cell = LittleCell(TEE).admitted(little.broker)
    sealed = cell.fetch(little.broker, MODEL_KEY)
    for member in ("protected", "encrypted_key", "iv", "ciphertext", "tag"):
        text = getattr(sealed, member)
        changed = replace(sealed, **{member: ("B" if text[0] == "A" else "A") + text[1:]})
        with pytest.raises((GrantRefused, MessageRefused)):
            checked_context(changed, little.public)
        with pytest.raises((SealRefused, MessageRefused)):
            open_sealed(changed, cell.private)


@pytest.mark.parametrize(
    ("section", "field", "code"),
    [
        ("snp", "measurement", "policy.snp.measurement"),
        ("snp", "report_data", "policy.snp.report_data"),
        ("snp", "debug", "policy.snp.debug"),
        ("tdx", "mr_td", "policy.tdx.mr_td"),
        ("tdx", "report_data", "policy.tdx.report_data"),
        ("gpu", "nonce", "policy.gpu.nonce"),
    ],
)
def test_a_policy_that_does_not_look_is_refused(section: str, field: str, code: str) -> None:
    lax = f'name = "lax"\nabout = "x"\nextends = "strict"\n[{section}]\n{field} = {{ unchecked = "why not" }}\n'
    with pytest.raises(Denied) as caught:
        refuse_lax(document.parse(lax.encode()))
    assert caught.value.code == code


def test_the_built_in_policies(little: LittleBroker) -> None:
    refuse_lax(document.builtin("strict"))
    with pytest.raises(Denied):
        refuse_lax(document.builtin("platform"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version":"0.3.0","tee":"snp","extra-params":""}',
        b'{"version":"0.4.0","tee":"snp"}',
        b'{"version":"0.4.0","tee":"sgx","extra-params":""}',
        b'{"version":"0.4.0","tee":"snp","extra-params":3}',
        b'{"version":"0.4.0","tee":"snp","extra-params":"","more":1}',
        b" " * 9000,
        b'{"version":"0.4.0","version":"0.4.0","tee":"snp","extra-params":""}',
    ],
)
def test_what_is_no_request_is_refused(little: LittleBroker, raw: bytes) -> None:
    before = little.last()
    with pytest.raises(MessageRefused):
        little.broker.auth(raw)
    assert little.last() == before


def test_init_data_is_refused(little: LittleBroker) -> None:
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    value = attested(cell) | {"init-data": {"format": "json", "body": "{}"}}
    with pytest.raises(MessageRefused):
        Attestation.parse(json.dumps(value).encode())
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker, json.dumps(value).encode())
    expect_denied(little, cell, caught.value.code)


def test_a_device_rides_in_what_the_quote_binds(little: LittleBroker) -> None:
    """R8: reports of devices travel in the additional evidence and come out as they went in; one that is no report of
    a GPU is denied, and so is one added, left out or exchanged on the way."""
    devices = (DeviceEvidence(b"no report", b"no chain", (b"no manifest",)),)
    cell = LittleCell(TEE)
    cell.ask(little.broker)
    bundle = release(
        TEE, cell.nonce, cell.key.jwk(), KEYSET, CONFIG, devices=devices, other_evidence=bound_members(KEYSET, devices)
    )
    raw = attestation_of(bundle).encode()
    assert bundle_of(Attestation.parse(raw), TEE.kind) == bundle
    with pytest.raises(Denied) as caught:
        cell.attest(little.broker, raw)
    assert caught.value.code.startswith("gpu.")
    expect_denied(little, cell, caught.value.code)

    bare = LittleCell(TEE)
    bare.ask(little.broker)
    left_out = release(
        TEE, bare.nonce, bare.key.jwk(), KEYSET, CONFIG, devices=devices, other_evidence=bound_members(KEYSET)
    )
    with pytest.raises(Denied) as caught:
        bare.attest(little.broker, attestation_of(replace(left_out, devices=())).encode())
    assert caught.value.code == "bundle.statement"
