"""A grammar of what apps may ask and what models may say, and the cases that once broke something.

    pair = pair_of(Drawn(random.Random(1)))     at random, or out of a fuzzer's bytes: Drawn.of_bytes(data)

Every choice is `below(n)` of a `Choices`, so one grammar serves tests and coverage-guided fuzzing. Odd values are the
rule here: marks of templates and tokens, escapes that are no character, numbers no machine holds, nesting to a bound
and beyond it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from attestation.consensus.chat import (
    AnyForm,
    Argument,
    AssistantMessage,
    ChatRequest,
    JsonSchema,
    Message,
    Parameters,
    Property,
    ResponseFormat,
    Sampling,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from foundation.secrecy import Prompt
from tests import little_text

T = TypeVar("T")

ODD = (
    "",
    "a",
    "f",
    "g",
    "call00000",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "[INST]",
    "[TOOL_CALLS]",
    "<|eot_id|>",
    "<|python_tag|>",
    "</s>",
    '"',
    "'",
    "\\",
    '\\"',
    "\\u",
    "\\ud800",
    "\\udc00\\ud800",
    "\\u0000",
    "{",
    "}",
    "[",
    "]",
    ";",
    ",",
    ":",
    "{{",
    "{%",
    "}}",
    "%}",
    "{#",
    "null",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 400,
    "0x",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\x00",
    "\x1f",
    "\x7f",
    "\u0085",
    "\u2028",
    "\ufeff",
    "\ufffd",
    "\ufdd0",
    "\ufdef",
    "\U0010ffff",
    "é",
    "e\u0301",
    "日",
    "ß",
    "İ",
    "ﬁ",
    "ǆ",
    "\u202e",
    "\u0661",
    "²",
    "__class__",
    "name",
    "arguments",
    "parameters",
    "constructor",
    "object",
    "string",
)
PLAIN_ODD = tuple(each for each in ODD if each not in ("\ufdd0", "\ufdef"))
FOUND = (
    '<tool_call>{"name": "f", "arguments": {"\\ud800": 1}}</tool_call>',
    '{"name": "f", "parameters": {"\\ud800": 1}}',
    '[{"name": "f", "arguments": {"a\\udfff": "b"}}]',
    '<tool_call>{"name": "f\\ud800", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * 3000 + "]" * 3000 + "}}</tool_call>",
    '{"name": "f", "parameters": {"a": ' + "9" * 5000 + "}}",
    '{"name": "f", "parameters": {"a": NaN, "b": 1e999}}',
    "<tool_call>" * 400,
    '{"' + '\\"' * 800,
    '{"name": "f", "parameters": {' + ",".join(f'"{n}": {n}' for n in range(70)) + "}}",
    "; ".join(['{"name": "f", "parameters": {}}'] * 66),
)


class Choices(Protocol):
    def below(self, n: int) -> int:
        """0 to n - 1."""
        ...


class Drawn:
    """Choices from a random source."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def below(self, n: int) -> int:
        return self._source.randrange(n)


class Read:
    """Choices from a fuzzer's bytes, two for each; 0 once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, n: int) -> int:
        raw, self._at = self._data[self._at : self._at + 2], self._at + 2
        return int.from_bytes(raw, "big") % n


@dataclass(frozen=True)
class Pair:
    """One request and the tokens an engine answers it with; None for the engine's own."""

    family: str
    payload: bytes
    sealed: bool
    streams: bool
    says: tuple[int, ...] | None


def pair_of(choices: Choices) -> Pair:
    family = _one(choices, little_text.FAMILIES)
    payload = chat_of(choices).encode()
    if choices.below(16) == 0:
        payload = _damaged(choices, payload)
    return Pair(
        family, payload, sealed=choices.below(2) == 1, streams=choices.below(2) == 1, says=_said(choices, family)
    )


def chat_of(choices: Choices) -> ChatRequest:
    offers = choices.below(4) > 0
    return ChatRequest(
        _one(choices, ("other", "llama3.1:8b", "M")) if choices.below(64) == 0 else "m",
        _several(choices, 1, 4, _message),
        _several(choices, 0 if choices.below(8) == 0 else 1, 3, _tool) if offers else None,
        _sampling(choices) if choices.below(4) > 0 else None,
        _form(choices) if choices.below(16) == 0 else None,
    )


