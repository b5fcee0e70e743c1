"""Is an NVIDIA attestation report genuine? Chain to the pinned device root, signature, firmware id.

What this does NOT establish: that the device was not revoked (NVIDIA answers that over OCSP alone, which is
on the network), that its firmware is good (see `compare_with_rims`), that the nonce is the verifier's own
(a claim of `attestation.policy.gpu`), or that the device sits in the machine one is talking to.

`VerifiedGpu` is made in this module and nowhere else. docs/spec/evidence-gpu.md E99 to E101, E104.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from attestation.errors import BindingRefused, ChainRefused
from attestation.evidence.gpu_report import GpuReport, OpaqueField
from attestation.verify.ec_chain import ec_key, parse_pem_chain, spki_digest, verify_chain, verify_raw_signature
from attestation.verify.verified import SEAL, TrustAnchor
from attestation.verify.verified_gpu import RimComparison, RimKind, VerifiedGpu, VerifiedRim
from foundation.refusal import shown

NVIDIA_DEVICE_ROOT_SPKI: Final = bytes.fromhex("a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4")
_NVIDIA: Final = TrustAnchor("NVIDIA Device Identity CA", NVIDIA_DEVICE_ROOT_SPKI, simulated=False)
_CHAIN_LENGTH: Final = 5
_FWID_OIDS: Final = ("2.23.133.5.4.1", "2.23.133.5.4.1.1")  # DICE TcbInfo, and a sequence of them
_NVDEC0_INDEX: Final = 35


def verify_gpu(report: GpuReport, chain_pem: bytes, *, at: datetime) -> VerifiedGpu:
    """Verify `report` under NVIDIA's device root, as of `at`. A refusal names the stage."""
    return _verify(report, chain_pem, at, _NVIDIA)


def verify_gpu_with_root_ca(report: GpuReport, chain_pem: bytes, *, at: datetime, root_spki: bytes) -> VerifiedGpu:
    """As `verify_gpu`, under a root the caller vouches for: a simulated device. The result says so."""
    return _verify(report, chain_pem, at, TrustAnchor("a root supplied by the caller", root_spki, simulated=True))


def _verify(report: GpuReport, chain_pem: bytes, at: datetime, anchor: TrustAnchor) -> VerifiedGpu:
    chain = parse_pem_chain("gpu.chain", chain_pem, count=_CHAIN_LENGTH)
    verify_chain("gpu.chain", chain, root_spki=anchor.spki_sha256, at=at)
    leaf = chain[0]
    key = ec_key("gpu.chain", leaf, ec.SECP384R1)
    verify_raw_signature("gpu.signature", key, report.signature, report.signed, algorithm=hashes.SHA384())
    return VerifiedGpu(
        root=anchor,
        product=_product(leaf),
        device_id=spki_digest(chain[1]),
        nonce=report.request_nonce,
        driver_version=report.driver_version,
        vbios_version=report.vbios_version,
        board="_".join(
            _opaque_text(report, part) for part in (OpaqueField.PROJECT, OpaqueField.PROJECT_SKU, OpaqueField.CHIP_SKU)
        ),
        firmware_id_bound=_firmware_id_bound(report, leaf),
        measurements=report.measurements,
        rims=None,
        verified_at=at,
        signed_digest=hashlib.sha256(report.signed).digest(),
        seal=SEAL,
    )


def _opaque_text(report: GpuReport, part: OpaqueField) -> str:
    value = report.opaque.get(part, b"").rstrip(b"\0")
    return value.decode("ascii") if value.isascii() and value.isalnum() else "?"


def _product(leaf: x509.Certificate) -> str:
    """The first word of the leaf's name, such as GH100: the root signs names, so this is NVIDIA's word."""
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    word = re.match(r"[A-Z0-9_]{2,16}(?= )", str(names[0].value)) if len(names) == 1 else None
    if word is None:
        raise ChainRefused(
            "gpu.chain.product", expected="a leaf named after its product", got=shown(leaf.subject.rfc4514_string())
        )
    return word[0]


