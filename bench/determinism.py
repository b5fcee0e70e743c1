"""Whether anything but the request reaches a token, a trace digest or a logit: the determinism matrix.

    python -m bench determinism                              `fixed`, a few runs of each disturbance
    python -m bench.determinism --runs 1000 --page PAGE      as docs/benchmarks/determinism.md was made
    python -m bench.determinism --peers PYTHON               and our `vllm` engine and others, by their interpreter

Each disturbance of `_disturbances` at T = 0, 0.7 and 1, on random weights whose sums are longer than 2,048, against one
reference run of each request. Cells are kept in --record as they are finished; the page is made of what is there.
A difference is printed with its request's number, and ends the program with status 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from appliance.engine.fixed.architecture import Architecture, Format, Quantization
from appliance.engine.protocol import EngineRequest
from bench import _asked
from bench._cells import Cell, Record
from bench._determinism_page import page
from bench._differences import Run, Tally, compared
from bench._disturbances import DISTURBANCES, NEW_PROCESS, SLOW, EvenWeights, Machines, available, opened, reference
from bench._peer_matrix import OURS, THEIRS, peer_cells, versions_of
from bench.engine import FOLDER, write_checkpoint


def _llama(width: int, hidden: int) -> Architecture:
    return Architecture(
        layers=2,
        width=width,
        heads=4,
        kv_heads=2,
        head_width=64,
        hidden=hidden,
        vocabulary=512,
        positions_max=256,
        epsilon=1e-5,
        rotary_width=64,
    )


SHAPES: Final = {"wide": _llama(2048, 384), "tall": _llama(256, 4160)}
PEERS: Final = (OURS, *THEIRS)
PEERS_SHAPE: Final = "wide"
PROCESSES: Final = 20  # runs of a cell that get a process of their own

Make = Callable[[Random, float, int], EngineRequest]


@dataclass(frozen=True, slots=True)
class Column:
    """What serves, and one of how many runs it gets."""

    name: str
    shape: str
    quantization: Quantization
    share: int


COLUMNS: Final = (
    Column("fixed bf16", "wide", Quantization(), 1),
    Column("fixed bf16, tall", "tall", Quantization(), 10),
    Column("fixed int8", "wide", Quantization(Format.INT8, 32), 10),
    Column("fixed int4", "wide", Quantization(Format.INT4, 32), 10),
)


@dataclass(frozen=True, slots=True)
class Pool:
    """Requests of one temperature with their reference runs; the slow kernels get short ones."""

    long: Sequence[tuple[EngineRequest, Run]]
    short: Sequence[tuple[EngineRequest, Run]]


def pool(machines: Machines, dice: Random, temperature: float, size: int) -> Pool:
    def drawn(make: Make) -> list[tuple[EngineRequest, Run]]:
        asked = [make(dice, temperature, machines.vocabulary) for _ in range(size)]
        return [(each, reference(machines, each)) for each in asked]

    return Pool(drawn(_asked.longer), drawn(_asked.short))


def runs_of(row: str, runs: int, processes: int) -> int:
    return min(runs, processes) if row == NEW_PROCESS else runs


def cell(machines: Machines, column: str, row: str, temperature: float, pooled: Pool, runs: int, seed: int) -> Cell:
    dice = _asked.seeded(seed, column, row, temperature)
    machines.evidence.clear()
    asked, tally, started = pooled.short if row == SLOW else pooled.long, Tally(), time.perf_counter()
    for number in range(runs):
        request, expected = asked[number % len(asked)]
        found = compared(expected, DISTURBANCES[row](machines, dice, request))
        if not found.same:
            print(f"  DIFFERENT: {column}, {row}, T={temperature:g}, run {number}: {found.as_dict()}", flush=True)
        tally += found
    return Cell(column, row, temperature, tally, time.perf_counter() - started, machines.evidence.copy())


def fixed(
    column: Column, folder: Path, runs: int, seed: int, processes: int = PROCESSES, size: int = 16
) -> Iterator[Cell]:
    """Every disturbance this machine can do, at every temperature."""
    with opened(folder, column.quantization) as machines:
        for temperature in _asked.TEMPERATURES:
            pooled = pool(machines, _asked.seeded(seed, column.name, temperature), temperature, min(size, runs))
            for row in available(column.quantization):
                yield cell(machines, column.name, row, temperature, pooled, runs_of(row, runs, processes), seed)


def checkpoint(shape: str) -> Path:
    folder = FOLDER / f"determinism-{shape}"
    write_checkpoint(SHAPES[shape], folder, EvenWeights(SHAPES[shape]))
    return folder


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    for column in COLUMNS:
        if column.name in arguments.only:
            runs = max(1, arguments.runs // column.share)
            yield from fixed(column, checkpoint(column.shape), runs, arguments.seed)
    for name in PEERS:
        if arguments.peers and name in arguments.only:
            folder, vocabulary = checkpoint(PEERS_SHAPE), SHAPES[PEERS_SHAPE].vocabulary
            yield from peer_cells(name, arguments.peers, folder, vocabulary, arguments.peer_runs, arguments.seed)


def main() -> None:
    names = [*(column.name for column in COLUMNS), *PEERS]
    parser = argparse.ArgumentParser(description="The determinism matrix.")
    parser.add_argument("--runs", type=int, default=5, help="of each disturbance at each temperature")
    parser.add_argument("--seed", type=int, default=1, help="of requests and disturbances")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has vllm, transformers, llama_cpp, gguf")
    parser.add_argument("--peer-runs", type=int, default=5, help="of our vllm engine, likewise; others have six")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="COLUMN", help=", ".join(names))
    parser.add_argument("--record", type=Path, metavar="FOLDER", default=FOLDER / "determinism")
    parser.add_argument("--page", type=Path, help="where the page is written, of all that the record has")
    arguments = parser.parse_args(sys.argv[1:])
    record, same = Record(arguments.record), True
    for each in cells(arguments):
        print(each, flush=True)
        record.keep(each)
        same = same and (each.tally.same or each.engine in THEIRS)
    if arguments.page:
        versions = (versions_of(arguments.peers),) if arguments.peers else ()
        arguments.page.write_text(page(record.cells(), *versions))
    if not same:
        sys.exit("bench: an engine that must not gave other bits")


if __name__ == "__main__":
    main()
