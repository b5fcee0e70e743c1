"""The plain payload: a chat request in the shape of the IC LLM canister's `v1_chat`, plus sampling fields.

    ChatRequest.decode(payload, limits) -> ChatRequest     raises ChatRefused, nothing else
    request.encode()                    -> bytes           what a client seals or a test submits

A payload that fails here was ordered all the same and is answered with the refusal's code, so the codes and
the order in which they are looked for are part of docs/spec/order.md (O11 to O13): every cell must reach the
same one. All text but the model's name is held as `Prompt` and has no rendering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final, Self, TypeAlias, TypeVar

from attestation.consensus.chat_limits import ChatLimits
from foundation import cbor
from foundation import limits as agreed
from foundation.refusal import Refused, StagedRefused, shape, shown
from foundation.secrecy import Prompt

SEED_MAX: Final = (1 << 64) - 1
NOT_SERVED: Final = "model.not-served"
PENALTY_MICRO: Final = (-agreed.PENALTY_MICRO_MAX, agreed.PENALTY_MICRO_MAX)
REPETITION_PENALTY_MICRO: Final = (agreed.REPETITION_PENALTY_MICRO_MIN, agreed.REPETITION_PENALTY_MICRO_MAX)


class ChatRefused(StagedRefused):
    """A payload that is no chat request, or one beyond the profile's limits. Carries no word of it."""

    stage = "chat"


class ModelRefused(Refused):
    """A request for another model than the one that is served here (answer.md A25)."""

    stage = "model"

    def __init__(self) -> None:
        super().__init__(NOT_SERVED, expected="a name of the model that is served", got="another")


@dataclass(frozen=True, slots=True)
class Argument:
    name: Prompt
    value: Prompt


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: Prompt
    name: Prompt
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class UserMessage:
    content: Prompt


@dataclass(frozen=True, slots=True)
class SystemMessage:
    content: Prompt


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    content: Prompt | None
    tool_calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolMessage:
    content: Prompt
    tool_call_id: Prompt


Message: TypeAlias = UserMessage | SystemMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Property:
    type: Prompt
    name: Prompt
    description: Prompt | None
    enum: tuple[Prompt, ...] | None


@dataclass(frozen=True, slots=True)
class Parameters:
    type: Prompt
    properties: tuple[Property, ...] | None
    required: tuple[Prompt, ...] | None


@dataclass(frozen=True, slots=True)
class Tool:
    name: Prompt
    description: Prompt | None
    parameters: Parameters | None


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the client fixed; None leaves it to the profile. Integers only: a float has no one encoding."""

    temperature_micro: int | None = None
    top_p_micro: int | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[Prompt, ...] | None = None
    seed: int | None = None
    min_p_micro: int | None = None
    repetition_penalty_micro: int | None = None
    presence_penalty_micro: int | None = None
    frequency_penalty_micro: int | None = None
    logit_bias: tuple[tuple[int, int], ...] | None = None  # (token, millionths), tokens ascending


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A form for the words of an answer: a name, and the schema as JSON text, which nobody here reads."""

    name: Prompt
    schema: Prompt


class AnyForm(Enum):
    """Forms that need no schema. The values are on the chain."""

    TEXT = "text"  # the same as none
    JSON_OBJECT = "json_object"


ResponseFormat: TypeAlias = AnyForm | JsonSchema


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] | None = None
    sampling: Sampling | None = None
    response_format: ResponseFormat | None = None

    @classmethod
    def decode(cls, payload: Prompt, limits: ChatLimits) -> Self:
        """Strict, bounded, in one stated order of checks (O13)."""
        raw = payload.reveal()
        if len(raw) > limits.payload_bytes:
            raise ChatRefused("payload-size", expected=f"at most {limits.payload_bytes} bytes", got=len(raw))
        bounds = cbor.Limits(bytes_max=limits.payload_bytes, depth_max=_DEPTH_MAX, items_max=limits.items)
        try:
            value = cbor.decode(raw, bounds)
        except cbor.CborRefused:
            # One code for all of these: a receipt carries it, and decoders may differ in what they see first.
            raise ChatRefused(
                "encoding", expected="deterministic CBOR", got=f"{len(raw)} bytes of another form"
            ) from None
        fields = _map(value, "request", required=("model", "messages"), optional=_OPTIONAL)
        reader = _Reader(limits)
        return cls(
            model=_model(fields["model"]),
            messages=reader.messages(fields["messages"]),
            tools=_optional(fields, "tools", reader.tools),
            sampling=_optional(fields, "sampling", reader.sampling),
            response_format=_optional(fields, "response_format", reader.response_format),
        )

    def encode(self) -> bytes:
        """The payload. Does not look at limits: those are the reader's."""
        fields: _Map = {"model": self.model, "messages": [_message_value(m) for m in self.messages]}
        if self.tools is not None:
            fields["tools"] = [_tool_value(tool) for tool in self.tools]
        if self.sampling is not None:
            fields["sampling"] = _sampling_value(self.sampling)
        if self.response_format is not None:
            fields["response_format"] = _format_value(self.response_format)
        return cbor.encode(fields)


