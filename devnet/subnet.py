"""A stand-in subnet: certificates in the Internet Computer's own format, under its own root key.

    subnet = Subnet(seed=b"devnet")
    subnet.root_key                                              what a devnet cell has measured into it
    subnet.certify(canister, certified_data, time_ns)            the certificate of a query
    subnet.reply(canister, request_id, reply, time_ns)           the certificate of an update call

Keys come from `seed`, time is an argument: the same calls give the same bytes. The signatures are real BLS.
What it is not: there is no consensus, no threshold and no replica here, one process holds every key. The
mainnet root key verifies nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from hashlib import sha224, sha256
from typing import Final

from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from devnet.misbehaviour import Misbehaviour
from devnet.statetree import Node, Path, Tree, digest, uleb128, witness
from foundation import cbor
from foundation.digests import domain

DST: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
DER_PREFIX: Final = bytes.fromhex("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")
SELF_AUTHENTICATING: Final = b"\x02"
IDENTITY_SIGNATURE: Final = b"\xc0" + bytes(47)
IDENTITY_KEY: Final = b"\xc0" + bytes(95)
GATEWAY: Final = bytes.fromhex("00000000fff000050101")
"""The canister id a devnet's gateway has."""
NEIGHBOUR: Final = bytes.fromhex("00000000fff000060101")
RANGES: Final = ((bytes.fromhex("00000000fff000000101"), bytes.fromhex("00000000ffffffff0101")),)
EVERYWHERE: Final = ((bytes(8) + b"\1\1", b"\xff" * 8 + b"\1\1"),)
"""For a devnet that is all of its clients' Internet Computer: any canister id, those of the mainnet included."""
ELSEWHERE: Final = ((bytes.fromhex("00000000000000000101"), bytes.fromhex("00000000000fffff0101")),)


class RangesLayout(Enum):
    """Where a delegation says which canisters its subnet hosts. Both are met on the mainnet."""

    SHARDED = "/canister_ranges/<subnet>/<shard>"
    CLASSIC = "/subnet/<subnet>/canister_ranges"


class SigningKey:
    """One BLS key, drawn from a seed."""

    def __init__(self, seed: bytes) -> None:
        self._scalar = Scalar.from_be_bytes_mod_order(sha256(b"devnet key" + seed).digest())
        self.raw = bytes((G2Point() * self._scalar).to_compressed_bytes())

    @property
    def der(self) -> bytes:
        return DER_PREFIX + self.raw

    def sign(self, message: bytes) -> bytes:
        return bytes((G1Point.hash_to_curve(message, DST) * self._scalar).to_compressed_bytes())


