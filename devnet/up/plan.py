"""The options of `anchorhold devnet up`, and whether an existing folder was made with the same ones."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devnet.demo.engines import Choice
from foundation import private_files
from foundation.document import json_value
from foundation.refusal import Refused

LITTLE: Final = "little"
CELLS_MAX: Final = 32
FILE: Final = "plan.json"
PLAN_BYTES_MAX: Final = 1 << 16


class UpRefused(Refused):
    """The devnet cannot start as it was asked to."""

    stage = "devnet.up"


@dataclass(frozen=True, slots=True)
class Plan:
    folder: Path
    model: str  # `little`, or a folder
    engine: Choice
    cells: int
    ic_port: int  # 0 for one that is free

    def __post_init__(self) -> None:
        if not 1 <= self.cells <= CELLS_MAX:
            raise UpRefused("cells", expected=f"1 to {CELLS_MAX}", got=self.cells)

    @property
    def kept(self) -> dict[str, str]:
        """What cannot change once the folder is made: it is sealed, and measured into the cells."""
        return {"model": self.model, "engine": self.engine.value}

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder, for this process alone. Raises `UpRefused` if another has it, or it was made for other things."""
        private_files.folder(self.folder)
        lock = private_files.open_or_make(self.folder / "lock")
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UpRefused("folder", expected="a folder that no devnet runs in", got=self.folder) from None
            self._check_kept()
            yield
        finally:
            os.close(lock)

    def _check_kept(self) -> None:
        path = self.folder / FILE
        if not path.exists():
            private_files.replace(path, json.dumps(self.kept).encode())
            return
        found = json_value(path.read_bytes(), "plan", UpRefused, bytes_max=PLAN_BYTES_MAX, called=str(path))
        if found != self.kept:
            raise UpRefused("folder", expected=f"one that was made for {self.kept}", got=f"one for {found}")
