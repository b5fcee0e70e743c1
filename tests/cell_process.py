"""A real cell in a process of its own, on a hybrid Unix socket, with everything it writes kept for inspection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from attestation.consensus.principal import to_text
from devnet.subnet import Subnet
from vsock_bridge.transport import Address

ROOT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, str]:
    """In which a process of its own finds the rooms of this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class CellProcess:
    """`with CellProcess(folder, subnet, gateway) as cell:` waits for the cell's own word that it serves."""

    def __init__(self, folder: Path, subnet: Subnet, gateway: bytes, *, engine: str = "scripted-1") -> None:
        self.address = Address.parse(f"unix:{folder}/cell.sock")
        config = folder / "cell.toml"
        config.write_text(
            f'gateway = "{to_text(gateway)}"\nroot_key = "{subnet.root_key.hex()}"\nengine = "{engine}"\n'
        )
        self._command = [sys.executable, "-m", "appliance", "--config", str(config), "--listen", str(self.address)]
        self._folder = folder
        self.lines: list[str] = []
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._ready.wait()
        if self.process.poll() is not None:
            self._reader.join()
            raise AssertionError(f"the cell did not start: {self.output}")
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process and wait until all it wrote has been read."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait()
        self._reader.join()
        return status

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line)
                if '"event": "serving"' in line:
                    self._ready.set()
        self._ready.set()  # it ended without serving: whoever waits must look
