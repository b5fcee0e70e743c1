"""secrecy.md S15: a ring that nobody needs any more is gone, looked at from outside the process that held it."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from tests.memory import holds, needs_root

HOLDER = """
import sys
from attestation.sealed.ring import Ring
from foundation.secrecy import owned
ring = Ring.parse(owned(bytes.fromhex(sys.stdin.buffer.readline().strip().decode())))
ring.encode(), [key.key.public.id for key in ring.keys]
print("held", flush=True)
sys.stdin.readline()
del ring
print("dropped", flush=True)
sys.stdin.readline()
"""


@needs_root
@pytest.mark.parametrize("suite", SuiteId)
def test_nothing_is_left_of_a_ring_that_was_dropped(suite: SuiteId) -> None:
    ring = Ring.make(suite, 1, 100, 10, randomness=secrets.token_bytes)
    seeds = [key.key.secret.reveal() for key in ring.keys]
    parts = [seed[at : at + 32] for seed in seeds for at in range(0, len(seed), 32)]
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def told(word: bytes) -> bytes:
            process.stdin.write(word + b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return process.stdout.readline().strip()  # type: ignore[union-attr]

        assert told(ring.encode().reveal().hex().encode()) == b"held"
        assert all(holds(process.pid, parts))
        assert told(b"") == b"dropped"
        assert holds(process.pid, parts) == [0] * len(parts)
        process.stdin.close()
