"""Switches of the tests: one table, the same on the page; a skip is a failure where all is required."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import skips, switches
from tests.switches import FLAGS, FULL, OTHERS, REQUIRE_ALL, SIZES, sized

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"\bANCHORHOLD_[A-Z_]*[A-Z]\b|\bFUZZ_SECONDS\b")
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \|(?: ([^|]+) \|)?", re.MULTILINE)
GUARDS = {"ANCHORHOLD_EMULATED"}  # of the C preprocessor
PLACES = ("Makefile", ".ci/run", "README.md", "CONTRIBUTING.md")


def sources() -> list[Path]:
    rooms = (
        "foundation",
        "vsock_bridge",
        "measurements",
        "attestation",
        "appliance",
        "image_build",
        "devnet",
        "anchorhold",
        "bench",
        "tests",
        "docs",
    )
    return [
        *(path for room in rooms for kind in ("*.py", "*.md") for path in (ROOT / room).rglob(kind)),
        *(ROOT / place for place in PLACES),
    ]


def test_every_switch_that_is_named_anywhere_is_in_the_table() -> None:
    known = {size.name for size in SIZES} | FLAGS.keys() | OTHERS.keys()
    named = {
        name: path
        for path in sources()
        if path != Path(__file__).resolve()
        for name in NAME.findall(path.read_text("utf-8"))
    }
    assert {name: str(path) for name, path in named.items() if name not in known | GUARDS} == {}
    assert known <= named.keys()


def test_the_page_has_the_same_table() -> None:
    page = (ROOT / "docs" / "testing.md").read_text("utf-8")
    rows = {name: (first.strip(), (more or "").strip()) for name, first, more in ROW.findall(page)}
    assert rows == {size.name: (f"{size.quick:,} / {size.full:,}", size.what) for size in SIZES} | {
        name: (what, "") for name, what in {**FLAGS, **OTHERS}.items()
    }


def test_what_has_a_full_size_is_run_at_it() -> None:
    """A module that reads a size with two values marks a test `sized`, so `make test-all` finds it."""
    modules = [(path, path.read_text("utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    for size in SIZES:
        users = [text for path, text in modules if f'sized("{size.name}")' in text]
        assert users, size.name
        assert size.quick == size.full or all("@pytest.mark.sized" in text for text in users), size.name


def test_a_size_is_quick_or_full_or_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    [size] = [each for each in SIZES if each.name == "ANCHORHOLD_SIMULATION_RUNS"]
    monkeypatch.delenv(size.name, raising=False)
    monkeypatch.delenv(FULL, raising=False)
    assert sized(size.name) == size.quick
    monkeypatch.setenv(FULL, "1")
    assert sized(size.name) == size.full
    monkeypatch.setenv(size.name, "7")
    assert sized(size.name) == 7
    for wrong in ("", "0", "-1", "many", "1.5", "9" * 30):
        monkeypatch.setenv(size.name, wrong)
        with pytest.raises(ValueError, match="expected a number above 0"):
            sized(size.name)


@pytest.mark.parametrize(("value", "set_"), [("", False), ("0", False), ("1", True), ("yes", True)])
def test_a_flag(value: str, set_: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FULL, value)
    assert switches.flag(FULL) == set_


def test_a_skip_is_a_failure_where_all_is_required(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeconftest("from tests.conftest import pytest_make_collect_report, pytest_runtest_makereport")
    pytester.makepyfile(
        test_one="""
import pytest
def test_that_skips(): pytest.skip("no database here")
@pytest.mark.skipif(True, reason="no GPU here")
def test_that_may(): pass
def test_that_runs(): pass
""",
        test_two="""
import pytest
pytest.importorskip("no_such_library", reason="no library here")
""",
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv(REQUIRE_ALL, raising=False)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1, skipped=3)
    monkeypatch.setenv(REQUIRE_ALL, "1")
    ended = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--continue-on-collection-errors")
    ended.assert_outcomes(passed=1, skipped=1, failed=1, errors=1)
    ended.stdout.fnmatch_lines(["*skipped, where ANCHORHOLD_REQUIRE_ALL allows*no database here*"])


def test_no_reason_allows_what_can_be_brought() -> None:
    for reason in (
        "no PostgreSQL server is installed",
        "SoftHSM is not installed",
        "no chromium here: the page was not read in a browser",
        "no kernels here: make setup builds them",
        "torch is not installed here: `make vllm` brings it",
        "no certificate vectors at /x",
        "no C compiler is here",
    ):
        assert not skips.allowed(reason)
