"""Generated requests and answers through the cell's own code, with the fixed engine behind it.

    python -m tests.text_pairs --pairs 200000 --seed 1

None raises and none is a fault of text, each ends in a receipt, and all kernels say the same: a small engine runs each
request once with scalar kernels and once with AVX-512 where this processor has it. It reads the end of the prompt and
samples. What it says behind its first token is the grammar's (`tests.text_grammar`), or its own. Whatever is said is
read back as a client reads it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice

from appliance.engine.fixed.architecture import Architecture
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.library import Variant
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.protocol import EngineRequest, Sampling, Step
from appliance.model_runtime import ModelRuntime, ModelScript
from appliance.ordering.sequencer import OrderedRequest
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import FAULT, Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Piece, Say, encode_say
from appliance.text import ModelText
from attestation.consensus.blocks import Kind
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import Finish, answer_digest
from attestation.receipts.price import FREE
from attestation.sealed.frames import AnswerKeys, FrameReader, split
from attestation.sealed.request import Mode, Unsealed, seal
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.subnet import GATEWAY
from foundation import cbor
from foundation.secrecy import Prompt, Secret
from tests import little_text
from tests.fixed_models import variants
from tests.text_grammar import Drawn, Pair, pair_of
from tests.unit.appliance.orders import BY, NAMES, PLACE, RECEIPT_KEY, ordered, receipt

CONTEXT = 1024
ARCHITECTURE = Architecture(
    layers=1,
    width=32,
    heads=2,
    kv_heads=1,
    head_width=16,
    hidden=32,
    vocabulary=440,
    positions_max=CONTEXT,
    epsilon=1e-5,
    rotary_width=16,
    tied=True,
)
RING = Ring.make(SuiteId.X25519, 1, 10**6, 1, randomness=os.urandom)
REPLY_KEY = Secret(b"\x06" * 32)
READ_TOKENS = 24  # of a prompt, its last
OWN_TOKENS = 8


class Speaking:
    """A real engine that says what it is told behind its first token, each step traced over what it weighed."""

    def __init__(self, engine: FixedEngine) -> None:
        self._engine = engine
        self.id = engine.id
        self.fingerprint = engine.fingerprint
        self.says: tuple[int, ...] | None = None

    def run(self, request: EngineRequest) -> Iterator[Step]:
        steps = self._engine.run(replace(request, prompt=request.prompt[-READ_TOKENS:]))  # or refuses, at once
        return islice(steps, OWN_TOKENS) if self.says is None else self._told(steps, request, self.says)

    @staticmethod
    def _told(steps: Iterator[Step], request: EngineRequest, says: tuple[int, ...]) -> Iterator[Step]:
        first = next(steps, None)
        trace = bytes(32) if first is None else first.trace
        for token in says[: request.max_tokens]:
            yield Step(token, trace)


@cache
def kernels() -> list[Variant]:
    """Scalar, and AVX-512 where this processor has it."""
    return [each for each in variants() if each in (Variant.SCALAR, Variant.AVX512)]


@cache
def engine(variant: Variant) -> Speaking:
    return Speaking(FixedEngine(MadeWeights(ARCHITECTURE), library=open_library(variant)))


@cache
def script(family: str) -> ModelScript:
    return ModelScript(ModelText.of(little_text.files(family), context_tokens=CONTEXT), Sampling())


def check(pair: Pair) -> Receipt:
    """One pair, by a new cell for each set of kernels. Raises if any invariant breaks; its receipt."""
    request = _ordered(pair)
    says = [_says(variant, pair, request) for variant in kernels()]
    if any(other != says[0] for other in says[1:]):
        raise AssertionError("kernels part")
    *pieces, end = says[0]
    if not isinstance(end, Answered) or not all(isinstance(each, Piece) for each in pieces):
        raise AssertionError("no receipt at the end, or something besides pieces before it")
    for say in says[0]:
        encode_say(say)
    told = receipt(end.receipt)
    if told.finish == FAULT:
        raise AssertionError("text failed over it")  # a receipt all the same, and a hole to close
    _check_said(pair, request, told, b"".join(each.words for each in pieces if isinstance(each, Piece)))
    return told


def _says(variant: Variant, pair: Pair, request: OrderedRequest) -> list[Say]:
    speaking = engine(variant)
    speaking.says = pair.says
    runtime = ModelRuntime(speaking, script(pair.family))
    book, terms = ReceiptBook(RECEIPT_KEY, BY, GATEWAY, FREE), Terms(GATEWAY, RAISED, True, PLACE, NAMES)
    return list(Answering(runtime, book, terms, Rings(RING)).answer(request))


def _ordered(pair: Pair) -> OrderedRequest:
    if not pair.sealed:
        return ordered(payload=pair.payload)
    mode = Mode.STREAM if pair.streams else Mode.WHOLE
    inside = Unsealed(Prompt(pair.payload), REPLY_KEY, mode, None)
    return ordered(payload=seal(inside, RING.keys[0].key.public, PLACE, 10**6), kind=Kind.SEALED)


def _check_said(pair: Pair, request: OrderedRequest, told: Receipt, said: bytes) -> None:
    if told.refused:
        return
    if answer_digest([said]) != told.answer:
        raise AssertionError("the receipt is of another answer")
    words, finish = said, told.finish
    if pair.sealed:
        keys = AnswerKeys.derive(
            REPLY_KEY,
            config=BY.config,
            gateway=GATEWAY,
            height=request.height,
            index=request.index,
            number=request.id,
            request=request.request_digest,
        )
        reader = FrameReader(keys)
        words = b"".join(map(reader.feed, split(said)))
        finish = reader.end().finish
    if finish is Finish.TOOL_CALLS:
        value = cbor.decode(words, cbor.Limits(bytes_max=1 << 20, depth_max=8, items_max=1 << 17))
        assert isinstance(value, dict)
    else:
        words.decode()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.text_pairs", description="pairs of requests and answers")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    choices, finishes = Drawn(random.Random(asked.seed)), Counter[str]()
    for number in range(asked.pairs):
        pair = pair_of(choices)
        try:
            finishes[str(check(pair).finish)] += 1
        except BaseException:
            print(f"pair {number} of seed {asked.seed} broke: {pair}", file=sys.stderr)
            raise
        if number % 10_000 == 9_999:
            print(f"{number + 1} pairs", flush=True)
    print(f"{asked.pairs} pairs, kernels {', '.join(each.name for each in kernels())}: each ended in a receipt")
    for finish, count in finishes.most_common():
        print(f"  {count:8}  {finish}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
