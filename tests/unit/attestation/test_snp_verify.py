"""evidence.md E20-E52: what makes a report genuine. Each case is sound but for the thing it is about."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import (
    BindingRefused,
    ChainRefused,
    CollateralMissing,
    EvidenceRefused,
    FormatRefused,
    Revoked,
    SignatureRefused,
)
from attestation.evidence.snp_report import Cpuid, Firmware, KeyKind, Product, Tcb
from attestation.verify import pins
from attestation.verify.chain import key_digest
from attestation.verify.facts import snp_facts
from attestation.verify.snp import P384_ORDER, SnpCollateral, SnpEvidence, product_of
from attestation.verify.verified import Revocation, VerifiedSnp
from tests.keys import p384_key, rsa_key
from tests.unit.attestation.forge import BOOTLOADER_FIRST, END, NOW, PSS, START, Case, Forge, integer, text, usage

GENOA = Forge()
TURIN = Forge(Product.TURIN)
BOTH = pytest.mark.parametrize("kind", [KeyKind.VCEK, KeyKind.VLEK])


def refused(case: Case, family: type[EvidenceRefused], code: str) -> EvidenceRefused:
    with pytest.raises(EvidenceRefused) as caught:
        case.verify()
    assert (type(caught.value), caught.value.code) == (family, code), caught.value
    return caught.value


def with_vek(vek: x509.Certificate, kind: KeyKind = KeyKind.VCEK) -> Case:
    case = GENOA.case(kind)
    case.vek = vek
    return case


def with_intermediate(intermediate: x509.Certificate) -> Case:
    case = GENOA.case()
    case.chain[0] = intermediate
    return case


def with_ark(ark: x509.Certificate) -> Case:
    case = GENOA.case()
    case.chain[1] = ark
    return case


def with_oid(certificate: x509.Certificate, oid: bytes) -> x509.Certificate:
    """The certificate with the last arc of its key's object identifier changed to one nobody has."""
    der = certificate.public_bytes(Encoding.DER)
    return x509.load_der_x509_certificate(der.replace(oid, oid[:-1] + b"\x63"))


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


