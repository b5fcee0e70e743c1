"""A host that writes ACPI tables, against a machine: does the guest's memory change?

    for attack in ATTACKS:
        attack.on_sealed(world)         # the sealed image
        attack.on_stock(stock)          # Debian's kernel in its place, which shows that the attack is one

Each says `held` or not, and what happened. A page of the guest is filled with a pattern from outside before the kernel
starts, and is looked at from outside afterwards. It lies in the first mebibyte, where Linux puts no page of its own, so
that nothing but the attack writes to it; the machine that is started without an attack shows that too.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from devnet.sealed_machine import VCPU_TYPE, World
from image_build.boot import progress, vm_tools
from image_build.boot.plan import Image, Plan, Platform
from image_build.boot.running_machine import Running, Tools
from image_build.boot.text_disk import Handed
from tests.vm import tables
from tests.vm.memory import GuestMemory

TARGET: Final = 0x50000
PAGE_BYTES: Final = 4096
PATTERN: Final = hashlib.shake_256(b"what a page held before").digest(PAGE_BYTES)
MARK: Final = hashlib.sha256(b"what a host writes").digest()
GAVE_UP: Final = "Kernel panic"  # of a stock kernel without a root, at the end of its start


@dataclass(frozen=True, slots=True)
class Tried:
    held: bool
    happened: str


@dataclass(frozen=True, slots=True)
class Genuine:
    """The tables that QEMU itself makes for a machine, as the firmware laid them."""

    dsdt: bytes
    fadt: bytes
    madt: bytes

    @property
    def whole(self) -> tables.WholeSet:
        facs = b"FACS" + struct.pack("<I", 64) + bytes(56)
        return tables.WholeSet(self.dsdt, self.fadt, self.madt, facs)


Lay = Callable[[Genuine, Path], Sequence[str]]
"""Writes what it needs into the folder, and returns what the host adds to the emulator's command line."""


@dataclass(frozen=True, slots=True)
class AcpiAttack:
    name: str
    tries: str
    lay: Lay
    vcpus: int = 1

    def on_sealed(self, made: World, genuine: Genuine) -> Tried:
        """In a world that approves this number of processors alone. The machine must serve, with the published
        measurement, a key and answers, and the page must be as it was."""
        made.approve(vcpus=self.vcpus)
        with tempfile.TemporaryDirectory(prefix="acpi-") as name:
            words = list(self.lay(genuine, Path(name)))
            with made.boot(vcpus=self.vcpus, host_words=words) as cell, GuestMemory(cell.running.emulator) as memory:
                memory.write(TARGET, PATTERN)
                if cell.health() is None:
                    return Tried(False, f"the machine ended: {cell.running.ended(0)}; {cell.console[-400:]}")
                denials = made.carry(cell)[1]
                served = not denials and cell.opens_its_model() and len(made.answers(cell)) == 10
                published = made.is_approved(cell.measurement)
                what = f"served: {served}, published measurement: {published}"
                return _judged(memory, what, well=served and published)

    def on_stock(self, genuine: Genuine) -> Tried:
        """Debian's kernel, which ends for want of a root after it has read the tables."""
        with (
            tempfile.TemporaryDirectory(prefix="acpi-") as name,
            stock(self.lay(genuine, Path(name)), self.vcpus) as (running, memory),
        ):
            progress.until(
                "the stock kernel's end, or a change",
                lambda: _has_ended(running, memory),
                running.watch(lambda: memory.read(TARGET, PAGE_BYTES)),
            )
            return _judged(memory, "Debian's kernel", well=True)


def _has_ended(running: Running, memory: GuestMemory) -> bool | None:
    gave_up = any(GAVE_UP in line for line in running.console)
    return True if gave_up or not running.is_running or memory.read(TARGET, PAGE_BYTES) != PATTERN else None


def _judged(memory: GuestMemory, what: str, *, well: bool) -> Tried:
    page = memory.read(TARGET, PAGE_BYTES)
    if page == PATTERN:
        return Tried(well, f"{what}; the page is as it was")
    at = next(number for number in range(PAGE_BYTES) if page[number] != PATTERN[number])
    whose = "the host's bytes" if page[: len(MARK)] == MARK else "other bytes"
    return Tried(False, f"{what}; the page holds {whose} from {TARGET + at:#x} on: {page[at : at + 16].hex()}")


