"""The SNP section of a policy, and the judgement of verified SNP evidence under it.

Pure: (VerifiedSnp, ReferenceValues, SnpPolicy) -> claims. It never sees a certificate, a clock or a file.
Every field below is one rule of docs/spec/evidence.md and one or more claims of the appraisal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from attestation.evidence.snp_report import Cpuid, Firmware, KeyKind, Product, Tcb
from attestation.policy.claims import Claim, Unchecked
from attestation.policy.fields import (
    Flag,
    OneOf,
    Required,
    Unfit,
    believed_simulated_roots,
    integer,
    member_of,
    one_of,
    read_flag,
    read_required,
    read_text,
    ruled,
    set_of,
    table_of,
)
from attestation.policy.rows import Facts, Row, any_of, at_least, flag, judged, listed, plain, root
from attestation.verify.verified import Revocation, VerifiedSnp
from foundation.refusal import shown
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
        raise Unfit(expected=f"a table with {', '.join(names)}", got=shown(value))
    level = integer(0, 255)
    return Tcb(**{name: level(value[name]) for name in names})


def read_minimum_tcb(value: object) -> tuple[TcbMinimum, ...]:
    """Rows such as `"Genoa 25/17/1" = { … }` (family/model/stepping) or `"Turin *" = { … }`."""
    if not isinstance(value, dict) or not value:
        raise Unfit(expected="a table with at least one row", got=shown(value))
    rows = []
    for name, levels in value.items():
        row = re.fullmatch(r"(Milan|Genoa|Turin) (\*|\d{1,3}/\d{1,3}/\d{1,3})", name)
        if row is None:
            raise Unfit(expected='rows named "Genoa 25/17/1" or "Genoa *"', got=shown(name))
        product = Product(row[1])
        rows.append(TcbMinimum(product, _read_cpuid(row[2]), _read_tcb(levels, product)))
    return tuple(rows)


def read_firmware(value: object) -> Firmware:
    version = re.fullmatch(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if version is None:
        raise Unfit(expected='a version such as "1.55.38"', got=shown(value))
    return Firmware(*(int(part) for part in version.groups()))


def read_abi(value: object) -> tuple[int, int]:
    version = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if version is None:
        raise Unfit(expected='an ABI version such as "1.55"', got=shown(value))
    return int(version[1]), int(version[2])


_read_product: Final = member_of(Product)
Requirement: TypeAlias = "Callable[[SnpPolicy, VerifiedSnp], object] | None"
_UINT32: Final = (1 << 32) - 1
_UINT64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPolicy:
    """What a relying party wants of SNP evidence. No field has a default."""

    simulated_roots: frozenset[bytes] = believed_simulated_roots("E140")
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
        "E145", "older reports leave out the processor model, so the product is not cross-checked", integer(2, 5)
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
        "E151", "BadRAM: builds before these do not check for memory aliases", table_of(_read_product, read_firmware)
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
    rapl_disabled: Flag | Unchecked = ruled("E159", "power readings of the host are a side channel", read_flag)
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
    platform_rapl_disabled: Flag | Unchecked = ruled("E166", "power readings of the host are a side channel", read_flag)
    platform_ciphertext_hiding: Flag | Unchecked = ruled(
        "E167", "Heracles: the platform does not hide ciphertext", read_flag
    )
    alias_check: Flag | Unchecked = ruled("E168", "BadRAM: two addresses may lead to the same memory", read_flag)
    iommu_write_safe: Flag | Unchecked = ruled("E169", "writes through the IOMMU are not known to be safe", read_flag)
    trusted_io: Flag | Unchecked = ruled("E170", "devices are attached as trusted", read_flag)
    unknown_platform_bits: Flag | Unchecked = ruled(
        "E171", "a platform bit without a name says something this policy can't judge", read_flag
    )
    vmpl: frozenset[int] | Unchecked = ruled(
        "E172", "a report from a less privileged level says nothing about the levels above it", set_of(integer(0, 3))
    )
    minimum_guest_svn: int | Unchecked = ruled("E173", "an older image of the same owner", integer(0, _UINT32))
    id_key_digest: OneOf | Unchecked = ruled("E174", "the launch was authorised by another key", one_of(48))
    author_key_digest: OneOf | Unchecked = ruled("E175", "the launch was authored by another key", one_of(48))
    family_id: OneOf | Unchecked = ruled("E176", "another family of images", one_of(16))
    image_id: OneOf | Unchecked = ruled("E177", "another image", one_of(16))
    measurement: OneOf | Unchecked = ruled("E178", "other firmware, kernel, command line or initial disk", one_of(48))
    host_data: OneOf | Unchecked = ruled("E179", "the host started the image with other data", one_of(32))
    report_data: OneOf | Unchecked = ruled("E180", "an old report, or one for another session or key", one_of(64))
    launch_mitigations: Mapping[Product, int] | Unchecked = ruled(
        "E181", "a mitigation was missing when the guest was launched", table_of(_read_product, integer(0, _UINT64))
    )
    current_mitigations: Mapping[Product, int] | Unchecked = ruled(
        "E182", "RMPocalypse and later: a mitigation is missing now", table_of(_read_product, integer(0, _UINT64))
    )


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


def _mitigations(code: str, field: str, vector: Callable[[VerifiedSnp], int | None]) -> Row[VerifiedSnp]:
    """E181, E182: a superset of the mask. A report too old to carry the vector shows no mitigation."""

    def covers(masks: Mapping[Product, int], evidence: VerifiedSnp) -> bool:
        mask = masks.get(evidence.product)
        return mask is not None and mask & ~(vector(evidence) or 0) == 0

    def wanted(masks: Mapping[Product, int], facts: Facts[VerifiedSnp]) -> str:
        product = facts.evidence.product
        return f"all bits of {masks[product]:#x}" if product in masks else f"a mask for {product.value}"

    def shown(evidence: VerifiedSnp) -> str:
        got = vector(evidence)
        return "not in this report version" if got is None else f"{got:#x}"

    return Row(code, field, lambda masks, facts: covers(masks, facts.evidence), wanted, shown)


def _tcb(
    code: str, field: str, level: Callable[[VerifiedSnp], Tcb], requirement: Requirement = None
) -> Row[VerifiedSnp]:
    return Row(
        code,
        field,
        lambda rows, facts: _reaches(level(facts.evidence), _minimum(rows, facts.evidence)),
        lambda rows, facts: _minimum_text(rows, facts.evidence),
        level,
        requirement=requirement,
    )


def _policy_flag(name: str) -> Row[VerifiedSnp]:
    """A bit of the guest's policy, under its own name in the policy document."""
    return flag(f"snp.policy.{name.replace('_', '-')}", name, lambda evidence: bool(getattr(evidence.policy, name)))


