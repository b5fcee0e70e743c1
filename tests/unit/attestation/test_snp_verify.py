"""evidence.md E20-E52: what makes a report genuine. Each case is sound but for the thing it is about."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, timedelta, timezone

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import BindingRefused, ChainRefused, CollateralMissing, FormatRefused, Revoked, SignatureRefused
from attestation.evidence.snp_report import Cpuid, Firmware, KeyKind, Product, Tcb
from attestation.verify import pins
from attestation.verify.chain import key_digest
from attestation.verify.facts import snp_facts
from attestation.verify.snp import P384_ORDER, product_of
from attestation.verify.verified import Revocation, VerifiedSnp
from tests.keys import p384_key, rsa_key
from tests.unit.attestation.forge import BOOTLOADER_FIRST, END, NOW, START, Forge, text
from tests.unit.attestation.snp_cases import BOTH, GENOA, TURIN, refused, with_vek


class TestSound:
    @BOTH
    @pytest.mark.parametrize("product", list(Product))
    def test_each_product_and_key(self, product: Product, kind: KeyKind) -> None:  # evidence.md E35
        forge = Forge(product)
        verified = forge.case(kind).verify()
        assert (verified.product, verified.key, verified.chip_id) == (product, kind, forge.chip)
        assert verified.root == pins.TrustAnchor("test root", key_digest(rsa_key("ark").public_key()), simulated=True)
        assert verified.csp_id == ("CN=provider" if kind is KeyKind.VLEK else None)
        assert verified.reported_tcb == Tcb.parse(forge.tcb, product)
        assert (verified.revocation, verified.revocation_until) == (Revocation.UNKNOWN, None)
        assert (verified.verified_at, verified.valid_until) == (NOW, END)

    def test_everything_a_policy_needs_comes_along(self) -> None:
        lower = bytes([9, 0, 0, 0, 0, 0, 26, 80])
        verified = GENOA.case(
            guest_svn=4,
            vmpl=2,
            policy=0x10_0137,
            platform=0x5A,
            key_info=1,
            family_id=b"f" * 16,
            image_id=b"i" * 16,
            host_data=b"h" * 32,
            id_key_digest=b"k" * 48,
            author_key_digest=b"a" * 48,
            report_id=b"r" * 32,
            report_id_ma=b"m" * 32,
            committed_tcb=lower,
            launch_tcb=bytes(8),
            current_tcb=bytes([255, 0, 0, 0, 0, 0, 255, 255]),
            current_firmware=0x013733,
            launch_mitigations=3,
            current_mitigations=5,
        ).verify()
        assert (verified.version, verified.guest_svn, verified.vmpl) == (5, 4, 2)
        assert (verified.policy.raw, verified.platform.raw, verified.author_key_enabled) == (0x10_0137, 0x5A, True)
        assert (verified.family_id, verified.image_id) == (b"f" * 16, b"i" * 16)
        assert (verified.host_data, verified.report_data) == (b"h" * 32, b"\x22" * 64)
        assert (verified.measurement, verified.cpuid) == (b"\x11" * 48, Cpuid(25, 17, 1))
        assert (verified.id_key_digest, verified.author_key_digest) == (b"k" * 48, b"a" * 48)
        assert (verified.report_id, verified.report_id_ma) == (b"r" * 32, b"m" * 32)
        assert (verified.committed_tcb, verified.launch_tcb) == (Tcb(9, 0, 26, 80), Tcb(0, 0, 0, 0))
        assert verified.current_tcb == Tcb(255, 0, 255, 255)
        assert (verified.current_firmware, verified.committed_firmware) == (Firmware(1, 55, 51), Firmware(1, 55, 49))
        assert (verified.launch_mitigations, verified.current_mitigations) == (3, 5)

    def test_time_in_another_zone_is_the_same_time(self) -> None:
        case = GENOA.case()
        case.at = NOW.astimezone(timezone(timedelta(hours=5)))
        assert case.verify().verified_at == NOW
        assert case.verify().verified_at.tzinfo is UTC

    def test_a_parsed_report_is_no_verified_one(self) -> None:  # evidence.md E51
        verified = GENOA.case().verify()
        fields = {name: getattr(verified, name) for name in VerifiedSnp.__dataclass_fields__}
        with pytest.raises(TypeError, match="made by attestation"):
            VerifiedSnp(**{**fields, "seal": object()})
        assert "certificate" not in " ".join(fields)
        assert repr(verified.seal) == "<sealed by attestation.verify>"
        assert "seal" not in repr(verified).replace("sealed", "")


class TestSignature:
    @pytest.mark.parametrize("algorithm", [0, 2, 2**32 - 1])
    def test_one_algorithm(self, algorithm: int) -> None:  # evidence.md E40
        refused(GENOA.case(algorithm=algorithm), SignatureRefused, "snp.signature.algorithm")

    @pytest.mark.parametrize("key_info", [2, 7 << 2])
    def test_without_a_key_there_is_no_evidence(self, key_info: int) -> None:  # evidence.md E40
        refused(GENOA.case(key_info=key_info), SignatureRefused, "snp.signature.absent")

    @pytest.mark.parametrize("value", [0, P384_ORDER, P384_ORDER + 1, 2**576 - 1, 1 << 384])
    @pytest.mark.parametrize("offset", [0x2A0, 0x2E8])
    def test_components_are_in_range(self, value: int, offset: int) -> None:  # evidence.md E41
        case = GENOA.case()
        case.report = case.report[:offset] + value.to_bytes(72, "little") + case.report[offset + 72 :]
        refused(case, SignatureRefused, "snp.signature.range")

    @pytest.mark.parametrize("value", [1, P384_ORDER - 1])
    def test_the_ends_of_the_range_are_looked_at(self, value: int) -> None:  # evidence.md E41
        case = GENOA.case()
        case.report = case.report[:0x2A0] + value.to_bytes(72, "little") + case.report[0x2E8:]
        refused(case, SignatureRefused, "snp.signature")

    @pytest.mark.parametrize("offset", [0x004, 0x008, 0x00A, 0x040, 0x050, 0x090, 0x0C0, 0x160, 0x1A0, 0x200])
    def test_every_signed_byte_is_covered(self, offset: int) -> None:  # evidence.md E42, E8
        case = GENOA.case()
        raw = bytearray(case.report)
        raw[offset] ^= 0x40
        case.report = bytes(raw)
        refused(case, SignatureRefused, "snp.signature")

    def test_the_last_signed_byte_is_covered(self) -> None:  # evidence.md E42: SHA-384 over exactly 0x2A0 bytes
        case = GENOA.case()
        for size in (0x29F, 0x2A1):
            key = p384_key("vek")
            from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

            r, s = decode_dss_signature(key.sign(case.report[:size], ec.ECDSA(hashes.SHA384())))
            forged = case.report[:0x2A0] + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)
            refused(replace(case, report=forged), SignatureRefused, "snp.signature")

    def test_a_malleated_report_is_the_same_report(self) -> None:  # evidence.md E43
        case = GENOA.case()
        s = int.from_bytes(case.report[0x2E8:0x330], "little")
        other = replace(case, report=case.report[:0x2E8] + (P384_ORDER - s).to_bytes(72, "little") + bytes(368))
        assert other.report != case.report
        assert other.verify() == case.verify()
        assert GENOA.case(vmpl=1).verify().body_digest != case.verify().body_digest


class TestBindings:
    def test_the_kind_of_key(self) -> None:  # evidence.md E45
        refused(GENOA.case(KeyKind.VCEK, key_info=1 << 2), BindingRefused, "snp.binding.key-kind")
        refused(GENOA.case(KeyKind.VLEK, key_info=0), BindingRefused, "snp.binding.key-kind")

    def test_the_product_of_the_root(self) -> None:  # evidence.md E46
        refused(with_vek(GENOA.make_vek(amd={"2": text("Milan")})), BindingRefused, "snp.binding.product")

    @pytest.mark.parametrize("cpuid", [(25, 1, 1), (25, 32, 0), (25, 159, 0), (25, 176, 0), (26, 2, 1), (24, 17, 1)])
    def test_the_processor(self, cpuid: tuple[int, int, int]) -> None:  # evidence.md E47
        refused(GENOA.case(cpuid=bytes(cpuid)), BindingRefused, "snp.binding.cpuid")

    def test_an_old_report_names_no_processor(self) -> None:  # evidence.md E47, E5
        case = GENOA.case(version=2, cpuid=bytes(3), launch_mitigations=0, current_mitigations=0)
        assert case.verify().cpuid is None

    def test_which_processors_belong_to_which_product(self) -> None:  # evidence.md E47
        found = {
            (family, model): product_of(Cpuid(family, model, 0)) for family in (24, 25, 26, 27) for model in range(256)
        }
        expected = {(25, model): Product.MILAN for model in range(16)}
        expected |= {(25, model): Product.GENOA for model in [*range(16, 32), *range(160, 176)]}
        expected |= {(26, model): Product.TURIN for model in range(32)}
        assert {key: product for key, product in found.items() if product} == expected

    def test_the_chip(self) -> None:  # evidence.md E48
        refused(GENOA.case(chip_id=b"\x07" * 64), BindingRefused, "snp.binding.chip")
        refused(GENOA.case(chip_id=bytes(63) + b"\x01"), BindingRefused, "snp.binding.chip")
        refused(TURIN.case(chip_id=TURIN.chip + bytes(55) + b"\1"), BindingRefused, "snp.binding.chip")
        refused(TURIN.case(chip_id=(b"\x07" * 8).ljust(64, b"\0")), BindingRefused, "snp.binding.chip")
        assert TURIN.case().verify().chip_id == TURIN.chip

    @BOTH
    def test_a_masked_chip_stays_unknown(self, kind: KeyKind) -> None:  # evidence.md E49
        assert GENOA.case(kind, chip_id=bytes(64)).verify().chip_id is None
        assert TURIN.case(kind, chip_id=bytes(64)).verify().chip_id is None

    @pytest.mark.parametrize("forge", [GENOA, TURIN], ids=["Genoa", "Turin"])
    @pytest.mark.parametrize("shown", [True, False], ids=["shown", "masked"])
    def test_the_chip_that_signed_is_named_by_its_certificate(self, forge: Forge, shown: bool) -> None:  # E49
        chip_id = forge.chip.ljust(64, b"\0") if shown else bytes(64)
        verified = forge.case(chip_id=chip_id).verify()
        assert (verified.hwid, verified.chip) == (forge.chip, forge.chip)
        by_provider = forge.case(KeyKind.VLEK, chip_id=chip_id).verify()
        assert (by_provider.hwid, by_provider.chip) == (None, forge.chip if shown else None)

    def test_a_vlek_is_bound_to_no_chip(self) -> None:  # evidence.md E48, E13
        assert GENOA.case(KeyKind.VLEK, chip_id=b"\x09" * 64).verify().chip_id == b"\x09" * 64

    @pytest.mark.parametrize("index", [0, 1, 6, 7])
    def test_the_reported_tcb_is_that_of_the_certificate(self, index: int) -> None:  # evidence.md E50
        tcb = bytearray(BOOTLOADER_FIRST)
        tcb[index] += 1
        refused(GENOA.case(reported_tcb=bytes(tcb)), BindingRefused, "snp.binding.tcb")

    @pytest.mark.parametrize("index", [0, 1, 2, 3, 7])
    def test_in_turins_layout_too(self, index: int) -> None:  # evidence.md E50, E6
        tcb = bytearray(TURIN.tcb)
        tcb[index] += 1
        refused(TURIN.case(reported_tcb=bytes(tcb)), BindingRefused, "snp.binding.tcb")

    @pytest.mark.parametrize("name", ["reported_tcb", "current_tcb", "committed_tcb", "launch_tcb"])
    def test_a_reserved_level_is_refused(self, name: str) -> None:  # evidence.md E6
        refused(GENOA.case(**{name: bytes([10, 0, 1, 0, 0, 0, 27, 88])}), FormatRefused, "snp.tcb.reserved")


class TestFacts:
    """Verified evidence as plain values."""

    def test_of_a_new_report(self) -> None:
        facts = snp_facts(GENOA.case(host_data=b"\x05" * 32).verify())
        assert facts["chip_id"] == GENOA.chip.hex()
        assert (facts["cpuid"], facts["current_mitigations"], facts["launch_mitigations"]) == ("25/17/1", "0xb", "0xb")
        assert (facts["root"], facts["simulated"], facts["product"]) == ("test root", True, "Genoa")
        assert (facts["policy"], facts["platform_info"], facts["host_data"]) == ("0x20000", "0x24", "05" * 32)
        assert facts["valid_until"] == f"{END:%Y-%m-%dT%H:%M:%SZ}"
        json.dumps(facts)

    def test_of_an_old_one_that_hides_its_chip(self) -> None:
        case = GENOA.case(version=2, cpuid=bytes(3), launch_mitigations=0, current_mitigations=0, chip_id=bytes(64))
        facts = snp_facts(case.verify())
        absent = ("chip_id", "cpuid", "csp_id", "launch_mitigations", "current_mitigations")
        assert [facts[name] for name in absent] == [None] * 5


class TestOrder:
    """evidence.md E52, E25: what is false is named before what is only undecided."""

    def test_two_faults_and_the_first_is_named(self) -> None:  # evidence.md E52
        expired = GENOA.make_vek(end=NOW - timedelta(days=1))
        forged = GENOA.report(key=p384_key("other"))
        stale = GENOA.crl(start=START, end=NOW - timedelta(days=1))
        revoked = GENOA.crl(revoked=(7,))
        sound = GENOA.case()
        wrong_chip = GENOA.report(chip_id=b"\x07" * 64)
        forged_too = GENOA.report(chip_id=b"\x07" * 64, key=p384_key("other"))
        unsigned = GENOA.make_vek(signer=rsa_key("other"))
        refused(replace(sound, vek=unsigned, report=forged), ChainRefused, "chain.signature")
        refused(replace(sound, report=forged, vek=expired), SignatureRefused, "snp.signature")
        refused(replace(sound, report=forged_too), SignatureRefused, "snp.signature")
        refused(replace(sound, report=wrong_chip, lists=[revoked]), BindingRefused, "snp.binding.chip")
        refused(replace(sound, vek=expired, lists=[revoked]), Revoked, "crl.revoked")
        refused(replace(sound, vek=expired, lists=[stale]), CollateralMissing, "chain.validity")
        refused(replace(sound, lists=[stale]), CollateralMissing, "crl.stale")
