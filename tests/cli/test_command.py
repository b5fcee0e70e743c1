"""The command itself: what it says of itself, and how it ends when it cannot do what was asked."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from anchorhold.command import VERBS, build_parser, main

ROOT = Path(__file__).resolve().parents[2]


def sub_parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def every_verb(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb and every verb of a verb, as the words that name it."""
    yield path
    for name, below in sub_parsers(parser):
        yield from every_verb(below, (*path, name))


def parser_of(verb: tuple[str, ...]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = build_parser()
    for name in verb:
        parser = dict(sub_parsers(parser))[name]
    return parser


def needs_more(verb: tuple[str, ...]) -> bool:
    """Something must follow: a verb of its own, or what it is to work on."""
    return any(action.required for action in parser_of(verb)._actions)


FRAGMENTS = ("of ", "and ", "or ", "as ", "in ", "default", "must ", "how;", "repeat ")
HELP_CHARACTERS_MAX = 125
EVERY_VERB = list(every_verb(build_parser()))


def anchorhold(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "anchorhold.command", *arguments], cwd=ROOT, text=True, check=False, **options
    )


def test_the_verbs_are_those_listed() -> None:
    assert {path[0] for path in EVERY_VERB if path} == set(VERBS)
    assert ("host", "feed") in EVERY_VERB


@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_help_of_every_verb(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([*verb, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"usage: {' '.join(('anchorhold', *verb))} ")
    assert all(len(line) <= 100 for line in said.out.splitlines())
    description = parser_of(verb).description
    if description:
        first = description.strip()
        assert first[0].isupper()
        assert first.endswith(".")


@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_every_argument_is_explained(verb: tuple[str, ...]) -> None:
    """By a phrase that stands alone: what the file is or what the option does, before any default."""
    for action in parser_of(verb)._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help for choice in action._choices_actions)
        else:
            assert action.help, action.dest
            assert not action.help.startswith(FRAGMENTS), action.help
            assert len(action.help) <= HELP_CHARACTERS_MAX, action.help


@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_every_verb_says_what_it_does(verb: tuple[str, ...]) -> None:
    assert parser_of(verb).description


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anchorhold {metadata.version('anchorhold')}\n"


@pytest.mark.parametrize("verb", [verb for verb in EVERY_VERB if needs_more(verb)], ids=" ".join)
def test_a_verb_alone_is_a_usage_error(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(verb)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: anchorhold")
    name = " ".join(("anchorhold", *verb))
    assert said.err.splitlines()[-1].startswith(f"{name}: usage: ")
    assert said.err.splitlines()[-1].endswith(f"(see {name} --help)")


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["host", "unknown"],
        ["verify", "unknown"],
        ["host", "ping", "unix:/x", "more"],
        ["demo", "--unknown"],
        ["host", "ping", "nowhere"],
        ["host", "ping", "unix:/x", "--count", "three"],
        ["demo", "--prompts", "/nowhere/at/all"],
    ],
)
def test_usage_errors_exit_with_1(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert ": usage: " in said.err.splitlines()[-1]


def test_what_is_refused_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    ended = anchorhold("verify", "certificate", str(tmp_path / "junk"), capture_output=True)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["verify", "certificate", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        ended = anchorhold(*arguments, stdout=out, stderr=subprocess.PIPE, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_help_does_not_load_what_only_a_job_needs() -> None:
    code = (
        "import sys; from anchorhold.command import build_parser; build_parser();"
        "heavy = ('wasmtime', 'py_arkworks_bls12381', 'torch', 'devnet.replica', 'devnet.demo');"
        "print([name for name in heavy if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
