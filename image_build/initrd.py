"""The initrd: the image's own interpreter, what its first process imports, and the kernel's modules. No more.

Uncompressed: the kernel's decompressor would see it before anything is checked on some paths, and it is small.
"""

from __future__ import annotations

import ast
import io
import stat
from collections.abc import Iterable
from typing import Final

from image_build import cpio, elf
from image_build.contents import FOLDER
from image_build.kernel import Kernel
from image_build.staged import CACHE_TAG, LIBRARIES, LOADER, PYTHON, STANDARD_LIBRARY, Staged
from image_build.tree import OURS, Entry, Kind, Tree

FIRST: Final = FOLDER / "inside" / "first.py"
CALLS: Final = FOLDER / "inside" / "calls.py"
ENCODINGS: Final = ("encodings.ascii", "encodings.utf_8")  # looked up by name, when something is opened
MOUNTED: Final = ("dev", "proc", "root", "sys")
ORDER: Final = "modules/order"


def make_initrd(root: Tree, staged: Staged, kernel: Kernel) -> Tree:
    tree = Tree()
    for name in MOUNTED:
        tree.folder(name)
    tree.link("lib", "usr/lib")
    tree.link("lib64", "usr/lib64")
    tree.file("init", FIRST.read_bytes(), executable=True)
    tree.file("usr/lib/anchorhold/calls.py", CALLS.read_bytes())
    for path in (PYTHON, LOADER, "usr/lib64/ld-linux-x86-64.so.2", f"{STANDARD_LIBRARY}/os.py"):
        tree.put(path, root[path])
    imported = {name for path in (FIRST, CALLS) for name in _imports(path.read_bytes())} - {"calls"}
    for path in staged.loaded_by([*imported, *ENCODINGS]):
        tree.put(path, root[path])
        if path.endswith(".py"):
            folder, _, name = path.rpartition("/")
            compiled = f"{folder}/__pycache__/{name.removesuffix('.py')}.{CACHE_TAG}.pyc"
            tree.put(compiled, root[compiled])
    _add_libraries(tree, root)
    for module in kernel.modules:
        tree.put(f"modules/{module.file}", Entry(Kind.FILE, module.content, "linux"))
    tree.file(ORDER, "".join(f"{module.file}\n" for module in kernel.modules).encode())
    return tree


def archive(tree: Tree) -> bytes:
    kinds = {Kind.FILE: stat.S_IFREG, Kind.LINK: stat.S_IFLNK, Kind.FOLDER: stat.S_IFDIR}
    entries = dict.fromkeys(tree.folders(), (stat.S_IFDIR | 493, b""))
    entries |= {path: (kinds[entry.kind] | entry.mode, entry.content) for path, entry in tree.entries()}
    sink = io.BytesIO()
    cpio.write_entries(((path, *entries[path]) for path in sorted(entries)), sink)
    return sink.getvalue()


def _imports(source: bytes) -> set[str]:
    """The modules of Python's own that a program names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _add_libraries(tree: Tree, root: Tree) -> None:
    """What the programs and modules ask for, and what that asks for."""
    waiting = [entry.content for _, entry in tree.files() if elf.is_elf(entry.content)]
    while waiting:
        for name in elf.needed(waiting.pop()):
            path: str | None = f"{LIBRARIES}/{name}"
            while path is not None and path not in tree:
                entry = root[path]
                tree.put(path, entry)
                path = f"{LIBRARIES}/{entry.content.decode()}" if entry.kind is Kind.LINK else None
                if entry.kind is Kind.FILE:
                    waiting.append(entry.content)


def owners(trees: Iterable[Tree]) -> set[str]:
    return {entry.owner for tree in trees for _, entry in tree.entries()} - {OURS}
