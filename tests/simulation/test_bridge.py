"""Ten thousand networks that cut, delay, repeat, drop, reorder and corrupt: every item answered exactly once."""

from __future__ import annotations

import multiprocessing
import traceback

import pytest

from tests.simulation.bridge import run
from tests.switches import sized

RUNS = sized("ANCHORHOLD_SIMULATION_RUNS")


def _fails(seed: int) -> tuple[int, str] | None:
    try:
        run(seed)
    except Exception:  # noqa: BLE001  # whatever it was, the seed must be told
        return seed, traceback.format_exc()
    return None


@pytest.mark.sized
@pytest.mark.slow
def test_every_accepted_position_is_answered_exactly_once_whatever_the_network_does() -> None:
    with multiprocessing.get_context("spawn").Pool() as pool:
        failures = [failure for failure in pool.imap_unordered(_fails, range(RUNS), chunksize=100) if failure]
    if failures:
        seed, why = min(failures)
        pytest.fail(f"{len(failures)} of {RUNS} runs failed; the first is seed {seed}:\n{why}")


def test_a_run_repeats_itself() -> None:
    """A seed is only worth printing if it brings the same run back."""
    first, second = run(4711), run(4711)
    assert first.runs == second.runs
    assert [host.answers for host in first.hosts] == [host.answers for host in second.hosts]
    assert first.faults_left == second.faults_left
