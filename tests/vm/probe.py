"""Tried inside a development image, as the cell's user, beside the cell: what a sealed machine must not let happen.

Runs with Python's own modules alone and prints one line of JSON per trial, after the word `probe`: what was tried, and
what came of it ("refused: EPERM", or what it got).
"""

import ctypes
import errno
import json
import os
import resource
import socket
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, CLONE_NEWUSER, CLONE_NEWNET = 16, 0x10000000, 0x40000000
INIT_MODULE, FINIT_MODULE, KEXEC_LOAD, BPF = 175, 313, 246, 321
IO_URING_SETUP, USERFAULTFD, PERF_EVENT_OPEN = 425, 323, 298
SHMGET, MQ_OPEN, IO_SETUP, PROCESS_VM_READV = 29, 240, 206, 310
NOT_THERE = (
    "/proc/swaps",
    "/proc/modules",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/config.gz",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modules_disabled",
    "/proc/sys/kernel/sysrq",
    "/proc/sysrq-trigger",
    "/proc/sys/net/ipv4",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/btf",
    "/sys/firmware/acpi",
    "/sys/firmware/dmi",
    "/sys/firmware/qemu_fw_cfg",
    "/sys/firmware/memmap",
    "/sys/module/kvm",
    "/sys/class/rtc",
    "/sys/class/input",
)


def name(number: int | None) -> str:
    return "refused: " + errno.errorcode.get(number or 0, str(number))


def called(*arguments: object) -> str:
    LIBC.syscall.restype = ctypes.c_long
    return name(ctypes.get_errno()) if LIBC.syscall(*arguments) < 0 else "done"


def opened(path: str, flags: int) -> str:
    try:
        descriptor = os.open(path, flags)
    except OSError as reason:
        return name(reason.errno)
    try:
        if flags & (os.O_WRONLY | os.O_RDWR):
            return "opened for writing"
        return "read: " + os.read(descriptor, 64).hex()
    except OSError as reason:
        return name(reason.errno)
    finally:
        os.close(descriptor)


def connected(family: socket.AddressFamily, address: tuple[str, int]) -> str:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as made:
            made.settimeout(5)
            made.connect(address)
    except OSError as reason:
        return name(reason.errno)
    return "connected"


def executed(path: str, content: bytes | None = None) -> str:
    """A program of ours, if there were a place to put it."""
    try:
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        if os.fork() == 0:
            try:
                os.execv(path, [path])
            finally:
                os._exit(111)
        return "ran" if os.waitstatus_to_exitcode(os.wait()[1]) != 111 else "refused: exec"
    except OSError as reason:
        return name(reason.errno)


def writable() -> list[str]:
    """Every folder a file can be made in."""
    found = []
    for top, folders, _ in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(top, each) not in ("/proc", "/sys")]
        try:
            descriptor = os.open(os.path.join(top, ".probe"), os.O_CREAT | os.O_WRONLY)
        except OSError:
            continue
        os.close(descriptor)
        found.append(top)
    return found


def written() -> list[str]:
    """Every file, and every device, that can be opened for writing."""
    found = []
    for top, folders, files in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(top, each) not in ("/proc", "/sys")]
        for each in files:
            path = os.path.join(top, each)
            if not os.path.islink(path) and opened(path, os.O_WRONLY | os.O_NONBLOCK).startswith("opened"):
                found.append(path)
    return found


def setuid_files() -> list[str]:
    found = []
    for top, folders, files in os.walk("/"):
        folders[:] = [each for each in folders if os.path.join(top, each) not in ("/proc", "/sys")]
        found += [os.path.join(top, each) for each in files if os.lstat(os.path.join(top, each)).st_mode & 0o6000]
    return found


def families() -> list[str]:
    """Every family that a socket can be made of."""
    found = []
    for number in range(1, 64):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(number, kind).close()
            except OSError:
                continue
            found.append(socket.AddressFamily(number).name)
            break
    return found


