"""evidence.md E140 to E182: each claim about SNP evidence, met and not met, alone.

Every row names the policy field, what the policy wants, evidence that has it and evidence that lacks it. All
other fields are unchecked, so a claim that is never made, or made about the wrong field, fails its row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.evidence.snp_report import Cpuid, Firmware, GuestPolicy, KeyKind, PlatformInfo, Product, Tcb
from attestation.policy import gpu, snp, tdx
from attestation.policy.claims import Claim, ClaimStanding, Unchecked
from attestation.policy.fields import Flag, OneOf, Required, rules_of
from attestation.policy.gpu import GpuPolicy
from attestation.policy.snp import LaunchTcb, MaskedChip, ReportKey, SnpPolicy, TcbMinimum, appraise_snp
from attestation.policy.tdx import TdxPolicy
from attestation.verify.verified import Revocation, TrustAnchor, VerifiedSnp
from measurements.reference import ReferenceValues
from tests.unit.attestation.forge import Forge

SIMULATED = TrustAnchor("simulated", b"\x01" * 32, simulated=True)
HARDWARE = TrustAnchor("ARK-Genoa", b"\x02" * 32, simulated=False)
UNCHECKED = Unchecked("for a test")
VERIFIED = replace(Forge().case().verify(), root=HARDWARE)
OPEN = SnpPolicy(
    **{
        **{rule.name: UNCHECKED for rule in rules_of(SnpPolicy)},
        "simulated_roots": frozenset(),
        "products": frozenset(Product),
        "keys": frozenset(ReportKey),
        "masked_chip_id": MaskedChip.ACCEPT,
    }
)
ROW = TcbMinimum(Product.GENOA, Cpuid(25, 17, 1), Tcb(10, 0, 27, 88))
GENOA_ANY = TcbMinimum(Product.GENOA, None, Tcb(10, 0, 27, 88))


def bits(*numbers: int) -> GuestPolicy:
    return GuestPolicy(sum(1 << number for number in (17, *numbers)))


def platform(*numbers: int) -> PlatformInfo:
    return PlatformInfo(sum(1 << number for number in numbers))


def listed(value: bytes) -> OneOf:
    return OneOf(frozenset({value, bytes(len(value))}))


# (code, rule, policy field, requirement, evidence that meets it, evidence that does not)
ROWS: list[tuple[str, str, str, Any, dict[str, Any], dict[str, Any]]] = [
    ("snp.root", "E140", "simulated_roots", frozenset(), {}, {"root": SIMULATED}),
    (
        "snp.root",
        "E140",
        "simulated_roots",
        frozenset({b"\x01" * 32}),
        {"root": SIMULATED},
        {"root": TrustAnchor("simulated", b"\x03" * 32, simulated=True)},
    ),
    ("snp.product", "E141", "products", frozenset({Product.GENOA}), {}, {"product": Product.MILAN}),
    ("snp.key", "E142", "keys", frozenset({ReportKey.VCEK}), {}, {"key": KeyKind.VLEK}),
    ("snp.key", "E142", "keys", frozenset({ReportKey.VLEK}), {"key": KeyKind.VLEK}, {}),
    (
        "snp.csp-id",
        "E143",
        "csp_ids",
        frozenset({"CN=a", "CN=b"}),
        {"key": KeyKind.VLEK, "csp_id": "CN=b"},
        {"key": KeyKind.VLEK, "csp_id": "CN=c"},
    ),
    ("snp.csp-id", "E143", "csp_ids", frozenset(), {}, {"key": KeyKind.VLEK, "csp_id": "CN=b"}),
    ("snp.revocation", "E144", "crl", Required.REQUIRED, {"revocation": Revocation.FRESH}, {}),
    ("snp.version", "E145", "report_version", 5, {}, {"version": 4}),
    ("snp.chip", "E146", "chip_id", listed(VERIFIED.chip_id or b""), {}, {"chip_id": b"\x07" * 64}),
    ("snp.chip", "E146", "chip_id", listed(bytes(64)), {"chip_id": bytes(64)}, {"chip_id": None}),
    ("snp.chip.masked", "E147", "masked_chip_id", MaskedChip.REFUSE, {}, {"chip_id": None}),
    ("snp.tcb.order", "E148", "tcb_order", Required.REQUIRED, {}, {"committed_tcb": Tcb(9, 0, 27, 88)}),
    (
        "snp.tcb.order",
        "E148",
        "tcb_order",
        Required.REQUIRED,
        {"current_tcb": Tcb(11, 1, 28, 89)},
        {"current_tcb": Tcb(255, 255, 26, 255)},
    ),
    ("snp.tcb.reported", "E149", "minimum_tcb", (ROW,), {}, {"reported_tcb": Tcb(10, 0, 27, 87)}),
    ("snp.tcb.reported", "E149", "minimum_tcb", (ROW,), {}, {"reported_tcb": Tcb(255, 255, 26, 255)}),
    ("snp.tcb.reported", "E149", "minimum_tcb", (ROW,), {}, {"cpuid": Cpuid(25, 17, 2)}),
    ("snp.tcb.reported", "E149", "minimum_tcb", (ROW,), {}, {"cpuid": None}),
    ("snp.tcb.reported", "E149", "minimum_tcb", (GENOA_ANY,), {"cpuid": None}, {"product": Product.TURIN}),
    (
        "snp.tcb.reported",
        "E149",
        "minimum_tcb",
        (TcbMinimum(Product.MILAN, None, Tcb(0, 0, 0, 0)), GENOA_ANY),
        {},
        {"reported_tcb": Tcb(9, 0, 27, 88)},
    ),
    (
        "snp.firmware",
        "E151",
        "minimum_firmware",
        {Product.GENOA: Firmware(1, 55, 49)},
        {},
        {"committed_firmware": Firmware(1, 55, 48)},
    ),
    (
        "snp.firmware",
        "E151",
        "minimum_firmware",
        {Product.GENOA: Firmware(1, 55, 49)},
        {"current_firmware": Firmware(2, 0, 0)},
        {"current_firmware": Firmware(1, 54, 99)},
    ),
    ("snp.firmware", "E151", "minimum_firmware", {Product.GENOA: Firmware(0, 0, 0)}, {}, {"product": Product.TURIN}),
    (
        "snp.policy.abi",
        "E152",
        "minimum_abi",
        (1, 55),
        {"policy": GuestPolicy(0x0137)},
        {"policy": GuestPolicy(0x0136)},
    ),
    (
        "snp.policy.abi",
        "E152",
        "minimum_abi",
        (1, 55),
        {"policy": GuestPolicy(0x0200)},
        {"policy": GuestPolicy(0x00FF)},
    ),
    ("snp.policy.unknown-bits", "E162", "unknown_policy_bits", Flag.FORBIDDEN, {}, {"policy": bits(26)}),
    (
        "snp.policy.unknown-bits",
        "E162",
        "unknown_policy_bits",
        Flag.FORBIDDEN,
        {"policy": bits(25)},
        {"policy": GuestPolicy(0)},
    ),
    ("snp.policy.unknown-bits", "E162", "unknown_policy_bits", Flag.FORBIDDEN, {}, {"policy": bits(63)}),
    (
        "snp.platform.unknown-bits",
        "E171",
        "unknown_platform_bits",
        Flag.FORBIDDEN,
        {"platform": platform(7)},
        {"platform": platform(8)},
    ),
    ("snp.platform.unknown-bits", "E171", "unknown_platform_bits", Flag.REQUIRED, {"platform": platform(63)}, {}),
    ("snp.vmpl", "E172", "vmpl", frozenset({0, 2}), {"vmpl": 2}, {"vmpl": 1}),
    ("snp.guest-svn", "E173", "minimum_guest_svn", 3, {"guest_svn": 3}, {"guest_svn": 2}),
    (
        "snp.id-key",
        "E174",
        "id_key_digest",
        listed(b"\x0a" * 48),
        {"id_key_digest": b"\x0a" * 48},
        {"id_key_digest": b"\x0b" * 48},
    ),
    (
        "snp.author-key",
        "E175",
        "author_key_digest",
        listed(b"\x0a" * 48),
        {"author_key_digest": b"\x0a" * 48},
        {"author_key_digest": b"\x0b" * 48},
    ),
    (
        "snp.family-id",
        "E176",
        "family_id",
        listed(b"\x0a" * 16),
        {"family_id": b"\x0a" * 16},
        {"family_id": b"\x0b" * 16},
    ),
    ("snp.image-id", "E177", "image_id", listed(b"\x0a" * 16), {"image_id": b"\x0a" * 16}, {"image_id": b"\x0b" * 16}),
    ("snp.measurement", "E178", "measurement", listed(b"\x11" * 48), {}, {"measurement": b"\x0b" * 48}),
    (
        "snp.host-data",
        "E179",
        "host_data",
        listed(b"\x0a" * 32),
        {"host_data": b"\x0a" * 32},
        {"host_data": b"\x0b" * 32},
    ),
    ("snp.report-data", "E180", "report_data", listed(b"\x22" * 64), {}, {"report_data": b"\x0b" * 64}),
    (
        "snp.mitigations.launch",
        "E181",
        "launch_mitigations",
        {Product.GENOA: 0b1001},
        {},
        {"launch_mitigations": 0b0110},
    ),
    (
        "snp.mitigations.launch",
        "E181",
        "launch_mitigations",
        {Product.GENOA: 0b1001},
        {},
        {"launch_mitigations": 0b1000},
    ),
    ("snp.mitigations.launch", "E181", "launch_mitigations", {Product.GENOA: 1}, {}, {"launch_mitigations": None}),
    (
        "snp.mitigations.current",
        "E182",
        "current_mitigations",
        {Product.GENOA: 0b1001},
        {"current_mitigations": 0b1111},
        {"current_mitigations": 0b0111},
    ),
    (
        "snp.mitigations.current",
        "E182",
        "current_mitigations",
        {Product.GENOA: 0},
        {"current_mitigations": None},
        {"product": Product.TURIN},
    ),
]

POLICY_BITS = [
    ("smt", 16, "smt", "E153"),
    ("migration-agent", 18, "migration_agent", "E154"),
    ("debug", 19, "debug", "E155"),
    ("single-socket", 20, "single_socket", "E156"),
    ("cxl", 21, "cxl", "E157"),
    ("aes-256-xts", 22, "aes_256_xts", "E158"),
    ("rapl-disabled", 23, "rapl_disabled", "E159"),
    ("ciphertext-hiding", 24, "ciphertext_hiding", "E160"),
    ("page-swap-disabled", 25, "page_swap_disabled", "E161"),
]
PLATFORM_BITS = [
    ("smt", 0, "platform_smt", "E163"),
    ("tsme", 1, "platform_tsme", "E164"),
    ("ecc", 2, "platform_ecc", "E165"),
    ("rapl-disabled", 3, "platform_rapl_disabled", "E166"),
    ("ciphertext-hiding", 4, "platform_ciphertext_hiding", "E167"),
    ("alias-check", 5, "alias_check", "E168"),
    ("iommu-write-safe", 6, "iommu_write_safe", "E169"),
    ("trusted-io", 7, "trusted_io", "E170"),
]
for name, number, policy_field, rule in POLICY_BITS:
    on, off = {"policy": bits(number)}, {"policy": GuestPolicy(~(1 << number) & (1 << 64) - 1)}
    ROWS.append((f"snp.policy.{name}", rule, policy_field, Flag.REQUIRED, on, off))
    ROWS.append((f"snp.policy.{name}", rule, policy_field, Flag.FORBIDDEN, off, on))
for name, number, policy_field, rule in PLATFORM_BITS:
    on, off = {"platform": platform(number)}, {"platform": PlatformInfo(~(1 << number) & (1 << 64) - 1)}
    ROWS.append((f"snp.platform.{name}", rule, policy_field, Flag.REQUIRED, on, off))
    ROWS.append((f"snp.platform.{name}", rule, policy_field, Flag.FORBIDDEN, off, on))


def claims(policy: SnpPolicy, evidence: VerifiedSnp, references: ReferenceValues | None = None) -> dict[str, Claim]:
    made = appraise_snp(evidence, references or ReferenceValues.none(), policy)
    assert len({claim.code for claim in made}) == len(made)
    return {claim.code: claim for claim in made}


@pytest.mark.parametrize(("code", "rule", "field", "requirement", "good", "bad"), ROWS)
def test_each_claim_alone(
    code: str, rule: str, field: str, requirement: Any, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    # evidence.md E140 to E149, E151 to E182
    policy = replace(OPEN, **{field: requirement})
    met, unmet = claims(policy, replace(VERIFIED, **good)), claims(policy, replace(VERIFIED, **bad))
    assert (met[code].rule, met[code].standing) == (rule, ClaimStanding.MET), met[code]
    assert (unmet[code].rule, unmet[code].standing) == (rule, ClaimStanding.NOT_MET), unmet[code]
    assert [claim.code for claim in met.values() if claim.standing is ClaimStanding.NOT_MET] == []
    assert [claim.code for claim in unmet.values() if claim.standing is ClaimStanding.NOT_MET] == [code]
    assert unmet[code].expected != unmet[code].got


def test_every_field_has_a_claim_that_is_listed_even_when_unchecked() -> None:  # evidence.md E134
    open_claims = claims(OPEN, VERIFIED)
    by_rule = {claim.rule for claim in open_claims.values()}
    assert by_rule == {rule.rule for rule in rules_of(SnpPolicy)}
    always = {"snp.root", "snp.product", "snp.key", "snp.chip.masked"}
    for code, claim in open_claims.items():
        assert claim.standing is (ClaimStanding.MET if code in always else ClaimStanding.UNCHECKED)
        if code not in always:
            assert claim.expected == "unchecked: for a test"
            assert claim.got


def test_only_revocation_can_be_turned_by_collateral() -> None:  # evidence.md E135, E144
    policy = replace(OPEN, crl=Required.REQUIRED, debug=Flag.REQUIRED)
    assert [claim.code for claim in claims(policy, VERIFIED).values() if claim.collateral] == ["snp.revocation"]


class TestLaunch:
    """evidence.md E150."""

    def test_it_is_held_against_the_same_rows(self) -> None:  # evidence.md E150
        policy = replace(OPEN, minimum_tcb=(ROW,), launch_tcb=LaunchTcb.MINIMUM)
        assert claims(policy, VERIFIED)["snp.tcb.launch"].standing is ClaimStanding.MET
        late = replace(VERIFIED, launch_tcb=Tcb(10, 0, 27, 87))
        unmet = [claim for claim in claims(policy, late).values() if claim.standing is ClaimStanding.NOT_MET]
        assert [(claim.code, claim.rule) for claim in unmet] == [("snp.tcb.launch", "E150")]

    def test_without_rows_it_is_unchecked_with_their_reason(self) -> None:
        policy = replace(OPEN, minimum_tcb=Unchecked("no rows"), launch_tcb=LaunchTcb.MINIMUM)
        assert claims(policy, VERIFIED)["snp.tcb.launch"].expected == "unchecked: no rows"

    def test_it_can_be_left_alone(self) -> None:
        policy = replace(OPEN, minimum_tcb=(ROW,), launch_tcb=Unchecked("own reason"))
        assert claims(policy, VERIFIED)["snp.tcb.launch"].expected == "unchecked: own reason"


def test_a_row_of_the_model_goes_before_that_of_the_product() -> None:  # evidence.md E149
    low = TcbMinimum(Product.GENOA, None, Tcb(0, 0, 0, 0))
    high = TcbMinimum(Product.GENOA, Cpuid(25, 17, 1), Tcb(255, 0, 0, 0))
    for rows in ((low, high), (high, low)):
        policy = replace(OPEN, minimum_tcb=rows)
        assert claims(policy, VERIFIED)["snp.tcb.reported"].standing is ClaimStanding.NOT_MET
        elsewhere = replace(VERIFIED, cpuid=Cpuid(25, 18, 1))
        assert claims(policy, elsewhere)["snp.tcb.reported"].standing is ClaimStanding.MET


REFERENCED = [
    ("snp.chip", "chip_id"),
    ("snp.id-key", "id_key_digest"),
    ("snp.author-key", "author_key_digest"),
    ("snp.family-id", "family_id"),
    ("snp.image-id", "image_id"),
    ("snp.measurement", "measurement"),
    ("snp.host-data", "host_data"),
    ("snp.report-data", "report_data"),
]


@pytest.mark.parametrize(("code", "field"), REFERENCED)
def test_reference_values(code: str, field: str) -> None:  # evidence.md E136
    policy = replace(OPEN, **{field: OneOf(frozenset(), from_references=True)})
    value = getattr(VERIFIED, field)
    known = ReferenceValues.of({f"snp.{field}": [value, bytes([1]) * len(value)]})
    assert claims(policy, VERIFIED, known)[code].standing is ClaimStanding.MET
    assert claims(policy, VERIFIED)[code].standing is ClaimStanding.NOT_MET
    assert claims(policy, VERIFIED)[code].expected == "one of 0 reference values"
    others = {f"snp.{other}": [getattr(VERIFIED, other)] for _, other in REFERENCED if other != field}
    assert claims(policy, VERIFIED, ReferenceValues.of(others))[code].standing is ClaimStanding.NOT_MET


@pytest.mark.parametrize(
    ("change", "evidence", "code", "expected", "got"),
    [
        ({}, {}, "snp.root", "a hardware root", "ARK-Genoa"),
        (
            {"simulated_roots": frozenset({b"\1" * 32})},
            {"root": SIMULATED},
            "snp.root",
            "a hardware root, or one of 1 named simulated roots",
            f"simulated (simulated, {'01' * 32})",
        ),
        ({"products": frozenset({Product.TURIN, Product.GENOA})}, {}, "snp.product", "Genoa or Turin", "Genoa"),
        ({"products": frozenset()}, {}, "snp.product", "none", "Genoa"),
        ({"csp_ids": frozenset({"b", "a"})}, {}, "snp.csp-id", "a VCEK, or one of: a, b", "a VCEK"),
        ({"csp_ids": frozenset()}, {"key": KeyKind.VLEK, "csp_id": "z"}, "snp.csp-id", "a VCEK, or one of: none", "z"),
        ({"report_version": 3}, {}, "snp.version", ">= 3", "5"),
        ({"masked_chip_id": MaskedChip.REFUSE}, {"chip_id": None}, "snp.chip.masked", "a chip id", "masked"),
        ({}, {}, "snp.chip.masked", "a chip id or a masked one", "a chip id"),
        ({"chip_id": OneOf(frozenset({b"\1" * 8}))}, {"chip_id": None}, "snp.chip", "01" * 8, "masked"),
        (
            {"chip_id": OneOf(frozenset())},
            {"chip_id": b"\2" * 8},
            "snp.chip",
            "one of 0 values of the policy",
            "02" * 8,
        ),
        (
            {"tcb_order": Required.REQUIRED},
            {"committed_tcb": Tcb(1, 2, 3, 4), "current_tcb": Tcb(5, 6, 7, 8)},
            "snp.tcb.order",
            "reported <= committed <= current in every part",
            (
                "reported [bootloader 10 tee 0 snp 27 microcode 88], "
                "committed [bootloader 1 tee 2 snp 3 microcode 4], "
                "current [bootloader 5 tee 6 snp 7 microcode 8]"
            ),
        ),
        (
            {"minimum_tcb": (ROW,)},
            {},
            "snp.tcb.reported",
            ">= bootloader 10 tee 0 snp 27 microcode 88",
            "bootloader 10 tee 0 snp 27 microcode 88",
        ),
        (
            {"minimum_tcb": (ROW,)},
            {"cpuid": Cpuid(1, 2, 3)},
            "snp.tcb.reported",
            "a stated minimum for Genoa 1/2/3, and none is",
            "bootloader 10 tee 0 snp 27 microcode 88",
        ),
        (
            {"minimum_tcb": (ROW,)},
            {"cpuid": None},
            "snp.tcb.reported",
            "a stated minimum for Genoa of unstated model, and none is",
            "bootloader 10 tee 0 snp 27 microcode 88",
        ),
        (
            {"minimum_firmware": {Product.GENOA: Firmware(1, 2, 3)}},
            {},
            "snp.firmware",
            ">= 1.2.3",
            "committed 1.55.49, current 1.55.49",
        ),
        (
            {"minimum_firmware": {}},
            {},
            "snp.firmware",
            ">= a stated minimum, and none is",
            "committed 1.55.49, current 1.55.49",
        ),
        ({"minimum_abi": (1, 55)}, {"policy": GuestPolicy(0x0136)}, "snp.policy.abi", ">= 1.55", "1.54"),
        (
            {"current_mitigations": {Product.GENOA: 9}},
            {"current_mitigations": None},
            "snp.mitigations.current",
            "all bits of 0x9",
            "not in this report version",
        ),
        ({"launch_mitigations": {}}, {}, "snp.mitigations.launch", "a mask for Genoa", "0xb"),
        ({"debug": Flag.FORBIDDEN}, {"policy": bits(19)}, "snp.policy.debug", "clear", "set"),
        ({"debug": Flag.REQUIRED}, {}, "snp.policy.debug", "set", "clear"),
        (
            {"unknown_policy_bits": Flag.FORBIDDEN},
            {"policy": GuestPolicy(1)},
            "snp.policy.unknown-bits",
            "bit 17 set and bits 26 to 63 clear, otherwise forbidden",
            "0x1",
        ),
        (
            {"unknown_platform_bits": Flag.FORBIDDEN},
            {"platform": platform(8)},
            "snp.platform.unknown-bits",
            "bits 8 to 63 set: forbidden",
            "0x100",
        ),
        ({"vmpl": frozenset({2, 0})}, {"vmpl": 1}, "snp.vmpl", "one of [0, 2]", "1"),
        ({"measurement": OneOf(frozenset({b"\1" * 48}))}, {}, "snp.measurement", "01" * 48, "11" * 48),
        (
            {"crl": Required.REQUIRED},
            {},
            "snp.revocation",
            "a fresh list covers the chain and names no certificate of it",
            "no list was given",
        ),
    ],
)
def test_what_a_claim_says(
    change: dict[str, Any], evidence: dict[str, Any], code: str, expected: str, got: str
) -> None:
    claim = claims(replace(OPEN, **change), replace(VERIFIED, **evidence))[code]
    assert (claim.expected, claim.got) == (expected, got)


@pytest.mark.parametrize(
    ("section", "claims"), [(SnpPolicy, snp.CLAIMS), (TdxPolicy, tdx.CLAIMS), (GpuPolicy, gpu.CLAIMS)]
)
def test_every_field_of_a_section_has_a_claim(section: type, claims: tuple[Any, ...]) -> None:  # evidence.md E134
    assert {row.field for row in claims} == {rule.name for rule in rules_of(section)}
    assert len({row.code for row in claims}) == len(claims)
