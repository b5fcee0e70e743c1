"""The messages on the three ports, inside the frames. Deterministic CBOR, one shape for each message.

    host -> cell   [0]                      position?      where do you stand, and what do you want next
                   [1, proof bstr]          propose        here is a slice proof
                   [2, body bstr]           supply         here is a block's body: run it
    cell -> host   [0, height, link, wants, certified_time]               where I stand
                   [1, step, wants, through, certified_time]              what your proof did
                   [2, height, index, bytes]                              a piece of an answer: words, or a frame
                   [3, height, index, receipt bstr]                       the signed receipt: this request is done
                   [4, code, text]                                        refused, and why
                   [6, height, note bstr]                                 a checkpoint over all receipts so far

docs/spec/window.md N1 to N9. What does not parse is refused with code `window.format`, and costs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from appliance.message_parts import message_parts
from appliance.ordering.sequencer import Step, Verdict
from foundation import cbor
from foundation.digests import DIGEST_BYTES
from foundation.refusal import StagedRefused, outline

LIMITS: Final = cbor.Limits(bytes_max=4 << 20, depth_max=2, items_max=16)
_STEPS: Final = frozenset(step.value for step in Step)


class WindowRefused(StagedRefused):
    """An item that is none of the messages."""

    stage = "window"


# -- a host's messages


@dataclass(frozen=True, slots=True)
class PositionQuery:
    pass


@dataclass(frozen=True, slots=True)
class Propose:
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Supply:
    body: bytes = field(repr=False)


Ask: TypeAlias = PositionQuery | Propose | Supply


def encode_ask(ask: Ask) -> bytes:
    match ask:
        case PositionQuery():
            return cbor.encode([0])
        case Propose(proof):
            return cbor.encode([1, proof])
        case Supply(body):
            return cbor.encode([2, body])


def decode_ask(raw: bytes) -> Ask:
    """One of the three, or `WindowRefused`."""
    match message_parts(raw, LIMITS, WindowRefused):
        case [0]:
            return PositionQuery()
        case [1, bytes(proof)]:
            return Propose(proof)
        case [2, bytes(body)]:
            return Supply(body)
        case value:
            raise WindowRefused("format", expected="position, propose or supply", got=outline(value))


# -- what the cell says


@dataclass(frozen=True, slots=True)
class Standing:
    """Behind which block the cell stands; before the first proof `height` is 0 and `link` None."""

    height: int
    link: bytes | None
    wants: int | None
    certified_time_ns: int


@dataclass(frozen=True, slots=True)
class Judged:
    step: str
    wants: int | None
    through: int
    certified_time_ns: int

    @classmethod
    def of(cls, verdict: Verdict) -> Judged:
        return cls(verdict.step.value, verdict.wants, verdict.through, verdict.certified_time_ns)


@dataclass(frozen=True, slots=True)
class Piece:
    height: int
    index: int
    words: bytes = field(repr=False)  # of a sealed answer: one frame


@dataclass(frozen=True, slots=True)
class Answered:
    """The request's receipt, and so its end; of one that cannot be answered it is all there is."""

    height: int
    index: int
    receipt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The cell's signed word on its whole log, after the last receipt of a block."""

    height: int
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Declined:
    """The ask was refused. Nothing changed."""

    code: str
    text: str


Say: TypeAlias = Standing | Judged | Piece | Answered | Checkpoint | Declined


def encode_say(say: Say) -> bytes:
    match say:
        case Standing(height, link, wants, certified_time_ns):
            return cbor.encode([0, height, link, wants, certified_time_ns])
        case Judged(step, wants, through, certified_time_ns):
            return cbor.encode([1, step, wants, through, certified_time_ns])
        case Piece(height, index, words):
            return cbor.encode([2, height, index, words])
        case Answered(height, index, receipt):
            return cbor.encode([3, height, index, receipt])
        case Declined(code, text):
            return cbor.encode([4, code, text])
        case Checkpoint(height, note):
            return cbor.encode([6, height, note])


def decode_say(raw: bytes) -> Say:
    """For the host: what a cell said. A host checks shape here and truth elsewhere."""
    match message_parts(raw, LIMITS, WindowRefused):
        case [0, int(height), bytes() | None as link, int() | None as wants, int(time_ns)] if _stands(height, link):
            return Standing(height, link, wants, time_ns)
        case [1, str(step), int() | None as wants, int(through), int(time_ns)] if step in _STEPS:
            return Judged(step, wants, through, time_ns)
        case [2, int(height), int(index), bytes(words)]:
            return Piece(height, index, words)
        case [3, int(height), int(index), bytes(receipt)]:
            return Answered(height, index, receipt)
        case [4, str(code), str(text)]:
            return Declined(code, text)
        case [6, int(height), bytes(note)]:
            return Checkpoint(height, note)
        case value:
            raise WindowRefused("format", expected="something a cell says", got=outline(value))


def _stands(height: int, link: bytes | None) -> bool:
    """A link is a digest, and missing only where there is no position yet."""
    return height == 0 if link is None else len(link) == DIGEST_BYTES
