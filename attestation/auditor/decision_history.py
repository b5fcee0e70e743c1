"""The decision behind a release, out of the history of those who decide (docs/spec/audit.md U18).

    AuditTerms(policy, decisions=HistoryReader(authority_digest(authority)))

The document is a whole history, from its first decision on, so that whether the one that adopted a release was theirs
to make follows from the file and the authority the auditor believes. Whoever made the bundle may have left out what
came later: the reader says how the release stood at the end of what was shown, and refuses a history without a decision
that the auditor has seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from attestation.adoption import executed_reply
from attestation.auditor.errors import AuditRefused
from attestation.auditor.terms import Adopted, AuditTerms, WantedDecision
from foundation.refusal import listed
from measurements.governance.history import AdoptedRelease, History


@dataclass(frozen=True, slots=True)
class HistoryReader:
    """`authority`: the digest of the authority that is believed. `seen`: decisions that must be among those shown."""

    authority: bytes
    seen: tuple[bytes, ...] = ()

    def read(self, document: bytes, about: WantedDecision, terms: AuditTerms) -> Adopted:  # noqa: ARG002  # as the protocol has it
        """Raises a `Refused` unless this authority adopted this very release."""
        ledger, decisions = History.parse(document).verify(self.authority, executed_reply, self.seen)
        found = next((each for each in ledger.releases.values() if each.adoption == about.adoption), None)
        if found is None:
            raise AuditRefused("adoption", expected=f"a release adopted by {about.adoption.hex()}", got="none")
        _check_about(found, about)
        decision = next(each for each in decisions if each.digest == about.adoption)
        words = (
            f"release {found.manifest.version}: decision {decision.position} of {len(decisions)}, by "
            f"{', '.join(decision.by)}; {found.standing.value} at the end of what is shown"
        )
        return Adopted(words, found.heights)


def _check_about(found: AdoptedRelease, about: WantedDecision) -> None:
    manifest = found.manifest
    if manifest.version != about.release:
        raise AuditRefused("adoption", expected=f"release {about.release}", got=manifest.version)
    if about.measurement not in manifest.launch_measurements():
        raise AuditRefused(
            "adoption",
            expected=f"the launch {about.measurement.hex()[:64]}",
            got=listed(each.hex()[:16] for each in manifest.launch_measurements()),
        )
    if manifest.measured_config != about.config:
        raise AuditRefused("adoption", expected=about.config.hex(), got=manifest.measured_config.hex())
    if manifest.model.root != about.model_root:
        expected = about.model_root.hex() if about.model_root else "no model"
        raise AuditRefused("adoption", expected=expected, got=manifest.model.root.hex())
