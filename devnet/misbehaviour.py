"""What a subnet, a gateway or a host may do wrong, by name, so that a test asks for one thing at a time.

The first group bends a certificate (`Subnet.certify`), the second what is certified or carried
(`Chain.seal`, `Chain.proof`, `Chain.body`). Each has one refusal that must meet it; tests hold the pairs.
"""

from __future__ import annotations

from enum import Enum


class Misbehaviour(Enum):
    # certificates
    WRONG_KEY = "signed by a key that nobody delegated to"
    FLIPPED_SIGNATURE = "a bit of the signature turned"
    IDENTITY_SIGNATURE = "the point at infinity for a signature"
    WRONG_CANISTER = "the state of another canister"
    PRUNED_PATH = "the canister's branch pruned away"
    ABSENT_PATH = "a canister without certified data"
    NO_TIME = "a state tree without its time"
    NESTED_DELEGATION = "a delegation inside a delegation"
    EMPTY_RANGES = "a subnet that may speak for no canister"
    OUTSIDE_RANGES = "a subnet that may speak for other canisters"
    NO_RANGES = "a delegation that shows no ranges"
    IDENTITY_SUBNET_KEY = "the point at infinity for a subnet key"
    TRAILING_BYTE = "a byte after the certificate"

    # chains and slices
    GAP = "a header left out"
    REORDERED = "two headers exchanged"
    REPEATED = "a header twice"
    FORGED_HEAD = "a head that was never certified"
    WRONG_PARENT = "a parent that is not the link before"
    SKIPPED_IDS = "request ids that jump"
    TIME_RUNS_BACK = "a block older than the one before it"
    FUTURE_BLOCK = "a block younger than its certificate"
    OTHER_VERSION = "a header of another version"
    OTHER_CANISTER = "a header of another gateway"
    OTHER_GENESIS = "a first block that does not stand on genesis"

    # bodies
    REQUEST_LEFT_OUT = "a body without its last request"
    REQUEST_ADDED = "a body with one request more"
    REQUEST_CHANGED = "a body with another payload"
    REQUESTS_REORDERED = "a body with two requests exchanged"
