"""What counts differences must see them; and a small matrix finds none in the fixed engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.engine.fixed.architecture import Architecture, Format, Quantization
from bench._asked import TEMPERATURES, longer, seeded
from bench._cells import Cell, Record
from bench._determinism_page import page
from bench._differences import Run, Tally, compared
from bench._disturbances import DISTURBANCES, EvenWeights, available, opened, reference
from bench.determinism import Column, fixed
from bench.engine import write_checkpoint

RUN = Run((5, 6, 7), (b"a", b"b", b"c"), (b"x", b"y", b"z"))
TINY = Architecture(
    layers=2,
    width=64,
    heads=2,
    kv_heads=1,
    head_width=16,
    hidden=96,
    vocabulary=80,
    positions_max=128,
    epsilon=1e-5,
    rotary_width=16,
)


def test_the_same_is_the_same():
    assert compared(RUN, RUN) == Tally(runs=1, tokens=3, logits=3)
    assert compared(RUN, RUN).same


def test_one_other_token_is_counted():
    found = compared(RUN, replace(RUN, tokens=(5, 9, 7)))
    assert found == Tally(runs=1, runs_tokens=1, tokens=3, tokens_differing=1, logits=3)
    assert not found.same


def test_an_other_trace_alone_is_counted():
    found = compared(RUN, replace(RUN, traces=(b"a", b"?", b"?")))
    assert found == Tally(runs=1, runs_traces=1, tokens=3, traces_differing=2, logits=3)
    assert not found.same


def test_other_logits_alone_are_counted_where_both_were_seen():
    found = compared(RUN, replace(RUN, logits=(b"x", b"y", b"?")))
    assert found == Tally(runs=1, tokens=3, logits=3, logits_differing=1)
    assert not found.same
    assert compared(RUN, replace(RUN, logits=())).logits == 0


@pytest.mark.parametrize(("short", "long"), [(Run((), ()), RUN), (RUN, Run((5, 6, 7, 8), (b"a", b"b", b"c", b"d")))])
def test_a_token_that_only_one_of_them_has_differs(short: Run, long: Run):
    more = len(long.tokens) - len(short.tokens)
    for found in (compared(short, long), compared(long, short)):
        assert (found.tokens_differing, found.traces_differing) == (more, more)
        assert found.tokens == len(long.tokens)


def test_tallies_add_up():
    other = compared(RUN, replace(RUN, tokens=(9, 9, 7)))
    both = compared(RUN, RUN) + other
    assert (both.runs, both.runs_tokens, both.tokens, both.tokens_differing) == (2, 1, 6, 2)
    assert str(both) == "1 / 0 of 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    write_checkpoint(TINY, made, EvenWeights(TINY))
    return made


@pytest.mark.parametrize("quantization", [Quantization(), Quantization(Format.INT8, 32)], ids=["bf16", "int8"])
def test_a_small_matrix_has_no_difference(folder: Path, tmp_path: Path, quantization: Quantization):
    """engine.md X20. Every row and temperature; the one of new processes with one run."""
    record = Record(tmp_path)
    for cell in fixed(Column("fixed bf16", "", quantization, 1), folder, runs=4, seed=2, processes=1):
        record.keep(cell)
    cells = record.cells()
    assert len(cells) == len(available(quantization)) * len(TEMPERATURES)
    assert all(cell.tally.same and cell.tally.logits == cell.tally.tokens > 0 for cell in cells)
    assert {cell.tally.runs for cell in cells} == {1, 4}
    for counted in ("parts", "guessed", "together", "reused"):  # no disturbance was empty
        assert sum(getattr(cell.evidence, counted) for cell in cells) > 0


def test_a_disturbance_that_does_reach_a_bit_is_seen(folder: Path, tmp_path: Path):
    """One weight with another sign, as a stand-in for it: what compares must not be blind to a single product."""
    changed = tmp_path / "changed"
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 0x80  # the sign of the last weight of the head
    changed.mkdir()
    (changed / "model.safetensors").write_bytes(raw)
    (changed / "config.json").write_bytes((folder / "config.json").read_bytes())
    with opened(folder, Quantization()) as one, opened(changed, Quantization()) as other:
        asked = longer(seeded(3), 0.0, TINY.vocabulary)
        found = compared(reference(one, asked), reference(other, asked))
    assert found.logits_differing == found.logits > 0


def test_the_page_says_what_was_not_run_and_hides_no_difference():
    cells = [Cell("fixed bf16", next(iter(DISTURBANCES)), t, Tally(10, 0, 2, 100, 0, 7), 1.0) for t in TEMPERATURES]
    text = page(cells)
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {next(iter(DISTURBANCES))} |")]
    assert "| 0 / 6 of 30 |" in row
    assert row.count("not run") == 7
    assert "| fixed bf16 | 30 | 300 | 0 | 21 |" in text
    assert "Not of every temperature" not in text
    assert "Not of every temperature" in page(cells[1:])
