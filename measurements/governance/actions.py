"""What can be decided, as the payload that a proposal carries and that executes.

    payload = Payload(position=1, previous=genesis, action=Adopt(manifest))
    raw = payload.encode()              Candid, which voters' dashboards can read; exactly one encoding is accepted
    Payload.parse(raw) == payload

The bytes are made once and travel as they are: through the proposal, the vote, the certified reply and the broker. A
digest is over those bytes, never over somebody's encoding of the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from foundation import candid
from foundation.candid import BLOB, NAT64, TEXT, CandidRefused, Record, Variant, Vec
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.document import PRINTABLE
from foundation.refusal import difference, disorder, listed, shown
from measurements.governance.charter import Charter
from measurements.governance.errors import PayloadRefused
from measurements.release.errors import ReleaseDocumentRefused
from measurements.release.manifest import VERSION, Manifest

DIGEST_TAG: Final = "anchorhold/governance/payload/v1"
FORMAT: Final = 2  # 1 had a height of grace beside the manifest, which now says itself where it begins
PAYLOAD_BYTES_MAX: Final = 60_000
REASON_CHARACTERS_MAX: Final = 500
CHIPS_MAX: Final = 256
CHIP_BYTES: Final = frozenset({8, 16, 64})  # Turin's chip id; a TDX platform's PPID; other chips' ids
RESOURCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(?:/[a-z0-9][a-z0-9._-]{0,63}){2}")

_ACTION: Final = Variant(
    {
        "adopt": Record({"manifest": TEXT}),
        "withdraw": Record({"version": TEXT, "manifest": BLOB, "reason": TEXT}),
        "revoke_chips": Record({"chips": Vec(BLOB), "reason": TEXT}),
        "rotate_key": Record({"resource": TEXT, "least_version": NAT64, "reason": TEXT}),
        "amend_charter": Record({"charter": TEXT}),
    }
)
PAYLOAD: Final = Record({"format": NAT64, "position": NAT64, "previous": BLOB, "action": _ACTION})


@dataclass(frozen=True, slots=True)
class Adopt:
    """This release may have keys for its blocks; what it supersedes may for those before them, and no longer."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Withdraw:
    """This release gets no key from now on, and never again."""

    version: str
    manifest: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class RevokeChips:
    chips: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RotateKey:
    """Versions of this secret below `least_version` are given to nobody from now on."""

    resource: str
    least_version: int
    reason: str


@dataclass(frozen=True, slots=True)
class AmendCharter:
    charter: Charter


Action: TypeAlias = Adopt | Withdraw | RevokeChips | RotateKey | AmendCharter


