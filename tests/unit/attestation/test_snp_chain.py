"""evidence.md: the certificates of a report, their revocation, and what is missing of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import BindingRefused, ChainRefused, CollateralMissing, FormatRefused, Revoked, SignatureRefused
from attestation.evidence.snp_report import KeyKind, Product
from attestation.verify import pins
from attestation.verify.chain import key_digest
from attestation.verify.snp import SnpCollateral, SnpEvidence
from attestation.verify.verified import Revocation
from tests.keys import p384_key, rsa_key
from tests.unit.attestation.forge import END, NOW, PSS, START, Case, integer, of_amds_own_critical, usage
from tests.unit.attestation.snp_cases import GENOA, refused, with_vek

NOT_PROCESSED = [
    pytest.param("1.2.3.4", b"\x05\x00", id="unknown"),
    pytest.param("2.5.29.37", bytes.fromhex("300a06082b06010505070301"), id="extendedKeyUsage"),
    pytest.param("2.5.29.30", bytes.fromhex("3009a0073005820361626d"), id="nameConstraints"),
]


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

    @pytest.mark.parametrize(("oid", "value"), NOT_PROCESSED)
    def test_an_issuer_has_no_critical_extension_that_nothing_processes(
        self, oid: str, value: bytes
    ) -> None:  # evidence.md E187
        critical = {"critical_oid": oid, "critical_value": value}
        with_asvk = GENOA.case(KeyKind.VLEK)
        with_asvk.chain[0] = GENOA.make_intermediate(KeyKind.VLEK, **critical)
        for name, case in [
            ("SEV-Genoa", with_intermediate(GENOA.make_intermediate(**critical))),
            ("SEV-VLEK-Genoa", with_asvk),
            ("ARK-Genoa", with_ark(GENOA.make_ark(**critical))),
        ]:
            refusal = refused(case, ChainRefused, "chain.extension")
            assert refusal.expected == f"{name} with no critical extension but basicConstraints and keyUsage"
            assert refusal.got == oid

    @pytest.mark.parametrize(("oid", "value"), NOT_PROCESSED)
    def test_a_vek_has_no_critical_extension_but_amds(self, oid: str, value: bytes) -> None:  # evidence.md E15, E187
        vek = GENOA.make_vek(critical_oid=oid, critical_value=value)
        assert refused(with_vek(vek), FormatRefused, "vek.extensions").got == oid

    def test_amds_own_extensions_may_be_critical(self) -> None:  # evidence.md E15
        assert with_vek(GENOA.make_vek(**of_amds_own_critical())).verify().key is KeyKind.VCEK

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
