"""secrecy.md S1 to S7: the canary is looked for in every way a value becomes text."""

from __future__ import annotations

import ast
import copy
import io
import json
import logging
import pickle
import pprint
import string
import sys
import threading
import traceback
import warnings
from pathlib import Path

import hypothesis.strategies as st
import pytest
import structlog
from hypothesis import given

from foundation import logs
from foundation.refusal import Refused
from foundation.secrecy import Hidden, Prompt, Secret, _Own, owned

CANARY = "canary-7f3a9c"
CANARY_BYTES = CANARY.encode()
KINDS = [Secret, Prompt]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Logs set up as in the cell, written where the test can read; undone afterwards."""
    out = io.StringIO()
    for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    handlers, level = logging.root.handlers[:], logging.root.level
    logs.set_up(out, level=logging.DEBUG)
    yield out
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def assert_silent(text: str) -> None:
    """None of the forms in which the canary could be read back."""
    for form in (CANARY, CANARY_BYTES.hex(), str(list(CANARY_BYTES)), repr(CANARY_BYTES)):
        assert form not in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_rendering_is_the_word(kind: type[Hidden]) -> None:
    hidden = kind(CANARY_BYTES)
    renderings = [
        repr(hidden),
        str(hidden),
        f"{hidden}",
        f"{hidden!r:>40}",
        "%s %r" % (hidden, hidden),  # noqa: UP031
        f"{hidden} {hidden!s}",
        string.Template("$it").substitute(it=hidden),
        pprint.pformat([hidden]),
        repr({"deep": [(hidden,)]}),
        ascii(hidden),
    ]
    for text in renderings:
        assert_silent(text)
        assert kind.word in text
    assert hidden.reveal() == CANARY_BYTES


@pytest.mark.parametrize("kind", KINDS)
def test_no_serialiser_takes_it(kind: type[Hidden]) -> None:
    hidden = kind(CANARY_BYTES)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, bytes, hash, memoryview):
        with pytest.raises(TypeError) as refused:
            attempt(hidden)
        assert_silent(str(refused.value))


@pytest.mark.parametrize("kind", KINDS)
def test_its_length_is_not_told(kind: type[Hidden]) -> None:
    assert repr(kind(b"")) == repr(kind(bytes(5000)))
    with pytest.raises(TypeError):
        len(kind(CANARY_BYTES))


def test_a_secret_is_not_a_prompt() -> None:
    assert Secret(CANARY_BYTES) == Secret(CANARY_BYTES)
    assert Secret(CANARY_BYTES) != Prompt(CANARY_BYTES)
    assert Secret(CANARY_BYTES) != Secret(b"another")
    assert Secret(CANARY_BYTES) != CANARY_BYTES


def test_not_in_vars_or_slots_by_its_plain_name() -> None:
    hidden = Prompt(CANARY_BYTES)
    assert not hasattr(hidden, "__dict__")
    assert not hasattr(hidden, "value")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "exception"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_log_level_renders_it(stream: io.StringIO, level: str, kind: type[Hidden]) -> None:
    hidden = kind(CANARY_BYTES)
    log = structlog.get_logger().bind(bound=hidden)
    try:
        raise ValueError(f"third-party text with {CANARY}", CANARY_BYTES)
    except ValueError:
        getattr(log, level)(
            "event",
            direct=hidden,
            nested={"a": [hidden, {"b": (hidden,)}]},
            raw=CANARY_BYTES,
            view=memoryview(CANARY_BYTES),
            array=bytearray(CANARY_BYTES),
            exc_info=True,
        )
    line = stream.getvalue()
    assert_silent(line)
    shown = json.loads(line)
    assert shown["direct"] == shown["bound"] == repr(hidden)
    assert shown["exception"]["type"] == "ValueError"
    assert shown["raw"] == "<bytes>"


def test_a_hidden_event_or_key_is_its_word_too(stream: io.StringIO) -> None:
    structlog.get_logger().info(Prompt(CANARY_BYTES), table={Prompt: 1})
    assert_silent(stream.getvalue())


def test_library_records_lose_their_text(stream: io.StringIO) -> None:
    try:
        raise KeyError(CANARY)
    except KeyError:
        logging.getLogger("somebody.else").exception("it said %s", CANARY)
    warnings.simplefilter("always")
    warnings.warn(f"about {CANARY}", UserWarning, stacklevel=1)
    assert_silent(stream.getvalue())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["somebody.else", "py.warnings"]


@pytest.mark.parametrize("level", [1, 15, 35, 45, 70])
def test_a_level_a_library_invented_is_taken_for_the_one_below(stream: io.StringIO, level: int) -> None:
    """secrecy.md S6"""
    logger = logging.getLogger("somebody.inventive")
    logger.setLevel(1)
    logger.log(level, "it said %s", CANARY)
    logger.setLevel(logging.NOTSET)
    shown = json.loads(stream.getvalue())
    assert_silent(stream.getvalue())
    assert (shown["event"], shown["logger"]) == ("library", "somebody.inventive")


def test_a_system_error_shows_its_name_and_not_its_file(stream: io.StringIO) -> None:
    """secrecy.md S5"""
    structlog.get_logger().error("no", exc_info=FileNotFoundError(2, CANARY, CANARY))
    assert_silent(stream.getvalue())
    assert json.loads(stream.getvalue())["exception"]["errno"] == "ENOENT"


def test_uncaught_exceptions_lose_their_text(stream: io.StringIO) -> None:
    try:
        b"\xff".decode("utf-8" if CANARY else "ascii")
    except UnicodeDecodeError as reason:
        sys.excepthook(type(reason), reason, reason.__traceback__)

    def dies() -> None:
        raise RuntimeError(CANARY)

    thread = threading.Thread(target=dies)
    thread.start()
    thread.join()
    assert_silent(stream.getvalue())
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["uncaught", "thread died"]


def test_the_event_loop_does_not_quote(stream: io.StringIO) -> None:
    logs.on_loop_exception(None, {"message": CANARY, "exception": OSError(CANARY), "future": CANARY})  # type: ignore[arg-type]
    assert_silent(stream.getvalue())
    assert json.loads(stream.getvalue())["exception"]["type"] == "OSError"


def test_a_refusal_shows_stage_and_code_and_not_its_values(stream: io.StringIO) -> None:
    class Mine(Refused):
        stage = "here"

    structlog.get_logger().error("no", exc_info=Mine("here.code", expected="something", got=CANARY))
    shown = json.loads(stream.getvalue())
    assert_silent(stream.getvalue())
    assert (shown["exception"]["stage"], shown["exception"]["code"]) == ("here", "here.code")


def test_a_long_text_is_only_measured(stream: io.StringIO) -> None:
    structlog.get_logger().info("event", text=CANARY * 20)
    assert_silent(stream.getvalue())


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_and_tracebacks_that_hold_one(kind: type[Hidden]) -> None:
    hidden = kind(CANARY_BYTES)
    try:
        raise Refused("code", expected=hidden, got=[hidden])
    except Refused as refusal:
        texts = [
            str(refusal),
            repr(refusal),
            "".join(traceback.format_exception(refusal)),
            "".join(traceback.TracebackException.from_exception(refusal, capture_locals=True).format()),
        ]
    for text in texts:
        # The raising line itself names no canary, and captured locals show the word.
        assert_silent(text)


@given(
    st.recursive(
        st.just(Secret(CANARY_BYTES)) | st.binary() | st.none() | st.integers() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=20,
    )
)
def test_whatever_holds_it_prints_without_it(value: object) -> None:
    text = json.dumps(logs.printable(value))
    assert_silent(text)
    assert len(text) < 100_000


# -- what the source says to its logs

LOGGING_CALLS = {"debug", "info", "warning", "error", "critical", "exception", "log", "msg"}


def log_calls(source: str) -> list[ast.Call]:
    """Calls of a logger of ours: `_log.warning(...)`, `structlog.get_logger().error(...)`."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOGGING_CALLS
        and ast.unparse(node.func.value) in ("_log", "log", "structlog.get_logger()")
    ]


