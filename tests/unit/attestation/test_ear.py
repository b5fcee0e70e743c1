"""evidence.md E138: an appraisal as an EAR token."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceRefused, FormatRefused, SignatureRefused
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from attestation.policy.ear import PLACES, VECTOR, Verifier, ear_claims, place_of, read_ear, sign_ear, trustworthiness
from attestation.verify.facts import snp_facts
from measurements.reference import ReferenceValues
from tests.unit.attestation.forge import Forge

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
EVIDENCE = Forge().case().verify()
APPRAISAL = appraise(EVIDENCE, ReferenceValues.none(), document.builtin("strict"))
CLAIMS = ear_claims(
    {"cpu0": (APPRAISAL, snp_facts(EVIDENCE))},
    verifier=Verifier("https://example.org", "anchorhold 0.1.0"),
    issued_at=1000,
    expires_at=1300,
)
TOKEN = sign_ear(CLAIMS, KEY)


def appraisal(*claims: tuple[str, ClaimStanding]) -> Appraisal:
    return Appraisal("snp", "p", tuple(Claim(code, "E1", standing, "", "") for code, standing in claims))


def test_the_shape() -> None:  # evidence.md E138
    assert {key: CLAIMS[key] for key in ("iat", "exp", "ear.verifier-id")} == {
        "iat": 1000,
        "exp": 1300,
        "ear.verifier-id": {"developer": "https://example.org", "build": "anchorhold 0.1.0"},
    }
    assert CLAIMS["eat_profile"] == "tag:github.com,2024:confidential-containers/Trustee"
    submodule = CLAIMS["submods"]["cpu0"]  # type: ignore[index]
    assert submodule["ear.status"] == "contraindicated"
    assert submodule["ear.appraisal-policy-id"] == APPRAISAL.policy_id
    assert submodule["ear.veraison.annotated-evidence"] == snp_facts(EVIDENCE)
    assert list(submodule["ear.trustworthiness-vector"]) == list(VECTOR)
    assert len(submodule["anchorhold.claims"]) == len(APPRAISAL.claims)
    assert submodule["anchorhold.claims"][0] == {"code": "snp.root", "rule": "E140", "standing": "not met"}


def test_the_vector_is_the_worst_of_each_place() -> None:  # evidence.md E138
    vector = trustworthiness(
        appraisal(
            ("snp.measurement", ClaimStanding.MET),
            ("snp.policy.debug", ClaimStanding.NOT_MET),
            ("snp.policy.smt", ClaimStanding.MET),
            ("snp.chip", ClaimStanding.UNCHECKED),
            ("snp.tcb.order", ClaimStanding.MET),
        )
    )
    assert vector == {
        "instance-identity": 0,
        "configuration": 96,
        "executables": 2,
        "file-system": 0,
        "hardware": 2,
        "runtime-opaque": 0,
        "storage-opaque": 0,
        "sourced-data": 0,
    }


def test_the_status() -> None:  # evidence.md E138
    for standing, status in [(ClaimStanding.MET, "affirming"), (ClaimStanding.NOT_MET, "contraindicated")]:
        judged = appraisal(("snp.root", standing))
        claims = ear_claims({"cpu0": (judged, {})}, verifier=Verifier("d", "b"), issued_at=1, expires_at=2)
        assert claims["submods"]["cpu0"]["ear.status"] == status  # type: ignore[index]


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("snp.root", "instance-identity"),
        ("tdx.attributes.debug", "configuration"),
        ("tdx.rtmr2", "executables"),
        ("tdx.tcb.status", "hardware"),
        ("gpu.measurements.uncovered", "executables"),
        ("gpu.nonce", "sourced-data"),
        ("snp.chip.masked", "instance-identity"),
        ("snp.tcb.launch", "hardware"),
        ("snp.policy.debug", "configuration"),
        ("snp.policy.ciphertext-hiding", "runtime-opaque"),
        ("made.up", "hardware"),
        ("snp.measurement", "executables"),
        ("snp.report-data", "sourced-data"),
        ("snp.host-data", "configuration"),
    ],
)
def test_places(code: str, place: str) -> None:
    assert place_of(code) == place
    assert set(PLACES.values()) <= set(VECTOR)


def test_a_token_is_read_back_by_its_key_alone() -> None:  # evidence.md E138
    assert read_ear(TOKEN, KEY.public_key()) == json.loads(json.dumps(CLAIMS))
    with pytest.raises(SignatureRefused, match=r"ear\.signature"):
        read_ear(TOKEN, OTHER.public_key())


def test_the_header_is_the_usual_one() -> None:
    header = TOKEN.split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "ES256", "typ": "JWT"}


def test_a_key_on_another_curve_signs_nothing() -> None:
    with pytest.raises(ValueError, match="P-256"):
        sign_ear(CLAIMS, ec.generate_private_key(ec.SECP384R1()))


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "es256", None])
def test_the_algorithm_is_not_the_tokens_to_choose(algorithm: str | None) -> None:
    _, body, signature = TOKEN.split(".")
    with pytest.raises(SignatureRefused, match=r"ear\.algorithm"):
        read_ear(f"{encoded({'alg': algorithm})}.{body}.{signature}", KEY.public_key())


HEADER, BODY, SIGNATURE = TOKEN.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "..",
        f"{HEADER}.{BODY}",
        f"{TOKEN}.",
        f"{HEADER}.{BODY}.{SIGNATURE}=",
        f"{HEADER}.{BODY}\n.{SIGNATURE}",
        f"{HEADER}.é.{SIGNATURE}",
        f"{encoded([1])}.{BODY}.{SIGNATURE}",
        f"{encoded('x')}.{BODY}.{SIGNATURE}",
        f"AAAA.{BODY}.{SIGNATURE}",
        f"{HEADER}.{BODY}.+++{SIGNATURE[3:]}",
        f"{HEADER}.{'A' * (1 << 20)}.{SIGNATURE}",
    ],
)
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(FormatRefused, match=r"ear\."):
        read_ear(token, KEY.public_key())


def test_a_signature_is_two_numbers_of_32_bytes() -> None:
    assert len(base64.urlsafe_b64decode(SIGNATURE + "==")) == 64


def test_a_token_of_the_largest_size_is_looked_into() -> None:
    filler = "A" * ((1 << 20) - len(HEADER) - len(SIGNATURE) - 2)
    with pytest.raises(EvidenceRefused) as caught:
        read_ear(f"{HEADER}.{filler}.{SIGNATURE}", KEY.public_key())
    assert caught.value.code != "ear.form"


@pytest.mark.parametrize("length", [63, 65, 72])
def test_a_signature_of_another_size(length: int) -> None:
    signature = base64.urlsafe_b64encode(bytes(length)).rstrip(b"=").decode()
    with pytest.raises(SignatureRefused, match=r"ear\.algorithm"):
        read_ear(f"{HEADER}.{BODY}.{signature}", KEY.public_key())


@given(st.text(max_size=80) | st.lists(st.text(max_size=20), min_size=3, max_size=3).map(".".join))
def test_nothing_but_its_own_errors_leaves_the_reader(token: str) -> None:
    with pytest.raises(EvidenceRefused):
        read_ear(token, KEY.public_key())


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("AZaz09-_."))
def test_no_character_can_be_changed(index: int, character: str) -> None:
    changed = TOKEN[:index] + character + TOKEN[index + 1 :]
    if changed != TOKEN:
        with pytest.raises(EvidenceRefused):
            read_ear(changed, KEY.public_key())


def test_a_policy_change_changes_the_token() -> None:
    other = replace(APPRAISAL, policy_id="other")
    claims = ear_claims({"cpu0": (other, {})}, verifier=Verifier("d", "b"), issued_at=1, expires_at=2)
    assert claims["submods"]["cpu0"]["ear.appraisal-policy-id"] == "other"  # type: ignore[index]
