"""evidence.md E136: reference values are sized, and a claim without values allows nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measurements import reference
from measurements.reference import SIZES, ReferenceRefused, ReferenceValues


def refused(document: bytes) -> str:
    with pytest.raises(ReferenceRefused) as caught:
        ReferenceValues.parse(document)
    return caught.value.code


def test_a_document() -> None:  # evidence.md E136
    values = ReferenceValues.parse(f'[snp]\nmeasurement = ["{"ab" * 48}", "{"cd" * 48}"]\nchip_id = []'.encode())
    assert values.allowed("snp.measurement") == frozenset({b"\xab" * 48, b"\xcd" * 48})
    assert values.allowed("snp.chip_id") == values.allowed("snp.host_data") == frozenset()
    assert ReferenceValues.none().allowed("snp.measurement") == frozenset()


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"[", "reference.toml"),
        (b"\xff", "reference.toml"),
        (b"x = " + b"[" * 5000, "reference.toml"),
        (b"snp = 3", "reference.snp"),
        (b"[snp]\nmeasurement = 'ab'", "reference.snp.measurement"),
        (b"[snp]\nmeasurement = [3]", "reference.snp.measurement"),
        (b"[snp]\nmeasurement = ['zz']", "reference.snp.measurement"),
        (b"[snp]\nmeasurement = ['ab']", "reference.snp.measurement"),
        (b"[snp]\nnothing = []", "reference.claim"),
        (b"[other]\nmeasurement = []", "reference.claim"),
        (b"#" * ((1 << 20) + 1), "reference.size"),
    ],
)
def test_what_is_no_document(document: bytes, code: str) -> None:
    assert refused(document) == code


def test_the_largest_document() -> None:
    assert ReferenceValues.parse(b"#" * (1 << 20)).values == {}


@pytest.mark.parametrize("claim", sorted(SIZES))
def test_sizes(claim: str) -> None:  # evidence.md E136
    for size in SIZES[claim]:
        assert ReferenceValues.of({claim: [bytes(size)]}).allowed(claim) == frozenset({bytes(size)})
        with pytest.raises(ReferenceRefused, match="bytes"):
            ReferenceValues.of({claim: [bytes(size), bytes(size + 1)]})


def test_the_number_of_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "VALUES_PER_CLAIM_MAX", 2)
    values = [bytes(47) + bytes([number]) for number in range(3)]
    ReferenceValues.of({"snp.measurement": values[:2]})
    with pytest.raises(ReferenceRefused, match="<= 2 values, got 3"):
        ReferenceValues.of({"snp.measurement": values})


def test_two_documents_join() -> None:
    one = ReferenceValues.of({"snp.host_data": [bytes(32)], "snp.image_id": [bytes(16)]})
    two = ReferenceValues.of({"snp.host_data": [b"\1" * 32]})
    joined = one.joined(two)
    assert joined.allowed("snp.host_data") == frozenset({bytes(32), b"\1" * 32})
    assert joined.allowed("snp.image_id") == frozenset({bytes(16)})


@given(st.binary(max_size=200))
def test_nothing_but_its_own_error_leaves_the_reader(document: bytes) -> None:
    try:
        ReferenceValues.parse(document)
    except ReferenceRefused:
        return
