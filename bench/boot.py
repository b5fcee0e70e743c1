"""A sealed image from nothing to an answer, in a machine with an emulated processor and the real firmware.

The figures bound nothing on hardware: firmware, kernel and cell all run emulated. They show what the parts weigh, and
whether a change made them heavier.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from devnet.sealed_machine import World, world
from image_build.boot.plan import Image
from image_build.boot.vm_tools import LOCK as TOOLS_LOCK
from image_build.boot.vm_tools import why_not
from image_build.contents import LOCK
from image_build.lock import ImageLock

BOOTS = 5


def one(made: World) -> dict[str, float]:
    began = time.monotonic()
    passed: dict[str, float] = {}
    with made.boot() as cell:
        if cell.health() is None:
            raise SystemExit(f"bench: the machine does not serve\n{cell.console}")
        passed["first answer, s"] = time.monotonic() - began
        made.carry(cell)
        passed["key released, s"] = time.monotonic() - began
        cell.opens_its_model()
        passed["model open, s"] = time.monotonic() - began
        made.answers(cell)
        passed["ten prompts answered, s"] = time.monotonic() - began
        passed["emulator's memory, MiB"] = cell.running.memory_bytes / (1 << 20)
        cell.running.monitor.quit()
        stopping = time.monotonic()
        cell.running.ending()
        passed["stopped after, s"] = time.monotonic() - stopping
    return passed


def main() -> None:
    if (reason := why_not()) is not None:
        print(f"not to be measured here: {reason}")
        return
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        with world(Path(name)) as made:
            print(f"owner, broker, image built from the cache: {time.monotonic() - began:.1f} s")
            made.approve()
            rounds = [one(made) for _ in range(BOOTS)]
            for what in rounds[0]:
                values = [each[what] for each in rounds]
                print(f"{what:32} {statistics.median(values):8.1f}   ({min(values):.1f} to {max(values):.1f})")
            image = Image.below(made.image)
            for what, path in {"root": image.root, "kernel": image.kernel}.items():
                print(f"{what:32} {path.stat().st_size / 1e6:8.1f} MB")
    image_inputs = sum(each.size for each in ImageLock.read(LOCK).inputs())
    tools_inputs = sum(each["size"] for each in json.loads(TOOLS_LOCK.read_text()))
    print(f"{'download for an image':32} {image_inputs / 1e6:8.1f} MB")
    print(f"{'download for QEMU and firmware':32} {tools_inputs / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
