"""A verified TDX quote as plain values for people and JSON. Names are stable; values are text or numbers."""

from __future__ import annotations

from attestation.verify.verified_tdx import VerifiedTdx


def tdx_facts(verified: VerifiedTdx) -> dict[str, object]:
    """What a verified quote says, in the order a reader wants it."""
    report, tcb, log = verified.report, verified.tcb, verified.event_log
    return {
        "root": verified.root.name,
        "simulated": verified.root.simulated,
        "version": verified.quote_version,
        "report_version": report.kind.value,
        "fmspc": verified.pck.fmspc.hex(),
        "ppid": verified.pck.ppid.hex(),
        "tcb_status": tcb.status.value,
        "tcb_date": None if tcb.date is None else f"{tcb.date:%Y-%m-%d}",
        "advisories": ", ".join(tcb.advisories) or None,
        "evaluation_number": verified.evaluation_number,
        "second_opinion": verified.second_opinion.declined or verified.second_opinion.status,
        "tee_tcb_svn": report.tee_tcb_svn.hex(),
        "mr_seam": report.mr_seam.hex(),
        "td_attributes": f"{report.td_attributes:#x}",
        "xfam": f"{report.xfam:#x}",
        "mr_td": report.mr_td.hex(),
        "mr_config_id": report.mr_config_id.hex(),
        "mr_owner": report.mr_owner.hex(),
        "mr_owner_config": report.mr_owner_config.hex(),
        **{f"rtmr{number}": value.hex() for number, value in enumerate(report.rtmrs)},
        "report_data": report.report_data.hex(),
        "mr_service_td": None if report.mr_service_td is None else report.mr_service_td.hex(),
        "event_log": None if log is None else len(log.events),
        "event_log_bound": None if log is None else sum(event.bound for event in log.events),
        "collateral_until": f"{verified.collateral_until:%Y-%m-%dT%H:%M:%SZ}",
        "signed_digest": verified.signed_digest.hex(),
    }
