"""The decisions a broker was shown, proven again from the first whenever it matters.

A store holds the authority's document and every decision with its proof; `ledger_of` walks them through
`measurements.governance.history`, so nothing in the database is believed for standing there.
"""

from __future__ import annotations

from attestation.adoption import executed_reply
from attestation.broker.errors import StoreRefused
from attestation.broker.store import Change
from attestation.decision_log.errors import LogRefused
from foundation.refusal import Refused
from measurements.governance.authority import parse_authority
from measurements.governance.decision import Decision
from measurements.governance.history import Ledger


def ledger_of(change: Change) -> Ledger:
    """What is in force by the decisions in the store. Raises `StoreRefused` where nobody governs."""
    document = change.authority()
    if document is None:
        raise StoreRefused("store.authority", expected="an authority whose decisions count", got="none")
    ledger = Ledger.begin(parse_authority(document))
    for _, raw in change.decisions():
        ledger, _ = ledger.advance(Decision.parse(raw), executed_reply)
    return ledger


def prove_decisions(change: Change) -> None:
    """Raises `LogRefused` unless every decision in the store holds, and is what the log says it is."""
    if change.authority() is None:
        return
    try:
        ledger = ledger_of(change)
    except Refused as refusal:
        raise LogRefused("log.decisions", expected="decisions that hold", got=refusal.code) from refusal
    if ledger.digests != tuple(digest for digest, _ in change.decisions()):
        raise LogRefused(
            "log.decisions",
            expected="each under its own digest",
            got=f"{len(ledger.digests)} decisions whose digests are not those in the store",
        )
