"""An image, from its lock and its declarations to four files and what they are: no root, no container, no shell.

    inputs (by digest) -> tree in memory -> byte code -> erofs -> verity -> command line, unified kernel image

Every step is a function of the inputs, the sources, the profile and the configuration: no time, name, path, locale or
umask of whoever builds enters (I3). Only mkfs.erofs and the image's own interpreter are run, both unpacked from locked
packages through their own loader; the kernel is built once, by `image_build.kernel`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image_build import uki
from image_build.closure import Closure
from image_build.contents import FOLDER, LOCK, Compiled, Contents, Part
from image_build.deb import Member, members, unpack
from image_build.downloads import Told, fetch, silent
from image_build.elf import is_elf
from image_build.errors import ImageRefused
from image_build.image_manifest import Built, Manifest
from image_build.kernel.inputs import Inputs
from image_build.kernel.kernel_cache import Kernel, have_kernel
from image_build.kernels_library import compiled
from image_build.lock import ImageLock, Locked, Wheel
from image_build.profile import CONFIG, Profile
from image_build.staged import PYTHON, STANDARD_LIBRARY, Staged, through_loader
from image_build.tree import OURS, Tree
from image_build.verity import Verity, append_tree
from image_build.wheels import our_wheel, wheel_members

SOURCES: Final = FOLDER.parent
SITE: Final = "opt/anchorhold/site"
INSIDE: Final = {
    "opt/anchorhold/calls.py": "calls.py",
    "opt/anchorhold/process_one.py": "process_one.py",
    "opt/anchorhold/start.py": "start.py",
}
MOUNTED: Final = ("dev", "proc", "sys")
STUB: Final = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
FILE_SYSTEM_ID: Final = "a4c0401d-0000-4000-8000-000000000000"  # erofs has one; a fixed one tells nobody anything
COMPRESSION: Final = "lz4hc,9"
REFRESH: Final = "anchorhold image lock"
WHEEL_TAG: Final = "cp311-cp311-manylinux_2_28_x86_64"
FIRST: Final = f"init=/{PYTHON} -- -ISB /opt/anchorhold/process_one.py"
"""The last words of every command line: what follows `--` is for the first program."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built, of what, where."""

    profile: str
    out: Path
    cache: Path
    config: bytes | None = None  # instead of the profile's own
    sources: Path = SOURCES


def build(order: Order, tell: Told = silent) -> Manifest:
    """Write the image to `order.out`, which is replaced whole or not at all."""
    contents, lock, profile = Contents.read(), ImageLock.read(LOCK), Profile.read(order.profile)
    inputs = needed_inputs(contents, lock, profile.ours(order.sources))
    fetched = fetch(inputs, order.cache, refresh=REFRESH, tell=tell)
    tell(f"inputs: {len(inputs)}, {sum(each.size for each in inputs)} bytes, {fetched} fetched now")
    os.umask(0o022)
    kernel_inputs = Inputs.read()
    kernel = have_kernel(kernel_inputs, order.cache, tell)
    out = order.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".image-", dir=out.parent) as folder:
        done = _Build(order, contents, lock, profile, kernel_inputs, kernel, Path(folder), tell).run()
        (Path(folder) / "out").chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        (Path(folder) / "out").rename(out)
    return done


