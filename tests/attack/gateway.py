"""Attacks on the gateway canister: reports, prompts, the queue, history, what is certified.

Without the defence stands the first module, which had none of them. What is tried is in tests/gateway_holes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests import gateway_holes as holes
from tests.attack.outcome import Outcome
from tests.attack.registry import attack
from tests.attack.room import Room
from tests.attack.weakening import Patch
from tests.gateways import Bench, first_module


def first(patch: Patch) -> None:
    """The module before this one."""
    patch.put("tests.gateways:module_of_today", first_module)


def tried(hole: Callable[[Bench], Outcome]) -> Callable[[Room], Outcome]:
    def run(_: Room) -> Outcome:
        return hole(Bench())

    run.__module__ = __name__
    return run


ATTACKS: Final = (
    (
        "garbage-reported-first",
        "a reporter that brings garbage and an invented answer before the honest one comes",
        "a report fits its receipt, and answers that differ are kept beside each other (O40, O41)",
        holes.garbage_first,
    ),
    (
        "answer-of-one-node",
        "a node that answers a query with another answer than the one reported",
        "the subnet certifies the digests of what was answered (O42 to O45)",
        holes.unsigned_answer,
    ),
    (
        "disagreement-without-end",
        "a reporter that disagrees about every answer, with a receipt and a signature as long as are taken",
        "a disagreement is an entry of fixed size, and its evidence is history and is forgotten with it (O41)",
        holes.log_of_disagreements,
    ),
    (
        "prompts-of-others",
        "a stranger that asks for plain prompts by the queries that have blocks",
        "prompts are given to reporters, controllers and their own callers (O39)",
        holes.prompts_of_others,
    ),
    (
        "refused-at-a-price",
        "a message of 1 MB that is refused",
        "what is too long is refused by the inspection of the message, and no update runs",
        holes.large_refused_message,
    ),
    (
        "queue-of-invented-callers",
        "64 invented callers, and then as many more as are let in, who fill the queue",
        "the last places are kept for those with nothing waiting, and the longest lane gives way to them",
        holes.queue_of_invented_callers,
    ),
    (
        "prompt-that-nobody-answers",
        "one prompt that is never answered, in front of all others, where history is bounded",
        "a request expires by its height, or when it stands in the way of history (O36, O37)",
        holes.unanswered_prompt,
    ),
    (
        "host-that-never-seals",
        "a host that never asks for a block to be sealed",
        "the gateway's own timer seals what waits",
        holes.nobody_seals,
    ),
    (
        "bound-kept-from-before",
        "a new module with a lower bound of history, over a state that kept more",
        "the lower of the bound that was set and the module's own holds, from its first block on",
        holes.bound_lowered,
    ),
    (
        "bytes-that-cost",
        f"prompts as long as are taken, for the gateway to hash; {holes.INSTRUCTIONS_A_BYTE_MAX} instructions a byte",
        "hashing copies no byte, and works in whole words",
        holes.costly_bytes,
    ),
)

for _name, _tries, _defence, _hole in ATTACKS:
    attack(_name, tries=_tries, defence=_defence, without=first)(tried(_hole))
