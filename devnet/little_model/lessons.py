"""What the little model is taught: conversations, and the order in which it sees them.

All chance is `random.Random` with a seed, and of it only whole numbers, which are the same on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("conversations.txt")
SYSTEMS: Final = (
    "You are a helpful assistant.",
    "Be brief.",
    "Answer in one or two sentences.",
    "You speak for the cell.",
)
USER, ASSISTANT, SYSTEM, END = "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"
CONTROL: Final = (END, SYSTEM, USER, ASSISTANT)
TEMPLATE: Final = (
    "{%- for message in messages %}\n"
    "{%- if message.role == 'tool' or message.tool_calls %}{{- raise_exception('no tools') }}{% endif %}\n"
    "{{- '<|' ~ message.role ~ '|>' ~ message.content ~ '<|end|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}\n"
)


@dataclass(frozen=True, slots=True)
class Lesson:
    questions: tuple[str, ...]
    answer: str


def lessons() -> list[Lesson]:
    found = []
    for block in SOURCE.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        questions = tuple(line[2:] for line in lines if line.startswith("? "))
        answers = [line[2:] for line in lines if line.startswith("! ")]
        if questions and len(answers) == 1:
            found.append(Lesson(questions, answers[0]))
    return found


def corpus() -> list[str]:
    """All text, for the tokenizer."""
    return [*SYSTEMS, *(text for lesson in lessons() for text in (*lesson.questions, lesson.answer) for _ in range(2))]


Turn = tuple[str, str]  # role mark, words


def conversations(seed: int) -> Iterator[list[Turn]]:
    """Without end: every question in a new order each round, now and then after another turn or a system's word."""
    chance = random.Random(seed)  # noqa: S311  # the same lessons in every run
    asked = [(question, lesson.answer) for lesson in lessons() for question in lesson.questions]
    while True:
        chance.shuffle(asked)
        for question, answer in asked:
            turns: list[Turn] = []
            if chance.randrange(4) == 0:
                turns.append((SYSTEM, SYSTEMS[chance.randrange(len(SYSTEMS))]))
            if chance.randrange(4) == 0:
                before = asked[chance.randrange(len(asked))]
                turns += [(USER, _varied(before[0], chance)), (ASSISTANT, before[1])]
            yield [*turns, (USER, _varied(question, chance)), (ASSISTANT, answer)]


def _varied(question: str, chance: random.Random) -> str:
    """As people type."""
    match chance.randrange(6):
        case 0:
            return question.lower()
        case 1:
            return question.rstrip("?.!")
        case 2:
            return question.lower().rstrip("?.!")
        case _:
            return question
