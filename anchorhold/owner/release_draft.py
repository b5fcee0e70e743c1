"""Makes a release manifest from what was built and measured: files, a launch manifest, a configuration, a policy.

Every digest in it is computed here from the bytes. If two parts name the same thing, they have to agree. Typed in are
only the version, the model's name, and where the source is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

from anchorhold.input_files import UsageRefused
from attestation.auditor.measured import Measured
from attestation.policy.claims import Unchecked
from attestation.policy.document import Policy
from attestation.policy.snp import TcbMinimum
from measurements.launch.launch_manifest import LaunchManifest
from measurements.launch.published import launch_part
from measurements.release.document import Document, render
from measurements.release.manifest import (
    EngineProfile,
    Image,
    Manifest,
    MinimumTcb,
    Model,
    Named,
    Price,
    Rebuild,
    Serves,
    parse_launch,
)

FILES: Final = ("cmdline", "image.efi", "initrd.img", "root.img", "vmlinuz")
MEASURED_AS: Final = {"vmlinuz": "kernel", "initrd.img": "initrd"}


@dataclass(frozen=True, slots=True)
class ReleaseParameters:
    """The parts of a manifest that no file determines."""

    version: str
    model: str
    rebuild: Rebuild
    cpus: tuple[str, ...]  # QEMU's names of the processors it is meant to run on
    vcpus: tuple[int, ...]
    guest_features: tuple[int, ...]
    serves: Serves


def draft(
    parameters: ReleaseParameters,
    *,
    image: Path,
    launch: LaunchManifest,
    config: bytes,
    policy: Policy,
    before: Manifest | None,
) -> Manifest:
    """Raises `UsageRefused` where the parts are not of one release, `Refused` for what a part is not."""
    measured = Measured.parse(config)
    if measured.model_root is None:
        raise UsageRefused(
            "usage.config", expected="a configuration with a broker and a model", got="a configuration without a model"
        )
    part = launch_part(
        launch, vcpu_types=parameters.cpus, counts=parameters.vcpus, guest_features=parameters.guest_features
    )
    manifest = Manifest(
        version=parameters.version,
        supersedes=None if before is None else Named(before.version, before.digest),
        serves=parameters.serves,
        image=Image(MappingProxyType(_parts(image, launch))),
        launch=parse_launch(render(cast("dict[str, Document]", part))),
        measured_config=measured.digest,
        model=Model(parameters.model, measured.model_root, measured.tokenizer, measured.template),
        engine=EngineProfile(measured.engine, measured.profile),
        price=Price(measured.price.digest, measured.price.request, measured.price.token_in, measured.price.token_out),
        minimum_tcb=_minimum(launch, policy),
        rebuild=parameters.rebuild,
    )
    return Manifest.parse(manifest.encode())  # held to every rule before anybody reads it


def _parts(folder: Path, launch: LaunchManifest) -> dict[str, bytes]:
    parts = {}
    for name in FILES:
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                parts[name] = file_digest(file, "sha256").digest()
    for name, measured_as in MEASURED_AS.items():
        measured = launch.inputs.get(measured_as)
        found = parts.get(name)  # an image may have no initrd; then none was measured
        if found != (None if measured is None else measured.sha256) or (found is None and name == "vmlinuz"):
            raise UsageRefused(
                "usage.launch",
                expected=f"the {name} that was measured in {folder}",
                got="no such file" if found is None else f"SHA-256 {found.hex()}",
            )
    firmware = {name: each.sha256 for name, each in launch.inputs.items() if name.endswith("_firmware")}
    return {**parts, **firmware}


def _minimum(launch: LaunchManifest, policy: Policy) -> MinimumTcb:
    """What the policy asks of a machine, made part of what is voted on."""
    snp: Mapping[str, Mapping[str, int]] = {}
    tdx: tuple[str, ...] = ()
    if launch.snp:
        rows = None if policy.snp is None else policy.snp.minimum_tcb
        if rows is None or isinstance(rows, Unchecked):
            raise UsageRefused(
                "usage.policy",
                expected="a policy with a minimum TCB for SNP",
                got="a policy that leaves it unchecked" if policy.snp else "a policy without a section for SNP",
            )
        snp = {f"{row.product.value} {row.cpuid or '*'}": _levels(row) for row in rows}
    if launch.tdx is not None:
        statuses = None if policy.tdx is None else policy.tdx.tcb_status
        if statuses is None or isinstance(statuses, Unchecked):
            raise UsageRefused(
                "usage.policy",
                expected="a policy with TCB statuses for TDX",
                got="a policy that leaves it unchecked" if policy.tdx else "a policy without a section for TDX",
            )
        tdx = tuple(sorted(status.value for status in statuses))
    return MinimumTcb(snp, tdx)


def _levels(row: TcbMinimum) -> Mapping[str, int]:
    tcb = row.tcb
    levels = {"bootloader": tcb.bootloader, "tee": tcb.tee, "snp": tcb.snp, "microcode": tcb.microcode}
    return levels if tcb.fmc is None else {**levels, "fmc": tcb.fmc}
