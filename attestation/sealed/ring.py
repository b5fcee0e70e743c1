"""Service keys over time: a ring holds all that a cell needs for a stretch of blocks.

    key        suite, the blocks it is for (first to last), the private seeds
    ring       the blocks it speaks for (first to through), and every key that is for any of them
    offer      what a client is shown of one key, signed by the broker

    ring       = dCBOR [1, first, renew, through, [[suite, first, last, seeds], ...]]
    offer      = dCBOR [1, resource, suite, public key, first, last]

A request that one cell runs and another refuses would give one position two receipts. So a cell asks for nothing but
what its ring says, and runs no block outside the stretch its ring speaks for: within it, any two rings of a broker
hold the same keys (answer.md A7 to A9). Rotation adds a key behind the others and forgets those whose blocks are
answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final, Self

from attestation.sealed.errors import KeysRefused
from attestation.sealed.suites import OpeningKey, Randomness, SealingKey, SuiteId
from foundation import cbor, ed25519
from foundation.digests import tagged_sha256
from foundation.ed25519 import Signer
from foundation.refusal import difference, disorder, outline, shape
from foundation.secrecy import Secret, owned

HEIGHT_MAX: Final = (1 << 63) - 1
KEYS_MAX: Final = 8
KEYS_KEPT: Final = 3  # of a rotation, at least: the one that ends, the one in use, the one to come
RING_BYTES_MAX: Final = 4096
OFFER_BYTES_MAX: Final = 2048
OFFER_TAG: Final = "anchorhold/service-key/offer/v1"
_LIMITS: Final = cbor.Limits(bytes_max=RING_BYTES_MAX, depth_max=3, items_max=8 * KEYS_MAX)


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """One key and the blocks it is for."""

    key: OpeningKey = field(repr=False)
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= HEIGHT_MAX:
            raise KeysRefused(
                "blocks", expected=f"1 <= first <= last <= {HEIGHT_MAX}", got=f"first {self.first}, last {self.last}"
            )

    def is_for(self, height: int) -> bool:
        return self.first <= height <= self.last


@dataclass(frozen=True)
class Ring:
    """What a broker releases as one service key. Frozen, so that what follows from it is computed once."""

    VERSION: ClassVar[int] = 1
    first: int
    renew: int  # from this height on a cell may ask for the next ring
    through: int
    keys: tuple[ServiceKey, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.renew <= self.through <= HEIGHT_MAX:
            raise KeysRefused(
                "ring",
                expected="first, renew and through in this order",
                got=f"{self.first}, {self.renew}, {self.through}",
            )
        if not 1 <= len(self.keys) <= KEYS_MAX or [key.first for key in self.keys] != sorted(
            {key.first for key in self.keys}
        ):
            raise KeysRefused(
                "ring",
                expected=f"1 to {KEYS_MAX} keys by their first block",
                got=f"{len(self.keys)} keys, {disorder([key.first for key in self.keys])}",
            )
        if len(self.by_id) != len(self.keys):
            raise KeysRefused("ring", expected="each key once", got=f"{len(self.by_id)} ids for {len(self.keys)} keys")

    @cached_property
    def by_id(self) -> dict[bytes, ServiceKey]:
        return {key.key.public.id: key for key in self.keys}

    def speaks_for(self, height: int) -> bool:
        return self.first <= height <= self.through

    def key(self, key_id: bytes, height: int) -> OpeningKey | None:
        """The key of this name, if it is for this block."""
        found = self.by_id.get(key_id)
        return found.key if found is not None and found.is_for(height) else None

    @classmethod
    def make(cls, suite: SuiteId, first: int, blocks: int, overlap: int, *, randomness: Randomness) -> Self:
        """Two keys, each for `blocks` blocks and `overlap` more into the time of the next."""
        if not 0 <= overlap <= blocks or blocks < 1:
            raise KeysRefused("overlap", expected="0 to as many blocks as a key has", got=overlap)
        now, then = first, first + blocks
        keys = tuple(
            ServiceKey(OpeningKey.make(suite, randomness), start, start + blocks + overlap - 1) for start in (now, then)
        )
        return cls(first, then, then + blocks - 1, keys)

    def rotated(self, suite: SuiteId, randomness: Randomness, *, answered: int) -> Self:
        """One more key, as long as the last. Keys for blocks up to `answered` alone are forgotten.

        Raises `KeysRefused` where there is no room for it: a block that waits for its answer keeps its key.
        """
        last = self.keys[-1]
        start = self.through + 1
        blocks = start - last.first
        overlap = last.last - self.through
        new = ServiceKey(OpeningKey.make(suite, randomness), start, start + blocks + overlap - 1)
        over = [key.last for key in self.keys[: 1 - KEYS_KEPT] if key.last <= answered]
        keys = (*self.keys[len(over) :], new)
        if len(keys) > KEYS_MAX:
            raise KeysRefused("full", expected=f"all blocks up to {self.keys[0].last} to be answered", got=answered)
        return type(self)(max([self.first, *(height + 1 for height in over)]), start, start + blocks - 1, keys)

    def check_agrees(self, other: Ring) -> None:
        """Raises `KeysRefused` if the two disagree about any block both speak for."""
        low, high = max(self.first, other.first), min(self.through, other.through)
        mine, theirs = (
            {name: (key.first, key.last) for name, key in ring.by_id.items() if key.first <= high and key.last >= low}
            for ring in (self, other)
        )
        if low <= high and mine != theirs:
            raise KeysRefused(
                "contradiction",
                expected="one set of keys for one block",
                got=f"{len(mine)} and {len(theirs)} keys for blocks {low} to {high}",
            )

    def encode(self) -> Secret:
        seeds = [key.key.secret.reveal() for key in self.keys]
        keys: list[list[cbor.Encodable]] = [
            [int(key.key.suite), key.first, key.last, seed] for key, seed in zip(self.keys, seeds, strict=True)
        ]
        encoded = owned(cbor.encode([self.VERSION, self.first, self.renew, self.through, keys]))
        for seed in seeds:  # copies made for this alone: nothing of a ring stays behind where it was
            owned(seed)
        return encoded

    @classmethod
    def parse(cls, raw: Secret) -> Self:
        """Raises `KeysRefused`, nothing else."""
        revealed = raw.reveal()
        try:
            value = cbor.decode(revealed, _LIMITS)
        except cbor.CborRefused:
            raise KeysRefused(
                "ring", expected="deterministic CBOR", got=f"{len(revealed)} bytes of another form"
            ) from None
        finally:
            owned(revealed)
        match value:
            case [1, int(first), int(renew), int(through), list(keys)]:
                ring = cls(first, renew, through, tuple(_key(key) for key in keys))
            case _:
                raise KeysRefused("ring", expected="a ring of version 1", got=shape(value))
        if ring.encode() != raw:  # true and false count as numbers to Python, not to the encoding
            raise KeysRefused("ring", expected="numbers where they belong", got="booleans among the numbers")
        return ring


def _key(value: cbor.Value) -> ServiceKey:
    match value:
        case [int(suite), int(first), int(last), bytes(seeds)]:
            return ServiceKey(OpeningKey(_suite(suite), owned(seeds)), first, last)  # cut out of a ring just now
        case _:
            raise KeysRefused("ring", expected="[suite, first, last, seeds]", got=shape(value))


@dataclass(frozen=True, slots=True)
class Offer:
    """A key that requests may be sealed to. Only `checked` says that it is a broker's."""

    VERSION: ClassVar[int] = 1
    resource: str
    key: SealingKey
    first: int
    last: int

    @classmethod
    def of(cls, resource: str, key: ServiceKey) -> Self:
        return cls(resource, key.key.public, key.first, key.last)

    def encode(self) -> bytes:
        return cbor.encode([self.VERSION, self.resource, int(self.key.suite), self.key.raw, self.first, self.last])

    def signed(self, signer: Signer) -> bytes:
        """What is published: `[offer bstr, signature bstr]`."""
        raw = self.encode()
        return cbor.encode([raw, signer.sign(tagged_sha256(OFFER_TAG, raw))])

    @classmethod
    def checked(cls, raw: bytes, broker: bytes) -> Self:
        """The offer, if the holder of `broker` signed it. Raises `KeysRefused`, nothing else."""
        match _decoded(raw):
            case [bytes(offer), bytes(signature)]:
                pass
            case value:
                raise KeysRefused("offer", expected="an offer and a signature", got=outline(value))
        if not ed25519.holds(broker, signature, tagged_sha256(OFFER_TAG, offer)):
            expected = f"an offer signed by the broker {broker.hex()}"
            raise KeysRefused("signature", expected=expected, got="a signature that does not verify")
        match _decoded(offer):
            case [1, str(resource), int(suite), bytes(public), int(first), int(last)] if (
                1 <= first <= last <= HEIGHT_MAX and len(resource) <= 200
            ):
                read = cls(resource, SealingKey(_suite(suite), public), first, last)
            case value:
                raise KeysRefused("offer", expected="an offer of version 1", got=outline(value))
        if read.encode() != offer:
            raise KeysRefused("offer", expected="numbers where they belong", got=difference(offer, read.encode()))
        return read


def offers(resource: str, ring: Ring, signer: Signer) -> Sequence[bytes]:
    """One for each key of the ring, in the order of their blocks."""
    return [Offer.of(resource, key).signed(signer) for key in ring.keys]


def _decoded(raw: bytes) -> cbor.Value:
    limits = cbor.Limits(bytes_max=OFFER_BYTES_MAX, depth_max=1, items_max=8)
    return cbor.decode_or(KeysRefused, "offer", raw, limits)


def _suite(number: int) -> SuiteId:
    try:
        return SuiteId(number)
    except ValueError:
        raise KeysRefused("suite", expected=f"one of {[int(suite) for suite in SuiteId]}", got=number) from None
