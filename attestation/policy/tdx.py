"""The TDX section of a policy, and the judgement of verified TDX evidence under it.

Pure: (VerifiedTdx, ReferenceValues, TdxPolicy) -> claims. It never sees a certificate, a clock or a file.
Every field below is one rule of docs/spec/evidence-tdx.md and one or more claims of the appraisal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.evidence.tdx_collateral import TcbStatus
from attestation.policy.claims import Claim, Ledger, Unchecked
from attestation.policy.comparing import allowed, judge_one_of, judge_root
from attestation.policy.fields import (
    Flag,
    OneOf,
    Required,
    hexadecimal,
    integer,
    member_of,
    one_of,
    read_flag,
    read_required,
    read_text,
    ruled,
    set_of,
)
from attestation.verify.verified_tdx import VerifiedTdx
from measurements.reference import ReferenceValues

# TD attributes, by bit. The lowest byte means "under debug"; only four bits of the rest are harmless.
_DEBUG: Final = 0xFF
_SEPT_VE_DISABLE: Final = 1 << 28
_MIGRATABLE: Final = 1 << 29
_PERFMON: Final = 1 << 63
_LASS: Final = 1 << 27
_PROTECTION_KEYS: Final = 1 << 30
_KEY_LOCKER: Final = 1 << 31
_KNOWN: Final = _DEBUG | _SEPT_VE_DISABLE | _MIGRATABLE | _PERFMON | _LASS | _PROTECTION_KEYS | _KEY_LOCKER

# XFAM: x87 and SSE are always on; the mask is every feature a TDX module may grant.
_XFAM_REQUIRED: Final = 0x3
_XFAM_PERMITTED: Final = 0x0006_DBE7


def _read_root(value: object) -> bytes:
    return hexadecimal(value, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy:
    """What a relying party wants of TDX evidence. No field has a default."""

    simulated_roots: frozenset[bytes] = ruled(
        "E79",
        "a simulated root proves nothing about hardware; each must be named by its key digest",
        set_of(_read_root),
        may_be_unchecked=False,
    )
    tcb_status: frozenset[TcbStatus] | Unchecked = ruled(
        "E80", "a platform with known holes signs as readily as a patched one", set_of(member_of(TcbStatus))
    )
    forbidden_advisories: frozenset[str] | Unchecked = ruled(
        "E81", "a tolerated TCB status may hide an advisory that matters", set_of(read_text)
    )
    minimum_evaluation_number: int | Unchecked = ruled(
        "E82",
        "Intel's tables from before a disclosure still call a broken platform up to date",
        integer(0, 2**31),
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
    perfmon: Flag | Unchecked = ruled(
        "E88", "performance counters widen side channels within the machine", read_flag
    )
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
    mr_config_id: OneOf | Unchecked = ruled(
        "E94", "the host started it with another configuration", one_of(48)
    )
    mr_owner: OneOf | Unchecked = ruled("E94", "the host started it for another owner", one_of(48))
    mr_owner_config: OneOf | Unchecked = ruled(
        "E94", "the host started it with another configuration of the owner's", one_of(48)
    )
    report_data: OneOf | Unchecked = ruled(
        "E95", "an old quote, or one for another session or key", one_of(64)
    )
    service_td: Flag | Unchecked = ruled(
        "E96", "a service trust domain is bound to this one and may migrate it", read_flag
    )
    event_log: Required | Unchecked = ruled("E97", "nothing says what the RTMRs stand for", read_required)
    events: OneOf | Unchecked = ruled("E97", "something unknown was measured during boot", one_of(48))


def appraise_tdx(evidence: VerifiedTdx, references: ReferenceValues, policy: TdxPolicy) -> tuple[Claim, ...]:
    """Every claim of `policy` about `evidence`, met or not, in a fixed order."""
    ledger = Ledger()
    _judge_platform(ledger, evidence, references, policy)
    _judge_attributes(ledger, evidence, policy)
    _judge_identity(ledger, evidence, references, policy)
    _judge_events(ledger, evidence, references, policy)
    return ledger.claims()


def _judge_platform(
    ledger: Ledger, evidence: VerifiedTdx, references: ReferenceValues, policy: TdxPolicy
) -> None:
    judge_root(ledger, "tdx", "E79", policy.simulated_roots, evidence.root)
    tcb = evidence.tcb
    ledger.judge(
        "tdx.tcb.status",
        "E80",
        policy.tcb_status,
        met=lambda allowed: tcb.status in allowed,
        expected=lambda allowed: " or ".join(sorted(status.value for status in allowed)) or "none",
        got=f"{tcb.status.value} (platform {tcb.platform.value}, module {tcb.module.value}, "
        f"quoting enclave {tcb.quoting_enclave.value})",
    )
    ledger.judge(
        "tdx.tcb.advisories",
        "E81",
        policy.forbidden_advisories,
        met=lambda forbidden: not forbidden.intersection(tcb.advisories),
        expected=lambda forbidden: f"none of {', '.join(sorted(forbidden)) or 'no advisories'}",
        got=", ".join(tcb.advisories) or "none",
    )
    ledger.judge(
        "tdx.tcb.evaluation-number",
        "E82",
        policy.minimum_evaluation_number,
        met=lambda least: evidence.evaluation_number >= least,
        expected=lambda least: f">= {least}",
        got=evidence.evaluation_number,
        collateral=True,
    )
    judge_one_of(ledger, references, "tdx.ppid", "E83", policy.ppid, evidence.pck.ppid)
    judge_one_of(ledger, references, "tdx.fmspc", "E83", policy.fmspc, evidence.pck.fmspc)
    opinion = evidence.second_opinion
    ledger.judge(
        "tdx.second-opinion",
        "E84",
        policy.second_opinion,
        met=lambda _: not opinion.declined,
        expected=lambda _: "dcap-qvl to verify it to the end",
        got=f"declined: {opinion.declined.splitlines()[0]}" if opinion.declined else opinion.status,
    )


def _judge_attributes(ledger: Ledger, evidence: VerifiedTdx, policy: TdxPolicy) -> None:
    attributes, xfam = evidence.report.td_attributes, evidence.report.xfam
    for code, rule, requirement, bits in (
        ("tdx.attributes.debug", "E85", policy.debug, _DEBUG),
        ("tdx.attributes.sept-ve-disable", "E86", policy.sept_ve_disable, _SEPT_VE_DISABLE),
        ("tdx.attributes.migratable", "E87", policy.migratable, _MIGRATABLE),
        ("tdx.attributes.perfmon", "E88", policy.perfmon, _PERFMON),
        ("tdx.attributes.unknown", "E89", policy.unknown_attributes, ~_KNOWN & (1 << 64) - 1),
    ):
        _judge_flag(ledger, code, rule, requirement, attributes & bits)
    ledger.judge(
        "tdx.xfam",
        "E90",
        policy.xfam,
        met=lambda _: xfam & _XFAM_REQUIRED == _XFAM_REQUIRED and not xfam & ~_XFAM_PERMITTED,
        expected=lambda _: f"all of {_XFAM_REQUIRED:#x} and nothing outside {_XFAM_PERMITTED:#x}",
        got=f"{xfam:#x}",
    )
    _judge_flag(
        ledger,
        "tdx.service-td",
        "E96",
        policy.service_td,
        int.from_bytes(evidence.report.mr_service_td or b"", "big"),
    )


def _judge_identity(
    ledger: Ledger, evidence: VerifiedTdx, references: ReferenceValues, policy: TdxPolicy
) -> None:
    report = evidence.report
    compared: tuple[tuple[str, str, OneOf | Unchecked, bytes], ...] = (
        ("tdx.mr_seam", "E91", policy.mr_seam, report.mr_seam),
        ("tdx.mr_signer_seam", "E91", policy.mr_signer_seam, report.mr_signer_seam),
        ("tdx.mr_td", "E92", policy.mr_td, report.mr_td),
        ("tdx.rtmr0", "E93", policy.rtmr0, report.rtmrs[0]),
        ("tdx.rtmr1", "E93", policy.rtmr1, report.rtmrs[1]),
        ("tdx.rtmr2", "E93", policy.rtmr2, report.rtmrs[2]),
        ("tdx.rtmr3", "E93", policy.rtmr3, report.rtmrs[3]),
        ("tdx.mr_config_id", "E94", policy.mr_config_id, report.mr_config_id),
        ("tdx.mr_owner", "E94", policy.mr_owner, report.mr_owner),
        ("tdx.mr_owner_config", "E94", policy.mr_owner_config, report.mr_owner_config),
        ("tdx.report_data", "E95", policy.report_data, report.report_data),
    )
    for reference, rule, requirement, got in compared:
        judge_one_of(ledger, references, reference, rule, requirement, got)


def _judge_events(
    ledger: Ledger, evidence: VerifiedTdx, references: ReferenceValues, policy: TdxPolicy
) -> None:
    log = evidence.event_log
    ledger.judge(
        "tdx.event-log",
        "E97",
        policy.event_log,
        met=lambda _: log is not None,
        expected=lambda _: "a log that replays to the four RTMRs",
        got="none" if log is None else f"one of {len(log.events)} events",
    )
    digests = frozenset() if log is None else frozenset(bound.event.digest for bound in log.events)
    ledger.judge(
        "tdx.events",
        "E97",
        policy.events,
        met=lambda wanted: log is not None and digests <= allowed(wanted, references, "tdx.events"),
        expected=lambda wanted: (
            f"only digests among {len(allowed(wanted, references, 'tdx.events'))} known ones"
        ),
        got=f"{len(digests)} digests",
    )


def _judge_flag(ledger: Ledger, code: str, rule: str, requirement: Flag | Unchecked, bits: int) -> None:
    ledger.judge(
        code,
        rule,
        requirement,
        met=lambda flag: flag.met_by(bits != 0),
        expected=lambda flag: "set" if flag is Flag.REQUIRED else "clear",
        got=f"set ({bits:#x})" if bits else "clear",
    )
