"""image.md I1 to I7, I19, I24: the parts an image is made by, each on little inputs."""

from __future__ import annotations

import _ctypes
import ast
import io
import json
import re
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from image_build import elf, uki
from image_build.boot import cpio
from image_build.build import needed_inputs, needed_libraries
from image_build.closure import Closure, closure
from image_build.contents import LOCK, Contents, Part, _part, _wheel_fields
from image_build.errors import ImageRefused
from image_build.lock import ImageLock
from image_build.profile import CONFIG, Profile, profile_names
from image_build.tree import Entry, Kind, Tree
from image_build.verity import BLOCK_BYTES, Verity, append_tree, tree_over
from image_build.wheels import our_wheel, wheel_members
from tests.images import SOURCES, a_stub, an_elf

CONTENTS = Contents.read()
LOCKED = ImageLock.read(LOCK)


# -- what is declared and locked


def test_everything_declared_is_locked_and_nothing_else() -> None:  # image.md I1
    declared = {(part.name, part.suite) for part in CONTENTS.packages}
    assert declared == {(each.name, each.suite) for each in LOCKED.packages}
    assert [part.name for part in (*CONTENTS.wheels, CONTENTS.compiler)] == [each.name for each in LOCKED.wheels]


def test_the_lock_names_no_host_and_every_digest() -> None:  # image.md I1
    for each in LOCKED.packages:
        assert re.fullmatch(r"pool/[a-zA-Z0-9./+~_-]+\.deb", each.path)
    for one in LOCKED.inputs():
        assert re.fullmatch(r"[0-9a-f]{64}", one.sha256)
        assert one.size > 0
    assert "://" not in LOCK.read_text()


def test_the_wheels_are_those_the_cell_is_tested_with() -> None:  # image.md I1
    wanted = (SOURCES / "requirements/cell.txt").read_text()
    for each in LOCKED.wheels:
        if each.name != CONTENTS.compiler.name:  # that makes a part of the cell, and is not one
            assert f"{each.name}=={each.version} " in wanted
            assert f"sha256:{each.sha256}" in wanted


def test_nothing_is_declared_without_a_reason() -> None:  # image.md I2
    for part in (*CONTENTS.packages, *CONTENTS.wheels):
        assert len(part.why) > 8, part.name
    with pytest.raises(ImageRefused, match=r"contents\.why"):
        _part({"name": "some", "why": ""}, _wheel_fields)


def test_no_dependency_of_the_cell_is_forgotten() -> None:
    """Those it names. What these need in turn a build finds out, which imports every module of the cell."""
    project = tomllib.loads((SOURCES / "pyproject.toml").read_text())["project"]
    named = {each.partition("==")[0] for each in project["dependencies"]}
    assert named <= {each.name for each in LOCKED.wheels}


def test_a_licence_stays_whatever_is_kept() -> None:
    part = Part("some", "why", ("usr/bin/some",), ("usr/*",))
    assert part.keeps("usr/share/doc/some/copyright")
    assert not part.keeps("usr/share/doc/some/README")
    assert not part.keeps("usr/bin/some")


# -- profiles


def test_profiles_are_files_and_no_code_asks_for_one() -> None:  # image.md I5
    names = profile_names()
    assert names == ["dev", "release"]
    for path in (SOURCES / "image_build").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Compare, ast.match_case)):
                asked = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
                assert not asked & set(names), f"{path.name} asks for a profile"


def test_a_profile_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ImageRefused, match="expected one of dev, release, got other"):
        Profile.read("other")


def test_a_given_configuration_takes_the_place_of_the_profiles_own() -> None:  # image.md I22
    own = (SOURCES / "image_build/profiles/dev/files" / CONFIG).read_bytes()
    for given, expected in ((b"given", b"given"), (None, own)):
        Profile.read("dev").lay(tree := Tree(), given)
        assert tree[CONFIG].content == expected


# -- the tree


