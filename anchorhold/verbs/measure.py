"""`anchorhold measure ...`: compute what a machine reports about the files it is started from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anchorhold.command import Parser, Verbs
from anchorhold.input_files import FIRMWARE, IMAGE, UsageRefused
from foundation.refusal import shown

if TYPE_CHECKING:
    from measurements.launch.launch_manifest import LaunchManifest

_OF_FIRMWARE: Final = ("firmware.", "sev.", "tdvf.")
_OF_IMAGE: Final = ("cmdline.", "pe.")
_STATUS = "Exit status: 0 done, 1 usage or a file that is not what it has to be."


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "measure",
        help="compute what a machine will report of an image",
        description="This computes, from files alone, what a machine started with them will report, and prints it as a "
        f"launch manifest (docs/spec/measure.md). {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="KIND", dest="kind", required=True, parser_class=Parser)
    snp = _job(jobs, "snp", "compute the launch digests of SEV-SNP, for every processor type and number", _snp)
    snp.add_argument(
        "--vcpus", type=_counts, metavar="N[,N]", help="the numbers of processors (default: 1, 2, 4 .. 64)"
    )
    snp.add_argument(
        "--guest-features",
        type=_integer,
        action="append",
        metavar="N",
        help="the SEV features of the guest; repeat it for several (default: 0x1 and 0x21)",
    )
    snp.add_argument(
        "--vcpu-type", metavar="NAME", help="print one digest alone, for this processor type and one --vcpus"
    )
    tdx = _job(jobs, "tdx", "compute MRTD of TDX, and its registers as far as they can be foreseen", _tdx)
    both = _job(jobs, "both", "compute both, in one launch manifest", _both)
    part = _job(jobs, "part", "print the launch part of a release manifest", _part)
    part.add_argument(
        "--vcpu-type",
        action="append",
        required=True,
        metavar="NAME",
        help="the name QEMU has for a processor; repeat it for several",
    )
    part.add_argument("--vcpus", type=_counts, required=True, metavar="N[,N]", help="the numbers of processors")
    part.add_argument(
        "--guest-features",
        type=_integer,
        action="append",
        metavar="N",
        help="the SEV features of the guest (default: 0x1)",
    )
    for each in (snp, both, part):
        each.add_argument(
            "--snp-firmware", type=Path, required=True, metavar="FILE", help="the firmware of SEV-SNP: OVMF.amdsev.fd"
        )
    for each in (tdx, both, part):
        each.add_argument(
            "--tdx-firmware", type=Path, required=True, metavar="FILE", help="the firmware of TDX: OVMF.inteltdx.*.fd"
        )


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.add_argument(
        "--image",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder of the image: vmlinuz, cmdline, and initrd.img if it has one",
    )
    parser.set_defaults(run=work)
    return parser


def _counts(text: str) -> list[int]:
    return [_integer(each) for each in text.split(",")]


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, got {text[:32]!r}") from None


def _snp(arguments: argparse.Namespace) -> int:
    from measurements.launch.launch_manifest import COUNTS, GUEST_FEATURES
    from measurements.launch.snp import signature_of

    counts, features = arguments.vcpus or COUNTS, arguments.guest_features or GUEST_FEATURES
    made = _measured_snp(arguments, counts, features)
    if arguments.vcpu_type is None:
        return _print(made)
    if len(counts) != 1 or (arguments.guest_features and len(features) != 1):
        raise UsageRefused(
            "usage.vcpu-type",
            expected="one --vcpus and at most one --guest-features with --vcpu-type",
            got=f"{len(counts)} and {len(features)}",
        )
    found = made.find_snp(signature_of(arguments.vcpu_type), counts[0], features[0])
    print("" if found is None else found.hex())
    return 0


def _tdx(arguments: argparse.Namespace) -> int:
    return _print(_measured_tdx(arguments))


def _both(arguments: argparse.Namespace) -> int:
    from measurements.launch.launch_manifest import COUNTS, GUEST_FEATURES, joined

    return _print(joined(_measured_snp(arguments, COUNTS, GUEST_FEATURES), _measured_tdx(arguments)))


def _part(arguments: argparse.Namespace) -> int:
    import json

    from measurements.launch.launch_manifest import joined
    from measurements.launch.published import launch_part

    features = arguments.guest_features or [1]
    made = launch_part(
        joined(_measured_snp(arguments, arguments.vcpus, features), _measured_tdx(arguments)),
        vcpu_types=arguments.vcpu_type,
        counts=arguments.vcpus,
        guest_features=features,
    )
    print(json.dumps(made, sort_keys=True, separators=(",", ":")))
    return 0


def _measured_snp(arguments: argparse.Namespace, counts: Sequence[int], features: Sequence[int]) -> LaunchManifest:
    from measurements.launch.launch_manifest import measure_snp

    firmware, files = FIRMWARE.read(arguments.snp_firmware), _files(arguments.image)
    with _named(arguments.snp_firmware, arguments.image):
        return measure_snp(firmware, *files, counts=counts, features=features)


def _measured_tdx(arguments: argparse.Namespace) -> LaunchManifest:
    from measurements.launch.launch_manifest import measure_tdx

    firmware, files = FIRMWARE.read(arguments.tdx_firmware), _files(arguments.image)
    with _named(arguments.tdx_firmware, arguments.image):
        return measure_tdx(firmware, *files)


@contextmanager
def _named(firmware: Path, image: Path) -> Iterator[None]:
    """Which of the two a refusal is about, its code says."""
    from measurements.launch.errors import LaunchRefused

    try:
        yield
    except LaunchRefused as refusal:
        if refusal.code.startswith(_OF_FIRMWARE):
            FIRMWARE.note(refusal, firmware)
        elif refusal.code.startswith(_OF_IMAGE):
            IMAGE.note(refusal, image)
        raise


def _files(image: Path) -> tuple[bytes, bytes, str]:
    from measurements.launch.errors import LaunchRefused

    with IMAGE.at(image):
        line = (image / "cmdline").read_bytes()
        try:
            cmdline = line.decode("ascii")
        except UnicodeDecodeError:
            raise LaunchRefused("cmdline.text", expected="printable ASCII on one line", got=shown(line)) from None
        initrd = (image / "initrd.img").read_bytes() if (image / "initrd.img").exists() else b""
        return (image / "vmlinuz").read_bytes(), initrd, cmdline


def _print(manifest: LaunchManifest) -> int:
    print(manifest.encode().decode("ascii"))
    return 0
