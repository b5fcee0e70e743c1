"""Sampling (sampling.md): the rules one by one on the reference, and what must hold whatever the logits are."""

from __future__ import annotations

import json
import math
from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling import reference
from appliance.engine.sampling.rules import RANGES, VOCABULARY_MAX, Edit, History, SamplingRefused, check, key_of
from appliance.engine.sampling.sampler import Sampler
from foundation.digests import tagged_sha256
from tests.sampling_cases import VECTORS, Case

SEED = bytes([7]) * 32
INFINITY = math.inf
EXAMPLE = [1.0, 2.0, -0.5, 2.0, 0.25]
HOT = Sampling(temperature_micro=MICRO)
NO_EDITS: dict[int, Edit] = {}

quarters = st.integers(-40, 40).map(lambda n: n / 4)
rows = st.lists(quarters, min_size=1, max_size=40)
keys = st.integers(0, 2**64 - 1)
samplings = st.builds(
    Sampling,
    temperature_micro=st.sampled_from([1, 500_000, MICRO, 2 * MICRO]),
    top_k=st.integers(0, 45),
    top_p_micro=st.integers(1, MICRO),
    min_p_micro=st.integers(0, MICRO),
)


def left(row: list[float], sampling: Sampling) -> list[int]:
    return reference.survivors(row, reference.gaps_of(row, max(row), sampling), sampling)


def chosen(row: list[float], sampling: Sampling = HOT, position: int = 0) -> int:
    return reference.choose(row, sampling, key_of(SEED, position), NO_EDITS)


def test_the_example_of_the_specification() -> None:
    # sampling.md Y6 to Y11
    sampling = Sampling(temperature_micro=800_000, top_k=4, top_p_micro=900_000)
    assert key_of(SEED, 0) == 0x4EFFB66E3C6BC2FD
    assert left(EXAMPLE, replace(sampling, top_p_micro=MICRO)) == [1, 3, 0, 4]
    assert left(EXAMPLE, sampling) == [1, 3, 0]
    assert reference.weight(-1.25) == 315015355561
    assert reference.noise(key_of(SEED, 0), 0) == float.fromhex("-0x1.e815b0dec5659p-2")
    assert [chosen(EXAMPLE, sampling, at) for at in range(12)] == [3, 0, 3, 3, 3, 1, 3, 0, 1, 1, 0, 3]


def test_the_committed_vectors_are_what_this_code_says() -> None:
    committed = json.loads(VECTORS.read_text(encoding="utf-8"))
    assert len(committed) > 50
    assert [Case.read(case).written() for case in committed] == committed


# ---- what comes in


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("step", [-1, 1])
def test_a_field_beyond_its_range_is_refused(name: str, step: int) -> None:
    # sampling.md Y2
    edge = RANGES[name][step > 0]
    check(replace(Sampling(), **{name: edge}))
    with pytest.raises(SamplingRefused, match=name):
        check(replace(Sampling(), **{name: edge + step}))


@pytest.mark.parametrize(
    "bias", [((2, 0), (1, 0)), ((1, 0), (1, 0)), ((-1, 0),), ((1, 10**9 + 1),), ((1, -(10**9) - 1),)]
)
def test_a_bias_out_of_range_or_order_is_refused(bias: tuple[tuple[int, int], ...]) -> None:
    # sampling.md Y2
    with pytest.raises(SamplingRefused, match="logit_bias"):
        check(Sampling(logit_bias=bias))


def test_what_the_vocabulary_does_not_have_changes_nothing() -> None:
    # sampling.md Y1, Y2
    sampling = Sampling(temperature_micro=MICRO, repetition_penalty_micro=2 * MICRO, logit_bias=((5, 10**9),))
    assert History(sampling, (5, 6, 1 << 40), 5).edits == {}
    for vocabulary in (0, VOCABULARY_MAX + 1):
        with pytest.raises(SamplingRefused, match="vocabulary"):
            History(sampling, (), vocabulary)
    with pytest.raises(SamplingRefused, match="logits"):
        Sampler(sampling, SEED, (), 5).choose([0.0] * 4)
    with pytest.raises(SamplingRefused, match="seed"):
        Sampler(sampling, SEED[1:], (), 4).choose([0.0] * 4)


# ---- what changes a logit


def edited(logit: float, edit: Edit, **penalties: int) -> float:
    """The logit that has to be matched exactly for a tie to go to the lesser token."""
    sampling = Sampling(**penalties)
    least, most = -1e9, 1e9
    for _ in range(200):
        middle = array("f", [(least + most) / 2])[0]
        if reference.choose([middle, logit], sampling, 0, {1: edit}) == 0:
            most = middle
        else:
            least = middle
    return most


