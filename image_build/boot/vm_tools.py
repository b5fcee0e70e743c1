"""`python -m image_build.boot.vm_tools [--refresh]`: what a machine needs to boot, below build/, nothing installed.

    build/cache/DIGEST              packages as fetched, kept when the lock changes
    build/tools/vm/host             QEMU and vhost-device-vsock with their own libraries and loader
    build/tools/vm/guest            Python 3.11, the cell's wheels, kernel modules; base.cpio is all of that
    build/tools/vm/kernel/vmlinuz
    build/tools/vm/firmware         OVMF for SEV-SNP and for TDX

The host's tools run through the unpacked loader, so neither the distribution nor its C library matters, as long
as the machine is x86-64 Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Final

from image_build import apt, contents, deb, downloads, lock
from image_build.boot import cpio
from image_build.contents import Contents
from image_build.lock import Missing
from image_build.wheels import wheel_members

ROOT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = Path(__file__).with_name("vm_tools.lock.json")
WHEELS_LOCK: Final = contents.LOCK
CACHE: Final = ROOT / "build" / "cache"
TOOLS: Final = ROOT / "build" / "tools" / "vm"
FIRMWARE: Final = TOOLS / "firmware/usr/share/ovmf/OVMF.amdsev.fd"
REFRESH: Final = "python -m image_build.boot.vm_tools --refresh"
LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
LOADER: Final = f"{LIBRARIES}/ld-linux-x86-64.so.2"

MODULES: Final = (  # in the order they need each other
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
    "vsock_loopback",
)
KEPT: Final[Mapping[str, Sequence[str]]] = {
    "host": (
        "usr/bin/qemu-system-x86_64",
        "usr/bin/vhost-device-vsock",
        f"{LIBRARIES}/*.so*",
        "usr/share/qemu/*",
        "usr/share/seabios/*",
    ),
    "guest": ("usr/bin/python3.11", f"{LIBRARIES}/*.so*", "usr/lib/python3.11/*"),
    "firmware": ("usr/share/ovmf/*",),
    "kernel": ("boot/vmlinuz-*", *(f"usr/lib/modules/*/{name}.ko.xz" for name in MODULES)),
}
NOT_KEPT: Final = tuple(
    f"usr/lib/python3.11/{name}"
    for name in (
        "test/*",
        "idlelib/*",
        "ensurepip/*",
        "lib2to3/*",
        "turtledemo/*",
        "pydoc_data/*",
        "tkinter/*",
        "distutils/*",
        "sitecustomize.py",
        "*_codecs_*.so",
        "*/cjkcodecs/*",
        *(f"lib-dynload/{name}.*" for name in ("_curses*", "readline", "nis", "_dbm", "_gdbm", "_sqlite3", "_uuid")),
    )
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="vm-tools", description="Fetch what a machine needs to boot.")
    parser.add_argument("--refresh", action="store_true", help="lock the newest packages first (needs apt)")
    try:
        if parser.parse_args().refresh:
            lock.write_lock(LOCK, apt.refreshed(lock.read_lock(LOCK)))
        make()
    except (Missing, OSError, subprocess.CalledProcessError) as reason:
        print(f"vm-tools: {reason}", file=sys.stderr)
        return 1
    return 0


def is_made() -> bool:
    """What is there is what the locks say."""
    stamp = TOOLS / "stamp"
    return stamp.is_file() and stamp.read_text() == _stamp()


def why_not() -> str | None:
    """What keeps this machine from booting another, or None."""
    if os.uname().machine != "x86_64":
        return "the guest's packages are for x86-64"
    if not is_made():
        return "build/tools/vm is not there or not what the locks say: `make vm-tools` makes it"
    return None


def make() -> None:
    if is_made():
        return
    packages = lock.read_lock(LOCK)
    fetched = downloads.fetch(packages, CACHE, refresh=REFRESH)
    print(f"vm-tools: {len(packages)} packages, {sum(each.size for each in packages)} bytes, {fetched} fetched now")
    new = TOOLS.with_name("vm.new")
    shutil.rmtree(new, ignore_errors=True)
    for package in packages:
        for tree in package.trees:
            deb.unpack(CACHE / package.sha256, partial(_is_kept, tree), new / tree)
    _settle_kernel(new)
    _install_wheels(new / "guest" / "opt" / "site")
    _check_libraries(new)
    _compile(new / "guest")
    _link_folders(new / "guest")
    with (new / "base.cpio").open("wb") as sink:
        cpio.write_tree(new / "guest", sink)
    print(f"vm-tools: the guest's first archive holds {(new / 'base.cpio').stat().st_size} bytes")
    (new / "stamp").write_text(_stamp())
    shutil.rmtree(TOOLS, ignore_errors=True)
    new.rename(TOOLS)


def _stamp() -> str:
    inputs = (LOCK, WHEELS_LOCK, contents.CONTENTS, Path(__file__), Path(deb.__file__), Path(cpio.__file__))
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in inputs)).hexdigest()


def _is_kept(tree: str, name: str) -> bool:
    return any(fnmatch(name, each) for each in KEPT[tree]) and not any(fnmatch(name, each) for each in NOT_KEPT)


def _settle_kernel(new: Path) -> None:
    """The kernel under one name, its modules unpacked and numbered in loading order."""
    next((new / "kernel" / "boot").glob("vmlinuz-*")).rename(new / "kernel" / "vmlinuz")
    modules = new / "guest" / "modules"
    modules.mkdir()
    for number, name in enumerate(MODULES):
        packed = next((new / "kernel").rglob(f"{name}.ko.xz"))
        (modules / f"{number}-{name}.ko").write_bytes(lzma.decompress(packed.read_bytes()))


def _install_wheels(site: Path) -> None:
    """What the cell may import, as the image has it: of requirements that are never imported nothing is here either."""
    wheels = {each.name: each for each in lock.ImageLock.read(WHEELS_LOCK).wheels}
    parts = Contents.read().wheels
    downloads.fetch([wheels[each.name] for each in parts], CACHE, refresh="anchorhold image lock")
    for part in parts:
        for member in wheel_members(CACHE / wheels[part.name].sha256, part):
            target = site / member.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member.content)


def _check_libraries(new: Path) -> None:
    """Every library a program asks for is in its tree: stands in for apt's dependencies."""
    host, guest = new / "host", new / "guest"
    programs = {
        host: [host / "usr/bin/qemu-system-x86_64", host / "usr/bin/vhost-device-vsock"],
        guest: [guest / "usr/bin/python3.11", *guest.rglob("lib-dynload/*.so"), *guest.rglob("site/**/*.so")],
    }
    for tree, files in programs.items():
        for file in files:
            told = subprocess.run([*through_loader(tree), "--list", file], capture_output=True, text=True, check=False)
            found = re.findall(r"(\S+) => (\S+)", told.stdout)  # the loader also looks where the machine has its own
            if lost := [name for name, path in found if not path.startswith(f"{tree}/")]:
                raise Missing(f"{file.name} asks for {', '.join(lost)}, and no locked package has it")


def through_loader(tree: Path) -> list[str]:
    """How to start a program of `tree` with the tree's own C library."""
    return [str(tree / LOADER), "--library-path", str(tree / LIBRARIES)]


def _compile(guest: Path) -> None:
    """Byte code by the guest's own interpreter: an emulated processor takes seconds for it at every start."""
    subprocess.run(
        [
            *through_loader(guest),
            "--argv0",
            "python3.11",
            str(guest / "usr/bin/python3.11"),
            "-SBE",
            "-m",
            "compileall",
            "-q",
            "-s",
            str(guest),
            "-p",
            "/",
            "--invalidation-mode",
            "unchecked-hash",
            str(guest / "usr/lib/python3.11"),
            str(guest / "opt/site"),
        ],
        check=True,
        env={"PYTHONHOME": str(guest / "usr"), "PYTHONHASHSEED": "0"},
    )


def _link_folders(guest: Path) -> None:
    for name in ("bin", "lib"):
        (guest / name).symlink_to(f"usr/{name}")
    (guest / "lib64").symlink_to(LIBRARIES)  # where a program looks for its loader


if __name__ == "__main__":
    sys.exit(main())