def is_put_together(call: ast.Call) -> bool:
    """An event that is no constant, or a value without a name."""
    return len(call.args) != 1 or not isinstance(call.args[0], ast.Constant)


def test_events_are_constants_and_values_have_names() -> None:
    """secrecy.md S4: in every room whose code is in the cell."""
    calls = [
        (path, call)
        for room in ("foundation", "vsock_bridge", "measurements", "attestation", "appliance")
        for path in (ROOT / room).rglob("*.py")
        for call in log_calls(path.read_text(encoding="utf-8"))
    ]
    assert len(calls) >= 8
    # The library handler passes a level on, and `_tell` an event from its callers, which are constants above it.
    excepted = {("logs.py", "structlog.get_logger().log"), ("logs.py", "structlog.get_logger().error")}
    found = [
        f"{path.name}:{call.lineno}"
        for path, call in calls
        if is_put_together(call) and (path.name, ast.unparse(call.func)) not in excepted
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "_log.info(f'said {words}')",
        "_log.info('said %s', words)",
        "_log.error(words)",
        "_log.info()",
        "structlog.get_logger().warning('a' + words)",
    ],
)
def test_a_line_put_together_would_be_found(line: str) -> None:
    assert [is_put_together(call) for call in log_calls(line)] == [True]


def test_nothing_prints_in_a_cell() -> None:
    """secrecy.md S3: standard output and error are the log's."""
    printing = [
        str(path.relative_to(ROOT))
        for room in ("foundation", "vsock_bridge", "measurements", "attestation", "appliance")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in ("print", "sys.stdout.write", "sys.stderr.write", "traceback.print_exc", "traceback.print_exception")
    ]
    assert printing == []


