"""Verified GPU evidence as plain values for people and JSON. Names are stable; values are text or numbers."""

from __future__ import annotations

from attestation.verify.verified_gpu import VerifiedGpu


def gpu_facts(verified: VerifiedGpu) -> dict[str, object]:
    """What a verified report says, in the order a reader wants it."""
    rims = verified.rims
    return {
        "root": verified.root.name,
        "simulated": verified.root.simulated,
        "product": verified.product,
        "device": verified.device_id.hex(),
        "nonce": verified.nonce.hex(),
        "driver_version": verified.driver_version or None,
        "vbios_version": verified.vbios_version or None,
        "board": verified.board,
        "firmware_id_bound": verified.firmware_id_bound,
        "measurements": len(verified.measurements),
        "rims": None if rims is None else ", ".join(sorted(kind.value for kind in rims.kinds)),
        "rim_matched": None if rims is None else len(rims.matched),
        "rim_differing": None if rims is None else ", ".join(map(str, sorted(rims.differing))),
        "rim_uncovered": None if rims is None else ", ".join(map(str, sorted(rims.uncovered))),
        "signed_digest": verified.signed_digest.hex(),
    }