def words_of(choices: Choices, family: str) -> str:
    """What a model says: calls as its family writes them, nearly that, or anything."""
    match choices.below(8):
        case 0:
            return _one(choices, FOUND)
        case 1:
            return _text(choices, 30)
        case 2:
            return _calls_written(choices, _one(choices, little_text.FAMILIES))
        case 3 | 4:
            whole = _calls_written(choices, family)
            at = choices.below(len(whole) + 1)
            return whole[:at] + _one(choices, ODD) + whole[at + choices.below(3) :]
        case _:
            return _calls_written(choices, family)


def _calls_written(choices: Choices, family: str) -> str:
    member = "parameters" if family == "llama3" else "arguments"
    calls = [_call_written(choices, member) for _ in range(1 + choices.below(3))]
    match family:
        case "chatml":
            return _one(choices, ("", "", "So.\n")) + "\n".join(f"<tool_call>{call}</tool_call>" for call in calls)
        case "llama3":
            return _one(choices, (";", "; ", " ;\n")).join(calls)
        case _:
            return f"[{', '.join(calls)}]"


# -- requests


def _message(choices: Choices) -> Message:
    match choices.below(9):
        case 0:
            return SystemMessage(_prompt(choices, 3))
        case 1:
            return ToolMessage(_prompt(choices, 3), _prompt(choices, 1))
        case 2 | 3:
            content = _prompt(choices, 3) if choices.below(2) else None
            return AssistantMessage(content, _several(choices, 0, 3, _call))
        case _:
            return UserMessage(_prompt(choices, 6))


def _call(choices: Choices) -> ToolCall:
    return ToolCall(_prompt(choices, 1), _prompt(choices, 1), _several(choices, 0, 3, _argument))


def _argument(choices: Choices) -> Argument:
    return Argument(_prompt(choices, 1), _prompt(choices, 2))


def _tool(choices: Choices) -> Tool:
    name = Prompt(_one(choices, ("f", "g", "f", "f", _text(choices, 1))).encode())
    return Tool(name, _maybe(choices, lambda c: _prompt(c, 3)), _maybe(choices, _parameters))


def _parameters(choices: Choices) -> Parameters:
    return Parameters(
        _prompt(choices, 1), _maybe(choices, lambda c: _several(c, 0, 3, _property)), _maybe(choices, _names)
    )


def _property(choices: Choices) -> Property:
    return Property(
        _prompt(choices, 1), _prompt(choices, 1), _maybe(choices, lambda c: _prompt(c, 2)), _maybe(choices, _names)
    )


def _names(choices: Choices) -> tuple[Prompt, ...]:
    return _several(choices, 0, 3, lambda c: _prompt(c, 1))


def _sampling(choices: Choices) -> Sampling:
    stops = _several(choices, 0, 4, lambda c: Prompt((_text(c, 2)[:40] or "x").encode()))
    return Sampling(
        temperature_micro=_one(choices, (None, 0, 1, 2_000_000)),
        top_p_micro=_one(choices, (None, 1, 1_000_000)),
        top_k=_one(choices, (None, 1, 1 << 20)),
        max_tokens=_one(choices, (None, None, None, None, 1, 16, 17, 300, 32768)),
        stop=stops if choices.below(4) == 0 else None,
        seed=_one(choices, (None, 0, (1 << 64) - 1)),
        min_p_micro=_one(choices, (None, 0, 1_000_000)),
        repetition_penalty_micro=_one(choices, (None, 100_000, 10_000_000)),
        presence_penalty_micro=_one(choices, (None, -2_000_000, 2_000_000)),
        frequency_penalty_micro=_one(choices, (None, -2_000_000, 2_000_000)),
        logit_bias=_one(choices, (None, (), ((0, 1), ((1 << 20) - 1, -100_000_000)), ((5, 100_000_000),))),
    )


