"""A gateway on a stand-in replica for tests: seeded randomness, a stepping clock, real-form certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from devnet.gateway import Gateway
from devnet.subnet import Subnet

OWNER = b"\x01owner"
REPORTER = b"\x02reporter"
SECOND_REPORTER = b"\x02another reporter"
START_NS = 1_700_000_000_000_000_000


@dataclass
class Clock:
    now_ns: int = START_NS
    step_ns: int = 1_000_000

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@dataclass
class Bench:
    """One installed gateway and everything a test may turn."""

    seed: int = 0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.subnet = Subnet(b"gateway tests")
        self.random = Random(self.seed)
        self.gateway = Gateway.on_subnet(
            self.subnet, clock=self.clock, randomness=lambda: self.random.randbytes(32), controllers=frozenset({OWNER})
        )
        self.replica = self.gateway.replica
        self.gateway.set_reporters(OWNER, [REPORTER, SECOND_REPORTER])


def caller(number: int) -> bytes:
    return b"\x02caller" + number.to_bytes(2, "big")