# --- reading ------------------------------------------------------------------------------------------------

_OPTIONAL: Final = ("tools", "sampling", "response_format")
_SAMPLING: Final = (
    "temperature_micro",
    "top_p_micro",
    "top_k",
    "max_tokens",
    "stop",
    "seed",
    "min_p_micro",
    "repetition_penalty_micro",
    "presence_penalty_micro",
    "frequency_penalty_micro",
    "logit_bias",
)
_DEPTH_MAX: Final = 8  # request, messages, message, calls, call, function, arguments, argument
_Map: TypeAlias = dict[cbor.Key, cbor.Value]
_T = TypeVar("_T")


class _Reader:
    """Decoded values in, types out, within `limits`.

    Constructor arguments are evaluated in the order written, and that order is O13's: keep it.
    """

    def __init__(self, limits: ChatLimits) -> None:
        self._limits = limits

    def messages(self, value: cbor.Value) -> tuple[Message, ...]:
        messages = _list(value, "messages", self._limits.messages, self._message)
        if not messages:
            raise ChatRefused("messages", expected="at least one message", got="none")
        return messages

    def _message(self, value: cbor.Value) -> Message:
        role = value.get("role") if isinstance(value, dict) else None
        match role:
            case "user":
                return UserMessage(self._text(_map(value, "message", ("role", "content"))["content"]))
            case "system":
                return SystemMessage(self._text(_map(value, "message", ("role", "content"))["content"]))
            case "assistant":
                fields = _map(value, "message", ("role", "tool_calls"), ("content",))
                return AssistantMessage(
                    _optional(fields, "content", self._text),
                    _list(fields["tool_calls"], "tool-calls", self._limits.tool_calls, self._call),
                )
            case "tool":
                fields = _map(value, "message", ("role", "content", "tool_call_id"))
                return ToolMessage(self._text(fields["content"]), self._text(fields["tool_call_id"]))
            case _:
                raise ChatRefused("role", expected="user, system, assistant or tool", got=shape(value))

    def _call(self, value: cbor.Value) -> ToolCall:
        fields = _map(value, "tool-call", ("id", "function"))
        function = _map(fields["function"], "function", ("name", "arguments"))
        return ToolCall(
            self._text(fields["id"]),
            self._text(function["name"]),
            _list(function["arguments"], "arguments", self._limits.arguments, self._argument),
        )

    def _argument(self, value: cbor.Value) -> Argument:
        fields = _map(value, "argument", ("name", "value"))
        return Argument(self._text(fields["name"]), self._text(fields["value"]))

    def tools(self, value: cbor.Value) -> tuple[Tool, ...]:
        return _list(value, "tools", self._limits.tools, self._tool)

    def _tool(self, value: cbor.Value) -> Tool:
        fields = _map(value, "tool", ("name",), ("description", "parameters"))
        return Tool(
            self._text(fields["name"]),
            _optional(fields, "description", self._text),
            _optional(fields, "parameters", self._parameters),
        )

    def _parameters(self, value: cbor.Value) -> Parameters:
        fields = _map(value, "parameters", ("type",), ("properties", "required"))
        return Parameters(
            self._text(fields["type"]),
            _optional(fields, "properties", self._properties),
            _optional(fields, "required", self._names),
        )

    def _properties(self, value: cbor.Value) -> tuple[Property, ...]:
        return _list(value, "properties", self._limits.properties, self._property)

    def _property(self, value: cbor.Value) -> Property:
        fields = _map(value, "property", ("type", "name"), ("description", "enum"))
        return Property(
            self._text(fields["type"]),
            self._text(fields["name"]),
            _optional(fields, "description", self._text),
            _optional(fields, "enum", self._names),
        )

    def _names(self, value: cbor.Value) -> tuple[Prompt, ...]:
        return _list(value, "names", self._limits.properties, self._text)

    def sampling(self, value: cbor.Value) -> Sampling:
        fields, limits = _map(value, "sampling", (), _SAMPLING), self._limits
        return Sampling(
            temperature_micro=_integer(fields, "temperature_micro", 0, limits.temperature_micro),
            top_p_micro=_integer(fields, "top_p_micro", 1, agreed.TOP_P_MICRO_MAX),
            top_k=_integer(fields, "top_k", 1, limits.top_k),
            max_tokens=_integer(fields, "max_tokens", 1, limits.max_tokens),
            stop=_optional(fields, "stop", self._stops),
            seed=_integer(fields, "seed", 0, SEED_MAX),
            min_p_micro=_integer(fields, "min_p_micro", 0, agreed.MIN_P_MICRO_MAX),
            repetition_penalty_micro=_integer(fields, "repetition_penalty_micro", *REPETITION_PENALTY_MICRO),
            presence_penalty_micro=_integer(fields, "presence_penalty_micro", *PENALTY_MICRO),
            frequency_penalty_micro=_integer(fields, "frequency_penalty_micro", *PENALTY_MICRO),
            logit_bias=_optional(fields, "logit_bias", self._biases),
        )

    def response_format(self, value: cbor.Value) -> ResponseFormat:
        match value.get("type") if isinstance(value, dict) else None:
            case "json_schema":
                fields = _map(value, "response-format", ("type", "name", "schema"))
                return JsonSchema(self._text(fields["name"]), self._text(fields["schema"]))
            case "text" | "json_object" as form:
                _map(value, "response-format", ("type",))
                return AnyForm(form)
            case _:
                raise ChatRefused("response-format", expected="text, json_object or json_schema", got=shape(value))

    def _biases(self, value: cbor.Value) -> tuple[tuple[int, int], ...]:
        biases = _list(value, "logit-bias", self._limits.logit_biases, _bias)
        if any(one >= next_one for (one, _), (next_one, _) in pairwise(biases)):
            raise ChatRefused(
                "logit-bias", expected="tokens ascending", got="a token that is not above its predecessor"
            )
        return biases

    def _stops(self, value: cbor.Value) -> tuple[Prompt, ...]:
        return _list(value, "stop", self._limits.stops, self._stop)

    def _stop(self, value: cbor.Value) -> Prompt:
        # An empty stop text would end every answer before it began.
        if value == "":
            raise ChatRefused("stop", expected="a text of one byte or more", got="an empty text")
        return _text(value, self._limits.stop_bytes)

    def _text(self, value: cbor.Value) -> Prompt:
        return _text(value, self._limits.text_bytes)


