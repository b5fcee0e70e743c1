"""The links about permission judged: what the broker granted, and what was decided about it (audit.md U15 to U19)."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.auditor.audit_bundle import ReleasePart
from attestation.auditor.errors import AuditRefused
from attestation.auditor.evidence_checks import Believed
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered
from attestation.auditor.rows import Held, NothingToCheck
from attestation.auditor.terms import Adopted, AuditTerms, WantedDecision
from attestation.decision_log.chain import is_signed
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import Granted, ReleaseAdded, ReleaseChanged
from attestation.rcar.grant import NO_ADOPTION, GrantPurpose
from measurements.digests import DecisionDigest
from measurements.release.heights import Heights


@dataclass(frozen=True, slots=True)
class Logged:
    """What the bundle shows of the broker's log about a cell, and the document of the decision behind the release."""

    entries: tuple[Entry, ...]
    document: bytes | None


@dataclass(frozen=True, slots=True)
class Released:
    """What the broker said of this cell; `release` is "" and the others None where no broker was measured."""

    release: str
    adoption: DecisionDigest | None
    document: bytes | None
    heights: Heights | None  # the blocks of all its grants that are shown


def logged(raw: bytes, measured: Measured) -> Held[Logged]:
    part = ReleasePart.parse(raw)
    entries = _entries(part, measured)
    got = ", ".join(f"{entry.kind} at {entry.position}" for entry in entries) or "none, and no broker measured"
    return Held(Logged(entries, part.decision), got)


def _entries(part: ReleasePart, measured: Measured) -> tuple[Entry, ...]:
    """Entries of the measured broker, in the order of its log and of kinds that say something here."""
    if measured.broker is None:
        if part.entries or part.decision is not None:
            raise AuditRefused(
                "release",
                expected="nothing, without a measured broker",
                got=f"{len(part.entries)} entries and {'no' if part.decision is None else 'a'} decision",
            )
        return ()
    found: list[Entry] = []
    for raw, signature in part.entries:
        entry = Entry.parse(raw)
        if not is_signed(raw, signature, measured.broker):
            expected = f"entry {entry.position} signed by the broker {measured.broker.hex()}"
            raise AuditRefused("release", expected=expected, got="a signature that does not verify")
        if not isinstance(entry.event, Granted | ReleaseAdded | ReleaseChanged) or (
            found and entry.position <= found[-1].position
        ):
            raise AuditRefused("release", expected="grants and releases in the order of the log", got=entry.kind[:40])
        found.append(entry)
    return tuple(found)


def granted(measured: Measured, believed: Believed, shown: Logged) -> Held[Released] | NothingToCheck[Released]:
    if measured.broker is None:
        why = "this cell was measured to serve without a broker"
        what = "the broker released the model to this very cell"
        return NothingToCheck(why, Released("", None, None, None), what=what)
    name, adoption, heights = _granted(shown.entries, believed)
    return Held(Released(name, adoption, shown.document, heights), f"release {name}, {heights}")


def _granted(entries: tuple[Entry, ...], believed: Believed) -> tuple[str, DecisionDigest, Heights]:
    """The release, the decision behind it and the blocks it was granted, as the broker wrote them down."""
    keyset, tee = believed.verified.statement.keyset, believed.verified.statement.kind
    grants = [
        entry.event
        for entry in entries
        if isinstance(entry.event, Granted)
        and entry.event.cell.keyset == keyset
        and entry.event.purpose in (GrantPurpose.MODEL, GrantPurpose.SERVICE)
    ]
    if not any(grant.purpose is GrantPurpose.MODEL for grant in grants):
        raise AuditRefused("grant", expected=f"a grant of the model key to the keyset {keyset.hex()}", got="none")
    found: tuple[str, DecisionDigest, Heights] | None = None
    for grant in grants:
        if (grant.cell.measurement, grant.cell.tee) != (believed.measurement, tee):
            got = grant.cell.measurement.hex()[:64]
            raise AuditRefused("grant", expected=believed.measurement.hex()[:64], got=got)
        one = _one_grant(grant)
        if found is not None and one[:2] != found[:2]:
            raise AuditRefused("grant", expected=f"grants for release {found[0]} alone", got=one[0][:64])
        # A renewal goes on where the grant before it ends: one stretch of blocks (key-release.md R34).
        found = (
            one
            if found is None
            else (*one[:2], Heights(min(found[2].first, one[2].first), max(found[2].end, one[2].end)))
        )
    if found is None:
        raise AuditRefused("grant", expected="a grant", got="none")
    return found