class Subnet:
    """A root key, a subnet key it delegates to, and whatever state it is asked to certify.

    With `delegated=False` the root key signs the state itself, as the root subnet does on the mainnet.
    """

    def __init__(
        self,
        seed: bytes,
        *,
        layout: RangesLayout = RangesLayout.SHARDED,
        delegated: bool = True,
        ranges: Sequence[tuple[bytes, bytes]] = RANGES,
    ) -> None:
        self._root = SigningKey(b"root" + seed)
        self._key = SigningKey(b"subnet" + seed) if delegated else self._root
        self._stranger = SigningKey(b"stranger" + seed)
        self._layout = layout
        self._delegated = delegated
        self._ranges = tuple(ranges)
        self.subnet_id = sha224(self._key.der).digest() + SELF_AUTHENTICATING

    @property
    def root_key(self) -> bytes:
        """The raw 96 bytes of the root's public key."""
        return self._root.raw

    @property
    def subnet_key(self) -> bytes:
        """The raw public key that signs the state: nothing a verifier may pin."""
        return self._key.raw

    def certificate(self, state: dict[bytes, Tree], paths: Sequence[Path], time_ns: int) -> bytes:
        """A certificate over a whole state, that shows these paths and the time."""
        return self._certificate(state, [path for path in paths if tuple(path) != (b"time",)], time_ns, None)

    def certify(
        self, canister: bytes, certified_data: bytes, time_ns: int, *, misbehaviour: Misbehaviour | None = None
    ) -> bytes:
        """A certificate over `certified_data`, as `data_certificate` gives it in a query."""
        owner = NEIGHBOUR if misbehaviour is Misbehaviour.WRONG_CANISTER else canister
        mine: dict[bytes, Tree] = {b"module_hash": sha256(owner).digest()}
        if misbehaviour is not Misbehaviour.ABSENT_PATH:
            mine[b"certified_data"] = certified_data
        other: Tree = {b"certified_data": sha256(owner).digest(), b"module_hash": bytes(32)}
        canisters: dict[bytes, Tree] = {b"\x00" * 8 + b"\x01\x01": other, owner: mine}
        shown: list[Path] = [(b"canister", owner, b"certified_data")]
        if misbehaviour is Misbehaviour.PRUNED_PATH:
            shown = [(b"canister", b"\x00" * 8 + b"\x01\x01", b"certified_data")]
        return self._certificate({b"canister": canisters}, shown, time_ns, misbehaviour)

    def reply(
        self,
        canister: bytes,
        request_id: bytes,
        reply: bytes,
        time_ns: int,
        *,
        misbehaviour: Misbehaviour | None = None,
    ) -> bytes:
        """The certificate that an update call was answered with `reply`.

        A request's status does not name its canister: the caller's request id does, by being its hash.
        `canister` only chooses the ranges that are shown.
        """
        status: Tree = {b"status": b"replied", b"reply": reply}
        return self._request_status(canister, request_id, status, time_ns, misbehaviour=misbehaviour)

    def rejection(self, canister: bytes, request_id: bytes, code: int, message: str, *, time_ns: int) -> bytes:
        """The certificate that an update call was rejected."""
        status: Tree = {b"status": b"rejected", b"reject_code": uleb128(code), b"reject_message": message.encode()}
        return self._request_status(canister, request_id, status, time_ns, misbehaviour=None)

    def _request_status(
        self, canister: bytes, request_id: bytes, status: Tree, time_ns: int, *, misbehaviour: Misbehaviour | None
    ) -> bytes:
        other: Tree = {b"status": b"processing"}
        statuses: dict[bytes, Tree] = {sha256(canister).digest(): other, request_id: status}
        shown: list[Path] = [(b"request_status", request_id)]
        return self._certificate({b"request_status": statuses}, shown, time_ns, misbehaviour)

    def _certificate(
        self, state: dict[bytes, Tree], shown: list[Path], time_ns: int, misbehaviour: Misbehaviour | None
    ) -> bytes:
        tree = witness(*_with_time(state, shown, time_ns, misbehaviour))
        key = self._stranger if misbehaviour is Misbehaviour.WRONG_KEY else self._key
        delegation = self._delegation(time_ns, misbehaviour) if self._delegated else None
        return _signed(tree, key, delegation, misbehaviour)

    def _delegation(self, time_ns: int, misbehaviour: Misbehaviour | None) -> cbor.Value:
        tree, shown = self._delegating_state(misbehaviour)
        nested: cbor.Value = None
        if misbehaviour is Misbehaviour.NESTED_DELEGATION:
            nested = self._delegation(time_ns, None)
        node = witness(*_with_time(tree, shown, time_ns, None))
        return {"subnet_id": self.subnet_id, "certificate": _signed(node, self._root, nested, None)}

    def _delegating_state(self, misbehaviour: Misbehaviour | None) -> tuple[dict[bytes, Tree], list[Path]]:
        ranges: Sequence[tuple[bytes, bytes]] = self._ranges
        if misbehaviour is Misbehaviour.EMPTY_RANGES:
            ranges = ()
        elif misbehaviour is Misbehaviour.OUTSIDE_RANGES:
            ranges = ELSEWHERE
        raw = IDENTITY_KEY if misbehaviour is Misbehaviour.IDENTITY_SUBNET_KEY else self._key.raw
        entry: dict[bytes, Tree] = {b"public_key": DER_PREFIX + raw}
        state: dict[bytes, Tree] = {b"subnet": {self.subnet_id: entry, b"\x01" * 29: {b"public_key": b""}}}
        shown: list[Path] = [(b"subnet", self.subnet_id, b"public_key")]
        encoded = _self_described([[low, high] for low, high in ranges])
        hidden = misbehaviour is Misbehaviour.NO_RANGES
        if self._layout is RangesLayout.CLASSIC:
            entry[b"canister_ranges"] = encoded
            shown += [] if hidden else [(b"subnet", self.subnet_id, b"canister_ranges")]
        else:
            shard = ranges[0][0] if ranges else RANGES[0][0]
            state[b"canister_ranges"] = {self.subnet_id: {shard: encoded}}
            shown += [] if hidden else [(b"canister_ranges", self.subnet_id, shard)]
        return state, shown


def _with_time(
    state: dict[bytes, Tree], shown: list[Path], time_ns: int, misbehaviour: Misbehaviour | None
) -> tuple[dict[bytes, Tree], list[Path]]:
    if misbehaviour is Misbehaviour.NO_TIME:
        return state, shown
    return {**state, b"time": uleb128(time_ns)}, [*shown, (b"time",)]


def _signed(tree: Node, key: SigningKey, delegation: cbor.Value, misbehaviour: Misbehaviour | None) -> bytes:
    signature = key.sign(domain("ic-state-root") + digest(tree))
    if misbehaviour is Misbehaviour.IDENTITY_SIGNATURE:
        signature = IDENTITY_SIGNATURE
    elif misbehaviour is Misbehaviour.FLIPPED_SIGNATURE:
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    certificate: dict[cbor.Key, cbor.Value] = {"tree": list(tree), "signature": signature}
    if delegation is not None:
        certificate["delegation"] = delegation
    raw = _self_described(certificate)
    return raw + b"\x00" if misbehaviour is Misbehaviour.TRAILING_BYTE else raw


def _self_described(value: cbor.Value) -> bytes:
    return cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, value))