def test_two_files_for_one_path_are_refused_with_both_owners() -> None:  # image.md I2
    tree = Tree()
    tree.file("etc/x", b"1", "one")
    tree.file("etc/x", b"1", "one")
    with pytest.raises(ImageRefused, match="got one, other"):
        tree.file("etc/x", b"2", "other")


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "etc/../../x"])
def test_a_path_outside_the_tree_is_refused(path: str) -> None:
    with pytest.raises(ImageRefused, match=r"tree\.path"):
        Tree().file(path, b"")


def test_a_tree_is_written_with_its_own_modes_and_time(tmp_path: Path) -> None:  # image.md I3
    tree = Tree()
    tree.file("usr/bin/x", b"x", executable=True)
    tree.put("lib", Entry(Kind.LINK, b"usr/lib", "x"))
    tree.folder("proc")
    tree.write(tmp_path, 1_000_000)
    modes = {path.name: path.lstat().st_mode & 0o777 for path in tmp_path.rglob("*") if not path.is_symlink()}
    assert modes == {"usr": 0o755, "bin": 0o755, "x": 0o755, "proc": 0o755}
    assert {path.lstat().st_mtime for path in (tmp_path, *tmp_path.rglob("*"))} == {1_000_000}


# -- our own files


def test_the_cell_has_no_broker_no_devnet_and_no_command_line() -> None:  # image.md I6
    files = Profile.read("release").ours(SOURCES).files
    assert {"appliance/main.py", "foundation/__init__.py", "attestation/tee/configfs.py"} <= files.keys()
    for name in files:
        assert not name.startswith(("devnet/", "anchorhold/", "image_build/", "attestation/broker/"))
    assert {each.built_by for each in CONTENTS.compiled}.isdisjoint(files)


def test_what_the_cell_imports_from_elsewhere_is_in_the_image() -> None:  # image.md I6, I19
    outside = Profile.read("release").ours(SOURCES).outside
    foreign = {name for name in outside if name not in sys.stdlib_module_names}
    assert foreign <= {each.name.replace("-", "_") for each in CONTENTS.wheels}


