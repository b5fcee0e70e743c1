"""The GPU section of a policy, and the judgement of verified NVIDIA evidence under it.

Pure: (VerifiedGpu, ReferenceValues, GpuPolicy) -> claims. It never sees a certificate, a clock or a file.
Every field below is one rule of docs/spec/evidence-gpu.md and one claim of the appraisal.
"""

from __future__ import annotations

from dataclasses import dataclass

from attestation.policy.claims import Claim, Ledger, Unchecked
from attestation.policy.comparing import judge_one_of, judge_root
from attestation.policy.fields import (
    OneOf,
    Required,
    hexadecimal,
    integer,
    member_of,
    one_of,
    read_required,
    read_text,
    ruled,
    set_of,
)
from attestation.verify.verified_gpu import RimKind, VerifiedGpu
from measurements.reference import ReferenceValues


def _read_root(value: object) -> bytes:
    return hexadecimal(value, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPolicy:
    """What a relying party wants of GPU evidence. No field has a default."""

    simulated_roots: frozenset[bytes] = ruled(
        "E105",
        "a simulated root proves nothing about hardware; each must be named by its key digest",
        set_of(_read_root),
        may_be_unchecked=False,
    )
    products: frozenset[str] = ruled(
        "E106", "a device whose measurements nobody studied", set_of(read_text), may_be_unchecked=False
    )
    devices: OneOf | Unchecked = ruled(
        "E106", "somebody else's device may answer in place of the one in the machine", one_of(32)
    )
    nonce: OneOf | Unchecked = ruled(
        "E107", "an old report, or one of a device in another machine", one_of(32)
    )
    revocation: Required | Unchecked = ruled(
        "E107",
        "a device known to be broken would go unnoticed; NVIDIA answers this on the network alone",
        read_required,
    )
    firmware_id: Required | Unchecked = ruled(
        "E108", "the report and the certificate speak of different firmware", read_required
    )
    driver_versions: frozenset[str] | Unchecked = ruled(
        "E108", "a driver with known holes", set_of(read_text)
    )
    vbios_versions: frozenset[str] | Unchecked = ruled("E108", "a VBIOS with known holes", set_of(read_text))
    rims: frozenset[RimKind] | Unchecked = ruled(
        "E109", "nothing says what the measurements should be", set_of(member_of(RimKind))
    )
    uncovered_measurements: frozenset[int] | Unchecked = ruled(
        "E109", "something was measured that no manifest speaks of", set_of(integer(0, 255))
    )


def appraise_gpu(evidence: VerifiedGpu, references: ReferenceValues, policy: GpuPolicy) -> tuple[Claim, ...]:
    """Every claim of `policy` about `evidence`, met or not, in a fixed order."""
    ledger = Ledger()
    _judge_device(ledger, evidence, references, policy)
    _judge_firmware(ledger, evidence, policy)
    _judge_rims(ledger, evidence, policy)
    return ledger.claims()


def _judge_device(
    ledger: Ledger, evidence: VerifiedGpu, references: ReferenceValues, policy: GpuPolicy
) -> None:
    judge_root(ledger, "gpu", "E105", policy.simulated_roots, evidence.root)
    _judge_word(ledger, "gpu.product", "E106", policy.products, evidence.product)
    judge_one_of(ledger, references, "gpu.device", "E106", policy.devices, evidence.device_id)
    judge_one_of(ledger, references, "gpu.nonce", "E107", policy.nonce, evidence.nonce)
    ledger.judge(
        "gpu.revocation",
        "E107",
        policy.revocation,
        met=lambda _: False,
        expected=lambda _: "a fresh answer about revocation",
        got="none can be had offline",
        collateral=True,
    )


def _judge_firmware(ledger: Ledger, evidence: VerifiedGpu, policy: GpuPolicy) -> None:
    ledger.judge(
        "gpu.firmware-id",
        "E108",
        policy.firmware_id,
        met=lambda _: evidence.firmware_id_bound,
        expected=lambda _: "the firmware id of the device's certificate",
        got="the same" if evidence.firmware_id_bound else "none in the report",
    )
    _judge_word(ledger, "gpu.driver", "E108", policy.driver_versions, evidence.driver_version)
    _judge_word(ledger, "gpu.vbios", "E108", policy.vbios_versions, evidence.vbios_version)


def _judge_rims(ledger: Ledger, evidence: VerifiedGpu, policy: GpuPolicy) -> None:
    rims = evidence.rims
    held = frozenset() if rims is None else rims.kinds
    ledger.judge(
        "gpu.rims",
        "E109",
        policy.rims,
        met=lambda wanted: wanted <= held,
        expected=lambda wanted: (
            f"manifests for: {', '.join(sorted(kind.value for kind in wanted)) or 'nothing'}"
        ),
        got=", ".join(sorted(kind.value for kind in held)) or "none",
        collateral=True,
    )
    differing = frozenset() if rims is None else rims.differing
    # E109: whoever brings a manifest wants it heeded: what it contradicts is unmet even where none is asked for.
    heeded = policy.rims if rims is None else Required.REQUIRED
    ledger.judge(
        "gpu.measurements",
        "E109",
        heeded,
        met=lambda _: rims is not None and not differing,
        expected=lambda _: "every measurement the manifests speak of, as they state it",
        got=_measured(evidence),
    )
    uncovered = frozenset(evidence.measurements) if rims is None else rims.uncovered
    ledger.judge(
        "gpu.measurements.uncovered",
        "E109",
        policy.uncovered_measurements,
        met=lambda known: uncovered <= known,
        expected=lambda known: f"none outside the manifests but {sorted(known)}",
        got=f"{sorted(uncovered)}" if uncovered else "none",
    )


def _measured(evidence: VerifiedGpu) -> str:
    if evidence.rims is None:
        return "not compared"
    different = ", ".join(map(str, sorted(evidence.rims.differing)))
    return f"{len(evidence.rims.matched)} as stated" + (f", different at {different}" if different else "")


def _judge_word(
    ledger: Ledger, code: str, rule: str, requirement: frozenset[str] | Unchecked, got: str
) -> None:
    ledger.judge(
        code,
        rule,
        requirement,
        met=lambda allowed: got in allowed,
        expected=lambda allowed: " or ".join(sorted(allowed)) or "none",
        got=got or "not stated",
    )
