"""Sealing and opening a pack, against what the same threads can do with the same bytes and nothing else.

Side by side, rounds alternating, of each the best round: what else the machine does only ever adds. Ratios by the
clock and by processor time:
    bare        AES-256-GCM decryption and one SHA-256 over buffers in cache: no file, no new memory
    bare seal   encryption and two SHA-256 (plaintext and ciphertext)
    reading     the pack, read plainly into buffers
    memory      as much fresh memory as the model takes, touched once: what kernel and hypervisor ask for it. Runs just
                before opening, which then pays the kernel alone, as in a cell whose memory is its own from the start
    openssl     `openssl speed -evp aes-256-gcm`, where there is one; AES alone, no hash
Opening includes reading the file and the kernel's zeroing of the memory it fills. Peak memory is VmHWM of a process
that does nothing but open the pack.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from devnet.model import TinyModel
from foundation.secrecy import Secret
from measurements.pack.arena import Arena
from measurements.pack.disk import read_at
from measurements.pack.pack_check import verify_pack
from measurements.pack.pack_manifest import CHUNK_BYTES
from measurements.pack.pack_reader import open_pack
from measurements.pack.pack_writer import seal_pack

MODEL = TinyModel(layers=16, width=2048)  # 257 MiB of weights
THREADS = (1, 2)
ROUNDS = 8
_ZEROS = bytes(CHUNK_BYTES)
KEY = Secret(bytes(range(32)))

_PEAK = """
import sys
from pathlib import Path
from bench.pack import KEY
from measurements.pack.pack_reader import open_pack
def high():
    return int(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')).split()[1])
before = high()
with open_pack(Path(sys.argv[1]), KEY, threads=int(sys.argv[2])) as opened:
    print(before * 1024, high() * 1024, opened.signed.header.manifest.plain_bytes)
"""


@dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds on the clock, and of processors: the second hardly feels what else the machine does."""

    wall: float
    cpu: float


def _cost(work: Callable[[], object]) -> _Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return _Cost(time.perf_counter() - wall, time.process_time() - cpu)


def _best(costs: list[_Cost]) -> _Cost:
    return _Cost(min(cost.wall for cost in costs), min(cost.cpu for cost in costs))


def _ratios(ours: _Cost, bare: _Cost) -> tuple[float, float]:
    """By the clock and by processor time: 1.0 is as fast as bare."""
    return round(bare.wall / ours.wall, 2), round(bare.cpu / ours.cpu, 2)


def _bare(threads: int, chunks: int, *, seal: bool) -> None:
    cipher, nonce = AESGCM(KEY.reveal()), bytes(12)

    def work(count: int) -> None:
        plain, sealed = bytearray(CHUNK_BYTES), bytearray(CHUNK_BYTES + 16)
        cipher.encrypt_into(nonce, plain, b"", sealed)
        for _ in range(count):
            if seal:
                hashlib.sha256(plain)
                cipher.encrypt_into(nonce, plain, b"", sealed)
                hashlib.sha256(sealed)
            else:
                cipher.decrypt_into(nonce, sealed, b"", plain)
                hashlib.sha256(plain)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [chunks // threads] * threads))


def _read(path: Path, threads: int) -> None:
    descriptor, size = os.open(path, os.O_RDONLY), path.stat().st_size

    def work(first: int) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for at in range(first * CHUNK_BYTES, size, threads * CHUNK_BYTES):
            read_at(descriptor, buffer, at)

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
    finally:
        os.close(descriptor)


def _touch(size: int, threads: int) -> None:
    arena = Arena(size)

    def work(first: int) -> None:
        for at in range(first * CHUNK_BYTES, size, threads * CHUNK_BYTES):
            part = arena.view[at : at + CHUNK_BYTES]
            part[:] = _ZEROS[: len(part)]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    arena.close()


def _open(path: Path, threads: int) -> None:
    with open_pack(path, KEY, threads=threads):
        pass


def _seal(folder: Path, threads: int) -> None:
    out = folder / "again.pack"
    seal_pack(folder / "model", out, KEY, threads=threads)
    out.unlink()


def _openssl(threads: int) -> float | None:
    """Gigabytes a second, or None where there is no openssl."""
    if shutil.which("openssl") is None:
        return None
    many = ["-multi", str(threads)] if threads > 1 else []
    command = ["openssl", "speed", "-seconds", "1", "-bytes", str(CHUNK_BYTES), *many, "-evp", "aes-256-gcm"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rates = re.findall(r"(?i)aes-256-gcm\s+([\d.]+)k", said)
    return float(rates[-1]) / 1e6 if rates else None


def _peak(path: Path, threads: int) -> tuple[int, int]:
    """Bytes beyond the model at the highest, in all and beyond what the interpreter held before."""
    said = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path), str(threads)], capture_output=True, text=True, check=True
    ).stdout
    before, high, model = map(int, said.split())
    return high - model, high - model - before


def run() -> list[dict[str, Any]]:
    """Rows of the table, as data. Rates are gigabytes of plaintext a second."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        MODEL.write(folder / "model")
        path = folder / "model.pack"
        size = seal_pack(folder / "model", path, KEY, threads=2).header.manifest.plain_bytes
        chunks = size // CHUNK_BYTES
        for threads in THREADS:
            works: dict[str, Callable[[], object]] = {
                "bare": lambda n=threads: _bare(n, chunks, seal=False),  # type: ignore[misc]
                "memory": lambda n=threads: _touch(size, n),  # type: ignore[misc]
                "open": lambda n=threads: _open(path, n),  # type: ignore[misc]
                "bare_seal": lambda n=threads: _bare(n, chunks, seal=True),  # type: ignore[misc]
                "seal": lambda n=threads: _seal(folder, n),  # type: ignore[misc]
                "verify": lambda n=threads: verify_pack(path, threads=n),  # type: ignore[misc]
                "read": lambda n=threads: _read(path, n),  # type: ignore[misc]
            }
            for work in works.values():
                work()
            rounds = [{label: _cost(work) for label, work in works.items()} for _ in range(ROUNDS)]
            best = {label: _best([each[label] for each in rounds]) for label in works}
            rate = {label: size / cost.wall / 1e9 for label, cost in best.items()}
            openssl, (beyond, growth) = _openssl(threads), _peak(path, threads)
            rows.append(
                {
                    "threads": threads,
                    "model_mib": size >> 20,
                    **{label: round(rate[label], 2) for label in works},
                    "openssl_aes": None if openssl is None else round(openssl, 2),
                    "open_of_bare": _ratios(best["open"], best["bare"]),
                    "seal_of_bare": _ratios(best["seal"], best["bare_seal"]),
                    "peak_beyond_model_mib": round(beyond / (1 << 20), 1),
                    "of_which_opening_mib": round(growth / (1 << 20), 1),
                }
            )
    return rows


def main() -> None:
    rows = run()
    print("pack: GB/s of plaintext; goal: opening at 0.7 of bare AES-GCM and SHA-256, peak below model + 256 MiB")
    for row in rows:
        print(
            "  {threads} thread(s), {model_mib} MiB  open {open} of bare {bare}: ratio {open_of_bare[0]} "
            "(CPU time {open_of_bare[1]})  seal {seal} of bare {bare_seal}: ratio {seal_of_bare[0]} "
            "(CPU time {seal_of_bare[1]})\n"
            "      verify {verify}  plain reading {read}  fresh memory {memory}  openssl AES alone {openssl_aes}  "
            "peak: model + {peak_beyond_model_mib} MiB".format(**row)
        )
    print(json.dumps({"pack": rows}))


if __name__ == "__main__":
    main()
