"""A simulated SEV-SNP platform: a chip, its VCEK, the chain above it, and reports signed byte for byte.

Reports follow the real layout (versions 3 and 5, Genoa and Turin TCB), so the verifier that judges them is
the one that judges hardware; only the root differs. The measurement is an argument: whoever starts the
machine computes it from the very files it is given. Reports follow from the seed to the bit; the two RSA
certificates do not, because RSA keys cannot be derived here.

What it is not: there is no isolation at all. A simulated report proves that somebody holds the devnet's key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from attestation.evidence.auxblob import TableEntry, encode_table
from attestation.evidence.snp_report import Product
from devnet import der
from devnet.pki import (
    Authority,
    PrivateKey,
    Validity,
    derived,
    derived_key,
    ecdsa_pair,
    new_rsa_key,
    revocation_list,
    sign_certificate,
    subject,
)

REPORT_BYTES = 0x4A0
SIGNED_BYTES = 0x2A0
AMD_ARC = "1.3.6.1.4.1.3704.1"

POLICY_RESERVED_ONE = 1 << 17
POLICY_CIPHERTEXT_HIDING = 1 << 24
POLICY_PAGE_SWAP_DISABLE = 1 << 25
PLATFORM_ECC = 1 << 2
PLATFORM_CIPHERTEXT_HIDING = 1 << 4
PLATFORM_ALIAS_CHECKED = 1 << 5

DEFAULT_POLICY = POLICY_RESERVED_ONE | POLICY_CIPHERTEXT_HIDING | POLICY_PAGE_SWAP_DISABLE
DEFAULT_PLATFORM = PLATFORM_ECC | PLATFORM_CIPHERTEXT_HIDING | PLATFORM_ALIAS_CHECKED


@dataclass(frozen=True, slots=True)
class Model:
    """A processor as its VEK and its reports name it."""

    name: str
    cpuid: tuple[int, int, int]  # family, model, stepping


MODELS = {Product.GENOA: Model("Genoa-B1", (0x19, 0x11, 0x01)), Product.TURIN: Model("Turin-B1", (0x1A, 0x02, 0x01))}


@dataclass(frozen=True, slots=True)
class PatchLevels:
    """Security patch levels. `fmc` exists on Turin alone."""

    bootloader: int = 10
    tee: int = 1
    snp: int = 27
    microcode: int = 88
    fmc: int = 2

    def encode(self, product: Product) -> bytes:
        if product is Product.TURIN:
            return bytes([self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode])
        return bytes([self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode])


@dataclass(frozen=True, slots=True)
class ReportFields:
    """All a report says that is not the chip's own. The defaults are a machine as one would want it."""

    measurement: bytes
    version: int = 5
    guest_svn: int = 0
    policy: int = DEFAULT_POLICY
    platform: int = DEFAULT_PLATFORM
    vmpl: int = 0
    host_data: bytes = bytes(32)
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    firmware: tuple[int, int, int] = (1, 58, 10)  # major, minor, build
    mitigations: int = 0x3F
    chip_masked: bool = False  # the host hides which chip it is


