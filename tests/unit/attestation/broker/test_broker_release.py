"""key-release.md R6 to R17: the right cell gets its keys, each once, in its own session, sealed to it alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.broker.administration import add_secret, forget_secret
from attestation.broker.errors import BrokerRefused, Denied, Unauthenticated, UnknownResource
from attestation.broker.session import TOKEN_SECONDS, refuse_lax
from attestation.evidence.evidence_bundle import DeviceEvidence
from attestation.policy import document
from attestation.policy.ear import read_ear
from attestation.rcar.errors import GrantRefused, MessageRefused, SealRefused
from attestation.rcar.evidence import attestation_of, bound_members, bundle_of
from attestation.rcar.grant import GrantPurpose, check_challenge, checked_context
from attestation.rcar.jwe import open_sealed
from attestation.rcar.messages import Attestation, AuthRequest, Challenge, nonce_bytes, request_digest
from attestation.tee.produce import release
from devnet.broker import measurement_of
from foundation.secrecy import Secret
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
)
from tests.little_tee import CONFIG, KEYSET, snp_tee, tdx_tee
from tests.unit.attestation.broker.denials import TEE, attested, expect_denied


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


def test_a_model_key_is_for_its_model(little: LittleBroker) -> None:
    other = "default/model-key/other"
    add_secret(little.store, little.wrapping, other, Secret(b"another"), model_root=b"\x31" * 32, now_ns=NOW_NS)
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
        with pytest.raises(UnknownResource):
            little.broker.resource(cell.cookie, path)
    assert little.last().details["code"] == "resource.unknown"


def test_a_revoked_secret_is_gone(little: LittleBroker) -> None:
    forget_secret(little.store, MODEL_KEY, NOW_NS)
    cell = LittleCell(TEE).admitted(little.broker)
    with pytest.raises(UnknownResource):
        cell.fetch(little.broker, MODEL_KEY)
    little.audit()


def test_a_rotated_secret_is_the_new_one(little: LittleBroker) -> None:
    add_secret(
        little.store, little.wrapping, MODEL_KEY, Secret(b"newer"), model_root=MODEL_ROOT, now_ns=NOW_NS, rotate=True
    )
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
    request = AuthRequest(TEE.kind).encode()
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
        TEE,
        cell.nonce,
        cell.key.jwk(),
        KEYSET,
        measured_config=CONFIG,
        devices=devices,
        other_evidence=bound_members(KEYSET, devices),
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
        TEE,
        bare.nonce,
        bare.key.jwk(),
        KEYSET,
        measured_config=CONFIG,
        devices=devices,
        other_evidence=bound_members(KEYSET),
    )
    with pytest.raises(Denied) as caught:
        bare.attest(little.broker, attestation_of(replace(left_out, devices=())).encode())
    assert caught.value.code == "bundle.statement"
