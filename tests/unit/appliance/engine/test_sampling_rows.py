"""Rows of a batch (sampling.md Y15, Y16): each answered as if it were alone, however rows come, go and move."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import pytest

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling.rows import ARGUMENT, Rows, as_argument, of_argument
from appliance.engine.sampling.rules import SamplingRefused
from appliance.engine.sampling.sampler import Sampler

VOCABULARY = 40
LOGITS = array("f", [math.sin(token * token) * 2 for token in range(VOCABULARY)])
SAMPLING = Sampling(
    temperature_micro=MICRO, top_p_micro=900_000, frequency_penalty_micro=MICRO // 2, logit_bias=((3, -5),)
)


def seed(number: int) -> bytes:
    return bytes([number]) * 32


def alone(number: int, steps: int) -> list[int]:
    sampler = Sampler(SAMPLING, seed(number), (number,), VOCABULARY)
    return [sampler.choose(LOGITS) for _ in range(steps)]


class Batch:
    """An engine's batch: lists of what was said, which the engine extends after each choice."""

    def __init__(self) -> None:
        self.rows = Rows(VOCABULARY)
        self.said: dict[int, list[int]] = {}

    def add(self, place: int, number: int, said: tuple[int, ...] = ()) -> list[int]:
        self.said[place] = list(said)
        self.rows.add(place, {ARGUMENT: as_argument(SAMPLING, seed(number))}, [number], self.said[place])
        return self.said[place]

    def step(self) -> None:
        for place in self.rows:
            self.said[place].append(self.rows.choose(place, LOGITS))


def test_rows_are_answered_as_if_alone() -> None:
    batch = Batch()
    first, second = batch.add(0, 1), batch.add(1, 2)
    batch.step()
    batch.rows.move(0, 1, swap=True)
    batch.said[0], batch.said[1] = batch.said[1], batch.said[0]
    batch.step()
    batch.rows.remove(1)  # the first request goes; the second moves behind a third
    batch.rows.move(0, 2, swap=False)
    batch.said[2] = batch.said.pop(0)
    third = batch.add(0, 3)
    batch.step()
    assert first == alone(1, 2)
    assert second == alone(2, 3)
    assert third == alone(3, 1)


def test_a_row_that_comes_back_goes_on_where_it_was() -> None:
    batch = Batch()
    again = batch.add(4, 1, tuple(alone(1, 3)))
    batch.step()
    assert again == alone(1, 4)


def test_a_request_of_somebody_elses_is_left_alone() -> None:
    rows = Rows(VOCABULARY)
    rows.add(0, None, [1], [])
    rows.add(1, {"other": 1}, [1], [])
    assert list(rows) == []


def test_a_step_that_was_missed_is_refused() -> None:
    batch = Batch()
    said = batch.add(0, 1)
    batch.step()
    said.append(7)
    with pytest.raises(SamplingRefused, match="position"):
        batch.step()


def test_the_argument_is_read_back_and_nothing_else_is() -> None:
    good = as_argument(SAMPLING, seed(1))
    assert of_argument(good) == (SAMPLING, seed(1))
    for bad in (
        None,
        {},
        {**good, "seed": "00"},
        {**good, "seed": "x" * 64},
        {**good, "top_k": True},
        {**good, "more": 1},
        {**good, "logit_bias": [[1]]},
        {**good, "logit_bias": [[2, 0], [1, 0]]},
        {**good, "top_p_micro": 0},
        as_argument(replace(SAMPLING, top_k=-1), seed(1)),
    ):
        with pytest.raises(SamplingRefused):
            of_argument(bad)
