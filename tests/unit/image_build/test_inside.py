"""image.md I7, I15, I20, I21: the two programs that start the machine, as far as they can be tried outside one.

What they come to together is tried in a booted image (tests/vm).
"""

from __future__ import annotations

import ast
import importlib
import os
import struct
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
        if name in {"calls", "first", "process_one"}:
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


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("quiet anchorhold.blocks=3 anchorhold.salt=00ff anchorhold.root=" + "ab" * 32, None),
        ("anchorhold.blocks=3 anchorhold.salt=00ff anchorhold.root=" + "ab" * 31, ValueError),
        ("anchorhold.blocks=x anchorhold.salt=00ff anchorhold.root=" + "ab" * 32, ValueError),
        ("anchorhold.salt=00ff anchorhold.root=" + "ab" * 32, KeyError),
    ],
    ids=["whole", "a short hash", "no number", "no blocks"],
)
def test_the_root_is_opened_by_the_command_line_or_not_at_all(
    inside: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, refused: type[Exception] | None
) -> None:  # image.md I7, I21
    (tmp_path / "line").write_text(words + "\n")
    first = inside("first")
    monkeypatch.setattr(first, "open", lambda _, **__: (tmp_path / "line").open(), raising=False)
    if refused is None:
        assert first.told_root() == (3, b"\x00\xff", b"\xab" * 32)
    else:
        with pytest.raises(refused):
            first.told_root()


def test_a_verity_target_is_laid_out_as_the_kernel_reads_it(inside: Any) -> None:  # image.md I7
    """struct dm_target_spec: start, length, status, next, name; then the words, ended and filled to 8 bytes."""
    words = b"1 /dev/vda /dev/vda 4096 4096 3 3 sha256 aa bb 1 restart_on_corruption"
    raw = inside("first").target(24, b"verity", words)
    start, length, status, after, kind = struct.unpack_from("=QQiI16s", raw)
    assert (start, length, status, after, kind.rstrip(b"\0")) == (0, 24, 0, len(raw), b"verity")
    assert raw[40:].startswith(words + b"\0")
    assert len(raw) % 8 == 0
    assert b"restart_on_corruption" in (INSIDE / "first.py").read_bytes()


def test_the_end_is_one_line_to_a_port_that_is_not_the_windows(inside: Any) -> None:  # image.md I20
    calls = inside("calls")
    assert calls.END_PORT not in set(Port)
    assert (calls.HOST_CID, calls.END_PORT, calls.END_SECONDS_MAX) == (2, 5009, 1)
    stages = {
        call.args[0].value
        for path in INSIDE.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "end"
        and isinstance(call.args[0], ast.Constant)
    }
    assert stages == {"first", "machine", "cell"}


def test_the_profiles_shut_the_machine_alike() -> None:  # image.md I5, I9
    """They differ in the program, in the disks and in where its log goes, and in nothing that shuts anything."""
    import tomllib

    dev, release = (tomllib.loads((PROFILES / name / "files" / MACHINE).read_text()) for name in ("dev", "release"))
    assert list(dev["sysctl"].items()) == list(release["sysctl"].items())
    assert {name for name in release if dev[name] != release[name]} == {"program", "disks", "log"}
