"""The first program of the sealed root: shut the machine, start the cell, power off when it ends.

The kernel has opened the root through dm-verity by the measured command line before it starts this. What it does is
in `/etc/anchorhold/machine.toml`, inside the measurement. Anything it cannot do ends the machine: nothing is served
under a rule that did not take. The program gets nothing to write to but the pipe of its log.
"""

import sys

sys.path.append("/opt/anchorhold")

import errno
import os
import resource
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

import calls  # type: ignore[import-not-found]  # beside it in the image

MACHINE = Path("/etc/anchorhold/machine.toml")
CLOSED = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
ABSENT = (Path("/proc/swaps"), Path("/proc/modules"), Path("/proc/sys/kernel/kexec_load_disabled"))
REPORTS = Path("/sys/kernel/config/tsm/report")
DEVICES = {"null": 3, "zero": 5, "random": 8, "urandom": 9}


def main() -> None:
    hold_descriptors()
    open_file_systems()
    machine = tomllib.loads(MACHINE.read_text(encoding="utf-8"))
    user, log = machine["user"], machine["log"]
    disks = {name: find_disk(serial) for name, serial in machine["disks"].items()}
    close_file_systems({name: number for name, number in disks.items() if number is not None}, user)
    shut_kernel(machine["sysctl"])
    reports_to(user)
    wait_for_seed()
    listening, speaking = os.pipe()
    program = os.fork()
    if program == 0:
        become(machine, user, speaking)
    os.close(speaking)
    threading.Thread(target=copy_log, args=(listening, log["to"], log["bytes_max"]), daemon=True).start()
    while True:
        ended, status = os.wait()
        if ended == program:
            code = os.waitstatus_to_exitcode(status)
            calls.end("cell", code if code >= 0 else 128 - code)


def hold_descriptors() -> None:
    """Without a console nothing is open, and 0, 1 and 2 are not for disks."""
    while (descriptor := os.open("/dev/null", os.O_RDWR)) < 3:
        pass
    os.close(descriptor)


def open_file_systems() -> None:
    """The kernel mounted the root, and a first /dev."""
    closed = calls.MS_RDONLY | calls.MS_NOSUID | calls.MS_NODEV
    calls.mount("none", "/", None, closed | calls.MS_REMOUNT | calls.MS_BIND)
    calls.mount("proc", "/proc", "proc", CLOSED, "hidepid=2")
    calls.mount("sysfs", "/sys", "sysfs", CLOSED)


def find_disk(serial: str) -> int | None:
    """The number of the disk that the host calls so, if it gave one. What is on it is for the program to doubt."""
    for block in sorted(Path("/sys/block").iterdir()):
        try:
            if (block / "serial").read_text(encoding="ascii", errors="replace")[:64].strip() == serial:
                major, minor = (block / "dev").read_text().split(":")
                return os.makedev(int(major), int(minor))
        except OSError:
            continue
    return None


def close_file_systems(disks: dict[str, int], user: int) -> None:
    """image.md I8: nothing can be written to, nothing there can be executed; devices are the few that are named."""
    calls.detach("/dev")
    dev = calls.MS_NOSUID | calls.MS_NOEXEC
    calls.mount("tmpfs", "/dev", "tmpfs", dev, "mode=755,size=64k,nr_inodes=32")
    for name, minor in DEVICES.items():
        node(name, stat.S_IFCHR | 0o666, os.makedev(1, minor), 0)
    node("kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11), 0)
    node("console", stat.S_IFCHR | 0o600, os.makedev(5, 1), 0)
    for name, number in disks.items():
        node(name, stat.S_IFBLK | 0o400, number, user)
    calls.mount("tmpfs", "/dev", "tmpfs", dev | calls.MS_REMOUNT | calls.MS_RDONLY)


def node(name: str, mode: int, number: int, owner: int) -> None:
    path = Path("/dev", name)
    os.mknod(path, mode, number)
    path.chmod(stat.S_IMODE(mode))
    os.chown(path, owner, owner)


def shut_kernel(settings: dict[str, str]) -> None:
    """image.md I9 to I11: what the kernel was built without is not there to be set."""
    calls.mount("securityfs", "/sys/kernel/security", "securityfs", CLOSED | calls.MS_RDONLY)
    if "[confidentiality]" not in Path("/sys/kernel/security/lockdown").read_text():
        raise PermissionError("the kernel is not locked down")
    calls.detach("/sys/kernel/security")
    for path in ABSENT:
        if path.exists():
            raise PermissionError(f"there is {path}")
    for name, value in settings.items():
        Path("/proc/sys", name.replace(".", "/")).write_text(value)


def reports_to(user: int) -> None:
    """A folder of the kernel's for asking for evidence: what is made there is its maker's, so it is made here."""
    calls.mount("configfs", "/sys/kernel/config", "configfs", CLOSED)
    calls.mount("sysfs", "/sys", "sysfs", CLOSED | calls.MS_REMOUNT | calls.MS_RDONLY)
    if not REPORTS.is_dir():
        return  # no TEE: the program finds none, and says so
    folder = REPORTS / "cell"
    try:
        folder.mkdir()
    except OSError as reason:
        if reason.errno != errno.ENXIO:
            raise
        return  # the folder is there and no provider behind it
    for path in (folder, *folder.iterdir()):
        os.chown(path, user, user)


def wait_for_seed() -> None:
    """image.md I29: the program, which makes keys, starts when the kernel's random numbers are seeded."""
    try:
        os.getrandom(1, os.GRND_NONBLOCK)
    except BlockingIOError:
        os.getrandom(1)  # returns when they are
        calls.say("random numbers: process 1 waited for the kernel's seed")
    else:
        calls.say("random numbers: seeded before process 1")


def copy_log(listening: int, to: str, bytes_max: int) -> None:
    """image.md I15: read to the end, or the program would wait; written on as far as the bound."""
    sink = os.open(to, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    left = bytes_max
    while said := os.read(listening, 1 << 16):
        if left > 0:
            _written(sink, said[:left])
            left -= len(said)
            if left <= 0:
                _written(sink, b"\nprocess 1: the log is full\n")


def _written(sink: int, said: bytes) -> None:
    while said:
        said = said[os.write(sink, said) :]


def become(machine: dict[str, Any], user: int, speaking: int) -> None:
    """The program, as a user with nothing, who can get nothing. Never returns."""
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(speaking, 1)
        os.dup2(speaking, 2)
        os.closerange(3, 4096)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for name, most in machine["limits"].items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (most, most))
        for number in range(int(LAST_CAPABILITY.read_text()) + 1):
            calls.control_process(PR_CAPBSET_DROP, number)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        calls.control_process(PR_SET_NO_NEW_PRIVS, 1)
        os.umask(0o077)
        os.chdir("/")
        os.execve(machine["program"][0], machine["program"], {"LC_ALL": "C.UTF-8"})
    except BaseException as reason:
        os.write(2, f"process 1: {type(reason).__name__}: {reason}\n".encode())
    os._exit(126)


if __name__ == "__main__":
    try:
        main()
    except BaseException as reason:  # whatever it was, the machine must not stand there
        calls.say(f"{type(reason).__name__}: {reason}")
        calls.end("machine", 1)
