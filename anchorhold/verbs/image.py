"""`anchorhold image ...`: make the sealed image, compare two, check what is in one, lock newer inputs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from anchorhold.command import Parser, Verbs
from anchorhold.input_files import IMAGE
from anchorhold.verbs.image_boot import add_arguments, boot

_STATUS: Final = "Exit status: 0 done, 1 usage, or an input is unavailable, 4 images differ or a rule is broken."
_BUILD: Final = Path("build")
_REFUSED: Final = 4


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "image",
        help="make, check, compare or start the sealed image",
        description=f"The sealed image is what a machine starts a cell from. {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    make = _job(jobs, "build", "make an image of locked inputs, the same bits wherever it is made", _build)
    make.add_argument(
        "--profile", default="release", metavar="NAME", help="the profile: release or dev (default: release)"
    )
    make.add_argument(
        "--config", type=Path, metavar="FILE", help="the measured configuration (default: the one of the profile)"
    )
    make.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of the image, replaced whole (default: build/image/PROFILE)"
    )
    compare = _job(jobs, "compare", "say where two images first differ", _compare)
    compare.add_argument("one", type=_image, metavar="DIR", help="the folder of an image")
    compare.add_argument("other", type=_image, metavar="DIR", help="the folder of the other image")
    check = _job(jobs, "check", "check an image against the rules of docs/spec/image.md", _check)
    listing = _job(jobs, "list", "print what is in an image, by package, with the reason", _list)
    for each in (check, listing):
        each.add_argument("image", type=_image, metavar="DIR", help="the folder of the image")
    add_arguments(_job(jobs, "boot", "start an image under QEMU, and print how it ended", boot))
    kernel = _job(jobs, "kernel", "build the guest kernel, unless it is kept from before", _kernel)
    kernel.add_argument(
        "--again", action="store_true", help="build it anew, and compare it with the digest that is stated"
    )
    kernel.add_argument("--state", action="store_true", help="write into this clone the digest it came to")
    lock = _job(jobs, "lock", "lock the newest inputs; this needs apt, pip and the network", _lock)
    for each in (make, check, kernel, lock):
        each.add_argument(
            "--cache",
            type=Path,
            default=_BUILD / "cache",
            metavar="DIR",
            help="the folder where inputs are kept by digest (default: build/cache)",
        )


def _image(text: str) -> Path:
    from image_build.compare import is_image

    if not is_image(folder := Path(text)):
        raise argparse.ArgumentTypeError(f"{text}: expected a folder that `anchorhold image build` wrote")
    return folder


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.set_defaults(run=lambda arguments: _judged(work, arguments))
    return parser


def _judged(work: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    from image_build.lock import Missing

    try:
        return work(arguments)
    except (Missing, subprocess.CalledProcessError) as reason:  # of what it is made with, not of what was named
        print(f"anchorhold: image: {' '.join(str(reason).split())}", file=sys.stderr)
        return 1


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _build(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import read_cell_config
    from image_build.build import Order, build

    # A cell would refuse a wrong one when it starts; it is refused before it is sealed in.
    config = None if arguments.config is None else read_cell_config(arguments.config)
    out = arguments.out or _BUILD / "image" / arguments.profile
    manifest = build(Order(arguments.profile, out, arguments.cache, config), _tell)
    print(f"{manifest.image['files']['root.img']['sha256']}  {out}/root.img")
    print(f"{manifest.image['verity']['root']}  its verity root")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from image_build.compare import first_difference

    difference = first_difference(arguments.one, arguments.other)
    print("the same bytes" if difference is None else difference)
    return 0 if difference is None else _REFUSED


def _check(arguments: argparse.Namespace) -> int:
    from image_build.finished_image import Image
    from image_build.hardening import CHECKS, findings
    from image_build.profile import CONFIG, Profile

    with IMAGE.at(arguments.image):
        image = Image.read(arguments.image, arguments.cache)
    waived = Profile.read(image.manifest.image["profile"]).waived
    found = [str(finding) for finding in findings(image, waived)]
    inside = image.root.get(CONFIG)
    names, refused = served_as(b"" if inside is None else inside.content)
    found += [] if refused is None else [f"I22: {CONFIG}: {refused}"]
    for finding in found:
        print(finding)
    if names:
        print(f"its model answers to {', '.join(names)}")
    for rule, why in waived.items():
        print(f"{rule}: not looked at: {why}")
    print(f"{len(CHECKS) - len(waived)} rules, {len(found)} findings")
    return _REFUSED if found else 0


def served_as(config: bytes) -> tuple[list[str], str | None]:
    """What requests may call the model of a cell with this configuration by (answer.md A25), or why it is none."""
    from appliance.config import MeasuredConfig
    from foundation.refusal import Refused

    try:
        return sorted(MeasuredConfig.parse(config).names), None
    except Refused as refusal:
        return [], str(refusal)


def _kernel(arguments: argparse.Namespace) -> int:
    from image_build.kernel.inputs import Inputs
    from image_build.kernel.kernel_cache import Stated, build_again, have_kernel, kept_in, state

    inputs = Inputs.read()
    if arguments.again:
        found = build_again(inputs, arguments.cache, _BUILD / "kernel", _tell)
    else:
        have_kernel(inputs, arguments.cache, _tell)
        found = state(inputs) if arguments.state else Stated.read(kept_in() / inputs.digest / "stated.json")
    print(f"{found.sha256}  {found.release}, {found.size} bytes, {found.objects} objects")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from image_build.contents import LOCK, Contents
    from image_build.contents_page import table
    from image_build.image_manifest import Manifest
    from image_build.lock import ImageLock

    with IMAGE.at(arguments.image):
        manifest = Manifest.read(arguments.image)
    print(table(Contents.read(), ImageLock.read(LOCK), manifest.contents["root"]), end="")
    return 0


def _lock(arguments: argparse.Namespace) -> int:
    from image_build.build import SOURCES
    from image_build.contents import Contents
    from image_build.lock_update import lock_anew, lock_kernel_anew

    requirements = [SOURCES / "requirements" / name for name in ("cell.txt", "dev.txt")]
    lock = lock_anew(Contents.read(), requirements, arguments.cache, _tell)
    packages = lock_kernel_anew(_tell)
    print(f"{len(lock.packages)} packages, {len(lock.wheels)} wheels; {len(packages)} packages for the kernel")
    return 0