@contextmanager
def stock(words: Sequence[str], vcpus: int = 1) -> Iterator[tuple[Running, GuestMemory]]:
    """Debian's kernel of the tools in the same machine, behind the same firmware and its check."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        run = Path(name)
        (run / "root").write_bytes(bytes(1 << 20))
        image = Image(vm_tools.TOOLS / "kernel/vmlinuz", run / "root", "console=ttyS0 loglevel=7")
        table = Handed.of(vm_tools.FIRMWARE, image).write_table(run / "table")
        plan = Plan(
            Platform.EMULATED,
            image,
            vm_tools.FIRMWARE,
            run,
            vcpus=vcpus,
            vcpu_type=VCPU_TYPE,
            console=True,
            table=table,
        )
        with (
            Running(plan, Tools(vm_tools.TOOLS / "host"), host_words=words) as running,
            GuestMemory(running.emulator) as memory,
        ):
            memory.write(TARGET, PATTERN)
            yield running, memory


def genuine_tables(vcpus: int) -> Genuine:
    """Of a machine that nobody attacks, whose page stays as it was."""
    with stock([], vcpus) as (running, memory):
        progress.until("the stock kernel's end", lambda: _has_ended(running, memory), running.watch())
        if memory.read(TARGET, PAGE_BYTES) != PATTERN:
            raise RuntimeError("the page changes without an attack: it shows nothing")
        return Genuine(*(next(memory.tables(signature)) for signature in (b"DSDT", b"FACP", b"APIC")))


# -- what is laid


def _secondary(signature: bytes) -> Lay:
    def lay(_: Genuine, folder: Path) -> Sequence[str]:
        (folder / "table").write_bytes(tables.table(signature, tables.store(TARGET, MARK)))
        return ["-acpitable", f"file={folder}/table"]

    return lay


def _dsdt(genuine: Genuine, folder: Path) -> Sequence[str]:
    """QEMU's own, and byte code behind it."""
    body = genuine.dsdt + tables.store(TARGET, MARK)
    longer = tables.summed(body[:4] + struct.pack("<I", len(body)) + body[8:])
    return replace(genuine.whole, dsdt=longer).words(folder)


def _fadt(genuine: Genuine, folder: Path) -> Sequence[str]:
    """No byte code: the block of general-purpose events lies in memory, and the kernel clears it."""
    fadt = bytearray(genuine.fadt)
    struct.pack_into("<I", fadt, tables.FADT_GPE0, 0)
    fadt[tables.FADT_GPE0_BYTES] = 16
    struct.pack_into("<BBBBQ", fadt, tables.FADT_X_GPE0, 0, 128, 0, 1, TARGET)
    return replace(genuine.whole, fadt=bytes(fadt)).words(folder)


def _longer_madt(genuine: Genuine, more: bytes) -> bytes:
    body = genuine.madt + more
    return tables.summed(body[:4] + struct.pack("<I", len(body)) + body[8:])


def _mailbox(genuine: Genuine, folder: Path) -> Sequence[str]:
    """A wakeup mailbox in memory: the kernel writes a command, a number and an address there for each processor."""
    entry = struct.pack("<BBHIQ", 0x10, 16, 0, 0, TARGET)
    return replace(genuine.whole, madt=_longer_madt(genuine, entry)).words(folder)


def _io_apic(genuine: Genuine, folder: Path) -> Sequence[str]:
    """The I/O APIC's registers lie in memory: to read one the kernel writes its number."""
    madt = bytearray(genuine.madt)
    at = next(at for kind, at in tables.entries(genuine.madt) if kind == 1)
    second = bytearray(madt[at : at + 12])
    struct.pack_into("<BxII", second, 2, 1, TARGET, 24)
    return replace(genuine.whole, madt=_longer_madt(genuine, bytes(second))).words(folder)


def _local_apic(genuine: Genuine, folder: Path) -> Sequence[str]:
    """The local APIC's registers lie in memory."""
    entry = struct.pack("<BBHQ", 5, 12, 0, TARGET)
    return replace(genuine.whole, madt=_longer_madt(genuine, entry)).words(folder)


ATTACKS: Final[Sequence[AcpiAttack]] = (
    AcpiAttack("ssdt", "one SSDT more, whose byte code writes to memory", _secondary(b"SSDT")),
    AcpiAttack("psdt", "the same table, signed PSDT", _secondary(b"PSDT")),
    AcpiAttack("osdt", "the same table, signed OSDT", _secondary(b"OSDT")),
    AcpiAttack("dsdt", "byte code behind that of the DSDT", _dsdt),
    AcpiAttack("fadt", "a register block of the FADT in memory, without byte code", _fadt),
    AcpiAttack("madt-mailbox", "a wakeup mailbox of the MADT in memory", _mailbox, 2),
    AcpiAttack("madt-io-apic", "an I/O APIC of the MADT in memory", _io_apic),
    AcpiAttack("madt-local-apic", "the local APIC of the MADT in memory", _local_apic),
)
