#!/usr/bin/python3.11 -ISB
"""The first process: load the listed modules, open the root through dm-verity, go there.

What it trusts came with it: the initrd and the command line are measured. The disk is the host's, and every block of
it is checked against the root hash of the command line, by the kernel, as it is read.
"""

import sys

sys.path.append("/lib/anchorhold")

import fcntl
import os
import struct
import time

import calls  # type: ignore[import-not-found]  # beside it in the image

ROOT_SERIAL = "anchorhold-root"
LOOKS_MAX, LOOK_SECONDS = 100, 0.05
DM_CREATE, DM_LOAD, DM_RESUME = 3, 9, 6
DM_READ_ONLY = 1
DM_HEAD_BYTES = 312
BLOCK_BYTES, SECTOR_BYTES = 4096, 512


def main() -> None:
    calls.mount("devtmpfs", "/dev", "devtmpfs", calls.MS_NOSUID | calls.MS_NOEXEC)
    calls.mount("proc", "/proc", "proc", calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC)
    calls.mount("sysfs", "/sys", "sysfs", calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC)
    while os.open("/dev/null", os.O_RDWR) < 3:  # without a console nothing is open, and 0, 1, 2 are not for disks
        pass
    with open("/modules/order", encoding="ascii") as names:
        for name in names.read().split():
            calls.load_module(f"/modules/{name}")
    open_root(*told_root())
    calls.mount("/dev/dm-0", "/root", "erofs", calls.MS_RDONLY | calls.MS_NOSUID | calls.MS_NODEV)
    for where in ("/dev", "/proc", "/sys"):
        calls.mount(where, f"/root{where}", None, calls.MS_MOVE)
    forget_initrd()
    os.chdir("/root")
    calls.mount(".", "/", None, calls.MS_MOVE)
    os.chroot(".")
    os.chdir("/")
    os.execve(
        "/usr/bin/python3.11", ["/usr/bin/python3.11", "-ISB", "/opt/anchorhold/process_one.py"], {"LC_ALL": "C.UTF-8"}
    )


def told_root() -> tuple[int, bytes, bytes]:
    """Blocks, salt and root hash, from the measured command line."""
    with open("/proc/cmdline", encoding="ascii") as line:
        words = dict(word.split("=", 1) for word in line.read().split() if word.startswith("anchorhold."))
    blocks, salt, root = (words[f"anchorhold.{name}"] for name in ("blocks", "salt", "root"))
    found = int(blocks), bytes.fromhex(salt), bytes.fromhex(root)
    if len(found[2]) != 32:
        raise ValueError("anchorhold.root is not 32 bytes")
    return found


def open_root(blocks: int, salt: bytes, root: bytes) -> None:
    disk = find_disk(ROOT_SERIAL)
    # image.md I7: a block that differs restarts the machine, which says nothing; a panic would print registers.
    words = (
        f"1 {disk} {disk} {BLOCK_BYTES} {BLOCK_BYTES} {blocks} {blocks} sha256 {root.hex()} {salt.hex()} "
        "1 restart_on_corruption"
    )
    control = os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC)
    mapper(control, DM_CREATE, b"")
    mapper(control, DM_LOAD, target(blocks * BLOCK_BYTES // SECTOR_BYTES, b"verity", words.encode()))
    mapper(control, DM_RESUME, b"")
    os.close(control)


def find_disk(serial: str) -> str:
    """By what the host calls it: a hint where to look, and nothing else."""
    for _ in range(LOOKS_MAX):
        for name in os.listdir("/sys/block"):
            try:
                with open(f"/sys/block/{name}/serial", encoding="ascii", errors="replace") as file:
                    if file.read(64).strip() == serial:
                        return f"/dev/{name}"
            except OSError:
                continue
        time.sleep(LOOK_SECONDS)
    raise FileNotFoundError("no disk for the root")


def target(sectors: int, kind: bytes, words: bytes) -> bytes:
    words += bytes(8 - len(words) % 8)
    return struct.pack("=QQiI16s", 0, sectors, 0, 40 + len(words), kind) + words


def mapper(control: int, command: int, targets: bytes) -> None:
    head = struct.pack(
        "=3I I I I i I I I Q 128s 129s 7x",
        4,
        0,
        0,
        DM_HEAD_BYTES + len(targets),
        DM_HEAD_BYTES,
        int(bool(targets)),
        0,
        DM_READ_ONLY if targets else 0,
        0,
        0,
        0,
        b"root",
        b"",
    )
    fcntl.ioctl(control, 0xC138FD00 | command, bytearray(head + targets))


def forget_initrd() -> None:
    """Its memory is given back: nothing of it is needed any more."""
    here = os.stat("/").st_dev
    waiting = ["/"]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.stat(follow_symlinks=False).st_dev == here:
                        waiting.append(entry.path)
                else:
                    os.unlink(entry.path)


if __name__ == "__main__":
    try:
        main()
    except BaseException as reason:  # whatever it was, the machine must not stand there
        calls.say(f"{type(reason).__name__}: {reason}")
        calls.end("first", 1)