def _platform_flag(name: str, field: str) -> Row[VerifiedSnp]:
    code = name.removesuffix("_complete").replace("_", "-")
    return flag(f"snp.platform.{code}", field, lambda evidence: bool(getattr(evidence.platform, name)))


def _in_order(evidence: VerifiedSnp) -> bool:
    return evidence.current_tcb.at_least(evidence.committed_tcb) and evidence.committed_tcb.at_least(
        evidence.reported_tcb
    )


def _build(evidence: VerifiedSnp) -> Firmware:
    """E151: the committed build is the floor the machine can still be rolled back to."""
    return min(evidence.committed_firmware, evidence.current_firmware)


CLAIMS: Final[tuple[Row[VerifiedSnp], ...]] = (
    root("snp"),
    plain(
        "snp.product",
        "products",
        lambda allowed, evidence: evidence.product in allowed,
        lambda allowed: any_of(product.value for product in allowed),
        got=lambda evidence: evidence.product.value,
    ),
    plain(
        "snp.key",
        "keys",
        lambda allowed, evidence: ReportKey(evidence.key.name) in allowed,
        lambda allowed: any_of(key.value for key in allowed),
        got=lambda evidence: evidence.key.name,
    ),
    plain(
        "snp.csp-id",
        "csp_ids",
        lambda allowed, evidence: evidence.key is KeyKind.VCEK or evidence.csp_id in allowed,
        lambda allowed: f"a VCEK, or one of: {', '.join(sorted(allowed)) or 'none'}",
        got=lambda evidence: evidence.csp_id or "a VCEK",
    ),
    plain(
        "snp.revocation",
        "crl",
        lambda _, evidence: evidence.revocation is Revocation.FRESH,
        Revocation.FRESH.value,
        got=lambda evidence: evidence.revocation.value,
        collateral=True,
    ),
    at_least("snp.version", "report_version", lambda evidence: evidence.version),
    listed("snp.chip", "chip_id", "snp.chip_id", lambda evidence: evidence.chip_id, absent="masked"),
    plain(
        "snp.chip.masked",
        "masked_chip_id",
        lambda masked, evidence: evidence.chip_id is not None or masked is MaskedChip.ACCEPT,
        lambda masked: "a chip id" if masked is MaskedChip.REFUSE else "a chip id or a masked one",
        got=lambda evidence: "masked" if evidence.chip_id is None else "a chip id",
    ),
    plain(
        "snp.tcb.order",
        "tcb_order",
        lambda _, evidence: _in_order(evidence),
        "reported <= committed <= current in every part",
        got=lambda evidence: (
            f"reported [{evidence.reported_tcb}], committed [{evidence.committed_tcb}], "
            f"current [{evidence.current_tcb}]"
        ),
    ),
    _tcb("snp.tcb.reported", "minimum_tcb", lambda evidence: evidence.reported_tcb),
    # E150: the launch TCB is held against the same rows, so it can't be checked where they are not stated.
    _tcb(
        "snp.tcb.launch",
        "launch_tcb",
        lambda evidence: evidence.launch_tcb,
        lambda policy, _: policy.minimum_tcb if isinstance(policy.launch_tcb, LaunchTcb) else policy.launch_tcb,
    ),
    Row(
        "snp.firmware",
        "minimum_firmware",
        lambda least, facts: (
            facts.evidence.product in least and _build(facts.evidence) >= least[facts.evidence.product]
        ),
        lambda least, facts: f">= {least.get(facts.evidence.product, 'a stated minimum, and none is')}",
        lambda evidence: f"committed {evidence.committed_firmware}, current {evidence.current_firmware}",
    ),
    _mitigations("snp.mitigations.launch", "launch_mitigations", lambda evidence: evidence.launch_mitigations),
    _mitigations("snp.mitigations.current", "current_mitigations", lambda evidence: evidence.current_mitigations),
    plain(
        "snp.policy.abi",
        "minimum_abi",
        lambda least, evidence: evidence.policy.abi >= least,
        lambda least: f">= {least[0]}.{least[1]}",
        got=lambda evidence: f"{evidence.policy.abi[0]}.{evidence.policy.abi[1]}",
    ),
    _policy_flag("smt"),
    _policy_flag("migration_agent"),
    _policy_flag("debug"),
    _policy_flag("single_socket"),
    _policy_flag("cxl"),
    _policy_flag("aes_256_xts"),
    _policy_flag("rapl_disabled"),
    _policy_flag("ciphertext_hiding"),
    _policy_flag("page_swap_disabled"),
    plain(
        "snp.policy.unknown-bits",
        "unknown_policy_bits",
        lambda wanted, evidence: wanted.met_by(bool(evidence.policy.unknown_bits) or not evidence.policy.must_be_one),
        lambda wanted: f"bit 17 set and bits 26 to 63 clear, otherwise {wanted.value}",
        got=lambda evidence: f"{evidence.policy.raw:#x}",
    ),
    _platform_flag("smt", "platform_smt"),
    _platform_flag("tsme", "platform_tsme"),
    _platform_flag("ecc", "platform_ecc"),
    _platform_flag("rapl_disabled", "platform_rapl_disabled"),
    _platform_flag("ciphertext_hiding", "platform_ciphertext_hiding"),
    _platform_flag("alias_check_complete", "alias_check"),
    _platform_flag("iommu_write_safe", "iommu_write_safe"),
    _platform_flag("trusted_io", "trusted_io"),
    plain(
        "snp.platform.unknown-bits",
        "unknown_platform_bits",
        lambda wanted, evidence: wanted.met_by(bool(evidence.platform.unknown_bits)),
        lambda wanted: f"bits 8 to 63 set: {wanted.value}",
        got=lambda evidence: f"{evidence.platform.raw:#x}",
    ),
    plain(
        "snp.vmpl",
        "vmpl",
        lambda allowed, evidence: evidence.vmpl in allowed,
        lambda allowed: f"one of {sorted(allowed)}",
        got=lambda evidence: evidence.vmpl,
    ),
    at_least("snp.guest-svn", "minimum_guest_svn", lambda evidence: evidence.guest_svn),
    listed("snp.id-key", "id_key_digest", "snp.id_key_digest", lambda evidence: evidence.id_key_digest),
    listed("snp.author-key", "author_key_digest", "snp.author_key_digest", lambda evidence: evidence.author_key_digest),
    listed("snp.family-id", "family_id", "snp.family_id", lambda evidence: evidence.family_id),
    listed("snp.image-id", "image_id", "snp.image_id", lambda evidence: evidence.image_id),
    listed("snp.measurement", "measurement", "snp.measurement", lambda evidence: evidence.measurement),
    listed("snp.host-data", "host_data", "snp.host_data", lambda evidence: evidence.host_data),
    listed("snp.report-data", "report_data", "snp.report_data", lambda evidence: evidence.report_data),
)


def appraise_snp(evidence: VerifiedSnp, references: ReferenceValues, policy: SnpPolicy) -> tuple[Claim, ...]:
    """Every claim of `policy` about `evidence`, met or not, in a fixed order."""
    return judged(CLAIMS, policy, evidence, references)
