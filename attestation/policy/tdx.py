"""The TDX section of a policy, and the judgement of verified TDX evidence under it.

Pure: (VerifiedTdx, ReferenceValues, TdxPolicy) -> claims. It never sees a certificate, a clock or a file.
Every field below is one rule of docs/spec/evidence-tdx.md and one or more claims of the appraisal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.evidence.tdx_collateral import TcbStatus
from attestation.evidence.tdx_quote import DEBUG_ATTRIBUTES
from attestation.policy.claims import Claim, Unchecked
from attestation.policy.fields import (
    Flag,
    OneOf,
    Required,
    believed_simulated_roots,
    integer,
    member_of,
    one_of,
    read_flag,
    read_required,
    read_text,
    ruled,
    set_of,
)
from attestation.policy.rows import Facts, Row, allowed, at_least, bits_flag, judged, listed, plain, root
from attestation.verify.verified_tdx import VerifiedTdx
from measurements.reference import ReferenceValues

# TD attributes, by bit, besides the byte that means "under debug": only four of them are harmless.
_SEPT_VE_DISABLE: Final = 1 << 28
_MIGRATABLE: Final = 1 << 29
_PERFMON: Final = 1 << 63
_LASS: Final = 1 << 27
_PROTECTION_KEYS: Final = 1 << 30
_KEY_LOCKER: Final = 1 << 31
_KNOWN: Final = DEBUG_ATTRIBUTES | _SEPT_VE_DISABLE | _MIGRATABLE | _PERFMON | _LASS | _PROTECTION_KEYS | _KEY_LOCKER

# XFAM: x87 and SSE are always on; the mask is every feature a TDX module may grant.
_XFAM_REQUIRED: Final = 0x3
_XFAM_PERMITTED: Final = 0x0006_DBE7


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy:
    """What a relying party wants of TDX evidence. No field has a default."""

    simulated_roots: frozenset[bytes] = believed_simulated_roots("E79")
    tcb_status: frozenset[TcbStatus] | Unchecked = ruled(
        "E80", "a platform with known holes signs as readily as a patched one", set_of(member_of(TcbStatus))
    )
    forbidden_advisories: frozenset[str] | Unchecked = ruled(
        "E81", "a tolerated TCB status may hide an advisory that matters", set_of(read_text)
    )
    minimum_evaluation_number: int | Unchecked = ruled(
        "E82", "Intel's tables from before a disclosure still call a broken platform up to date", integer(0, 2**31)
    )
    ppid: OneOf | Unchecked = ruled(
        "E83", "TEE.fail and Battering RAM leave no bit: only knowing the machines answers them", one_of(16)
    )
    fmspc: OneOf | Unchecked = ruled("E83", "another family or model of processor", one_of(6))
    second_opinion: Required | Unchecked = ruled(
        "E84", "the quote was carried to the end by one of two verifiers only", read_required
    )
    debug: Flag | Unchecked = ruled("E85", "the host can read and single-step the trust domain", read_flag)
    sept_ve_disable: Flag | Unchecked = ruled(
        "E86", "the host can take a page away and steer the guest through the exception", read_flag
    )
    migratable: Flag | Unchecked = ruled(
        "E87", "a migration service can move the trust domain and read its memory", read_flag
    )
    perfmon: Flag | Unchecked = ruled("E88", "performance counters widen side channels within the machine", read_flag)
    unknown_attributes: Flag | Unchecked = ruled(
        "E89", "an attribute without a name may grant the host something", read_flag
    )
    xfam: Required | Unchecked = ruled(
        "E90", "x87 and SSE are always on and other bits are not granted by a sound module", read_required
    )
    mr_seam: OneOf | Unchecked = ruled("E91", "another TDX module, if Intel signed it", one_of(48))
    mr_signer_seam: OneOf | Unchecked = ruled("E91", "a module signed by somebody else", one_of(48))
    mr_td: OneOf | Unchecked = ruled("E92", "other firmware", one_of(48))
    rtmr0: OneOf | Unchecked = ruled("E93", "other virtual hardware or firmware settings", one_of(48))
    rtmr1: OneOf | Unchecked = ruled("E93", "another boot loader or kernel", one_of(48))
    rtmr2: OneOf | Unchecked = ruled("E93", "another command line or initial disk", one_of(48))
    rtmr3: OneOf | Unchecked = ruled("E93", "something extended the register applications own", one_of(48))
    mr_config_id: OneOf | Unchecked = ruled("E94", "the host started it with another configuration", one_of(48))
    mr_owner: OneOf | Unchecked = ruled("E94", "the host started it for another owner", one_of(48))
    mr_owner_config: OneOf | Unchecked = ruled(
        "E94", "the host started it with another configuration of the owner's", one_of(48)
    )
    report_data: OneOf | Unchecked = ruled("E95", "an old quote, or one for another session or key", one_of(64))
    service_td: Flag | Unchecked = ruled(
        "E96", "a service trust domain is bound to this one and may migrate it", read_flag
    )
    event_log: Required | Unchecked = ruled("E97", "nothing says what the RTMRs stand for", read_required)
    events: OneOf | Unchecked = ruled("E97", "something unknown was measured during boot", one_of(48))


def _digests(evidence: VerifiedTdx) -> frozenset[bytes]:
    log = evidence.event_log
    return frozenset() if log is None else frozenset(bound.event.digest for bound in log.events)


def _attribute(code: str, field: str, bits: int) -> Row[VerifiedTdx]:
    return bits_flag(f"tdx.attributes.{code}", field, lambda evidence: evidence.report.td_attributes & bits)


def _register(number: int) -> Row[VerifiedTdx]:
    name = f"rtmr{number}"
    return listed(f"tdx.{name}", name, f"tdx.{name}", lambda evidence: evidence.report.rtmrs[number])


def _field(name: str) -> Row[VerifiedTdx]:
    """A field of the TD report, under its own name in the policy and among the reference values."""
    return listed(f"tdx.{name.replace('_', '-')}", name, f"tdx.{name}", lambda evidence: getattr(evidence.report, name))


def _knows_events(wanted: OneOf, facts: Facts[VerifiedTdx]) -> bool:
    known = allowed(wanted, facts.references, "tdx.events")
    return facts.evidence.event_log is not None and _digests(facts.evidence) <= known


CLAIMS: Final[tuple[Row[VerifiedTdx], ...]] = (
    root("tdx"),
    plain(
        "tdx.tcb.status",
        "tcb_status",
        lambda allowed, evidence: evidence.tcb.status in allowed,
        lambda allowed: " or ".join(sorted(status.value for status in allowed)) or "none",
        got=lambda evidence: (
            f"{evidence.tcb.status.value} (platform {evidence.tcb.platform.value}, module "
            f"{evidence.tcb.module.value}, quoting enclave {evidence.tcb.quoting_enclave.value})"
        ),
    ),
    plain(
        "tdx.tcb.advisories",
        "forbidden_advisories",
        lambda forbidden, evidence: not forbidden.intersection(evidence.tcb.advisories),
        lambda forbidden: f"none of {', '.join(sorted(forbidden)) or 'no advisories'}",
        got=lambda evidence: ", ".join(evidence.tcb.advisories) or "none",
    ),
    at_least(
        "tdx.tcb.evaluation-number",
        "minimum_evaluation_number",
        lambda evidence: evidence.evaluation_number,
        collateral=True,
    ),
    listed("tdx.ppid", "ppid", "tdx.ppid", lambda evidence: evidence.pck.ppid),
    listed("tdx.fmspc", "fmspc", "tdx.fmspc", lambda evidence: evidence.pck.fmspc),
    plain(
        "tdx.second-opinion",
        "second_opinion",
        lambda _, evidence: not evidence.second_opinion.declined,
        "dcap-qvl to verify it to the end",
        got=lambda evidence: (
            f"declined: {evidence.second_opinion.declined.splitlines()[0]}"
            if evidence.second_opinion.declined
            else evidence.second_opinion.status
        ),
    ),
    _attribute("debug", "debug", DEBUG_ATTRIBUTES),
    _attribute("sept-ve-disable", "sept_ve_disable", _SEPT_VE_DISABLE),
    _attribute("migratable", "migratable", _MIGRATABLE),
    _attribute("perfmon", "perfmon", _PERFMON),
    _attribute("unknown", "unknown_attributes", ~_KNOWN & (1 << 64) - 1),
    plain(
        "tdx.xfam",
        "xfam",
        lambda _, evidence: (
            evidence.report.xfam & _XFAM_REQUIRED == _XFAM_REQUIRED and not evidence.report.xfam & ~_XFAM_PERMITTED
        ),
        f"all of {_XFAM_REQUIRED:#x} and nothing outside {_XFAM_PERMITTED:#x}",
        got=lambda evidence: f"{evidence.report.xfam:#x}",
    ),
    bits_flag(
        "tdx.service-td", "service_td", lambda evidence: int.from_bytes(evidence.report.mr_service_td or b"", "big")
    ),
    _field("mr_seam"),
    _field("mr_signer_seam"),
    _field("mr_td"),
    *(_register(number) for number in range(4)),
    _field("mr_config_id"),
    _field("mr_owner"),
    _field("mr_owner_config"),
    _field("report_data"),
    plain(
        "tdx.event-log",
        "event_log",
        lambda _, evidence: evidence.event_log is not None,
        "a log that replays to the four RTMRs",
        got=lambda evidence: (
            "none" if evidence.event_log is None else f"one of {len(evidence.event_log.events)} events"
        ),
    ),
    Row(
        "tdx.events",
        "events",
        _knows_events,
        lambda wanted, facts: f"only digests among {len(allowed(wanted, facts.references, 'tdx.events'))} known ones",
        lambda evidence: f"{len(_digests(evidence))} digests",
    ),
)


def appraise_tdx(evidence: VerifiedTdx, references: ReferenceValues, policy: TdxPolicy) -> tuple[Claim, ...]:
    """Every claim of `policy` about `evidence`, met or not, in a fixed order."""
    return judged(CLAIMS, policy, evidence, references)
