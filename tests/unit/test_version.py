"""One version: in pyproject.toml, in what is installed, in what a broker says of itself, in the tag of a release."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

from attestation.broker.broker import BUILD

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def test_what_is_installed_and_what_a_broker_says() -> None:
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", VERSION)
    assert metadata.version("anchorhold") == VERSION
    assert f"anchorhold broker {VERSION}" == BUILD


def test_a_tagged_commit_has_the_version_of_its_tag() -> None:
    """A clone may have no tags, and an archive no git: then there is nothing that could differ."""
    command = ["git", "tag", "--points-at", "HEAD", "v*"]
    tags = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert set(tags) <= {f"v{VERSION}"}


def test_the_changes_begin_with_this_version_or_the_next() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].split()[0] == VERSION