def _firmware_id_bound(report: GpuReport, leaf: x509.Certificate) -> bool:
    """E101: the firmware id in the report is in the leaf, whose key exists only under that firmware.

    Older firmware and switches state none; then there is nothing to compare, and the claim says so.
    """
    firmware_id = report.opaque.get(OpaqueField.FWID, b"")
    if not any(firmware_id):
        return False
    for extension in leaf.extensions:
        if extension.oid.dotted_string in _FWID_OIDS and isinstance(extension.value, x509.UnrecognizedExtension):
            if len(firmware_id) == hashlib.sha384().digest_size and firmware_id in extension.value.value:
                return True
            break
    raise BindingRefused(
        "gpu.firmware_id", expected="the firmware id of the device's certificate", got=firmware_id.hex()
    )


def verify_nonce(gpu: VerifiedGpu, nonces: Collection[bytes]) -> None:
    """E100: the report answers one of `nonces`; raises `BindingRefused` for an answer to another question."""
    if gpu.nonce not in nonces:
        raise BindingRefused("gpu.nonce", expected="a nonce that was asked for", got=gpu.nonce.hex())


def compare_with_rims(gpu: VerifiedGpu, rims: Sequence[VerifiedRim], report: GpuReport) -> VerifiedGpu:
    """`gpu` with its measurements held against manifests; each has to be for its driver or its VBIOS version.

    `report` is the one `gpu` was verified from. Differing measurements are facts for the policy, not errors.
    """
    if hashlib.sha256(report.signed).digest() != gpu.signed_digest:
        raise BindingRefused(
            "gpu.report",
            expected="the report that was verified",
            got=f"a report of SHA-256 {hashlib.sha256(report.signed).hexdigest()}",
        )
    allowed: dict[int, frozenset[bytes]] = {}
    kinds: set[RimKind] = set()
    for rim in rims:
        kind = _kind_of(rim, gpu)
        if kind in kinds:
            raise BindingRefused(
                "gpu.rim", expected=f"one manifest for the {kind.value}", got="a second manifest for it"
            )
        kinds.add(kind)
        # E104: a measurement two manifests speak of has no single right value.
        if shared := allowed.keys() & rim.measurements.keys():
            raise BindingRefused("gpu.rim", expected="each index in one manifest", got=f"{sorted(shared)} in two")
        allowed |= rim.measurements
    # A decoder that is off measures nothing: its index is known, and nothing is expected there.
    idle = {_NVDEC0_INDEX} if report.nvdec0_disabled else set()
    return replace(gpu, rims=_compared(frozenset(kinds), allowed, idle, gpu))


def _kind_of(rim: VerifiedRim, gpu: VerifiedGpu) -> RimKind:
    if rim.product != gpu.product:
        raise BindingRefused("gpu.rim.product", expected=gpu.product, got=ascii(rim.product))
    if rim.version == gpu.driver_version:
        return RimKind.DRIVER
    if rim.version.upper() == gpu.vbios_version:
        return RimKind.VBIOS
    raise BindingRefused(
        "gpu.rim.version", expected=f"driver {gpu.driver_version} or VBIOS {gpu.vbios_version}", got=ascii(rim.version)
    )


def _compared(
    kinds: frozenset[RimKind], allowed: dict[int, frozenset[bytes]], idle: set[int], gpu: VerifiedGpu
) -> RimComparison:
    judged = allowed.keys() - idle
    matched = frozenset(index for index in judged if gpu.measurements.get(index) in allowed[index])
    measured = {index for index, value in gpu.measurements.items() if any(value)}
    return RimComparison(
        kinds=kinds,
        matched=matched,
        differing=frozenset(judged - matched),
        uncovered=frozenset(measured - allowed.keys()),
    )
