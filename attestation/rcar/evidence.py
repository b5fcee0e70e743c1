"""How evidence rides in an attestation: ours as a whole bundle in parts, other clients' in the forms they send.

    primary_evidence      what proves itself: report, certificates, lists, collateral, event log, manifests
    additional_evidence   what the quote binds: the statement, the keyset, the devices (key-release.md R8, R9)

A client that knows nothing of ours sends what Trustee's attesters do: an SNP report field by field with its chain,
or a TDX quote. Such a client proves a machine and a key, no keyset. Nothing here is believed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Final

from attestation.evidence.auxblob import TableEntry
from attestation.evidence.evidence_bundle import DeviceEvidence, EvidenceBundle, ReleaseTranscript
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import TeeFormat, TeeKind
from attestation.evidence.quoted import Quoted
from attestation.rcar.encodings import from_base64url, to_base64url
from attestation.rcar.errors import MessageRefused
from attestation.rcar.jwe import RecipientKey
from attestation.rcar.messages import Attestation, nonce_bytes
from attestation.report_data import STATEMENT_KEY, UnfitReportData, carried_statement
from foundation import cbor
from foundation.refusal import listed, outline, shape, shown

KEYSET_MEMBER: Final = "anchorhold-keyset"
DEVICES_MEMBER: Final = "anchorhold-devices"
PART_BYTES_MAX: Final = 5 << 20
DEVICES_BYTES_MAX: Final = 192 * 1024
_DEVICES: Final = cbor.Limits(bytes_max=DEVICES_BYTES_MAX, depth_max=2, items_max=64)
_MANIFESTS: Final = cbor.Limits(bytes_max=PART_BYTES_MAX, depth_max=2, items_max=64)
_CERTIFICATES: Final = {entry.name.lower(): entry for entry in TableEntry if entry is not TableEntry.CRL}
_OURS: Final = frozenset({"report", "certificates", "crls", "collateral", "event_log", "manifests"})


def bound_members(keyset: Keyset, devices: Sequence[DeviceEvidence] = ()) -> dict[str, str]:
    """What a cell adds to its additional evidence, so that the quote binds it."""
    members = {KEYSET_MEMBER: to_base64url(keyset.encode())}
    if devices:
        members[DEVICES_MEMBER] = to_base64url(cbor.encode([[each.report, each.chain] for each in devices]))
    return members


def attestation_of(bundle: EvidenceBundle) -> Attestation:
    """The message that carries a release bundle. Its additional evidence has `bound_members` already."""
    if bundle.release is None:
        raise MessageRefused(
            "evidence.purpose", expected="a release bundle", got="a bundle without a release transcript"
        )
    primary: dict[str, object] = {"report": to_base64url(bundle.report)}
    if bundle.certificates:
        primary["certificates"] = {entry.name.lower(): to_base64url(der) for entry, der in bundle.certificates.items()}
    if bundle.crls:
        primary["crls"] = [to_base64url(each) for each in bundle.crls]
    for name, raw in (("collateral", bundle.collateral), ("event_log", bundle.event_log)):
        if raw:
            primary[name] = to_base64url(raw)
    if any(device.manifests for device in bundle.devices):
        primary["manifests"] = to_base64url(cbor.encode([list(device.manifests) for device in bundle.devices]))
    sent = bundle.release
    key = RecipientKey.parse(dict(sent.tee_public_key))
    return Attestation(sent.nonce, key, key.jwk(), primary, sent.additional_evidence)


def is_ours(attestation: Attestation) -> bool:
    """Whether the additional evidence has a statement of ours, whatever it says."""
    try:
        members = json.loads(attestation.additional)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and STATEMENT_KEY in members


def bundle_of(attestation: Attestation, kind: TeeKind) -> EvidenceBundle:
    """The bundle an attestation of ours amounts to. Raises `MessageRefused` or `FormatRefused`, nothing else.

    The configuration and the kind come from the statement, so that verification compares them with what is quoted.
    """
    try:
        statement = carried_statement(attestation.additional, attestation.nonce)
    except UnfitReportData as refusal:
        raise MessageRefused(refusal.code, expected=refusal.expected, got=refusal.got) from refusal
    members = json.loads(attestation.additional)
    keyset = Keyset.parse(from_base64url("evidence.keyset", members.get(KEYSET_MEMBER), bytes_max=8 * 1024))
    if attestation.primary.keys() - _OURS:
        raise MessageRefused("evidence.members", expected=", ".join(sorted(_OURS)), got=listed(attestation.primary))
    quoted = _quoted(attestation.primary, kind)
    bundle = EvidenceBundle(
        kind=kind,
        report=quoted.report,
        nonce=nonce_bytes(attestation.nonce),
        keyset=keyset,
        measured_config=statement.measured_config,
        release=ReleaseTranscript(attestation.nonce, attestation.jwk, attestation.additional),
        certificates=quoted.certificates,
        crls=quoted.crls,
        collateral=quoted.collateral,
        event_log=quoted.event_log,
        devices=_devices(members.get(DEVICES_MEMBER), attestation.primary.get("manifests")),
    )
    return EvidenceBundle.parse(bundle.encode())  # every bound of a bundle, in the one place that knows them


def plain_quoted(attestation: Attestation, kind: TeeKind) -> Quoted:
    """The evidence of a client that speaks the protocol alone. Raises `MessageRefused`, nothing else."""
    match kind.format:
        case TeeFormat.SNP:
            return _plain_snp(attestation.primary, kind)
        case TeeFormat.TDX:
            return _plain_tdx(attestation.primary, kind)


def _quoted(primary: Mapping[str, object], kind: TeeKind) -> Quoted:
    certificates, crls = primary.get("certificates", {}), primary.get("crls", [])
    if not isinstance(certificates, dict) or not certificates.keys() <= _CERTIFICATES.keys():
        raise MessageRefused("evidence.certificates", expected=" or ".join(_CERTIFICATES), got=outline(certificates))
    if not isinstance(crls, list) or len(crls) > 4:
        raise MessageRefused("evidence.crls", expected="at most 4 lists", got=shape(crls))
    return Quoted(
        kind,
        _part("report", primary.get("report")),
        {_CERTIFICATES[name]: _part("certificate", text) for name, text in certificates.items()},
        tuple(_part("crl", each) for each in crls),
        _part("collateral", primary.get("collateral", "")),
        _part("event_log", primary.get("event_log", "")),
    )


def _devices(text: object, manifests: object) -> tuple[DeviceEvidence, ...]:
    if text is None:
        return ()
    given = _decoded("devices", text, _DEVICES)
    beside = [[] for _ in given] if manifests is None else _decoded("manifests", manifests, _MANIFESTS)
    if len(beside) != len(given):
        raise MessageRefused("evidence.manifests", expected="a list for each device", got=len(beside))
    return tuple(_device(device, held) for device, held in zip(given, beside, strict=True))


def _device(value: cbor.Value, manifests: cbor.Value) -> DeviceEvidence:
    match value, manifests:
        case [bytes(report), bytes(chain)], list() if all(isinstance(each, bytes) for each in manifests):
            return DeviceEvidence(report, chain, tuple(each for each in manifests if isinstance(each, bytes)))
        case _:
            raise MessageRefused(
                "evidence.devices",
                expected="[report, chain]",
                got=f"{outline(value)} with manifests {outline(manifests)}",
            )


def _decoded(what: str, text: object, limits: cbor.Limits) -> list[cbor.Value]:
    raw = from_base64url(f"evidence.{what}", text, bytes_max=limits.bytes_max)
    value = cbor.decode_or(MessageRefused, f"evidence.{what}", raw, limits)
    if not isinstance(value, list):
        raise MessageRefused(f"evidence.{what}", expected="a list", got=type(value).__name__)
    return value


def _part(what: str, text: object) -> bytes:
    return from_base64url(f"evidence.{what}", text, bytes_max=PART_BYTES_MAX)


# -- what other clients send

_SNP_PLACES: Final[Mapping[str, tuple[int, int]]] = {
    "version": (0x000, 4),
    "guest_svn": (0x004, 4),
    "policy": (0x008, 8),
    "vmpl": (0x030, 4),
    "sig_algo": (0x034, 4),
    "plat_info": (0x040, 8),
    "key_info": (0x048, 4),
}
_SNP_BYTES: Final[Mapping[str, tuple[int, int]]] = {
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "chip_id": (0x1A0, 64),
}
_SNP_TCBS: Final = {"current_tcb": 0x038, "reported_tcb": 0x180, "committed_tcb": 0x1E0, "launch_tcb": 0x1F0}
_SNP_BUILDS: Final = {"current": 0x1E8, "committed": 0x1EC}
_SNP_OPTIONAL: Final = {
    "cpuid_fam_id": (0x188, 1),
    "cpuid_mod_id": (0x189, 1),
    "cpuid_step": (0x18A, 1),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}
_SNP_CHAIN_MAX: Final = 4


def _plain_snp(primary: Mapping[str, object], kind: TeeKind) -> Quoted:
    """Field by field back into the bytes that were signed: the signature tells whether that was done right."""
    if not {"attestation_report", "cert_chain"} >= primary.keys() or "attestation_report" not in primary:
        raise MessageRefused("evidence.members", expected="attestation_report and cert_chain", got=listed(primary))
    fields = primary["attestation_report"]
    if not isinstance(fields, dict):
        raise MessageRefused("evidence.report", expected="an object", got=type(fields).__name__)
    report = bytearray(0x4A0)
    for name, (at, size) in _SNP_PLACES.items():
        _put(report, at, _number(name, fields.get(name), size))
    for name, (at, size) in _SNP_BYTES.items():
        _put(report, at, _octets(name, fields.get(name), size))
    for name, (at, size) in _SNP_OPTIONAL.items():
        if fields.get(name) is not None:
            _put(report, at, _number(name, fields.get(name), size))
    for name, at in _SNP_TCBS.items():
        _put(report, at, _tcb(name, fields.get(name)))
    for name, at in _SNP_BUILDS.items():
        build = _object(name, fields.get(name))
        _put(report, at, b"".join(_number(name, build.get(part), 1) for part in ("build", "minor", "major")))
    signature = _object("signature", fields.get("signature"))
    _put(report, 0x2A0, _octets("signature", signature.get("r"), 72) + _octets("signature", signature.get("s"), 72))
    return Quoted(kind, bytes(report), _plain_chain(primary.get("cert_chain")))


def _plain_chain(value: object) -> dict[TableEntry, bytes]:
    if value is None:
        return {}
    if not isinstance(value, list) or len(value) > _SNP_CHAIN_MAX:
        raise MessageRefused("evidence.chain", expected=f"at most {_SNP_CHAIN_MAX} certificates", got=shape(value))
    found: dict[TableEntry, bytes] = {}
    for each in value:
        entry = _object("chain", each)
        name = str(entry.get("cert_type")).lower()
        if name not in _CERTIFICATES:
            raise MessageRefused("evidence.chain", expected=" or ".join(_CERTIFICATES), got=shown(name))
        data = entry.get("data")
        found[_CERTIFICATES[name]] = _octets("chain", data, len(data) if isinstance(data, list) else 0)
    return found


def _plain_tdx(primary: Mapping[str, object], kind: TeeKind) -> Quoted:
    if not {"quote", "cc_eventlog"} >= primary.keys() or not isinstance(primary.get("quote"), str):
        raise MessageRefused(
            "evidence.members",
            expected="quote and cc_eventlog",
            got=f"{listed(primary)}, the quote {shape(primary.get('quote'))}",
        )
    try:
        return Quoted(kind, base64.b64decode(str(primary["quote"]).encode("ascii"), validate=True))
    except ValueError:
        raise MessageRefused(
            "evidence.quote", expected="base64", got=f"{len(str(primary['quote']))} characters of another form"
        ) from None


def _tcb(name: str, value: object) -> bytes:
    levels = _object(name, value)
    low = [_number(name, levels.get(part), 1) for part in ("bootloader", "tee")]
    high = [_number(name, levels.get(part), 1) for part in ("snp", "microcode")]
    if levels.get("fmc") is None:
        return b"".join(low) + bytes(4) + b"".join(high)
    return _number(name, levels["fmc"], 1) + b"".join(low) + high[0] + bytes(3) + high[1]


def _object(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise MessageRefused(f"evidence.{name}", expected="an object", got=type(value).__name__)
    return value


def _number(name: str, value: object, size: int) -> bytes:
    if type(value) is not int or not 0 <= value < 1 << 8 * size:
        raise MessageRefused(f"evidence.{name}", expected=f"a number of {size} bytes", got=type(value).__name__)
    return value.to_bytes(size, "little")


def _octets(name: str, value: object, size: int) -> bytes:
    if not isinstance(value, list) or len(value) != size or not 0 < size <= 8192:
        raise MessageRefused(f"evidence.{name}", expected=f"{size} numbers", got=type(value).__name__)
    if not all(type(each) is int and 0 <= each < 256 for each in value):
        raise MessageRefused(f"evidence.{name}", expected="bytes", got="numbers that are no bytes")
    return bytes(value)


def _put(report: bytearray, at: int, value: bytes) -> None:
    report[at : at + len(value)] = value
