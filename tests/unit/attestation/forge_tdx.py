"""A whole simulated TDX world: root, PCK chain, collateral and quotes, each part with a knob to get it wrong.

Formats are real, keys are made here, and nothing under it is accepted without naming its root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2036, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
SGX_OID = "1.2.840.113741.1.13.1"
FMSPC = bytes.fromhex("00906ed50000")
QE_SIGNER = b"\x5a" * 32
SEPT_VE_DISABLE = 1 << 28
VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    head = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(head)]) + head + content


def _pair(arcs: Sequence[int], value: bytes) -> bytes:
    return der(0x30, der(0x06, bytes.fromhex("2a864886f84d010d01") + bytes(arcs)) + value)


def _integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sgx_extension(
    svns: Sequence[int] = (5,) * 16,
    pce_svn: int = 11,
    fmspc: bytes = FMSPC,
    *,
    ppid: bytes = b"\x11" * 16,
    pce_id: bytes = b"\0\0",
    first: bytes | None = None,
) -> bytes:
    """The platform extension with every length right; `first` is the DER of the first component instead."""
    numbers = [_integer(svn) for svn in svns]
    if first is not None:
        numbers[0] = first
    tcb = b"".join(_pair((2, number + 1), value) for number, value in enumerate(numbers))
    cpu_svn = bytes(svn & 0xFF for svn in svns)
    tcb += _pair((2, 17), _integer(pce_svn)) + _pair((2, 18), der(0x04, cpu_svn))
    return der(
        0x30,
        _pair((1,), der(0x04, ppid))
        + _pair((2,), der(0x30, tcb))
        + _pair((3,), der(0x04, pce_id))
        + _pair((4,), der(0x04, fmspc))
        + _pair((5,), der(0x0A, b"\0")),
    )


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    size = (key.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(algorithm)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def spki(self) -> bytes:
        from attestation.verify.ec_chain import spki_digest

        return spki_digest(self.certificate)


def issue(
    name: str,
    issuer: Identity | None,
    *,
    ca: int | None,
    extra: Sequence[tuple[str, bytes, bool]] = (),
    start: datetime = START,
    end: datetime = END,
    key: ec.EllipticCurvePrivateKey | None = None,
    algorithm: hashes.HashAlgorithm | None = None,
    usage: bool = True,
    forged: bool = False,
) -> Identity:
    """A certificate; `ca` is its path length, None for a leaf. `forged` signs it with nobody's key."""
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca is not None, ca), critical=True)
    )
    if usage:
        flags = {"digital_signature": ca is None, "key_cert_sign": ca is not None, "crl_sign": ca is not None}
        others = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = builder.add_extension(x509.KeyUsage(**flags, **others), critical=True)
    signer = new_key() if forged else issuer.key if issuer else key
    subject_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = (issuer.key if issuer else key).public_key()
    builder = builder.add_extension(subject_id, critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
    )
    point = x509.DistributionPoint([x509.UniformResourceIdentifier("https://sim.invalid/crl")], None, None, None)
    builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    for oid, value, critical in extra:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical)
    return Identity(key, builder.sign(signer, algorithm or hashes.SHA256()))


def revocations(
    issuer: Identity,
    revoked: Sequence[Identity] = (),
    *,
    start: datetime = START,
    end: datetime = END,
    key: ec.EllipticCurvePrivateKey | None = None,
    partial: bool = False,
    name: x509.Name | None = None,
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name or issuer.certificate.subject)
        .last_update(start)
        .next_update(end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    if partial:
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(START).build())
    return builder.sign(key or issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def tcb_info(**changes: Any) -> dict[str, Any]:
    module = {"mrsigner": "0" * 96, "attributes": "0" * 16, "attributesMask": "F" * 16}
    date = "2026-01-01T00:00:00Z"
    level = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": 5}] * 16,
            "pcesvn": 11,
            "tdxtcbcomponents": [{"svn": 5}, {"svn": 1}, {"svn": 2}] + [{"svn": 0}] * 13,
        },
        "tcbDate": date,
        "tcbStatus": "UpToDate",
    }
    levels = [{"tcb": {"isvsvn": 5}, "tcbDate": date, "tcbStatus": "UpToDate"}]
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": date,
        "nextUpdate": "2035-01-01T00:00:00Z",
        "fmspc": FMSPC.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 20,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": levels}],
        "tcbLevels": [level],
        **changes,
    }


def qe_identity(**changes: Any) -> dict[str, Any]:
    date = "2026-01-01T00:00:00Z"
    return {
        "id": "TD_QE",
        "version": 2,
        "issueDate": date,
        "nextUpdate": "2034-01-01T00:00:00Z",
        "tcbEvaluationDataNumber": 21,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": date, "tcbStatus": "UpToDate"}],
        **changes,
    }


