"""The shape of every refusal: at which stage, under which code, what was expected, what came.

A room derives its own base from `Refused`, and from that one class per stage, so that a caller catches
one family and an auditor scripts on `code`. The text is for people and never carries a secret.
"""

from __future__ import annotations

from typing import ClassVar


class Refused(Exception):
    """Something was not as it had to be. `code` is stable; the message is for people."""

    stage: ClassVar[str] = "refused"

    def __init__(self, code: str, *, expected: object, got: object, hint: str | None = None) -> None:
        super().__init__(code, str(expected), str(got))
        self.code = code
        self.expected = str(expected)
        self.got = str(got)
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.stage}: {self.code}: expected {self.expected}, got {self.got}"
        return f"{line}\n  hint: {self.hint}" if self.hint else line
