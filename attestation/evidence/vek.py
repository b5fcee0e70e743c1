"""What AMD writes into the certificate of a key that signs reports (VCEK or VLEK).

The extensions lie under 1.3.6.1.4.1.3704.1: product, security patch levels, and either the chip's id or the
provider's. Values are strict DER, one encoding each. Rules: docs/spec/evidence.md E10 to E16.

What it does not establish: that AMD wrote them. `attestation.verify.snp` reads them from a certificate whose
chain already holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.x509.oid import NameOID

from attestation.errors import FormatRefused
from attestation.evidence.certificates import UNREADABLE
from attestation.evidence.snp_report import KeyKind, Product, Tcb

ARC: Final = "1.3.6.1.4.1.3704.1."
STRUCT_VERSION: Final = f"{ARC}1"
PRODUCT_NAME: Final = f"{ARC}2"
BOOTLOADER: Final = f"{ARC}3.1"
TEE: Final = f"{ARC}3.2"
SNP: Final = f"{ARC}3.3"
RESERVED_LEVELS: Final = tuple(f"{ARC}3.{number}" for number in (4, 5, 6, 7))
MICROCODE: Final = f"{ARC}3.8"
FMC: Final = f"{ARC}3.9"
HWID: Final = f"{ARC}4"
CSP_ID: Final = f"{ARC}5"

KNOWN: Final = frozenset(
    {STRUCT_VERSION, PRODUCT_NAME, BOOTLOADER, TEE, SNP, *RESERVED_LEVELS, MICROCODE, FMC, HWID, CSP_ID}
)
STRUCT_VERSIONS: Final = frozenset({0, 1})
HWID_BYTES: Final = {Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8}
COMMON_NAMES: Final = {"SEV-VCEK": KeyKind.VCEK, "SEV-VLEK": KeyKind.VLEK}

TAG_OCTET_STRING: Final = 0x04


@dataclass(frozen=True, slots=True)
class Vek:
    """What one report-signing certificate says about itself."""

    kind: KeyKind
    product: Product
    tcb: Tcb
    hwid: bytes | None
    csp_id: str | None

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Raises `FormatRefused` alone."""
        values = _amd_values(certificate)
        kind = _kind(certificate)
        product = _product(values)
        if read_integer(_needed(values, STRUCT_VERSION)) not in STRUCT_VERSIONS:
            raise _malformed("struct-version", "0 or 1", values[STRUCT_VERSION].hex())
        hwid, csp_id = _holder(kind, product, values)
        return cls(kind, product, _tcb(product, values), hwid, csp_id)


def _amd_values(certificate: x509.Certificate) -> dict[str, bytes]:
    try:
        extensions = certificate.extensions
    except UNREADABLE as error:
        raise _malformed("extensions", "readable, each at most once", type(error).__name__) from None
    values: dict[str, bytes] = {}
    for extension in extensions:
        oid = extension.oid.dotted_string
        if isinstance(extension.value, x509.UnrecognizedExtension) and oid in KNOWN:
            values[oid] = extension.value.value
        elif extension.critical:  # evidence.md E15: critical means "refuse me if you do not know me"
            raise _malformed("extensions", "no critical extension but AMD's own", oid)
    return values


def _kind(certificate: x509.Certificate) -> KeyKind:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else f"{len(names)} common names"
    if name not in COMMON_NAMES:
        raise _malformed("subject", "SEV-VCEK or SEV-VLEK", name[:64])
    return COMMON_NAMES[name]


def _product(values: dict[str, bytes]) -> Product:
    # evidence.md E11: "Milan-B0" names a stepping of Milan; the part before the dash is the product.
    name = read_text(_needed(values, PRODUCT_NAME))
    try:
        return Product(name.partition("-")[0])
    except ValueError:
        raise _malformed("product", "Milan, Genoa or Turin", name[:64]) from None


def _tcb(product: Product, values: dict[str, bytes]) -> Tcb:
    for oid in RESERVED_LEVELS:
        if oid in values and read_integer(values[oid]) != 0:
            raise _malformed("tcb.reserved", "0", values[oid].hex())
    has_fmc = product is Product.TURIN
    if not has_fmc and FMC in values:
        raise _malformed("tcb.fmc", f"absent for {product.value}", "present")
    return Tcb(
        bootloader=read_integer(_needed(values, BOOTLOADER)),
        tee=read_integer(_needed(values, TEE)),
        snp=read_integer(_needed(values, SNP)),
        microcode=read_integer(_needed(values, MICROCODE)),
        fmc=read_integer(_needed(values, FMC)) if has_fmc else None,
    )


def _holder(kind: KeyKind, product: Product, values: dict[str, bytes]) -> tuple[bytes | None, str | None]:
    # evidence.md E13: a VCEK names a chip and a VLEK names a provider; neither names the other's.
    if kind is KeyKind.VCEK:
        if CSP_ID in values:
            raise _malformed("csp-id", "absent from a VCEK", "present")
        hwid = read_hwid(_needed(values, HWID), HWID_BYTES[product])
        if not any(hwid):  # E49: zeros are what a report writes to name no chip
            raise _malformed("hwid", "a chip's id", "zeros")
        return hwid, None
    if HWID in values:
        raise _malformed("hwid", "absent from a VLEK", "present")
    return None, read_text(_needed(values, CSP_ID))


def _needed(values: dict[str, bytes], oid: str) -> bytes:
    if oid not in values:
        raise _malformed("extensions", f"{oid} present", "absent")
    return values[oid]


def read_integer(der: bytes) -> int:
    """A DER INTEGER from 0 to 255 in its one shortest form (E12)."""
    short = len(der) == 3 and der[:2] == b"\x02\x01" and der[2] < 0x80
    long = len(der) == 4 and der[:3] == b"\x02\x02\x00" and der[3] >= 0x80
    if not (short or long):
        raise _malformed("integer", "a DER INTEGER from 0 to 255", der[:8].hex())
    return der[-1]


def read_text(der: bytes) -> str:
    """A DER IA5String of 1 to 127 printable ASCII characters (E12)."""
    body = der[2:]
    if der[:1] != b"\x16" or not 1 <= len(body) <= 0x7F or der[1] != len(body):
        raise _malformed("text", "a DER IA5String of 1 to 127 characters", der[:8].hex())
    if not all(0x20 <= byte < 0x7F for byte in body):
        raise _malformed("text", "printable ASCII", body[:16].hex())
    return body.decode("ascii")


def read_hwid(value: bytes, size: int) -> bytes:
    """The chip's id: `size` raw bytes, or the same wrapped as a DER OCTET STRING (E14)."""
    if len(value) == size:
        return value
    if len(value) == size + 2 and value[0] == TAG_OCTET_STRING and value[1] == size:
        return value[2:]
    raise _malformed("hwid", f"{size} bytes, raw or as an OCTET STRING", f"{len(value)} bytes")


def _malformed(what: str, expected: str, got: object) -> FormatRefused:
    return FormatRefused(f"vek.{what}", expected=expected, got=got)
