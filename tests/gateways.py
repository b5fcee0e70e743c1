"""Gateways for tests: other modules than the one that is checked in, and what a gateway certifies."""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from attestation.consensus.hashtree import Empty, Fork, HashTree, Labeled, Leaf
from devnet.gateway import gateway_wasm
from devnet.lone_gateway import LoneGateway

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
class Bench(LoneGateway):
    """With the module of today, for which an attack may put another."""

    module: bytes = field(default_factory=lambda: module_of_today(), repr=False)  # noqa: PLW0108  # the one of then


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
