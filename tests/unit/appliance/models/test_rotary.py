"""text.md L25 to L27: the tables by which heads turn, against the functions they stand for and as fixed bytes."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest

from appliance.models.rotary import Llama3, Rotation, tables_digest

PLAIN, LINEAR = Rotation(10000.0), Rotation(1e6, divisor=4.0)
SCALED = Rotation(500000.0, llama3=Llama3(8.0, 1.0, 4.0, 8192))


@pytest.mark.parametrize(("rotation", "width"), [(PLAIN, 128), (LINEAR, 64), (SCALED, 128), (Rotation(1.0), 2)])
def test_the_speeds_are_the_powers_they_stand_for(rotation: Rotation, width: int) -> None:  # text.md L25
    with localcontext() as context:
        context.prec = 40
        for pair, speed in enumerate(rotation.speeds(width)):
            exact = Decimal(rotation.theta) ** (Decimal(-2 * pair) / width) / Decimal(rotation.divisor)
            if rotation.llama3 is None:
                assert abs(Decimal(speed) / exact - 1) < Decimal("4e-15")
            else:
                assert exact / Decimal("8.0000001") <= Decimal(speed) <= exact * Decimal("1.0000001")


def test_slow_turns_are_made_slower_and_fast_ones_left() -> None:
    plain, scaled = Rotation(500000.0).speeds(128), SCALED.speeds(128)
    assert scaled[:20] == plain[:20]
    assert scaled[-10:] == [speed / 8.0 for speed in plain[-10:]]
    between = [a / b for a, b in zip(plain, scaled, strict=True) if 1.0 < a / b < 8.0]
    assert between == sorted(between) != []


@pytest.mark.parametrize("rotation", [PLAIN, LINEAR, SCALED])
def test_each_position_turns_by_its_angle(rotation: Rotation) -> None:  # text.md L26
    positions, width = 5000, 32
    cosines, sines = (table.cast("f") for table in rotation.tables(positions=positions, width=width))
    for pair, speed in enumerate(rotation.speeds(width)):
        for position in (0, 1, 2, 63, 1000, positions - 1):
            at = position * width // 2 + pair
            assert abs(cosines[at] - math.cos(position * speed)) < 6e-8
            assert abs(sines[at] - math.sin(position * speed)) < 6e-8


@pytest.mark.parametrize(
    ("rotation", "digest"),
    [  # text.md L27
        (PLAIN, "45dae51eb5cc45d82ca2b26f4f1de23fc45025c19c3e2a91840410e28b5da47a"),
        (LINEAR, "e0c89ff914d3bba97c91136b7afd317de00f2585966a434838d9bbaba70950c8"),
        (SCALED, "a6dea5b73ae380b184645236fa7d226ac4ef4dcbeca60722a69a2f0c0db6b815"),
    ],
)
def test_the_bytes_are_fixed(rotation: Rotation, digest: str) -> None:
    assert tables_digest(rotation.tables(positions=300, width=64)).hex() == digest


def test_a_longer_table_begins_as_the_shorter_one() -> None:
    short, long = (PLAIN.tables(positions=count, width=16) for count in (10, 40))
    assert [bytes(table) for table in short] == [bytes(table[: 10 * 8 * 4]) for table in long]
