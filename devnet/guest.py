"""The program of a development image: the cell, over the simulated TEE that the host describes on a disk.

    /dev/machine    {"kind": "snp", "seed": HEX, "measurement": HEX, "not_before": ISO, "not_after": ISO}
    /dev/payload    optional: Python, run beside the cell as its user; what it prints goes where the cell's log goes

A text on a disk has zeros behind it, to whole sectors. Without a machine on one the cell looks for a real one, as a
release does. No release image has this file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import appliance.main
import devnet.cell

MACHINE: Final = Path("/dev/machine")
PAYLOAD: Final = Path("/dev/payload")
CELL: Final = ("--config", "/etc/anchorhold/cell.toml", "--listen", "vsock:any", "--model", "/dev/model")


def main() -> int:
    if PAYLOAD.exists():
        # no wait: what it does to the cell beside it is what is tried
        subprocess.Popen([sys.executable, "-ISB", "-c", _text(PAYLOAD)], stdin=subprocess.DEVNULL)
    if not MACHINE.exists():
        sys.argv = ["appliance", *CELL]
        return appliance.main.main()
    told = json.loads(_text(MACHINE))
    names = ("kind", "seed", "measurement", "not_before", "not_after")
    options = [part for name in names for part in (f"--{name.replace('_', '-')}", told[name])]
    sys.argv = ["devnet.cell", *CELL, *options]
    return devnet.cell.main()


def _text(disk: Path) -> str:
    """Of a disk that was made from a text: filled with zeros to whole sectors."""
    return disk.read_bytes().rstrip(b"\0").decode()


if __name__ == "__main__":
    sys.exit(main())
