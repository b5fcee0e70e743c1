"""A guest with one program and no image: to try or measure the bridge in, everything watched, everything ended.

    with BareMachine(folder, program=[...], files={...}) as machine:
        Host(machine.address, Port.STREAM)

The kernel is Debian's, and process 1 is `guest/init.py`: nothing is verified and nothing sealed.
The processor is emulated (TCG), so it runs where there is no KVM, and the device is in user space, so there is no
kernel module to load. `__enter__` returns when the program inside says on the console that it serves.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from image_build.boot import cpio, vm_tools
from image_build.boot.cpio import File
from image_build.boot.progress import StandsStill, Watch, moved_bytes, until
from image_build.boot.running_machine import ORPHANS_DIE, Tools, is_listening
from vsock_bridge.transport import Address

GUEST_CID: Final = 42
MEMORY_MIB: Final = 384
SERVING: Final = '"event": "serving"'
ROOMS: Final = ("foundation", "vsock_bridge", "measurements", "attestation", "appliance")
_TOOLS: Final = Tools(vm_tools.TOOLS / "host")


class BootFailed(Exception):
    """The guest did not come as far as it should; the console says how far it came."""


class BareMachine:
    def __init__(self, folder: Path, *, program: Sequence[str], files: Mapping[str, bytes] | None = None) -> None:
        self.address: Final = Address.parse(f"unix:{folder}/vsock")
        self.seconds_to_serving = 0.0
        self.lines: list[str] = []
        self._folder: Final = folder
        self._program: Final = program
        self._files: Final = dict(files or {})
        self._serving: Final = threading.Event()
        self._ended: Final = threading.Event()
        self._device: subprocess.Popen[bytes] | None = None
        self._emulator: subprocess.Popen[bytes] | None = None

    @property
    def console(self) -> str:
        return "\n".join(self.lines)

    def __enter__(self) -> Self:
        began = time.monotonic()
        try:
            self._write_initramfs()
            self._start()
            until("the guest to serve", lambda: self._serving.is_set() or None, self.watch())
            if self._ended.is_set():
                raise BootFailed(f"the guest does not serve.\n{self.console}\n{self._said()}")
        except StandsStill as reason:
            self._kill()
            raise BootFailed(f"{reason}\n{self.console}\n{self._said()}") from None
        except BaseException:
            self._kill()
            raise
        self.seconds_to_serving = time.monotonic() - began
        return self

    def __exit__(self, *reason: object) -> None:
        self._kill()

    def power_off(self) -> int:
        """Ask over the console, wait for the emulator to end, return its status."""
        emulator = self._emulator
        if emulator is None or emulator.stdin is None:
            raise BootFailed("the guest was never started")
        emulator.stdin.write(b"stop\n")
        emulator.stdin.flush()
        until("the guest to power off", lambda: self._ended.is_set() or None, self.watch())
        return emulator.wait()

    def watch(self) -> Watch:
        """It gets on as long as it prints or exchanges bytes."""
        processes = [each.pid for each in (self._emulator, self._device) if each is not None]
        return Watch(processes, lambda: (self.lines[-1:], len(self.lines), [moved_bytes(each) for each in processes]))

    # -- the two processes

    def _start(self) -> None:
        with (self._folder / "said").open("ab") as said:
            self._device = subprocess.Popen(
                [*ORPHANS_DIE, *_TOOLS.command(self._device_command())],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
            self._wait_for(self._device)
            self._emulator = subprocess.Popen(
                [*ORPHANS_DIE, *_TOOLS.command(self._emulator_command())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        threading.Thread(target=self._read_console, args=(self._emulator,), daemon=True).start()

    def _wait_for(self, device: subprocess.Popen[bytes]) -> None:
        """QEMU asks once. The device says nothing when it listens, so the kernel's table is looked at."""

        def listens() -> bool | None:
            if device.poll() is not None:
                raise BootFailed(f"vhost-device-vsock does not listen.\n{self._said()}")
            return is_listening(self._folder / "vhost") or None

        until("vhost-device-vsock to listen", listens, Watch([device.pid], lambda: moved_bytes(device.pid)))

    def _device_command(self) -> list[str]:
        # 0.3.0 loses packets of the guest over 32 KiB; a guest sends none larger than this buffer.
        return [
            "vhost-device-vsock",
            "--guest-cid",
            str(GUEST_CID),
            "--socket",
            f"{self._folder}/vhost",
            "--uds-path",
            self.address.place,
            "--tx-buffer-size",
            "32768",
        ]

    def _emulator_command(self) -> list[str]:
        return [
            "qemu-system-x86_64",
            *_TOOLS.data(),
            "-L",
            str(vm_tools.TOOLS / "host/usr/share/seabios"),
            "-accel",
            "tcg",
            "-cpu",
            "EPYC,-cx16",
            "-machine",
            "q35,memory-backend=memory",
            "-m",
            str(MEMORY_MIB),
            "-object",
            f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on",  # the device reads it too
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
            "-chardev",
            f"socket,id=vsock,path={self._folder}/vhost",
            "-device",
            "vhost-user-vsock-pci,chardev=vsock",
            "-kernel",
            str(vm_tools.TOOLS / "kernel/vmlinuz"),
            "-initrd",
            f"{self._folder}/initrd",
            "-append",
            "console=ttyS0 rdinit=/init panic=-1 loglevel=3 random.trust_cpu=on",
        ]

    def _read_console(self, emulator: subprocess.Popen[bytes]) -> None:
        if emulator.stdout is not None:
            with emulator.stdout as console:
                for raw in console:
                    self.lines.append(line := raw.decode("utf-8", "replace").rstrip())
                    if SERVING in line:
                        self._serving.set()
        self._ended.set()
        self._serving.set()  # whoever waits must look

    def _kill(self) -> None:
        for process in (self._emulator, self._device):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        if self._emulator is not None:
            self._ended.wait()

    def _said(self) -> str:
        return (self._folder / "said").read_text(errors="replace")

    # -- what the guest finds

    def _write_initramfs(self) -> None:
        """What never changes, then this run's own files: the kernel unpacks one archive after the other."""
        inside = Path(__file__).with_name("guest")
        files = {
            "init": File((inside / "init.py").read_bytes(), executable=True),
            "run.txt": File("\n".join(("/usr/bin/python3.11", *self._program)).encode()),
            "opt/cell/window.py": File((inside / "window.py").read_bytes()),
        }
        for room in ROOMS:
            for path in (vm_tools.ROOT / room).rglob("*.py"):
                files[f"opt/cell/{path.relative_to(vm_tools.ROOT)}"] = File(path.read_bytes())
        files |= {name: File(content) for name, content in self._files.items()}
        with (self._folder / "initrd").open("wb") as sink:
            sink.write((vm_tools.TOOLS / "base.cpio").read_bytes())
            cpio.write_files(files, sink)
