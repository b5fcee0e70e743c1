"""The messages of RCAR: request, challenge, attestation, token, error. Parsed strictly, written one way.

Everything a sender chose is bounded before it is looked at; unknown members of the two messages a client sends are
refused where they could change the meaning, and ignored nowhere (docs/spec/key-release.md R1 to R5).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from attestation.evidence.kinds import TeeKind
from attestation.rcar.encodings import from_base64url, json_object, to_base64url, to_json
from attestation.rcar.errors import MessageRefused
from attestation.rcar.jwe import RecipientKey
from foundation.refusal import outline, shape, shown

VERSION: Final = "0.4.0"
REQUEST_BYTES_MAX: Final = 8 * 1024
CHALLENGE_BYTES_MAX: Final = 8 * 1024
ATTESTATION_BYTES_MAX: Final = 8 << 20
TOKEN_BYTES_MAX: Final = 256 * 1024
ADDITIONAL_CHARACTERS_MAX: Final = 256 * 1024
NONCE_BYTES: Final = 32
OURS: Final = "anchorhold"
COOKIE: Final = "kbs-session-id"
ERROR_TYPE: Final = "https://github.com/confidential-containers/kbs/errors/"


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """The first message. `commitment` is the thumbprint of the key that will attest: ours says it at once (R6)."""

    tee: TeeKind
    commitment: bytes | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `MessageRefused`, nothing else."""
        value = json_object("request", raw, REQUEST_BYTES_MAX)
        if value.keys() != {"version", "tee", "extra-params"}:
            raise MessageRefused("request.members", expected="version, tee and extra-params", got=outline(value))
        if value["version"] != VERSION:  # R1: exactly this one, since meanings changed between versions
            raise MessageRefused("request.version", expected=VERSION, got=shown(value["version"]))
        return cls(_kind(value["tee"]), _commitment(value["extra-params"]))

    def encode(self) -> bytes:
        ours = {} if self.commitment is None else {OURS: {"key": to_base64url(self.commitment)}}
        return to_json({"version": VERSION, "tee": self.tee.value, "extra-params": ours})


@dataclass(frozen=True, slots=True)
class Challenge:
    """The nonce, as text; `signature` is our broker's over it and the request."""

    nonce: str
    signature: bytes = b""

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `MessageRefused`, nothing else."""
        value = json_object("challenge", raw, CHALLENGE_BYTES_MAX)
        if value.keys() != {"nonce", "extra-params"}:
            raise MessageRefused("challenge.members", expected="nonce and extra-params", got=outline(value))
        nonce, extra = value["nonce"], value["extra-params"]
        if not isinstance(nonce, str):
            raise MessageRefused("challenge.nonce", expected="text", got=type(nonce).__name__)
        nonce_bytes(nonce)
        ours = extra.get(OURS) if isinstance(extra, dict) else None
        if not isinstance(ours, dict):
            return cls(nonce)
        return cls(nonce, from_base64url("challenge.signature", ours.get("signature"), bytes_max=64))

    def encode(self) -> bytes:
        ours = {OURS: {"signature": to_base64url(self.signature)}} if self.signature else {}
        return to_json({"nonce": self.nonce, "extra-params": ours})


@dataclass(frozen=True, slots=True)
class Attestation:
    """Runtime data and evidence. The texts that a quote binds are kept exactly as they came."""

    nonce: str
    key: RecipientKey
    jwk: Mapping[str, str]
    primary: Mapping[str, object]
    additional: str

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `MessageRefused`, nothing else."""
        value = json_object("attestation", raw, ATTESTATION_BYTES_MAX)
        if (
            unread := value.pop("init-data", None)
        ) is not None:  # R5: nobody here would compare it with what was launched
            raise MessageRefused("attestation.init-data", expected="none", got=shape(unread))
        if value.keys() != {"runtime-data", "tee-evidence"}:
            raise MessageRefused("attestation.members", expected="runtime-data and tee-evidence", got=outline(value))
        runtime = _members("attestation.runtime-data", value["runtime-data"], {"nonce", "tee-pubkey"})
        evidence = _members(
            "attestation.tee-evidence", value["tee-evidence"], {"primary_evidence", "additional_evidence"}
        )
        nonce, additional = runtime["nonce"], evidence["additional_evidence"]
        primary = evidence["primary_evidence"]
        if not isinstance(nonce, str) or len(nonce) > 128:
            raise MessageRefused("attestation.nonce", expected="short text", got=type(nonce).__name__)
        if not isinstance(additional, str) or len(additional) > ADDITIONAL_CHARACTERS_MAX or not _is_text(additional):
            raise MessageRefused("attestation.additional", expected="bounded text", got=type(additional).__name__)
        if not isinstance(primary, dict):
            raise MessageRefused("attestation.primary", expected="an object", got=type(primary).__name__)
        key = RecipientKey.parse(runtime["tee-pubkey"])
        return cls(nonce, key, key.jwk(), primary, additional)

    def encode(self) -> bytes:
        return to_json(
            {
                "runtime-data": {"nonce": self.nonce, "tee-pubkey": dict(self.jwk)},
                "tee-evidence": {"primary_evidence": dict(self.primary), "additional_evidence": self.additional},
            }
        )


def encode_token(token: str) -> bytes:
    return to_json({"token": token})


def parse_token(raw: bytes) -> str:
    value = json_object("token", raw, TOKEN_BYTES_MAX)
    token = value.get("token")
    if value.keys() != {"token"} or not isinstance(token, str):
        raise MessageRefused("token.members", expected="a token", got=outline(value))
    return token


def encode_error(code: str, detail: str) -> bytes:
    """What a client is told: a stable code and one line, never what the evidence said."""
    return to_json({"type": f"{ERROR_TYPE}{code}", "detail": detail})


def nonce_text(nonce: bytes) -> str:
    return base64.b64encode(nonce).decode("ascii")


def nonce_bytes(nonce: str) -> bytes:
    """Raises `MessageRefused` unless it is 32 bytes in padded base64."""
    try:
        raw = base64.b64decode(nonce.encode("ascii"), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != NONCE_BYTES or nonce_text(raw) != nonce:
        raise MessageRefused("challenge.nonce", expected=f"{NONCE_BYTES} bytes in base64", got=f"{len(raw)} bytes")
    return raw


def request_digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


def _members(what: str, value: object, names: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or value.keys() != names:
        raise MessageRefused(what, expected=" and ".join(sorted(names)), got=outline(value))
    return value


def _kind(name: object) -> TeeKind:
    if not isinstance(name, str) or name not in {kind.value for kind in TeeKind}:
        raise MessageRefused("request.tee", expected="a kind of TEE that is judged here", got=shown(name))
    return TeeKind(name)


def _commitment(extra: object) -> bytes | None:
    if extra == "" or extra is None:
        return None
    if not isinstance(extra, dict):
        raise MessageRefused("request.extra-params", expected="an object or an empty text", got=type(extra).__name__)
    ours = extra.get(OURS)
    if ours is None:
        return None
    if not isinstance(ours, dict) or ours.keys() != {"key"}:
        raise MessageRefused("request.extra-params", expected="a key's thumbprint", got=outline(ours))
    thumbprint = from_base64url("request.key", ours["key"], bytes_max=32)
    if len(thumbprint) != 32:
        raise MessageRefused("request.key", expected="32 bytes", got=len(thumbprint))
    return thumbprint


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
