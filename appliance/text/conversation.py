"""A chat request as the plain data that chat templates read.

Roles and the names of fields are ours; every text of the client's goes through the veil.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, assert_never

from attestation.consensus.chat import (
    AssistantMessage,
    ChatRequest,
    Message,
    Property,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from foundation.secrecy import Prompt

Plain: TypeAlias = dict[str, object]
Over: TypeAlias = Callable[[str], str]


def variables(chat: ChatRequest, over: Over) -> Plain:
    """text.md L4: what a template is given of a request."""
    told = _Telling(over)
    return {
        "messages": [told.message(message) for message in chat.messages],
        "tools": [told.tool(tool) for tool in chat.tools] if chat.tools else None,
        "add_generation_prompt": True,
    }


class _Telling:
    def __init__(self, over: Over) -> None:
        self._over = over
        self._called: dict[str, str] = {}  # the name of the tool behind each call so far

    def message(self, message: Message) -> Plain:
        match message:
            case UserMessage(content):
                return {"role": "user", "content": self._text(content)}
            case SystemMessage(content):
                return {"role": "system", "content": self._text(content)}
            case AssistantMessage(content, calls):
                said: Plain = {"role": "assistant", "content": self._text(content) if content is not None else ""}
                return {**said, "tool_calls": [self._call(call) for call in calls]} if calls else said
            case ToolMessage(content, call_id):
                answer: Plain = {"role": "tool", "content": self._text(content), "tool_call_id": self._text(call_id)}
                name = self._called.get(self._text(call_id))
                return answer if name is None else {**answer, "name": name}
            case _:
                assert_never(message)

    def tool(self, tool: Tool) -> Plain:
        function: Plain = {"name": self._text(tool.name)}
        if tool.description is not None:
            function["description"] = self._text(tool.description)
        parameters: Plain = {"type": "object", "properties": {}}
        if tool.parameters is not None:
            parameters = {
                "type": self._text(tool.parameters.type),
                "properties": {self._text(p.name): self._property(p) for p in tool.parameters.properties or ()},
            }
            if tool.parameters.required is not None:
                parameters["required"] = [self._text(name) for name in tool.parameters.required]
        return {"type": "function", "function": {**function, "parameters": parameters}}

    def _property(self, each: Property) -> Plain:
        told: Plain = {"type": self._text(each.type)}
        if each.description is not None:
            told["description"] = self._text(each.description)
        if each.enum is not None:
            told["enum"] = [self._text(value) for value in each.enum]
        return told

    def _call(self, call: ToolCall) -> Plain:
        name, call_id = self._text(call.name), self._text(call.id)
        self._called[call_id] = name
        arguments = {self._text(argument.name): self._text(argument.value) for argument in call.arguments}
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _text(self, words: Prompt) -> str:
        return self._over(words.reveal().decode())
