"""What is to run, and the command lines that follow from it. Pure: nothing is started, no file is looked at.

    plan = Plan(Platform.EMULATED, image, firmware, run=folder, table=Table(path, address))
    device_command(plan), emulator_command(plan)

One description, three platforms: emulated (any machine), SEV-SNP and TDX (KVM on a host that has them). What a guest
is given is the same everywhere: firmware, kernel, command line, read-only disks, one VSOCK device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, assert_never

from foundation.refusal import Refused

GUEST_CID: Final = 42
END_PORT: Final = 5009  # boot.md J9: where the host may listen for how the machine ended
MEMORY_MIB_MIN, MEMORY_MIB_MAX = 128, 1 << 24
DISKS_MAX: Final = 8
TX_BUFFER_BYTES: Final = 32768  # vhost-device-vsock 0.3.0 loses packets above it with its own default
SNP_POLICY: Final = 0x20000  # J1: as the default policy wants it: no sibling threads, debugging or migration
SNP_POLICY_SMT: Final = 0x30000  # sibling threads allowed: for a policy that says why it leaves `smt` open
CBIT_POSITION, REDUCED_PHYSICAL_BITS = 51, 1
QUOTE_CID, QUOTE_PORT = "2", "4050"


class BootRefused(Refused):
    """What was asked for cannot be started, or did not come as far as it should."""

    stage = "boot"


class Platform(Enum):
    EMULATED = "emulated"
    SNP = "snp"
    TDX = "tdx"


@dataclass(frozen=True, slots=True)
class Image:
    """The parts of an image that are handed over. `cmdline` is text, the rest are files."""

    kernel: Path
    root: Path
    cmdline: str

    @classmethod
    def below(cls, folder: Path) -> Image:
        """As it was built. The command line is read here because it is handed over as text."""
        cmdline = (folder / "cmdline").read_text(encoding="ascii")
        return cls(folder / "vmlinuz", folder / "root.img", cmdline)


@dataclass(frozen=True, slots=True)
class Disk:
    """J4: read-only, and found by the guest under this name. What is on it is for the guest to doubt."""

    serial: str
    path: Path


@dataclass(frozen=True, slots=True)
class Table:
    """The digests of kernel, command line and no initrd, to be laid where the firmware looks for them."""

    path: Path
    address: int


@dataclass(frozen=True, slots=True)
class Plan:
    platform: Platform
    image: Image
    firmware: Path
    run: Path  # a folder of our own for sockets
    disks: tuple[Disk, ...] = ()
    vcpus: int = 1
    vcpu_type: str = "EPYC-v4"
    memory_mib: int = 512
    console: bool = False
    table: Table | None = None  # emulated alone: on hardware QEMU lays it there (kernel-hashes=on)
    guest_cid: int = GUEST_CID
    snp_policy: int = SNP_POLICY

    def __post_init__(self) -> None:
        if not MEMORY_MIB_MIN <= self.memory_mib <= MEMORY_MIB_MAX:
            raise BootRefused("memory", expected=f"{MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} MiB", got=self.memory_mib)
        if self.vcpus < 1:
            raise BootRefused("vcpus", expected="at least one processor", got=self.vcpus)
        if self.guest_cid < 3:
            raise BootRefused("cid", expected="3 or more", got=self.guest_cid)
        if (self.table is not None) != (self.platform is Platform.EMULATED):
            raise BootRefused(
                "table",
                expected="a table of digests where no hardware lays one, and there alone",
                got=self.platform.value,
            )
        if len(self.disks) > DISKS_MAX or len({each.serial for each in self.disks}) < len(self.disks):
            raise BootRefused("disks", expected=f"at most {DISKS_MAX}, each name once", got=len(self.disks))

    @property
    def window(self) -> str:
        """Where the host reaches the cell: an address of the bridge."""
        return f"unix:{self.run}/vsock" if self.platform is Platform.EMULATED else f"vsock:{self.guest_cid}"

    @property
    def vhost(self) -> Path:
        return self.run / "vhost"

    @property
    def monitor(self) -> Path:
        return self.run / "monitor"

    @property
    def end_socket(self) -> Path:
        """Where the user-space device brings what the guest sends to END_PORT."""
        return self.run / f"vsock_{END_PORT}"


def device_command(plan: Plan) -> tuple[str, ...] | None:
    """The VSOCK device as a process of its own; where the kernel has it there is none."""
    if plan.platform is not Platform.EMULATED:
        return None
    return (
        "vhost-device-vsock",
        "--guest-cid",
        str(plan.guest_cid),
        "--socket",
        str(plan.vhost),
        "--uds-path",
        f"{plan.run}/vsock",
        "--tx-buffer-size",
        str(TX_BUFFER_BYTES),
    )


def emulator_command(plan: Plan) -> tuple[str, ...]:
    return (
        "qemu-system-x86_64",
        *_machine(plan),
        "-smp",
        str(plan.vcpus),
        "-m",
        f"{plan.memory_mib}M",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        *_firmware(plan),
        "-kernel",
        str(plan.image.kernel),
        "-append",
        plan.image.cmdline,
        *_disks(plan),
        *_vsock(plan),
        *_console(plan),
        "-chardev",
        f"socket,id=monitor,path={_quoted(plan.monitor)}",
        "-mon",
        "chardev=monitor,mode=control",
    )


def _machine(plan: Plan) -> tuple[str, ...]:
    memory = f"memory-backend-memfd,id=memory,size={plan.memory_mib}M,share=on"
    match plan.platform:
        case Platform.EMULATED:
            return ("-accel", "tcg", "-cpu", plan.vcpu_type, "-object", memory, "-machine", "q35,memory-backend=memory")
        case Platform.SNP:
            guest = (
                f"sev-snp-guest,id=guest,cbitpos={CBIT_POSITION},reduced-phys-bits={REDUCED_PHYSICAL_BITS},"
                f"policy={plan.snp_policy:#x},kernel-hashes=on"
            )
            return (
                "-accel",
                "kvm",
                "-cpu",
                plan.vcpu_type,
                "-object",
                memory,
                "-object",
                guest,
                "-machine",
                "q35,memory-backend=memory,confidential-guest-support=guest,vmport=off",
            )
        case Platform.TDX:
            quotes = {"type": "vsock", "cid": QUOTE_CID, "port": QUOTE_PORT}
            guest = json.dumps({"qom-type": "tdx-guest", "id": "guest", "quote-generation-socket": quotes})
            return (
                "-accel",
                "kvm",
                "-cpu",
                "host",
                "-object",
                memory,
                "-object",
                guest,
                "-machine",
                "q35,memory-backend=memory,confidential-guest-support=guest,kernel-irqchip=split,vmport=off",
            )
        case _:
            assert_never(plan.platform)


def _firmware(plan: Plan) -> tuple[str, ...]:
    """J2: one firmware for hardware and for tests."""
    if plan.table is None:
        return ("-bios", str(plan.firmware))
    loader = f"loader,file={_quoted(plan.table.path)},addr={plan.table.address:#x},force-raw=on"
    return ("-bios", str(plan.firmware), "-device", loader)


def _disks(plan: Plan) -> tuple[str, ...]:
    words: list[str] = []
    for number, each in enumerate((Disk("anchorhold-root", plan.image.root), *plan.disks)):
        file = {"driver": "file", "filename": str(each.path), "node-name": f"file{number}", "read-only": True}
        raw = {"driver": "raw", "file": f"file{number}", "node-name": f"disk{number}", "read-only": True}
        device = f"virtio-blk-pci,drive=disk{number},serial={each.serial}{_private(plan)}"
        words += ["-blockdev", json.dumps(file), "-blockdev", json.dumps(raw), "-device", device]
    return tuple(words)


def _vsock(plan: Plan) -> tuple[str, ...]:
    if plan.platform is Platform.EMULATED:
        socket = f"socket,id=vsock,path={_quoted(plan.vhost)}"
        return ("-chardev", socket, "-device", "vhost-user-vsock-pci,chardev=vsock")
    return ("-device", f"vhost-vsock-pci,guest-cid={plan.guest_cid}{_private(plan)}")


def _private(plan: Plan) -> str:
    """With encrypted memory a device reaches only what the guest shares, and says so to it."""
    return "" if plan.platform is Platform.EMULATED else ",disable-legacy=on,iommu_platform=on"


def _console(plan: Plan) -> tuple[str, ...]:
    """J6: a release has no console, and gets no port for one."""
    return ("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console") if plan.console else ()


def _quoted(path: Path) -> str:
    return str(path).replace(",", ",,")
