"""An Intel TDX quote, versions 4 and 5, parsed byte for byte. Proves nothing: see `attestation.verify.tdx`.

A quote is a header, a TD report, and signature data that carries its own certificate chain:

    header 48 | [v5: body type 2, body size 4] | TD report 584 (1.0) or 648 (1.5) | size 4 | signature data
    signature data = signature 64 | attestation key 64 | type 2 (=6) | size 4 |
                     QE report 384 | QE report signature 64 | size 2 | auth data |
                     type 2 (=5) | size 4 | three PEM certificates: PCK leaf, its CA, the root

Every size has to account for every byte. After the signature data only zeros may follow, because the guest's
kernel hands out a fixed-size buffer (docs/spec/evidence-tdx.md E60 to E63).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attestation.errors import FormatRefused
from attestation.evidence.cursor import Cursor, first_set

QUOTE_BYTES_MAX = 64 * 1024
PEM_BYTES_MAX = 16 * 1024

TEE_TYPE_TDX = 0x81
KEY_TYPE_ECDSA_P256 = 2
QE_VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

AUTH_DATA_BYTES_MAX = 1024  # Intel's enclave writes 32
_CERTIFICATION_QE_REPORT = 6
_CERTIFICATION_PCK_CHAIN = 5


class TdReportKind(Enum):
    """What the signed body is. `size` counts its bytes, `wire` is the body type a version 5 quote states."""

    V1_0 = "1.0"
    V1_5 = "1.5"

    @property
    def size(self) -> int:
        return 584 if self is TdReportKind.V1_0 else 648


DEBUG_ATTRIBUTES = 0xFF  # the lowest byte of the TD attributes means: under debug
_BODY_TYPES = {2: TdReportKind.V1_0, 3: TdReportKind.V1_5}


@dataclass(frozen=True, slots=True)
class QuoteHeader:
    version: int
    qe_vendor_id: bytes
    user_data: bytes


@dataclass(frozen=True, slots=True)
class TdReport:
    """What the TDX module says about the trust domain. The last two fields exist in a 1.5 report only."""

    kind: TdReportKind
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: int
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None
    mr_service_td: bytes | None

    @property
    def debug(self) -> bool:
        return bool(self.td_attributes & DEBUG_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class QeReport:
    """The quoting enclave's own report, signed by the platform's PCK key. `raw` is what that key signed."""

    raw: bytes
    misc_select: int
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> QeReport:
        cursor = Cursor("tdx.qe_report", raw)
        cursor.take(16, "cpu svn")
        misc_select = cursor.integer(4, "misc select")
        cursor.take(28, "reserved")
        attributes = cursor.take(16, "attributes")
        mr_enclave = cursor.take(32, "mr enclave")
        cursor.take(32, "reserved")
        mr_signer = cursor.take(32, "mr signer")
        cursor.take(96, "reserved")
        isv_prod_id = cursor.integer(2, "isv prod id")
        isv_svn = cursor.integer(2, "isv svn")
        cursor.take(60, "reserved")
        report_data = cursor.take(64, "report data")
        cursor.finish()
        return cls(raw, misc_select, attributes, mr_enclave, mr_signer, isv_prod_id, isv_svn, report_data)


@dataclass(frozen=True, slots=True)
class TdxQuote:
    """A parsed quote. `raw` ends where the signature data ends: padding is not part of the quote."""

    raw: bytes
    header: QuoteHeader
    report: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: QeReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    pck_chain_pem: bytes

    @classmethod
    def parse(cls, data: bytes) -> TdxQuote:
        """Parse `data`, all of it. Raises `FormatRefused` and nothing else; believes nothing."""
        if len(data) > QUOTE_BYTES_MAX:
            raise FormatRefused("tdx.size", expected=f"at most {QUOTE_BYTES_MAX} bytes", got=f"{len(data)} bytes")
        cursor = Cursor("tdx", data)
        header = _parse_header(cursor)
        kind = _parse_body_kind(cursor, header.version)
        report = _parse_report(cursor.take(kind.size, "td report"), kind)
        signed = data[: cursor.position]
        signature_data = cursor.take(cursor.integer(4, "signature data size"), "signature data")
        raw = data[: cursor.position]
        # E63: configfs pads its buffer with zeros; anything else after the quote is somebody's message.
        rest = cursor.rest()
        if any(rest):
            raise FormatRefused(
                "tdx.trailing", expected="nothing but zeros after the quote", got=first_set(rest, len(raw))
            )
        return _with_signature_data(raw, header, report, signed, signature_data=signature_data)


def _parse_header(cursor: Cursor) -> QuoteHeader:
    version = cursor.integer(2, "version")
    if version not in (4, 5):
        raise FormatRefused("tdx.version", expected="4 or 5", got=version)
    key_type = cursor.integer(2, "attestation key type")
    if key_type != KEY_TYPE_ECDSA_P256:
        raise FormatRefused("tdx.key_type", expected=f"{KEY_TYPE_ECDSA_P256} (ECDSA P-256)", got=key_type)
    tee_type = cursor.integer(4, "tee type")
    if tee_type != TEE_TYPE_TDX:
        raise FormatRefused("tdx.tee_type", expected=f"{TEE_TYPE_TDX:#x} (TDX)", got=f"{tee_type:#x}")
    cursor.take(4, "reserved")  # reserved, or two SVNs, by version; signed, and zero in every quote seen
    vendor = cursor.take(16, "qe vendor id")
    if vendor != QE_VENDOR_INTEL:
        raise FormatRefused("tdx.qe_vendor", expected=QE_VENDOR_INTEL.hex(), got=vendor.hex())
    return QuoteHeader(version, vendor, cursor.take(20, "user data"))


def _parse_body_kind(cursor: Cursor, version: int) -> TdReportKind:
    if version == 4:
        return TdReportKind.V1_0
    body_type = cursor.integer(2, "body type")
    kind = _BODY_TYPES.get(body_type)
    if kind is None:
        raise FormatRefused("tdx.body_type", expected="2 (TD report 1.0) or 3 (1.5)", got=body_type)
    size = cursor.integer(4, "body size")
    if size != kind.size:
        raise FormatRefused("tdx.body_size", expected=f"{kind.size} for TD report {kind.value}", got=size)
    return kind


def _parse_report(data: bytes, kind: TdReportKind) -> TdReport:
    cursor = Cursor("tdx", data)
    later = kind is TdReportKind.V1_5
    return TdReport(
        kind=kind,
        tee_tcb_svn=cursor.take(16, "tee tcb svn"),
        mr_seam=cursor.take(48, "mr seam"),
        mr_signer_seam=cursor.take(48, "mr signer seam"),
        seam_attributes=cursor.take(8, "seam attributes"),
        td_attributes=cursor.integer(8, "td attributes"),
        xfam=cursor.integer(8, "xfam"),
        mr_td=cursor.take(48, "mr td"),
        mr_config_id=cursor.take(48, "mr config id"),
        mr_owner=cursor.take(48, "mr owner"),
        mr_owner_config=cursor.take(48, "mr owner config"),
        rtmrs=(
            cursor.take(48, "rtmr 0"),
            cursor.take(48, "rtmr 1"),
            cursor.take(48, "rtmr 2"),
            cursor.take(48, "rtmr 3"),
        ),
        report_data=cursor.take(64, "report data"),
        tee_tcb_svn2=cursor.take(16, "tee tcb svn 2") if later else None,
        mr_service_td=cursor.take(48, "mr service td") if later else None,
    )


def _with_signature_data(
    raw: bytes, header: QuoteHeader, report: TdReport, signed: bytes, *, signature_data: bytes
) -> TdxQuote:
    cursor = Cursor("tdx.signature_data", signature_data)
    signature = cursor.take(64, "signature")
    attestation_key = cursor.take(64, "attestation key")
    inner = Cursor("tdx.certification", _certification(cursor, _CERTIFICATION_QE_REPORT, QUOTE_BYTES_MAX))
    cursor.finish()
    qe_report = QeReport.parse(inner.take(384, "qe report"))
    qe_report_signature = inner.take(64, "qe report signature")
    auth_size = inner.integer(2, "auth data size")
    if auth_size > AUTH_DATA_BYTES_MAX:
        raise FormatRefused("tdx.auth_data", expected=f"at most {AUTH_DATA_BYTES_MAX} bytes", got=f"{auth_size} bytes")
    auth_data = inner.take(auth_size, "auth data")
    chain = _certification(inner, _CERTIFICATION_PCK_CHAIN, PEM_BYTES_MAX)
    inner.finish()
    return TdxQuote(
        raw, header, report, signed, signature, attestation_key, qe_report, qe_report_signature, auth_data, chain
    )


def _certification(cursor: Cursor, wanted: int, bytes_max: int) -> bytes:
    kind = cursor.integer(2, "certification data type")
    if kind != wanted:
        raise FormatRefused("tdx.certification_type", expected=wanted, got=kind)
    size = cursor.integer(4, "certification data size")
    if size > bytes_max:
        raise FormatRefused("tdx.certification_size", expected=f"at most {bytes_max} bytes", got=f"{size} bytes")
    return cursor.take(size, "certification data")
