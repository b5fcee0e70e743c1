"""Putting a broker under an authority, and doing what that authority decided.

    govern(store, authority_document, now_ns)       once, and for good
    adopt(store, decision_file, now_ns)             proven, in its place, or refused; then at once in force
    show_height(store, proof, ..., now_ns)          how far the gateway's chain goes: grants reach so far beyond it

A decision and all that follows from it, releases, supersessions, revocations, are one transaction and one run of log
entries (docs/spec/governance.md V15 to V20). What an administrator can still do is less: retire, revoke, rotate; or
approve on their own word, which the log calls that.
"""

from __future__ import annotations

from hashlib import sha256

from attestation.adoption import executed_reply
from attestation.broker.administration import append_release, append_revocation, change_release
from attestation.broker.decisions import ledger_of
from attestation.broker.errors import StoreRefused
from attestation.broker.session import Release
from attestation.broker.store import Change, Store
from attestation.consensus.slices import SliceProof, verify_slice
from attestation.decision_log.events import DecisionTaken, Governed, HeightShown, KeyRotated
from attestation.decision_log.words import By, ReleaseState, RevocationKind
from measurements.governance.actions import Adopt, AmendCharter, RevokeChips, RotateKey, Withdraw, describe
from measurements.governance.authority import Authority, authority_digest, encode_authority, parse_authority
from measurements.governance.decision import Decision
from measurements.governance.history import Decided, History, Ledger, Standing


def govern(store: Store, document: bytes, now_ns: int) -> Authority:
    """From now on decisions count. Refused while anything stands approved on the administrator's word."""
    authority = parse_authority(document)
    with store.change() as change:
        change.head()
        approved = [each.name for each in change.releases().values() if each.state is ReleaseState.APPROVED]
        if approved:
            raise StoreRefused(
                "store.authority", expected="no release approved on the administrator's word", got=approved[0]
            )
        kind = type(authority).__name__.lower()
        change.append(Governed(sha256(document).digest(), authority_digest(authority), kind), now_ns)
        change.set_authority(encode_authority(authority))
    return authority


def adopt(store: Store, raw: bytes, now_ns: int) -> Decided:
    """Whatever was decided, in force when this returns. Raises `Refused`; then nothing changed."""
    decision = Decision.parse(raw)
    with store.change() as change:
        change.head()
        before = ledger_of(change)
        after, decided = before.advance(decision, executed_reply)
        kind, subject = describe(decided.action)
        change.append(
            DecisionTaken(
                decision=decided.digest,
                at=decided.position,
                action=kind,
                subject=subject,
                by=", ".join(decided.by)[:1024],
                file=sha256(raw).digest(),
                certified_ns=decided.certified_ns or 0,
            ),
            now_ns,
        )
        change.add_decision(decided.position, decided.digest, raw)
        _apply(change, before, after, decided, now_ns=now_ns)
    return decided


def show_height(store: Store, proof: bytes, *, root_key: bytes, gateway: bytes, now_ns: int) -> int:
    """The head of a slice the gateway certified. Heights only rise; a lower one changes nothing."""
    height = verify_slice(SliceProof.parse(proof), root_key=root_key, canister=gateway).head.height
    with store.change() as change:
        change.head()
        if height > change.height():
            change.append(HeightShown(height, gateway), now_ns)
            change.set_height(height)
        return change.height()


def history_of(store: Store) -> History:
    """What an auditor is given: the authority and every decision with its proof."""
    with store.change() as change:
        document = change.authority()
        if document is None:
            raise StoreRefused("store.authority", expected="an authority whose decisions count", got="none")
        decisions = tuple(Decision.parse(raw) for _, raw in change.decisions())
    return History(parse_authority(document), decisions)


def _apply(change: Change, before: Ledger, after: Ledger, decided: Decided, *, now_ns: int) -> None:
    match decided.action:
        case Adopt(manifest):
            for version, held in after.releases.items():
                known = before.releases.get(version)
                if known is None or (known.standing, known.heights) == (held.standing, held.heights):
                    continue
                state = ReleaseState.SUPERSEDED if held.standing is Standing.SUPERSEDED else ReleaseState.WITHDRAWN
                _change_adopted(change, version, state, now_ns, last_height=held.heights.last)
            for measurement in manifest.launch_measurements():
                append_release(
                    change,
                    Release(
                        manifest.version,
                        measurement,
                        manifest.model.root,
                        manifest.measured_config,
                        ReleaseState.APPROVED,
                        decided.digest,
                        manifest.minimum_tcb,
                        manifest.serves.heights,
                        manifest.serves.lease,
                    ),
                    now_ns,
                )
        case Withdraw(version):
            if after.releases[version].standing is Standing.WITHDRAWN:
                _change_adopted(change, version, ReleaseState.WITHDRAWN, now_ns)
        case RevokeChips(chips):
            held_ = change.revocations()
            for chip in chips:
                if (RevocationKind.CHIP, chip) not in held_:  # the administrator may have been quicker
                    append_revocation(change, RevocationKind.CHIP, chip, now_ns)
        case RotateKey(resource, least_version):
            change.append(KeyRotated(resource, least_version), now_ns)
            change.set_least_version(resource, least_version)
        case AmendCharter():
            pass  # it binds the next decision; the ledger holds it


def _change_adopted(
    change: Change, version: str, state: ReleaseState, now_ns: int, *, last_height: int | None = None
) -> None:
    """Unless the administrator retired it before: a supersession brings nothing back."""
    states = {each.state for each in change.releases().values() if each.name == version}
    if state is ReleaseState.SUPERSEDED and ReleaseState.RETIRED in states:
        state = ReleaseState.RETIRED
    if states:  # a release may have stated only launches that are judged by event log
        change_release(change, version, state, now_ns, last_height=last_height, by=By.DECISION)
