"""The history of an authority's decisions, and the one rule by which it grows: the next, proven, and sensible, or none.

    ledger = Ledger.begin(authority)
    ledger, decided = ledger.advance(Decision.parse(raw), read_reply)
    ledger.releases["0.2.0"].state

For each decision, in this order, refused at the first that fails:

1. *place*: it stands one after the newest and names it (`history.replayed`, `.fork`, `.gap`);
2. *authority*: who may decide did: enough members of the charter in force, or the governance canister, by a certified
   reply that says executed and carries this very payload (`charter.*`, `authority.*`, and the certificate's own codes);
3. *sense*: it does something that can still be done (`release.downgrade`, `release.withdrawn`, …).

How a certified reply is believed is an argument: this room knows no subnet. What it does not establish: that there is
no newer decision than the ones it was shown. Whoever feeds a broker or an auditor can hold one back; a head noted
elsewhere (`known`, a grant, a receipt) shows that it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol, Self

from foundation import cbor
from foundation.refusal import difference, outline, shape
from measurements.digests import DecisionDigest
from measurements.governance.actions import Action, Adopt, AmendCharter, Payload, RevokeChips, RotateKey, Withdraw
from measurements.governance.authority import (
    Authority,
    Chain,
    Chartered,
    authority_digest,
    encode_authority,
    parse_authority,
)
from measurements.governance.charter import Charter
from measurements.governance.decision import (
    DECISION_BYTES_MAX,
    CertifiedReply,
    Decision,
    Signatures,
    decision_digest,
    genesis,
)
from measurements.governance.errors import AuthorityRefused, HistoryRefused
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest

VERSION: Final = 1
DECISIONS_MAX: Final = 1024
HISTORY_BYTES_MAX: Final = 64 << 20
_LIMITS: Final = cbor.Limits(bytes_max=HISTORY_BYTES_MAX, depth_max=2, items_max=DECISIONS_MAX + 8)


@dataclass(frozen=True, slots=True)
class Executed:
    """What a governance canister said, by consensus: this proposal executed, and this is what it carried."""

    proposal: int
    payload: bytes = field(repr=False)
    certified_ns: int


class ReplyReader(Protocol):
    """Believes a certified reply, or raises `Refused`. `attestation.adoption` has the one that counts."""

    def __call__(self, reply: CertifiedReply, chain: Chain) -> Executed: ...


class Standing(Enum):
    IN_FORCE = "in force"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class AdoptedRelease:
    manifest: Manifest
    adoption: DecisionDigest  # of the decision that adopted it
    standing: Standing
    heights: Heights  # the blocks it is for: its manifest's, up to where its successor begins
    ended_by: bytes | None  # the decision that superseded or withdrew it


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that was accepted, and what there is to know of it."""

    position: int
    digest: DecisionDigest
    action: Action
    by: tuple[str, ...]  # members' names, or the proposal
    certified_ns: int | None  # when a subnet said so; a charter has no clock


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is in force after the decisions so far. Grows by `advance` alone."""

    authority: Authority
    charter: Charter | None  # in force now, where a charter decides
    digests: tuple[DecisionDigest, ...] = ()
    releases: Mapping[str, AdoptedRelease] = field(default_factory=dict)
    chips: frozenset[bytes] = frozenset()
    least_versions: Mapping[str, int] = field(default_factory=dict)  # by resource

    @classmethod
    def begin(cls, authority: Authority) -> Self:
        return cls(authority, authority.charter if isinstance(authority, Chartered) else None)

    @property
    def head(self) -> bytes:
        return self.digests[-1] if self.digests else genesis(authority_digest(self.authority))

    @property
    def newest(self) -> AdoptedRelease | None:
        """The release in force, if there is one."""
        standing = [each for each in self.releases.values() if each.standing is Standing.IN_FORCE]
        return max(standing, key=lambda each: each.manifest.number, default=None)

    def next_payload(self, action: Action) -> Payload:
        """The payload that would be accepted next."""
        return Payload(len(self.digests) + 1, self.head, action)

    def advance(self, decision: Decision, read_reply: ReplyReader) -> tuple[Ledger, Decided]:
        """Raises `GovernanceRefused`, `ReleaseDocumentRefused` or what `read_reply` raises; then nothing changed."""
        payload = Payload.parse(decision.payload)
        digest = decision_digest(authority_digest(self.authority), decision.payload)
        self._check_place(payload, digest)
        by, certified_ns = self._check_authority(decision, digest, payload.action, read_reply)
        changed = replace(self._after(payload.action, digest), digests=(*self.digests, digest))
        return changed, Decided(payload.position, digest, payload.action, by, certified_ns)

    def rehearse(self, action: Action, digest: DecisionDigest) -> Ledger:
        """What would be in force if it were decided next. Raises `HistoryRefused` for what makes no sense."""
        return self._after(action, digest)

    # -- 1. place

    def _check_place(self, payload: Payload, digest: DecisionDigest) -> None:
        position, newest = payload.position, len(self.digests)
        if newest >= DECISIONS_MAX:
            raise HistoryRefused(
                "history.full", expected=f"at most {DECISIONS_MAX} decisions", got=f"{newest + 1} decisions"
            )
        if digest in self.digests:
            raise HistoryRefused("history.replayed", expected=f"decision {newest + 1}", got=f"{position}, again")
        if position > newest + 1:
            raise HistoryRefused("history.gap", expected=f"decision {newest + 1}", got=position)
        if position <= newest or payload.previous != self.head:
            raise HistoryRefused(
                "history.fork",
                expected=f"decision {newest + 1} behind {self.head.hex()[:16]}…",
                got=f"{position} behind {payload.previous.hex()[:16]}…",
            )

    # -- 2. authority

    def _check_authority(
        self, decision: Decision, digest: DecisionDigest, action: Action, read_reply: ReplyReader
    ) -> tuple[tuple[str, ...], int | None]:
        match self.authority, decision.proof:
            case Chartered(), Signatures(by_key):
                return self._check_signatures(by_key, digest, action), None
            case Chain() as chain, CertifiedReply() as reply:
                executed = read_reply(reply, chain)
                if executed.payload != decision.payload:
                    raise AuthorityRefused(
                        "authority.payload",
                        expected="the payload that executed",
                        got=difference(decision.payload, executed.payload),
                    )
                return (f"proposal {executed.proposal}",), executed.certified_ns
            case _:
                raise AuthorityRefused(
                    "authority.kind",
                    expected=type(self.authority).__name__.lower(),
                    got=type(decision.proof).__name__.lower(),
                )

    def _check_signatures(
        self, by_key: Mapping[bytes, bytes], digest: DecisionDigest, action: Action
    ) -> tuple[str, ...]:
        charters = [charter for charter in (self.charter,) if charter is not None]
        if isinstance(action, AmendCharter):  # V9: who hands over agrees, and who takes over has their keys
            charters.append(action.charter)
        strangers = by_key.keys() - {member.key for charter in charters for member in charter.members}
        if strangers:
            raise AuthorityRefused("charter.member", expected="signatures of members alone", got=min(strangers).hex())
        for charter in charters:
            charter.check(digest, by_key)
        return charters[0].named(frozenset(by_key))

    # -- 3. sense

    def _after(self, action: Action, digest: DecisionDigest) -> Ledger:
        match action:
            case Adopt(manifest):
                return self._adopted(manifest, digest)
            case Withdraw(version, manifest_digest, _):
                return self._withdrawn(version, manifest_digest, digest)
            case RevokeChips(chips, _):
                if known := self.chips & set(chips):
                    raise HistoryRefused("chips.revoked", expected="chips not revoked yet", got=min(known).hex())
                return replace(self, chips=self.chips | set(chips))
            case RotateKey(resource, least_version, _):
                held = self.least_versions.get(resource, 1)
                if least_version <= held:
                    raise HistoryRefused("key.version", expected=f"above {held}", got=least_version)
                versions = MappingProxyType({**self.least_versions, resource: least_version})
                return replace(self, least_versions=versions)
            case AmendCharter(charter):
                if self.charter is None:
                    raise HistoryRefused(
                        "charter.none", expected="a charter to amend", got="an authority that is a chain"
                    )
                if charter == self.charter:
                    raise HistoryRefused("charter.same", expected="another charter", got=charter.digest.hex())
                return replace(self, charter=charter)

    def _adopted(self, manifest: Manifest, digest: DecisionDigest) -> Ledger:
        self._check_new(manifest)
        heights = manifest.serves.heights
        releases = {version: _ended(each, heights, digest) for version, each in self.releases.items()}
        releases[manifest.version] = AdoptedRelease(manifest, digest, Standing.IN_FORCE, heights, None)
        return replace(self, releases=MappingProxyType(releases))

    def _check_new(self, manifest: Manifest) -> None:
        highest = max(self.releases.values(), key=lambda each: each.manifest.number, default=None)
        if highest is not None and manifest.number <= highest.manifest.number:
            raise HistoryRefused(
                "release.downgrade", expected=f"a version above {highest.manifest.version}", got=manifest.version
            )
        before, named = self.newest, manifest.supersedes
        expected = None if before is None else (before.manifest.version, before.manifest.digest)
        if (None if named is None else (named.version, named.manifest)) != expected:
            raise HistoryRefused(
                "release.supersedes",
                expected="none" if before is None else before.manifest.version,
                got="none" if named is None else f"{named.version}, {named.manifest.hex()[:16]}…",
            )
        for each in self.releases.values():
            # V23: an open end closes where the successor begins; every other block is one release's alone.
            after = each.heights.first if each.heights.last is None else each.heights.last
            if manifest.serves.heights.first <= after:
                raise HistoryRefused(
                    "release.heights",
                    expected=f"a first block above {after}, of {each.manifest.version}",
                    got=manifest.serves.heights.first,
                )
            if set(each.manifest.launch_measurements()) & set(manifest.launch_measurements()):
                raise HistoryRefused(
                    "release.measurement",
                    expected="launches of its own",
                    got=f"one of {each.manifest.version}, which is {each.standing.value}",
                )

    def _withdrawn(self, version: str, manifest: bytes, digest: DecisionDigest) -> Ledger:
        held = self.releases.get(version)
        if held is None or held.manifest.digest != manifest:
            raise HistoryRefused("release.unknown", expected="a release that was adopted", got=version)
        if held.standing is Standing.WITHDRAWN:
            raise HistoryRefused("release.withdrawn", expected="a release not withdrawn yet", got=version)
        ended = replace(held, standing=Standing.WITHDRAWN, ended_by=digest)
        return replace(self, releases=MappingProxyType({**self.releases, version: ended}))


@dataclass(frozen=True, slots=True)
class History:
    """All decisions of one authority, from the first: what an auditor is handed. Parsed, not believed."""

    authority: Authority
    decisions: tuple[Decision, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """dCBOR `[1, authority document bstr, [decision bstr, …]]`. Raises `Refused` of this room, nothing else."""
        value = cbor.decode_or(HistoryRefused, "history.cbor", raw, _LIMITS)
        match value:
            case [version, bytes(authority), list(decisions)] if type(version) is int and version == VERSION:
                return cls(parse_authority(authority), tuple(_decision(each) for each in decisions))
            case _:
                raise HistoryRefused("history.shape", expected="a history of version 1", got=outline(value))

    def encode(self) -> bytes:
        authority = encode_authority(self.authority)
        return cbor.encode([VERSION, authority, [decision.encode() for decision in self.decisions]])

    def verify(
        self, authority: bytes, read_reply: ReplyReader, known: Iterable[bytes] = ()
    ) -> tuple[Ledger, tuple[Decided, ...]]:
        """Every decision from the beginning. `authority` is the digest of the one the caller believes; `known` are
        digests of decisions seen elsewhere, each of which must be among them (`history.rollback`)."""
        if authority_digest(self.authority) != authority:
            raise HistoryRefused(
                "history.authority", expected=authority.hex(), got=authority_digest(self.authority).hex()
            )
        ledger = Ledger.begin(self.authority)
        found = []
        for decision in self.decisions:
            ledger, decided = ledger.advance(decision, read_reply)
            found.append(decided)
        if missing := set(known) - set(ledger.digests):
            raise HistoryRefused(
                "history.rollback",
                expected=f"decision {min(missing).hex()[:16]}…, which was seen",
                got=f"{len(found)} decisions without it",
            )
        return ledger, tuple(found)


def _ended(before: AdoptedRelease, successor: Heights, digest: DecisionDigest) -> AdoptedRelease:
    """Whatever stood before: no release, withdrawn or not, is for a block of its successor."""
    heights = before.heights.ended_by(successor)
    if before.standing is not Standing.IN_FORCE:
        return replace(before, heights=heights)
    return replace(before, standing=Standing.SUPERSEDED, heights=heights, ended_by=digest)


def _decision(value: cbor.Value) -> Decision:
    if not isinstance(value, bytes) or len(value) > DECISION_BYTES_MAX:
        raise HistoryRefused("history.shape", expected="decisions", got=shape(value))
    return Decision.parse(value)
