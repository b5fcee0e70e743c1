"""The GPU section of a policy, and the judgement of verified NVIDIA evidence under it.

Pure: (VerifiedGpu, ReferenceValues, GpuPolicy) -> claims. It never sees a certificate, a clock or a file.
Every field below is one rule of docs/spec/evidence-gpu.md and one claim of the appraisal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from attestation.policy.claims import Claim, Unchecked
from attestation.policy.fields import (
    OneOf,
    Required,
    believed_simulated_roots,
    integer,
    member_of,
    one_of,
    read_required,
    read_text,
    ruled,
    set_of,
)
from attestation.policy.rows import Row, judged, listed, plain, root, word
from attestation.verify.verified_gpu import RimKind, VerifiedGpu
from measurements.reference import ReferenceValues


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPolicy:
    """What a relying party wants of GPU evidence. No field has a default."""

    simulated_roots: frozenset[bytes] = believed_simulated_roots("E105")
    products: frozenset[str] = ruled(
        "E106", "a device whose measurements nobody studied", set_of(read_text), may_be_unchecked=False
    )
    devices: OneOf | Unchecked = ruled(
        "E106", "somebody else's device may answer in place of the one in the machine", one_of(32)
    )
    nonce: OneOf | Unchecked = ruled("E107", "an old report, or one of a device in another machine", one_of(32))
    revocation: Required | Unchecked = ruled(
        "E107",
        "a device known to be broken would go unnoticed; NVIDIA answers this on the network alone",
        read_required,
    )
    firmware_id: Required | Unchecked = ruled(
        "E108", "the report and the certificate speak of different firmware", read_required
    )
    driver_versions: frozenset[str] | Unchecked = ruled("E108", "a driver with known holes", set_of(read_text))
    vbios_versions: frozenset[str] | Unchecked = ruled("E108", "a VBIOS with known holes", set_of(read_text))
    rims: frozenset[RimKind] | Unchecked = ruled(
        "E109", "nothing says what the measurements should be", set_of(member_of(RimKind))
    )
    uncovered_measurements: frozenset[int] | Unchecked = ruled(
        "E109", "something was measured that no manifest speaks of", set_of(integer(0, 255))
    )


def _measured(evidence: VerifiedGpu) -> str:
    if evidence.rims is None:
        return "not compared"
    different = ", ".join(map(str, sorted(evidence.rims.differing)))
    return f"{len(evidence.rims.matched)} as stated" + (f", different at {different}" if different else "")


def _uncovered(evidence: VerifiedGpu) -> frozenset[int]:
    return frozenset(evidence.measurements) if evidence.rims is None else evidence.rims.uncovered


def _kinds(kinds: Iterable[RimKind], none: str) -> str:
    return ", ".join(sorted(kind.value for kind in kinds)) or none


CLAIMS: Final[tuple[Row[VerifiedGpu], ...]] = (
    root("gpu"),
    word("gpu.product", "products", lambda evidence: evidence.product),
    listed("gpu.device", "devices", "gpu.device", lambda evidence: evidence.device_id),
    listed("gpu.nonce", "nonce", "gpu.nonce", lambda evidence: evidence.nonce),
    Row(
        "gpu.revocation",
        "revocation",
        lambda *_: False,
        lambda *_: "a fresh answer about revocation",
        lambda _: "none can be had offline",
        collateral=True,
    ),
    plain(
        "gpu.firmware-id",
        "firmware_id",
        lambda _, evidence: evidence.firmware_id_bound,
        "the firmware id of the device's certificate",
        got=lambda evidence: "the same" if evidence.firmware_id_bound else "none in the report",
    ),
    word("gpu.driver", "driver_versions", lambda evidence: evidence.driver_version),
    word("gpu.vbios", "vbios_versions", lambda evidence: evidence.vbios_version),
    plain(
        "gpu.rims",
        "rims",
        lambda wanted, evidence: wanted <= (evidence.rims.kinds if evidence.rims else frozenset()),
        lambda wanted: f"manifests for: {_kinds(wanted, 'nothing')}",
        got=lambda evidence: _kinds(evidence.rims.kinds if evidence.rims else (), "none"),
        collateral=True,
    ),
    # E109: a manifest that was brought is heeded: what it contradicts is unmet even where no manifest is asked for.
    Row(
        "gpu.measurements",
        "rims",
        lambda _, facts: facts.evidence.rims is not None and not facts.evidence.rims.differing,
        lambda *_: "every measurement the manifests speak of, as they state it",
        _measured,
        requirement=lambda policy, evidence: policy.rims if evidence.rims is None else Required.REQUIRED,
    ),
    plain(
        "gpu.measurements.uncovered",
        "uncovered_measurements",
        lambda known, evidence: _uncovered(evidence) <= known,
        lambda known: f"none outside the manifests but {sorted(known)}",
        got=lambda evidence: f"{sorted(_uncovered(evidence))}" if _uncovered(evidence) else "none",
    ),
)


def appraise_gpu(evidence: VerifiedGpu, references: ReferenceValues, policy: GpuPolicy) -> tuple[Claim, ...]:
    """Every claim of `policy` about `evidence`, met or not, in a fixed order."""
    return judged(CLAIMS, policy, evidence, references)
