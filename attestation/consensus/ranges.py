"""Which canisters a subnet speaks for, as its delegation says.

Two layouts are in use, and the newer wins where it is shown at all:

    /canister_ranges/<subnet>/<shard>     many short lists; the shard is the lowest canister of its list
    /subnet/<subnet>/canister_ranges      one list

A list is pairs of principals, both ends included, compared as bytes. Nothing but a pair that holds the
canister authorises it: not an empty list, not a pruned one, not a missing one.
"""

from __future__ import annotations

from typing import TypeAlias

from attestation.consensus import principal
from attestation.consensus.hashtree import Found, FoundTree, HashTree, Labeled, Leaf, find, lookup, siblings
from attestation.consensus.refusals import RangesRefused
from foundation.cbor import SELF_DESCRIBED, CborRefused, Limits, Tag, decode_foreign

Ranges: TypeAlias = tuple[tuple[bytes, bytes], ...]

_LIMITS = Limits(bytes_max=1 << 20, depth_max=4, items_max=1 << 17)


def parse_ranges(data: bytes) -> Ranges:
    """The pairs of one list, in its order. Raises `RangesRefused`, nothing else."""
    try:
        value = decode_foreign(data, _LIMITS)
    except CborRefused as refusal:
        raise RangesRefused(f"ranges.{refusal.code}", expected=refusal.expected, got=refusal.got) from refusal
    pairs = value.value if isinstance(value, Tag) and value.number == SELF_DESCRIBED else value
    if not isinstance(pairs, list):
        raise _refused("format", "a list of pairs", type(pairs).__name__)
    return tuple(_pair(item) for item in pairs)


def _pair(item: object) -> tuple[bytes, bytes]:
    match item:
        case [bytes(low), bytes(high)]:
            if max(len(low), len(high)) > principal.PRINCIPAL_BYTES_MAX:
                raise _refused(
                    "format", f"at most {principal.PRINCIPAL_BYTES_MAX} bytes", f"{max(len(low), len(high))} bytes"
                )
            if low > high:
                raise _refused("order", "the lower end first", f"{low.hex()} to {high.hex()}")
            return low, high
    raise _refused("format", "a pair of principals", type(item).__name__)


def check_canister(tree: HashTree, subnet: bytes, canister: bytes) -> None:
    """Refuses unless `tree`, a delegation's, hands `canister` to `subnet`."""
    check_canister_id(canister)
    ranges = _ranges_near(tree, subnet, canister)
    if not any(low <= canister <= high for low, high in ranges):
        raise _refused("outside", f"ranges that hold {principal.to_text(canister)}", describe(ranges))


def check_canister_id(canister: bytes) -> None:
    # The management canister runs on every subnet and on none: no certificate speaks for it.
    if not 1 <= len(canister) <= principal.PRINCIPAL_BYTES_MAX:
        raise _refused("canister", "a canister id of 1 to 29 bytes", f"{len(canister)} bytes")


def _ranges_near(tree: HashTree, subnet: bytes, canister: bytes) -> Ranges:
    sharded = find(tree, (b"canister_ranges", subnet))
    if isinstance(sharded, FoundTree):
        return _shard(sharded.tree, canister)
    flat = lookup(tree, (b"subnet", subnet, b"canister_ranges"))
    if isinstance(flat, Found):
        return parse_ranges(flat.value)
    raise _refused("missing", "the subnet's canister ranges", "none shown")


def _shard(tree: HashTree, canister: bytes) -> Ranges:
    """The list of the last shard that does not begin after `canister`."""
    nearest: Labeled | None = None
    for sibling in siblings(tree):
        if isinstance(sibling, Labeled):
            if sibling.label > canister:
                break
            nearest = sibling
    if nearest is None or not isinstance(nearest.tree, Leaf):
        raise _refused("shard", f"a shard from {principal.to_text(canister)} or below", "none shown")
    return parse_ranges(nearest.tree.value)


def describe(ranges: Ranges) -> str:
    if not ranges:
        return "an empty list"
    shown = ", ".join(f"{principal.to_text(low)}..{principal.to_text(high)}" for low, high in ranges[:3])
    return shown if len(ranges) <= 3 else f"{shown} and {len(ranges) - 3} more"


def _refused(code: str, expected: str, got: str) -> RangesRefused:
    return RangesRefused(f"ranges.{code}", expected=expected, got=got)
