"""Service keys at the broker: a ring is a secret like any other, made and rotated here and released as it stands.

Its private seeds leave in a grant to an approved cell and nowhere else. What is published of it, the offers, is signed
with the broker's key (docs/spec/answer.md A6 to A9).
"""

from __future__ import annotations

from collections.abc import Sequence

from attestation.broker.administration import add_secret
from attestation.broker.errors import StoreRefused
from attestation.broker.store import SecretRow, Store
from attestation.broker.wrapping import Wrapping
from attestation.rcar.grant import GrantPurpose
from attestation.sealed.ring import Ring, offers
from attestation.sealed.suites import Randomness, SuiteId
from foundation.ed25519 import Signer
from foundation.refusal import shown


def make(store: Store, wrapping: Wrapping, resource: str, ring: Ring, *, model_root: bytes, now_ns: int) -> SecretRow:
    """A ring under a new name; with a model root for that model's cells alone."""
    _check_path(resource)
    return add_secret(store, wrapping, resource, ring.encode(), model_root=model_root, now_ns=now_ns)


def rotate(
    store: Store,
    wrapping: Wrapping,
    resource: str,
    suite: SuiteId,
    *,
    randomness: Randomness,
    now_ns: int,
    answered: int = 0,
) -> Ring:
    """One more key behind those there are. Cells that hold the ring before fetch this one in their own time.

    `answered`: every block up to this height has its answer, so that keys for those alone are forgotten. It cannot be
    above the height that the broker was shown.
    """
    row, ring = held(store, wrapping, resource)
    with store.change() as change:
        shown = change.height()
    if answered > shown:
        raise StoreRefused("store.answered", expected=f"at most {shown}, the height shown", got=answered)
    new = ring.rotated(suite, randomness, answered=answered)
    add_secret(store, wrapping, resource, new.encode(), model_root=row.model_root, now_ns=now_ns, rotate=True)
    return new


def published(store: Store, wrapping: Wrapping, resource: str, signer: Signer) -> Sequence[bytes]:
    """An offer for every key of the ring, in the order of their blocks."""
    return offers(resource, held(store, wrapping, resource)[1], signer)


def held(store: Store, wrapping: Wrapping, resource: str) -> tuple[SecretRow, Ring]:
    """The ring as it would be released, and what it is stored as."""
    _check_path(resource)
    with store.change() as change:
        row = change.secret(resource)
    if row is None or row.wrapped is None:
        raise StoreRefused("store.secret", expected="a service key that is held", got="none")
    return row, Ring.parse(wrapping.unwrap(row.wrapped, row.name))


def _check_path(resource: str) -> None:
    if resource.split("/")[1:2] != [GrantPurpose.SERVICE.value]:
        raise StoreRefused(
            "store.resource", expected=f"repository/{GrantPurpose.SERVICE.value}/tag", got=shown(resource)
        )