@dataclass(frozen=True, slots=True)
class Payload:
    """One step of a history: its place, what stood before it, and what it does."""

    position: int
    previous: bytes
    action: Action

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `PayloadRefused` or, for a document inside, `ReleaseDocumentRefused`; nothing else."""
        if len(raw) > PAYLOAD_BYTES_MAX:
            raise PayloadRefused("payload.size", expected=f"at most {PAYLOAD_BYTES_MAX} bytes", got=len(raw))
        try:
            [value] = candid.decode([PAYLOAD], raw)
        except CandidRefused as refusal:
            raise PayloadRefused("payload.candid", expected=refusal.expected, got=refusal.got) from refusal
        if value["format"] != FORMAT or not value["position"]:
            raise PayloadRefused(
                "payload.format",
                expected=f"format {FORMAT}, a position from 1 on",
                got=f"format {value['format']}, position {value['position']}",
            )
        if len(value["previous"]) != DIGEST_BYTES:
            raise PayloadRefused("payload.previous", expected=f"{DIGEST_BYTES} bytes", got=len(value["previous"]))
        payload = cls(value["position"], value["previous"], _action(*value["action"]))
        if payload.encode() != raw:  # V4: extra fields, other type tables, longer numbers
            raise PayloadRefused("payload.form", expected="its one encoding", got=difference(raw, payload.encode()))
        return payload

    def encode(self) -> bytes:
        return candid.encode(
            [PAYLOAD],
            [{"format": FORMAT, "position": self.position, "previous": self.previous, "action": _fields(self.action)}],
        )

    @property
    def digest(self) -> bytes:
        return payload_digest(self.encode())


def payload_digest(raw: bytes) -> bytes:
    return tagged_sha256(DIGEST_TAG, raw)


def describe(action: Action) -> tuple[str, str]:
    """The kind of an action and what it is about, for logs and lists."""
    match action:
        case Adopt(manifest):
            return "adopt", manifest.version
        case Withdraw(version):
            return "withdraw", version
        case RevokeChips(chips):
            return "revoke-chips", f"{len(chips)} chips"
        case RotateKey(resource, least):
            return "rotate-key", f"{resource} from version {least}"
        case AmendCharter(charter):
            return "amend-charter", charter.name


def _fields(action: Action) -> tuple[str, Mapping[str, object]]:
    match action:
        case Adopt(manifest):
            return "adopt", {"manifest": manifest.encode().decode("ascii")}
        case Withdraw(version, manifest_digest, reason):
            return "withdraw", {"version": version, "manifest": manifest_digest, "reason": reason}
        case RevokeChips(chips, reason):
            return "revoke_chips", {"chips": list(chips), "reason": reason}
        case RotateKey(resource, least_version, reason):
            return "rotate_key", {"resource": resource, "least_version": least_version, "reason": reason}
        case AmendCharter(charter):
            return "amend_charter", {"charter": charter.encode().decode("ascii")}


def _action(kind: str, value: Mapping[str, Any]) -> Action:
    match kind:
        case "adopt":
            return Adopt(Manifest.parse(_ascii(value["manifest"])))
        case "withdraw":
            return _withdraw(value)
        case "revoke_chips":
            return RevokeChips(_chips(value["chips"]), _reason(value["reason"]))
        case "rotate_key":
            return _rotate(value)
        case _:
            return AmendCharter(Charter.parse(_ascii(value["charter"])))


def _withdraw(value: Mapping[str, Any]) -> Withdraw:
    if not VERSION.fullmatch(value["version"]) or len(value["manifest"]) != DIGEST_BYTES:
        raise PayloadRefused(
            "payload.withdraw",
            expected="a version and its manifest's digest",
            got=f"version {shown(value['version'])}, {len(value['manifest'])} bytes",
        )
    return Withdraw(value["version"], value["manifest"], _reason(value["reason"]))


def _rotate(value: Mapping[str, Any]) -> RotateKey:
    if not RESOURCE.fullmatch(value["resource"]) or not 2 <= value["least_version"] < 1 << 31:
        raise PayloadRefused(
            "payload.rotate-key",
            expected="a resource, and a version from 2 on",
            got=f"{shown(value['resource'])}, version {value['least_version']}",
        )
    return RotateKey(value["resource"], value["least_version"], _reason(value["reason"]))


def _chips(chips: list[bytes]) -> tuple[bytes, ...]:
    if not 1 <= len(chips) <= CHIPS_MAX or any(len(chip) not in CHIP_BYTES for chip in chips):
        raise PayloadRefused(
            "payload.chips",
            expected=f"1 to {CHIPS_MAX} chip ids",
            got=f"{len(chips)} ids of {listed({len(chip) for chip in chips})} bytes",
        )
    if not all(map(any, chips)):  # V11: zeros are how a report hides its chip
        raise PayloadRefused("payload.chips", expected="chip ids", got="an id of zeros")
    if chips != sorted(set(chips)):
        raise PayloadRefused("payload.chips", expected="each chip once, in order", got=disorder(chips))
    return tuple(chips)


def _reason(text: str) -> str:
    if not 0 < len(text) <= REASON_CHARACTERS_MAX or not PRINTABLE.fullmatch(text):
        raise PayloadRefused("payload.reason", expected="a printable reason", got=f"{len(text)} characters")
    return text


def _ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ReleaseDocumentRefused("document.json", expected="ASCII", got=shown(text)) from None
