"""The links about the machine: genuine evidence, wanted evidence, and the key's release (audit.md U12 to U19)."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.auditor.audit_bundle import AuditBundle, Part, ReleasePart, audit_nonce
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Ledger, Stage
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered, check_whole
from attestation.auditor.terms import Adopted, Decided, Terms
from attestation.decision_log.chain import is_signed
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import Granted, ReleaseAdded, ReleaseChanged
from attestation.errors import CollateralMissing, PolicyRefused
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyAlgorithm, KeyUse
from attestation.policy.bundle_appraisal import appraise_bundle
from attestation.policy.claims import Appraisal
from attestation.rcar.grant import NO_ADOPTION, GrantPurpose
from attestation.receipts.signed_receipt import check_key
from attestation.report_data import Purpose
from attestation.verify.evidence_bundle import verify_bundle
from attestation.verify.verified import VerifiedSnp
from attestation.verify.verified_bundle import VerifiedBundle
from measurements.release.heights import Heights


@dataclass(frozen=True, slots=True)
class Believed:
    """A cell whose evidence is genuine: what it runs and which key signs its receipts."""

    verified: VerifiedBundle
    receipt_key: bytes
    measurement: bytes


@dataclass(frozen=True, slots=True)
class Released:
    """What the broker said of this cell; `release` is "" and the others None where no broker was measured."""

    release: str
    adoption: bytes | None
    document: bytes | None
    heights: Heights | None  # the blocks of all its grants that are shown


def check_evidence(
    ledger: Ledger, bundle: AuditBundle, cell: int, terms: Terms, measured: Measured, ordered: Ordered
) -> Believed | None:
    stage = Stage.EVIDENCE
    if not check_whole(ledger, bundle, stage, Part.EVIDENCE, cell=cell):
        return None
    at = terms.at or ordered.certified_at
    verified: VerifiedBundle | None = None
    with ledger.check(
        stage,
        "evidence.genuine",
        "evidence-production.md E124",
        "the silicon signed this cell's evidence, under a root that you believe",
        cell=cell,
    ) as it:
        evidence = EvidenceBundle.parse(bundle.cells[cell].evidence)
        verified = verify_bundle(evidence, at=at, simulated_root=terms.simulated_root)
        it.got = f"{verified.statement.kind.value}, root {verified.evidence.root.name}"
    if verified is None:
        return None
    ledger.simulated = ledger.simulated or verified.statement.kind.simulated
    key: bytes | None = None
    with ledger.check(
        stage,
        "evidence.identity",
        "evidence-production.md E118",
        "it was made to say who the cell is, to anyone",
        cell=cell,
    ):
        if verified.statement.purpose is not Purpose.IDENTITY:
            raise AuditRefused("purpose", expected="identity", got=verified.statement.purpose.name.lower())
    with ledger.check(
        stage,
        "evidence.configuration",
        "evidence-production.md E118",
        "it binds the measured configuration of this bundle",
        cell=cell,
    ) as it:
        if verified.statement.measured_config != measured.digest:
            raise AuditRefused("config", expected=measured.digest.hex(), got=verified.statement.measured_config.hex())
        it.got = measured.digest.hex()
    with ledger.check(
        stage,
        "evidence.receipt-key",
        "receipt.md T11",
        "it binds the key that signs receipts, and that is a sound one",
        cell=cell,
    ) as it:
        key = _receipt_key(verified)
        it.got = key.hex()
    if key is None:
        return None
    return Believed(verified, key, measurement_of(verified))


def _receipt_key(verified: VerifiedBundle) -> bytes:
    key = verified.keyset.key(KeyUse.RECEIPT)
    if key is None or key.algorithm is not KeyAlgorithm.ED25519:
        raise AuditRefused("receipt-key", expected="an Ed25519 key", got=key.algorithm.name if key else "none")
    check_key(key.raw)
    return key.raw


def measurement_of(verified: VerifiedBundle) -> bytes:
    """As a release names an image: SNP's launch digest, or MRTD and the four RTMRs."""
    evidence = verified.evidence
    if isinstance(evidence, VerifiedSnp):
        return evidence.measurement
    return evidence.report.mr_td + b"".join(evidence.report.rtmrs)