@pytest.mark.parametrize(
    ("logit", "edit", "penalties", "expected"),
    [
        (2.0, Edit(), {}, 2.0),
        (2.0, Edit(bias_micro=500_000), {}, 2.5),
        (2.0, Edit(seen=True), {"repetition_penalty_micro": 2 * MICRO}, 1.0),
        (-2.0, Edit(seen=True), {"repetition_penalty_micro": 2 * MICRO}, -4.0),
        (-2.0, Edit(seen=True, bias_micro=4 * MICRO), {"repetition_penalty_micro": 2 * MICRO}, 1.0),
        (2.0, Edit(seen=True), {"presence_penalty_micro": MICRO, "frequency_penalty_micro": MICRO}, 2.0),
        (2.0, Edit(seen=True, count=3), {"presence_penalty_micro": MICRO}, 1.0),
        (2.0, Edit(seen=True, count=3), {"frequency_penalty_micro": MICRO}, -1.0),
        (2.0, Edit(seen=True, count=3), {"frequency_penalty_micro": -MICRO // 2}, 3.5),
    ],
)
def test_penalties_and_bias(logit: float, edit: Edit, penalties: dict[str, int], expected: float) -> None:
    # sampling.md Y3
    assert edited(logit, edit, **penalties) == expected


def test_what_was_said_counts_from_the_next_token_on() -> None:
    # sampling.md Y3
    logits = array("f", [1.0, 2.0, 1.5])
    presence = Sampler(Sampling(presence_penalty_micro=800_000), SEED, (1,), 3)
    assert [presence.choose(logits) for _ in range(4)] == [1, 2, 1, 1]
    repetition = Sampler(Sampling(repetition_penalty_micro=2 * MICRO), SEED, (1,), 3)
    assert [repetition.choose(logits) for _ in range(4)] == [2, 0, 1, 1]


def test_a_penalty_beyond_float32_is_an_infinity() -> None:
    # sampling.md Y3
    seen = {1: Edit(seen=True)}
    assert reference.choose([3.4e38, 3.3e38], Sampling(repetition_penalty_micro=10_000), 0, seen) == 1
    assert reference.choose([-3.4e38, -3.3e38], Sampling(repetition_penalty_micro=2 * MICRO), 0, seen) == 0


@pytest.mark.parametrize(
    ("row", "token"),
    [
        ([math.nan, -1.0, math.nan], 1),
        ([math.nan], 0),
        ([math.nan, -INFINITY, math.nan], 0),
        ([-INFINITY, -INFINITY], 0),
        ([-INFINITY, -3.0], 1),
        ([1.0, INFINITY, 3.0], 1),
        ([math.nan, 3.4e38, INFINITY, -INFINITY], 2),
        ([5.0], 0),
    ],
)
@pytest.mark.parametrize("temperature", [0, 1, MICRO])
def test_what_is_no_ordinary_number(row: list[float], token: int, temperature: int) -> None:
    # sampling.md Y4
    for position in range(20):
        assert chosen(row, Sampling(temperature_micro=temperature), position) == token


def test_infinite_logits_share_the_draw() -> None:
    # sampling.md Y4, Y6
    row = [INFINITY, 0.0, INFINITY, math.nan, 3e38]
    assert {chosen(row, HOT, position) for position in range(40)} == {0, 2}


def test_greedy_takes_the_greatest_and_of_equal_ones_the_least() -> None:
    # sampling.md Y5, Y6
    assert chosen([1.0, 3.0, 3.0, 2.0], Sampling()) == 1
    assert chosen([-0.0, 0.0], Sampling()) == 0
    assert chosen([0.0, -0.0], Sampling(top_k=1, temperature_micro=MICRO)) == 0


def test_the_key_is_a_tagged_digest_of_seed_and_position() -> None:
    # sampling.md Y7
    digest = tagged_sha256("anchorhold/sampling/v1", SEED, (258).to_bytes(8, "big"))
    assert key_of(SEED, 258) == int.from_bytes(digest[:8], "big")


# ---- what is left


@given(rows, samplings)
def test_survivors_are_a_beginning_of_the_order(row: list[float], sampling: Sampling) -> None:
    # sampling.md Y6, Y8 to Y10
    order = sorted(range(len(row)), key=lambda token: (-row[token], token))
    survivors = left(row, sampling)
    assert survivors
    assert survivors == order[: len(survivors)]


@given(rows, samplings, st.integers(0, 45), st.integers(0, MICRO), st.integers(0, MICRO))
def test_a_tighter_rule_leaves_no_more(
    row: list[float], sampling: Sampling, k: int, less_p: int, more_min: int
) -> None:
    # sampling.md Y8 to Y10
    here = set(left(row, sampling))
    tighter = [
        replace(sampling, top_k=min(k, sampling.top_k) or sampling.top_k),
        replace(sampling, min_p_micro=max(more_min, sampling.min_p_micro)),
    ]
    if not sampling.min_p_micro:
        tighter.append(replace(sampling, top_p_micro=max(1, min(less_p, sampling.top_p_micro))))
    for each in tighter:
        assert set(left(row, each)) <= here


@given(rows, st.integers(1, MICRO - 1))
def test_a_nucleus_holds_its_share_and_not_a_token_more(row: list[float], top_p: int) -> None:
    # sampling.md Y9
    weights = [reference.weight(gap) for gap in reference.gaps_of(row, max(row), HOT)]
    survivors = left(row, replace(HOT, top_p_micro=top_p))
    held = sum(weights[token] for token in survivors)
    assert held * MICRO >= top_p * sum(weights)
    assert (held - weights[survivors[-1]]) * MICRO < top_p * sum(weights)


@given(st.permutations(range(12)), st.lists(quarters, min_size=12, max_size=12, unique=True), samplings)
def test_survivors_move_with_their_logits(places: list[int], row: list[float], sampling: Sampling) -> None:
    moved = [row[place] for place in places]
    assert [places[token] for token in left(moved, sampling)] == left(row, sampling)


@given(rows, keys, st.data())
def test_a_chosen_token_stays_chosen_when_its_logit_rises(row: list[float], key: int, data: st.DataObject) -> None:
    token = reference.choose(row, HOT, key, NO_EDITS)
    row[token] += data.draw(st.integers(0, 40)) / 4
    assert reference.choose(row, HOT, key, NO_EDITS) == token


@given(rows, samplings, keys)
def test_what_is_chosen_is_left(row: list[float], sampling: Sampling, key: int) -> None:
    # sampling.md Y11
    assert reference.choose(row, sampling, key, NO_EDITS) in left(row, sampling)


# ---- the arithmetic


def test_weights_are_those_of_exp() -> None:
    # sampling.md Y12
    assert [reference.weight(gap) for gap in (0.0, -0.1, -1.0, -2.5, -10.0, -27.7, -28.0, -28.1, -INFINITY)] == [
        1 << 40,
        994879262377,
        404487723187,
        90253410452,
        49917750,
        1,
        0,
        0,
        0,
    ]
    for n in range(2800):
        exact = math.exp(-n / 100) * 2**40
        assert abs(reference.weight(-n / 100) - exact) <= 1 + exact * 1e-12


@given(st.floats(-28, 0), st.floats(-28, 0))
def test_weights_do_not_fall_as_the_gap_closes(one: float, other: float) -> None:
    # sampling.md Y12
    assert reference.weight(min(one, other)) <= reference.weight(max(one, other))


@given(st.floats(1e-300, 1e300))
def test_logarithms_are_those_of_the_library_to_a_few_units(x: float) -> None:
    # sampling.md Y13
    assert math.isclose(reference.ln(x), math.log(x), rel_tol=1e-14, abs_tol=1e-16)


def test_logarithms_keep_their_digits_beside_one() -> None:
    # sampling.md Y13
    assert reference.ln(1.0) == 0.0
    for bits in range(1, 54):
        assert math.isclose(reference.ln(1 - 2.0**-bits), math.log1p(-(2.0**-bits)), rel_tol=1e-14)


@given(keys, st.integers(0, VOCABULARY_MAX - 1))
def test_noise_is_a_number(key: int, token: int) -> None:
    # sampling.md Y14
    assert -3.7 < reference.noise(key, token) < 37


# ---- the distribution


def chi_square_limit(degrees: int) -> float:
    """Exceeded by chance once in 100,000 (Wilson and Hilferty)."""
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + 4.265 * spread**0.5) ** 3)


