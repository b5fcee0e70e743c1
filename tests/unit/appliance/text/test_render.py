"""text.md L1 to L10: from a chat request to the ids of a prompt, beside `transformers`, and against forgery."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.text import ModelText, PromptRefused, room
from appliance.text.template import Template
from attestation.consensus.chat import (
    Argument,
    AssistantMessage,
    ChatRequest,
    Message,
    Parameters,
    Property,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from foundation.secrecy import Prompt
from tests.elsewhere import brought
from tests.little_text import BEGINNINGS, CONTROL, ENDS, FAMILIES, SPOKEN, TEMPLATES, files, tokenizer


def p(words: str) -> Prompt:
    return Prompt(words.encode())


def request(*messages: Message, tools: tuple[Tool, ...] | None = None) -> ChatRequest:
    return ChatRequest("m", messages, tools)


def text_of(family: str) -> ModelText:
    return ModelText.of(files(family), context_tokens=4096)


TEXTS = {family: text_of(family) for family in FAMILIES}
WEATHER = Tool(
    p("weather"),
    p("The weather <there>"),
    Parameters(
        p("object"),
        (
            Property(p("string"), p("city"), p("a city"), None),
            Property(p("string"), p("unit"), None, (p("celsius"), p("kelvin"))),
        ),
        (p("city"),),
    ),
)
WEATHER_PLAIN = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather <there>",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "a city"},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            },
            "required": ["city"],
        },
    },
}
CALL = ToolCall(p("call-0"), p("weather"), (Argument(p("city"), p("Lisbon")), Argument(p("unit"), p("celsius"))))
CALL_PLAIN = {
    "id": "call-0",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Lisbon", "unit": "celsius"}},
}

TALKS: dict[str, tuple[tuple[Message, ...], list[dict[str, Any]]]] = {
    "one": ((UserMessage(p("What is an anchorhold?")),), [{"role": "user", "content": "What is an anchorhold?"}]),
    "marks": (
        (UserMessage(p(" a < b > c [d] {{ e }} naïve 日本 \n")),),
        [{"role": "user", "content": " a < b > c [d] {{ e }} naïve 日本 \n"}],
    ),
    "turns": (
        (UserMessage(p("one")), AssistantMessage(p("two"), ()), UserMessage(p("three"))),
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
    ),
    "system": (
        (SystemMessage(p("be brief ")), UserMessage(p("go on"))),
        [{"role": "system", "content": "be brief "}, {"role": "user", "content": "go on"}],
    ),
    "called": (
        (UserMessage(p("weather?")), AssistantMessage(None, (CALL,)), ToolMessage(p("21"), p("call-0"))),
        [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL_PLAIN]},
            {"role": "tool", "content": "21", "tool_call_id": "call-0", "name": "weather"},
        ],
    ),
}
CASES = [
    (family, talk, tools)
    for family in FAMILIES
    for talk in TALKS
    for tools in (False, True)
    if family != "mistral" or talk not in {"system", "called"}
]


@pytest.mark.torch
@pytest.mark.parametrize(("family", "talk", "tools"), CASES)
def test_the_prompt_is_the_one_the_models_makers_mean(family: str, talk: str, tools: bool) -> None:  # text.md L1, L4
    theirs = brought("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(family), eos_token=ENDS[family], bos_token=BEGINNINGS[family]
    )
    messages, plain = TALKS[talk]
    wanted = theirs.apply_chat_template(
        plain,
        tools=[WEATHER_PLAIN] if tools else None,
        chat_template=TEMPLATES[family],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(TEXTS[family].render(request(*messages, tools=(WEATHER,) if tools else None))) == wanted


def controls(family: str, prompt: tuple[int, ...]) -> list[int]:
    made = tokenizer(family)
    marks = {made.token_to_id(token) for token in (*CONTROL[family], *SPOKEN.get(family, ()))}
    return [token for token in prompt if token in marks]


FORGED = {family: "".join((*CONTROL[family], *SPOKEN.get(family, ()))) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_control_tokens_in_a_clients_words_are_words(family: str) -> None:  # text.md L8, L9
    honest = request(UserMessage(p("x")), AssistantMessage(p("y"), ()), UserMessage(p("z")))
    forged = request(
        UserMessage(p(FORGED[family])),
        AssistantMessage(p(f"y{FORGED[family]}"), ()),
        UserMessage(p(FORGED[family] * 2)),
    )
    text = TEXTS[family]
    assert controls(family, text.render(forged)) == controls(family, text.render(honest))
    # The words reach the model as words: all of them, and nothing else.
    said = b"".join(text.listen(forged).feed(token) for token in text.render(forged))
    assert FORGED[family].encode() in said


@pytest.mark.parametrize("family", ["chatml", "llama3"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_text_anywhere_makes_a_control_token(family: str, data: st.DataObject) -> None:  # text.md L8 to L10
    marks = st.sampled_from([*CONTROL[family], *SPOKEN.get(family, ()), "<", "|", ">", "</", "im_start", "_id|>", " "])
    words = st.lists(marks | st.text("ab{%}\"'\n", max_size=3), max_size=6).map("".join)

    def drawn() -> Prompt:
        return p(data.draw(words))

    def talk(one: Prompt, two: Prompt, three: Prompt, tool: Tool) -> ChatRequest:
        call = ToolCall(one, two, (Argument(p("n"), three),))
        return request(
            SystemMessage(one),
            UserMessage(two),
            AssistantMessage(None, (call,)),
            ToolMessage(three, one),
            UserMessage(three),
            tools=(tool,),
        )

    plain = talk(p("a"), p("b"), p("c"), WEATHER)
    tool = Tool(drawn(), drawn(), Parameters(drawn(), (Property(drawn(), drawn(), drawn(), (drawn(),)),), (drawn(),)))
    text = TEXTS[family]
    assert controls(family, text.render(talk(drawn(), drawn(), drawn(), tool))) == controls(family, text.render(plain))


def test_what_a_text_may_not_hold() -> None:  # text.md L10
    with pytest.raises(PromptRefused) as refused:
        TEXTS["chatml"].render(request(UserMessage(p("a\ufdd0b"))))
    assert refused.value.code == "prompt.set-aside"
    assert "a" not in str(refused.value).split()


@pytest.mark.parametrize(
    ("family", "messages", "tools", "code"),
    [  # text.md L20
        ("mistral", TALKS["system"][0], None, "prompt.declined"),
        ("llama3", (AssistantMessage(None, (CALL, CALL)),), None, "prompt.declined"),
    ],
)
def test_a_conversation_the_template_does_not_take(
    family: str, messages: tuple[Message, ...], tools: Any, code: str
) -> None:
    with pytest.raises(PromptRefused) as refused:
        TEXTS[family].render(request(*messages, tools=tools))
    assert refused.value.code == code


def test_tools_for_a_model_without_them() -> None:  # text.md L20
    without = ModelText.of({**files("chatml"), "chat_template.jinja": b"{{ messages[0].content }}"}, context_tokens=64)
    with pytest.raises(PromptRefused, match=r"prompt\.tools"):
        without.render(request(UserMessage(p("x")), tools=(WEATHER,)))
    with pytest.raises(PromptRefused, match=r"prompt\.empty"):
        without.render(request(UserMessage(p(""))))


def test_a_template_that_fails_on_a_conversation() -> None:  # text.md L20
    for source in ("{{ messages[7].content.x }}", "{{ 1 // 0 }}", "{{ messages + 1 }}", "{{ undefined() }}"):
        with pytest.raises(PromptRefused, match=r"prompt\.template"):
            Template(source).render({"messages": [{"content": "secret"}]})


@pytest.mark.parametrize(
    ("prompt", "asked", "most", "given"),
    [  # text.md L3
        (10, None, 50, 50),
        (10, None, 200, 90),
        (10, 90, 50, 90),
        (99, 1, 50, 1),
        (99, None, 50, 1),
        (10, 91, 500, None),
        (100, None, 50, None),
        (100, 1, 50, None),
        (500, None, 50, None),
    ],
)
def test_room_for_an_answer(prompt: int, asked: int | None, most: int, given: int | None) -> None:
    text = ModelText.of(files("chatml"), context_tokens=100)
    if given is None:
        with pytest.raises(PromptRefused, match=r"prompt\.too-long"):
            room(text, (0,) * prompt, asked, most)
    else:
        assert room(text, (0,) * prompt, asked, most) == given
