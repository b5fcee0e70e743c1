"""Tool calls read by regular expressions and Python's own JSON: slow and short, to compare `tool_calls.py` with.

Its time grows with the square of some texts, and it raises where a key is no character (`UnicodeEncodeError`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NoReturn

from appliance.text.scanning import DEPTH_MAX
from appliance.text.tool_calls import CALLS_MAX, Form
from attestation.consensus.chat import Argument, AssistantMessage, ToolCall
from foundation.secrecy import Prompt

_BLOCK: Final = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class _NotCalls(Exception):
    """The words are words."""


def read_calls(form: Form, words: str, offered: frozenset[str], *, first: int) -> AssistantMessage | None:
    """The message that `words` stand for, its calls numbered from `first`; None if they are words."""
    try:
        content, calls = _read(form, words)
    except _NotCalls:
        return None
    if not calls or len(calls) > CALLS_MAX or any(name not in offered for name, _ in calls):
        return None
    return AssistantMessage(
        Prompt(content.encode()) if content else None,
        tuple(_call(number, *call) for number, call in enumerate(calls, first)),
    )


_Call = tuple[str, dict[str, str]]


def _read(form: Form, words: str) -> tuple[str, list[_Call]]:
    match form:
        case Form.HERMES:
            content, blocks = _blocks(words)
            return content, [_one(block, "arguments") for block in blocks]
        case Form.LLAMA:
            return "", list(_several(words, "parameters", begin="", between=";", end=""))
        case Form.MISTRAL:
            return "", list(_several(words, "arguments", begin="[", between=",", end="]"))


def _blocks(words: str) -> tuple[str, list[str]]:
    blocks: list[str] = []
    at, content = 0, ""
    for found in _BLOCK.finditer(words):
        before = words[at : found.start()].strip()
        if blocks and before:
            raise _NotCalls
        content = content or before
        blocks.append(found[1])
        at = found.end()
    if words[at:].strip():
        raise _NotCalls
    return content, blocks


def _call(number: int, name: str, arguments: dict[str, str]) -> ToolCall:
    return ToolCall(
        Prompt(f"call{number:05}".encode()),
        Prompt(name.encode()),
        tuple(Argument(Prompt(key.encode()), Prompt(value.encode())) for key, value in arguments.items()),
    )


# -- a little JSON that keeps the text of each value ----------------------------------------------------------------


def _refuse(_: str) -> NoReturn:
    raise ValueError("not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=str, parse_int=str)


def _one(text: str, member: str) -> _Call:
    (call,) = _several(text, member, begin="", between="", end="")
    return call


def _several(text: str, member: str, *, begin: str, between: str, end: str) -> Iterator[_Call]:
    if _depth(text) > DEPTH_MAX:
        raise _NotCalls
    at = _past(text, 0, begin)
    while True:
        call, at = _object(text, at)
        yield _as_call(text, call, member)
        at = _blank(text, at)
        if not between or not text.startswith(between, at):
            break
        at += 1
    if _blank(text, _past(text, at, end)) != len(text):
        raise _NotCalls


def _as_call(text: str, members: dict[str, tuple[int, int]], member: str) -> _Call:
    if set(members) != {"name", member}:
        raise _NotCalls
    name = _value(text, *members["name"])
    begin, end = members[member]
    if not text.startswith('"', members["name"][0]) or not text.startswith("{", begin):
        raise _NotCalls
    arguments, at = _object(text, begin)
    if at != end:
        raise _NotCalls
    return name, {key: _value(text, *span) for key, span in arguments.items()}


def _object(text: str, at: int) -> tuple[dict[str, tuple[int, int]], int]:
    """The members of the object at `at`: where the value of each begins and ends."""
    members: dict[str, tuple[int, int]] = {}
    at = _blank(text, _past(text, at, "{"))
    while not text.startswith("}", at):
        if members:
            at = _past(text, at, ",")
        begin = _blank(text, at)
        name, at = _scan(text, begin)
        if not text.startswith('"', begin) or not isinstance(name, str) or name in members:
            raise _NotCalls
        begin = _blank(text, _past(text, at, ":"))
        _, at = _scan(text, begin)
        members[name] = (begin, at)
        at = _blank(text, at)
    return members, at + 1


def _value(text: str, begin: int, end: int) -> str:
    """A text as itself, anything else as it was written."""
    value = _scan(text, begin)[0] if text.startswith('"', begin) else text[begin:end]
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise _NotCalls
    return value


def _scan(text: str, at: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except ValueError:
        raise _NotCalls from None


def _past(text: str, at: int, mark: str) -> int:
    at = _blank(text, at)
    if not text.startswith(mark, at):
        raise _NotCalls
    return at + len(mark)


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in _TEXT.sub("", text):
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest
