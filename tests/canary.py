"""A text that must appear nowhere, and the search for it in every form in which it could be read back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Canary:
    """Letters and digits only, so that no escaping changes how it stands anywhere."""

    text: str

    @property
    def raw(self) -> bytes:
        return self.text.encode("ascii")

    def forms(self) -> Iterator[bytes]:
        """As text, with a space between letters, hexadecimal, base64 at each alignment, and lists of numbers."""
        yield self.raw
        yield self.text.encode("utf-16-le")
        yield self.raw[::-1]
        yield self.raw.hex().encode()
        yield self.raw.hex(" ").encode()
        yield self.raw.hex().upper().encode()
        for shift in range(3):
            # What does not depend on the neighbours: whole groups of three bytes.
            whole = self.raw[shift : shift + (len(self.raw) - shift) // 3 * 3]
            yield base64.b64encode(whole)
            yield base64.urlsafe_b64encode(whole)
        for numbers in (list(self.raw), [hex(byte) for byte in self.raw]):
            yield ", ".join(map(str, numbers)).encode()
            yield ",".join(map(str, numbers)).encode()
            yield json.dumps(numbers)[1:-1].encode()

    def found_in(self, data: bytes) -> bool:
        return any(form in data for form in self.forms())


def found(canaries: Iterable[Canary], data: bytes) -> list[str]:
    """The names of those that are in `data`, in any form."""
    return [canary.text for canary in canaries if canary.found_in(data)]


def found_below(canaries: Iterable[Canary], folder: Path) -> list[tuple[str, str]]:
    """In every file below `folder`, its name included."""
    canaries = list(canaries)
    hits = []
    for path in sorted(folder.rglob("*")):
        data = str(path.relative_to(folder)).encode()
        if path.is_file():
            data += b"\n" + path.read_bytes()
        hits += [(str(path), name) for name in found(canaries, data)]
    return hits


def found_of_process(canaries: Iterable[Canary], pid: int) -> list[str]:
    """In what the kernel shows of a process to others: command line, environment, name."""
    shown = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm")]
    return found(canaries, b"\n".join(shown))
