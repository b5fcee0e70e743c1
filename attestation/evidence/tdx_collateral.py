"""What Intel publishes about a platform, parsed: TCB info, QE identity, CRLs and the chains that sign them.

The layout is the JSON of a version 3 quote collateral (PEM chains, hexadecimal CRLs and signatures, TCB info
and QE identity as the exact strings that were signed). Proves nothing: `attestation.verify.tdx` does.
docs/spec/evidence-tdx.md E64.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from attestation.errors import FormatRefused
from foundation.document import ANY_HEX, Fields, json_fields

COLLATERAL_BYTES_MAX = 1024 * 1024
_DOCUMENT_BYTES_MAX = 256 * 1024
_CHAIN_BYTES_MAX = 16 * 1024
_CRL_BYTES_MAX = 128 * 1024
_LEVELS_MAX = 64


class TcbStatus(Enum):
    """Intel's words for how well a platform is patched, and one of ours for a platform no level describes."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    UNLISTED = "Unlisted"

    @classmethod
    def parse(cls, text: str) -> TcbStatus:
        for status in cls:
            if status.value == text and status is not cls.UNLISTED:
                return status
        raise FormatRefused("tdx.tcb_status", expected="a TCB status of Intel's", got=ascii(text))


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """A level of one security version number: of the quoting enclave, or of the TDX module."""

    isv_svn: int
    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    sgx_svns: tuple[int, ...]
    tdx_svns: tuple[int, ...]
    pce_svn: int
    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModule:
    """Who may have signed a TDX module, which attributes it has, and (by identity) how patched it is."""

    identity: str
    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[SvnLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    issued: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    module: TdxModule
    module_identities: tuple[TdxModule, ...]
    levels: tuple[PlatformLevel, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    issued: datetime
    next_update: datetime
    evaluation_number: int
    misc_select: int
    misc_select_mask: int
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[SvnLevel, ...]


@dataclass(frozen=True, slots=True)
class SignedText:
    """A document as it was signed, by whom it claims to be signed, and the signature (r, s: 64 bytes)."""

    text: str
    signature: bytes
    issuer_chain_pem: str


@dataclass(frozen=True, slots=True)
class TdxCollateral:
    tcb_info_signed: SignedText
    tcb_info: TcbInfo
    qe_identity_signed: SignedText
    qe_identity: QeIdentity
    root_crl: bytes
    pck_crl: bytes
    pck_crl_issuer_chain_pem: str

    @classmethod
    def parse(cls, data: bytes | str) -> TdxCollateral:
        """Parse the collateral JSON. Raises `FormatRefused` and nothing else."""
        members = json_fields(data, "tdx.collateral", FormatRefused, bytes_max=COLLATERAL_BYTES_MAX)
        tcb_info = _signed(members, "tcb_info")
        qe_identity = _signed(members, "qe_identity")
        return cls(
            tcb_info_signed=tcb_info,
            tcb_info=parse_tcb_info(tcb_info.text),
            qe_identity_signed=qe_identity,
            qe_identity=parse_qe_identity(qe_identity.text),
            root_crl=members.blob("root_ca_crl", _CRL_BYTES_MAX),
            pck_crl=members.blob("pck_crl", _CRL_BYTES_MAX),
            pck_crl_issuer_chain_pem=members.text("pck_crl_issuer_chain", _CHAIN_BYTES_MAX, empty=True),
        )


def _signed(members: Fields, name: str) -> SignedText:
    return SignedText(
        text=members.text(name, _DOCUMENT_BYTES_MAX, empty=True),
        signature=members.digest(f"{name}_signature", 64, ANY_HEX),
        issuer_chain_pem=members.text(f"{name}_issuer_chain", _CHAIN_BYTES_MAX, empty=True),
    )


def parse_tcb_info(text: str) -> TcbInfo:
    what = "tdx.tcb_info"
    info = json_fields(text, what, FormatRefused, bytes_max=_DOCUMENT_BYTES_MAX)
    _require(info, what, "TDX", 3)
    module = info.fields("tdxModule")
    return TcbInfo(
        issued=info.time("issueDate"),
        next_update=info.time("nextUpdate"),
        fmspc=info.digest("fmspc", 6, ANY_HEX),
        pce_id=info.digest("pceId", 2, ANY_HEX),
        evaluation_number=info.uint("tcbEvaluationDataNumber", 2**31),
        module=_module(module, "TDX", ()),
        module_identities=_module_identities(info),
        levels=tuple(_platform_level(level) for level in info.rows("tcbLevels", _LEVELS_MAX)),
    )


def parse_qe_identity(text: str) -> QeIdentity:
    what = "tdx.qe_identity"
    identity = json_fields(text, what, FormatRefused, bytes_max=_DOCUMENT_BYTES_MAX)
    _require(identity, what, "TD_QE", 2)
    return QeIdentity(
        issued=identity.time("issueDate"),
        next_update=identity.time("nextUpdate"),
        evaluation_number=identity.uint("tcbEvaluationDataNumber", 2**31),
        misc_select=int.from_bytes(identity.digest("miscselect", 4, ANY_HEX), "big"),
        misc_select_mask=int.from_bytes(identity.digest("miscselectMask", 4, ANY_HEX), "big"),
        attributes=identity.digest("attributes", 16, ANY_HEX),
        attributes_mask=identity.digest("attributesMask", 16, ANY_HEX),
        mr_signer=identity.digest("mrsigner", 32, ANY_HEX),
        isv_prod_id=identity.uint("isvprodid", 0xFFFF),
        levels=_svn_levels(identity),
    )


def _require(document: Fields, what: str, identity: str, version: int) -> None:
    got = (document.text("id", 128), document.uint("version", 2**31))
    if got != (identity, version):
        raise FormatRefused(f"{what}.id", expected=f"{identity} version {version}", got=ascii(got))


def _module_identities(info: Fields) -> tuple[TdxModule, ...]:
    if "tdxModuleIdentities" not in info:  # collateral from before modules had versions
        return ()
    found = info.rows("tdxModuleIdentities", _LEVELS_MAX)
    return tuple(_module(one, one.text("id", 128), _svn_levels(one)) for one in found)


def _module(module: Fields, identity: str, levels: tuple[SvnLevel, ...]) -> TdxModule:
    return TdxModule(
        identity=identity,
        mr_signer=module.digest("mrsigner", 48, ANY_HEX),
        attributes=module.digest("attributes", 8, ANY_HEX),
        attributes_mask=module.digest("attributesMask", 8, ANY_HEX),
        levels=levels,
    )


def _svn_levels(holder: Fields) -> tuple[SvnLevel, ...]:
    return tuple(
        SvnLevel(
            isv_svn=level.fields("tcb").uint("isvsvn", 0xFFFF),
            status=TcbStatus.parse(level.text("tcbStatus", 128)),
            date=level.time("tcbDate"),
            advisories=_advisories(level),
        )
        for level in holder.rows("tcbLevels", _LEVELS_MAX)
    )


def _platform_level(level: Fields) -> PlatformLevel:
    tcb = level.fields("tcb")
    return PlatformLevel(
        sgx_svns=_components(tcb, "sgxtcbcomponents"),
        tdx_svns=_components(tcb, "tdxtcbcomponents"),
        pce_svn=tcb.uint("pcesvn", 0xFFFF),
        status=TcbStatus.parse(level.text("tcbStatus", 128)),
        date=level.time("tcbDate"),
        advisories=_advisories(level),
    )


def _advisories(level: Fields) -> tuple[str, ...]:
    return level.texts("advisoryIDs", 256, 64, least=0) if "advisoryIDs" in level else ()


def _components(tcb: Fields, name: str) -> tuple[int, ...]:
    svns = tuple(component.uint("svn", 0xFF) for component in tcb.rows(name, 16))
    if len(svns) != 16:
        raise FormatRefused(f"tdx.tcb_info.{name}", expected="16 components", got=len(svns))
    return svns
