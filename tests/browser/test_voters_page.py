"""The voter's page in a real browser, from a file: the facts of the command line, and nothing that runs or loads.

governance.md V2, V13. Needs Chromium (Debian's `chromium`); says that it skips where there is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from anchorhold.pages.voter import voters_page
from measurements.governance.actions import Action, Adopt, AmendCharter, RevokeChips, RotateKey, Withdraw
from measurements.governance.history import Ledger
from measurements.governance.proposal import Proposal
from measurements.release.changes import changes, facts
from tests.charters import AUTHORITY, advance, charter
from tests.releases import made_manifest

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
    "--dump-dom",
]
in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page was not read in a browser"),
]

FIRST = made_manifest()
SECOND = replace(made_manifest("0.2.0", FIRST), price=replace(FIRST.price, token_out=9_000))
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
ONE, _ = advance(Ledger.begin(AUTHORITY), Adopt(FIRST))


def proposal(action: Action) -> Proposal:
    return Proposal.of(ONE, action)


class Read(HTMLParser):
    """What a browser holds of the page: its words, its elements and where they would load from."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: set[str] = set()
        self.loads: list[str] = []
        self.events: list[str] = []
        self.title = ""
        self._in_title = False
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self._in_title = tag == "title"
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        self.events += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._in_title:
            self.title += data

    @property
    def said(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def browse(raw: bytes, folder: Path) -> Read:
    path = folder / "proposal.html"
    path.write_bytes(raw)
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", path.as_uri()]
    return Read(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def check_whole(read: Read, made: Proposal) -> None:
    assert read.title == made.title
    assert not read.elements & {"script", "img", "iframe", "object", "embed", "link", "form", "svg", "base"}
    assert not read.loads
    assert not read.events
    for tie in (made.digest.hex(), made.payload.digest.hex(), made.payload.previous.hex()):
        assert tie in read.said


def check_adoption(read: Read, made: Proposal) -> None:
    check_whole(read, made)
    for fact in facts(SECOND):
        assert re.sub(r"\s+", " ", fact.value) in read.said, fact.topic
        assert fact.meaning in read.said
    for change in changes(FIRST, SECOND):
        assert change.words in read.said
        assert not change.asks or f"asks you to trust: {change.asks}" in read.said
    assert "Release 0.1.0 answers its blocks up to 500, and gets no key once the chain is a lease beyond." in read.said


@pytest.mark.parametrize(
    "how",
    [lambda raw, _: Read(raw.decode()), pytest.param(browse, marks=in_a_browser)],
    ids=["as written", "in chromium"],
)
def test_the_page_says_what_the_command_line_says(tmp_path: Path, how: Callable[[bytes, Path], Read]) -> None:
    made = proposal(Adopt(SECOND))
    check_adoption(how(voters_page(made), tmp_path), made)


@pytest.mark.parametrize(
    "how",
    [lambda raw, _: Read(raw.decode()), pytest.param(browse, marks=in_a_browser)],
    ids=["as written", "in chromium"],
)
def test_a_hostile_text_is_shown_and_does_nothing(tmp_path: Path, how: Callable[[bytes, Path], Read]) -> None:
    made = proposal(Withdraw("0.1.0", FIRST.digest, HOSTILE))
    read = how(voters_page(made), tmp_path)
    check_whole(read, made)
    assert HOSTILE in read.said


@pytest.mark.parametrize(
    "action",
    [
        RevokeChips((b"\x07" * 64,), "extracted"),
        RotateKey("a/model-key/b", 2, "lost"),
        AmendCharter(charter("ada", "dan")),
    ],
    ids=lambda action: type(action).__name__,
)
def test_every_action_has_a_page(action: Action) -> None:
    made = proposal(action)
    check_whole(Read(voters_page(made).decode()), made)


def test_the_summary_says_the_same() -> None:
    """What a dashboard shows of a proposal names every fact and change that the page names."""
    summary = proposal(Adopt(SECOND)).summary
    for fact in facts(SECOND):
        assert fact.value in summary
    for change in changes(FIRST, SECOND):
        assert change.words in summary
        assert change.asks in summary
    assert len(summary.encode()) < 30_000
