"""Everything that must not change the output of the `fixed` engine, done to it around one request.

    with opened(folder, Quantization()) as machines:
        for what, disturb in DISTURBANCES.items():
            run = disturb(machines, dice, asked)        -> _differences.Run

The reference is the plainest way there is: scalar kernels, one thread, one row a pass, weights as they came, no
guesses, an engine that has served nothing. `Evidence` counts what the disturbances did, so that a row of zeros can be
told from one that disturbed nothing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from itertools import chain, cycle, islice
from pathlib import Path
from random import Random
from typing import Final, cast

from appliance.engine.fixed.architecture import Format, Quantization, Tensor, Weights
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.library import Variant, declared
from appliance.engine.fixed.model import Cache, Model
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.quantization import QuantizedWeights
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.protocol import EngineRequest, Step
from appliance.models.config import describe
from appliance.models.folder import open_folder
from appliance.models.loaded_model import load_model
from bench import _asked
from bench._differences import Run

ROWS: Final = 128
SEQUENCES: Final = 8
BATCH_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Settings:
    """How an engine is made; no variant: the widest kernels there are."""

    variant: Variant | None = None
    threads: int = 1
    rows: int = ROWS
    speculate: bool = False
    tight: bool = True


PLAINEST: Final = Settings(Variant.SCALAR, rows=1, tight=False)
_RARE: Final = bytes(sign | exponent for exponent in range(0x30, 0x3C) for sign in (0, 0x80))
_RARELY: Final = 997  # weights to one that has a rare upper byte


class EvenWeights(MadeWeights):
    """As many numbers above zero as below, in the same measure: no direction drowns the others, so prompts matter.

    More upper bytes than tight rows have names for, as trained weights have: some become patches.
    """

    def tensor(self, name: str) -> Tensor:
        tensor = super().tensor(name)
        if "norm" in name:
            return tensor
        data = bytearray(tensor.data)
        upper = data[1::2].replace(b"\xbb", b"\xbd")
        upper[::_RARELY] = bytes(islice(cycle(_RARE), len(upper[::_RARELY])))
        data[1::2] = upper
        return replace(tensor, data=memoryview(data).toreadonly())


@dataclass(slots=True)
class Evidence:
    """What happened inside, summed over runs."""

    passes: int = 0
    rows: int = 0  # tokens computed
    parts: int = 0  # passes over a part of a prompt that is not its last
    guessed: int = 0  # tokens computed on a guess
    together: int = 0  # tokens computed beside another sequence's
    reused: int = 0  # tokens of prompts whose keys and values were there already

    def clear(self) -> None:
        for each in fields(self):
            setattr(self, each.name, 0)

    def copy(self) -> Evidence:
        return replace(self)

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class WatchedModel(Model):
    """Keeps a digest of every row of logits it gives, by cache and position, and counts."""

    seen: dict[tuple[int, int], bytes]
    evidence: Evidence

    def forward(
        self, tokens: Sequence[int], caches: Sequence[Cache], positions: Sequence[int], wanted: Sequence[int] = ()
    ) -> list[int]:
        found = super().forward(tokens, caches, positions, wanted)
        for row, address in zip(wanted, found, strict=True):
            self.seen[caches[row].address, positions[row]] = sha256(self.logits(address)).digest()
        alone = len({cache.address for cache in caches}) == 1
        self.evidence.passes += 1
        self.evidence.rows += len(tokens)
        self.evidence.parts += not wanted
        self.evidence.guessed += len(wanted) - 1 if alone and wanted else 0
        self.evidence.together += 0 if alone else len(tokens)
        return found


class WatchedEngine(FixedEngine):
    """The engine as it is, over a model that is watched."""

    def __init__(self, weights: Weights, settings: Settings, evidence: Evidence) -> None:
        super().__init__(
            weights,
            threads=settings.threads,
            library=open_library(settings.variant),
            rows_max=settings.rows,
            speculate=settings.speculate,
            batch_bytes_max=BATCH_BYTES,
            tight=settings.tight,
        )
        self.model.__class__ = WatchedModel
        self.watched: Final = cast("WatchedModel", self.model)
        self.watched.seen, self.watched.evidence = {}, evidence

    def one(self, asked: EngineRequest) -> Run:
        self.watched.seen.clear()
        evidence, running = self.watched.evidence, self.run(asked)
        before = evidence.rows
        first = list(islice(running, 1))
        evidence.reused += len(asked.prompt) - (evidence.rows - before)
        return self._run(list(chain(first, running)), asked, 0)

    def several(self, asked: Sequence[EngineRequest], which: int) -> Run:
        self.watched.seen.clear()
        steps: list[list[Step]] = [[] for _ in asked]
        for index, step in self.run_many(asked):
            steps[index].append(step)
        return self._run(steps[which], asked[which], which)

    def _run(self, steps: Sequence[Step], asked: EngineRequest, which: int) -> Run:
        """Logits after the prompt and after each token but the last, of the sequence whose cache came as `which`."""
        seen, start = self.watched.seen, len(asked.prompt) - 1
        cache = list(dict.fromkeys(address for address, _ in seen))[which]
        return Run(
            tuple(step.token for step in steps),
            tuple(step.trace for step in steps),
            tuple(seen[cache, start + place] for place in range(len(steps))),
        )


@dataclass(slots=True)
class Machines:
    """One model, and engines over it that are kept: what each has served before is history for the next."""

    folder: Path
    quantization: Quantization
    weights: Weights
    evidence: Evidence = field(default_factory=Evidence)
    kept: dict[Settings, WatchedEngine] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        return self.weights.architecture.vocabulary

    def anew(self, settings: Settings) -> WatchedEngine:
        return WatchedEngine(self.weights, settings, self.evidence)

    def engine(self, settings: Settings) -> WatchedEngine:
        if settings not in self.kept:
            self.kept[settings] = self.anew(settings)
        return self.kept[settings]

    def another(self, dice: Random) -> EngineRequest:
        return _asked.longer(dice, dice.choice(_asked.TEMPERATURES), self.vocabulary)


@contextmanager
def opened(folder: Path, quantization: Quantization) -> Iterator[Machines]:
    with open_folder(folder) as files:
        plain = load_model(files.tensors(), describe(files.file("config.json")))
        bf16 = quantization.format is Format.BF16
        yield Machines(folder, quantization, plain if bf16 else QuantizedWeights(plain, quantization, open_library()))


def variants() -> list[Variant]:
    return [variant for variant in Variant if declared().fixed_has(variant.value)]


def reference(machines: Machines, asked: EngineRequest) -> Run:
    return machines.anew(PLAINEST).one(asked)


# ---- the disturbances

Disturb = Callable[[Machines, Random, EngineRequest], Run]


def restarted(machines: Machines, dice: Random, asked: EngineRequest) -> Run:  # noqa: ARG001 - nothing to choose
    with opened(machines.folder, machines.quantization) as again:
        again.evidence = machines.evidence
        return again.anew(Settings()).one(asked)


def in_a_new_process(machines: Machines, dice: Random, asked: EngineRequest) -> Run:  # noqa: ARG001 - as above
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_alone, machines.folder, machines.quantization, asked).result()


def _alone(folder: Path, quantization: Quantization, asked: EngineRequest) -> Run:
    with opened(folder, quantization) as machines:
        return machines.anew(Settings()).one(asked)


def after_others(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    engine = machines.engine(Settings())
    for _ in range(dice.randint(1, 3)):
        list(engine.run(machines.another(dice)))
    return engine.one(asked)


def after_a_cancelled(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    """Closed, or left open until the next request takes its turn; before its first pass, or some tokens on."""
    engine = machines.engine(Settings())
    left = engine.run(machines.another(dice))
    for _ in islice(left, dice.randint(0, 8)):
        pass
    if dice.random() < 0.5:
        left.close()  # type: ignore[attr-defined]    # the protocol says Iterator; it is a generator
    return engine.one(asked)


def made(settings: Settings) -> Disturb:
    return lambda machines, _, asked: machines.engine(settings).one(asked)


def in_chunks(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    return machines.engine(Settings(rows=dice.randint(1, len(asked.prompt)))).one(asked)


def with_a_remainder_of_one(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    return machines.engine(Settings(rows=leaving_one(dice, len(asked.prompt)))).one(asked)


def leaving_one(dice: Random, prompt: int) -> int:
    """Rows of a pass, so that some whole passes and one of a single row make a prompt."""
    return dice.choice([rows for rows in range(2, prompt) if (prompt - 1) % rows == 0] or [1])


def over_a_prefix(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    """Another request of the same scope began with the same tokens; or it is the same prompt, with more said after."""
    engine, scope = machines.engine(Settings()), dice.randbytes(8)
    shared = asked.prompt[: dice.randint(1, len(asked.prompt))]
    other = machines.another(dice)
    list(engine.run(replace(other, prompt=shared + other.prompt, scope=scope)))
    return engine.one(replace(asked, scope=scope))


def beside_others(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    neighbours = [machines.another(dice) for _ in range(dice.randint(0, SEQUENCES - 1))]
    which = dice.randint(0, len(neighbours))
    return machines.engine(Settings()).several([*neighbours[:which], asked, *neighbours[which:]], which)


def everything(machines: Machines, dice: Random, asked: EngineRequest) -> Run:
    """All of it at once, on any kernels but the slow ones."""
    quick = variants()[1:] or variants()
    settings = Settings(
        dice.choice(quick),
        dice.randint(1, 3),
        dice.choice((1, 3, 7, 16, 29, ROWS)),
        dice.random() < 0.5,
        dice.random() < 0.5,
    )
    engine, scope = machines.engine(settings), dice.choice((b"", b"a"))
    for _ in range(dice.randint(0, 2)):
        other = replace(machines.another(dice), scope=scope)
        shared = dice.randint(0, len(asked.prompt))
        list(islice(engine.run(replace(other, prompt=asked.prompt[:shared] + other.prompt)), dice.randint(0, 8)))
    if settings.rows >= SEQUENCES and dice.random() < 0.3:
        return engine.several([machines.another(dice), asked, machines.another(dice)], 1)
    return engine.one(replace(asked, scope=scope))


_KERNELS: Final = "kernels: "
SLOW: Final = f"{_KERNELS}{Variant.SCALAR.name}"
NEW_PROCESS: Final = "restart: in a new process"
CHUNKS: Final = "the prompt in chunks of any size"
REMAINDER: Final = "chunks that leave a remainder of one"
PREFIX: Final = "a prefix reused"
NEIGHBOURS: Final = "1 to 8 sequences in a pass"
SPECULATION: Final = "speculation"
AS_THEY_CAME: Final = "weights read as they came, not from tight rows"
OTHERS: Final = "other prompts before"
CANCELLED: Final = "a cancelled request before"
DISTURBANCES: Final[Mapping[str, Disturb]] = {
    "restart: the model opened and the engine made anew": restarted,
    NEW_PROCESS: in_a_new_process,
    OTHERS: after_others,
    CANCELLED: after_a_cancelled,
    **{f"{threads} {'threads' if threads > 1 else 'thread'}": made(Settings(threads=threads)) for threads in (1, 2, 3)},
    **{f"{_KERNELS}{each.name}": made(Settings(each)) for each in Variant if each is not Variant.CUDA},
    CHUNKS: in_chunks,
    REMAINDER: with_a_remainder_of_one,
    PREFIX: over_a_prefix,
    NEIGHBOURS: beside_others,
    SPECULATION: made(Settings(speculate=True)),
    AS_THEY_CAME: made(Settings(tight=False)),
    "all of these at once": everything,
}


def available(quantization: Quantization) -> list[str]:
    """Those that this machine's processor can do, and that are something to these weights."""
    lacks = {f"{_KERNELS}{each.name}" for each in Variant if each not in variants()}
    if quantization.format is not Format.BF16:
        lacks.add(AS_THEY_CAME)
    return [row for row in DISTURBANCES if row not in lacks]
