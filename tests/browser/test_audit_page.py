"""The audit's page in a real browser, from a file, without a network. audit.md U35, U37.

Needs Chromium (Debian's `chromium`); says that it skips where there is none.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import AuditBundle
from attestation.auditor.findings import Stage
from attestation.auditor.page import CHAIN, PALETTE, page
from tests.little_audit import good, terms

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page was not read in a browser"),
]


def browse(path: Path, folder: Path, *more: str) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def write(folder: Path, raw: bytes) -> Path:
    path = folder / "page.html"
    path.write_text(page(audit(raw, terms()), title="bundle.anchorhold"), encoding="utf-8")
    return path


class Drawn(HTMLParser):
    """The links of the chain as the browser holds them, and the words of the page."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.states: dict[str, str] = {}
        self.words: list[str] = []
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = dict(attrs)
        if tag == "g" and at.get("data-link"):
            self.states[str(at["data-link"])] = str(at["data-state"])

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def tampered() -> bytes:
    bundle = AuditBundle.parse(good())
    at = good().index(bundle.cells[0].receipts) + 300
    return good()[:at] + bytes([good()[at] ^ 1]) + good()[at + 1 :]


def test_a_person_reads_that_everything_holds(tmp_path: Path) -> None:
    drawn = Drawn(browse(write(tmp_path, good()), tmp_path, "--dump-dom"))
    assert drawn.states == {link.name: "holds" for link in CHAIN if Stage.REPLAY not in link.stages}
    assert "Everything holds" in drawn.words


def test_a_person_reads_which_link_is_broken(tmp_path: Path) -> None:
    drawn = Drawn(browse(write(tmp_path, tampered()), tmp_path, "--dump-dom"))
    assert drawn.states["The receipts"] == "fails"
    assert drawn.states["The order"] == "holds"
    assert drawn.states["The log"] == "open"
    assert "Do not rely on this" in drawn.words


def test_green_and_red_are_on_the_screen(tmp_path: Path) -> None:
    for raw, there in ((good(), "holds"), (tampered(), "fails")):
        picture = tmp_path / "page.png"
        browse(write(tmp_path, raw), tmp_path, f"--screenshot={picture}", "--window-size=900,1300")
        seen = colours(picture.read_bytes())
        wanted = PALETTE["light"][there]
        assert seen.get(tuple(bytes.fromhex(wanted[1:])), 0) > 500, there


def colours(png: bytes) -> dict[tuple[int, ...], int]:
    """How often each colour is in a PNG of 8-bit RGB or RGBA, as Chromium writes them."""
    at, parts, width, height, channels = 8, [], 0, 0, 0
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, form = struct.unpack(">IIBB", body[:10])
            assert depth == 8
            channels = {2: 3, 6: 4}[form]
        elif kind == b"IDAT":
            parts.append(body)
        at += 12 + size
    raw, stride = zlib.decompress(b"".join(parts)), width * channels
    counts: dict[tuple[int, ...], int] = {}
    before = bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        before = unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), before, channels)
        for pixel in range(0, stride, channels):
            colour = tuple(before[pixel : pixel + 3])
            counts[colour] = counts.get(colour, 0) + 1
    return counts


def unfiltered(kind: int, line: bytearray, above: bytearray, step: int) -> bytearray:
    """PNG's five filters, undone."""
    for at, value in enumerate(line):
        left = line[at - step] if at >= step else 0
        up = above[at]
        corner = above[at - step] if at >= step else 0
        if kind == 4:
            guess = left + up - corner
            near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
        else:
            near = (0, left, up, (left + up) // 2)[kind]
        line[at] = (value + near) & 0xFF
    return line
