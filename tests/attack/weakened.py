"""A process of ours without one attack's defence: `python -m tests.attack.weakened ATTACK MODULE ARGUMENT...`"""

from __future__ import annotations

import runpy
import sys

from tests.attack.registry import named
from tests.attack.weakening import Patch


def main() -> None:
    name, module, *arguments = sys.argv[1:]
    named(name).weaken(Patch())
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
