"""The processes of one machine, its monitor and its last line: all of them watched, all of them ended.

with Running(plan, tools) as machine:
    ...                             # the window is at plan.window
    ending = machine.ending()       # raises StandsStill if nothing happens any more
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from image_build.boot import progress
from image_build.boot.ending import LINE_BYTES_MAX, Ending, EndLine, How, parse_line
from image_build.boot.monitor import Monitor
from image_build.boot.plan import END_PORT, BootRefused, Plan, Platform, device_command, emulator_command

LINE_SECONDS_MAX: Final = 10
CONSOLE_BYTES_MAX: Final = 4 << 20
HELD_LOOKS: Final = 5  # at the processor, between which the emulator ran
HELD_LOOK_PROCESSOR_SECONDS: Final = 0.3
HELD_LOOK_SECONDS_MAX: Final = 20  # for a processor that halted, which uses no time
_ACCEPTS: Final = 1 << 16  # the kernel's __SO_ACCEPTCON
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
ORPHANS_DIE: Final = ("setpriv", "--pdeathsig", "KILL")  # no emulator outlives whoever started it


@dataclass(frozen=True, slots=True)
class Tools:
    """QEMU and the VSOCK device, unpacked from locked packages with their own libraries, or as installed."""

    tree: Path | None

    def command(self, words: Sequence[str]) -> list[str]:
        if self.tree is None:
            return list(words)
        loader, libraries = self.tree / _LIBRARIES / "ld-linux-x86-64.so.2", self.tree / _LIBRARIES
        return [str(loader), "--library-path", str(libraries), str(self.tree / "usr/bin" / words[0]), *words[1:]]

    def data(self) -> list[str]:
        """Where QEMU finds its option ROMs."""
        return [] if self.tree is None else ["-L", str(self.tree / "usr/share/qemu")]


class Running:
    def __init__(
        self,
        plan: Plan,
        tools: Tools,
        *,
        on_console: Callable[[str], None] | None = None,
        host_words: Sequence[str] = (),
    ) -> None:
        """`host_words` are what a host adds to the emulator's command line; none of them is measured."""
        self.plan: Final = plan
        self._host_words: Final = host_words
        self.console: list[str] = []
        self._tools: Final = tools
        self._on_console: Final = on_console
        self._ended: Final = threading.Event()
        self._last_words: Final = threading.Event()
        self._told: list[EndLine] = []
        self._listeners: Final[list[socket.socket]] = []
        self._threads: Final[list[threading.Thread]] = []
        self._processes: Final[list[subprocess.Popen[bytes]]] = []
        self._monitor: Monitor | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop()

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    @property
    def monitor(self) -> Monitor:
        if self._monitor is None:
            raise BootRefused("monitor", expected="a machine that was started", got="a machine that was never started")
        return self._monitor

    @property
    def emulator(self) -> int:
        """Its process."""
        return self._processes[-1].pid

    def watch(self, more: Callable[[], object] | None = None) -> progress.Watch:
        """The machine gets on as long as it prints, reads a disk or exchanges bytes, or `more` changes."""
        processes = [each.pid for each in self._processes]
        return progress.Watch(
            processes,
            lambda: (
                self.console[-1:],
                len(self.console),
                progress.moved_bytes(self.emulator),
                [progress.processor_seconds(each) for each in processes[:-1]],
                more() if more is not None else None,
            ),
            self.plan.vcpus,
        )

    @property
    def memory_bytes(self) -> int:
        """What the emulator has in memory now, the guest's memory that it touched included."""
        status = Path(f"/proc/{self.emulator}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def ended(self, seconds: float) -> Ending | None:
        """How it ended, or None if it did not within the time."""
        if not self._ended.wait(seconds):
            return None
        return Ending(self.monitor.how, self._told[0] if self._told else None)

    def ending(self) -> Ending:
        """Wait for its end. Raises `StandsStill`."""
        return progress.until("the machine's end", lambda: self.ended(0), self.watch())

    def is_held(self) -> bool:
        """J5: the firmware met a kernel, initrd or command line that is not in the table, and will not go on: the
        processor is at one instruction, whenever it is looked at, and no disk was ever read. False once the guest
        reads a disk, or the machine ends."""
        seen: list[int | None] = []
        while self.is_running and not self.monitor.disk_reads():
            seen.append(self.monitor.instruction())
            if len(seen) > HELD_LOOKS and len(set(seen[-HELD_LOOKS:])) == 1:
                return True
            self._let_it_run()
        return False

    def _let_it_run(self) -> None:
        used, began = progress.processor_seconds(self.emulator), time.monotonic()
        while (
            progress.processor_seconds(self.emulator) - used < HELD_LOOK_PROCESSOR_SECONDS
            and time.monotonic() - began < HELD_LOOK_SECONDS_MAX
        ):
            if self._ended.wait(0.1):
                return

    def stop(self) -> None:
        """The host ends it, without asking: a cell loses nothing that it may not lose."""
        self.monitor.quit()

    # -- starting

    def _start(self) -> None:
        plan = self.plan
        self._listen_for_the_end()
        if (device := device_command(plan)) is not None:
            self._spawn(self._tools.command(device), stdout=subprocess.DEVNULL)
            self._wait_for(plan.vhost)
        monitor = _listening(plan.monitor)
        self._listeners.append(monitor)
        name, *words = (*emulator_command(plan), *self._host_words)
        emulator = self._spawn(
            self._tools.command([name, *self._tools.data(), *words]),
            stdout=subprocess.PIPE if plan.console else subprocess.DEVNULL,
        )
        watch = progress.Watch([emulator.pid], lambda: progress.moved_bytes(emulator.pid))
        self._monitor = Monitor(self._connected(monitor, emulator, watch), watch.look)
        if emulator.stdout is not None:
            self._thread(self._read_console, emulator.stdout)
        self._thread(self._wait_for_end, emulator)

    def _connected(
        self, monitor: socket.socket, emulator: subprocess.Popen[bytes], watch: progress.Watch
    ) -> socket.socket:
        monitor.settimeout(progress.LOOK_SECONDS)
        while emulator.poll() is None:
            try:
                return monitor.accept()[0]
            except TimeoutError:
                watch.look("the emulator's monitor")
        raise BootRefused("emulator", expected="one that starts", got=self._said())

    def _spawn(self, command: Sequence[str], *, stdout: int) -> subprocess.Popen[bytes]:
        with (self.plan.run / "said").open("ab") as said:
            process = subprocess.Popen(
                [*ORPHANS_DIE, *command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=said, umask=0o077
            )
        self._processes.append(process)
        return process

    def _thread(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _wait_for(self, path: Path) -> None:
        """QEMU asks once. The device says nothing when it listens, so the kernel's table is looked at."""
        device = self._processes[-1]
        watch = progress.Watch([device.pid], lambda: progress.moved_bytes(device.pid))
        while not is_listening(path):
            if device.poll() is not None:
                raise BootRefused("device", expected="one that listens", got=self._said())
            watch.look("the VSOCK device to listen")
            time.sleep(progress.LOOK_SECONDS)

    def _said(self) -> str:
        return (self.plan.run / "said").read_text(errors="replace")[-2000:] or "nothing"

    # -- what comes back

    def _listen_for_the_end(self) -> None:
        if self.plan.platform is Platform.EMULATED:
            listener = _listening(self.plan.end_socket)
        else:
            listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            listener.bind((socket.VMADDR_CID_ANY, END_PORT))
            listener.listen(1)
        self._listeners.append(listener)
        self._thread(self._hear_the_end, listener)

    def _hear_the_end(self, listener: socket.socket) -> None:
        """J9: the first line that is one counts; whoever else calls is let go."""
        while not self._told:
            try:
                caller, _ = listener.accept()
            except OSError:  # the machine was stopped, and with it this
                return
            with caller:
                if (told := _heard(caller)) is not None:
                    self._told.append(told)
                    self._last_words.set()

    def _read_console(self, console: IO[bytes]) -> None:
        left = CONSOLE_BYTES_MAX
        with console:
            for raw in console:
                if left > 0:
                    self._hear_console(raw.decode("utf-8", "replace").rstrip())
                left -= len(raw)

    def _hear_console(self, line: str) -> None:
        self.console.append(line)
        if self._on_console is not None:
            self._on_console(line)

    def _wait_for_end(self, emulator: subprocess.Popen[bytes]) -> None:
        emulator.wait()
        self.monitor.join(LINE_SECONDS_MAX)
        self._last_words.wait(LINE_SECONDS_MAX if self.monitor.how is How.POWER_OFF else 0)
        self._ended.set()

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        for listener in self._listeners:
            with listener:
                if listener.family == socket.AF_UNIX:
                    Path(listener.getsockname()).unlink(missing_ok=True)
                _shut(listener)
        for thread in self._threads:
            thread.join()
        if self._monitor is not None:
            self._monitor.close()
        self._ended.set()


def _heard(caller: socket.socket) -> EndLine | None:
    caller.settimeout(LINE_SECONDS_MAX)
    raw = b""
    try:
        while not raw.endswith(b"\n") and len(raw) <= LINE_BYTES_MAX:
            if not (more := caller.recv(LINE_BYTES_MAX + 1 - len(raw))):
                break
            raw += more
    except OSError:
        return None
    return parse_line(raw)


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(4)
    return listener


def _shut(listener: socket.socket) -> None:
    """Wakes whoever waits in accept."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def is_listening(path: Path) -> bool:
    """Somebody accepts connections there: a device that says nothing when it does is asked this way."""
    rows = (row.split() for row in Path("/proc/net/unix").read_text().splitlines())
    return any(row[-1] == os.fspath(path) and int(row[3], 16) & _ACCEPTS for row in rows if len(row) == 8)