@dataclass(frozen=True)
class QuoteParts:
    """What a quote says. `change` edits the finished bytes of a part before it is signed."""

    version: int = 4
    tee_tcb_svn: bytes = bytes([5, 1, 2]) + bytes(13)
    seam_signer: bytes = bytes(48)
    seam_attributes: bytes = bytes(8)
    attributes: int = SEPT_VE_DISABLE
    xfam: int = 0x602E7
    mr_td: bytes = b"\x10" * 48
    configuration: bytes = bytes(144)
    rtmrs: tuple[bytes, ...] = (bytes(48),) * 4
    report_data: bytes = bytes(64)
    service_td: bytes = bytes(48)
    qe_signer: bytes = QE_SIGNER
    qe_prod_id: int = 2
    qe_svn: int = 4
    qe_misc: int = 0
    qe_attributes: bytes = b"\x11" + bytes(15)
    binding: bytes | None = None


@dataclass(frozen=True)
class World:
    """One platform with everything Intel would publish about it. `replace` a part to break it."""

    root: Identity = field(default_factory=lambda: issue("SIM Root CA", None, ca=1))

    @cached_property
    def authority(self) -> Identity:
        # dcap-qvl tells the two PCK authorities apart by this name.
        return issue("Intel SGX PCK Platform CA", self.root, ca=0)

    @cached_property
    def signer(self) -> Identity:
        return issue("SIM TCB Signing", self.root, ca=None)

    @cached_property
    def leaf(self) -> Identity:
        return issue("SIM PCK", self.authority, ca=None, extra=[(SGX_OID, sgx_extension(), False)])

    def collateral(self, **changes: Any) -> dict[str, str]:
        """Collateral as its JSON members. Takes `info` and `identity`, a `signer`, or any member."""
        info = changes.pop("info", None) or tcb_info()
        identity = changes.pop("identity", None) or qe_identity()
        signer: Identity = changes.pop("signer", self.signer)
        members: dict[str, str] = {}
        for name, document in (("tcb_info", info), ("qe_identity", identity)):
            text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
            members[name] = text
            members[f"{name}_signature"] = raw_signature(signer.key, text.encode(), hashes.SHA256()).hex()
            members[f"{name}_issuer_chain"] = signer.pem + self.root.pem
        members["root_ca_crl"] = revocations(self.root).hex()
        members["pck_crl"] = revocations(self.authority).hex()
        members["pck_crl_issuer_chain"] = self.authority.pem + self.root.pem
        return members | changes

    def quote(
        self,
        parts: QuoteParts | None = None,
        *,
        leaf: Identity | None = None,
        chain: str | None = None,
        after_signing: Callable[[bytes], bytes] = lambda data: data,
        auth_bytes: int = 32,
        attestation_key: bytes | None = None,
        **changes: Any,
    ) -> bytes:
        p = replace(parts or QuoteParts(), **changes)
        signed = self._header(p) + self._body(p)
        attestation = new_key()
        point = attestation.public_key().public_numbers()
        public = attestation_key or point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
        auth = bytes(number & 0xFF for number in range(auth_bytes))
        leaf = leaf or self.leaf
        qe = self._qe_report(p, p.binding or hashlib.sha256(public + auth).digest())
        pems = (chain or leaf.pem + self.authority.pem + self.root.pem).encode()
        inner = (
            qe
            + raw_signature(leaf.key, qe, hashes.SHA256())
            + len(auth).to_bytes(2, "little")
            + auth
            + (5).to_bytes(2, "little")
            + len(pems).to_bytes(4, "little")
            + pems
        )
        data = raw_signature(attestation, signed, hashes.SHA256()) + public
        data += (6).to_bytes(2, "little") + len(inner).to_bytes(4, "little") + inner
        return after_signing(signed + len(data).to_bytes(4, "little") + data)

    def _header(self, p: QuoteParts) -> bytes:
        head = p.version.to_bytes(2, "little") + b"\2\0" + b"\x81\0\0\0" + bytes(4) + VENDOR + bytes(20)
        return head + (b"" if p.version == 4 else (3).to_bytes(2, "little") + (648).to_bytes(4, "little"))

    def _body(self, p: QuoteParts) -> bytes:
        body = p.tee_tcb_svn + bytes(48) + p.seam_signer + p.seam_attributes
        body += p.attributes.to_bytes(8, "little") + p.xfam.to_bytes(8, "little")
        body += p.mr_td + p.configuration + b"".join(p.rtmrs) + p.report_data
        return body + (b"" if p.version == 4 else p.tee_tcb_svn + p.service_td)

    def _qe_report(self, p: QuoteParts, binding: bytes) -> bytes:
        report = bytes(16) + p.qe_misc.to_bytes(4, "little") + bytes(28) + p.qe_attributes + bytes(64)
        report += p.qe_signer + bytes(96)
        report += p.qe_prod_id.to_bytes(2, "little") + p.qe_svn.to_bytes(2, "little") + bytes(60)
        return report + binding.ljust(64, b"\0")
