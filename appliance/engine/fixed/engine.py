"""The engine `fixed-1`: requests in, steps out, the same bits whatever the machine, its threads and its history.

    engine = FixedEngine(weights, threads=2)
    for step in engine.run(request):
        ...

One request at a time owns the device. A request that begins while another's steps are still being read takes its
turn; the other's reader is told. What this does not establish: which model the weights are (the pack does), or that
profile and machine agree (the profile does).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed import self_test
from appliance.engine.fixed.architecture import Architecture, Weights
from appliance.engine.fixed.drafter import Drafter
from appliance.engine.fixed.library import Library
from appliance.engine.fixed.model import Model
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.sequence import Cached, extend, fill
from appliance.engine.protocol import SEED_BYTES, EngineRequest, Step
from appliance.engine.sampling.native import NativeSampler, NativeSampling
from appliance.engine.trace import LEADERS, Trace
from foundation import cbor
from foundation.digests import tagged_sha256

ID: Final = "fixed-1"


class FixedEngine:
    """Implements `appliance.engine.protocol.Engine`."""

    def __init__(
        self,
        weights: Weights,
        *,
        threads: int = 1,
        library: Library | None = None,
        rows_max: int = 128,
        speculate: bool = True,
        batch_bytes_max: int = 0,
        tight: bool = True,
    ) -> None:
        """`rows_max`: rows in a pass; `batch_bytes_max`: how much memory `run_many` may take for keys and values;
        `tight`: bf16 matrices are kept in three quarters of their bytes, beside the weights that were given."""
        self.library: Final = library or open_library()
        self.model: Final = Model(weights, self.library, threads=threads, rows_max=rows_max, tight=tight)
        self.batch_bytes_max: Final = batch_bytes_max
        self._speculate: Final = speculate
        self._sampling: Final = NativeSampling(self.library.kernels, weights.architecture.vocabulary)
        self._cached: Final = Cached(self.model.cache())
        self._fingerprint: Final = fingerprint(weights)
        self._turn = 0

    @property
    def id(self) -> str:
        return ID

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def fingerprint(self) -> bytes:
        """engine.md X19: the arithmetic, the architecture and its tables; not the machine, which changes no bit."""
        return self._fingerprint

    def run(self, request: EngineRequest) -> Iterator[Step]:
        """Raises `EngineRefused` or `SamplingRefused` at once for a request that cannot be served."""
        self.check(request)
        answer = Answer(self._sampling, request)
        self._turn += 1
        return self._steps(request, answer, self._turn)

    def check(self, request: EngineRequest) -> None:
        """Bounds, before anything is computed or taken."""
        a = self.architecture
        if not 1 <= len(request.prompt) <= a.positions_max:
            raise EngineRefused(
                "engine.prompt-length", expected=f"1 to {a.positions_max} tokens", got=len(request.prompt)
            )
        if not all(type(t) is int and 0 <= t < a.vocabulary for t in request.prompt):
            raise EngineRefused(
                "engine.prompt-token",
                expected=f"tokens below {a.vocabulary}",
                got="a token that is not of the vocabulary",
            )
        if type(request.max_tokens) is not int or request.max_tokens < 0:
            raise EngineRefused("engine.max-tokens", expected="a number of tokens", got=request.max_tokens)
        if len(request.seed) != SEED_BYTES:
            raise EngineRefused("engine.seed", expected=f"{SEED_BYTES} bytes", got=len(request.seed))

    def leaders(self, prompt: Sequence[int]) -> list[tuple[int, float]]:
        """The greatest logits for what follows these tokens, greatest first: for whoever compares two answers.

        What `run` weighs there, and its trace covers, whether the tokens were a prompt or were said (audit.md U53).
        """
        self.check(EngineRequest(tuple(prompt), 1, bytes(SEED_BYTES)))
        self._turn += 1
        self._cached.begin(tuple(prompt), b"")
        return self._sampling.leaders(fill(self.model, self._cached, tuple(prompt)), LEADERS)

    def _steps(self, request: EngineRequest, answer: Answer, turn: int) -> Iterator[Step]:
        room = self._room(request)
        self._mine(turn)
        cached = self._cached
        cached.begin(request.prompt, request.scope)
        if room == 0:
            return
        drafter = Drafter(request.prompt) if self._speculate else None
        logits = [fill(self.model, cached, request.prompt)]
        guesses: list[int] = []
        while True:
            steps = answer.confirm(logits, guesses, room)
            yield from self._said(steps, drafter, turn)
            if answer.ended or answer.count == room:
                return
            if drafter:
                drafter.judged(len(guesses), len(steps) - 1)
            last = steps[-1].token
            guesses = drafter.draft(min(room - answer.count, self.model.rows_max) - 1) if drafter else []
            cached.cut(len(request.prompt) + answer.count - 1)
            logits = extend(self.model, cached, [last, *guesses])

    def _said(self, steps: Sequence[Step], drafter: Drafter | None, turn: int) -> Iterator[Step]:
        for step in steps:
            if drafter:
                drafter.said(step.token)
            yield step
            self._mine(turn)

    def _mine(self, turn: int) -> None:
        if turn != self._turn:
            raise EngineRefused(
                "engine.superseded", expected="the newest request", got=f"request {turn} of {self._turn}"
            )

    def _room(self, request: EngineRequest) -> int:
        """The last token of an answer needs no position of its own."""
        return min(request.max_tokens, self.architecture.positions_max - len(request.prompt) + 1)

    def run_many(self, requests: Sequence[EngineRequest]) -> Iterator[tuple[int, Step]]:
        """Several answers side by side, a pass over the weights for all of them: (index, step) as steps come.

        The steps of each are those of `run`. Raises `EngineRefused` at once where the keys and values of all of them
        would take more than `batch_bytes_max`, or more rows than a pass has.
        """
        for request in requests:
            self.check(request)
        positions = [len(request.prompt) + self._room(request) for request in requests]
        needed = sum(self.model.cache_bytes(n) for n in positions)
        if needed > self.batch_bytes_max:
            raise EngineRefused(
                "engine.memory", expected=f"at most {self.batch_bytes_max} bytes of keys and values", got=needed
            )
        if len(requests) > self.model.rows_max:
            raise EngineRefused("engine.batch", expected=f"at most {self.model.rows_max} requests", got=len(requests))
        answers = [Answer(self._sampling, request) for request in requests]
        self._turn += 1
        return self._many(requests, answers, positions, self._turn)

    def _many(
        self, requests: Sequence[EngineRequest], answers: Sequence[Answer], positions: Sequence[int], turn: int
    ) -> Iterator[tuple[int, Step]]:
        self._mine(turn)
        caches = [Cached(self.model.cache(n)) for n in positions]
        active: list[int] = []
        for index, request in enumerate(requests):
            caches[index].begin(request.prompt, b"")
            if self._room(request) == 0:
                continue
            for step in answers[index].confirm([fill(self.model, caches[index], request.prompt)], [], 1):
                active.append(index)
                yield index, step
                self._mine(turn)
        while active := [i for i in active if not answers[i].ended and answers[i].count < self._room(requests[i])]:
            tokens = [answers[i].last for i in active]
            places = [len(caches[i].tokens) for i in active]
            found = self.model.forward(tokens, [caches[i].cache for i in active], places, range(len(active)))
            for index, token in zip(active, tokens, strict=True):
                caches[index].grew([token])
            # chosen before anything is yielded: another pass would overwrite these logits
            said = [answers[i].confirm([at], [], answers[i].count + 1) for i, at in zip(active, found, strict=True)]
            for index, steps in zip(active, said, strict=True):
                for step in steps:
                    yield index, step
                    self._mine(turn)


class Answer:
    """The tokens of one answer, chosen one after the other, with the trace of the way."""

    def __init__(self, sampling: NativeSampling, request: EngineRequest) -> None:
        self._sampler: Final = NativeSampler(sampling, request.sampling, request.seed, request.prompt)
        self._stop: Final = request.stop_tokens
        self._trace: Final = Trace()
        self.count = 0
        self.last = 0
        self.ended = False

    def confirm(self, logits: Sequence[int], guesses: Sequence[int], room: int) -> list[Step]:
        """Choose from one row of logits after the other while each choice is what the next row was computed for."""
        steps: list[Step] = []
        for index, at in enumerate(logits):
            token = self._sampler.choose_at(at)
            if token in self._stop:
                self.ended = True
                break
            steps.append(self._trace.add(token, self._sampler.led()))
            self.count += 1
            self.last = token
            if self.count == room or index == len(guesses) or token != guesses[index]:
                break
        return steps


def fingerprint(weights: Weights) -> bytes:
    """engine.md X19."""
    a = weights.architecture
    sizes = [
        a.layers,
        a.width,
        a.heads,
        a.kv_heads,
        a.head_width,
        a.hidden,
        a.vocabulary,
        a.positions_max,
        a.rotary_width,
        a.window or 0,
        a.window_from,
    ]
    switches = [a.tied, a.attention_bias, a.output_bias, a.head_norm]
    cosines, sines = (sha256(table).digest() for table in weights.rotary)
    return tagged_sha256(
        "anchorhold/engine/fixed/v1",
        cbor.encode(
            [
                ID,
                self_test.DIGEST,
                sizes,
                switches,
                struct.pack("<f", a.epsilon),
                [a.quantization.format.value, a.quantization.group],
                cosines,
                sines,
            ]
        ),
    )
