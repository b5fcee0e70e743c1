"""The page of the determinism matrix, out of its finished cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from appliance.engine.observe import machine
from bench._asked import TEMPERATURES
from bench._cells import Cell
from bench._differences import Tally
from bench._disturbances import CHUNKS, DISTURBANCES, NEIGHBOURS, PREFIX, SPECULATION, Evidence

COLUMNS: Final = (
    "fixed bf16",
    "fixed bf16, tall",
    "fixed int8",
    "fixed int4",
    "our vllm, pinned",
    "vLLM",
    "llama.cpp",
    "transformers",
)
FIXED: Final = "fixed"

HEAD: Final = """# What changes the output

`python -m bench.determinism`. Each cell: **runs with a differing token / runs with a differing trace digest, of all
runs**, at T = 0, 0.7 and 1 together (a third each), each against one reference run of the same request. A trace digest
covers every token before it, with the bits of the eight greatest logits each was chosen from: a run whose words agree
and whose logits do not is counted by the second number. "-": this disturbance does not apply to that engine, its
profile forbids it, it was not tried, or the engine ended instead of answering.

"""

NOTES: Final = """
## What was measured

- **Models.** Random weights in bf16, symmetric about zero, so that prompts matter; 2 layers, 4 heads over 2,
  vocabulary 512. "Wide": width 2048, so the sums of q, k, v, gate, up and head have 2,048 terms; hidden 384. "Tall":
  width 256, hidden 4160, so the sum of down has 4,160. int8 and int4 are in groups of 32. All but "tall" are one
  checkpoint, read by every engine here. One weight in 997 has a rare upper byte, so that tight rows have patches.
- **`fixed`.** 16 requests for each temperature out of a seed: prompts of 10 to 44 tokens, half of them going in
  circles, 4 to 14 tokens said, with and without top_k, top_p, a repetition penalty, and a bias that makes half of the
  answers go to and fro between two tokens. The reference: scalar kernels, one thread, one row a pass, weights as
  they came, no guesses, a new engine; so every row compares kernels, and tight rows, too. The scalar row has 16 shorter
  requests (2 to 5 tokens, 3 said): those kernels are plain C and take some 20 ms a token. Requests, and what is done
  around them, come from seeded generators; `--seed` gives others.
- **Whole logits** of every said token of `fixed` were compared too, not only the leading eight: see the table above.
"""

PEER_NOTES: Final = """\
- **Our `vllm` engine** in its pinned profile, with our sampler: ten such requests for each temperature. Threads,
  kernels, chunks, prefixes and neighbours are not its to vary: its profile fixes them, and another value is another
  engine. Its runs in a new process are of four processes; those of `fixed` have a process each.
- **The others**, {versions},
  in bf16 and one thread, vLLM without compilation: six requests for each temperature, prompts of 40 to 64 tokens, 8 to
  16 said, the engine's own sampler out of the request's seed. Their reference is a process of its own that serves these
  requests one after the other; the trace digests are ours, made of their raw logits. A prefix is reused from 32 tokens
  on. AVX2 is asked for by ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA. vLLM's chunks are of 16 and 23 tokens, at
  T = 0 alone: its CPU build fails on a seeded request whose prompt is cut. llama.cpp's are of its n_ubatch.
  `transformers` draws the tokens of a batch from one generator, so beside others its words at T > 0 change by that too,
  and not by rounding alone.

## What it says

- A row of zeros for `fixed` is engine.md X20 measured, not proven: each disturbance that X20 names is a row.
- Of the others a few runs show that a difference exists, not how often it happens. A zero holds for this model, these
  requests and this machine. A run of the second number alone said the same words from other logits; where two leading
  logits are nearer, or the answer is longer, the words part too.
"""


def page(cells: Sequence[Cell], versions: str = "versions unknown") -> str:
    """`versions` of the engines of others."""
    theirs = PEER_NOTES.format(versions=versions)
    return "".join(
        (
            HEAD,
            f"{_machine()}\n\n",
            *_table(cells),
            "\n",
            *_totals(cells),
            NOTES,
            _done(cells),
            theirs,
            *_unfinished(cells),
        )
    )


def _machine() -> str:
    text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.startswith("model name")]
    name = lines[0].partition(":")[2].strip() if lines else "unknown"
    return f"Machine: {len(lines)} shared cores, {name} ({machine().isa})."


def _summed(cells: Iterable[Cell]) -> Tally:
    return sum((cell.tally for cell in cells), Tally())


def _of(cells: Sequence[Cell], engine: str, row: str) -> str:
    found = [cell for cell in cells if cell.engine == engine and cell.row == row]
    if not found:
        return "-" if any(cell.engine == engine for cell in cells) else "not run"
    return str(_summed(found))


def _table(cells: Sequence[Cell]) -> Iterator[str]:
    yield f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}\n"
    for row in DISTURBANCES:
        yield f"| {row} | {' | '.join(_of(cells, engine, row) for engine in COLUMNS)} |\n"


def _totals(cells: Sequence[Cell]) -> Iterator[str]:
    yield "| in all | runs | tokens | differing | trace digests differing | rows of logits | differing |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for engine in COLUMNS:
        if mine := [cell for cell in cells if cell.engine == engine]:
            t = _summed(mine)
            said = f"{t.runs:,} | {t.tokens:,} | {t.tokens_differing:,} | {t.traces_differing:,}"
            yield f"| {engine} | {said} | {f'{t.logits:,} | {t.logits_differing:,}' if t.logits else '- | -'} |\n"


def _unfinished(cells: Sequence[Cell]) -> Iterator[str]:
    """Nobody should take a part of a row for the whole."""
    for engine in COLUMNS:
        rows = {
            row: {cell.temperature for cell in cells if cell.engine == engine and cell.row == row}
            for row in DISTURBANCES
        }
        if lacking := [row for row, had in rows.items() if had and had != set(TEMPERATURES)]:
            yield f"- **Not of every temperature**: {engine}: {'; '.join(lacking)}.\n"


def _done(cells: Sequence[Cell]) -> str:
    """What the disturbances of `fixed` did inside, so that none of them is empty."""

    def of(row: str) -> list[Cell]:
        return [cell for cell in cells if cell.engine.startswith(FIXED) and cell.row == row]

    def evidence(row: str) -> Evidence:
        return sum((cell.evidence for cell in of(row)), Evidence())

    guessing = evidence(SPECULATION)
    right = _summed(of(SPECULATION)).tokens - (guessing.passes - guessing.parts)  # a pass says one token by itself
    did = [
        f"{evidence(CHUNKS).parts:,} passes over a part of a prompt in the row of chunks",
        f"{evidence(PREFIX).reused:,} tokens of prompts found in a cache in that of prefixes",
        f"{evidence(NEIGHBOURS).together:,} tokens computed in passes with other sequences",
        f"{guessing.guessed:,} tokens guessed, {right:,} of them rightly",
    ]
    return "- **What the disturbances did** to `fixed`, all its columns:\n  " + ";\n  ".join(did) + ".\n"
