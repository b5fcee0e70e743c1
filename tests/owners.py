"""The verbs of a model's owner, as tests give them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anchorhold.command import main
from attestation.consensus.principal import to_text
from devnet import little_model
from devnet.subnet import GATEWAY

ID: Final = to_text(GATEWAY)
# Which part each line of a check is about.
LINES: Final = (
    "card.json",
    "model.pack",
    "model.key",
    "model.pack",
    "card.json",
    "cell.toml",
    "engine-profile.json",
    "engine-profile.json",
    "cell.toml",
    "cell.digest",
    "broker/broker.toml",
    "cell.toml",
    "broker/broker.toml",
    "broker/broker.toml",
)


def owner(*words: str | Path) -> int:
    return main(["owner", *map(str, words)])


def init(out: Path, *words: str | Path, model: Path | None = None) -> int:
    return owner("init", model or little_model.folder(), "--out", out, *words)
