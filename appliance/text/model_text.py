"""A model's text processing: its tokenizer, its template and its stop tokens, from the files of its pack.

text = ModelText.of(files, context_tokens=8192)
prompt = text.render(chat)              ids for the engine, or PromptRefused
listener = text.listen(chat)            ids from the engine back to words
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from appliance.text.conversation import variables
from appliance.text.errors import ModelTextRefused, PromptRefused
from appliance.text.listener import Listener
from appliance.text.template import Template
from appliance.text.tokenizer import Tokenizer
from appliance.text.tool_calls import Form, read_calls
from appliance.text.veil import Veil
from attestation.consensus.chat import AssistantMessage, ChatRequest
from foundation.document import json_object
from foundation.refusal import listed, outline, shown
from measurements.pack.files import SMALL_BYTES_MAX, TEMPLATE

FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config.json",
    TEMPLATE,
)
_NAMED_TOKENS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
_FORMS: Final = (("<tool_call>", Form.HERMES), ("<|python_tag|>", Form.LLAMA), ("[TOOL_CALLS]", Form.MISTRAL))


@dataclass(frozen=True, slots=True)
class ModelText:
    """Satisfies `appliance.text.Text`."""

    context_tokens: int
    stop_tokens: frozenset[int]
    _tokenizer: Tokenizer
    _template: Template
    _veil: Veil
    _named: Mapping[str, str]
    _form: Form | None

    @classmethod
    def of(cls, files: Mapping[str, bytes], *, context_tokens: int) -> Self:
        """From the files by name. Raises `ModelTextRefused` alone."""
        tokenizer = Tokenizer.parse(_file(files, "tokenizer.json"))
        template = Template(_template(files))
        named = _named_tokens(files)
        form = next((form for token, form in _FORMS if token in tokenizer.control), None)
        return cls(
            context_tokens,
            _stop_tokens(files, tokenizer, named),
            tokenizer,
            template,
            Veil(tokenizer.control),
            named,
            form if "tools" in template.variables else None,
        )

    def render(self, chat: ChatRequest) -> tuple[int, ...]:
        """The prompt's token ids. Raises `PromptRefused` alone."""
        if chat.tools and self._form is None:
            raise PromptRefused("tools", expected="no tools: this model calls none", got="a request with tools")
        rendered = self._template.render({**self._named, **variables(chat, self._veil.over)})
        prompt = self._tokenizer.encode(rendered, self._veil)
        if not prompt:
            raise PromptRefused("empty", expected="at least one token", got="none")
        return prompt

    def listen(self, chat: ChatRequest) -> Listener:
        """For one answer to `chat`."""
        stops = chat.sampling.stop if chat.sampling and chat.sampling.stop else ()
        return Listener(
            self._tokenizer.pieces,
            [stop.reveal().decode() for stop in stops],
            strips_first_space=self._tokenizer.strips_first_space,
            read_calls=_reader(self._form, chat) if chat.tools and self._form is not None else None,
        )


def _reader(form: Form, chat: ChatRequest) -> Callable[[str], AssistantMessage | None]:
    """Reads calls of the tools that `chat` offers, numbered on from those it already holds."""
    offered = frozenset(tool.name.reveal().decode() for tool in chat.tools or ())
    first = sum(len(message.tool_calls) for message in chat.messages if isinstance(message, AssistantMessage))
    return lambda words: read_calls(form, words, offered, first=first)


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    try:
        return files[name]
    except KeyError:
        raise ModelTextRefused("file", expected=name, got="none") from None


def _template(files: Mapping[str, bytes]) -> str:
    try:
        return _file(files, TEMPLATE).decode()
    except UnicodeDecodeError:
        raise ModelTextRefused(
            "template.encoding", expected="UTF-8", got=f"{len(_file(files, TEMPLATE))} bytes that are not UTF-8"
        ) from None


def _object(files: Mapping[str, bytes], name: str) -> Mapping[str, object]:
    if name not in files:
        return {}
    return json_object(files[name], "file", ModelTextRefused, bytes_max=SMALL_BYTES_MAX, called=name, floats=True)


def _named_tokens(files: Mapping[str, bytes]) -> Mapping[str, str]:
    """`bos_token` and its like, as templates know them."""
    named: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        members = _object(files, name)
        for token in _NAMED_TOKENS:
            match members.get(token):
                case str(content) | {"content": str(content)}:
                    named[token] = content
                case None:
                    pass
                case _:
                    raise ModelTextRefused(
                        f"file.{token}", expected=f"a token's text in {name}", got=outline(members.get(token))
                    )
    return named


def _stop_tokens(files: Mapping[str, bytes], tokenizer: Tokenizer, named: Mapping[str, str]) -> frozenset[int]:
    """text.md L12: every token that one of the model's files names as an end."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        match _object(files, name).get("eos_token_id"):
            case int(number):
                found.add(number)
            case list() as numbers if all(type(number) is int for number in numbers):
                found |= set(numbers)
            case None:
                pass
            case _:
                raise ModelTextRefused(
                    "file.eos_token_id",
                    expected=f"token numbers in {name}",
                    got=shown(_object(files, name).get("eos_token_id")),
                )
    if (end := named.get("eos_token")) is not None and end in tokenizer.control:
        found.add(tokenizer.control[end])
    if not found or not all(0 <= number < len(tokenizer.pieces) for number in found):
        raise ModelTextRefused("file.eos_token_id", expected="tokens of the tokenizer, at least one", got=listed(found))
    return frozenset(found)
