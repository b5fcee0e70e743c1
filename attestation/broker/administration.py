"""Changes an operator makes, each with its entry in the log in the same transaction; and the audit of the two.

A change that is not in the log is found by `audit`, which replays the log against what the store holds and which the
broker runs before it starts (docs/spec/key-release.md R19, R23).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, cast

from attestation.broker import log
from attestation.broker.broker import RESOURCE
from attestation.broker.decisions import prove_decisions
from attestation.broker.errors import LogRefused, StoreRefused
from attestation.broker.session import Release, ReleaseState, RevocationKind
from attestation.broker.store import Change, SecretRow, Store, tcb_bytes
from attestation.broker.wrapping import Wrapping
from attestation.rcar.grant import NO_ADOPTION, GrantPurpose
from foundation.refusal import outline, shown
from foundation.secrecy import Secret
from measurements.release.heights import LEASE, LEASE_MAX, Heights

SECRET_BYTES_MAX: Final = 16 * 1024
MEASUREMENT_BYTES: Final = (48, 240)
DIGEST_BYTES: Final = 32
NAME_CHARACTERS_MAX: Final = 128
ADMINISTRATOR, DECISION = "administrator", "decision"  # by whose word, as the log says it


def add_release(store: Store, release: Release, now_ns: int, *, on_my_word: bool = False) -> None:
    """Known by the administrator's word. Under an authority that word approves nothing unless it says that it does so
    against it, which the log then shows for good."""
    if release.adoption != NO_ADOPTION:
        raise StoreRefused(
            "store.release", expected="no decision: it is adopted with one", got=f"decision {shown(release.adoption)}"
        )
    if len(release.measurement) not in MEASUREMENT_BYTES:
        raise StoreRefused("store.measurement", expected="48 bytes (SNP) or 240 (TDX)", got=len(release.measurement))
    if {len(release.model_root), len(release.measured_config)} != {DIGEST_BYTES}:
        raise StoreRefused(
            "store.release",
            expected=f"digests of {DIGEST_BYTES} bytes",
            got=f"{len(release.model_root)} and {len(release.measured_config)} bytes",
        )
    if not 1 <= release.lease <= LEASE_MAX:
        raise StoreRefused("store.release", expected=f"a lease of 1 to {LEASE_MAX} blocks", got=release.lease)
    if not 0 < len(release.name) <= NAME_CHARACTERS_MAX:
        raise StoreRefused("store.release", expected="a name", got=f"{len(release.name)} characters")
    with store.change() as change:
        change.head()
        _refuse_usurping(change, release.state, on_my_word)
        append_release(change, release, now_ns)


def set_release(store: Store, name: str, state: ReleaseState, now_ns: int, *, on_my_word: bool = False) -> None:
    if state in (ReleaseState.SUPERSEDED, ReleaseState.WITHDRAWN):
        raise StoreRefused("store.release", expected="a state an administrator gives", got=state.value)
    with store.change() as change:
        change.head()
        _refuse_usurping(change, state, on_my_word)
        adopted = any(each.adoption != NO_ADOPTION for each in change.releases().values() if each.name == name)
        if adopted and state is not ReleaseState.RETIRED:  # V17: their word can end what was adopted, never extend it
            raise StoreRefused("store.release", expected="an adopted release to be retired at most", got=state.value)
        change_release(change, name, state, now_ns, by=ADMINISTRATOR)


def append_release(change: Change, release: Release, now_ns: int) -> None:
    """One measurement more, and its entry."""
    change.append(
        "release-added",
        {
            "release": release.name,
            "measurement": release.measurement,
            "model_root": release.model_root,
            "measured_config": release.measured_config,
            "state": release.state.value,
            "adoption": release.adoption,
            "minimum_tcb": tcb_bytes(release.minimum_tcb),
            "first_height": release.heights.first,
            "last_height": release.heights.last or 0,
            "lease": release.lease,
            "by": ADMINISTRATOR if release.adoption == NO_ADOPTION else DECISION,
        },
        now_ns,
    )
    change.add_release(release)


def change_release(
    change: Change, name: str, state: ReleaseState, now_ns: int, last_height: int | None = None, *, by: str
) -> None:
    """`last_height`: where its blocks now end; None leaves them as they are."""
    said: dict[str, str | bytes | int] = {"release": name, "state": state.value, "by": by}
    if last_height is not None:
        said["last_height"] = last_height
    change.append("release-changed", said, now_ns)
    change.set_release(name, state, last_height)


def _refuse_usurping(change: Change, state: ReleaseState, on_my_word: bool) -> None:
    if state is ReleaseState.APPROVED and change.authority() is not None and not on_my_word:  # V17
        raise StoreRefused(
            "store.governed",
            expected="a decision, or an administrator who says that there is none",
            got="no decision, and an administrator who says nothing",
        )


def revoke(store: Store, kind: RevocationKind, value: bytes, now_ns: int) -> None:
    """From the next decision on; a revocation is never taken back."""
    if not value:
        raise StoreRefused("store.revocation", expected="a value", got="none")
    if kind is RevocationKind.CHIP and not any(value):
        raise StoreRefused("store.revocation", expected="a chip's id", got="zeros, which name no chip")
    with store.change() as change:
        append_revocation(change, kind, value, now_ns)


def append_revocation(change: Change, kind: RevocationKind, value: bytes, now_ns: int) -> None:
    change.append("revoked", {"what": kind.value, "value": value}, now_ns)
    change.revoke(kind, value)


def add_secret(
    store: Store,
    wrapping: Wrapping,
    resource: str,
    secret: Secret,
    model_root: bytes,
    now_ns: int,
    *,
    rotate: bool = False,
) -> SecretRow:
    """A new name, or with `rotate` a new version of a known one; the older ones are then forgotten."""
    purpose = _purpose(resource)
    if not 0 < len(secret.reveal()) <= SECRET_BYTES_MAX:
        raise StoreRefused(
            "store.secret", expected=f"1 to {SECRET_BYTES_MAX} bytes", got=f"{len(secret.reveal())} bytes"
        )
    if purpose is GrantPurpose.MODEL and len(model_root) != DIGEST_BYTES:
        raise StoreRefused("store.secret", expected="the model root a model key is for", got="none")
    with store.change() as change:
        change.head()
        held = change.secret(resource)
        if (held is not None) is not rotate:
            raise StoreRefused("store.secret", expected="a known name" if rotate else "a new name", got=resource)
        row = SecretRow(resource, held.version + 1 if held else 1, purpose, model_root, None)
        row = SecretRow(resource, row.version, purpose, model_root, wrapping.wrap(secret, row.name))
        change.append(
            "secret-rotated" if rotate else "secret-added",
            {"resource": resource, "version": row.version, "purpose": purpose.value, "model_root": model_root},
            now_ns,
        )
        change.forget_secret(resource)
        change.add_secret(row)
    return row


def forget_secret(store: Store, resource: str, now_ns: int) -> None:
    with store.change() as change:
        change.append("secret-revoked", {"resource": resource}, now_ns)
        if not change.forget_secret(resource):
            raise StoreRefused("store.secret", expected="a secret that is held", got=resource)


def audit(store: Store, public: bytes, known: Iterable[log.Head] = ()) -> log.Head:
    """The log from its beginning, then the store against it. Raises `LogRefused` at the first disagreement."""
    with store.change() as change:
        stated = change.head()
        entries = list(change.entries())
        head = log.verify(entries, public, known)
        if head != stated:
            raise LogRefused("log.head", expected=f"{stated.position} entries", got=head.position)
        replayed = _Replay()
        for raw, _ in entries:
            replayed.apply(log.Entry.parse(raw))
        replayed.compare(change)
        prove_decisions(change)
    return head


class _Replay:
    """What the store must hold if the log is all that ever happened."""

    def __init__(self) -> None:
        self.releases: dict[bytes, tuple[object, ...]] = {}
        self.authority: object = None
        self.decisions: list[object] = []
        self.least_versions: dict[object, object] = {}
        self.height: object = 0
        self.revoked: set[tuple[object, object]] = set()
        self.secrets: dict[tuple[object, object], bool] = {}
        self.grants: dict[int, object] = {}
        self.granted: dict[tuple[object, object], Heights] = {}

    def apply(self, entry: log.Entry) -> None:
        said = entry.details
        match entry.kind:
            case "release-added":
                # An entry from before decisions existed has no adoption, one from before heights counted none of those.
                self.releases[bytes(cast("bytes", said["measurement"]))] = (
                    said["release"],
                    said["model_root"],
                    said["measured_config"],
                    said.get("adoption", NO_ADOPTION),
                    said.get("minimum_tcb", b""),
                    said.get("first_height", 1),
                    said.get("lease", LEASE),
                    said["state"],
                    said.get("last_height", 0),
                )
            case "release-changed":
                self.releases |= {
                    measurement: (*held[:7], said["state"], said.get("last_height", held[8]))
                    for measurement, held in self.releases.items()
                    if held[0] == said["release"]
                }
            case "governed":
                self.authority = said["authority"]
            case "decided":
                self.decisions.append((said["decision"], said["file"]))
            case "key-rotated":
                self.least_versions[said["resource"]] = said["least_version"]
            case "height-shown":
                self.height = said["height"]
            case "revoked":
                self.revoked.add((said["what"], said["value"]))
            case "secret-added" | "secret-rotated":
                self._forget(said["resource"])
                self.secrets[said["resource"], said["version"]] = True
            case "secret-revoked":
                self._forget(said["resource"])
            case "granted":
                self.grants[entry.position] = said["resource"]
                if "last" in said:
                    self._lease(
                        (said["release"], said["adoption"]),
                        Heights(cast("int", said["first"]), cast("int", said["last"])),
                    )
            case _:
                pass

    def _lease(self, release: tuple[object, object], heights: Heights) -> None:
        """R35: no block was ever granted to two releases."""
        for name, held in self.granted.items():
            if name != release and held.overlaps(heights):
                got = f"{heights} for {release[0]}"
                raise LogRefused("log.heights", expected=f"no block granted to {name[0]}: {held}", got=got)
        self.granted[release] = heights

    def _forget(self, resource: object) -> None:
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
                each.state.value,
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
            ("revocations", self.revoked, {(kind.value, value) for kind, value in change.revocations()}),
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


def _purpose(resource: str) -> GrantPurpose:
    if not RESOURCE.fullmatch(resource):
        raise StoreRefused("store.resource", expected="repository/type/tag", got=resource[:64])
    named = resource.split("/")[1]
    return next((purpose for purpose in GrantPurpose if purpose.value == named), GrantPurpose.PLAIN)
