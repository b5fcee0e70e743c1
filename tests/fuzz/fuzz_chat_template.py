"""Invariant: whatever the source, a chat template is refused with ModelTextRefused, or writes text or is refused with
PromptRefused over any conversation; twice over the same conversation, the same.
"""

from __future__ import annotations

from appliance.text import ModelTextRefused, PromptRefused
from appliance.text.template import Template

TALK = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "<u> {{ }}"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call-0", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}],
        },
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "add_generation_prompt": True,
}
SEEDS: list[bytes] = [
    b"",
    b"{{ messages | tojson }}",
    b"{%- for m in messages %}{{- '<|' ~ m.role ~ '|>' + m['content'] | trim }}{%- endfor %}",
    b"{% for m in messages %}{{ loop.index }}{% if 'x' in m.content %}{% break %}{% endif %}{% endfor %}",
    b"{% set ns = namespace(x='a') %}{% for a in range(9) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    b"{% macro f(k) %}{{ f(k - 1) if k }}{% endmacro %}{{ f(5) }}{{ messages[0].content.replace('s', 'ss') }}",
]


def one_input(data: bytes) -> None:
    try:
        template = Template(data.decode("utf-8", "replace"))
    except ModelTextRefused:
        return
    assert written(template) == written(template)


def written(template: Template) -> str:
    try:
        return template.render(TALK)
    except PromptRefused as refusal:
        return refusal.code
