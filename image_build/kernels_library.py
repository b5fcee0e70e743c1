"""Our own libraries, compiled for the image by the locked compiler from the sources as they are.

What came out is kept by a digest of all that went in, so an unchanged source is compiled once. That it is what another
machine comes to is for a second build to show, with a folder of its own to keep things in.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from image_build.contents import Compiled
from image_build.downloads import Told
from image_build.errors import ImageRefused


def compiled(what: Compiled, sources: Path, compiler: Path, kept: Path, *, tell: Told) -> bytes:
    """The library that its program among the sources builds with the compiler of that wheel."""
    files = {path.relative_to(sources).as_posix(): path.read_bytes() for path in _sources(what, sources)}
    parts = [compiler.name.encode(), *(part for name in files for part in (name.encode(), files[name]))]
    key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    if not (done := kept / f"compiled-{key}").is_file():
        tell(f"compiling {what.file}")
        library = _compile(what, files, compiler)
        with tempfile.NamedTemporaryFile(dir=kept, delete=False) as part:
            part.write(library)
        Path(part.name).rename(done)
    return done.read_bytes()


def _sources(what: Compiled, sources: Path) -> list[Path]:
    found = {path for pattern in what.of for path in sources.glob(pattern)}
    if not found:
        raise ImageRefused("compiled.sources", expected=f"files like {', '.join(what.of)}", got="none")
    return sorted(found | {sources / what.built_by})


def _compile(what: Compiled, files: dict[str, bytes], compiler: Path) -> bytes:
    """In a folder with nothing else, so that nothing else can have a part in it."""
    with tempfile.TemporaryDirectory() as folder:
        tools, work = Path(folder) / "tools", Path(folder) / "work"
        with zipfile.ZipFile(compiler) as archive:
            archive.extractall(tools)  # of a file with a locked digest
        (tools / "ziglang" / "zig").chmod(0o755)
        for name, content in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        told = subprocess.run(
            [sys.executable, what.built_by, f"out/{what.file}"],
            check=False,
            capture_output=True,
            text=True,
            cwd=work,
            env={
                "PATH": "/usr/bin:/bin",
                "LC_ALL": "C",
                "PYTHONPATH": str(tools),
                "PYTHONDONTWRITEBYTECODE": "1",
                "ZIG_GLOBAL_CACHE_DIR": f"{folder}/global",
                "ZIG_LOCAL_CACHE_DIR": f"{folder}/local",
                "HOME": folder,
            },
        )
        if told.returncode != 0 or not (work / "out" / what.file).is_file():
            raise ImageRefused("compiled", expected=f"{what.built_by} to build {what.file}", got=told.stderr[-400:])
        return (work / "out" / what.file).read_bytes()
