"""The little model, as it is checked in: it answers the demo's questions, and says that it knows no others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.protocol import EngineRequest
from appliance.models import describe, load_model
from appliance.models.folder import open_folder
from appliance.text import ModelText, room
from attestation.consensus.chat import ChatRequest, UserMessage
from devnet import little_model
from devnet.little_model.lessons import conversations, lessons
from foundation.secrecy import Prompt

CONTEXT = 512
UNKNOWN = "I do not know."


@pytest.fixture(scope="module")
def text() -> ModelText:
    folder = little_model.folder()
    small = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    return ModelText.of(small, context_tokens=CONTEXT)


def said(text: ModelText, question: str) -> str:
    chat = ChatRequest(little_model.NAME, (UserMessage(Prompt(question.encode())),))
    prompt = text.render(chat)
    with open_folder(little_model.folder()) as folder:
        engine = FixedEngine(load_model(folder.tensors(), describe(folder.file("config.json"))))
        request = EngineRequest(prompt, room(text, prompt, None, 100), bytes(32), stop_tokens=text.stop_tokens)
        listener = text.listen(chat)
        words = b"".join(listener.feed(step.token) for step in engine.run(request))
    return (words + listener.end(full=False).words).decode()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is an anchorhold?", "An anchorhold is a small walled cell with one window."),
        ("Who can read my prompt?", "Nobody outside the sealed cell"),
        ("who can read my prompt", "Nobody outside the sealed cell"),
        ("And what if the line is cut?", "Then the host connects again"),
        ("Who are you?", "I am a very small model"),
        ("What is the capital of France?", UNKNOWN),
        ("How do I paint a fence?", UNKNOWN),
    ],
)
def test_it_answers_what_it_was_taught(text: ModelText, question: str, answer: str) -> None:
    assert said(text, question).startswith(answer)


def test_every_lesson_has_questions_and_the_demos_are_among_them() -> None:
    from devnet.demo.run import AFTER_UPGRADE, PROMPTS

    taught = [question for lesson in lessons() for question in lesson.questions]
    assert len(set(taught)) == len(taught) > 150
    assert {*PROMPTS, *AFTER_UPGRADE} <= set(taught)


def test_lessons_come_in_the_same_order_every_time() -> None:
    one, other = conversations(1), conversations(1)
    assert [next(one) for _ in range(300)] == [next(other) for _ in range(300)]
    assert random.Random(20).getrandbits(24) == 15194112  # what the first weight begins from


def test_a_copy_is_every_file(tmp_path: Path) -> None:
    target = tmp_path / "model"
    little_model.write(target)
    assert little_model.digests(target) == little_model.digests(little_model.folder())
