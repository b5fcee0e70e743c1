"""A simulated machine in a folder: its chip, and the reference values with which a broker accepts it.

    make(folder, measurement)       # chip.json, root.der, policy.toml, references.toml

Kept and used again, it is the same machine to the same broker, for 30 days: then its certificates end. A chip starts
with the measurement it was made with; `devnet.chip.in_machine` gives it another.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from devnet.chip import chip_file
from devnet.pki import Validity
from devnet.sim_snp import SimulatedSnp
from devnet.tee import policy_document, simulated_snp
from foundation import private_files

CHIP: Final = "chip.json"
DAYS: Final = 30


def make(folder: Path, measurement: bytes) -> None:
    """Unless the folder has a machine. `chip.json` is written last: without it, all of it is made anew."""
    if (folder / CHIP).exists():
        return
    private_files.folder(folder)
    now = datetime.now(UTC).replace(microsecond=0)
    validity = Validity(now - timedelta(days=1), now + timedelta(days=DAYS))
    platform = SimulatedSnp.create(secrets.token_bytes(32), validity)
    (folder / "root.der").write_bytes(platform.ark.der)
    (folder / "policy.toml").write_bytes(policy_document(simulated_snp(platform, measurement)))
    (folder / "references.toml").write_text(f'[snp]\nchip_id = ["{platform.hardware_id.hex()}"]\n')
    private_files.write_new(folder / CHIP, chip_file(platform, measurement))
