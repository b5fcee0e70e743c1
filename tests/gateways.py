"""A gateway on a stand-in replica for tests: seeded randomness, a stepping clock, real-form certificates."""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from anchorhold.host.answer_reports import Report
from attestation.consensus.blocks import Block, Kind
from attestation.consensus.hashtree import Empty, Fork, HashTree, Labeled, Leaf
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import NO_ANSWER, Finish, Outcome, answer_digest
from attestation.receipts.seeds import SeedPolicy
from devnet.gateway import Gateway, gateway_wasm
from devnet.subnet import Subnet
from tests.little_receipts import PRICE, SERVED_BY

OWNER = b"\x01owner"
REPORTER = b"\x02reporter"
SECOND_REPORTER = b"\x02another reporter"
START_NS = 1_700_000_000_000_000_000
FIRST_MODULE: Final = Path(__file__).parent / "vectors" / "gateway-first.wasm.xz"


def first_module() -> bytes:
    """The module before the one that is checked in."""
    return lzma.decompress(FIRST_MODULE.read_bytes())


def module_of_today() -> bytes:
    """What a bench installs unless it is told otherwise."""
    return gateway_wasm()


def with_history_bound(module: bytes, bound: int) -> bytes:
    """A gateway's module compiled with another bound of its history: the constant, wherever the code has it."""
    found = module.count(_constant(HISTORY_BYTES_MAX))
    if found < 3:  # what it starts with, what may be set, and what a refusal says
        raise ValueError(f"expected the bound of the history at least three times in the module, got {found}")
    return module.replace(_constant(HISTORY_BYTES_MAX), _constant(bound))


HISTORY_BYTES_MAX: Final = 1 << 30


def _constant(value: int) -> bytes:
    """`i64.const` of a number as Motoko's code has it, two bits of tag below, in five bytes."""
    tagged = value << 2 | 2
    groups = [tagged >> shift & 0x7F for shift in range(0, 35, 7)]
    return bytes([0x42, *(group | 0x80 for group in groups[:-1]), groups[-1]])


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
    module: bytes = field(default_factory=lambda: module_of_today(), repr=False)  # noqa: PLW0108  # the one of then

    def __post_init__(self) -> None:
        self.subnet = Subnet(b"gateway tests")
        self.random = Random(self.seed)
        self.gateway = Gateway.on_subnet(
            self.subnet, clock=self.clock, randomness=lambda: self.random.randbytes(32), controllers=frozenset({OWNER})
        )
        self.replica = self.gateway.replica
        if self.module != gateway_wasm():
            self.replica.install(self.module)
        self.gateway.set_reporters(OWNER, [REPORTER, SECOND_REPORTER])


def caller(number: int) -> bytes:
    return b"\x02caller" + number.to_bytes(2, "big")


def certified_root(link: bytes, records: Mapping[int, bytes] | None = None) -> bytes:
    """What the gateway certifies (order.md O42), said again with the tree of the Internet Computer's verifier."""
    answers = _answers(sorted((records or {}).items()), 63)
    return Fork(Labeled(b"answers", answers), Labeled(b"link", Leaf(link))).digest


def _answers(records: Sequence[tuple[int, bytes]], bit: int) -> HashTree:
    if not records:
        return Empty()
    if len(records) == 1:
        number, record = records[0]
        return Labeled(number.to_bytes(8, "big"), Leaf(record))
    low = [each for each in records if not each[0] >> bit & 1]
    high = records[len(low) :]
    if not low or not high:
        return _answers(records, bit - 1)
    return Fork(_answers(low, bit - 1), _answers(high, bit - 1))


def person(number: int) -> bytes:
    """A principal in the form of a public key's."""
    return number.to_bytes(28, "big") + b"\x02"


def canister(number: int) -> bytes:
    return number.to_bytes(8, "big") + b"\x01\x01"


def receipt_for(
    block: Block, index: int, answer: bytes, finish: Finish | str = Finish.STOP, engine: bytes = b"\xe1" * 32
) -> bytes:
    """The body of a receipt that says `answer` to a request of `block`; another `engine` makes it another receipt."""
    request, header = block.requests[index], block.header
    refused = isinstance(finish, str)
    if request.kind is Kind.SEALED and not refused:
        finish = Finish.SEALED
    outcome = Outcome.refusal(finish) if isinstance(finish, str) else None
    return Receipt(
        by=replace(SERVED_BY, fingerprint=engine),
        gateway=header.canister,
        height=header.height,
        index=index,
        id=request.id,
        kind=request.kind,
        request=request.digest(),
        seed_policy=SeedPolicy.BEACON,
        seed=bytes(32),
        answer=NO_ANSWER if refused else answer_digest((answer,)),
        outcome=bytes(32) if outcome is None else outcome.commitment(),
        finish=finish,
        tokens_in=0 if refused else 12,
        tokens_out=0 if refused else 7,
        price=PRICE.digest,
        cycles=0,
        previous=bytes(32),
    ).encode()


def report_on(
    gateway: Gateway,
    height: int,
    index: int,
    answer: bytes = b"answer",
    *,
    finish: Finish | str = Finish.STOP,
    engine: bytes = b"\xe1" * 32,
    signature: bytes = b"signature",
) -> Report:
    """What a host would bring for that place: an answer and the receipt that fits it."""
    block = Block.decode(gateway.get_slice(height, 1).encoded[0])
    return Report(height, index, answer, receipt_for(block, index, answer, finish, engine), signature)