def _bias(value: cbor.Value) -> tuple[int, int]:
    match value:
        case [int(token), int(bias)] if (
            type(token) is type(bias) is int
            and 0 <= token <= agreed.BIASED_TOKEN_MAX
            and abs(bias) <= agreed.LOGIT_BIAS_MICRO_MAX
        ):
            return token, bias
        case _:
            raise ChatRefused("logit-bias", expected="a token and its bias, both in range", got=shape(value))


def is_model_name(name: str) -> bool:
    """What a request can name a model by: printable ASCII without a space, and short."""
    return 1 <= len(name) <= agreed.MODEL_BYTES_MAX and all("!" <= character <= "~" for character in name)


def _model(value: cbor.Value) -> str:
    # Public and harmless: the one text of a request that is ever written to a log.
    if not isinstance(value, str) or not 1 <= len(value) <= agreed.MODEL_BYTES_MAX:
        raise ChatRefused("model", expected=f"1 to {agreed.MODEL_BYTES_MAX} characters", got=shape(value))
    if not is_model_name(value):
        raise ChatRefused("model", expected="printable ASCII", got=shown(value))
    return value


def _text(value: cbor.Value, bytes_max: int) -> Prompt:
    if not isinstance(value, str):
        raise ChatRefused("text", expected="text", got=type(value).__name__)
    raw = value.encode()
    if len(raw) > bytes_max:
        raise ChatRefused("text-size", expected=f"at most {bytes_max} bytes", got=len(raw))
    return Prompt(raw)


