"""text.md L31: how much reading tool calls looks at, counted; and that it reads what a slow reader reads."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.text import scanning
from appliance.text.scanning import DEPTH_MAX, LOOKS_MAX, Scan
from appliance.text.tool_calls import CALLS_MAX, Form, read_calls, scan_calls
from attestation.consensus.chat import AssistantMessage, encode_message
from tests import calls_reference

OFFERED = frozenset({"f", "g"})
CALL = {
    Form.HERMES: '<tool_call>{"name": "f", "arguments": %s}</tool_call>',
    Form.LLAMA: '{"name": "f", "parameters": %s}',
    Form.MISTRAL: '[{"name": "f", "arguments": %s}]',
}

# Texts that cost a reader with patterns that step back the square of their length, and the dearest ones for this one.
GROWING: dict[str, Callable[[int], str]] = {
    "blocks that open and never close": lambda n: "<tool_call>" * n,
    "blocks that close and never open": lambda n: "</tool_call>" * n,
    "empty blocks": lambda n: "<tool_call></tool_call>" * n,
    "a block of openings": lambda n: "<tool_call>" * n + "</tool_call>",
    "one key of escaped quotes": lambda n: '{"' + '\\"' * n,
    "quotes and escapes": lambda n: "{" + '"\\"' * n,
    "quotes alone": lambda n: '"' * n,
    "an unending text": lambda n: '{"name": "' + "x" * n,
    "an unending escape": lambda n: '{"name": "' + "\\u00e9" * n,
    "blanks": lambda n: " \n" * n,
    "blanks in an object": lambda n: '{"name"' + " " * n + "x",
    "digits": lambda n: '{"name": "f", "parameters": {"a": ' + "1" * n,
    "many openings": lambda n: '{"name": "f", "parameters": {"a": ' + "[" * n,
    "empty lists": lambda n: '{"name": "f", "parameters": {"a": [' + "[]," * n + "0]}}",
    "empty texts": lambda n: '{"name": "f", "parameters": {"a": [' + '"",' * n + "0]}}",
    "empty objects": lambda n: '{"name": "f", "parameters": {"a": [' + '{"":{}},' * n + "0]}}",
    "nested to the bound": lambda n: '{"name": "f", "parameters": {"a": [' + ("[" * 28 + "]" * 28 + ",") * n + "0]}}",
    "many arguments": lambda n: '{"name":"f","parameters":{' + ",".join(f'"{k}":""' for k in range(n)) + "}}",
    "many calls": lambda n: ";".join(['{"name":"f","parameters":{}}'] * n),
    "many calls in a list": lambda n: "[" + ",".join(['{"name":"f","arguments":{}}'] * n) + "]",
    "many blocks": lambda n: '<tool_call>{"name":"f","arguments":{"":""}}</tool_call>' * n,
}


def steps(work: Callable[[], object]) -> int:
    """How many lines of the reader's own files are run: counted by the interpreter, not by the reader."""
    count = 0

    def tracer(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return tracer if frame.f_code.co_filename in FILES else None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


FILES = {scanning.__file__, scan_calls.__code__.co_filename}


def within_bound(form: Form, text: str) -> AssistantMessage | None:
    scan = Scan(text)
    message = scan_calls(form, scan, OFFERED, first=0)
    assert scan.looks <= LOOKS_MAX * (len(text) + 1), f"{scan.looks} looks at {len(text)} characters"
    return message


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("form", Form)
def test_a_text_costs_so_many_looks_a_character_whatever_it_says(name: str, form: Form) -> None:
    """text.md L31"""
    for size in (1, 2, 3, 50, 2000):
        within_bound(form, GROWING[name](size))


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("form", Form)
def test_twice_the_text_is_at_most_twice_the_steps(name: str, form: Form) -> None:
    """text.md L31, by the interpreter's count of lines: patterns that step back are another test's to find."""
    once, twice = (steps(partial(read_calls, form, GROWING[name](size), OFFERED, first=0)) for size in (300, 600))
    assert twice <= 2 * once + 50


def test_no_pattern_of_the_reader_can_step_back() -> None:
    """text.md L31: each repetition is possessive, so what a match has taken it has looked at once."""
    patterns = [each.pattern for each in vars(scanning).values() if isinstance(each, re.Pattern)]
    assert len(patterns) == 4
    for pattern in patterns:
        plain = re.sub(r"\\.|\[(?:\\.|[^\]])*\]", "x", pattern).replace("(?:", "(")
        assert set(re.findall(r"[*+?]+", plain)) <= {"*+", "++", "?+"}, pattern


# -- the same as a slow reader, on what models write and on what is nearly that

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=3), JSON, max_size=3)
BITS = st.sampled_from(
    [
        '"',
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        ":",
        " ",
        "\t",
        "0",
        "-",
        "1.5e3",
        "NaN",
        "<tool_call>",
        "</tool_call>",
        "\\u00e9",
        "\\ud83d\\ude00",
        "x",
        "\x00",
        "é",
        "name",
        '"a":1,',
        "truefalse",
    ]
)


