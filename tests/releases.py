"""Manifests for tests: whole, valid, and made up."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256, sha384

from measurements.launch.measurement import LaunchMeasurement, SnpLaunchDigest, TdxRegisters, read_measurement
from measurements.release.heights import Heights
from measurements.release.manifest import (
    EngineProfile,
    Image,
    Launch,
    Manifest,
    MinimumTcb,
    Model,
    Named,
    Price,
    Rebuild,
    Serves,
    SnpLaunch,
    TdxLaunch,
)


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def measurement(text: str) -> bytes:
    return sha384(text.encode()).digest()


def made_manifest(
    version: str = "0.1.0",
    supersedes: Manifest | None = None,
    *,
    launches: Sequence[LaunchMeasurement] = (),
    model_root: bytes | None = None,
    measured_config: bytes | None = None,
    first: int | None = None,
    last: int | None = None,
    lease: int = 100,
) -> Manifest:
    """Version by version another image of the same model, a hundred blocks and more later; with `launches`, for
    these alone."""
    major, minor, patch = map(int, version.split("."))
    first = first or 1 + 500 * max(0, 10 * major + minor - 1) + patch
    launches = launches or [
        *(SnpLaunchDigest(measurement(f"{version} snp {vcpus}")) for vcpus in (1, 2)),
        read_measurement(b"".join(measurement(f"{version} tdx {n}") for n in range(5))),
    ]
    snp = [each for each in launches if isinstance(each, SnpLaunchDigest)]
    tdx = [each for each in launches if isinstance(each, TdxRegisters)]
    return Manifest(
        version=version,
        supersedes=None if supersedes is None else Named(supersedes.version, supersedes.digest),
        serves=Serves(Heights(first, last), lease),
        image=Image({name: digest(f"{version} {name}") for name in ("firmware", "initrd", "kernel", "root")}),
        launch=Launch(
            "roothash=00 ro",
            tuple(SnpLaunch("EPYC-v4", at + 1, 1, each) for at, each in enumerate(snp)),
            tuple(TdxLaunch("q35-8G", at + 1, each.mr_td, each.rtmrs) for at, each in enumerate(tdx)),
        ),
        measured_config=measured_config or digest(f"{version} config"),
        model=Model("tiny", model_root or digest("model"), digest("tokenizer"), None),
        engine=EngineProfile("fixed-1", digest("profile")),
        price=Price(digest("price"), 1_000_000, 2_000, 6_000),
        minimum_tcb=MinimumTcb(
            {"Genoa *": {"bootloader": 10, "tee": 0, "snp": 23, "microcode": 25}} if snp else {},
            ("UpToDate",) if tdx else (),
        ),
        rebuild=Rebuild(
            "https://example.invalid/anchorhold.git",
            sha256(version.encode()).hexdigest()[:40],
            ("make image", "anchorhold measure build/image"),
        ),
    )
