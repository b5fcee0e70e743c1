"""The tools that fetch and unpack: a mirror may lie, a package may name a path outside its tree."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import tarfile
from pathlib import Path

import pytest

from image_build import deb
from image_build.boot import cpio
from image_build.boot.cpio import File
from image_build.boot.vm_tools import LOCK, REFRESH
from image_build.downloads import MIRROR_VARIABLE, fetch
from image_build.lock import Missing, Package, read_lock


def a_deb(**files: bytes | str) -> bytes:
    """A package with these files; a text makes a link to it. `__` stands for a slash."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as members:
        for name, content in files.items():
            member = tarfile.TarInfo("./" + name.replace("__", "/").replace("UP", ".."))
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                members.addfile(member)
            else:
                member.size, member.mode = len(content), 0o4755
                members.addfile(member, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": lzma.compress(inner.getvalue())}
    return b"!<arch>\n" + b"".join(
        f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        for name, body in parts.items()
    )


def locked(raw: bytes) -> Package:
    return Package("some", "bookworm", "1-1", "pool/some.deb", len(raw), hashlib.sha256(raw).hexdigest(), ("host",))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mirror/pool").mkdir(parents=True)
    monkeypatch.setenv(MIRROR_VARIABLE, (tmp_path / "mirror").as_uri())
    return tmp_path / "mirror/pool/some.deb"


def test_what_is_locked_is_fetched_once(mirror: Path, tmp_path: Path) -> None:
    mirror.write_bytes(raw := a_deb(usr__bin__tool=b"tool"))
    assert fetch([locked(raw)], tmp_path / "cache", refresh=REFRESH) == len(raw)
    mirror.unlink()
    assert fetch([locked(raw)], tmp_path / "cache", refresh=REFRESH) == 0


def test_what_differs_from_the_lock_is_refused_and_not_kept(mirror: Path, tmp_path: Path) -> None:
    raw = a_deb(usr__bin__tool=b"tool")
    mirror.write_bytes(a_deb(usr__bin__tool=b"tooL"))
    with pytest.raises(Missing, match="not what is locked"):
        fetch([locked(raw)], tmp_path / "cache", refresh=REFRESH)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_package_that_left_the_mirror_is_named_with_what_to_do(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(Missing, match=re.escape("some 1-1") + ".*--refresh"):
        fetch([locked(b"gone")], tmp_path / "cache", refresh=REFRESH)


def test_unpacking_keeps_what_is_asked_for_and_drops_set_id_bits(tmp_path: Path) -> None:
    (tmp_path / "deb").write_bytes(a_deb(bin__tool=b"tool", lib__some="lib.so.1", usr__share__doc=b"text"))
    deb.unpack(tmp_path / "deb", lambda name: not name.startswith("usr/share"), tmp_path / "tree")
    tree = tmp_path / "tree/usr"
    assert (tree / "bin/tool").read_bytes() == b"tool"
    assert (tree / "bin/tool").stat().st_mode & 0o7777 == 0o755
    assert str((tree / "lib/some").readlink()) == "lib.so.1"
    assert not (tree / "share").exists()


def test_a_path_that_leaves_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deb").write_bytes(a_deb(usr__UP__UP__escaped=b"out"))
    with pytest.raises(Missing, match="leaves its tree"):
        deb.unpack(tmp_path / "deb", lambda _: True, tmp_path / "tree")


def test_the_lock_names_no_host_and_every_digest() -> None:
    packages = read_lock(LOCK)
    assert {tree for each in packages for tree in each.trees} == {"host", "guest", "kernel", "firmware"}
    for each in packages:
        assert re.fullmatch(r"pool/[a-zA-Z0-9./+~_-]+\.deb", each.path)
        assert re.fullmatch(r"[0-9a-f]{64}", each.sha256)


def test_an_archive_is_the_same_for_the_same_files_and_aligned_for_another_to_follow() -> None:
    archives = []
    for names in (("a/b/c", "init"), ("init", "a/b/c")):
        files = {name: File(name.encode(), executable=name == "init") for name in names}
        cpio.write_files(files, sink := io.BytesIO())
        archives.append(sink.getvalue())
    assert archives[0] == archives[1]
    assert len(archives[0]) % 512 == 0
    assert [name for name in (b"a\0", b"a/b\0", b"a/b/c\0", b"init\0") if name not in archives[0]] == []
