"""Attacks on the booted machine: what a host hands to it, changes of it, and lays beside it.

They share a world, made when the first is tried: the development image, built of its inputs, a broker and a chain. The
chip is simulated, and reports what the emulator was handed. Without their defence the attacks meet Debian's kernel, a
launch that measures the firmware alone, or a root that nobody checks.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import google_crc32c
import pytest

from appliance.key_release import State
from devnet.sealed_machine import Cell, World, world
from image_build.boot import vm_tools
from image_build.boot.ending import Ending, How
from image_build.verity import BLOCK_BYTES
from tests.attack.outcome import NotTried, Outcome, Unexpected, broken, held
from tests.attack.registry import Attack, add, attack
from tests.attack.room import Room
from tests.attack.weakening import Patch
from tests.vm import acpi_attacks
from tests.vm.acpi_attacks import AcpiAttack, Genuine
from tests.vm.changed_image import flip, flipped, told
from tests.vm.needs import need_tools

PRICED: Final = b"[price]\nrequest = "  # in the measured configuration; the second digit of its first number is changed
SUPERBLOCK_AT: Final = 1024
KEPT: Final = ExitStack()  # until this process ends


def need() -> None:
    try:
        need_tools()
    except pytest.skip.Exception as reason:
        raise NotTried(str(reason)) from None


@functools.cache
def made(vcpus: int = 1) -> World:
    """One for each number of processors, which is a release of its own."""
    need()
    folder = KEPT.enter_context(tempfile.TemporaryDirectory(prefix="world-"))
    return KEPT.enter_context(world(Path(folder)))


@functools.cache
def genuine(vcpus: int) -> Genuine:
    need()
    return acpi_attacks.genuine_tables(vcpus)


# -- tables that nothing measures


def debians_kernel(_: Patch) -> None:
    """Nothing is patched: the attack itself is tried on Debian's kernel, which is the weak one."""


def laid(one: AcpiAttack) -> Callable[[Room], Outcome]:
    def run(room: Room) -> Outcome:
        tables = genuine(one.vcpus)
        tried = one.on_sealed(made(one.vcpus), tables) if room.undefended is None else one.on_stock(tables)
        return Outcome(tried.held, tried.happened)

    return run


for each in acpi_attacks.ATTACKS:
    add(
        Attack(
            f"machine.{each.name}",
            f"among ACPI's tables: {each.tries}",
            "our kernel runs no ACPI byte code, and takes no register that a table puts into memory (I25)",
            laid(each),
            debians_kernel,
            booted=True,
        )
    )


# -- files that are measured


def firmware_alone(patch: Patch) -> None:
    """A launch whose measurement is the firmware's: kernel and command line are handed over, and are in no digest."""
    patch.put("image_build.boot.text_disk:Handed.measurement", lambda *_: bytes(47) + b"\1")


def in_kernel(of: World, folder: Path) -> Path:
    """In a text that only a boot without firmware would print."""
    at = (of.image / "vmlinuz").read_bytes().index(b"video mode number")
    return flipped(of.image, folder / "other", "vmlinuz", at)


def with_another_word(of: World, folder: Path) -> Path:
    """A command line that lets the kernel say more than it was told to."""
    return told(of, folder, "loglevel=7")


def denied(change: Callable[[World, Path], Path]) -> Callable[[Room], Outcome]:
    """Held if the firmware stops the changed file under the approved table, and its own table gets no key."""

    def run(room: Room) -> Outcome:
        of = made()
        of.approve()
        other = change(of, room.folder)
        if room.undefended is None:
            with of.boot(other, table_of=of.image) as cell:
                if not cell.running.is_held():
                    return broken("it starts under the approved table")
        with of.boot(other) as cell:
            return without_key(of, cell)

    return run


def without_key(of: World, cell: Cell) -> Outcome:
    if cell.health() is None:
        raise Unexpected(f"the machine ended: {cell.console[-300:]}")
    standing, denials = of.carry(cell)
    if standing.state is State.HAS_KEY:
        return broken("it starts, and gets the model's key")
    if denials != ["snp.measurement"]:
        raise Unexpected(f"expected snp.measurement, got {denials}")
    return held("under the approved table it does not start; under its own it gets no key: snp.measurement")


for name, tries, change in (
    ("kernel-changed", "the host changes one bit of the kernel", in_kernel),
    ("command-line-changed", "the host puts one word more on the kernel's command line", with_another_word),
):
    add(
        Attack(
            f"machine.{name}",
            tries,
            "the firmware holds each file against its digest, and the digests are in the launch measurement (J2, J5)",
            denied(change),
            firmware_alone,
            booted=True,
        )
    )


@attack(
    "firmware-changed",
    tries="the host changes one bit of the firmware",
    defence="the firmware is the first thing that is measured (J3)",
    without=firmware_alone,
    booted=True,
)
def firmware_changed(room: Room) -> Outcome:
    of = made()
    of.approve()
    flip(vm_tools.FIRMWARE, room.folder / "firmware", 0x1000)  # where variables are kept; this firmware has none
    with of.boot(firmware_file=room.folder / "firmware") as cell:
        outcome = without_key(of, cell)
    return held("it starts, and gets no key: snp.measurement") if outcome.held else outcome


def unchecked_root(_: Patch) -> None:
    """Nothing is patched: the attack itself tells the kernel to go on where a block is not what it was."""


@attack(
    "root-changed",
    tries="the host changes one digit of a price on the root's disk, and the file system's own checksum with it",
    defence="dm-verity holds every block that is read against the root hash on the measured command line (I7)",
    without=unchecked_root,
    booted=True,
)
def root_changed(room: Room) -> Outcome:
    of = made()
    at = (of.image / "root.img").read_bytes().index(PRICED) + len(PRICED) + 1
    other = flipped(of.image, room.folder / "other", "root.img", at)
    with (other / "root.img").open("r+b") as root:
        summed(root)
    if room.undefended is not None:
        line = (other / "cmdline").read_text(encoding="ascii")
        (other / "cmdline").unlink()  # a link to the image's own
        (other / "cmdline").write_text(line.replace("restart_on_corruption", "ignore_corruption"), encoding="ascii")
    with of.boot(other) as cell:
        if cell.health() is not None:
            return broken("the machine serves at another price")
        ending = cell.running.ending()
    if ending != Ending(How.RESTART, None) or "dm-verity device corrupted" not in cell.console:
        raise Unexpected(f"expected a restart for dm-verity's sake, got {ending}: {cell.console[-300:]}")
    return held("the machine ends: dm-verity found it")


def summed(root: BinaryIO) -> None:
    """Gives the superblock, which lies in the same block as the configuration, the checksum of what is there now."""
    root.seek(SUPERBLOCK_AT)
    block = bytearray(root.read(BLOCK_BYTES - SUPERBLOCK_AT))
    block[4:8] = bytes(4)
    block[4:8] = (google_crc32c.value(bytes(block)) ^ 0xFFFFFFFF).to_bytes(4, "little")
    root.seek(SUPERBLOCK_AT)
    root.write(block)
