"""The emulator's monitor (QMP): why it ended, and a question now and then. The emulator is the host's own."""

from __future__ import annotations

import json
import queue
import re
import socket
import threading
from collections.abc import Callable
from typing import Final

from image_build.boot.ending import REASONS, How
from image_build.boot.plan import BootRefused

LINE_BYTES_MAX: Final = 1 << 20
LOOK_SECONDS: Final = 1  # between looks at whether the emulator gets on
_INSTRUCTION: Final = re.compile(r"\bRIP=([0-9a-f]{16})")


class Monitor:
    """Reads on a thread of its own until the emulator ends. Ask from one thread alone."""

    def __init__(self, connected: socket.socket, look: Callable[[str], None]) -> None:
        """`look` raises if the emulator stands still; it is told what is waited for."""
        self.how = How.UNKNOWN
        self._look: Final = look
        self._socket: Final = connected
        self._answers: Final[queue.SimpleQueue[object]] = queue.SimpleQueue()
        self._thread: Final = threading.Thread(target=self._read, daemon=True)
        connected.settimeout(None)
        self._thread.start()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> object:
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError as reason:
            raise BootRefused("monitor", expected=f"to be asked {command}", got=type(reason).__name__) from None
        while True:
            try:
                return self._answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._look(f"the emulator's answer to {command}")

    def quit(self) -> None:
        """The host ends the machine. It may have ended by itself meanwhile."""
        try:
            self._socket.sendall(b'{"execute":"quit"}\n')
        except OSError:
            return

    def instruction(self) -> int | None:
        """Where the first processor is, on a machine whose registers the host can see."""
        said = self.ask("human-monitor-command", **{"command-line": "info registers"})
        found = _INSTRUCTION.search(said) if isinstance(said, str) else None
        return int(found[1], 16) if found else None

    def disk_reads(self) -> int:
        """How often the guest read from any of its disks."""
        said = self.ask("query-blockstats")
        return sum(each["stats"]["rd_operations"] for each in said) if isinstance(said, list) else 0

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                while line := lines.readline(LINE_BYTES_MAX):
                    self._hear(json.loads(line))
        except (OSError, ValueError):
            pass
        self._answers.put(None)  # whoever still waits: it ended

    def _hear(self, said: dict[str, object]) -> None:
        if said.get("event") == "SHUTDOWN" and isinstance(data := said.get("data"), dict):
            self.how = REASONS.get(str(data.get("reason")), How.UNKNOWN)
        elif "return" in said:
            self._answers.put(said["return"])
        elif "error" in said:
            self._answers.put(None)
