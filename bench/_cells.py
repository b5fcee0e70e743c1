"""Cells of the determinism matrix, and a folder that keeps them as they are finished."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench._differences import Tally
from bench._disturbances import Evidence


@dataclass(frozen=True, slots=True)
class Cell:
    """One engine under one disturbance at one temperature."""

    engine: str
    row: str
    temperature: float
    tally: Tally
    seconds: float
    evidence: Evidence = field(default_factory=Evidence)

    def __str__(self) -> str:
        logits = f"logits {self.tally.logits_differing:,} of {self.tally.logits:,}" if self.tally.logits else ""
        return (
            f"  {self.engine:17} {self.row:51} T={self.temperature:<4g} {self.tally!s:>16}   {logits:22}"
            f" {self.seconds:6.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A file for each cell: several programs may fill one record."""

    folder: Path

    def keep(self, cell: Cell) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^a-z0-9.]+", "-", f"{cell.engine} {cell.row} {cell.temperature}".lower())
        (self.folder / f"{name}.json").write_text(json.dumps(asdict(cell), indent=1))

    def cells(self) -> list[Cell]:
        found = (json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json")))
        return [
            Cell(**{**each, "tally": Tally(**each["tally"]), "evidence": Evidence(**each["evidence"])})
            for each in found
        ]
