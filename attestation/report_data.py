"""What a quote binds: the only place where a nonce and a keyset become the 64 bytes of `report_data`.

A *statement* says for which purpose, on which kind of TEE, over which nonce, for which keys and under which
measured configuration a quote was asked for. Two purposes never mix (docs/spec/evidence-production.md E118 to
E120):

    identity    anyone's nonce, shown to anyone    SHA-512(tag || statement), all 64 bytes
    release     a broker's nonce, for a key        RCAR: SHA-384(JCS{...}), then 16 zero bytes;
                                                   the statement rides in the additional evidence

    statement = dCBOR [1, purpose, TEE kind, nonce, keyset digest, measured configuration digest,
                       devices digest]

Pure: the same code makes the bytes inside the cell and recomputes them at whoever verifies. It establishes
nothing by itself; a verified quote whose report data equals what this computes binds what went in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NewType

from attestation.errors import EvidenceRefused
from attestation.evidence.keyset import KeysetDigest
from attestation.evidence.kinds import TeeKind
from foundation import cbor
from foundation.digests import DIGEST_BYTES, domain, tagged_sha256
from foundation.document import json_object
from foundation.refusal import difference, outline, shown
from foundation.sized import Digest32
from measurements.digests import ConfigurationDigest

DevicesDigest = NewType("DevicesDigest", Digest32)
"""Of every device report beside a quote."""

VERSION = 1
IDENTITY_TAG = "anchorhold/report-data/identity/v1"
DEVICES_TAG = "anchorhold/devices/v1"
DEVICE_NONCE_TAG = "anchorhold/device-nonce/identity/v1"
REPORT_DATA_BYTES = 64
RELEASE_NONCE_BYTES = 32
NONCE_BYTES_MIN, NONCE_BYTES_MAX = 16, 64
DEVICE_NONCE_BYTES = 32
ADDITIONAL_EVIDENCE_BYTES_MAX = 256 * 1024
STATEMENT_KEY = "anchorhold"
STATEMENT_BYTES_MAX = 512

_LIMITS = cbor.Limits(bytes_max=STATEMENT_BYTES_MAX, depth_max=1, items_max=8)


class UnfitReportData(EvidenceRefused):
    """An input that a statement cannot be made of, or a statement that does not parse."""

    stage: ClassVar[str] = "report-data"


def devices_digest(reports: Sequence[bytes]) -> DevicesDigest:
    """E121: one digest of every device report shown beside the quote, in order; also of there being none."""
    return DevicesDigest(tagged_sha256(DEVICES_TAG, cbor.encode(list(reports))))


NO_DEVICES = devices_digest(())


class Purpose(IntEnum):
    IDENTITY = 1
    RELEASE = 2


@dataclass(frozen=True, slots=True)
class Statement:
    """What a quote is asked to stand for. Raises `UnfitReportData` for a size that cannot be right."""

    purpose: Purpose
    kind: TeeKind
    nonce: bytes
    keyset: KeysetDigest
    measured_config: ConfigurationDigest
    devices: DevicesDigest = NO_DEVICES

    def __post_init__(self) -> None:
        _sized("nonce", self.nonce, NONCE_BYTES_MIN, NONCE_BYTES_MAX)
        _sized("keyset digest", self.keyset, DIGEST_BYTES, DIGEST_BYTES)
        _sized("measured configuration digest", self.measured_config, DIGEST_BYTES, DIGEST_BYTES)
        _sized("devices digest", self.devices, DIGEST_BYTES, DIGEST_BYTES)
        if self.purpose is Purpose.RELEASE:
            _sized("release nonce", self.nonce, RELEASE_NONCE_BYTES, RELEASE_NONCE_BYTES)

    def encode(self) -> bytes:
        return cbor.encode(
            [VERSION, int(self.purpose), self.kind.value, self.nonce, self.keyset, self.measured_config, self.devices]
        )

    @classmethod
    def parse(cls, raw: bytes) -> Statement:
        """Raises `UnfitReportData`, nothing else."""
        value = cbor.decode_or(UnfitReportData, "report-data.cbor", raw, _LIMITS)
        match value:
            case [
                int() as version,
                int() as purpose,
                str() as kind,
                bytes() as nonce,
                bytes() as keyset,
                bytes() as config,
                bytes() as devices,
            ] if version == VERSION:
                statement = cls(
                    purpose=_purpose(purpose),
                    kind=_kind(kind),
                    nonce=nonce,
                    keyset=KeysetDigest(_digest("keyset digest", keyset)),
                    measured_config=ConfigurationDigest(_digest("measured configuration digest", config)),
                    devices=DevicesDigest(_digest("devices digest", devices)),
                )
            case _:
                raise UnfitReportData("report-data.shape", expected="a statement", got=outline(value))
        if statement.encode() != raw:  # true and false count as numbers to Python, not to the encoding
            raise UnfitReportData(
                "report-data.shape", expected="numbers where they belong", got=difference(raw, statement.encode())
            )
        return statement


def identity_report_data(statement: Statement) -> bytes:
    """E119: the 64 bytes of a quote that says who this cell is, over a caller's nonce."""
    _of_purpose(statement, Purpose.IDENTITY)
    return hashlib.sha512(domain(IDENTITY_TAG) + statement.encode()).digest()