@dataclass(frozen=True, slots=True)
class _Build:
    order: Order
    contents: Contents
    lock: ImageLock
    profile: Profile
    kernel_inputs: Inputs
    kernel: Kernel
    work: Path
    tell: Told

    def run(self) -> Manifest:
        out = self.work / "out"
        out.mkdir()
        root, wheel = self.root()
        self.complete(root)
        self.tell(f"root: {len(root)} paths")
        verity = self.file_system(root, out / "root.img")
        words = [*self.profile.command_line, verity.words, FIRST]
        artefacts = {"vmlinuz": self.kernel.image, "cmdline": " ".join(words).encode()}
        artefacts["image.efi"] = uki.unified(
            self.stub(),
            os_release=root["etc/os-release"].content,
            command_line=artefacts["cmdline"],
            release=self.kernel.release,
            kernel=self.kernel.image,
        )
        for name, content in artefacts.items():
            (out / name).write_bytes(content)
        built = Built(
            profile=self.profile.name,
            version=self.version(),
            epoch=self.contents.epoch,
            kernel=self.kernel.release,
            config=root[CONFIG].content,
            wheel=wheel,
            verity=verity,
            inputs=(*self.lock.inputs(), *self.kernel_inputs.packages),
        )
        manifest = Manifest.of(out, built, root=root)
        manifest.write(out)
        self.tell("done: " + ", ".join(f"{name} {size}" for name, size in manifest.sizes().items()))
        return manifest

    # -- the root

    def root(self) -> tuple[Tree, bytes]:
        tree = Tree()
        for name in MOUNTED:
            tree.folder(name)
        tree.link("lib", "usr/lib")
        tree.link("lib64", "usr/lib64")
        for part in self.contents.packages:
            if "root" in part.trees:
                _add(tree, "", part, members(self.package(part), part.keeps))
        for part in self.contents.wheels:
            _add(tree, f"{SITE}/", part, wheel_members(self.order.cache / self.wheel(part).sha256, part))
        wheel = self.our_wheel()
        (self.work / "ours.whl").write_bytes(wheel)
        ours = Part(OURS, "the cell", ("*",), ())
        _add(tree, f"{SITE}/", ours, wheel_members(self.work / "ours.whl", ours))
        for where, name in INSIDE.items():
            tree.file(where, (FOLDER / "inside" / name).read_bytes())
        self.profile.lay(tree, self.order.config)
        said = f"ID=anchorhold\nVERSION_ID={self.version()}\nVARIANT_ID={self.profile.name}\n"
        tree.file("etc/os-release", said.encode())
        return tree, wheel

    def our_wheel(self) -> bytes:
        """Of the profile's programs and all they import (I6)."""
        needed = self.profile.ours(self.order.sources)
        files = {name: path.read_bytes() for name, path in needed.files.items()}
        compiler = self.order.cache / self.wheel(self.contents.compiler).sha256
        for what in needed_libraries(self.contents, needed):
            files[what.file] = compiled(what, self.order.sources, compiler, self.order.cache, tell=self.tell)
        return our_wheel(OURS, self.version(), WHEEL_TAG, files)

    def complete(self, root: Tree) -> None:
        """Byte code into the root, by its own interpreter, which then imports all that is ours."""
        stage = self.work / "stage"
        stage.mkdir()
        root.write(stage, self.contents.epoch)
        staged = Staged(stage)
        staged.compile_into(root, (STANDARD_LIBRARY, "opt/anchorhold"))
        ours = [path.removeprefix(f"{SITE}/") for path, entry in root.files() if entry.owner == OURS]
        staged.try_imports(
            SITE,
            [
                path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                for path in ours
                if path.endswith(".py") and not path.startswith("opt/") and not path.endswith("__main__.py")
            ],
        )
        shutil.rmtree(stage)

    def file_system(self, root: Tree, image: Path) -> Verity:
        top = self.work / "root"
        top.mkdir()
        root.write(top, self.contents.epoch)
        tools = self.tools()
        told = subprocess.run(
            [
                *through_loader(tools, "usr/bin/mkfs.erofs"),
                "-x-1",
                f"-T{self.contents.epoch}",
                "-U",
                FILE_SYSTEM_ID,
                "--all-root",
                f"-z{COMPRESSION}",
                str(image),
                str(top),
            ],
            check=False,
            capture_output=True,
            text=True,
            env={"LC_ALL": "C"},
        )
        if told.returncode != 0:
            raise ImageRefused("build.file-system", expected="mkfs.erofs to make it", got=told.stderr[-400:])
        shutil.rmtree(top)
        return append_tree(image, self.salt())

    def salt(self) -> bytes:
        """The same for the same inputs. It hides nothing; a tree of one lock fits no other."""
        return hashlib.sha256(
            b"anchorhold/verity-salt/v1" + json.dumps(sorted(each.sha256 for each in self.lock.inputs())).encode()
        ).digest()

    def tools(self) -> Path:
        return unpack_tools(self.contents, self.lock, self.order.cache, self.work / "tools")

    def stub(self) -> bytes:
        part = next(each for each in self.contents.packages if "stub" in each.trees)
        return next(each.content for each in members(self.package(part), part.keeps) if each.path == STUB)

    def version(self) -> str:
        project = tomllib.loads((self.order.sources / "pyproject.toml").read_text())["project"]
        return str(project["version"])

    def wheel(self, part: Part) -> Wheel:
        return next(each for each in self.lock.wheels if each.name == part.name)

    def package(self, part: Part) -> Path:
        return package_in(self.lock, self.order.cache, part)


def needed_libraries(contents: Contents, ours: Closure) -> list[Compiled]:
    return [each for each in contents.compiled if any(name in ours.files for name in each.needed_by)]


def needed_inputs(contents: Contents, lock: ImageLock, ours: Closure) -> list[Locked]:
    """All that is locked, but for a compiler where nothing is to be compiled."""
    compiles = bool(needed_libraries(contents, ours))
    return [each for each in lock.inputs() if compiles or each.name != contents.compiler.name]


def package_in(lock: ImageLock, cache: Path, part: Part) -> Path:
    """Where in the cache a declared package is."""
    for each in lock.packages:
        if each.trees == part.trees and each.name == part.name:
            return cache / each.sha256
    raise ImageRefused(
        "lock", expected=f"{part.name} for {', '.join(part.trees)}", got=f"{len(lock.packages)} packages without it"
    )


def unpack_tools(contents: Contents, lock: ImageLock, cache: Path, top: Path) -> Path:
    """What makes and reads the root's file system, as a tree of its own."""
    for part in contents.packages:
        if "tools" in part.trees:
            unpack(package_in(lock, cache, part), part.keeps, top)
    return top


def _add(tree: Tree, below: str, part: Part, found: Iterable[Member]) -> None:
    for each in found:
        path = below + each.path
        if each.is_link:
            tree.link(path, each.content.decode(), part.name)
        else:
            tree.file(path, each.content, part.name, executable=is_elf(each.content))
