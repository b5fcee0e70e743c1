"""secrecy.md S9: what a sealed process has given up, read from the kernel, and what is left of it when it dies."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

REPORT = """
import ctypes, json, resource, subprocess, sys
from appliance.process_hardening import seal_process
seal_process()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
child = subprocess.run([sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"],
                       capture_output=True, text=True).stdout
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "no_new_privs": int(status["NoNewPrivs"]),
    "child": child.strip(),
}))
"""

DIES = """
import os, signal, sys
{seal}
signal.signal(signal.{name}, signal.SIG_DFL)     # a shell's background job ignores SIGQUIT
os.kill(os.getpid(), signal.{name})
"""

SEAL = "from appliance.process_hardening import seal_process; seal_process()"


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_what_the_kernel_says_of_it(tmp_path: Path) -> None:
    ended = python(REPORT, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"core": [0, 0], "dumpable": 0, "no_new_privs": 1, "child": "(0, 0)"}


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGQUIT"])
def test_no_core_is_left_behind(tmp_path: Path, name: str) -> None:
    ended = python(DIES.format(seal=SEAL, name=name), tmp_path)
    assert ended.returncode == -getattr(signal, name)
    assert list(tmp_path.iterdir()) == []


def test_without_sealing_there_would_be_one(tmp_path: Path) -> None:
    """The test above can fail: where the kernel writes cores to the working folder, this one is written."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if "/" in pattern or pattern.startswith("|") or hard == 0:
        pytest.skip(f"cores of this machine do not go to the working folder (pattern {pattern!r}, limit {hard})")
    unlimited = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)"
    python(DIES.format(seal=unlimited, name="SIGSEGV"), tmp_path)
    assert list(tmp_path.iterdir()) != []


def test_a_cell_that_cannot_be_sealed_does_not_start(tmp_path: Path) -> None:
    code = (
        "import sys, appliance.main as cell\n"
        "def refuses(): raise cell.SealingFailed(1, 'no')\n"
        "cell.seal_process = refuses\n"
        "sys.argv = ['appliance', '--config', 'none.toml', '--listen', 'unix:cell.sock']\n"
        "sys.exit(cell.main())\n"
    )
    ended = python(code, tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert json.loads(line)["exception"]["type"] == "SealingFailed"
    assert list(tmp_path.iterdir()) == []


def test_what_native_code_writes_by_itself_is_lost_and_log_lines_are_not(tmp_path: Path) -> None:
    """secrecy.md S16: as a failure in a library's Rust or C does, past everything that Python could hold back."""
    code = (
        "import ctypes, os, sys, structlog\n"
        "from appliance.process_hardening import take_output\n"
        "from foundation import logs\n"
        "{take}\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.perror(b'sixteen words of a prompt')\n"
        "libc.puts(b'sixteen words of a prompt'); libc.fflush(None)\n"
        "os.write(2, b'sixteen words of a prompt\\n')\n"
        "print('sixteen words of a prompt', file=sys.stderr)\n"
        "structlog.get_logger().info('still heard')\n"
    )
    quiet = python(code.format(take="logs.set_up(take_output())"), tmp_path)
    assert (quiet.returncode, quiet.stdout) == (0, "")
    assert [json.loads(line)["event"] for line in quiet.stderr.splitlines()] == ["still heard"]
    loud = python(code.format(take="logs.set_up()"), tmp_path)  # the search would see it
    assert (loud.stderr.count("sixteen words"), loud.stdout.count("sixteen words")) == (3, 1)