def additional_evidence(statement: Statement, others: Mapping[str, str] | None = None) -> str:
    """E120: the string that carries the statement beside other additional evidence (a GPU's), in JCS."""
    _of_purpose(statement, Purpose.RELEASE)
    members = dict(others or {})
    if STATEMENT_KEY in members:
        raise UnfitReportData(
            "report-data.member",
            expected=f"{STATEMENT_KEY!r} to be ours",
            got="additional evidence that has it already",
        )
    members[STATEMENT_KEY] = _base64url(statement.encode())
    return canonical_json(members)


def release_report_data(nonce: str, tee_public_key: Mapping[str, str], additional: str) -> bytes:
    """E120: RCAR's binding. `nonce` is the challenge's own string, `tee_public_key` the JWK that was sent.

    Takes the strings as they travelled, so that a broker recomputes what it received and not what it meant.
    """
    bound = canonical_json({"additional-evidence": additional, "nonce": nonce, "tee-pubkey": tee_public_key})
    return hashlib.sha384(bound.encode()).digest().ljust(REPORT_DATA_BYTES, b"\0")


def identity_device_nonce(nonce: bytes, keyset: KeysetDigest) -> bytes:
    """E121: what a GPU is asked to sign before an identity quote. 32 bytes."""
    return tagged_sha256(DEVICE_NONCE_TAG, cbor.encode([nonce, keyset]))


def release_device_nonce(nonce: str, tee_public_key: Mapping[str, str]) -> bytes:
    """E121: what a GPU is asked to sign before a release quote: RCAR's own rule."""
    bound = canonical_json({"nonce": nonce, "tee-pubkey": tee_public_key})
    return hashlib.sha384(bound.encode()).digest()[:DEVICE_NONCE_BYTES]


def carried_statement(additional: str, nonce: str) -> Statement:
    """The statement inside additional evidence, checked against the challenge it came with.

    Raises `UnfitReportData` if there is none, if it is not for a release, or if its nonce is another one.
    Only the caller knows whether keyset and configuration are the right ones.
    """
    # What another member holds is the business of whoever reads it.
    members = json_object(
        additional,
        "",
        _unfit_additional,
        bytes_max=ADDITIONAL_EVIDENCE_BYTES_MAX,
        called="additional evidence",
        floats=True,
    )
    member = members.get(STATEMENT_KEY)
    if not isinstance(member, str):
        raise _unfit_additional("", expected=f"a text under {STATEMENT_KEY}", got=shown(member))
    try:
        raw = base64.b64decode(_padded(member), altchars=b"-_", validate=True)
        challenge = base64.b64decode(nonce, validate=True)
    except ValueError as error:
        raise _unfit_additional("", expected="a statement and a nonce in base64", got=error) from error
    statement = Statement.parse(raw)
    if additional_member(statement) != member:
        raise UnfitReportData(
            "report-data.additional",
            expected="one encoding",
            got=difference(member.encode(), additional_member(statement).encode()),
        )
    _of_purpose(statement, Purpose.RELEASE)
    if statement.nonce != challenge:
        raise UnfitReportData("report-data.nonce", expected="the nonce of this challenge", got=statement.nonce.hex())
    return statement


def _unfit_additional(_code: str, *, expected: str, got: object) -> UnfitReportData:
    return UnfitReportData("report-data.additional", expected=expected, got=got)


def additional_member(statement: Statement) -> str:
    """The statement as it stands in the additional evidence: base64url without padding."""
    return _base64url(statement.encode())


def canonical_json(value: Mapping[str, str | Mapping[str, str]]) -> str:
    """RFC 8785 for objects of strings, two levels deep: all that is ever hashed here.

    Members in order of their UTF-16 code units; Python's own escapes are the RFC's. Refuses a lone surrogate.
    """
    ordered = {
        key: dict(sorted(member.items(), key=_utf16)) if isinstance(member, Mapping) else member
        for key, member in sorted(value.items(), key=_utf16)
    }
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnfitReportData("report-data.text", expected="UTF-8 text", got="a surrogate") from None
    return text


def _utf16(item: tuple[str, object]) -> bytes:
    return item[0].encode("utf-16-be", "surrogatepass")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


def _sized(what: str, value: bytes, low: int, high: int) -> None:
    if not low <= len(value) <= high:
        expected = f"{low} bytes" if low == high else f"{low} to {high} bytes"
        raise UnfitReportData("report-data.length", expected=f"{expected} of {what}", got=len(value))


def _digest(what: str, raw: bytes) -> Digest32:
    _sized(what, raw, DIGEST_BYTES, DIGEST_BYTES)
    return Digest32(raw)


def _of_purpose(statement: Statement, purpose: Purpose) -> None:
    if statement.purpose is not purpose:
        raise UnfitReportData("report-data.purpose", expected=purpose.name, got=statement.purpose.name)


def _purpose(number: int) -> Purpose:
    try:
        return Purpose(number)
    except ValueError:
        raise UnfitReportData("report-data.purpose", expected="a known purpose", got=number) from None


def _kind(name: str) -> TeeKind:
    try:
        return TeeKind(name)
    except ValueError:
        raise UnfitReportData("report-data.kind", expected="a known TEE kind", got=repr(name[:32])) from None