def _map(value: cbor.Value, field: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> _Map:
    if not isinstance(value, dict):
        raise ChatRefused(field, expected="a map", got=type(value).__name__)
    for name in required:
        if name not in value:
            raise ChatRefused(field, expected=f"the field {name}", got="none")
    if any(name not in required and name not in optional for name in value):
        raise ChatRefused(
            field,
            expected=f"only {', '.join((*required, *optional))}",
            got=f"{len(value)} fields, one of them not among these",
        )
    return value


def _list(value: cbor.Value, field: str, length_max: int, read: Callable[[cbor.Value], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise ChatRefused(field, expected="an array", got=type(value).__name__)
    if len(value) > length_max:
        raise ChatRefused(field, expected=f"at most {length_max}", got=len(value))
    return tuple([read(item) for item in value])


def _optional(fields: _Map, name: str, read: Callable[[cbor.Value], _T]) -> _T | None:
    return read(fields[name]) if name in fields else None


def _integer(fields: _Map, name: str, least: int, most: int) -> int | None:
    if name not in fields:
        return None
    value = fields[name]
    if type(value) is not int or not least <= value <= most:
        got = value if type(value) is int else type(value).__name__
        raise ChatRefused(name.replace("_", "-"), expected=f"{least} to {most}", got=got)
    return value


# --- writing ------------------------------------------------------------------------------------------------


def encode_message(message: Message) -> bytes:
    """One message by itself, as it stands in a request."""
    return cbor.encode(_message_value(message))


def _message_value(message: Message) -> cbor.Value:
    match message:
        case UserMessage(content):
            return {"role": "user", "content": _str(content)}
        case SystemMessage(content):
            return {"role": "system", "content": _str(content)}
        case AssistantMessage(content, calls):
            spoken: _Map = {"role": "assistant", "tool_calls": [_call_value(call) for call in calls]}
            return spoken if content is None else {**spoken, "content": _str(content)}
        case ToolMessage(content, call_id):
            return {"role": "tool", "content": _str(content), "tool_call_id": _str(call_id)}


def _call_value(call: ToolCall) -> cbor.Value:
    arguments: list[cbor.Value] = [{"name": _str(a.name), "value": _str(a.value)} for a in call.arguments]
    return {"id": _str(call.id), "function": {"name": _str(call.name), "arguments": arguments}}


def _tool_value(tool: Tool) -> cbor.Value:
    fields: _Map = {"name": _str(tool.name)}
    if tool.description is not None:
        fields["description"] = _str(tool.description)
    if tool.parameters is not None:
        fields["parameters"] = _parameters_value(tool.parameters)
    return fields


def _parameters_value(parameters: Parameters) -> cbor.Value:
    fields: _Map = {"type": _str(parameters.type)}
    if parameters.properties is not None:
        fields["properties"] = [_property_value(each) for each in parameters.properties]
    if parameters.required is not None:
        fields["required"] = [_str(name) for name in parameters.required]
    return fields


def _property_value(each: Property) -> cbor.Value:
    fields: _Map = {"type": _str(each.type), "name": _str(each.name)}
    if each.description is not None:
        fields["description"] = _str(each.description)
    if each.enum is not None:
        fields["enum"] = [_str(value) for value in each.enum]
    return fields


def _sampling_value(sampling: Sampling) -> cbor.Value:
    fields: _Map = {}
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if isinstance(value, int):
            fields[name] = value
    if sampling.stop is not None:
        fields["stop"] = [_str(text) for text in sampling.stop]
    if sampling.logit_bias is not None:
        fields["logit_bias"] = [[token, bias] for token, bias in sampling.logit_bias]
    return fields


def _format_value(form: ResponseFormat) -> cbor.Value:
    match form:
        case JsonSchema(name, schema):
            return {"type": "json_schema", "name": _str(name), "schema": _str(schema)}
        case AnyForm():
            return {"type": form.value}


def _str(text: Prompt) -> str:
    return text.reveal().decode()
