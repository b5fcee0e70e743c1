"""A simulated TDX platform: quotes of version 4, the PCK chain that signs them, the collateral beside them.

Everything a real verifier asks for exists and is signed by the simulated root: TCB info with module
identities, the quoting enclave's identity, both revocation lists. The verifier that judges a quote is the one
that judges hardware; only the root differs. All keys follow from the seed and all signatures are
deterministic, so the same seed, times and input give the same bytes.

What it is not: there is no isolation at all. A simulated quote proves that somebody holds the devnet's key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from devnet import der
from devnet.pki import Authority, Validity, derived, derived_key, ecdsa_pair, revocation_list, sign_certificate
from devnet.pki import subject as simulated_subject

SGX_ARC = "1.2.840.113741.1.13.1"
FMSPC = bytes.fromhex("00906ed50000")
QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_SVN, PCE_SVN, MODULE_SVN = 4, 11, 5
CPU_SVN = b"\x05" * 16
TEE_TCB_SVN = bytes([MODULE_SVN, 1]) + bytes(14)
EVALUATION_NUMBER = 20
AUTH_DATA = bytes(range(32))

SEPT_VE_DISABLE = 1 << 28
XFAM = bytes.fromhex("e702060000000000")
RTMR_COUNT = 4


class Collateral(TypedDict):
    """The fields a quote verifier is handed, under the names it gives them."""

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes


@dataclass(frozen=True, slots=True)
class QuoteFields:
    """Everything a quote says about the guest. The defaults are a machine as one would want it."""

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(48),) * 4
    attributes: int = SEPT_VE_DISABLE
    xfam: bytes = XFAM
    mr_config_id: bytes = bytes(48)
    mr_owner: bytes = bytes(48)
    mr_owner_config: bytes = bytes(48)
    mr_seam: bytes = bytes(48)
    tee_tcb_svn: bytes = TEE_TCB_SVN


@dataclass(frozen=True, slots=True)
class SimulatedTdx:
    """One platform and the authorities above it. Make it with `create`."""

    seed: bytes
    validity: Validity
    root: Authority
    pck_authority: Authority
    pck: Authority
    tcb_signing: Authority
    tcb_status: str = "UpToDate"
    pck_revoked: bool = False

    @classmethod
    def create(cls, seed: bytes, validity: Validity) -> SimulatedTdx:
        def key(label: str) -> ec.EllipticCurvePrivateKey:
            return derived_key(seed, ec.SECP256R1(), "tdx", label)

        root_key = key("root")
        root = Authority(_certificate("SIMULATED Root CA", root_key, None, seed, validity=validity, ca=1), root_key)
        pck_authority = _issued(
            "SIMULATED Intel SGX PCK Platform CA", key("pck ca"), root, seed, validity=validity, ca=0
        )
        pck = _issued(
            "SIMULATED PCK Certificate",
            key("pck"),
            pck_authority,
            seed,
            validity=validity,
            extensions={SGX_ARC: _sgx_extension(_ppid(seed))},
        )
        tcb_signing = _issued("SIMULATED TCB Signing", key("tcb"), root, seed, validity=validity)
        return cls(seed, validity, root, pck_authority, pck, tcb_signing)

    @property
    def ppid(self) -> bytes:
        """Which platform this is."""
        return _ppid(self.seed)

    @property
    def collateral(self) -> Collateral:
        tcb_info = _compact(self._tcb_info())
        qe_identity = _compact(self._qe_identity())
        signing_chain = self.tcb_signing.pem + self.root.pem
        revoked = (self.pck.certificate.serial_number,) if self.pck_revoked else ()
        return Collateral(
            pck_crl_issuer_chain=self.pck_authority.pem + self.root.pem,
            root_ca_crl=revocation_list(self.root, self.validity),
            pck_crl=revocation_list(self.pck_authority, self.validity, revoked),
            tcb_info_issuer_chain=signing_chain,
            tcb_info=tcb_info,
            tcb_info_signature=_sign(self.tcb_signing, tcb_info.encode()),
            qe_identity_issuer_chain=signing_chain,
            qe_identity=qe_identity,
            qe_identity_signature=_sign(self.tcb_signing, qe_identity.encode()),
        )

    def quote(self, report_data: bytes, fields: QuoteFields) -> bytes:
        """A signed quote over these 64 bytes; the same input gives the same bytes."""
        signed = _header() + _body(report_data, fields)
        signature = self._signature_data(signed)
        return signed + len(signature).to_bytes(4, "little") + signature

    def _signature_data(self, signed: bytes) -> bytes:
        """The quote's signature, the attestation key, and the quoting enclave's word for that key."""
        key = derived_key(self.seed, ec.SECP256R1(), "tdx", "attestation")
        numbers = key.public_key().public_numbers()
        public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        report = self._enclave_report(public)
        chain = (self.pck.pem + self.pck_authority.pem + self.root.pem).encode()
        certification = (
            report
            + _sign(self.pck, report)
            + len(AUTH_DATA).to_bytes(2, "little")
            + AUTH_DATA
            + (5).to_bytes(2, "little")
            + len(chain).to_bytes(4, "little")
            + chain
        )
        head = _raw_signature(key, signed) + public
        return head + (6).to_bytes(2, "little") + len(certification).to_bytes(4, "little") + certification

    def _enclave_report(self, attestation_key: bytes) -> bytes:
        report = bytearray(384)
        report[48] = 0x11  # attributes
        report[128:160] = derived(self.seed, "qe signer")
        report[256:258] = (2).to_bytes(2, "little")  # product id
        report[258:260] = QE_SVN.to_bytes(2, "little")
        report[320:352] = hashlib.sha256(attestation_key + AUTH_DATA).digest()
        return bytes(report)

    def _tcb_info(self) -> object:
        level = {
            "tcb": {
                "sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN],
                "pcesvn": PCE_SVN,
                "tdxtcbcomponents": [{"svn": svn} for svn in TEE_TCB_SVN],
            },
            "tcbDate": _stamp(self.validity.start),
            "tcbStatus": self.tcb_status,
        }
        module = {"mrsigner": "0" * 96, "attributes": "0" * 16, "attributesMask": "F" * 16}
        module_level = {"tcb": {"isvsvn": MODULE_SVN}, "tcbDate": _stamp(self.validity.start), "tcbStatus": "UpToDate"}
        return {
            "id": "TDX",
            "version": 3,
            **self._dates(),
            "fmspc": FMSPC.hex().upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": EVALUATION_NUMBER,
            "tdxModule": module,
            "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": [module_level]}],
            "tcbLevels": [level],
        }

    def _qe_identity(self) -> object:
        level = {"tcb": {"isvsvn": QE_SVN}, "tcbDate": _stamp(self.validity.start), "tcbStatus": "UpToDate"}
        return {
            "id": "TD_QE",
            "version": 2,
            **self._dates(),
            "tcbEvaluationDataNumber": EVALUATION_NUMBER,
            "miscselect": "0" * 8,
            "miscselectMask": "F" * 8,
            "attributes": "11" + "0" * 30,
            "attributesMask": "FB" + "F" * 14 + "0" * 16,
            "mrsigner": derived(self.seed, "qe signer").hex().upper(),
            "isvprodid": 2,
            "tcbLevels": [level],
        }

    def _dates(self) -> dict[str, str]:
        return {"issueDate": _stamp(self.validity.start), "nextUpdate": _stamp(self.validity.end)}


def _ppid(seed: bytes) -> bytes:
    return derived(seed, "ppid", size=16)


def _header() -> bytes:
    """Version 4, ECDSA P-256, TDX."""
    return (
        (4).to_bytes(2, "little")
        + (2).to_bytes(2, "little")
        + (0x81).to_bytes(4, "little")
        + bytes(4)
        + QE_VENDOR
        + bytes(20)
    )


def _body(report_data: bytes, fields: QuoteFields) -> bytes:
    parts = [
        (fields.tee_tcb_svn, 16),
        (fields.mr_seam, 48),
        (bytes(48), 48),
        (bytes(8), 8),
        (fields.attributes.to_bytes(8, "little"), 8),
        (fields.xfam, 8),
        (fields.mrtd, 48),
        (fields.mr_config_id, 48),
        (fields.mr_owner, 48),
        (fields.mr_owner_config, 48),
        *((rtmr, 48) for rtmr in fields.rtmrs),
        (report_data, 64),
    ]
    for value, size in parts:
        if len(value) != size:
            raise ValueError(f"a field of the quote body is {size} bytes, got {len(value)}")
    return b"".join(value for value, _ in parts)


def _issued(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority,
    seed: bytes,
    *,
    validity: Validity,
    ca: int | None = None,
    extensions: dict[str, bytes] | None = None,
) -> Authority:
    certificate = _certificate(name, key, issuer, seed, validity=validity, ca=ca, extensions=extensions)
    return Authority(certificate, key)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority | None,
    seed: bytes,
    *,
    validity: Validity,
    ca: int | None = None,
    extensions: dict[str, bytes] | None = None,
) -> x509.Certificate:
    """`ca` is the path length of an authority; None makes an end certificate."""
    issuer_name = issuer.certificate.subject if issuer else simulated_subject(name)
    issuer_key = issuer.key if issuer else key
    leaf = ca is None
    usage = x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=leaf,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )
    point = x509.DistributionPoint([x509.UniformResourceIdentifier("https://simulated.invalid/crl")], None, None, None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(simulated_subject(name))
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(derived(seed, "serial", name, size=16), "big") >> 1 | 1)
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.BasicConstraints(ca=not leaf, path_length=ca), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
    )
    for arc, value in (extensions or {}).items():
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(arc), value), False)
    return sign_certificate(builder, issuer_key)


def _sgx_extension(ppid: bytes) -> bytes:
    """What a PCK certificate says about its platform: PPID, TCB, PCE id, FMSPC, SGX type."""

    def entry(arc: str, value: bytes) -> bytes:
        return der.element(der.SEQUENCE, der.object_identifier(f"{SGX_ARC}.{arc}"), value)

    levels = [entry(f"2.{at}", der.integer(svn)) for at, svn in enumerate(CPU_SVN, start=1)]
    levels.append(entry("2.17", der.integer(PCE_SVN)))
    levels.append(entry("2.18", der.element(der.OCTET_STRING, CPU_SVN)))
    return der.element(
        der.SEQUENCE,
        entry("1", der.element(der.OCTET_STRING, ppid)),
        entry("2", der.element(der.SEQUENCE, *levels)),
        entry("3", der.element(der.OCTET_STRING, bytes(2))),
        entry("4", der.element(der.OCTET_STRING, FMSPC)),
        entry("5", der.element(der.ENUMERATED, b"\0")),
    )


def _sign(authority: Authority, message: bytes) -> bytes:
    if not isinstance(authority.key, ec.EllipticCurvePrivateKey):
        raise TypeError("the simulated TDX authorities hold elliptic curve keys")
    return _raw_signature(authority.key, message)


def _raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = ecdsa_pair(key, message, hashes.SHA256())
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