def test_an_example_of_the_specification_is_what_is_written(stream: io.StringIO) -> None:
    """secrecy.md S3, S5: the line of the example has the fields of a real one."""
    text = (ROOT / "docs" / "spec" / "secrecy.md").read_text(encoding="utf-8").split("```")[3]
    example = json.loads(text)

    class SliceRefused(Refused):
        stage = "slice"

    try:
        raise SliceRefused("slice.height", expected=2, got=3)
    except SliceRefused as refusal:
        structlog.get_logger().warning("refused", exc_info=refusal)
    line = json.loads(stream.getvalue())
    assert line.keys() == example.keys()
    assert line["exception"].keys() == example["exception"].keys()
    for name in ("code", "stage", "type"):
        assert line["exception"][name] == example["exception"][name]


# -- S15


def test_what_was_lent_outlives_its_secret() -> None:
    """Else a key lent out of an expression would be zeros before it is used."""
    assert bytes(Secret(CANARY_BYTES).lend()) == CANARY_BYTES


def test_bytes_that_go_are_overwritten() -> None:
    own = _Own(CANARY_BYTES)
    own.__del__()
    assert own == bytes(len(CANARY_BYTES))


def test_a_wiped_secret_is_zeros_for_everyone() -> None:
    secret = Secret(bytearray(CANARY_BYTES))
    secret.wipe()
    assert secret.reveal() == bytes(len(CANARY_BYTES))
    assert secret != Secret(CANARY_BYTES)


def test_a_secret_copies_what_it_is_made_of() -> None:
    given = bytearray(CANARY_BYTES)
    secret = Secret(given)
    secret.wipe()
    assert given == CANARY_BYTES
    assert secret.lend().readonly


def test_a_secret_is_filled_where_it_lies() -> None:
    def fill(into: bytearray) -> None:
        into[:] = CANARY_BYTES

    assert Secret.filled(len(CANARY_BYTES), fill) == Secret(CANARY_BYTES)


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_what_a_library_returned_is_taken_over(size: int) -> None:
    returned = bytes([7] * size)
    secret = owned(returned)
    assert secret.reveal() == bytes([7] * size)
    assert returned == (bytes(size) if size > 1 else bytes([7] * size))  # short ones are everybody's


def test_two_kinds_are_never_equal() -> None:
    assert Secret(CANARY_BYTES) != Prompt(CANARY_BYTES)
    assert Secret(CANARY_BYTES) == Secret(CANARY_BYTES)
