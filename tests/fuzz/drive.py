"""Coverage-guided fuzzing of everything that parses what others wrote, for a bounded time.

    python -m tests.fuzz.drive --seconds 60                   every fuzz_*.py, 60 seconds each
    python -m tests.fuzz.drive --seconds 600 fuzz_wire        one of them, longer

A fuzzer is a module with `one_input(data: bytes) -> None`, which raises only if its invariant breaks, and
`SEEDS: list[bytes]`. Each runs in a process of its own, since atheris never returns; our packages are instrumented
as they are imported. What was learnt stays under build/fuzz/NAME/corpus and serves the next run. The exit status is
1 if any invariant broke; the input is named and printed in hex.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OURS = ["foundation", "vsock_bridge", "measurements", "attestation", "appliance", "image_build", "devnet"]
INPUT_SECONDS_MAX = 20  # one input that takes longer is a finding too
MEMORY_MB_MAX = 2048
GRACE_SECONDS = 120  # imports, instrumentation and reading the corpus come before the clock starts
INPUT_BYTES_MAX = 1 << 16
HEX_SHOWN = 4096


def names() -> list[str]:
    """Every fuzzer there is."""
    return sorted(path.stem for path in HERE.glob("fuzz_*.py"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.drive", description="fuzz what parses others' bytes")
    parser.add_argument("--seconds", type=int, default=60, help="for each fuzzer")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="which fuzzers; all if none is named")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.names) - set(names()))
    if unknown:
        parser.error(f"expected some of {', '.join(names())}; got {', '.join(unknown)}")
    if asked.child:
        fuzz(asked.names[0], asked.seconds)
    return 1 if [name for name in asked.names or names() if not held(name, asked.seconds)] else 0


def folder(name: str) -> Path:
    return ROOT / "build" / "fuzz" / name


def findings(name: str) -> set[Path]:
    return {path for path in folder(name).glob("*-*") if path.is_file()}


def held(name: str, seconds: int) -> bool:
    """Run one fuzzer in its process. True if its invariant held for the time."""
    corpus = folder(name) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    before = findings(name)
    print(f"fuzz: {name} for {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz.drive", "--child", "--seconds", str(seconds), name]
    with (folder(name) / "log").open("wb") as log:
        try:
            status = subprocess.run(
                command, cwd=ROOT, stdout=log, stderr=log, check=False, timeout=seconds + GRACE_SECONDS
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    return told(name, status, findings(name) - before)


def told(name: str, status: int, found: set[Path]) -> bool:
    said = (folder(name) / "log").read_text(errors="replace").splitlines()
    if status == 0 and not found:
        done = next((line for line in reversed(said) if line.startswith(("Done", "#"))), "ran")
        print(f"fuzz: {name} held: {done}", flush=True)
        return True
    print(f"fuzz: {name} BROKE with status {status}; the end of {folder(name) / 'log'}:")
    print("\n".join(f"  {line}" for line in said[-25:]))
    for path in sorted(found):
        data = path.read_bytes()
        more = f"... ({len(data)} bytes)" if len(data) > HEX_SHOWN else ""
        print(f"fuzz: {name} input {path}\n  {data[:HEX_SHOWN].hex()}{more}")
    sys.stdout.flush()
    return False


def fuzz(name: str, seconds: int) -> None:
    """The child: never returns."""
    import atheris

    with atheris.instrument_imports(include=OURS):
        fuzzer = importlib.import_module(f"tests.fuzz.{name}")
    corpus = folder(name) / "corpus"
    for seed in fuzzer.SEEDS:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-artifact_prefix={folder(name)}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([name, *options, str(corpus)], fuzzer.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
