"""Parses tool calls, as models write them, into the calls of `v1_chat`.

    HERMES    content, then <tool_call>{"name": ..., "arguments": {...}}</tool_call> once or more     (Qwen, Hermes)
    LLAMA     {"name": ..., "parameters": {...}}, several parted by a semicolon                       (Llama 3)
    MISTRAL   [{"name": ..., "arguments": {...}}, ...]                                                (Mistral)

Either all of an answer reads as calls of tools that were offered, or none of it does and it is words (text.md L17).
Reading goes forward only, by `scanning.Scan`, and ends at the first character that does not fit (text.md L31).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from appliance.text.scanning import Scan, Unfit
from attestation.consensus.chat import Argument, AssistantMessage, ToolCall
from foundation.secrecy import Prompt

CALLS_MAX: Final = 64
_OPENS: Final = "<tool_call>"
_CLOSES: Final = "</tool_call>"


class Form(Enum):
    HERMES = "hermes"
    LLAMA = "llama"
    MISTRAL = "mistral"


_Call: TypeAlias = tuple[str, dict[str, str]]


def read_calls(form: Form, words: str, offered: frozenset[str], *, first: int) -> AssistantMessage | None:
    """The message that `words` stand for, its calls numbered from `first`; None if they are words."""
    return scan_calls(form, Scan(words), offered, first=first)


def scan_calls(form: Form, scan: Scan, offered: frozenset[str], *, first: int) -> AssistantMessage | None:
    """The same of a scan that has not begun; how much it looked at can be read from it afterwards."""
    try:
        content, calls = _read(form, scan)
    except Unfit:
        return None
    if not calls or any(name not in offered for name, _ in calls):
        return None
    return AssistantMessage(
        Prompt(content.encode()) if content else None,
        tuple(_call(number, *call) for number, call in enumerate(calls, first)),
    )


def _read(form: Form, scan: Scan) -> tuple[str, list[_Call]]:
    match form:
        case Form.HERMES:
            return _blocks(scan)
        case Form.LLAMA:
            return "", _several(scan, "parameters", begin="", between=";", end="")
        case Form.MISTRAL:
            return "", _several(scan, "arguments", begin="[", between=",", end="]")


def _blocks(scan: Scan) -> tuple[str, list[_Call]]:
    content, calls = "", list[_Call]()
    while (before := scan.before(_OPENS)) is not None:
        if calls and before.strip():
            raise Unfit
        content = content or before.strip()
        if (block := scan.before(_CLOSES)) is None:
            raise Unfit
        inside = Scan(block)
        try:
            calls += _several(inside, "arguments", begin="", between="", end="")
        finally:
            scan.looks += inside.looks
        _check_number(calls)
    if not scan.at_end():
        raise Unfit
    return content, calls


def _several(scan: Scan, member: str, *, begin: str, between: str, end: str) -> list[_Call]:
    calls: list[_Call] = []
    scan.past(begin)
    depth = len(begin) + 1
    while True:
        calls.append(_one(scan, member, depth))
        _check_number(calls)
        if not between or not scan.sees(between):
            break
        scan.past(between)
    scan.past(end)
    if not scan.at_end():
        raise Unfit
    return calls


def _check_number(calls: list[_Call]) -> None:
    if len(calls) > CALLS_MAX:
        raise Unfit


def _one(scan: Scan, member: str, depth: int) -> _Call:
    name: str | None = None
    arguments: dict[str, str] | None = None
    for key in scan.members():
        if key == "name" and name is None:
            name = scan.string()
        elif key == member and arguments is None:
            arguments = _arguments(scan, depth + 1)
        else:
            raise Unfit
    if name is None or arguments is None:
        raise Unfit
    return name, arguments


def _arguments(scan: Scan, depth: int) -> dict[str, str]:
    """A text as itself, anything else as it was written (text.md L18)."""
    arguments: dict[str, str] = {}
    for key in scan.members():
        if key in arguments:
            raise Unfit
        arguments[key] = scan.string() if scan.sees('"') else scan.written(depth)
    return arguments


def _call(number: int, name: str, arguments: dict[str, str]) -> ToolCall:
    return ToolCall(
        Prompt(f"call{number:05}".encode()),
        Prompt(name.encode()),
        tuple(Argument(Prompt(key.encode()), Prompt(value.encode())) for key, value in arguments.items()),
    )
