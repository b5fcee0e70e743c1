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
from attestation.evidence.strict_json import JsonObject, parse_json

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
        members = JsonObject("tdx.collateral", parse_json("tdx.collateral", data, bytes_max=COLLATERAL_BYTES_MAX))
        tcb_info = _signed(members, "tcb_info")
        qe_identity = _signed(members, "qe_identity")
        return cls(
            tcb_info_signed=tcb_info,
            tcb_info=parse_tcb_info(tcb_info.text),
            qe_identity_signed=qe_identity,
            qe_identity=parse_qe_identity(qe_identity.text),
            root_crl=members.hex("root_ca_crl", bytes_max=_CRL_BYTES_MAX),
            pck_crl=members.hex("pck_crl", bytes_max=_CRL_BYTES_MAX),
            pck_crl_issuer_chain_pem=members.text("pck_crl_issuer_chain", characters_max=_CHAIN_BYTES_MAX),
        )


def _signed(members: JsonObject, name: str) -> SignedText:
    return SignedText(
        text=members.text(name, characters_max=_DOCUMENT_BYTES_MAX),
        signature=members.hex(f"{name}_signature", size=64),
        issuer_chain_pem=members.text(f"{name}_issuer_chain", characters_max=_CHAIN_BYTES_MAX),
    )


def parse_tcb_info(text: str) -> TcbInfo:
    what = "tdx.tcb_info"
    info = JsonObject(what, parse_json(what, text, bytes_max=_DOCUMENT_BYTES_MAX))
    _require(info, what, "TDX", 3)
    module = info.child("tdxModule")
    return TcbInfo(
        issued=info.time("issueDate"),
        next_update=info.time("nextUpdate"),
        fmspc=info.hex("fmspc", size=6),
        pce_id=info.hex("pceId", size=2),
        evaluation_number=info.integer("tcbEvaluationDataNumber", most=2**31),
        module=_module(module, "TDX", ()),
        module_identities=_module_identities(info),
        levels=tuple(_platform_level(level) for level in info.children("tcbLevels", most=_LEVELS_MAX)),
    )


def parse_qe_identity(text: str) -> QeIdentity:
    what = "tdx.qe_identity"
    identity = JsonObject(what, parse_json(what, text, bytes_max=_DOCUMENT_BYTES_MAX))
    _require(identity, what, "TD_QE", 2)
    return QeIdentity(
        issued=identity.time("issueDate"),
        next_update=identity.time("nextUpdate"),
        evaluation_number=identity.integer("tcbEvaluationDataNumber", most=2**31),
        misc_select=int.from_bytes(identity.hex("miscselect", size=4), "big"),
        misc_select_mask=int.from_bytes(identity.hex("miscselectMask", size=4), "big"),
        attributes=identity.hex("attributes", size=16),
        attributes_mask=identity.hex("attributesMask", size=16),
        mr_signer=identity.hex("mrsigner", size=32),
        isv_prod_id=identity.integer("isvprodid", most=0xFFFF),
        levels=_svn_levels(identity),
    )


def _require(document: JsonObject, what: str, identity: str, version: int) -> None:
    got = (document.text("id"), document.integer("version", most=2**31))
    if got != (identity, version):
        raise FormatRefused(f"{what}.id", expected=f"{identity} version {version}", got=ascii(got))


def _module_identities(info: JsonObject) -> tuple[TdxModule, ...]:
    if "tdxModuleIdentities" not in info:  # collateral from before modules had versions
        return ()
    found = info.children("tdxModuleIdentities", most=_LEVELS_MAX)
    return tuple(_module(one, one.text("id"), _svn_levels(one)) for one in found)


def _module(module: JsonObject, identity: str, levels: tuple[SvnLevel, ...]) -> TdxModule:
    return TdxModule(
        identity=identity,
        mr_signer=module.hex("mrsigner", size=48),
        attributes=module.hex("attributes", size=8),
        attributes_mask=module.hex("attributesMask", size=8),
        levels=levels,
    )


def _svn_levels(holder: JsonObject) -> tuple[SvnLevel, ...]:
    return tuple(
        SvnLevel(
            isv_svn=level.child("tcb").integer("isvsvn", most=0xFFFF),
            status=TcbStatus.parse(level.text("tcbStatus")),
            date=level.time("tcbDate"),
            advisories=level.texts("advisoryIDs", most=256),
        )
        for level in holder.children("tcbLevels", most=_LEVELS_MAX)
    )


def _platform_level(level: JsonObject) -> PlatformLevel:
    tcb = level.child("tcb")
    return PlatformLevel(
        sgx_svns=_components(tcb, "sgxtcbcomponents"),
        tdx_svns=_components(tcb, "tdxtcbcomponents"),
        pce_svn=tcb.integer("pcesvn", most=0xFFFF),
        status=TcbStatus.parse(level.text("tcbStatus")),
        date=level.time("tcbDate"),
        advisories=level.texts("advisoryIDs", most=256),
    )


def _components(tcb: JsonObject, name: str) -> tuple[int, ...]:
    svns = tuple(component.integer("svn", most=0xFF) for component in tcb.children(name, most=16))
    if len(svns) != 16:
        raise FormatRefused(f"tdx.tcb_info.{name}", expected="16 components", got=len(svns))
    return svns