def _one_grant(grant: Granted) -> tuple[str, DecisionDigest, Heights]:
    release, adoption = grant.cell.release, grant.cell.adoption
    if not release:
        raise AuditRefused("grant", expected="a release", got="a release without a name")
    if grant.blocks is None:
        raise AuditRefused("grant", expected="the blocks that it is for", got="none")
    return release, adoption, grant.blocks.heights


def approved(
    measured: Measured, believed: Believed, shown: Logged, released: Released | None
) -> Held[None] | NothingToCheck[None] | None:
    if measured.broker is None:
        return None
    added = [
        (entry.position, entry.event)
        for entry in shown.entries
        if isinstance(entry.event, ReleaseAdded) and released is not None and entry.event.release == released.release
    ]
    if released is None or not added:
        return NothingToCheck("the bundle has no entry of its approval")
    # One decision may name a release's measurement on every kind of machine: an entry for each.
    position, entry = next((each for each in added if each[1].measurement == believed.measurement), added[-1])
    compared: tuple[tuple[str, bytes | None, bytes], ...] = (
        ("measurement", believed.measurement.encode(), entry.measurement.encode()),
        ("measured_config", measured.digest, entry.measured_config),
        ("model_root", measured.model_root, entry.model_root),
        ("adoption", released.adoption, entry.adoption),
    )
    for name, expected, got in compared:
        if got != expected:
            wanted = f"{name} {expected.hex()[:32] if expected else None}"
            raise AuditRefused("release", expected=wanted, got=got.hex()[:64])
    return Held(None, f"entry {position}")


def granted_heights(released: Released, ordered: Ordered) -> Held[None] | None:
    """U19: of what the broker granted. Nothing to compare with where no broker was measured."""
    if released.heights is None:
        return None
    _check_heights(ordered, released.release, released.heights)
    return Held(None, f"{released.heights}")


def decision(
    terms: AuditTerms, measured: Measured, believed: Believed, released: Released
) -> Held[Adopted] | NothingToCheck[Adopted]:
    """U17: the decision whose digest the receipts carry. Whose votes count is the reader's to know."""
    adoption = released.adoption
    if adoption is None or adoption == NO_ADOPTION:
        why = "no broker, no decision" if adoption is None else "the owner of the key decided alone"
        if released.document is not None:
            raise AuditRefused("decision", expected="no document, since no decision is named", got="a document")
        if terms.decisions is not None:
            raise AuditRefused("decision", expected="a decision of the authority that you named", got=f"none: {why}")
        return NothingToCheck(why)
    if released.document is None:
        raise AuditRefused("decision", expected=f"the decision {adoption.hex()}", got="none")
    if terms.decisions is None:
        raise AuditRefused("decision", expected="an authority that you believe", got="none named")
    about = WantedDecision(adoption, released.release, believed.measurement, measured.digest, measured.model_root)
    adopted = terms.decisions.read(released.document, about, terms)
    return Held(adopted, adopted.words)


def decided_heights(released: Released, adopted: Adopted, ordered: Ordered) -> Held[None]:
    """U19: of what was decided."""
    _check_heights(ordered, released.release, adopted.heights)
    return Held(None, f"{adopted.heights}")


def _check_heights(ordered: Ordered, release: str, heights: Heights) -> None:
    for header in ordered.slice.headers:
        if header.height not in heights:
            raise AuditRefused("heights", expected=f"{heights} for release {release}", got=f"block {header.height}")
