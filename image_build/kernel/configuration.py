"""The options of `configuration`, each with its reason, held against the configuration that a kernel was built with.

    CONFIG_MODULES=n                        # all code is in the measured file

`=n` is a promise too: such an option is absent from the finished configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from image_build.errors import ImageRefused

OFF: Final = "n"
_LINE: Final = re.compile(r'(CONFIG_[A-Z0-9_]+)=(y|n|-?[0-9]+|"[^"]*") +# (\S.*)')
_SET: Final = re.compile(r"(CONFIG_\w+)=(.+)")


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Options:
    options: tuple[Option, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """I26: every line has a reason, and no option is given twice."""
        found: dict[str, Option] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line or line.startswith("#"):
                continue
            read = _LINE.fullmatch(line)
            if read is None:
                raise ImageRefused(
                    "kernel.configuration", expected="CONFIG_NAME=VALUE  # reason", got=f"line {number}: {line[:60]}"
                )
            if read[1] in found:
                raise ImageRefused("kernel.configuration", expected=f"{read[1]} once", got=f"again in line {number}")
            found[read[1]] = Option(read[1], read[2], read[3])
        return cls(tuple(found.values()))

    @property
    def fragment(self) -> str:
        """As Kconfig reads it."""
        return "".join(f"{each.name}={each.value}\n" for each in self.options)

    def departures(self, finished: Mapping[str, str]) -> Iterator[str]:
        """Where a finished configuration is not what was asked for."""
        for each in self.options:
            got = finished.get(each.name, OFF)
            if got != each.value:
                yield f"{each.name} is {got}, and not {each.value}"


def parse_finished(text: str) -> dict[str, str]:
    """A `.config`: what is set in it."""
    return {found[1]: found[2] for line in text.splitlines() if (found := _SET.fullmatch(line))}
