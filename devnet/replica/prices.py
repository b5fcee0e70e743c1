"""The Internet Computer's price list for a subnet of 13 nodes, in cycles. Here prices are returned but never charged.

A canister may ask what things would cost (`ic0.cost_call` and its sisters), and a benchmark may turn the fuel of a
message into cycles. Fuel counts the engine's instructions, which are near the subnet's own count and not equal to it.
"""

from __future__ import annotations

from typing import Final

EXECUTION_BASE: Final = 5_000_000
PER_INSTRUCTION: Final = 1
INSTRUCTIONS_MAX: Final = 40_000_000_000
CALL_BASE: Final = 260_000
CALL_BYTE: Final = 1_000
INGRESS_BASE: Final = 1_200_000
INGRESS_BYTE: Final = 2_000
RESPONSE_BYTES_MAX: Final = 2 << 20
CREATE_CANISTER: Final = 500_000_000_000
HTTP_BASE: Final = 49_140_000
HTTP_REQUEST_BYTE: Final = 5_200
HTTP_RESPONSE_BYTE: Final = 10_400


def execution(instructions: int) -> int:
    """Of one message that ran."""
    return EXECUTION_BASE + PER_INSTRUCTION * instructions


def ingress(argument_bytes: int) -> int:
    """Of taking a call from outside, before it runs."""
    return INGRESS_BASE + INGRESS_BYTE * argument_bytes


def transmission(argument_bytes: int) -> int:
    """Of carrying a call to another canister."""
    return CALL_BASE + CALL_BYTE * argument_bytes


def call(method_bytes: int, argument_bytes: int) -> int:
    """What a call needs to be made: its way there, and a prepayment for the largest answer, most of which returns."""
    answer = CALL_BYTE * RESPONSE_BYTES_MAX + execution(INSTRUCTIONS_MAX)
    return transmission(method_bytes + argument_bytes) + answer


def http_request(request_bytes: int, response_bytes_max: int) -> int:
    return HTTP_BASE + HTTP_REQUEST_BYTE * request_bytes + HTTP_RESPONSE_BYTE * response_bytes_max