def is_seeded() -> bool:
    try:
        return len(os.getrandom(1, os.GRND_NONBLOCK)) == 1
    except BlockingIOError:
        return False


def status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    return {key: lines[key].strip() for key in ("Uid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs")}


TRIALS: dict[str, Callable[[], object]] = {
    "interfaces": lambda: sorted(os.listdir("/sys/class/net")),
    "tcp out": lambda: connected(socket.AF_INET, ("1.1.1.1", 443)),
    "tcp6 out": lambda: connected(socket.AF_INET6, ("2606:4700:4700::1111", 443)),
    "raw packets": lambda: called(41, 17, 3, 0x300),  # socket(AF_PACKET, SOCK_RAW, ETH_P_ALL)
    "writable folders": writable,
    "writable files": written,
    "set-id files": setuid_files,
    "programs": lambda: sorted(os.listdir("/usr/bin")),
    "sh": lambda: executed("/bin/sh"),
    "busybox": lambda: executed("/bin/busybox"),
    "own program in /dev": lambda: executed("/dev/own", b"#!/usr/bin/python3.11\n"),
    "own program in /tmp": lambda: executed("/tmp/own", b"#!/usr/bin/python3.11\n"),
    "trace the cell": lambda: called(101, PTRACE_ATTACH, os.getppid(), 0, 0),
    "memory of the cell": lambda: opened(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
    "memory of process 1": lambda: opened("/proc/1/mem", os.O_RDONLY),
    "see process 1": lambda: os.path.exists("/proc/1"),
    "load a module": lambda: called(FINIT_MODULE, 0, b"", 0),
    "load a module from memory": lambda: called(INIT_MODULE, b"\x7fELF", 4, b""),
    "another kernel": lambda: called(KEXEC_LOAD, 0, 0, 0, 0),
    "bpf": lambda: called(BPF, 0, ctypes.create_string_buffer(128), 128),
    "io_uring": lambda: called(IO_URING_SETUP, 1, ctypes.create_string_buffer(128)),
    "userfaultfd": lambda: called(USERFAULTFD, 0),
    "perf": lambda: called(PERF_EVENT_OPEN, ctypes.create_string_buffer(128), 0, -1, -1, 0),
    "user namespace": lambda: called(272, CLONE_NEWUSER),
    "network namespace": lambda: called(272, CLONE_NEWNET),
    "mount": lambda: called(165, b"tmpfs", b"/dev", b"tmpfs", 0, 0),
    "become root": lambda: called(105, 0),
    "power off": lambda: called(169, 0xFEE1DEAD, 672274793, 0x4321FEDC, 0),
    "kernel log": lambda: called(103, 3, ctypes.create_string_buffer(64), 64),
    "kmsg": lambda: opened("/dev/kmsg", os.O_RDONLY),
    "physical memory": lambda: opened("/dev/mem", os.O_RDONLY),
    "ports": lambda: called(173, 0x3F8, 8, 1),  # ioperm
    "write the model's disk": lambda: opened("/dev/model", os.O_WRONLY),
    "core dumps": lambda: list(resource.getrlimit(resource.RLIMIT_CORE)),
    "System V memory": lambda: called(SHMGET, 0, 4096, 0o1600),
    "message queue": lambda: called(MQ_OPEN, b"probe", os.O_CREAT | os.O_RDWR, 0o600, 0),
    "asynchronous input and output": lambda: called(IO_SETUP, 1, ctypes.create_string_buffer(8)),
    "another process's memory": lambda: called(PROCESS_VM_READV, os.getppid(), 0, 0, 0, 0, 0),
    "kernel files that are not there": lambda: [path for path in NOT_THERE if os.path.exists(path)],
    "families": families,
    "seeded": is_seeded,
    "processors": os.cpu_count,
    "status": status,
}

for trial, work in TRIALS.items():
    try:
        outcome: object = work()
    except OSError as reason:
        outcome = name(reason.errno)
    print("probe " + json.dumps([trial, outcome]), flush=True)
print("probe over", flush=True)