def check_policy(ledger: Ledger, cell: int, terms: Terms, ordered: Ordered, believed: Believed) -> None:
    nonce = _freshness(ledger, cell, terms, ordered, believed)
    with ledger.check(
        Stage.POLICY,
        "policy.claims",
        "evidence.md E134",
        "every claim of your policy about the machine and its image is met",
        cell=cell,
    ) as it:
        appraisal = appraise_bundle(believed.verified, terms.references, terms.policy, nonce=nonce)
        ledger.appraised(cell, appraisal)
        _accept(appraisal)
        it.got = f"{len(appraisal.claims)} claims of {appraisal.policy_id}"


def _freshness(ledger: Ledger, cell: int, terms: Terms, ordered: Ordered, believed: Believed) -> bytes | None:
    """U12: a nonce that follows from a block's link was asked after that block's beacon was drawn."""
    code, rule = "policy.fresh", "audit.md U12"
    nonce = believed.verified.statement.nonce
    for header, link in zip(ordered.slice.headers, ordered.slice.links, strict=True):
        if nonce == audit_nonce(link):
            with ledger.check(
                Stage.POLICY, code, rule, "the evidence is younger than a block of this order", cell=cell
            ) as it:
                it.got = f"made after height {header.height} was sealed"
            return nonce
    if nonce in terms.nonces:
        with ledger.check(Stage.POLICY, code, rule, "the evidence answers a nonce of yours", cell=cell) as it:
            it.got = nonce.hex()
        return nonce
    ledger.unchecked(
        Stage.POLICY,
        code,
        rule,
        "the evidence is younger than a block of this order",
        "its nonce is neither of a block shown here nor one of yours; your policy decides",
        cell=cell,
    )
    return None


def _accept(appraisal: Appraisal) -> None:
    if appraisal.accepted:
        return
    unmet = appraisal.unmet
    kind = CollateralMissing if appraisal.wants_only_collateral else PolicyRefused
    names = ", ".join(claim.code for claim in unmet) or "no claim at all"
    raise kind(unmet[0].code if unmet else "policy.empty", expected=unmet[0].expected if unmet else "claims", got=names)


def check_release(
    ledger: Ledger, bundle: AuditBundle, cell: int, measured: Measured, believed: Believed
) -> Released | None:
    stage = Stage.RELEASE
    if not check_whole(ledger, bundle, stage, Part.RELEASE, cell=cell):
        return None
    entries: tuple[Entry, ...] | None = None
    part: ReleasePart | None = None
    with ledger.check(
        stage, "release.logged", "key-release.md R19", "the broker signed these entries of its log", cell=cell
    ) as it:
        part = ReleasePart.parse(bundle.cells[cell].release)
        entries = _entries(part, measured)
        it.got = ", ".join(f"{entry.kind} at {entry.position}" for entry in entries) or "none, and no broker measured"
    if entries is None or part is None:
        return None
    if measured.broker is None:
        ledger.unchecked(
            stage,
            "release.granted",
            "audit.md U15",
            "the broker released the model to this very cell",
            "this cell was measured to serve without a broker",
            cell=cell,
        )
        return Released("", None, None, None)
    released: Released | None = None
    with ledger.check(
        stage,
        "release.granted",
        "audit.md U15",
        "the broker released the model to this very cell: this image, these keys",
        cell=cell,
    ) as it:
        name, adoption, heights = _granted(entries, believed)
        released = Released(name, adoption, part.decision, heights)
        it.got = f"release {name}, {heights}"
    _check_approved(ledger, cell, entries, measured, believed, released)
    return released


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


def _granted(entries: tuple[Entry, ...], believed: Believed) -> tuple[str, bytes, Heights]:
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
    found: tuple[str, bytes, Heights] | None = None
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


