"""The keys of one boot: one encoding, one digest, nothing that is not a key for its use."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import FormatRefused
from attestation.evidence.keyset import ALLOWED, KEY_BYTES, KeyAlgorithm, Keyset, KeyUse, MalformedKeyset, PublicKey
from foundation import cbor

RECEIPT = PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, bytes(range(32)))
RELEASE = PublicKey(KeyUse.RELEASE, KeyAlgorithm.X25519, b"\x07" * 32)
BOTH = Keyset((RECEIPT, RELEASE))


def test_the_encoding_by_hand():  # evidence-production.md E117
    assert BOTH.encode() == (
        b"\x82\x01\x82\x83\x01\x01\x58\x20" + bytes(range(32)) + b"\x83\x02\x03\x58\x20" + b"\x07" * 32
    )
    assert BOTH.digest.hex() == "dd217f8f37f5d9dc8f557941a99a8cc30a2871ba8811431dcd280a65986c3832"


def test_a_key_is_found_by_its_use():
    assert BOTH.key(KeyUse.RELEASE) is RELEASE
    assert Keyset((RECEIPT,)).key(KeyUse.RELEASE) is None


@pytest.mark.parametrize("keys", [(), (RELEASE,), (RELEASE, RECEIPT), (RECEIPT, RECEIPT)])
def test_uses_are_unique_and_in_order(keys: tuple[PublicKey, ...]):  # evidence-production.md E117
    with pytest.raises(MalformedKeyset, match="uses"):
        Keyset(keys)


@pytest.mark.parametrize(
    ("use", "algorithm", "size"),
    [
        (KeyUse.RECEIPT, KeyAlgorithm.X25519, 32),
        (KeyUse.RELEASE, KeyAlgorithm.ED25519, 32),
        (KeyUse.RECEIPT, KeyAlgorithm.ED25519, 33),
        (KeyUse.RELEASE, KeyAlgorithm.MLKEM768_X25519, 32),
    ],
)
# evidence-production.md E117
def test_a_key_that_does_not_fit_its_use(use: KeyUse, algorithm: KeyAlgorithm, size: int):
    with pytest.raises(MalformedKeyset):
        PublicKey(use, algorithm, bytes(size))


@pytest.mark.parametrize(("use", "algorithm", "size"), [(1, 1, 32), (1, 2, 65), (2, 2, 65), (2, 3, 32), (2, 4, 1216)])
def test_every_pair_of_use_and_algorithm_by_number(use: int, algorithm: int, size: int):  # evidence-production.md E117
    receipt = [] if use == 1 else [[1, 1, bytes(32)]]
    for length in (size - 1, size, size + 1):
        raw = cbor.encode([1, [*receipt, [use, algorithm, bytes(length)]]])
        if length == size:
            assert Keyset.parse(raw).encode() == raw
            continue
        with pytest.raises(MalformedKeyset, match="key-length"):
            Keyset.parse(raw)


@pytest.mark.parametrize(("use", "algorithm"), [(1, 3), (1, 4), (2, 1)])
def test_every_other_pair_is_refused(use: int, algorithm: int):  # evidence-production.md E117
    receipt = [] if use == 1 else [[1, 1, bytes(32)]]
    raw = cbor.encode([1, [*receipt, [use, algorithm, bytes(KEY_BYTES[KeyAlgorithm(algorithm)])]]])
    with pytest.raises(MalformedKeyset, match=r"keyset\.algorithm"):
        Keyset.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        BOTH.encode() + b"\0",
        b"\x82\x02" + BOTH.encode()[2:],
        b"\x82\xf5" + BOTH.encode()[2:],
        BOTH.encode().replace(b"\x83\x01\x01", b"\x83\xf5\x01"),
        BOTH.encode().replace(b"\x83\x01\x01", b"\x83\x01\xf5"),
        BOTH.encode().replace(b"\x83\x01\x01", b"\x83\x01\x09"),
        b"\x82\x01\x80",
        b"\x82\x01\x81\x80",
    ],
)
def test_what_is_not_a_keyset(raw: bytes):  # evidence-production.md E117
    with pytest.raises(MalformedKeyset):
        Keyset.parse(raw)


def keys(use: KeyUse) -> st.SearchStrategy[PublicKey]:
    return st.sampled_from(sorted(ALLOWED[use])).flatmap(
        lambda algorithm: st.binary(min_size=KEY_BYTES[algorithm], max_size=KEY_BYTES[algorithm]).map(
            lambda raw: PublicKey(use, algorithm, raw)
        )
    )


@given(keys(KeyUse.RECEIPT), st.none() | keys(KeyUse.RELEASE))
def test_parsing_undoes_encoding(receipt: PublicKey, release: PublicKey | None):
    keyset = Keyset((receipt,) if release is None else (receipt, release))
    assert Keyset.parse(keyset.encode()) == keyset


@given(st.binary(max_size=120))
def test_only_the_declared_refusal_leaves(raw: bytes):
    with suppress(FormatRefused):
        assert Keyset.parse(raw).encode() == raw