@st.composite
def said(draw: st.DrawFn) -> tuple[Form, str]:
    """Calls as a model writes them, of one form, with up to two slips."""
    form, ascii_only = draw(st.sampled_from(Form)), draw(st.booleans())
    indent = draw(st.sampled_from([None, 1]))
    member = "parameters" if form is Form.LLAMA else "arguments"
    calls = [
        json.dumps(
            {"name": draw(st.sampled_from("fgh")), member: draw(ARGUMENTS)}, ensure_ascii=ascii_only, indent=indent
        )
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3, CALLS_MAX, CALLS_MAX + 1])))
    ]
    match form:
        case Form.HERMES:
            text = draw(st.sampled_from(["", "So.\n", " "])) + draw(st.sampled_from(["", "\n", "x"])).join(
                f"<tool_call>{call}</tool_call>" for call in calls
            )
        case Form.LLAMA:
            text = draw(st.sampled_from([";", " ; ", ","])).join(calls)
        case Form.MISTRAL:
            text = f"[{', '.join(calls)}]"
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(BITS | st.just("")) + text[at + draw(st.integers(0, 2)) :]
    return form, text


def encoded(message: AssistantMessage | None) -> bytes | None:
    return None if message is None else encode_message(message)


def slowly(form: Form, text: str) -> bytes | None:
    try:
        return encoded(calls_reference.read_calls(form, text, OFFERED, first=0))
    except UnicodeEncodeError:
        return None  # a key that is no character: the slow reader has no better answer


@given(said())
@settings(max_examples=400)
@example((Form.LLAMA, CALL[Form.LLAMA] % '{"\\ud800": 1}'))
@example((Form.LLAMA, CALL[Form.LLAMA] % ('{"a": ' + "[" * (DEPTH_MAX - 2) + "]" * (DEPTH_MAX - 2) + "}")))
@example((Form.LLAMA, CALL[Form.LLAMA] % ('{"a": ' + "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1) + "}")))
@example((Form.MISTRAL, CALL[Form.MISTRAL] % ('{"a": ' + "[" * (DEPTH_MAX - 3) + "]" * (DEPTH_MAX - 3) + "}")))
@example((Form.MISTRAL, CALL[Form.MISTRAL] % ('{"a": ' + "[" * (DEPTH_MAX - 2) + "]" * (DEPTH_MAX - 2) + "}")))
def test_it_reads_what_a_slow_reader_reads(given_: tuple[Form, str]) -> None:
    """text.md L17, L18, L31"""
    form, text = given_
    assert encoded(within_bound(form, text)) == slowly(form, text)


@given(st.lists(BITS, max_size=40).map("".join), st.sampled_from(Form))
@settings(max_examples=400)
def test_it_reads_what_a_slow_reader_reads_out_of_scraps(text: str, form: Form) -> None:
    """text.md L17, L31"""
    assert encoded(within_bound(form, text)) == slowly(form, text)
    whole = CALL[form] % ('{"a": ' + text + "}")
    assert encoded(within_bound(form, whole)) == slowly(form, whole)
