"""A maker of SNP evidence under keys of our own: everything real but the root.

`Forge` has an ARK, an ASK and an ASVK of the true shape; `case()` gives a signed report, its certificate and
chain, and every part can be changed before it is signed. So each rule is tested by evidence that is sound
in every other respect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.evidence.snp_report import KeyKind, Product
from attestation.verify.chain import key_digest
from attestation.verify.pins import SnpRoots, with_simulated
from attestation.verify.snp import SnpCollateral, SnpEvidence, verify_snp
from attestation.verify.verified import VerifiedSnp
from tests.keys import p384_key, rsa_key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
START = NOW - timedelta(days=100)
END = NOW + timedelta(days=1000)
ARC = "1.3.6.1.4.1.3704.1."
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
CPUIDS = {Product.MILAN: (25, 1, 1), Product.GENOA: (25, 17, 1), Product.TURIN: (26, 2, 1)}
FMC_FIRST = bytes([0, 1, 0, 2, 0, 0, 0, 71])  # Turin: fmc, bootloader, tee, snp, reserved, microcode
BOOTLOADER_FIRST = bytes([10, 0, 0, 0, 0, 0, 27, 88])
MITIGATED = 0xB

# A sound version 5 report: bit 17 alone in POLICY; ECC and alias check in PLATFORM_INFO.
SOUND: Mapping[str, tuple[int, int, int]] = {
    "version": (0x000, 4, 5),
    "guest_svn": (0x004, 4, 0),
    "policy": (0x008, 8, 1 << 17),
    "vmpl": (0x030, 4, 0),
    "algorithm": (0x034, 4, 1),
    "platform": (0x040, 8, 0x24),
    "key_info": (0x048, 4, 0),
    "current_firmware": (0x1E8, 3, 0x013731),
    "committed_firmware": (0x1EC, 3, 0x013731),
    "launch_mitigations": (0x1F8, 8, MITIGATED),
    "current_mitigations": (0x200, 8, MITIGATED),
}
BYTES: Mapping[str, tuple[int, int]] = {
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "current_tcb": (0x038, 8),
    "reported_tcb": (0x180, 8),
    "cpuid": (0x188, 3),
    "chip_id": (0x1A0, 64),
    "committed_tcb": (0x1E0, 8),
    "launch_tcb": (0x1F0, 8),
}


def common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def integer(value: int) -> bytes:
    return bytes([2, 1, value]) if value < 128 else bytes([2, 2, 0, value])


def text(value: str) -> bytes:
    return bytes([0x16, len(value)]) + value.encode()


def certificate(
    subject: str,
    key: Any,
    issuer: str,
    signer: rsa.RSAPrivateKey,
    *,
    authority: x509.BasicConstraints | None = None,
    usage: x509.KeyUsage | None = None,
    start: datetime = START,
    end: datetime = END,
    serial: int = 7,
    amd: Mapping[str, bytes] | None = None,
    critical_oid: str | None = None,
    critical_value: bytes = b"\x05\x00",
    rsa_padding: Any = PSS,
    algorithm: Any = None,
    constraints_critical: bool = True,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(subject))
        .issuer_name(common_name(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if authority is not None:
        builder = builder.add_extension(authority, critical=constraints_critical)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    for oid, value in (amd or {}).items():
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(ARC + oid), value), critical=False
        )
    if critical_oid is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(critical_oid), critical_value), critical=True
        )
    return builder.sign(signer, algorithm or hashes.SHA384(), rsa_padding=rsa_padding)


def of_amds_own_critical() -> dict[str, Any]:
    """Changes to a VEK: its structure version stands in a critical extension."""
    return {"amd": {"1": None}, "critical_oid": f"{ARC}1", "critical_value": integer(1)}


def usage(*, sign: bool = True, crl: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(False, False, False, False, False, sign, crl, False, False)


@dataclass
class Case:
    """Evidence about to be judged. Change anything, then call `verify`."""

    report: bytes
    vek: x509.Certificate
    chain: list[x509.Certificate]
    roots: SnpRoots
    lists: list[x509.CertificateRevocationList] = field(default_factory=list)
    at: datetime = NOW

    def verify(self) -> VerifiedSnp:
        evidence = SnpEvidence.parse(self.report, self.vek.public_bytes(Encoding.DER))
        collateral = SnpCollateral(tuple(self.chain), tuple(self.lists))
        return verify_snp(evidence, collateral, at=self.at, roots=self.roots)


@dataclass
class Forge:
    """One simulated product line."""

    product: Product = Product.GENOA

    @property
    def ark(self) -> x509.Certificate:
        return self.make_ark()

    @property
    def ark_name(self) -> str:
        return f"ARK-{self.product.value}"

    def make_ark(self, **changes: Any) -> x509.Certificate:
        options: dict[str, Any] = {"authority": x509.BasicConstraints(True, None), "usage": usage(crl=True)}
        signer = changes.pop("signer", rsa_key("ark"))
        key = changes.pop("key", rsa_key("ark"))
        return certificate(self.ark_name, key, self.ark_name, signer, **{**options, **changes})

    def make_intermediate(self, kind: KeyKind = KeyKind.VCEK, **changes: Any) -> x509.Certificate:
        infix = "-VLEK" if kind is KeyKind.VLEK else ""
        options: dict[str, Any] = {"authority": x509.BasicConstraints(True, 0), "usage": usage(), "serial": 0x20002}
        name = changes.pop("name", f"SEV{infix}-{self.product.value}")
        signer = changes.pop("signer", rsa_key("ark"))
        key = changes.pop("key", rsa_key(f"intermediate{infix}"))
        return certificate(name, key, self.ark_name, signer, **{**options, **changes})

    def amd(self, kind: KeyKind, tcb: bytes, chip: bytes) -> dict[str, bytes]:
        levels = {"1": integer(1), "2": text(self.product.value), "3.8": integer(tcb[7])}
        if self.product is Product.TURIN:
            levels |= {"3.9": integer(tcb[0]), "3.1": integer(tcb[1]), "3.2": integer(tcb[2]), "3.3": integer(tcb[3])}
        else:
            levels |= {"3.1": integer(tcb[0]), "3.2": integer(tcb[1]), "3.3": integer(tcb[6])}
        return levels | ({"4": chip} if kind is KeyKind.VCEK else {"5": text("CN=provider")})

    def make_vek(self, kind: KeyKind = KeyKind.VCEK, **changes: Any) -> x509.Certificate:
        infix = "-VLEK" if kind is KeyKind.VLEK else ""
        amd = self.amd(kind, changes.pop("tcb", self.tcb), changes.pop("chip", self.chip))
        for oid, value in changes.pop("amd", {}).items():
            amd.pop(oid, None) if value is None else amd.update({oid: value})
        issuer = changes.pop("issuer", f"SEV{infix}-{self.product.value}")
        signer = changes.pop("signer", rsa_key(f"intermediate{infix}"))
        name = changes.pop("name", f"SEV-{kind.name}")
        return certificate(name, changes.pop("key", p384_key("vek")), issuer, signer, amd=amd, **changes)

    @property
    def tcb(self) -> bytes:
        return FMC_FIRST if self.product is Product.TURIN else BOOTLOADER_FIRST

    @property
    def chip(self) -> bytes:
        return bytes(range(1, 9)) if self.product is Product.TURIN else bytes(range(1, 65))

    def report(self, *, patch: Callable[[bytearray], None] | None = None, key: Any = None, **values: Any) -> bytes:
        """A signed report. `values` replace fields; `patch` edits the signed part before it is signed."""
        body = bytearray(0x4A0)
        for name, (offset, size, default) in SOUND.items():
            body[offset : offset + size] = int(values.pop(name, default)).to_bytes(size, "little")
        defaults = dict.fromkeys(("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"), self.tcb)
        defaults |= {
            "cpuid": bytes(CPUIDS[self.product]),
            "chip_id": self.chip.ljust(64, b"\0"),
            "measurement": b"\x11" * 48,
            "report_data": b"\x22" * 64,
            "report_id_ma": b"\xff" * 32,
        }
        for name, (offset, size) in BYTES.items():
            value = values.pop(name, defaults.get(name, bytes(size)))
            assert len(value) == size, name
            body[offset : offset + size] = value
        assert not values, values
        if patch is not None:
            patch(body)
        return sign(bytes(body), key or p384_key("vek"))

    @property
    def roots(self) -> SnpRoots:
        return with_simulated([("test root", self.product, key_digest(rsa_key("ark").public_key()))])

    def case(self, kind: KeyKind = KeyKind.VCEK, **values: Any) -> Case:
        """Evidence that verifies. `values` go to the report."""
        values.setdefault("key_info", int(kind) << 2)
        return Case(
            self.report(**values),
            make_once(self, "vek", kind),
            [make_once(self, "intermediate", kind), make_once(self, "ark", kind)],
            self.roots,
        )

    def crl(
        self,
        *,
        revoked: tuple[int, ...] = (),
        start: datetime = NOW - timedelta(days=1),
        end: datetime = NOW + timedelta(days=30),
        signer: rsa.RSAPrivateKey | None = None,
        issuer: str | None = None,
        delta: bool = False,
    ) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder().issuer_name(common_name(issuer or self.ark_name))
        builder = builder.last_update(start).next_update(end)
        if delta:
            builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(signer or rsa_key("ark"), hashes.SHA384(), rsa_padding=PSS)


_MADE: dict[tuple[Product, str, KeyKind], x509.Certificate] = {}


def make_once(forge: Forge, what: str, kind: KeyKind) -> x509.Certificate:
    """The unchanged certificates of a line, made once: signing with RSA-4096 is slow."""
    at = (forge.product, what, kind)
    if at not in _MADE:
        makers = {
            "vek": lambda: forge.make_vek(kind),
            "ark": lambda: forge.ark,
            "intermediate": lambda: forge.make_intermediate(kind),
        }
        _MADE[at] = makers[what]()
    return _MADE[at]


def sign(body: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """`body` with R and S written into their places."""
    r, s = decode_dss_signature(key.sign(body[:0x2A0], ec.ECDSA(hashes.SHA384())))
    return body[:0x2A0] + r.to_bytes(72, "little") + s.to_bytes(72, "little") + body[0x330:]
