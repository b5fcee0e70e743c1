"""What the first module lets happen, shown on it, so that the tests of this one are known to be able to fail.

This module holds against each: test_gateway_answers.py, test_gateway_door.py and test_gateway_chat.py look closer.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devnet.lone_gateway import OWNER, REPORTER
from tests.attack.outcome import Outcome
from tests.gateway_holes import HOLES, queue_of_invented_callers
from tests.gateways import Bench, first_module, with_history_bound

EACH = pytest.mark.parametrize(
    "hole",
    [
        pytest.param(hole, id=hole.__name__, marks=[pytest.mark.full] if hole is queue_of_invented_callers else [])
        for hole in HOLES
    ],
)


@EACH
def test_the_first_module_has_it(hole: Callable[[Bench], Outcome]) -> None:
    outcome = hole(Bench(module=first_module()))
    assert not outcome.held, outcome.happened


@EACH
def test_this_module_does_not(hole: Callable[[Bench], Outcome]) -> None:
    outcome = hole(Bench())
    assert outcome.held, outcome.happened


def test_a_module_that_says_its_bound_nowhere_is_no_gateway() -> None:
    with pytest.raises(ValueError, match="at least three times"):
        with_history_bound(b"\0asm" + bytes(100), 1)


def test_what_is_certified_first_is_the_link_alone() -> None:
    bench = Bench(module=first_module())
    bench.gateway.submit_sealed(b"\x02somebody", b"x")
    sealed = bench.gateway.seal_block(OWNER)
    assert sealed is not None
    assert bench.replica.certified_data == sealed.link
    assert bench.gateway.reporters()[0] == REPORTER