def _form(choices: Choices) -> ResponseFormat:
    schema = JsonSchema(_prompt(choices, 1), Prompt(_json(choices).encode()))
    return _one(choices, (AnyForm.TEXT, AnyForm.TEXT, AnyForm.JSON_OBJECT, schema))


def _damaged(choices: Choices, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(1 + choices.below(3)):
        data[choices.below(len(data))] = choices.below(256)
    return bytes(data)


# -- what is said


def _said(choices: Choices, family: str) -> tuple[int, ...] | None:
    match choices.below(8):
        case 0:
            return None
        case 1:
            return tuple(choices.below(440) for _ in range(choices.below(60)))
        case _:
            return tuple(little_text.tokenizer(family).encode(words_of(choices, family), add_special_tokens=False).ids)


def _call_written(choices: Choices, member: str) -> str:
    if choices.below(16) == 0:
        member = _one(choices, ("arguments", "parameters", "\\u0061rguments"))
    name = _one(choices, ('"g"', '"\\u0066"', '"f\\ud800"', _json(choices))) if choices.below(6) == 0 else '"f"'
    arguments = _json(choices) if choices.below(16) == 0 else _object(choices, 2)
    parts = [f'"name": {name}', f'"{member}": {arguments}']
    if choices.below(16) == 0:
        parts.insert(choices.below(3), f"{_key(choices)}: {_json(choices)}")
    if choices.below(4) == 0:
        parts.reverse()
    return "{" + ", ".join(parts) + "}"


def _object(choices: Choices, depth: int) -> str:
    return "{" + ",".join(f"{_key(choices)}:{_json(choices, depth)}" for _ in range(choices.below(4))) + "}"


def _key(choices: Choices) -> str:
    odd = ('"\\u0061"', '"\\ud800"', '"\\ud83d\\ude00"', "a", json.dumps(_text(choices, 1)))
    return _one(choices, odd) if choices.below(6) == 0 else _one(choices, ('"a"', '"b"', '"c"', '"d"', '"e"'))


def _json(choices: Choices, depth: int = 0) -> str:
    match choices.below(10):
        case 0 | 1:
            return json.dumps(_text(choices, 2), ensure_ascii=choices.below(2) == 1)
        case 2:
            return f'"{_text(choices, 1)}"'
        case 3:
            return _one(choices, ("null", "true", "-0", "1.50", "1E+5", "0.1e-7", "9" * 5000))
        case 4:
            return _one(choices, ("NaN", "-Infinity", "-", "01", "tru", "1.")) if choices.below(4) == 0 else "2"
        case 5 | 6 if depth < 6:
            return "[" + ",".join(_json(choices, depth + 1) for _ in range(choices.below(4))) + "]"
        case 7 if depth < 6:
            return _object(choices, depth + 1)
        case 8:
            opened = _one(choices, (1, 2, 29, 30, 31, 32, 33, 1500))
            return "[" * opened + "]" * (opened if choices.below(8) else choices.below(opened))
        case _:
            return '"x"'


# -- pieces


def _text(choices: Choices, pieces: int) -> str:
    return "".join(
        chr(_character(choices)) if choices.below(4) == 0 else _one(choices, PLAIN_ODD if choices.below(64) else ODD)
        for _ in range(choices.below(pieces + 1))
    )


def _character(choices: Choices) -> int:
    match choices.below(4):
        case 0:
            return 0x20 + choices.below(0x60)
        case 1:
            return choices.below(0x800)
        case 2:
            return 0xE000 + choices.below(0x1DC0)  # up to U+FDBF
        case _:
            return 0x10000 + choices.below(0x100000)


def _prompt(choices: Choices, pieces: int) -> Prompt:
    return Prompt(_text(choices, pieces).encode())


def _one(choices: Choices, options: Sequence[T]) -> T:
    return options[choices.below(len(options))]


def _maybe(choices: Choices, make: Callable[[Choices], T]) -> T | None:
    return make(choices) if choices.below(2) else None


def _several(choices: Choices, least: int, below: int, make: Callable[[Choices], T]) -> tuple[T, ...]:
    return tuple(make(choices) for _ in range(least + choices.below(below - least)))
