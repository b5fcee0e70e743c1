"""The rooms of product code in Python, for tests that read all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ROOMS: Final = (
    "foundation",
    "vsock_bridge",
    "measurements",
    "attestation",
    "appliance",
    "image_build",
    "anchorhold",
    "devnet",
)
