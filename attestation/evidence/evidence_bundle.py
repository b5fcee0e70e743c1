"""The evidence bundle: one file that holds everything needed to judge one quote offline.

Deterministic CBOR, a map with text keys; a member that does not apply is absent, never empty
(docs/spec/evidence-production.md E122, E123). It carries what the cell claims (its keys, its measured
configuration, the nonce it answered) beside the report that should bind the claims, and the certificates and
lists a verifier would otherwise have to fetch.

Parsed and not believed: `attestation.verify.evidence_bundle` checks that the report is genuine and binds the claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from attestation.errors import FormatRefused
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import Evidence, TeeFormat, TeeKind
from foundation import cbor
from foundation.refusal import outline, shape
from foundation.sized import digest32
from measurements.digests import ConfigurationDigest

VERSION = 1
BUNDLE_BYTES_MAX = 8 * 1024 * 1024
REPORT_BYTES_MAX = 32 * 1024
CERTIFICATE_BYTES_MAX = 8 * 1024
CRL_BYTES_MAX, CRLS_MAX = 256 * 1024, 4
COLLATERAL_BYTES_MAX = 1024 * 1024
EVENT_LOG_BYTES_MAX = 4 * 1024 * 1024
DEVICES_MAX, DEVICE_REPORT_BYTES_MAX, DEVICE_CHAIN_BYTES_MAX = 8, 16 * 1024, 32 * 1024
MANIFESTS_MAX, MANIFEST_BYTES_MAX = 4, 1024 * 1024
NONCE_BYTES_MIN, NONCE_BYTES_MAX = 16, 64
CONFIG_DIGEST_BYTES = 32
TEXT_BYTES_MAX = 256 * 1024
KEY_MEMBERS_MAX = 8

_LIMITS = cbor.Limits(bytes_max=BUNDLE_BYTES_MAX, depth_max=4, items_max=256)
_CERTIFICATES = {entry.name.lower(): entry for entry in TableEntry if entry is not TableEntry.CRL}

_T = TypeVar("_T")


class MalformedBundle(FormatRefused):
    """The bytes are no evidence bundle."""


@dataclass(frozen=True, slots=True)
class ReleaseTranscript:
    """What travelled in the RCAR handshake that a release quote binds: strings, exactly as they were sent."""

    nonce: str
    tee_public_key: Mapping[str, str]
    additional_evidence: str


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """A GPU's report, its certificate chain in PEM, and the manifests its measurements are held to."""

    report: bytes
    chain: bytes
    manifests: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceBundle:
    """A quote and all that goes with it. `release` is there for a release quote and absent for identity."""

    kind: TeeKind
    report: bytes
    nonce: bytes
    keyset: Keyset
    measured_config: ConfigurationDigest
    release: ReleaseTranscript | None = None
    certificates: Mapping[TableEntry, bytes] = field(default_factory=dict)
    crls: tuple[bytes, ...] = ()
    collateral: bytes = b""
    event_log: bytes = b""
    devices: tuple[DeviceEvidence, ...] = ()

    @classmethod
    def identity(
        cls, evidence: Evidence, nonce: bytes, keyset: Keyset, measured_config: ConfigurationDigest
    ) -> EvidenceBundle:
        """Around a quote over `identity_report_data` of the same nonce, keyset and configuration."""
        return cls(evidence.kind, evidence.report, nonce, keyset, measured_config)

    def encode(self) -> bytes:
        members: dict[str, cbor.Encodable] = {
            "version": VERSION,
            "kind": self.kind.value,
            "report": self.report,
            "nonce": self.nonce,
            "keyset": self.keyset.encode(),
            "measured_config": self.measured_config,
        }
        if self.release is not None:
            key = dict(self.release.tee_public_key)
            members["release"] = [self.release.nonce, key, self.release.additional_evidence]
        if self.certificates:
            members["certificates"] = {entry.name.lower(): der for entry, der in self.certificates.items()}
        optional: dict[str, cbor.Encodable] = {
            "collateral": self.collateral,
            "event_log": self.event_log,
            "crls": list(self.crls),
            "devices": [[gpu.report, gpu.chain, list(gpu.manifests)] for gpu in self.devices],
        }
        return cbor.encode(members | {name: value for name, value in optional.items() if value})

    @classmethod
    def parse(cls, raw: bytes) -> EvidenceBundle:
        """Raises `FormatRefused` (`MalformedBundle` or `MalformedKeyset`), nothing else."""
        members = _Members(raw)
        kind = _kind(members.take("kind", str))
        bundle = cls(
            kind=kind,
            report=members.sized("report", 1, REPORT_BYTES_MAX),
            nonce=members.sized("nonce", NONCE_BYTES_MIN, NONCE_BYTES_MAX),
            keyset=Keyset.parse(members.take("keyset", bytes)),
            measured_config=ConfigurationDigest(
                digest32(members.sized("measured_config", CONFIG_DIGEST_BYTES, CONFIG_DIGEST_BYTES))
            ),
            release=members.release(),
            certificates=members.certificates(),
            crls=members.blobs("crls", CRLS_MAX, CRL_BYTES_MAX),
            collateral=members.optional("collateral", COLLATERAL_BYTES_MAX),
            event_log=members.optional("event_log", EVENT_LOG_BYTES_MAX),
            devices=members.devices(),
        )
        members.finish()
        _fitting(bundle)
        return bundle