def _one_grant(grant: Granted) -> tuple[str, bytes, Heights]:
    release, adoption = grant.cell.release, grant.cell.adoption
    if not release:
        raise AuditRefused("grant", expected="a release", got="a release without a name")
    if grant.blocks is None:
        raise AuditRefused("grant", expected="the blocks that it is for", got="none")
    return release, adoption, grant.blocks.heights


def _check_approved(
    ledger: Ledger,
    cell: int,
    entries: tuple[Entry, ...],
    measured: Measured,
    believed: Believed,
    released: Released | None,
) -> None:
    code, what = "release.approved", "the release it was granted under is this image, configuration and model"
    added = [
        (entry.position, entry.event)
        for entry in entries
        if isinstance(entry.event, ReleaseAdded) and released is not None and entry.event.release == released.release
    ]
    if not added:
        why = "the bundle has no entry of its approval"
        ledger.unchecked(Stage.RELEASE, code, "audit.md U16", what, why, cell=cell)
        return
    with ledger.check(Stage.RELEASE, code, "audit.md U16", what, cell=cell) as it:
        # One decision may name a release's measurement on every kind of machine: an entry for each.
        position, entry = next((each for each in added if each[1].measurement == believed.measurement), added[-1])
        compared: tuple[tuple[str, bytes | None, bytes], ...] = (
            ("measurement", believed.measurement, entry.measurement),
            ("measured_config", measured.digest, entry.measured_config),
            ("model_root", measured.model_root, entry.model_root),
            ("adoption", released.adoption if released else None, entry.adoption),
        )
        for name, expected, got in compared:
            if got != expected:
                raise AuditRefused(
                    "release", expected=f"{name} {expected.hex()[:32] if expected else None}", got=got.hex()[:64]
                )
        it.got = f"entry {position}"


def check_decision(
    ledger: Ledger,
    cell: int,
    terms: Terms,
    measured: Measured,
    believed: Believed,
    released: Released,
    ordered: Ordered,
) -> None:
    """U17, U19: the decision whose digest the receipts carry. Whose votes count is the reader's to know."""
    stage, code, rule = Stage.RELEASE, "release.decision", "audit.md U17"
    what, adoption = "those who may decide it adopted this release", released.adoption
    if adoption is None or adoption == NO_ADOPTION:
        why = "no broker, no decision" if adoption is None else "the owner of the key decided alone"
        if released.document is None:
            ledger.unchecked(stage, code, rule, what, why, cell=cell)
            return
    adopted: Adopted | None = None
    with ledger.check(stage, code, rule, what, cell=cell) as it:
        if adoption is None or adoption == NO_ADOPTION:
            raise AuditRefused("decision", expected="no document, since no decision is named", got="a document")
        if released.document is None:
            raise AuditRefused("decision", expected=f"the decision {adoption.hex()}", got="none")
        if terms.decisions is None:
            raise AuditRefused("decision", expected="an authority that you believe", got="none named")
        about = Decided(adoption, released.release, believed.measurement, measured.digest, measured.model_root)
        adopted = terms.decisions.read(released.document, about, terms)
        it.got = adopted.words
    if adopted is not None:
        with ledger.check(
            stage, "release.heights", "audit.md U19", "these blocks are this release's, by what was decided", cell=cell
        ) as it:
            _check_heights(ordered, released.release, adopted.heights)
            it.got = f"{adopted.heights}"


def check_granted_heights(ledger: Ledger, cell: int, released: Released, ordered: Ordered) -> None:
    """U19: of what the broker granted. Nothing to compare with where no broker was measured."""
    heights = released.heights
    if heights is None:
        return
    with ledger.check(
        Stage.RELEASE,
        "release.granted-heights",
        "audit.md U19",
        "these blocks are among those that the cell was granted its keys for",
        cell=cell,
    ) as it:
        _check_heights(ordered, released.release, heights)
        it.got = f"{heights}"


def _check_heights(ordered: Ordered, release: str, heights: Heights) -> None:
    for header in ordered.slice.headers:
        if header.height not in heights:
            raise AuditRefused("heights", expected=f"{heights} for release {release}", got=f"block {header.height}")