class TestChain:
    def test_a_root_that_is_not_pinned_is_refused(self) -> None:  # evidence.md E20
        case = GENOA.case()
        case.roots = pins.AMD_ROOTS
        assert "test" not in refused(case, ChainRefused, "chain.root").got
        case.roots = {}
        refused(case, ChainRefused, "chain.root")

    def test_a_name_is_never_enough(self) -> None:  # evidence.md E20
        other = GENOA.make_ark(key=rsa_key("other"), signer=rsa_key("other"))
        assert refused(with_ark(other), ChainRefused, "chain.root").got == "ARK-Genoa, another key"

    def test_the_pinned_one_is_found_among_namesakes(self) -> None:  # evidence.md E20, E21
        case = GENOA.case()
        case.chain.insert(0, GENOA.make_ark(key=rsa_key("other"), signer=rsa_key("other")))
        case.chain.insert(0, GENOA.make_intermediate(key=rsa_key("other")))
        assert case.verify().product is Product.GENOA

    def test_amd_roots_are_three(self) -> None:
        names = {root.anchor.name: root for root in pins.AMD_ROOTS.values()}
        assert {name: root.product for name, root in names.items()} == {
            "ARK-Milan": Product.MILAN,
            "ARK-Genoa": Product.GENOA,
            "ARK-Turin": Product.TURIN,
        }
        assert not any(root.anchor.simulated for root in names.values())
        assert all(digest == root.anchor.spki_sha256 for digest, root in pins.AMD_ROOTS.items())

    def test_a_simulated_root_can_not_take_the_place_of_a_pin(self) -> None:
        for spki in [next(iter(pins.AMD_ROOTS)), bytes(31), bytes(33), b""]:
            with pytest.raises(ValueError, match="not AMD's"):
                pins.with_simulated([("x", Product.GENOA, spki)])
        roots = pins.with_simulated([("x", Product.GENOA, bytes(32))])
        assert set(roots) == {*pins.AMD_ROOTS, bytes(32)}
        assert roots[bytes(32)].anchor.simulated

    def test_a_vek_of_another_signer_is_refused(self) -> None:  # evidence.md E21
        refused(with_vek(GENOA.make_vek(signer=rsa_key("other"))), ChainRefused, "chain.signature")

    def test_an_intermediate_of_another_signer_is_refused(self) -> None:  # evidence.md E21
        case = with_intermediate(GENOA.make_intermediate(signer=rsa_key("other")))
        refusal = refused(case, ChainRefused, "chain.signature")
        assert refusal.expected == "SEV-Genoa signed by ARK-Genoa"

    @pytest.mark.parametrize("salt", [0, 32, 47, 64])
    def test_another_salt_is_refused(self, salt: int) -> None:  # evidence.md E21
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt)
        refused(with_vek(GENOA.make_vek(rsa_padding=pss)), ChainRefused, "chain.signature")

    def test_other_hashes_and_padding_are_refused(self) -> None:  # evidence.md E21
        for rsa_padding, algorithm in [
            (padding.PSS(padding.MGF1(hashes.SHA256()), 48), hashes.SHA384()),
            (padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA256()),
            (padding.PKCS1v15(), hashes.SHA384()),
        ]:
            vek = GENOA.make_vek(rsa_padding=rsa_padding, algorithm=algorithm)
            refused(with_vek(vek), ChainRefused, "chain.signature")

    def test_a_short_key_signs_nothing(self) -> None:  # evidence.md E21
        short = rsa_key("short", 3072)
        case = with_intermediate(GENOA.make_intermediate(key=short))
        case.vek = GENOA.make_vek(signer=short)
        refused(case, ChainRefused, "chain.signature")

    def test_a_short_root_is_no_root(self) -> None:  # evidence.md E21
        short = rsa_key("short", 3072)
        case = with_ark(GENOA.make_ark(key=short, signer=short))
        case.roots = pins.with_simulated([("short", Product.GENOA, key_digest(short.public_key()))])
        refused(case, ChainRefused, "chain.root")

    def test_an_elliptic_key_is_no_authority(self) -> None:  # evidence.md E21
        refused(with_intermediate(GENOA.make_intermediate(key=p384_key("ca"))), ChainRefused, "chain.signature")

    def test_the_root_signs_itself(self) -> None:  # evidence.md E22
        longer = GENOA.make_ark(signer=rsa_key("other"), end=END + timedelta(days=9999))
        refused(with_ark(longer), ChainRefused, "chain.root.self-signature")

    @pytest.mark.parametrize("authority", [None, x509.BasicConstraints(False, None)])
    def test_an_issuer_is_an_authority(self, authority: x509.BasicConstraints | None) -> None:  # evidence.md E24
        refused(with_intermediate(GENOA.make_intermediate(authority=authority)), ChainRefused, "chain.authority")
        refused(with_ark(GENOA.make_ark(authority=authority)), ChainRefused, "chain.authority")

    def test_the_constraint_is_critical(self) -> None:  # evidence.md E24
        lax = GENOA.make_intermediate(constraints_critical=False)
        refused(with_intermediate(lax), ChainRefused, "chain.authority")

    @pytest.mark.parametrize("length", [None, 1])
    def test_an_intermediate_issues_leaves_only(self, length: int | None) -> None:  # evidence.md E24
        lax = GENOA.make_intermediate(authority=x509.BasicConstraints(True, length))
        refusal = refused(with_intermediate(lax), ChainRefused, "chain.path-length")
        assert (refusal.expected, refusal.got) == ("0", str(length))

    @pytest.mark.parametrize("wrong", [None, usage(sign=False), usage(sign=False, crl=True)])
    def test_an_issuer_may_sign_certificates(self, wrong: x509.KeyUsage | None) -> None:  # evidence.md E24
        refused(with_intermediate(GENOA.make_intermediate(usage=wrong)), ChainRefused, "chain.key-usage")
        refused(with_ark(GENOA.make_ark(usage=wrong)), ChainRefused, "chain.key-usage")

    def test_a_root_may_sign_lists(self) -> None:  # evidence.md E24
        refusal = refused(with_ark(GENOA.make_ark(usage=usage(crl=False))), ChainRefused, "chain.key-usage")
        assert refusal.expected == "certificate and list signing"

    def test_a_vek_is_no_authority(self) -> None:  # evidence.md E24
        vek = GENOA.make_vek(authority=x509.BasicConstraints(True, None))
        refused(with_vek(vek), ChainRefused, "chain.leaf")

    def test_a_vek_whose_extensions_can_not_be_read(self) -> None:  # evidence.md E24, E15
        # The builder makes no extension twice, so one object identifier is overwritten before signing anew.
        der = GENOA.make_vek().tbs_certificate_bytes
        arc = bytes.fromhex("2b060104019c7801")
        first, second = (b"\x06\x0a" + arc + bytes([3, number]) for number in (1, 2))
        body = der.replace(second, first)
        signature = rsa_key("intermediate").sign(body, PSS, hashes.SHA384())
        whole = GENOA.make_vek().public_bytes(Encoding.DER)
        vek = x509.load_der_x509_certificate(whole.replace(der, body)[:-512] + signature)
        refused(with_vek(vek), ChainRefused, "chain.leaf")

    def test_a_vek_may_say_that_it_is_none(self) -> None:  # evidence.md E24
        vek = GENOA.make_vek(authority=x509.BasicConstraints(False, None), constraints_critical=False)
        assert with_vek(vek).verify().key is KeyKind.VCEK

    @pytest.mark.parametrize("which", ["vek", "intermediate", "ark"])
    @pytest.mark.parametrize("late", [False, True])
    def test_every_certificate_is_valid_at_the_time(self, which: str, late: bool) -> None:  # evidence.md E25
        dates = (
            {"start": NOW + timedelta(seconds=1), "end": END}
            if late
            else {"start": START, "end": NOW - timedelta(seconds=1)}
        )
        maker = {"vek": GENOA.make_vek, "intermediate": GENOA.make_intermediate, "ark": GENOA.make_ark}[which]
        put = {"vek": with_vek, "intermediate": with_intermediate, "ark": with_ark}[which]
        refusal = refused(put(maker(**dates)), CollateralMissing, "chain.validity")
        assert refusal.got == "2026-06-01 00:00:00Z"

    def test_the_ends_belong_to_the_validity(self) -> None:  # evidence.md E25
        for dates in ({"start": NOW, "end": END}, {"start": START, "end": NOW}):
            assert with_vek(GENOA.make_vek(**dates)).verify().valid_until == dates["end"]

    def test_a_vcek_comes_from_the_ask_and_a_vlek_from_the_asvk(self) -> None:  # evidence.md E26
        crossed = GENOA.case()
        crossed.vek = GENOA.make_vek(issuer="SEV-VLEK-Genoa", signer=rsa_key("intermediate-VLEK"))
        crossed.chain = GENOA.case(KeyKind.VLEK).chain
        refused(crossed, BindingRefused, "snp.binding.issuer")
        crossed = GENOA.case(KeyKind.VLEK)
        crossed.vek = GENOA.make_vek(KeyKind.VLEK, issuer="SEV-Genoa", signer=rsa_key("intermediate"))
        crossed.chain = GENOA.case().chain
        refused(crossed, BindingRefused, "snp.binding.issuer")

    def test_the_signing_key_is_on_p384(self) -> None:  # evidence.md E27
        p256 = ec.generate_private_key(ec.SECP256R1())
        case = with_vek(GENOA.make_vek(key=p256))
        refused(case, ChainRefused, "vek.key")
        refused(with_vek(GENOA.make_vek(key=rsa_key("other"))), ChainRefused, "vek.key")

    def test_a_key_of_a_kind_nobody_knows(self) -> None:  # evidence.md E21, E27
        rsa_oid, ec_oid = bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06072a8648ce3d0201")
        strange = with_intermediate(with_oid(GENOA.make_intermediate(), rsa_oid))
        refused(strange, ChainRefused, "chain.signature")
        # The certificate itself has to hold, so it is signed anew over the strange key.
        vek = GENOA.make_vek()
        body = vek.tbs_certificate_bytes.replace(ec_oid, ec_oid[:-1] + b"\x63")
        signature = rsa_key("intermediate").sign(body, PSS, hashes.SHA384())
        der = vek.public_bytes(Encoding.DER).replace(vek.tbs_certificate_bytes, body)[:-512] + signature
        refused(with_vek(x509.load_der_x509_certificate(der)), ChainRefused, "vek.key")

    @pytest.mark.parametrize("kept", [[], [0], [1]])
    def test_a_missing_certificate_is_asked_for(self, kept: list[int]) -> None:  # evidence.md E23, E28
        case = GENOA.case()
        case.chain = [case.chain[index] for index in kept]
        refusal = refused(case, CollateralMissing, "chain.missing")
        assert refusal.expected.startswith("the root (ARK)" if kept == [0] else "the intermediate (ASK or ASVK)")
        assert refusal.hint is not None

    def test_a_forgery_without_a_chain_is_still_a_forgery(self) -> None:  # evidence.md E28
        case = GENOA.case()
        case.chain = []
        case.report = GENOA.report(key=p384_key("other"))
        refused(case, SignatureRefused, "snp.signature")

    def test_the_number_of_certificates_is_bounded(self) -> None:  # evidence.md E29
        case = GENOA.case()
        case.chain += [case.chain[0]] * 62
        assert len(case.chain) == 64
        case.verify()
        case.chain.append(case.chain[0])
        refused(case, ChainRefused, "chain.length")