class _Members:
    """The members of the map, taken one by one; what is left over at the end is refused."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) > BUNDLE_BYTES_MAX:
            raise _refusal("size", f"at most {BUNDLE_BYTES_MAX} bytes", len(raw))
        try:
            value = cbor.decode(bytes(raw), _LIMITS)
        except cbor.CborRefused as refusal:
            raise _refusal("cbor", refusal.expected, refusal.got) from refusal
        if not isinstance(value, dict):
            raise _refusal("shape", "a map", type(value).__name__)
        self._left = dict(value)
        version = self._left.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise _refusal("version", VERSION, _shown(version))

    def take(self, name: str, kind: type[_T]) -> _T:
        value = self._left.pop(name, None)
        if not isinstance(value, kind):
            raise _refusal(name, kind.__name__, type(value).__name__)
        return value

    def sized(self, name: str, low: int, high: int) -> bytes:
        return _sized(name, self.take(name, bytes), low, high)

    def optional(self, name: str, high: int) -> bytes:
        return self.sized(name, 1, high) if name in self._left else b""

    def blobs(self, name: str, count_max: int, bytes_max: int) -> tuple[bytes, ...]:
        if name not in self._left:
            return ()
        values = self.take(name, list)
        if not 1 <= len(values) <= count_max:
            raise _refusal(name, f"1 to {count_max} values", len(values))
        return tuple(_sized(name, value, 1, bytes_max) for value in values)

    def certificates(self) -> dict[TableEntry, bytes]:
        if "certificates" not in self._left:
            return {}
        found: dict[TableEntry, bytes] = {}
        for name, der in self.take("certificates", dict).items():
            if name not in _CERTIFICATES:
                raise _refusal("certificates", " or ".join(_CERTIFICATES), _shown(name))
            found[_CERTIFICATES[name]] = _sized("certificates", der, 1, CERTIFICATE_BYTES_MAX)
        if not found:
            raise _refusal("certificates", "at least one certificate", "none")
        return found

    def devices(self) -> tuple[DeviceEvidence, ...]:
        if "devices" not in self._left:
            return ()
        values = self.take("devices", list)
        if not 1 <= len(values) <= DEVICES_MAX:
            raise _refusal("devices", f"1 to {DEVICES_MAX} devices", len(values))
        return tuple(_device(value) for value in values)

    def release(self) -> ReleaseTranscript | None:
        if "release" not in self._left:
            return None
        match self.take("release", list):
            case [str() as nonce, dict() as key, str() as additional] if (
                1 <= len(key) <= KEY_MEMBERS_MAX
                and len(nonce) <= 128
                and len(additional) <= TEXT_BYTES_MAX
                and all(isinstance(part, str) and len(part) <= 1024 for item in key.items() for part in item)
            ):
                return ReleaseTranscript(nonce, key, additional)
            case value:
                raise _refusal("release", "[nonce, key, additional evidence]", outline(value))

    def finish(self) -> None:
        if self._left:
            raise _refusal("member", "known members alone", _shown(next(iter(self._left))))


def _fitting(bundle: EvidenceBundle) -> None:
    """E123: endorsements belong to the format of the report; those of another kind would be dead weight."""
    is_snp = bundle.kind.format is TeeFormat.SNP
    for name, present, belongs in (
        ("certificates", bundle.certificates, is_snp),
        ("crls", bundle.crls, is_snp),
        ("collateral", bundle.collateral, not is_snp),
        ("event_log", bundle.event_log, not is_snp),
    ):
        if present and not belongs:
            raise _refusal(name, f"what belongs to a {bundle.kind.format.value}", shape(present))


def _device(value: cbor.Value) -> DeviceEvidence:
    match value:
        case [report, chain, list() as manifests] if len(manifests) <= MANIFESTS_MAX:
            return DeviceEvidence(
                _sized("devices", report, 1, DEVICE_REPORT_BYTES_MAX),
                _sized("devices", chain, 1, DEVICE_CHAIN_BYTES_MAX),
                tuple(_sized("devices", each, 1, MANIFEST_BYTES_MAX) for each in manifests),
            )
        case _:
            raise _refusal("devices", "[report, chain, [manifest, ...]]", outline(value))


def _kind(name: str) -> TeeKind:
    try:
        return TeeKind(name)
    except ValueError:
        raise _refusal("kind", "a known TEE kind", _shown(name)) from None


def _sized(name: str, value: cbor.Value, low: int, high: int) -> bytes:
    if not isinstance(value, bytes) or not low <= len(value) <= high:
        got = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise _refusal(name, f"{low} to {high} bytes", got)
    return value


def _shown(value: object) -> str:
    return repr(value)[:40]


def _refusal(code: str, expected: object, got: object) -> MalformedBundle:
    return MalformedBundle(f"bundle.{code}", expected=expected, got=got)
