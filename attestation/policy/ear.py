"""An appraisal as an EAR token: claims as the IETF's AR4SI vocabulary has them, in a JWT signed with ES256.

Each claim of ours feeds one of eight trustworthiness claims: 2 where what was looked at is affirmed, 0 where
nothing was looked at, 96 where something was not met. A submodule's status is no better than its worst
claim. Rule: docs/spec/evidence.md E138.

What it does not establish: more than the appraisal does. A reader who trusts the token trusts its signer's
policy, which the token names by id.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from attestation.errors import FormatRefused, SignatureRefused
from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from foundation.refusal import shape

PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
AFFIRMING: Final = 2
CONTRAINDICATED: Final = 96
NO_CLAIM: Final = 0
COMPONENT_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 1 << 20

VECTOR: Final = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)

# Which of the eight a claim speaks to, by the longest prefix of its code. What is not here speaks to `hardware`.
PLACES: Final[Mapping[str, str]] = {
    "snp.root": "instance-identity",
    "snp.key": "instance-identity",
    "snp.csp-id": "instance-identity",
    "snp.chip": "instance-identity",
    "snp.policy": "configuration",
    "snp.vmpl": "configuration",
    "snp.policy.ciphertext-hiding": "runtime-opaque",
    "snp.policy.page-swap-disabled": "runtime-opaque",
    "snp.platform.ciphertext-hiding": "runtime-opaque",
    "snp.platform.alias-check": "runtime-opaque",
    "snp.measurement": "executables",
    "snp.guest-svn": "executables",
    "snp.id-key": "executables",
    "snp.author-key": "executables",
    "snp.family-id": "executables",
    "snp.image-id": "executables",
    "snp.host-data": "configuration",
    "snp.report-data": "sourced-data",
    "tdx.root": "instance-identity",
    "tdx.ppid": "instance-identity",
    "tdx.fmspc": "instance-identity",
    "tdx.attributes": "configuration",
    "tdx.xfam": "configuration",
    "tdx.service-td": "configuration",
    "tdx.mr-config-id": "configuration",
    "tdx.mr-owner": "configuration",
    "tdx.mr-owner-config": "configuration",
    "tdx.mr-td": "executables",
    "tdx.rtmr0": "executables",
    "tdx.rtmr1": "executables",
    "tdx.rtmr2": "executables",
    "tdx.rtmr3": "executables",
    "tdx.event-log": "executables",
    "tdx.events": "executables",
    "tdx.report-data": "sourced-data",
    "gpu.root": "instance-identity",
    "gpu.device": "instance-identity",
    "gpu.driver": "executables",
    "gpu.vbios": "executables",
    "gpu.rims": "executables",
    "gpu.measurements": "executables",
    "gpu.nonce": "sourced-data",
    "bundle.nonce": "sourced-data",
}


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who appraises, as the token says it."""

    developer: str
    build: str


def ear_claims(
    appraisals: Mapping[str, tuple[Appraisal, Mapping[str, object]]],
    *,
    verifier: Verifier,
    issued_at: int,
    expires_at: int,
) -> dict[str, object]:
    """The token's claims: per submodule (`cpu0`, `gpu0`) an appraisal and the facts it was about."""
    return {
        "eat_profile": PROFILE,
        "iat": issued_at,
        "exp": expires_at,
        "ear.verifier-id": {"developer": verifier.developer, "build": verifier.build},
        "submods": {name: _submodule(appraisal, facts) for name, (appraisal, facts) in appraisals.items()},
    }


def trustworthiness(appraisal: Appraisal) -> dict[str, int]:
    """The eight claims: the worst of what was looked at under each, 0 where nothing was."""
    vector = dict.fromkeys(VECTOR, NO_CLAIM)
    for claim in appraisal.claims:
        place = place_of(claim.code)
        vector[place] = max(vector[place], _tier(claim))
    return vector


def place_of(code: str) -> str:
    """The trustworthiness claim a code speaks to; a code of an unknown kind speaks to `hardware`."""
    parts = code.split(".")
    for length in range(len(parts), 1, -1):
        place = PLACES.get(".".join(parts[:length]))
        if place is not None:
            return place
    return "hardware"


def sign_ear(claims: Mapping[str, object], key: ec.EllipticCurvePrivateKey) -> str:
    """A compact JWT over `claims`, signed with ES256 by `key`, which is on P-256."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("ES256 is signed with a key on P-256")
    signing_input = f"{_encode(_json({'alg': 'ES256', 'typ': 'JWT'}))}.{_encode(_json(claims))}"
    r, s = decode_dss_signature(key.sign(signing_input.encode("ascii"), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(COMPONENT_BYTES, "big") + s.to_bytes(COMPONENT_BYTES, "big")
    return f"{signing_input}.{_encode(signature)}"


def read_ear(token: str, key: ec.EllipticCurvePublicKey) -> dict[str, object]:
    """The claims of a token `key` signed. Raises `FormatRefused` or `SignatureRefused`.

    It does not look at `iat` or `exp`: whoever has a clock does.
    """
    parts = token.split(".")
    if len(token) > TOKEN_CHARACTERS_MAX or len(parts) != 3:
        raise FormatRefused("ear.form", expected="a compact JWT of bounded size", got=f"{len(parts)} parts")
    header, body, signature = _object(_decode(parts[0])), _decode(parts[1]), _decode(parts[2])
    # The algorithm is ours to choose, never the token's.
    if header.get("alg") != "ES256" or len(signature) != 2 * COMPONENT_BYTES:
        raise SignatureRefused("ear.algorithm", expected="ES256", got=header.get("alg"))
    r, s = (int.from_bytes(half, "big") for half in (signature[:COMPONENT_BYTES], signature[COMPONENT_BYTES:]))
    signing_input = f"{parts[0]}.{parts[1]}".encode("ascii")
    try:
        key.verify(encode_dss_signature(r, s), signing_input, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureRefused(
            "ear.signature", expected="signed by the key given", got="a signature that does not verify"
        ) from None
    return _object(body)


def _submodule(appraisal: Appraisal, facts: Mapping[str, object]) -> dict[str, object]:
    vector = trustworthiness(appraisal)
    return {
        "ear.status": _status(appraisal),
        "ear.trustworthiness-vector": vector,
        "ear.appraisal-policy-id": appraisal.policy_id,
        "ear.veraison.annotated-evidence": dict(facts),
        "anchorhold.claims": [
            {"code": claim.code, "rule": claim.rule, "standing": claim.standing.value} for claim in appraisal.claims
        ],
    }


def _status(appraisal: Appraisal) -> str:
    return "affirming" if appraisal.accepted else "contraindicated"


def _tier(claim: Claim) -> int:
    return {ClaimStanding.MET: AFFIRMING, ClaimStanding.NOT_MET: CONTRAINDICATED, ClaimStanding.UNCHECKED: NO_CLAIM}[
        claim.standing
    ]


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("utf-8")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_")
    except ValueError:
        raw = b""
    if not raw or _encode(raw) != text:  # one spelling per value
        raise FormatRefused("ear.base64", expected="canonical unpadded base64url", got=text[:24])
    return raw


def _object(raw: bytes) -> dict[str, object]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FormatRefused(
            "ear.json",
            expected="a JSON object",
            got=f"{len(raw)} bytes that are not JSON" if value is None else shape(value),
        )
    return value
