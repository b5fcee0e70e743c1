"""The model a cell serves: the pack its host laid beside it, opened with the key the broker released.

Nothing of the host is believed: the pack is held against what is measured into the cell before it is opened, and
proven chunk by chunk as it is. What differs is named (docs/spec/pack.md P15); a cell with another model does not
serve.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from foundation.secrecy import Secret
from measurements.pack.identity import Expected
from measurements.pack.pack_reader import OpenedPack, open_pack


class ModelGate:
    """Shut until the model is proven and in memory; a cell that asks for no key has it open from the start."""

    def __init__(self, *, shut: bool) -> None:
        self._shut = shut
        self._kept = ExitStack()
        self.model: OpenedPack | None = None

    @property
    def is_open(self) -> bool:
        return not self._shut

    def admit(self, path: Path, key: Secret, expected: Expected, *, threads: int) -> OpenedPack:
        """Open the pack and keep it for the life of the cell. Raises `PackRefused` or OSError. Still shut: `unlock`."""
        self.model = self._kept.enter_context(open_pack(path, key, threads=threads, expected=expected))
        return self.model

    def unlock(self) -> None:
        """From now on the cell serves: what answers with the model is there."""
        self._shut = False

    def close(self) -> None:
        """Let go of the memory."""
        self._shut = True
        self._kept.close()
