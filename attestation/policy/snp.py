"""The SNP section of a policy, and the judgement of verified SNP evidence under it.

Pure: (VerifiedSnp, ReferenceValues, SnpPolicy) -> claims. It never sees a certificate, a clock or a file.
Every field below is one rule of docs/spec/evidence.md and one or more claims of the appraisal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from attestation.evidence.snp_report import Cpuid, Firmware, KeyKind, Product, Tcb
from attestation.policy.claims import Claim, Ledger, Unchecked
from attestation.policy.comparing import judge_flag, judge_one_of, judge_root, listed, listing
from attestation.policy.fields import (
    Flag,
    OneOf,
    Required,
    Unfit,
    hexadecimal,
    integer,
    member_of,
    one_of,
    read_flag,
    read_required,
    read_text,
    ruled,
    set_of,
    show,
    table_of,
)
from attestation.verify.verified import Revocation, VerifiedSnp
from measurements.reference import ReferenceValues


class MaskedChip(Enum):
    """What to do with a report whose CHIP_ID is all zero: the host hid which chip it is."""

    ACCEPT = "accept"
    REFUSE = "refuse"


class LaunchTcb(Enum):
    """What the TCB a guest was launched under is held against."""

    MINIMUM = "minimum"


class ReportKey(Enum):
    """A key that may sign a report."""

    VCEK = "VCEK"
    VLEK = "VLEK"


@dataclass(frozen=True, slots=True)
class TcbMinimum:
    """The lowest acceptable levels for one product, or for one model of it."""

    product: Product
    cpuid: Cpuid | None
    tcb: Tcb


def _read_cpuid(text: str) -> Cpuid | None:
    if text == "*":
        return None
    return Cpuid(*(int(part) for part in text.split("/")))


def _read_tcb(value: object, product: Product) -> Tcb:
    names = ["bootloader", "tee", "snp", "microcode"] + (["fmc"] if product is Product.TURIN else [])
    if not isinstance(value, dict) or sorted(value) != sorted(names):
        raise Unfit(expected=f"a table with {', '.join(names)}", got=show(value))
    level = integer(0, 255)
    return Tcb(**{name: level(value[name]) for name in names})


def read_minimum_tcb(value: object) -> tuple[TcbMinimum, ...]:
    """Rows such as `"Genoa 25/17/1" = { … }` (family/model/stepping) or `"Turin *" = { … }`."""
    if not isinstance(value, dict) or not value:
        raise Unfit(expected="a table with at least one row", got=show(value))
    rows = []
    for name, levels in value.items():
        row = re.fullmatch(r"(Milan|Genoa|Turin) (\*|\d{1,3}/\d{1,3}/\d{1,3})", name)
        if row is None:
            raise Unfit(expected='rows named "Genoa 25/17/1" or "Genoa *"', got=show(name))
        product = Product(row[1])
        rows.append(TcbMinimum(product, _read_cpuid(row[2]), _read_tcb(levels, product)))
    return tuple(rows)


def read_firmware(value: object) -> Firmware:
    version = re.fullmatch(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if version is None:
        raise Unfit(expected='a version such as "1.55.38"', got=show(value))
    return Firmware(*(int(part) for part in version.groups()))


def read_abi(value: object) -> tuple[int, int]:
    version = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if version is None:
        raise Unfit(expected='an ABI version such as "1.55"', got=show(value))
    return int(version[1]), int(version[2])


def _read_root(value: object) -> bytes:
    return hexadecimal(value, 32)


_read_product: Final = member_of(Product)
_UINT32: Final = (1 << 32) - 1
_UINT64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPolicy:
    """What a relying party wants of SNP evidence. No field has a default."""

    simulated_roots: frozenset[bytes] = ruled(
        "E140",
        "a simulated root proves nothing about hardware; each must be named by its key digest",
        set_of(_read_root),
        may_be_unchecked=False,
    )
    products: frozenset[Product] = ruled(
        "E141",
        "a product whose endorsement seed can be extracted lets anyone forge reports (Milan)",
        set_of(_read_product),
        may_be_unchecked=False,
    )
    keys: frozenset[ReportKey] = ruled(
        "E142",
        "a VCEK names one chip; a VLEK names a provider, who may load it on any of its chips",
        set_of(member_of(ReportKey)),
        may_be_unchecked=False,
    )
    csp_ids: frozenset[str] | Unchecked = ruled(
        "E143", "a VLEK of a provider nobody chose would be as good as any", set_of(read_text)
    )
    crl: Required | Unchecked = ruled("E144", "a revoked intermediate would go unnoticed", read_required)
    report_version: int | Unchecked = ruled(
        "E145",
        "older reports leave out the processor model, so the product is not cross-checked",
        integer(2, 5),
    )
    chip_id: OneOf | Unchecked = ruled(
        "E146",
        "WireTap, TEE.fail and Battering RAM leave no bit: only knowing the machines answers them",
        one_of(8, 64),
    )
    masked_chip_id: MaskedChip = ruled(
        "E147",
        "a report that hides its chip can't be held to a list of machines",
        member_of(MaskedChip),
        may_be_unchecked=False,
    )
    tcb_order: Required | Unchecked = ruled(
        "E148",
        "reported <= committed <= current; anything else is firmware that can still be rolled back",
        read_required,
    )
    minimum_tcb: tuple[TcbMinimum, ...] | Unchecked = ruled(
        "E149",
        "EntrySign, CacheWarp, StackWarp, RMPocalypse: firmware and microcode below these levels is broken",
        read_minimum_tcb,
    )
    launch_tcb: LaunchTcb | Unchecked = ruled(
        "E150",
        "a guest launched under broken firmware stays suspect after the firmware is updated",
        member_of(LaunchTcb),
    )
    minimum_firmware: Mapping[Product, Firmware] | Unchecked = ruled(
        "E151",
        "BadRAM: builds before these do not check for memory aliases",
        table_of(_read_product, read_firmware),
    )
    minimum_abi: tuple[int, int] | Unchecked = ruled(
        "E152", "the guest's own floor for the firmware ABI, fixed at launch", read_abi
    )
    smt: Flag | Unchecked = ruled(
        "E153", "StackWarp and side channels: a sibling thread of the host shares the core", read_flag
    )
    migration_agent: Flag | Unchecked = ruled(
        "E154", "a migration agent can move the guest and read its memory", read_flag
    )
    debug: Flag | Unchecked = ruled("E155", "the host can read and write the guest's memory", read_flag)
    single_socket: Flag | Unchecked = ruled("E156", "memory traffic crosses between sockets", read_flag)
    cxl: Flag | Unchecked = ruled("E157", "memory may sit on a removable device", read_flag)
    aes_256_xts: Flag | Unchecked = ruled("E158", "memory may be encrypted with AES-128", read_flag)
    rapl_disabled: Flag | Unchecked = ruled(
        "E159", "power readings of the host are a side channel", read_flag
    )
    ciphertext_hiding: Flag | Unchecked = ruled(
        "E160", "Heracles and CipherLeaks: the host can watch ciphertext", read_flag
    )
    page_swap_disabled: Flag | Unchecked = ruled(
        "E161", "Heracles: the host can have pages re-encrypted at an address of its choice", read_flag
    )
    unknown_policy_bits: Flag | Unchecked = ruled(
        "E162", "a bit without a name may grant the host something; bit 17 must be one", read_flag
    )
    platform_smt: Flag | Unchecked = ruled("E163", "the platform runs with sibling threads", read_flag)
    platform_tsme: Flag | Unchecked = ruled("E164", "memory outside of guests is not encrypted", read_flag)
    platform_ecc: Flag | Unchecked = ruled("E165", "memory faults are neither corrected nor seen", read_flag)
    platform_rapl_disabled: Flag | Unchecked = ruled(
        "E166", "power readings of the host are a side channel", read_flag
    )
    platform_ciphertext_hiding: Flag | Unchecked = ruled(
        "E167", "Heracles: the platform does not hide ciphertext", read_flag
    )
    alias_check: Flag | Unchecked = ruled(
        "E168", "BadRAM: two addresses may lead to the same memory", read_flag
    )
    iommu_write_safe: Flag | Unchecked = ruled(
        "E169", "writes through the IOMMU are not known to be safe", read_flag
    )
    trusted_io: Flag | Unchecked = ruled("E170", "devices are attached as trusted", read_flag)
    unknown_platform_bits: Flag | Unchecked = ruled(
        "E171", "a platform bit without a name says something this policy can't judge", read_flag
    )
    vmpl: frozenset[int] | Unchecked = ruled(
        "E172",
        "a report from a less privileged level says nothing about the levels above it",
        set_of(integer(0, 3)),
    )
    minimum_guest_svn: int | Unchecked = ruled(
        "E173", "an older image of the same owner", integer(0, _UINT32)
    )
    id_key_digest: OneOf | Unchecked = ruled("E174", "the launch was authorised by another key", one_of(48))
    author_key_digest: OneOf | Unchecked = ruled("E175", "the launch was authored by another key", one_of(48))
    family_id: OneOf | Unchecked = ruled("E176", "another family of images", one_of(16))
    image_id: OneOf | Unchecked = ruled("E177", "another image", one_of(16))
    measurement: OneOf | Unchecked = ruled(
        "E178", "other firmware, kernel, command line or initial disk", one_of(48)
    )
    host_data: OneOf | Unchecked = ruled("E179", "the host started the image with other data", one_of(32))
    report_data: OneOf | Unchecked = ruled(
        "E180", "an old report, or one for another session or key", one_of(64)
    )
    launch_mitigations: Mapping[Product, int] | Unchecked = ruled(
        "E181",
        "a mitigation was missing when the guest was launched",
        table_of(_read_product, integer(0, _UINT64)),
    )
    current_mitigations: Mapping[Product, int] | Unchecked = ruled(
        "E182",
        "RMPocalypse and later: a mitigation is missing now",
        table_of(_read_product, integer(0, _UINT64)),
    )


def appraise_snp(evidence: VerifiedSnp, references: ReferenceValues, policy: SnpPolicy) -> tuple[Claim, ...]:
    """Every claim of `policy` about `evidence`, met or not, in a fixed order."""
    ledger = Ledger()
    _judge_origin(ledger, evidence, references, policy)
    _judge_firmware(ledger, evidence, policy)
    _judge_guest_policy(ledger, evidence, policy)
    _judge_platform(ledger, evidence, policy)
    _judge_identity(ledger, evidence, references, policy)
    return ledger.claims()


def _judge_origin(
    ledger: Ledger, evidence: VerifiedSnp, references: ReferenceValues, policy: SnpPolicy
) -> None:
    judge_root(ledger, "snp", "E140", policy.simulated_roots, evidence.root)
    ledger.judge(
        "snp.product",
        "E141",
        policy.products,
        met=lambda allowed: evidence.product in allowed,
        expected=_names,
        got=evidence.product.value,
    )
    ledger.judge(
        "snp.key",
        "E142",
        policy.keys,
        met=lambda allowed: ReportKey(evidence.key.name) in allowed,
        expected=_names,
        got=evidence.key.name,
    )
    ledger.judge(
        "snp.csp-id",
        "E143",
        policy.csp_ids,
        met=lambda allowed: evidence.key is KeyKind.VCEK or evidence.csp_id in allowed,
        expected=lambda allowed: f"a VCEK, or one of: {', '.join(sorted(allowed)) or 'none'}",
        got=evidence.csp_id or "a VCEK",
    )
    ledger.judge(
        "snp.revocation",
        "E144",
        policy.crl,
        met=lambda _: evidence.revocation is Revocation.FRESH,
        expected=lambda _: Revocation.FRESH.value,
        got=evidence.revocation.value,
        collateral=True,
    )
    ledger.judge(
        "snp.version",
        "E145",
        policy.report_version,
        met=lambda least: evidence.version >= least,
        expected=_at_least,
        got=evidence.version,
    )
    chip = evidence.chip_id
    ledger.judge(
        "snp.chip",
        "E146",
        policy.chip_id,
        met=listed(references, "snp.chip_id", chip),
        expected=listing(references, "snp.chip_id"),
        got="masked" if chip is None else chip.hex(),
    )
    ledger.judge(
        "snp.chip.masked",
        "E147",
        policy.masked_chip_id,
        met=lambda masked: chip is not None or masked is MaskedChip.ACCEPT,
        expected=lambda masked: "a chip id" if masked is MaskedChip.REFUSE else "a chip id or a masked one",
        got="masked" if chip is None else "a chip id",
    )


def _judge_firmware(ledger: Ledger, evidence: VerifiedSnp, policy: SnpPolicy) -> None:
    reported, committed, current = evidence.reported_tcb, evidence.committed_tcb, evidence.current_tcb
    ledger.judge(
        "snp.tcb.order",
        "E148",
        policy.tcb_order,
        met=lambda _: current.at_least(committed) and committed.at_least(reported),
        expected=lambda _: "reported <= committed <= current in every part",
        got=f"reported [{reported}], committed [{committed}], current [{current}]",
    )
    ledger.judge(
        "snp.tcb.reported",
        "E149",
        policy.minimum_tcb,
        met=lambda rows: _reaches(reported, _minimum(rows, evidence)),
        expected=lambda rows: _minimum_text(rows, evidence),
        got=reported,
    )
    # E150: the launch TCB is held against the same rows, so it can't be checked where they are not stated.
    launch = policy.minimum_tcb if isinstance(policy.launch_tcb, LaunchTcb) else policy.launch_tcb
    ledger.judge(
        "snp.tcb.launch",
        "E150",
        launch,
        met=lambda rows: _reaches(evidence.launch_tcb, _minimum(rows, evidence)),
        expected=lambda rows: _minimum_text(rows, evidence),
        got=evidence.launch_tcb,
    )
    # E151: the committed build is the floor the machine can still be rolled back to.
    build = min(evidence.committed_firmware, evidence.current_firmware)
    ledger.judge(
        "snp.firmware",
        "E151",
        policy.minimum_firmware,
        met=lambda least: evidence.product in least and build >= least[evidence.product],
        expected=lambda least: f">= {least.get(evidence.product, 'a stated minimum, and none is')}",
        got=f"committed {evidence.committed_firmware}, current {evidence.current_firmware}",
    )
    ledger.judge(
        "snp.mitigations.launch",
        "E181",
        policy.launch_mitigations,
        met=_covers(evidence.product, evidence.launch_mitigations),
        expected=_mask_text(evidence.product),
        got=_mask(evidence.launch_mitigations),
    )
    ledger.judge(
        "snp.mitigations.current",
        "E182",
        policy.current_mitigations,
        met=_covers(evidence.product, evidence.current_mitigations),
        expected=_mask_text(evidence.product),
        got=_mask(evidence.current_mitigations),
    )


def _judge_guest_policy(ledger: Ledger, evidence: VerifiedSnp, policy: SnpPolicy) -> None:
    bits = evidence.policy
    ledger.judge(
        "snp.policy.abi",
        "E152",
        policy.minimum_abi,
        met=lambda least: bits.abi >= least,
        expected=lambda least: f">= {least[0]}.{least[1]}",
        got=f"{bits.abi[0]}.{bits.abi[1]}",
    )
    judge_flag(ledger, "snp.policy.smt", "E153", policy.smt, bits.smt)
    judge_flag(ledger, "snp.policy.migration-agent", "E154", policy.migration_agent, bits.migration_agent)
    judge_flag(ledger, "snp.policy.debug", "E155", policy.debug, bits.debug)
    judge_flag(ledger, "snp.policy.single-socket", "E156", policy.single_socket, bits.single_socket)
    judge_flag(ledger, "snp.policy.cxl", "E157", policy.cxl, bits.cxl)
    judge_flag(ledger, "snp.policy.aes-256-xts", "E158", policy.aes_256_xts, bits.aes_256_xts)
    judge_flag(ledger, "snp.policy.rapl-disabled", "E159", policy.rapl_disabled, bits.rapl_disabled)
    judge_flag(
        ledger, "snp.policy.ciphertext-hiding", "E160", policy.ciphertext_hiding, bits.ciphertext_hiding
    )
    judge_flag(
        ledger, "snp.policy.page-swap-disabled", "E161", policy.page_swap_disabled, bits.page_swap_disabled
    )
    ledger.judge(
        "snp.policy.unknown-bits",
        "E162",
        policy.unknown_policy_bits,
        met=lambda flag: flag.met_by(bool(bits.unknown_bits) or not bits.must_be_one),
        expected=lambda flag: f"bit 17 set and bits 26 to 63 clear, otherwise {flag.value}",
        got=f"{bits.raw:#x}",
    )


def _judge_platform(ledger: Ledger, evidence: VerifiedSnp, policy: SnpPolicy) -> None:
    info = evidence.platform
    judge_flag(ledger, "snp.platform.smt", "E163", policy.platform_smt, info.smt)
    judge_flag(ledger, "snp.platform.tsme", "E164", policy.platform_tsme, info.tsme)
    judge_flag(ledger, "snp.platform.ecc", "E165", policy.platform_ecc, info.ecc)
    judge_flag(
        ledger, "snp.platform.rapl-disabled", "E166", policy.platform_rapl_disabled, info.rapl_disabled
    )
    judge_flag(
        ledger,
        "snp.platform.ciphertext-hiding",
        "E167",
        policy.platform_ciphertext_hiding,
        info.ciphertext_hiding,
    )
    judge_flag(ledger, "snp.platform.alias-check", "E168", policy.alias_check, info.alias_check_complete)
    judge_flag(
        ledger, "snp.platform.iommu-write-safe", "E169", policy.iommu_write_safe, info.iommu_write_safe
    )
    judge_flag(ledger, "snp.platform.trusted-io", "E170", policy.trusted_io, info.trusted_io)
    ledger.judge(
        "snp.platform.unknown-bits",
        "E171",
        policy.unknown_platform_bits,
        met=lambda flag: flag.met_by(bool(info.unknown_bits)),
        expected=lambda flag: f"bits 8 to 63 set: {flag.value}",
        got=f"{info.raw:#x}",
    )


def _judge_identity(
    ledger: Ledger, evidence: VerifiedSnp, references: ReferenceValues, policy: SnpPolicy
) -> None:
    ledger.judge(
        "snp.vmpl",
        "E172",
        policy.vmpl,
        met=lambda allowed: evidence.vmpl in allowed,
        expected=lambda allowed: f"one of {sorted(allowed)}",
        got=evidence.vmpl,
    )
    ledger.judge(
        "snp.guest-svn",
        "E173",
        policy.minimum_guest_svn,
        met=lambda least: evidence.guest_svn >= least,
        expected=_at_least,
        got=evidence.guest_svn,
    )
    compared: tuple[tuple[str, str, str, OneOf | Unchecked, bytes], ...] = (
        ("snp.id-key", "E174", "snp.id_key_digest", policy.id_key_digest, evidence.id_key_digest),
        (
            "snp.author-key",
            "E175",
            "snp.author_key_digest",
            policy.author_key_digest,
            evidence.author_key_digest,
        ),
        ("snp.family-id", "E176", "snp.family_id", policy.family_id, evidence.family_id),
        ("snp.image-id", "E177", "snp.image_id", policy.image_id, evidence.image_id),
        ("snp.measurement", "E178", "snp.measurement", policy.measurement, evidence.measurement),
        ("snp.host-data", "E179", "snp.host_data", policy.host_data, evidence.host_data),
        ("snp.report-data", "E180", "snp.report_data", policy.report_data, evidence.report_data),
    )
    for code, rule, reference, requirement, got in compared:
        judge_one_of(ledger, references, reference, rule, requirement, got, code=code)



def _names(allowed: frozenset[Product] | frozenset[ReportKey]) -> str:
    return " or ".join(sorted(member.value for member in allowed)) or "none"


def _at_least(least: int) -> str:
    return f">= {least}"


def reaches_minimum(rows: tuple[TcbMinimum, ...], evidence: VerifiedSnp) -> bool:
    """Whether what the chip reports, and what it launched under, reach the row for its model. No row: no."""
    least = _minimum(rows, evidence)
    return _reaches(evidence.reported_tcb, least) and _reaches(evidence.launch_tcb, least)


def _minimum(rows: tuple[TcbMinimum, ...], evidence: VerifiedSnp) -> Tcb | None:
    """The row for this very model, else the product's catch-all, else none: and none is never enough."""
    fallback = None
    for row in rows:
        if row.product is not evidence.product:
            continue
        if row.cpuid is None:
            fallback = row.tcb
        elif row.cpuid == evidence.cpuid:
            return row.tcb
    return fallback


def _reaches(got: Tcb, least: Tcb | None) -> bool:
    return least is not None and got.at_least(least)


def _minimum_text(rows: tuple[TcbMinimum, ...], evidence: VerifiedSnp) -> str:
    least = _minimum(rows, evidence)
    if least is None:
        model = evidence.cpuid or "of unstated model"
        return f"a stated minimum for {evidence.product.value} {model}, and none is"
    return f">= {least}"


def _covers(product: Product, vector: int | None) -> Callable[[Mapping[Product, int]], bool]:
    # E181, E182: a superset of the mask. A report too old to carry the vector shows no mitigation.
    def covers(masks: Mapping[Product, int]) -> bool:
        mask = masks.get(product)
        return mask is not None and mask & ~(vector or 0) == 0

    return covers


def _mask(vector: int | None) -> str:
    return "not in this report version" if vector is None else f"{vector:#x}"


def _mask_text(product: Product) -> Callable[[Mapping[Product, int]], str]:
    return lambda masks: (
        f"all bits of {masks[product]:#x}" if product in masks else f"a mask for {product.value}"
    )
