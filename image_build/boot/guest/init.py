#!/usr/bin/python3.11 -ISB
"""Process 1 of a bare machine: load the modules, run one program, power off when it ends or the console says so.

The program is in /run.txt, an argument a line. A line on the console asks it to stop, as SIGTERM.
Not the image's init: no verified root, no unprivileged user, nothing sealed.
"""

import ctypes
import os
import subprocess
import sys
import threading
from typing import NoReturn

FINIT_MODULE = 313  # x86-64
POWER_OFF = 0x4321FEDC
libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        os.makedirs(place, exist_ok=True)  # noqa: PTH103  # pathlib costs a tenth of a second here
        check(libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None), place)
    for name in sorted(os.listdir("/modules")):  # noqa: PTH208
        with open(f"/modules/{name}", "rb") as module:  # noqa: PTH123
            check(libc.syscall(FINIT_MODULE, module.fileno(), b"", 0), name)
    with open("/run.txt", encoding="utf-8") as lines:  # noqa: PTH123
        command = lines.read().splitlines()
    say(f"running {command[-1]}")
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={"PYTHONPATH": "/opt/cell:/opt/site", "PYTHONDONTWRITEBYTECODE": "1"}
    )
    threading.Thread(target=stop_when_told, args=(program,), daemon=True).start()
    say(f"the program ended with {program.wait()}")


def stop_when_told(program: "subprocess.Popen[bytes]") -> None:
    sys.stdin.readline()
    program.terminate()


def check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def say(words: str) -> None:
    print(f"init: {words}", flush=True)


def power_off() -> NoReturn:
    libc.reboot(ctypes.c_int(POWER_OFF))
    os._exit(1)  # the kernel panics when process 1 ends, and says so


if __name__ == "__main__":
    try:
        main()
    except BaseException as reason:  # noqa: BLE001  # whatever it was, the machine must not stand there
        say(f"failed: {type(reason).__name__}: {reason}")
    power_off()
