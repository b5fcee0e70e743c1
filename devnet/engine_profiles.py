"""The little model with an engine profile beside it: what the demo seals.

The profile is written on the machine that runs the demo, as an owner writes one before sealing; the cell proves it anew
when the pack is open.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from anchorhold.owner.engine_profile import write_profile
from appliance.engine.profile import FILE, digest_of
from appliance.engine_start import FIXED, processors
from appliance.models.folder import open_folder
from devnet import little_model

GOLDEN_TOKENS: Final = 6


def write(target: Path) -> None:
    """Makes `target`, which must not exist, with every file a pack needs and a profile of the fixed engine."""
    little_model.write(target)
    profile(target)


def profile(target: Path) -> None:
    """Writes the profile of the fixed engine, as it is on this machine, into a model's folder."""
    sampling = json.loads((target / "card.json").read_bytes())["sampling"]
    with open_folder(target) as folder:
        written = write_profile(
            folder, engine=FIXED, sampling=sampling, length_max=None, threads=processors(), tokens=GOLDEN_TOKENS
        )
    (target / FILE).write_bytes(written.raw)


def engine_lines(folder: Path, engine: str = FIXED) -> str:
    """What a measured configuration says of the engine for that model."""
    return f'engine = "{engine}"\nprofile = "{digest_of((folder / FILE).read_bytes()).hex()}"'
