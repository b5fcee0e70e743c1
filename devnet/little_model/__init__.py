"""The project's own little model: a Llama of a million parameters that can answer the demo's questions.

    folder()                                       the files to seal into a pack, as they are checked in
    write(DIR)                                     a copy of them, to put an engine profile beside
    python -m devnet.little_model --out DIR        make them anew
    python -m devnet.little_model --check          make them anew and compare every byte with what is checked in

It was taught the few dozen answers in `conversations.txt`, all written for it, and says these when asked in those words
or near them. It knows nothing else, reasons about nothing, and mixes its answers up when a question is far from all
it has seen. It is here so that the whole path runs with a real tokenizer, template and weights.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

NAME: Final = "little-anchorite-1"
_HERE: Final = Path(__file__).parent


def folder() -> Path:
    """The model as it is checked in: weights, tokenizer, template, configuration and card."""
    return _HERE / "files"


def write(target: Path) -> None:
    """Makes `target`, which must not exist, with every file a pack needs."""
    target.mkdir()
    for path in folder().iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def digests(of: Path) -> dict[str, str]:
    """Every file of a model folder, by name."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(of.iterdir())}
