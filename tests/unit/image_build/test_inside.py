"""image.md I15, I20, I21, I29: the program that starts the machine, as far as it can be tried outside one.

What it comes to is tried in a booted image (tests/vm).
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from image_build.contents import FOLDER
from image_build.profile import MACHINE, PROFILES
from vsock_bridge.ports import Port

INSIDE = FOLDER / "inside"


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports one of them as the image has them: files beside each other."""
    monkeypatch.setattr(sys, "path", [str(INSIDE), *sys.path])
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if name in {"calls", "process_one"}:
            del sys.modules[name]


def test_they_import_pythons_own_modules_alone() -> None:  # image.md I21
    for path in INSIDE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"calls"}, path.name


@pytest.mark.parametrize("bytes_max", [0, 10, 100_000, 1 << 20])
def test_the_log_is_read_to_its_end_and_written_as_far_as_its_bound(
    inside: Any, tmp_path: Path, bytes_max: int
) -> None:  # image.md I15
    (log := tmp_path / "log").touch()
    listening, speaking = os.pipe()
    said = os.urandom(300_000)
    program = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"],
        stdin=subprocess.PIPE,
        stdout=speaking,
    )
    os.close(speaking)
    assert program.stdin is not None
    import threading

    copier = threading.Thread(target=inside("process_one").copy_log, args=(listening, str(log), bytes_max))
    copier.start()
    program.communicate(said)
    copier.join()
    os.close(listening)
    written = log.read_bytes()
    whole = bytes_max >= len(said)
    full = b"" if whole or bytes_max == 0 else b"\nprocess 1: the log is full\n"
    assert written == said[:bytes_max] + full


@pytest.mark.parametrize("seeded", [True, False])
def test_the_program_waits_for_the_kernels_seed(
    inside: Any, monkeypatch: pytest.MonkeyPatch, seeded: bool
) -> None:  # image.md I29
    """Asked once without waiting; where that fails, asked again so that the kernel lets it wait."""
    process_one, asked, told = inside("process_one"), list[int](), list[str]()

    def getrandom(size: int, flags: int = 0) -> bytes:
        asked.append(flags)
        if flags and not seeded:
            raise BlockingIOError
        return bytes(size)

    monkeypatch.setattr(os, "getrandom", getrandom)
    monkeypatch.setattr(process_one.calls, "say", told.append)
    process_one.wait_for_seed()
    assert asked == ([os.GRND_NONBLOCK] if seeded else [os.GRND_NONBLOCK, 0])
    assert told == [
        "random numbers: seeded before process 1"
        if seeded
        else "random numbers: process 1 waited for the kernel's seed"
    ]


def test_the_end_is_one_line_to_a_port_that_is_not_the_windows(inside: Any) -> None:  # image.md I20
    calls = inside("calls")
    assert calls.END_PORT not in set(Port)
    assert (calls.HOST_CID, calls.END_PORT, calls.END_SECONDS_MAX) == (2, 5009, 5)
    stages = {
        call.args[0].value
        for path in INSIDE.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "end"
        and isinstance(call.args[0], ast.Constant)
    }
    assert stages == {"machine", "cell"}


def test_the_profiles_shut_the_machine_alike() -> None:  # image.md I5, I9
    """They differ in the program, in the disks and in where its log goes, and in nothing that shuts anything."""
    import tomllib

    dev, release = (tomllib.loads((PROFILES / name / "files" / MACHINE).read_text()) for name in ("dev", "release"))
    assert list(dev["sysctl"].items()) == list(release["sysctl"].items())
    assert {name for name in release if dev[name] != release[name]} == {"program", "disks", "log"}