@dataclass(frozen=True, slots=True)
class Chip:
    """What is inside the processor: a key nobody sees, and the reports it signs. All of it follows from the seed."""

    product: Product
    seed: bytes
    tcb: PatchLevels

    @property
    def hardware_id(self) -> bytes:
        """64 bytes on Genoa, eight on Turin: as the VCEK names the chip."""
        return _chip_id(self.seed, self.product)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return derived_key(self.seed, ec.SECP384R1(), "vcek", self.product.value)

    def report(self, report_data: bytes, fields: ReportFields) -> bytes:
        """A signed report over these 64 bytes; the same input gives the same bytes."""
        return self.sign(self.unsigned_report(report_data, fields))

    def unsigned_report(self, report_data: bytes, fields: ReportFields) -> bytes:
        """The signed part alone, for a test that wants to change a byte and then sign."""
        tcb = self.tcb.encode(self.product)
        major, minor, build = fields.firmware
        report = bytearray(SIGNED_BYTES)

        def put(at: int, value: bytes, size: int) -> None:
            if len(value) != size:
                raise ValueError(f"the field at {at:#x} is {size} bytes, got {len(value)}")
            report[at : at + size] = value

        def number(at: int, value: int, size: int) -> None:
            put(at, value.to_bytes(size, "little"), size)

        number(0x000, fields.version, 4)
        number(0x004, fields.guest_svn, 4)
        number(0x008, fields.policy, 8)
        put(0x010, fields.family_id, 16)
        put(0x020, fields.image_id, 16)
        number(0x030, fields.vmpl, 4)
        number(0x034, 1, 4)  # ECDSA P-384 with SHA-384
        put(0x038, tcb, 8)
        number(0x040, fields.platform, 8)
        put(0x050, report_data, 64)
        put(0x090, fields.measurement, 48)
        put(0x0C0, fields.host_data, 32)
        put(0x0E0, fields.id_key_digest, 48)
        put(0x110, fields.author_key_digest, 48)
        put(0x140, derived(self.seed, "report id"), 32)
        put(0x160, b"\xff" * 32, 32)  # no migration agent
        put(0x180, tcb, 8)
        if fields.version >= 3:
            put(0x188, bytes(MODELS[self.product].cpuid), 3)
        put(0x1A0, bytes(64) if fields.chip_masked else self.hardware_id.ljust(64, b"\0"), 64)
        put(0x1E0, tcb, 8)
        put(0x1E8, bytes([build, minor, major]), 3)
        put(0x1EC, bytes([build, minor, major]), 3)
        put(0x1F0, tcb, 8)
        if fields.version >= 5:
            number(0x1F8, fields.mitigations, 8)
            number(0x200, fields.mitigations, 8)
        return bytes(report)

    def sign(self, signed_part: bytes) -> bytes:
        r, s = ecdsa_pair(self.key, signed_part, hashes.SHA384())
        signature = r.to_bytes(72, "little") + s.to_bytes(72, "little")
        return (signed_part + signature).ljust(REPORT_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class SimulatedSnp:
    """One chip and the authorities above it. Make it with `create`."""

    product: Product
    seed: bytes
    tcb: PatchLevels
    validity: Validity
    ark: Authority
    ask: Authority
    vcek: Authority
    revoked: tuple[int, ...] = field(default=())

    @classmethod
    def create(
        cls, seed: bytes, validity: Validity, product: Product = Product.GENOA, tcb: PatchLevels | None = None
    ) -> SimulatedSnp:
        """New authorities and a chip. Takes about two seconds, for the two RSA keys."""
        tcb = tcb or PatchLevels()
        ark_key, ask_key = new_rsa_key(), new_rsa_key()
        ark_name = subject(f"SIMULATED-ARK-{product.value}")
        ask_name = subject(f"SEV-{product.value}")
        ark = Authority(_authority(ark_name, ark_name, ark_key, ark_key, seed=seed, validity=validity), ark_key)
        ask = Authority(_authority(ask_name, ark_name, ask_key, ark_key, seed=seed, validity=validity), ask_key)
        vcek_key = Chip(product, seed, tcb).key
        vcek = Authority(_vcek(vcek_key, ask, product, tcb, seed=seed, validity=validity), vcek_key)
        return cls(product, seed, tcb, validity, ark, ask, vcek)

    @property
    def hardware_id(self) -> bytes:
        """64 bytes on Genoa, eight on Turin: as the VCEK names the chip."""
        return _chip_id(self.seed, self.product)

    @property
    def crl(self) -> bytes:
        """The ARK's list, as the vendor publishes it."""
        return revocation_list(self.ark, self.validity, self.revoked)

    def revoking(self, *authorities: Authority) -> SimulatedSnp:
        """The same platform after some of its certificates were revoked."""
        serials = tuple(authority.certificate.serial_number for authority in authorities)
        return replace(self, revoked=self.revoked + serials)

    def auxblob(self, *, with_crl: bool = True) -> bytes:
        """The certificate table a host would lay beside a report."""
        values = {TableEntry.ARK: self.ark.der, TableEntry.ASK: self.ask.der, TableEntry.VCEK: self.vcek.der}
        return encode_table({**values, TableEntry.CRL: self.crl} if with_crl else values)

    @property
    def chip(self) -> Chip:
        return Chip(self.product, self.seed, self.tcb)

    def report(self, report_data: bytes, fields: ReportFields) -> bytes:
        """A signed report over these 64 bytes; the same input gives the same bytes."""
        return self.chip.report(report_data, fields)

    def unsigned_report(self, report_data: bytes, fields: ReportFields) -> bytes:
        """The signed part alone, for a test that wants to change a byte and then sign."""
        return self.chip.unsigned_report(report_data, fields)

    def sign(self, signed_part: bytes) -> bytes:
        return self.chip.sign(signed_part)


def _chip_id(seed: bytes, product: Product) -> bytes:
    return derived(seed, "chip", size=8 if product is Product.TURIN else 64)


def _authority(
    name: x509.Name, issuer: x509.Name, key: PrivateKey, issuer_key: PrivateKey, *, seed: bytes, validity: Validity
) -> x509.Certificate:
    is_root = name == issuer
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(_serial(seed, "root" if is_root else "intermediate"))
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1 if is_root else 0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
    )
    return sign_certificate(builder, issuer_key)


def _vcek(
    key: PrivateKey, ask: Authority, product: Product, tcb: PatchLevels, *, seed: bytes, validity: Validity
) -> x509.Certificate:
    """As the vendor's: version 3, named SEV-VCEK, with what the chip is and runs in private extensions."""
    levels = {"3.1": tcb.bootloader, "3.2": tcb.tee, "3.3": tcb.snp, "3.8": tcb.microcode}
    if product is Product.TURIN:
        levels["3.9"] = tcb.fmc
    extensions = {
        "1": der.integer(1 if product is Product.TURIN else 0),
        "2": der.element(der.IA5_STRING, MODELS[product].name.encode()),
        **{arc: der.integer(level) for arc, level in levels.items()},
        **{f"3.{arc}": der.integer(0) for arc in range(4, 8)},
        "4": _chip_id(seed, product),
    }
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject("SEV-VCEK"))
        .issuer_name(ask.certificate.subject)
        .public_key(key.public_key())
        .serial_number(_serial(seed, "vcek"))
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
    )
    for arc, value in extensions.items():
        builder = builder.add_extension(
            x509.UnrecognizedExtension(ObjectIdentifier(f"{AMD_ARC}.{arc}"), value), critical=False
        )
    return sign_certificate(builder, ask.key)


def _serial(seed: bytes, label: str) -> int:
    return int.from_bytes(derived(seed, "serial", label, size=16), "big") >> 1 | 1
