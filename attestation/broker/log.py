"""The broker's store held against its decision log, which says everything that ever changed it.

A change that is not in the log is found by `audit`, which replays the log against what the store holds and which the
broker runs before it starts (docs/spec/key-release.md R23).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from attestation.broker.decisions import prove_decisions
from attestation.broker.store import Change, Store, tcb_bytes
from attestation.decision_log import chain
from attestation.decision_log.codec import Entry
from attestation.decision_log.errors import LogRefused
from attestation.decision_log.events import (
    DecisionTaken,
    Governed,
    Granted,
    HeightShown,
    KeyRotated,
    ReleaseAdded,
    ReleaseChanged,
    RevocationAdded,
    SecretAdded,
    SecretRevoked,
    SecretRotated,
)
from foundation.refusal import outline
from measurements.digests import DecisionDigest
from measurements.launch.measurement import LaunchMeasurement
from measurements.release.heights import Heights


def audit(store: Store, public: bytes, known: Iterable[chain.Head] = ()) -> chain.Head:
    """The log from its beginning, then the store against it. Raises `LogRefused` at the first disagreement."""
    with store.change() as change:
        stated = change.head()
        entries = list(change.entries())
        head = chain.verify(entries, public, known)
        if head != stated:
            raise LogRefused("log.head", expected=f"{stated.position} entries", got=head.position)
        replayed = _Replay()
        for raw, _ in entries:
            replayed.apply(Entry.parse(raw))
        replayed.compare(change)
        prove_decisions(change)
    return head


class _Replay:
    """What the store must hold if the log is all that ever happened."""

    def __init__(self) -> None:
        self.releases: dict[LaunchMeasurement, tuple[object, ...]] = {}
        self.authority: bytes | None = None
        self.decisions: list[tuple[bytes, bytes]] = []
        self.least_versions: dict[str, int] = {}
        self.height = 0
        self.revoked: set[tuple[object, bytes]] = set()
        self.secrets: dict[tuple[str, int], bool] = {}
        self.grants: dict[int, str] = {}
        self.granted: dict[tuple[str, DecisionDigest], Heights] = {}

    def apply(self, entry: Entry) -> None:
        match entry.event:
            case ReleaseAdded() as added:
                self.releases[added.measurement] = (
                    added.release,
                    added.model_root,
                    added.measured_config,
                    added.adoption,
                    added.minimum_tcb,
                    added.first_height,
                    added.lease,
                    added.state,
                    added.last_height,
                )
            case ReleaseChanged(release, state, _, last_height):
                self.releases |= {
                    measurement: (*held[:7], state, held[8] if last_height is None else last_height)
                    for measurement, held in self.releases.items()
                    if held[0] == release
                }
            case Governed() as governed:
                self.authority = governed.authority
            case DecisionTaken() as decided:
                self.decisions.append((decided.decision, decided.file))
            case KeyRotated(resource, least_version):
                self.least_versions[resource] = least_version
            case HeightShown(height):
                self.height = height
            case RevocationAdded(what, value):
                self.revoked.add((what, value))
            case SecretAdded(resource, version) | SecretRotated(resource, version):
                self._forget(resource)
                self.secrets[resource, version] = True
            case SecretRevoked(resource):
                self._forget(resource)
            case Granted() as granted:
                self.grants[entry.position] = granted.resource
                if granted.blocks is not None:
                    self._lease((granted.cell.release, granted.cell.adoption), granted.blocks.heights)
            case _:
                pass

    def _lease(self, release: tuple[str, DecisionDigest], heights: Heights) -> None:
        """R35: no block was ever granted to two releases."""
        for name, held in self.granted.items():
            if name != release and held.overlaps(heights):
                got = f"{heights} for {release[0]}"
                raise LogRefused("log.heights", expected=f"no block granted to {name[0]}: {held}", got=got)
        self.granted[release] = heights

    def _forget(self, resource: str) -> None:
        self.secrets |= {key: False for key in self.secrets if key[0] == resource}

    def compare(self, change: Change) -> None:
        releases = {
            each.measurement: (
                each.name,
                each.model_root,
                each.measured_config,
                each.adoption,
                tcb_bytes(each.minimum_tcb),
                each.heights.first,
                each.lease,
                each.state,
                each.heights.last or 0,
            )
            for each in change.releases().values()
        }
        authority = change.authority()
        decisions = [(digest, sha256(raw).digest()) for digest, raw in change.decisions()]
        found: tuple[tuple[str, object, object], ...] = (
            ("releases", self.releases, releases),
            ("authority", self.authority, None if authority is None else sha256(authority).digest()),
            ("decisions", self.decisions, decisions),
            ("least-versions", self.least_versions, change.least_versions()),
            ("height", self.height, change.height()),
            ("revocations", self.revoked, set(change.revocations())),
            ("secrets", self.secrets, {(e.resource, e.version): e.wrapped is not None for e in change.secrets()}),
            ("granted-heights", self.granted, change.granted_heights()),
            ("grants", self.grants, {position: path for position, (_, path) in change.grants().items()}),
        )
        for what, logged, held in found:
            if logged != held:
                raise LogRefused(
                    f"log.{what}",
                    expected="the store to hold what was logged",
                    got=f"{outline(held)} in the store, {outline(logged)} in the log",
                )
