"""Verified evidence as plain values for people and JSON. Names are stable; values are text or numbers."""

from __future__ import annotations

from attestation.verify.verified import VerifiedSnp


def snp_facts(verified: VerifiedSnp) -> dict[str, object]:
    """What a verified report says, in the order a reader wants it."""
    return {
        "root": verified.root.name,
        "simulated": verified.root.simulated,
        "product": verified.product.value,
        "cpuid": None if verified.cpuid is None else str(verified.cpuid),
        "key": verified.key.name,
        "csp_id": verified.csp_id,
        "chip_id": None if verified.chip_id is None else verified.chip_id.hex(),
        "hwid": None if verified.hwid is None else verified.hwid.hex(),
        "version": verified.version,
        "vmpl": verified.vmpl,
        "guest_svn": verified.guest_svn,
        "policy": f"{verified.policy.raw:#x}",
        "platform_info": f"{verified.platform.raw:#x}",
        "measurement": verified.measurement.hex(),
        "report_data": verified.report_data.hex(),
        "host_data": verified.host_data.hex(),
        "id_key_digest": verified.id_key_digest.hex(),
        "author_key_digest": verified.author_key_digest.hex(),
        "family_id": verified.family_id.hex(),
        "image_id": verified.image_id.hex(),
        "reported_tcb": str(verified.reported_tcb),
        "committed_tcb": str(verified.committed_tcb),
        "current_tcb": str(verified.current_tcb),
        "launch_tcb": str(verified.launch_tcb),
        "current_firmware": str(verified.current_firmware),
        "committed_firmware": str(verified.committed_firmware),
        "launch_mitigations": _mask(verified.launch_mitigations),
        "current_mitigations": _mask(verified.current_mitigations),
        "revocation": verified.revocation.value,
        "valid_until": f"{verified.valid_until:%Y-%m-%dT%H:%M:%SZ}",
        "body_digest": verified.body_digest.hex(),
    }


def _mask(vector: int | None) -> str | None:
    return None if vector is None else f"{vector:#x}"
