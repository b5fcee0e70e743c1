"""What the system says of a file, in words: which file, what it has to be, what to do; never a number or a class."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from anchorhold.input_files import MANIFEST, MODEL, PACK, FileRefused, line_of, notes, refused_file
from foundation.refusal import Refused
from measurements.pack.errors import PackMalformed


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "file.missing"),
        (errno.EACCES, "file.permission"),
        (errno.EPERM, "file.permission"),
        (errno.EROFS, "file.permission"),
        (errno.EISDIR, "file.folder"),
        (errno.ENOTDIR, "file.path"),
        (errno.EEXIST, "file.exists"),
        (errno.ELOOP, "file.link"),
        (errno.ENOSPC, "file.space"),
        (errno.ENAMETOOLONG, "file.name"),
        (errno.EIO, "file.system"),
        (errno.EADDRINUSE, "file.system"),
    ],
)
@pytest.mark.parametrize("kind", [MANIFEST, None])
@pytest.mark.parametrize("name", ["a/manifest.json", b"a/manifest.json", None])
def test_every_number_has_words(number: int, code: str, kind: object, name: str | bytes | None) -> None:
    error = OSError(number, os.strerror(number), name)
    refusal = refused_file(error, None if name is None else "a/manifest.json", MANIFEST if kind else None)
    line = line_of(refusal)
    assert refusal.code == code
    assert "rrno" not in line
    assert "Error" not in line
    assert len(line.splitlines()) == 1
    assert name is None or "a/manifest.json" in line


def test_a_file_inside_a_folder_is_named_within_it() -> None:
    error = FileNotFoundError(errno.ENOENT, "", "model/card.json")
    assert line_of(refused_file(error, "model", MODEL)) == (
        "file: file.missing: expected a model's folder in model, got nothing under this name: card.json; "
        f"{MODEL.remedy}"
    )


def test_another_file_than_the_one_that_is_read_is_not_called_one_of_its_kind() -> None:
    refusal = refused_file(PermissionError(errno.EACCES, "", "elsewhere/out"), "model", MODEL)
    assert "elsewhere/out" in line_of(refusal)
    assert MODEL.called not in line_of(refusal)


def test_a_file_that_is_being_written_is_called_by_its_own_name() -> None:
    refusal = refused_file(FileNotFoundError(errno.ENOENT, "", f"none/.m.pack.{'0a' * 8}.part"))
    assert "expected to use none/m.pack, got" in line_of(refusal)


def test_the_file_that_was_read_first_is_the_one_that_is_named() -> None:
    with pytest.raises(PackMalformed) as caught, PACK.at("outer"), PACK.at("inner"):
        raise PackMalformed("pack.magic", expected="a", got="b", hint="two\nlines")
    assert notes(caught.value) == [f"inner has to be {PACK.called}: {PACK.remedy}"]
    assert line_of(caught.value) == (
        f"pack format: pack.magic: expected a, got b; two lines; inner has to be {PACK.called}: {PACK.remedy}"
    )


def test_a_file_that_cannot_be_read_is_refused_and_not_raised() -> None:
    """The memory of this process is a file that nobody can read from its beginning."""
    with pytest.raises(FileRefused, match=r"file\.system"):
        MANIFEST.read("/proc/self/mem")


def test_what_a_parser_refuses_keeps_its_class(tmp_path: Path) -> None:
    path = tmp_path / "some.pack"
    path.write_bytes(b"x")

    def refuse(raw: bytes) -> bytes:
        raise PackMalformed("pack.magic", expected="a", got=raw)

    with pytest.raises(PackMalformed) as caught:
        PACK.parsed(path, refuse)
    assert isinstance(caught.value, Refused)
    assert str(path) in line_of(caught.value)
