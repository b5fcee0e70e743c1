"""The program of a development image: the cell, over the simulated TEE that the host describes on a disk.

    /dev/machine    a simulated chip (`devnet.chip`), with the measurement of the files this machine was started from
    /dev/payload    optional: Python, run beside the cell as its user; what it prints goes where the cell's log goes

A text on a disk has zeros behind it, to whole sectors. Without a machine on one the cell looks for a real one, as a
release does. No release image has this file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import appliance.main
import devnet.cell
from devnet.chip import ChipTee
from vsock_bridge.transport import Address

MACHINE: Final = Path("/dev/machine")
PAYLOAD: Final = Path("/dev/payload")
CONFIG: Final = Path("/etc/anchorhold/cell.toml")
MODEL: Final = Path("/dev/model")


def main() -> int:
    if PAYLOAD.exists():
        # no wait: what it does to the cell beside it is what is tried
        subprocess.Popen([sys.executable, "-ISB", "-c", _text(PAYLOAD)], stdin=subprocess.DEVNULL)
    if not MACHINE.exists():
        sys.argv = ["appliance", "--config", str(CONFIG), "--listen", "vsock:any", "--model", str(MODEL)]
        return appliance.main.main()
    return devnet.cell.run(CONFIG, Address.parse("vsock:any"), MODEL, lambda: ChipTee.parse(MACHINE.read_bytes()))


def _text(disk: Path) -> str:
    """Of a disk that was made from a text: filled with zeros to whole sectors."""
    return disk.read_bytes().rstrip(b"\0").decode()


if __name__ == "__main__":
    sys.exit(main())
