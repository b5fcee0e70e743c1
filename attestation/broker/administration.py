"""Changes an operator makes, each with its entry in the log in the same transaction (docs/spec/key-release.md R19).

A change that is not in the log is found by `attestation.broker.log.audit`.
"""

from __future__ import annotations

from typing import Final

from attestation.broker.broker import RESOURCE
from attestation.broker.errors import StoreRefused
from attestation.broker.session import Release
from attestation.broker.store import Change, SecretRow, Store, tcb_bytes
from attestation.broker.wrapping import Wrapping
from attestation.decision_log.events import (
    ReleaseAdded,
    ReleaseChanged,
    RevocationAdded,
    SecretAdded,
    SecretRevoked,
    SecretRotated,
)
from attestation.decision_log.words import By, ReleaseState, RevocationKind
from attestation.rcar.grant import NO_ADOPTION, GrantPurpose
from foundation.refusal import shown
from foundation.secrecy import Secret
from measurements.release.heights import LEASE_MAX

SECRET_BYTES_MAX: Final = 16 * 1024
DIGEST_BYTES: Final = 32
NAME_CHARACTERS_MAX: Final = 128


def add_release(store: Store, release: Release, now_ns: int, *, on_my_word: bool = False) -> None:
    """Known by the administrator's word. Under an authority that word approves nothing unless it says that it does so
    against it, which the log then shows for good."""
    if release.adoption != NO_ADOPTION:
        raise StoreRefused(
            "store.release", expected="no decision: it is adopted with one", got=f"decision {shown(release.adoption)}"
        )
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
        change_release(change, name, state, now_ns, by=By.ADMINISTRATOR)


def append_release(change: Change, release: Release, now_ns: int) -> None:
    """One measurement more, and its entry."""
    change.append(
        ReleaseAdded(
            release=release.name,
            measurement=release.measurement,
            model_root=release.model_root,
            measured_config=release.measured_config,
            state=release.state,
            adoption=release.adoption,
            minimum_tcb=tcb_bytes(release.minimum_tcb),
            first_height=release.heights.first,
            last_height=release.heights.last or 0,
            lease=release.lease,
            by=By.ADMINISTRATOR if release.adoption == NO_ADOPTION else By.DECISION,
        ),
        now_ns,
    )
    change.add_release(release)


def change_release(
    change: Change, name: str, state: ReleaseState, now_ns: int, *, last_height: int | None = None, by: By
) -> None:
    """`last_height`: where its blocks now end; None leaves them as they are."""
    change.append(ReleaseChanged(name, state, by, last_height), now_ns)
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
    change.append(RevocationAdded(kind, value), now_ns)
    change.revoke(kind, value)


def add_secret(
    store: Store,
    wrapping: Wrapping,
    resource: str,
    secret: Secret,
    *,
    model_root: bytes,
    now_ns: int,
    rotate: bool = False,
) -> SecretRow:
    """A new name, or with `rotate` a new version of a known one; the older ones are then forgotten."""
    purpose = purpose_of(resource)
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
        changed = SecretRotated if rotate else SecretAdded
        change.append(changed(resource, row.version, purpose, model_root), now_ns)
        change.forget_secret(resource)
        change.add_secret(row)
    return row


def forget_secret(store: Store, resource: str, now_ns: int) -> None:
    with store.change() as change:
        change.append(SecretRevoked(resource), now_ns)
        if not change.forget_secret(resource):
            raise StoreRefused("store.secret", expected="a secret that is held", got=resource)


def purpose_of(resource: str) -> GrantPurpose:
    """What a secret is for, as its name says. Raises `StoreRefused` for a name that is none."""
    if not RESOURCE.fullmatch(resource):
        raise StoreRefused("store.resource", expected="repository/type/tag", got=resource[:64])
    named = resource.split("/")[1]
    return next((purpose for purpose in GrantPurpose if purpose.value == named), GrantPurpose.PLAIN)