def test_a_closure_follows_every_form_of_an_import(tmp_path: Path) -> None:  # image.md I6
    for name, text in {
        "appliance/__init__.py": "",
        "appliance/a.py": "def late():\n    from . import b\n",
        "appliance/b.py": "from foundation.x import y\nimport json\n",
        "appliance/alone.py": "",
        "foundation/__init__.py": "",
        "foundation/x.py": "y = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = closure(tmp_path, ["appliance.a"])
    assert list(found.files) == [
        "appliance/__init__.py",
        "appliance/a.py",
        "appliance/b.py",
        "foundation/__init__.py",
        "foundation/x.py",
    ]
    assert found.outside == {"json"}
    assert "foundation/x.py" not in closure(tmp_path, ["appliance.a"], ["foundation"]).files
    with pytest.raises(ImageRefused, match=r"closure\.entry"):
        closure(tmp_path, ["appliance.gone"])


def test_our_wheel_is_a_wheel_and_the_same_for_the_same_files(tmp_path: Path) -> None:  # image.md I3
    files = {"pkg/b.py": b"b", "pkg/__init__.py": b""}
    raw = our_wheel("some", "1.0", "py3-none-any", files)
    assert raw == our_wheel("some", "1.0", "py3-none-any", dict(reversed(files.items())))
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        record = archive.read("some-1.0.dist-info/RECORD").decode().splitlines()
        assert [row.split(",")[0] for row in record] == archive.namelist()
    (tmp_path / "w.whl").write_bytes(raw)
    found = {each.path: each.content for each in wheel_members(tmp_path / "w.whl", Part("some", "why", ("pkg/*",), ()))}
    assert found == files


def test_a_wheel_with_a_path_outside_itself_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("../x.py", b"")
    with pytest.raises(ImageRefused, match=r"wheel\.path"):
        list(wheel_members(tmp_path / "w.whl", Part("some", "why", ("*",), ())))


def test_a_library_of_ours_is_compiled_where_it_is_needed_alone() -> None:  # image.md I6
    """Its sources are there, and whoever asks for it brings it and the compiler."""
    (what,) = CONTENTS.compiled
    assert {path.suffix for pattern in what.of for path in SOURCES.glob(pattern)} == {".c", ".h"}
    assert (SOURCES / what.built_by).is_file()
    without = Closure({"appliance/main.py": SOURCES / "appliance/main.py"}, frozenset())
    assert needed_libraries(CONTENTS, without) == []
    assert CONTENTS.compiler.name not in {each.name for each in needed_inputs(CONTENTS, LOCKED, without)}
    with_it = Closure({what.needed_by[0]: SOURCES / what.needed_by[0]}, frozenset())
    assert needed_libraries(CONTENTS, with_it) == [what]
    assert needed_inputs(CONTENTS, LOCKED, with_it) == LOCKED.inputs()


# -- formats


def test_an_archive_of_a_test_guest_reads_back() -> None:
    entries = [("a", 0o040755, b""), ("a/b", 0o100644, b"content"), ("l", 0o120777, b"a/b")]
    cpio.write_entries(entries, sink := io.BytesIO())
    assert list(cpio.read_entries(sink.getvalue())) == entries
    with pytest.raises(ImageRefused, match=r"cpio\.head"):
        list(cpio.read_entries(sink.getvalue()[:100]))


def test_the_libraries_of_an_elf_file() -> None:  # image.md I19
    raw = an_elf("libc.so.6", "libm.so.6", interpreter="/lib64/ld.so")
    assert (elf.needed(raw), elf.interpreter(raw)) == (("libc.so.6", "libm.so.6"), "/lib64/ld.so")
    assert (elf.needed(an_elf()), elf.interpreter(an_elf())) == ((), None)
    assert not elf.is_elf(b"#!/bin/sh")


def test_an_elf_file_of_this_machine_is_read_as_its_loader_reads_it() -> None:  # image.md I19
    assert any(name.startswith("libc.so") for name in elf.needed(Path(_ctypes.__file__).read_bytes()))


@pytest.mark.parametrize(("blocks", "levels"), [(1, 0), (128, 1), (129, 2), (128 * 128 + 1, 3)])
def test_a_tree_has_as_many_levels_as_it_needs(tmp_path: Path, blocks: int, levels: int) -> None:  # image.md I7
    sizes, below = list[int](), blocks
    while below > 1:
        below = -(-below // 128)
        sizes.append(below)
    assert len(sizes) == levels
    (image := tmp_path / "image").write_bytes(bytes(blocks * BLOCK_BYTES - 1))
    verity = append_tree(image, b"salt")
    assert (verity.blocks, image.stat().st_size) == (blocks, (blocks + sum(sizes)) * BLOCK_BYTES)


def test_the_words_of_a_root_read_back_in_one_form() -> None:  # image.md I7, I21
    made = Verity(300, b"s" * 32, b"r" * 32)
    line = f"quiet {made.words} init=/x"
    assert Verity.read(line) == made
    assert '"root,,,ro,0 2400 verity 1 /dev/vda /dev/vda 4096 4096 300 300 sha256 ' in line
    assert line.count("restart_on_corruption") == 1
    for old, new in (
        ("verity 1", "linear 1"),
        ("2400", "2401"),
        ("300 300", "300 299"),
        (" 1 restart_on_corruption", ""),
        ("rootfstype=erofs", "rootfstype=ext4"),
        (" ro ", " rw "),
        ("quiet", made.words),
        ("quiet", "dm-mod.waitfor=x"),
        ("/dev/vda 4096", "/dev/vdb 4096"),
    ):
        with pytest.raises(ImageRefused, match=r"verity\.words"):
            Verity.read(line.replace(old, new, 1))


def test_a_tree_is_veritysetups() -> None:  # image.md I7
    """What `veritysetup format --no-superblock --salt=...` (2.6.1) says and writes, for zeros and counted blocks."""
    for name, blocks, salt, root, written in VERITYSETUP:
        data = b"".join((n if name == "counted" else 0).to_bytes(4, "little") * 1024 for n in range(blocks))
        tree, found = tree_over(data, salt)
        assert (found.hex(), sha256(tree).hexdigest()) == (root, written), (name, blocks)


VERITYSETUP = [
    (
        "counted",
        1,
        bytes(32),
        "2e534ef0107d592d1706ac38ad58596b85ef3375d360a6d669f974792df5cb5a",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    (
        "counted",
        2,
        bytes(32),
        "1a5d1cdc4169b8fa5e57fbc4891ca3c1d90e5287014c42cc95609b6793900bf5",
        "34cc06325be541ae7eab7db25c3c7521b666b8f306abc5c4b7a7979e2c339986",
    ),
    (
        "counted",
        128,
        bytes(32),
        "e05acccca9a8377c08df3c55ab647d4e25197ce6d1884f9b5a4c0583a60a74a0",
        "43912ef61d0c46b1f385e7d16b8fb3b9faa3bbb7092b7a99194f774e97701f6b",
    ),
    (
        "counted",
        129,
        bytes(32),
        "666f334a35e4d664a25c98c8fa88102f2581df8860ab815413856a9381674dc0",
        "d64619b29d8d3a6bdaec901d0308987e84e7dc9d3b75a487afc11ed6366aeb3d",
    ),
    (
        "counted",
        300,
        bytes(32),
        "653ad3fb1a66469477a8bee6192de99a784075b67a131bd5ffe200c1255cad89",
        "9f7becba80e94b9597e713f9096d452be9cb311aa2ef755aacbaada8a562433f",
    ),
    (
        "zeros",
        200,
        b"anchor",
        "e0a3d3f56321af4ab275052883c6f6b6e1d5fecb228fda73080d0e6e931b4c8c",
        "11bf01125bafcd5f6a0c96487179e9437849aa8eb38163e3442f0280ea9da1f6",
    ),
]


def test_sections_read_back_and_the_stub_stays() -> None:  # image.md I24
    stub = a_stub()
    parts = {"os_release": b"ID=x\n", "command_line": b"quiet", "kernel": b"k" * 5000}
    image = uki.unified(stub, release="6.12", **parts)
    sections = uki.sections_of(image)
    assert [*sections] == [".text", ".osrel", ".cmdline", ".uname", ".linux"]
    assert (sections[".cmdline"], sections[".linux"]) == (b"quiet", b"k" * 5000)
    assert image[1024:1536] == stub[1024:]
    assert uki.unified(stub, release="6.12", **parts) == image


@pytest.mark.parametrize(("stub", "code"), [(a_stub(room=3), "uki.table"), (bytes(1024), "uki.stub")])
def test_a_stub_that_cannot_carry_it_is_refused(stub: bytes, code: str) -> None:
    with pytest.raises(ImageRefused, match=re.escape(code)):
        uki.unified(stub, os_release=b"", command_line=b"", release="", kernel=b"")


def test_what_is_in_the_image_is_documented() -> None:
    """docs/image-contents.md: every declared package with its locked version and its reason. Its sizes: tests/image."""
    text = (SOURCES / "docs/image-contents.md").read_text()
    versions = {each.name: each.version for each in LOCKED.inputs()}
    for part in (*CONTENTS.packages, *CONTENTS.wheels):
        assert f"| {part.name} | {versions[part.name]} |" in text
        assert part.why in text


def test_the_lock_reads_back(tmp_path: Path) -> None:
    LOCKED.write(tmp_path / "lock.json")
    assert (tmp_path / "lock.json").read_text() == LOCK.read_text()
    assert json.loads(LOCK.read_text()).keys() == {"packages", "wheels"}
