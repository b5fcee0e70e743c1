"""A PostgreSQL server of a test's own: a new cluster in a folder, on a socket there, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
NEEDED = pytest.mark.skipif(not (BINARIES / "initdb").exists(), reason="no PostgreSQL server is installed")


@contextmanager
def cluster() -> Iterator[str]:
    """Its URL. Runs as the user `postgres` where this process is root, since a server refuses to."""
    with tempfile.TemporaryDirectory(prefix="pg-") as made:
        yield from _cluster(Path(made))


def _cluster(folder: Path) -> Iterator[str]:
    as_user: list[str] = []
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user = [shutil.which("setpriv") or "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user, str(BINARIES / name), *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    data = str(folder / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "broker")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://broker@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
