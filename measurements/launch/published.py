"""A launch manifest as a release manifest has it: the `launch` part of `measurements/values/VERSION.json`.

Smaller: what is needed to compare, for the processors that a release is meant to run on. The whole, with every file's
digest and every predicted event, is the launch manifest; both come from the same files (measure.md M21).
"""

from __future__ import annotations

from collections.abc import Sequence

from measurements.launch.errors import LaunchRefused
from measurements.launch.launch_manifest import LaunchManifest
from measurements.launch.mrtd import PageOrder
from measurements.launch.snp import signature_of

UNPATCHED = "qemu-10.2"  # and newer: the kernel reaches the firmware unchanged, so RTMR 1 can be foreseen


def launch_part(
    manifest: LaunchManifest, *, vcpu_types: Sequence[str], counts: Sequence[int], guest_features: Sequence[int]
) -> dict[str, object]:
    """Raises `LaunchRefused` for a way to start that the manifest does not have."""
    cmdline = manifest.inputs["cmdline"].text if "cmdline" in manifest.inputs else None
    if cmdline is None:
        raise LaunchRefused("manifest.cmdline", expected="a command line", got="none")
    snp = [
        {
            "cpu": name,
            "vcpus": vcpus,
            "guest_features": features,
            "measurement": _measurement(manifest, name, vcpus, features).hex(),
        }
        for name in sorted(set(vcpu_types))
        for vcpus in sorted(set(counts))
        for features in sorted(set(guest_features))
    ]
    return {"command_line": cmdline, "snp": snp if manifest.snp else [], "tdx": _tdx(manifest, counts)}


def _measurement(manifest: LaunchManifest, name: str, vcpus: int, features: int) -> bytes:
    found = manifest.find_snp(signature_of(name), vcpus, features) if manifest.snp else b""
    if found is None:
        raise LaunchRefused("manifest.snp", expected=f"{name} x {vcpus}, features {features:#x}", got="no such entry")
    return found


def _tdx(manifest: LaunchManifest, counts: Sequence[int]) -> list[dict[str, object]]:
    """Processors change RTMR 0 alone, and that is judged by its log: so it is null, whatever their number."""
    if manifest.tdx is None:
        return []
    values = [each.value for each in manifest.tdx.registers]
    rtmr = [None if value is None else value.hex() for value in values]
    return [
        {"machine": f"{UNPATCHED}-{order.value}", "vcpus": vcpus, "mr_td": manifest.tdx.mrtd[order].hex(), "rtmr": rtmr}
        for order in sorted(PageOrder, key=lambda each: each.value)
        for vcpus in sorted(set(counts))
    ]