class TestRevocation:
    def judged(self, *lists: x509.CertificateRevocationList) -> Case:
        case = GENOA.case()
        case.lists = list(lists)
        return case

    def test_a_list_in_force_that_is_silent(self) -> None:  # evidence.md E34
        verified = self.judged(GENOA.crl(revoked=(1, 2, 3))).verify()
        assert (verified.revocation, verified.revocation_until) == (Revocation.FRESH, NOW + timedelta(days=30))

    def test_the_longest_of_several_lists_counts(self) -> None:  # evidence.md E34
        stale = GENOA.crl(start=START, end=NOW)
        short = GENOA.crl(end=NOW + timedelta(days=2))
        verified = self.judged(stale, short, GENOA.crl()).verify()
        assert (verified.revocation, verified.revocation_until) == (Revocation.FRESH, NOW + timedelta(days=30))

    def test_a_list_of_another_root_is_passed_over(self) -> None:  # evidence.md E30, E35
        other = GENOA.crl(issuer="ARK-Milan", signer=rsa_key("other"), revoked=(7, 0x20002))
        assert self.judged(other).verify().revocation is Revocation.UNKNOWN

    def test_a_list_signed_by_another_is_refused(self) -> None:  # evidence.md E31
        refused(self.judged(GENOA.crl(signer=rsa_key("other"))), ChainRefused, "crl.signature")
        refused(self.judged(GENOA.crl(), GENOA.crl(signer=rsa_key("intermediate"))), ChainRefused, "crl.signature")

    def test_a_delta_list_is_refused(self) -> None:  # evidence.md E32
        refused(self.judged(GENOA.crl(delta=True)), ChainRefused, "crl.scope")

    @pytest.mark.parametrize(("serial", "name"), [(7, "SEV-VCEK"), (0x20002, "SEV-Genoa")])
    @pytest.mark.parametrize("age", [timedelta(0), timedelta(days=99)])
    def test_a_named_certificate_is_revoked(self, serial: int, name: str, age: timedelta) -> None:  # evidence.md E33
        crl = GENOA.crl(revoked=(serial,), start=NOW - timedelta(days=200), end=NOW + timedelta(days=1) - age)
        refusal = refused(self.judged(GENOA.crl(), crl), Revoked, "crl.revoked")
        assert refusal.expected == f"{name} not on the list of test root"
        assert refusal.got == f"serial {serial:#x}, revoked 2026-02-21"

    @pytest.mark.parametrize(("start", "end"), [(-30, -1), (-30, 0), (1, 30)])
    def test_silence_needs_a_list_in_force(self, start: int, end: int) -> None:  # evidence.md E34
        crl = GENOA.crl(start=NOW + timedelta(days=start), end=NOW + timedelta(days=end))
        refused(self.judged(crl), CollateralMissing, "crl.stale")

    def test_a_list_is_in_force_from_its_first_moment(self) -> None:  # evidence.md E34
        crl = GENOA.crl(start=NOW, end=NOW + timedelta(seconds=1))
        assert self.judged(crl).verify().revocation is Revocation.FRESH

    def test_the_newest_stale_list_is_named(self) -> None:  # evidence.md E34
        older = GENOA.crl(start=NOW - timedelta(days=60), end=NOW - timedelta(days=50))
        newer = GENOA.crl(start=NOW - timedelta(days=30), end=NOW - timedelta(days=20))
        assert "2026-05-02" in refused(self.judged(older, newer), CollateralMissing, "crl.stale").got


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


class TestCollateral:
    def test_from_files(self) -> None:
        case = GENOA.case()
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in case.chain)
        crl = GENOA.crl()
        collateral = SnpCollateral.parse([pem], [crl.public_bytes(Encoding.DER)])
        assert (collateral.certificates, collateral.lists) == (tuple(case.chain), (crl,))

    def test_a_folder_adds_what_is_missing_and_passes_over_the_rest(self) -> None:  # evidence.md E23
        case = GENOA.case()
        ders = [certificate.public_bytes(Encoding.DER) for certificate in case.chain]
        collateral = SnpCollateral.parse(ders[:1]).with_certificates(
            [b"notes", *ders, GENOA.crl().public_bytes(Encoding.DER)]
        )
        assert collateral.certificates == tuple(case.chain)

    def test_evidence_is_parsed_from_bytes(self) -> None:
        case = GENOA.case()
        evidence = SnpEvidence.parse(case.report, case.vek.public_bytes(Encoding.PEM))
        assert (evidence.report.raw, evidence.vek) == (case.report, case.vek)

    def test_a_certificate_of_another_kind_is_named(self) -> None:
        refused(with_vek(GENOA.make_vek(amd={"1": integer(9)})), FormatRefused, "vek.struct-version")
