"""Make the little model, or check that the files in the repository are what this makes.

    python -m devnet.little_model --out DIR       DIR must not exist
    python -m devnet.little_model --check         0 if every byte agrees, 1 with the names of what differs

Takes two or three minutes on one thread. torch chooses its arithmetic by what it finds, so it runs in a process that is
pinned to AVX2 and, in MKL, to what processors of all makers have. docs/decisions/0008 says where the bytes were seen
to agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from devnet.little_model import digests, folder

PINS: Final = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="devnet.little_model", description="Make the project's own little model.")
    job = parser.add_mutually_exclusive_group(required=True)
    job.add_argument("--out", type=Path, help="the folder to make; must not exist")
    job.add_argument("--check", action="store_true", help="make it anew and compare with what is checked in")
    arguments = parser.parse_args()
    if find_spec("torch") is None:
        print(
            "little model: made with torch, which this environment is without; `make little-model` has one with it",
            file=sys.stderr,
        )
        return 1
    if arguments.out is not None:
        _make(arguments.out)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "files"
        _make(made)
        ours, theirs = digests(made), digests(folder())
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    print("little model: every byte agrees" if not differing else f"little model: differs: {', '.join(differing)}")
    return 1 if differing else 0


def _make(out: Path) -> None:
    subprocess.run([sys.executable, "-m", "devnet.little_model.making", str(out)], check=True, env=os.environ | PINS)


if __name__ == "__main__":
    sys.exit(main())