@pytest.mark.parametrize(
    "sampling",
    [
        HOT,
        Sampling(temperature_micro=600_000),
        Sampling(temperature_micro=1_500_000, top_k=7),
        Sampling(temperature_micro=MICRO, top_p_micro=800_000),
        Sampling(temperature_micro=MICRO, min_p_micro=150_000),
    ],
    ids=["plain", "cool", "top-k", "top-p", "min-p"],
)
def test_tokens_come_as_often_as_their_probability_says(sampling: Sampling) -> None:
    # sampling.md Y11, Y14
    draws = 6000
    row = [math.sin(3 * token) * 2 for token in range(24)]
    survivors = left(row, sampling)
    scale = sampling.temperature_micro / MICRO
    parts = {token: math.exp(row[token] / scale) for token in survivors}
    counts = dict.fromkeys(survivors, 0)
    for position in range(draws):
        counts[chosen(row, sampling, position)] += 1
    expected = {token: draws * part / sum(parts.values()) for token, part in parts.items()}
    distance = sum((counts[token] - expected[token]) ** 2 / expected[token] for token in survivors)
    assert distance < chi_square_limit(len(survivors) - 1)


# ---- one after the other


def test_nothing_of_one_answer_reaches_another() -> None:
    # sampling.md Y15, Y16
    sampling = Sampling(temperature_micro=MICRO, frequency_penalty_micro=700_000, logit_bias=((3, 500_000),))
    logits = array("f", [math.cos(token) for token in range(50)])
    before = logits.tobytes()

    def answer(seed: bytes) -> list[int]:
        sampler = Sampler(sampling, seed, (1, 2), 50)
        return [sampler.choose(logits) for _ in range(12)]

    one, other = Sampler(sampling, SEED, (1, 2), 50), Sampler(sampling, bytes(32), (1, 2), 50)
    mixed = [(one.choose(logits), other.choose(logits)) for _ in range(12)]
    assert [first for first, _ in mixed] == answer(SEED)
    assert [second for _, second in mixed] == answer(bytes(32))
    assert answer(SEED) != answer(bytes(32))
    assert logits.tobytes() == before
