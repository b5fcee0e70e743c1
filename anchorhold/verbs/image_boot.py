"""`anchorhold image boot`: start an image under QEMU and report how it ended."""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anchorhold.command import Parser
from anchorhold.input_files import FIRMWARE, IMAGE, line_of

if TYPE_CHECKING:
    from image_build.boot.plan import Disk, Plan
    from image_build.boot.running_machine import Running

_REFUSED: Final = 4
_TOOLS: Final = Path("build/tools/vm")
_WAIT_SECONDS: Final = 3600


def add_arguments(boot: Parser) -> None:
    boot.add_argument("image", type=Path, metavar="IMAGE", help="the folder of the image")
    boot.add_argument(
        "--platform",
        choices=["emulated", "snp", "tdx"],
        default="emulated",
        help="the kind of machine; snp and tdx need KVM on a host that has them (default: emulated)",
    )
    boot.add_argument(
        "--firmware", type=Path, metavar="FILE", help="the firmware of the machine (default: the OVMF of --tools)"
    )
    boot.add_argument(
        "--model", type=Path, metavar="PACK", help="the pack of the model, given to the machine as a disk"
    )
    boot.add_argument(
        "--devnet",
        type=Path,
        metavar="DIR",
        help="for development: the folder of a simulated chip, with what a broker needs to believe it",
    )
    boot.add_argument("--vcpus", type=int, default=1, metavar="N", help="how many processors it has (default: 1)")
    boot.add_argument(
        "--vcpu-type",
        default="EPYC-v4",
        metavar="NAME",
        help="the processor type, which is measured (default: EPYC-v4)",
    )
    boot.add_argument(
        "--allow-smt",
        action="store_true",
        help="with snp: let it run where sibling threads are on; the default policy then refuses it",
    )
    boot.add_argument("--memory", type=int, default=512, metavar="MIB", help="how much memory it has (default: 512)")
    boot.add_argument(
        "--guest-cid", type=int, default=42, metavar="N", help="the number of the machine on its host (default: 42)"
    )
    boot.add_argument("--console", action="store_true", help="print its console; a release writes nothing there")
    boot.add_argument(
        "--print", action="store_true", help="print the command lines and the measurement, and start nothing"
    )
    boot.add_argument(
        "--tools",
        type=Path,
        default=_TOOLS,
        metavar="DIR",
        help="the folder of QEMU and OVMF, from `make vm-tools` (default: build/tools/vm)",
    )
    boot.add_argument("--installed", action="store_true", help="use the QEMU of this system")


def boot(arguments: argparse.Namespace) -> int:
    from image_build.boot.plan import BootRefused
    from image_build.boot.running_machine import Running, Tools
    from measurements.launch.errors import LaunchRefused

    with tempfile.TemporaryDirectory(prefix="cell-") as name:  # a socket's path must be short
        try:
            plan, measurement = _plan(arguments, Path(name))
            if arguments.print:
                return _print(plan, measurement)
            tools = Tools(None if arguments.installed else arguments.tools / "host")
            with Running(plan, tools, on_console=print if arguments.console else None) as running:
                _say(window=plan.window, measurement=measurement)
                return _follow(running)
        except (BootRefused, LaunchRefused) as refusal:
            _say(refused=line_of(refusal))
            return 1


def _plan(arguments: argparse.Namespace, run: Path) -> tuple[Plan, str | None]:
    from image_build.boot.plan import SNP_POLICY, SNP_POLICY_SMT, Disk, Image, Plan, Platform
    from image_build.boot.text_disk import Handed

    platform = Platform(arguments.platform)
    with IMAGE.at(arguments.image):
        image = Image.below(arguments.image)
    firmware = arguments.firmware or _firmware(arguments.tools, platform)
    disks = [] if arguments.model is None else [Disk("anchorhold-model", arguments.model)]
    with FIRMWARE.at(firmware):
        handed = None if platform is Platform.TDX else Handed.of(firmware, image)
    measurement = None if handed is None else handed.measurement(arguments.vcpu_type, arguments.vcpus)
    if arguments.devnet is not None and measurement is not None:
        disks.append(_chip(arguments.devnet, run, measurement))
    table = handed.write_table(run / "table") if handed is not None and platform is Platform.EMULATED else None
    plan = Plan(
        platform,
        image,
        firmware,
        run,
        tuple(disks),
        vcpus=arguments.vcpus,
        vcpu_type=arguments.vcpu_type,
        memory_mib=arguments.memory,
        console=arguments.console,
        table=table,
        guest_cid=arguments.guest_cid,
        snp_policy=SNP_POLICY_SMT if arguments.allow_smt else SNP_POLICY,
    )
    return plan, None if measurement is None else measurement.hex()


def _firmware(tools: Path, platform: object) -> Path:
    from image_build.boot.plan import Platform

    name = "OVMF.inteltdx.ms.fd" if platform is Platform.TDX else "OVMF.amdsev.fd"
    return tools / "firmware/usr/share/ovmf" / name


def _chip(devnet: Path, run: Path, measurement: bytes) -> Disk:
    """The devnet's one chip in a machine of these files; made the first time, with what a broker is told of it."""
    from devnet.chip import ChipTee, in_machine
    from devnet.machine import CHIP, make
    from foundation import private_files
    from image_build.boot.plan import Disk
    from image_build.boot.text_disk import disk_of_text

    make(devnet, measurement)
    content = in_machine((devnet / CHIP).read_bytes(), measurement)
    ChipTee.parse(content)
    private_files.replace(run / "machine", disk_of_text(content))
    return Disk("anchorhold-machine", run / "machine")


def _print(plan: Plan, measurement: str | None) -> int:
    from image_build.boot.plan import device_command, emulator_command

    if (device := device_command(plan)) is not None:
        print(shlex.join(device))
    print(shlex.join(emulator_command(plan)))
    print(f"# measurement {measurement or 'of the event log: see `anchorhold measure tdx`'}")
    return 0


def _follow(running: Running) -> int:
    """Until it ends, or whoever started it has seen enough. 0 for a cell that was told to stop."""
    from image_build.boot.ending import Code, EndLine, How, Stage
    from image_build.boot.plan import Platform

    if running.plan.platform is Platform.EMULATED and running.is_held():
        _say(ended="held", means="the firmware met a kernel, initrd or command line that is not in its table")
        return _REFUSED
    try:
        while (ending := running.ended(_WAIT_SECONDS)) is None:
            pass
    except KeyboardInterrupt:
        running.stop()
        return 130
    told = ending.told
    _say(
        ended=ending.how.value,
        stage=told.stage.value if told else None,
        code=told.code if told else None,
        means=ending.means,
    )
    fine = ending.how is How.STOPPED or told == EndLine(Stage.CELL, Code.STOPPED)
    return 0 if fine else _REFUSED


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)
