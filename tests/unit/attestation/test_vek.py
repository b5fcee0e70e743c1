"""evidence.md E10 to E16: what the certificate of a report-signing key says, in one encoding."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import FormatRefused
from attestation.evidence import certificates as files
from attestation.evidence.snp_report import KeyKind, Product, Tcb
from attestation.evidence.vek import Vek, read_hwid, read_integer, read_text
from tests.keys import rsa_key
from tests.unit.attestation.forge import PSS, Forge, common_name, integer, make_once, text


def refused(**changes: Any) -> str:
    forge = changes.pop("forge", Forge())
    kind = changes.pop("kind", KeyKind.VCEK)
    with pytest.raises(FormatRefused) as caught:
        Vek.of(forge.make_vek(kind, **changes))
    return caught.value.code


def test_a_vcek_of_each_product() -> None:
    for product, tcb in [
        (Product.MILAN, Tcb(10, 0, 27, 88)),
        (Product.GENOA, Tcb(10, 0, 27, 88)),
        (Product.TURIN, Tcb(1, 0, 2, 71, fmc=0)),
    ]:
        vek = Vek.of(Forge(product).make_vek())
        assert (vek.kind, vek.product, vek.tcb, vek.csp_id) == (KeyKind.VCEK, product, tcb, None)
        assert vek.hwid == Forge(product).chip


def test_a_vlek() -> None:
    vek = Vek.of(Forge().make_vek(KeyKind.VLEK))
    assert (vek.kind, vek.hwid, vek.csp_id) == (KeyKind.VLEK, None, "CN=provider")


@pytest.mark.parametrize("name", ["VCEK", "SEV-VCEK ", "sev-vcek", "SEV-Genoa"])
def test_the_common_name_says_the_kind(name: str) -> None:  # evidence.md E10
    assert refused(name=name) == "vek.subject"


def test_one_common_name() -> None:  # evidence.md E10
    two = x509.Name([*common_name("SEV-VCEK"), *common_name("SEV-VCEK")])
    sound = Forge().make_vek()
    builder = x509.CertificateBuilder(
        issuer_name=sound.issuer,
        subject_name=two,
        public_key=sound.public_key(),
        serial_number=1,
        not_valid_before=sound.not_valid_before_utc,
        not_valid_after=sound.not_valid_after_utc,
        extensions=list(sound.extensions),
    )
    with pytest.raises(FormatRefused, match=r"vek\.subject"):
        Vek.of(builder.sign(rsa_key("intermediate"), hashes.SHA384(), rsa_padding=PSS))


@pytest.mark.parametrize("name", ["Milan", "Milan-B0", "Milan-B1"])
def test_a_stepping_is_no_other_product(name: str) -> None:  # evidence.md E11
    assert Vek.of(Forge(Product.MILAN).make_vek(amd={"2": text(name)})).product is Product.MILAN


@pytest.mark.parametrize("name", ["Rome", "milan", "B0-Milan", "Milan_B0"])
def test_other_products_are_refused(name: str) -> None:  # evidence.md E11
    assert refused(amd={"2": text(name)}) == "vek.product"


@pytest.mark.parametrize(
    ("der", "value"),
    [(b"\x02\x01\x00", 0), (b"\x02\x01\x7f", 127), (b"\x02\x02\x00\x80", 128), (b"\x02\x02\x00\xff", 255)],
)
def test_integers(der: bytes, value: int) -> None:  # evidence.md E12
    assert read_integer(der) == value
    assert integer(value) == der


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x02",
        b"\x02\x01",
        b"\x02\x00",
        b"\x02\x01\x80",
        b"\x02\x02\x00\x7f",
        b"\x02\x02\x01\x00",
        b"\x02\x02\x80\x00",
        b"\x02\x01\x00\x00",
        b"\x02\x81\x01\x05",
        b"\x0a\x01\x05",
        b"\x04\x01\x05",
        b"\x02\x03\x00\x00\x80",
        b"\x02\x02\x00\x80\x00",
        b"\x03\x02\x00\x80",
        b"\x02\x01\x05\x80",
    ],
)
def test_an_integer_has_one_encoding(der: bytes) -> None:  # evidence.md E12
    with pytest.raises(FormatRefused, match=r"vek\.integer"):
        read_integer(der)


def test_texts() -> None:  # evidence.md E12
    assert read_text(b"\x16\x01 ") == " "
    assert read_text(b"\x16\x7f" + b"~" * 127) == "~" * 127


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x16",
        b"\x16\x00",
        b"\x0c\x01a",
        b"\x16\x02a",
        b"\x16\x01ab",
        b"\x16\x01\x1f",
        b"\x16\x01\x7f",
        b"\x16\x01\xe4",
        b"\x16\x81\x01a",
        b"\x16\x80" + b"a" * 128,
    ],
)
def test_a_text_has_one_encoding(der: bytes) -> None:  # evidence.md E12
    with pytest.raises(FormatRefused, match=r"vek\.text"):
        read_text(der)


@pytest.mark.parametrize("version", [2, 255])
def test_other_structure_versions_are_refused(version: int) -> None:  # evidence.md E12
    assert refused(amd={"1": integer(version)}) == "vek.struct-version"
    assert Vek.of(Forge().make_vek(amd={"1": integer(0)})).product is Product.GENOA


def test_a_certificate_names_a_chip_or_a_provider() -> None:  # evidence.md E13
    assert refused(amd={"4": None}) == "vek.extensions"
    assert refused(amd={"5": text("CN=x")}) == "vek.csp-id"
    assert refused(kind=KeyKind.VLEK, amd={"5": None}) == "vek.extensions"
    assert refused(kind=KeyKind.VLEK, amd={"4": bytes(64)}) == "vek.hwid"


def test_chip_ids_raw_and_wrapped() -> None:  # evidence.md E14
    chip = bytes(range(64))
    assert read_hwid(chip, 64) == chip
    assert read_hwid(b"\x04\x40" + chip, 64) == chip
    assert read_hwid(b"\x04\x08" + chip[:8], 8) == chip[:8]
    assert Vek.of(Forge().make_vek(amd={"4": b"\x04\x40" + chip})).hwid == chip


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (bytes(63), 64),
        (bytes(65), 64),
        (bytes(66), 64),
        (b"\x04\x3f" + bytes(64), 64),
        (b"\x05\x40" + bytes(64), 64),
        (bytes(8), 64),
        (bytes(64), 8),
        (b"", 8),
        (b"\x04\x40" + bytes(65), 64),
    ],
)
def test_chip_ids_of_another_shape(value: bytes, size: int) -> None:  # evidence.md E14
    with pytest.raises(FormatRefused, match=r"vek\.hwid"):
        read_hwid(value, size)


@pytest.mark.parametrize("product", [Product.GENOA, Product.TURIN])
def test_zeros_name_no_chip(product: Product) -> None:  # evidence.md E49
    forge = Forge(product)
    with pytest.raises(FormatRefused, match=r"vek\.hwid"):
        Vek.of(forge.make_vek(amd={"4": bytes(len(forge.chip))}))


def test_a_critical_extension_we_do_not_know_is_refused() -> None:  # evidence.md E15
    assert refused(critical_oid="1.3.6.1.4.1.3704.1.77") == "vek.extensions"
    assert refused(critical_oid="2.999.1") == "vek.extensions"


def test_an_extension_that_occurs_twice_is_refused() -> None:  # evidence.md E15
    # The builder refuses to make one, so the object identifier of a level is overwritten with another's.
    der = Forge().make_vek().public_bytes(Encoding.DER)
    arc = bytes.fromhex("2b060104019c7801")
    first, second = (b"\x06\x0a" + arc + bytes([3, number]) for number in (1, 2))
    assert der.count(second) == 1
    with pytest.raises(FormatRefused, match=r"vek\.extensions"):
        Vek.of(files.read_certificate(der.replace(second, first)))


@pytest.mark.parametrize("oid", ["1", "2", "3.1", "3.2", "3.3", "3.8"])
def test_each_extension_is_needed(oid: str) -> None:  # evidence.md E16
    assert refused(amd={oid: None}) == "vek.extensions"


def test_the_first_level_exists_on_turin_alone() -> None:  # evidence.md E16
    assert refused(amd={"3.9": integer(0)}) == "vek.tcb.fmc"
    assert refused(forge=Forge(Product.TURIN), amd={"3.9": None}) == "vek.extensions"


@pytest.mark.parametrize("oid", ["3.4", "3.5", "3.6", "3.7"])
def test_reserved_levels_are_zero(oid: str) -> None:  # evidence.md E16
    assert refused(amd={oid: integer(1)}) == "vek.tcb.reserved"
    assert Vek.of(Forge().make_vek(amd={oid: integer(0)})).tcb == Tcb(10, 0, 27, 88)


class TestFiles:
    """Certificates and lists as files."""

    DER = make_once(Forge(), "vek", KeyKind.VCEK).public_bytes(Encoding.DER)
    PEM = make_once(Forge(), "vek", KeyKind.VCEK).public_bytes(Encoding.PEM)

    def test_der_and_pem(self) -> None:
        assert files.read_certificate(self.DER) == files.read_certificate(self.PEM)
        assert len(files.read_certificates(self.PEM * 16)) == 16

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\x30\x00",
            DER[:-1],
            DER + b"\0",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ],
    )
    def test_what_is_no_certificate(self, raw: bytes) -> None:
        with pytest.raises(FormatRefused, match=r"certificate\.malformed") as caught:
            files.read_certificates(raw)
        assert caught.value.expected == "a DER or PEM certificate"

    def test_too_many_or_too_large(self) -> None:
        with pytest.raises(FormatRefused, match="at most 16"):
            files.read_certificates(self.PEM * 17)
        with pytest.raises(FormatRefused, match="bounded size"):
            files.read_certificates(bytes(64 * 1024 * 16 + 1))
        with pytest.raises(FormatRefused, match="expected a DER or PEM certificate"):
            files.read_certificates(bytes(64 * 1024 * 16))

    def test_one_where_one_is_wanted(self) -> None:
        with pytest.raises(FormatRefused, match="expected one certificate, got 2"):
            files.read_certificate(self.PEM * 2)

    def test_lists(self, monkeypatch: pytest.MonkeyPatch) -> None:
        crl = Forge().crl()
        assert files.read_crl(crl.public_bytes(Encoding.DER)) == files.read_crl(crl.public_bytes(Encoding.PEM)) == crl
        with pytest.raises(FormatRefused, match=r"crl\.malformed"):
            files.read_crl(self.DER)
        monkeypatch.setattr(files, "CRL_BYTES_MAX", 10)
        with pytest.raises(FormatRefused, match="expected <= 10 bytes, got 11 bytes"):
            files.read_crl(bytes(11))
        with pytest.raises(FormatRefused, match="revocation list"):
            files.read_crl(bytes(10))
