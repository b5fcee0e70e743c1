"""The output of a demo: one line for each check, and the frames on the wire if asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TextIO

from vsock_bridge.messages import Data, Message

WORDS_SHOWN_MAX: Final = 58
TOPIC_WIDTH: Final = 10


@dataclass
class Screen:
    """`words`: whether prompts and answers are shown; `every`: all of them and in full; `wire`: every frame, too."""

    out: TextIO
    words: bool
    every: bool = False
    wire: bool = False
    _step: int = 0
    _topic: str = ""

    def step(self, title: str) -> None:
        self._step += 1
        self.say(f"\n{self._step}. {title}")

    def tell(self, topic: str, line: str) -> None:
        """A line of the story. A topic stands at its first line alone."""
        self.say(f"{topic if topic != self._topic else '':<{TOPIC_WIDTH}}{line}")
        self._topic = topic

    def say(self, line: str) -> None:
        try:
            print(line, file=self.out, flush=True)
        except BrokenPipeError:  # whoever watched has seen enough; the demo is still a check
            self.out = open(os.devnull, "w")  # noqa: PTH123, SIM115  # for the rest of the process

    def frame(self, outgoing: bool, message: Message) -> None:
        """One frame on the wire. A payload has no rendering; its size has."""
        if self.wire:
            size = f" {len(message.payload)} B" if isinstance(message, Data) else ""
            self.say(f"     {'host -> cell' if outgoing else 'cell -> host'}  {_short(message)}{size}")

    def text(self, words: bytes) -> str:
        if not self.words:
            return f"{len(words)} bytes, not shown"
        text = words.decode("utf-8", "replace")
        return repr(text if self.every or len(text) <= WORDS_SHOWN_MAX else f"{text[: WORDS_SHOWN_MAX - 1]}…")


def _short(message: Message) -> str:
    """`DATA stream 1 ...`: the fields of a message, long bytes cut."""
    fields: Mapping[str, object] = {
        name: getattr(message, name) for name in type(message).__slots__ if name != "payload"
    }
    shown = (
        f"{name} {value.hex()[:8] if isinstance(value, bytes) else getattr(value, 'name', value)}"
        for name, value in fields.items()
    )
    return f"{type(message).__name__.upper():<6} {' '.join(shown)}"
