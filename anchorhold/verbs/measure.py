"""`anchorhold measure ...`: what a machine will report of the files it is started from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Parser, Verbs
from foundation.refusal import shown

if TYPE_CHECKING:
    from measurements.launch.launch_manifest import LaunchManifest

_STATUS = "Exit status: 0 done, 1 usage or a file that is not what it has to be."


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "measure",
        help="compute what a machine will report of its image",
        description="Compute, from files alone, what a machine started with them will report. The answer is a launch "
        f"manifest (docs/spec/measure.md) on standard output. {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="KIND", dest="kind", required=True, parser_class=Parser)
    snp = _job(jobs, "snp", "SEV-SNP: a launch digest for every processor type and number", _snp)
    snp.add_argument("--vcpus", type=_counts, metavar="N[,N]", help="numbers of processors (default 1,2,4 .. 64)")
    snp.add_argument(
        "--guest-features",
        type=_integer,
        action="append",
        metavar="N",
        help="features the host sets; repeat for several (default 0x1 and 0x21)",
    )
    snp.add_argument(
        "--vcpu-type", metavar="NAME", help="print one digest in hexadecimal instead: of this type, with one --vcpus"
    )
    tdx = _job(jobs, "tdx", "TDX: MRTD, and the registers as far as they can be foreseen", _tdx)
    both = _job(jobs, "both", "one manifest for both kinds", _both)
    part = _job(jobs, "part", "the launch part of a release manifest, as JSON", _part)
    part.add_argument("--vcpu-type", action="append", required=True, metavar="NAME", help="repeat for several")
    part.add_argument("--vcpus", type=_counts, required=True, metavar="N[,N]", help="numbers of processors")
    part.add_argument("--guest-features", type=_integer, action="append", metavar="N", help="default 0x1")
    for each in (snp, both, part):
        each.add_argument("--snp-firmware", type=Path, required=True, metavar="FILE", help="OVMF.amdsev.fd")
    for each in (tdx, both, part):
        each.add_argument("--tdx-firmware", type=Path, required=True, metavar="FILE", help="OVMF.inteltdx.*.fd")


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.add_argument(
        "--image",
        type=Path,
        required=True,
        metavar="DIR",
        help="an image as it was built: vmlinuz, cmdline, and initrd.img if it has one",
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
    from measurements.launch.launch_manifest import COUNTS, GUEST_FEATURES, measure_snp
    from measurements.launch.snp import signature_of

    counts, features = arguments.vcpus or COUNTS, arguments.guest_features or GUEST_FEATURES
    made = measure_snp(arguments.snp_firmware.read_bytes(), *_files(arguments.image), counts=counts, features=features)
    if arguments.vcpu_type is None:
        return _print(made)
    if len(counts) != 1 or (arguments.guest_features and len(features) != 1):
        print("anchorhold measure: usage: --vcpu-type needs one --vcpus and one --guest-features", file=sys.stderr)
        return 1
    found = made.find_snp(signature_of(arguments.vcpu_type), counts[0], features[0])
    print("" if found is None else found.hex())
    return 0


def _tdx(arguments: argparse.Namespace) -> int:
    from measurements.launch.launch_manifest import measure_tdx

    return _print(measure_tdx(arguments.tdx_firmware.read_bytes(), *_files(arguments.image)))


def _both(arguments: argparse.Namespace) -> int:
    from measurements.launch.launch_manifest import joined, measure_snp, measure_tdx

    files = _files(arguments.image)
    snp = measure_snp(arguments.snp_firmware.read_bytes(), *files)
    return _print(joined(snp, measure_tdx(arguments.tdx_firmware.read_bytes(), *files)))


def _part(arguments: argparse.Namespace) -> int:
    import json

    from measurements.launch.launch_manifest import joined, measure_snp, measure_tdx
    from measurements.launch.published import launch_part

    files, features = _files(arguments.image), arguments.guest_features or [1]
    snp = measure_snp(arguments.snp_firmware.read_bytes(), *files, counts=arguments.vcpus, features=features)
    made = launch_part(
        joined(snp, measure_tdx(arguments.tdx_firmware.read_bytes(), *files)),
        vcpu_types=arguments.vcpu_type,
        counts=arguments.vcpus,
        guest_features=features,
    )
    print(json.dumps(made, sort_keys=True, separators=(",", ":")))
    return 0


def _files(image: Path) -> tuple[bytes, bytes, str]:
    from measurements.launch.errors import LaunchRefused

    try:
        cmdline = (image / "cmdline").read_bytes().decode("ascii")
    except UnicodeDecodeError:
        raise LaunchRefused(
            "cmdline.text", expected="printable ASCII on one line", got=shown((image / "cmdline").read_bytes())
        ) from None
    initrd = (image / "initrd.img").read_bytes() if (image / "initrd.img").exists() else b""
    return (image / "vmlinuz").read_bytes(), initrd, cmdline


def _print(manifest: LaunchManifest) -> int:
    print(manifest.encode().decode("ascii"))
    return 0
