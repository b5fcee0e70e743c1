"""Attacks on who decides: decisions of too few, again, out of turn and back to what was, at a broker's real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from attestation.broker.authority import adopt, govern
from attestation.broker.broker import new_keys
from attestation.broker.store import Store
from attestation.broker.wrapping import SoftwareWrapping
from measurements.governance.actions import Adopt, Withdraw
from measurements.governance.authority import encode_authority
from measurements.governance.decision import Decision
from measurements.governance.history import Ledger
from tests.attack.outcome import Outcome
from tests.attack.registry import attack
from tests.attack.room import Room, refused_as
from tests.attack.weakening import instead, together, without
from tests.charters import AUTHORITY, advance, charter, decide
from tests.little_broker import KEK, NOW_NS
from tests.releases import made_manifest

LEDGER = "measurements.governance.history:Ledger."
FIRST, NEWER = made_manifest(), made_manifest("0.2.0")


@contextmanager
def governed(room: Room) -> Iterator[Store]:
    """A broker's store under a charter of three, two of whom decide."""
    store = Store.open(f"sqlite:///{room.folder}/broker.db", create=True)
    try:
        new_keys(store, SoftwareWrapping(KEK), NOW_NS)
        govern(store, encode_authority(AUTHORITY), NOW_NS)
        yield store
    finally:
        store.close()


def adopted(room: Room, code: str, decisions: Callable[[], list[Decision]]) -> Outcome:
    """All but the last are in order; the last is the attack."""
    with governed(room) as store:
        *honest, hostile = decisions()
        for each in honest:
            adopt(store, each.encode(), NOW_NS)
        return refused_as(code, lambda: adopt(store, hostile.encode(), NOW_NS).position)


def start() -> Ledger:
    return Ledger.begin(AUTHORITY)


@attack(
    "decided-by-one",
    tries="a release adopted by one member of three, where two must agree",
    defence="a decision needs its threshold of members' signatures (V8)",
    without=without("measurements.governance.charter:Charter.check"),
)
def decided_by_one(room: Room) -> Outcome:
    return adopted(room, "charter.threshold", lambda: [decide(start(), Adopt(FIRST), by=("ada",))])


@attack(
    "decided-by-strangers",
    tries="a release adopted by two keys of the attacker's",
    defence="signatures of members count, and of nobody else (V8)",
    without=instead(f"{LEDGER}_check_signatures", lambda self, *_: ("anybody",)),
)
def decided_by_strangers(room: Room) -> Outcome:
    strangers = ("mal", "eve")
    assert not {member.name for member in charter("ada", "ben", "cyd").members} & set(strangers)
    return adopted(room, "charter.member", lambda: [decide(start(), Adopt(FIRST), by=strangers)])


@attack(
    "decision-replayed",
    tries="a decision that was carried out once, again",
    defence="every decision has its position, and names the one before it (V6)",
    without=together(
        without(
            f"{LEDGER}_check_place",
            "attestation.broker.authority:_apply",
            "attestation.broker.store:Change.add_decision",
        ),
        instead(f"{LEDGER}_after", lambda self, *_: self),
    ),
)
def decision_replayed(room: Room) -> Outcome:
    def twice() -> list[Decision]:
        one = decide(start(), Adopt(FIRST))
        return [one, one]

    return adopted(room, "history.replayed", twice)


@attack(
    "history-forked",
    tries="another second decision, signed for a history that took another way",
    defence="a decision names the digest of the one before it (V6)",
    without=without(f"{LEDGER}_check_place"),
)
def history_forked(room: Room) -> Outcome:
    def other() -> list[Decision]:
        other_first = replace(FIRST, version="0.1.1")
        elsewhere, _ = advance(start(), Adopt(other_first))
        return [decide(start(), Adopt(FIRST)), decide(elsewhere, Withdraw(FIRST.version, FIRST.digest, "it never was"))]

    return adopted(room, "history.fork", other)


@attack(
    "older-release-adopted",
    tries="a release of a lower version, adopted behind a newer one",
    defence="versions only rise, and a release names the one that it supersedes (V10)",
    without=instead(f"{LEDGER}_adopted", lambda self, *_: self),
)
def older_release_adopted(room: Room) -> Outcome:
    def back() -> list[Decision]:
        after, _ = advance(start(), Adopt(NEWER))
        return [decide(start(), Adopt(NEWER)), decide(after, Adopt(FIRST))]

    return adopted(room, "release.downgrade", back)
