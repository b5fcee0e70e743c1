"""From a receipt back to the vote: the history behind an adoption, proven again, and held against what ran.

    Terms(policy, ..., decisions=Governed(authority))       `authority`: the digest of the one whose votes count for you

The document in a bundle is the broker's whole history of decisions (`measurements.governance.history.History`), so that
what came after the adoption is in it as well: whoever cuts off a withdrawal shows a shorter history, and `known`, heads
seen elsewhere, says so. Not established: that there is no newer decision than those.
"""

from __future__ import annotations

from dataclasses import dataclass

from attestation.adoption import executed_reply
from attestation.auditor.errors import AuditRefused
from attestation.auditor.terms import Decided, Terms
from measurements.governance.history import AdoptedRelease, History, Standing
from measurements.governance.history import Decided as Step


@dataclass(frozen=True, slots=True)
class Governed:
    """A reader of decisions by one authority. Raises `Refused` of governance, consensus or audit."""

    authority: bytes
    known: tuple[bytes, ...] = ()

    def read(self, document: bytes, about: Decided, terms: Terms) -> str:  # noqa: ARG002  # root and function are the authority's
        ledger, steps = History.parse(document).verify(self.authority, executed_reply, self.known)
        held = next((each for each in ledger.releases.values() if each.adoption == about.adoption), None)
        if held is None:
            raise AuditRefused("decision", expected=f"the decision {about.adoption.hex()}",
                               got=f"{len(steps)} decisions without it")
        _check_same(held, about)
        adopted = next(step for step in steps if step.digest == about.adoption)
        return f"decision {adopted.position}, by {', '.join(adopted.by)}{_since(held, steps)}"


def _check_same(held: AdoptedRelease, about: Decided) -> None:
    manifest = held.manifest
    for name, decided, ran in (
        ("release", manifest.version, about.release),
        ("configuration", manifest.measured_config, about.config),
        ("model", manifest.model.root, about.model_root),
    ):
        if decided != ran:
            raise AuditRefused("decision", expected=f"{name} {_shown(decided)}", got=_shown(ran))
    if about.measurement not in manifest.launch_measurements():
        raise AuditRefused("decision", expected=f"a launch measurement of {manifest.version}",
                           got=about.measurement.hex()[:64])


def _since(held: AdoptedRelease, steps: tuple[Step, ...]) -> str:
    """What became of the release: for people; a receipt from before a withdrawal is what it was."""
    if held.standing is Standing.IN_FORCE:
        return ", in force"
    ended = next((step for step in steps if step.digest == held.ended_by), None)
    by = "" if ended is None else f" by decision {ended.position}"
    grace = f", may start until height {held.until_height}" if held.standing is Standing.SUPERSEDED else ""
    return f", {held.standing.value}{by}{grace}"


def _shown(value: bytes | str | None) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
