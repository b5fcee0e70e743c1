"""Packages of Node that a test needs, fetched as their folder's package-lock.json has them."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest


def fetched(folder: Path) -> Path:
    """The folder's node_modules. The test skips where there is no Node, or where npm does not bring them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are unavailable here")
    packages = folder / "node_modules"
    with (folder / "package-lock.json").open() as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (packages / ".package-lock.json").is_file():  # npm writes it when all the rest is there
            command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
            if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
                pytest.skip(f"npm cannot fetch the packages of {folder.name}/ here")
    return packages
