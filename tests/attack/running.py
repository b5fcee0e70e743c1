"""One attack after the other, with its defence or without: a line each."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.attack.outcome import NotTried
from tests.attack.registry import Attack
from tests.attack.room import Room
from tests.attack.weakening import weakened


class Verdict(Enum):
    HELD = "held"
    BROKEN = "broken"
    NOT_TRIED = "not tried"
    FAULT = "fault"  # the attack itself did not come to its end


@dataclass(frozen=True, slots=True)
class Result:
    attack: Attack
    verdict: Verdict
    happened: str

    @property
    def line(self) -> str:
        return f"{self.verdict.value:9}  {self.attack.name:34}  {self.attack.tries}: {self.happened}"


def run(one: Attack, *, undefended: bool = False) -> Result:
    taking_away = weakened(one.weaken) if undefended else nullcontext()
    try:
        with tempfile.TemporaryDirectory(prefix="a-") as folder, taking_away:  # a socket's path must be short
            outcome = one.run(Room(Path(folder), one.name if undefended else None))
    except NotTried as reason:
        return Result(one, Verdict.NOT_TRIED, str(reason))
    except Exception as reason:  # noqa: BLE001  # whatever it was: one attack's fault ends no run
        where = traceback.extract_tb(reason.__traceback__)[-1]
        return Result(one, Verdict.FAULT, f"{type(reason).__name__} in {where.name}:{where.lineno}: {reason}")
    return Result(one, Verdict.HELD if outcome.held else Verdict.BROKEN, outcome.happened)


def run_all(attacks: Iterable[Attack], *, undefended: bool, say: Callable[[str], None]) -> int:
    """0 if every attack that was tried came out as it must: held, or, without its defence, broken."""
    wanted = Verdict.BROKEN if undefended else Verdict.HELD
    counts = dict.fromkeys(Verdict, 0)
    for one in attacks:
        result = run(one, undefended=undefended)
        counts[result.verdict] += 1
        say(result.line)
    wrong = sum(count for verdict, count in counts.items() if verdict not in (wanted, Verdict.NOT_TRIED))
    how = "without its defence" if undefended else "with all defences"
    say(
        f"{sum(counts.values())} attacks {how}: "
        + ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    )
    return 0 if wrong == 0 and counts[wanted] else 1
