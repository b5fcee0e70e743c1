"""From an adoption back to who decided it, and only to what ran: governance.md V22, audit.md U17."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.auditor.decision_history import HistoryReader
from attestation.auditor.terms import AuditTerms, WantedDecision
from attestation.policy import document
from devnet.tee import policy_document
from foundation.refusal import Refused
from measurements.governance.actions import Adopt, Withdraw
from measurements.governance.authority import authority_digest
from measurements.governance.history import History, Ledger
from measurements.launch.measurement import SnpLaunchDigest
from measurements.release.heights import Heights
from tests.charters import AUTHORITY, advance, decide
from tests.little_tee import snp_tee
from tests.releases import digest, made_manifest, measurement

FIRST = made_manifest()
SECOND = made_manifest("0.2.0", FIRST)
EMPTY = Ledger.begin(AUTHORITY)
ONE, _ = advance(EMPTY, Adopt(FIRST))
TWO, _ = advance(ONE, Adopt(SECOND))
THREE, _ = advance(TWO, Withdraw("0.2.0", SECOND.digest, "it leaks"))
DECISIONS = (
    decide(EMPTY, Adopt(FIRST)),
    decide(ONE, Adopt(SECOND)),
    decide(TWO, Withdraw("0.2.0", SECOND.digest, "it leaks")),
)
TERMS = AuditTerms(document.parse(policy_document(snp_tee())))
ABOUT = WantedDecision(ONE.head, "0.1.0", FIRST.launch.snp[0].measurement, FIRST.measured_config, FIRST.model.root)


def history(count: int) -> bytes:
    return History(AUTHORITY, DECISIONS[:count]).encode()


def read(count: int, about: WantedDecision = ABOUT, known: tuple[bytes, ...] = ()) -> str:
    adopted = HistoryReader(authority_digest(AUTHORITY), known).read(history(count), about, TERMS)
    assert adopted.heights == (
        Heights(1, None) if count == 1 else Heights(501, None) if about.release == "0.2.0" else Heights(1, 500)
    )
    return adopted.words


def test_it_says_who_decided_and_what_became_of_it() -> None:
    assert "decision 1 of 1, by " in read(1)
    assert "in force" in read(1)
    assert "superseded" in read(2)
    assert "decision 1 of 2" in read(2)
    assert "withdrawn" in read(
        3,
        replace(
            ABOUT,
            adoption=TWO.head,
            release="0.2.0",
            measurement=SECOND.launch.snp[1].measurement,
            config=SECOND.measured_config,
        ),
    )


def test_every_launch_that_was_decided_will_do() -> None:
    for each in FIRST.launch_measurements():
        assert read(1, replace(ABOUT, measurement=each))


@pytest.mark.parametrize(
    "other",
    [
        {"adoption": digest("another decision")},
        {"adoption": TWO.head},
        {"release": "0.2.0"},
        {"measurement": SnpLaunchDigest(measurement("another image"))},
        {"config": digest("another")},
        {"model_root": None},
        {"model_root": digest("another")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_ran_must_be_what_was_decided(other: dict[str, object]) -> None:
    with pytest.raises(Refused) as caught:
        read(2, replace(ABOUT, **other))  # type: ignore[arg-type]
    assert caught.value.code.endswith("adoption")


def test_a_history_without_what_was_seen_is_refused() -> None:
    assert read(3, known=(THREE.head,))
    with pytest.raises(Refused) as caught:
        read(2, known=(THREE.head,))
    assert caught.value.code == "history.rollback"


def test_only_the_believed_authority_counts() -> None:
    with pytest.raises(Refused) as caught:
        HistoryReader(bytes(32)).read(history(1), ABOUT, TERMS)
    assert caught.value.code == "history.authority"
