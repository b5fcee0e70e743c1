"""How well patched a verified platform is, by Intel's own tables: pure comparison of version numbers.

The status of a quote is the worst of three: the platform's (CPU, PCE, TDX loader), the TDX module's and the
quoting enclave's. A platform that no level describes is `UNLISTED`, worse than anything but revoked.
Says nothing about whether the tables or the quote are genuine. docs/spec/evidence-tdx.md E72.
"""

from __future__ import annotations

from attestation.errors import BindingRefused
from attestation.evidence.sgx_extension import PckIdentity
from attestation.evidence.tdx_collateral import PlatformLevel, QeIdentity, SvnLevel, TcbInfo, TcbStatus, TdxModule
from attestation.evidence.tdx_quote import QeReport, TdReport
from attestation.verify.verified_tdx import TcbStanding


def assess(
    report: TdReport, qe_report: QeReport, pck: PckIdentity, tcb_info: TcbInfo, *, qe: QeIdentity
) -> TcbStanding:
    platform = _platform_level(report, pck, tcb_info)
    platform_status = platform.status if platform else TcbStatus.UNLISTED
    module_status, module = _module_status(report, tcb_info, platform_status)
    enclave = _svn_level(qe_report.isv_svn, qe.levels)
    levels = [level for level in (platform, module, enclave) if level is not None]
    enclave_status = enclave.status if enclave else TcbStatus.UNLISTED
    return TcbStanding(
        status=_merged(platform_status, module_status, enclave_status),
        platform=platform_status,
        module=module_status,
        quoting_enclave=enclave_status,
        advisories=tuple(sorted({advisory for level in levels for advisory in level.advisories})),
        date=min((level.date for level in levels), default=None),
    )


def _platform_level(report: TdReport, pck: PckIdentity, tcb_info: TcbInfo) -> PlatformLevel | None:
    # E72: where the module has versions (second byte not zero), its own SVN and version are judged by its
    # identity.
    first = 2 if report.tee_tcb_svn[1] else 0
    for level in tcb_info.levels:
        if (
            _covers(pck.component_svns, level.sgx_svns)
            and pck.pce_svn >= level.pce_svn
            and _covers(report.tee_tcb_svn[first:], level.tdx_svns[first:])
        ):
            return level
    return None


def _covers(have: bytes | tuple[int, ...], need: tuple[int, ...]) -> bool:
    return all(one >= other for one, other in zip(have, need, strict=True))


def _svn_level(svn: int, levels: tuple[SvnLevel, ...]) -> SvnLevel | None:
    return next((level for level in levels if svn >= level.isv_svn), None)


def _module_status(report: TdReport, tcb_info: TcbInfo, platform: TcbStatus) -> tuple[TcbStatus, SvnLevel | None]:
    """How patched the TDX module is; refuses a module whose signer or attributes are not the stated ones."""
    version = report.tee_tcb_svn[1]
    module = _module_of(version, tcb_info)
    if module is None:
        return TcbStatus.UNLISTED, None
    if report.mr_signer_seam != module.mr_signer:
        raise BindingRefused("tdx.module_signer", expected=module.mr_signer.hex(), got=report.mr_signer_seam.hex())
    attributes = bytes(a & m for a, m in zip(report.seam_attributes, module.attributes_mask, strict=True))
    if attributes != module.attributes:
        raise BindingRefused("tdx.module_attributes", expected=module.attributes.hex(), got=attributes.hex())
    if version == 0:  # a module from before they had versions is judged by the platform's level alone
        return platform, None
    level = _svn_level(report.tee_tcb_svn[0], module.levels)
    return (level.status, level) if level else (TcbStatus.UNLISTED, None)


def _module_of(version: int, tcb_info: TcbInfo) -> TdxModule | None:
    if version == 0:
        return tcb_info.module
    name = f"TDX_{version:02X}"
    return next((module for module in tcb_info.module_identities if module.identity == name), None)


_ORDER = (
    TcbStatus.UP_TO_DATE,
    TcbStatus.SW_HARDENING_NEEDED,
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TcbStatus.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.UNLISTED,
    TcbStatus.REVOKED,
)
_NEEDS_CONFIGURATION = {TcbStatus.CONFIGURATION_NEEDED, TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED}


def _merged(*statuses: TcbStatus) -> TcbStatus:
    worst = max(statuses, key=_ORDER.index)
    if worst is TcbStatus.OUT_OF_DATE and any(status in _NEEDS_CONFIGURATION for status in statuses):
        return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    return worst
