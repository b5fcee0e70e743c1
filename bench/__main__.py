"""`python -m bench [SECTION ...]`: every section, or those named, one after the other in one run."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench


def sections() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))


def main() -> int:
    wanted = sys.argv[1:] or sections()
    if unknown := sorted(set(wanted) - set(sections())):
        print(f"bench: expected some of {' '.join(sections())}, got {' '.join(unknown)}", file=sys.stderr)
        return 1
    for name in wanted:
        print(f"\n== {name}", flush=True)
        sys.argv = [f"bench.{name}"]  # a section that takes options has them when it is run by itself
        importlib.import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
