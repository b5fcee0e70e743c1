"""Attacks on the cell's side of key release: a host that brings other brokers' words, and other grants."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from anchorhold.host.broker_relay import relay
from appliance.config import config_digest
from appliance.key_release import Begin, Brought, Carry, Releaser, Standing, State
from attestation.rcar.encodings import from_base64url
from attestation.rcar.grant import CONTEXT_BYTES_MAX, CONTEXT_MEMBER, GrantContext
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.broker import LocalSend, devnet_broker
from devnet.demo.key_owner import RESOURCE, SERVICE, KeyOwner, key_owner
from devnet.model import TinyModel
from foundation.secrecy import Secret
from tests.attack.cells import ReleasedCell
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room
from tests.attack.weakening import instead, together, without
from tests.little_broker import LittleBroker
from tests.unit.appliance.test_key_release import releaser
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

RELEASE = "appliance.key_release:"


def context_of_anybody(sealed: Any, broker: object) -> GrantContext:
    """A grant's context, whoever signed it."""
    raw = sealed.protected_members().get(CONTEXT_MEMBER)
    return GrantContext.parse(from_base64url("grant.context", raw, bytes_max=CONTEXT_BYTES_MAX))


def carried(room: Room, send_of: Callable[[KeyOwner, bytes], Callable[[Carry], tuple[int, bytes]]]) -> Standing:
    """Where a real cell stands after one attempt that its host carries as it likes."""

    async def work(cell: ReleasedCell, send: Callable[[Carry], tuple[int, bytes]]) -> Standing:
        async with Host(cell.address, Port.RELEASE) as host:
            return await relay(host, send)

    with key_owner(room.folder, TinyModel().write) as owner:
        cell = ReleasedCell(room, owner, 'engine = "scripted-1"')
        try:
            cell.until("serving")
            return asyncio.run(work(cell, send_of(owner, (room.folder / "cell.toml").read_bytes())))
        finally:
            cell.end()


def stands(standing: Standing, code: str) -> Outcome:
    if standing.state is State.HAS_KEY:
        return broken("the cell took the key")
    if standing.failure == code:
        return held(f"no key taken: {code}")
    raise Unexpected(f"expected {code} or a key, got {standing.failure}")


@attack(
    "broker-of-the-hosts-own",
    tries="a broker that the host made, with a policy and keys of its own",
    defence="a cell believes the broker whose key is measured into it (R7, R25, R29)",
    without=together(without(f"{RELEASE}check_challenge"), instead(f"{RELEASE}checked_context", context_of_anybody)),
)
def broker_of_the_hosts_own(room: Room) -> Outcome:
    with ExitStack() as kept:

        def theirs(owner: KeyOwner, config: bytes) -> Callable[[Carry], tuple[int, bytes]]:
            ring = Ring.make(SuiteId.MLKEM768_X25519, 1, 1000, 10, randomness=secrets.token_bytes)
            keys = {RESOURCE: Secret(bytes(32)), SERVICE: ring.encode()}
            made = kept.enter_context(
                devnet_broker(room.folder / "theirs", owner.tee, model_root=owner.identity.model_root, secrets=keys)
            )
            made.approve(config_digest(config))
            return LocalSend(made.broker)

        return stands(carried(room, theirs), "challenge.broker")


@attack(
    "challenge-of-another-request",
    tries="the broker's true challenge, asked for with another key",
    defence="the broker signs nonce and request together (R7)",
    without=without(f"{RELEASE}check_challenge"),
)
def challenge_of_another_request(room: Room) -> Outcome:
    little = LittleBroker.make(room.folder)
    try:
        cell, other = releaser(little), releaser(little).respond(Begin())
        if not isinstance(other, Carry):
            raise Unexpected("a cell that does not begin")
        said = cell.respond(Begin())
        _, body = LocalSend(little.broker)(other)
        if not isinstance(said, Carry):
            raise Unexpected("a cell that does not begin")
        after = cell.respond(Brought(said.number, 200, body))
    finally:
        little.store.close()
    if isinstance(after, Carry):
        return broken("the cell answers it with evidence")
    return held(f"refused: {cell.standing.failure}")


def one_attempt(cell: Releaser, send: Callable[[Carry], tuple[int, bytes]]) -> Standing:
    said = cell.respond(Begin())
    while isinstance(said, Carry):
        _, body = send(said)
        said = cell.respond(Brought(said.number, 200, body))
    if not isinstance(said, Standing):
        raise Unexpected(f"expected where the cell stands, got {said}")
    return said


@attack(
    "another-secret",
    tries="the host asks for another secret than the cell did, and brings what the broker gave",
    defence="a grant names its resource and purpose, and is taken for these alone (R29)",
    without=without(f"{RELEASE}Releaser._check"),
)
def another_secret(room: Room) -> Outcome:
    little = LittleBroker.make(room.folder)
    try:
        send = LocalSend(little.broker)

        def elsewhere(carry: Carry) -> tuple[int, bytes]:
            path = "resource/default/service-key/little" if carry.path.startswith("resource/") else carry.path
            return send(Carry(carry.number, carry.method, path, carry.body))

        return stands(one_attempt(releaser(little), elsewhere), "grant.resource")
    finally:
        little.store.close()


@attack(
    "grant-of-another-cell",
    tries="a grant that was made for another cell of the same release",
    defence="a grant names nonce and key of one attempt, and is sealed to that key (R27, R29)",
    without=together(
        without(f"{RELEASE}Releaser._check"), instead(f"{RELEASE}open_sealed", lambda *_: Secret(bytes(32)))
    ),
)
def grant_of_another_cell(room: Room) -> Outcome:
    little = LittleBroker.make(room.folder)
    try:
        kept: list[bytes] = []
        first, second = LocalSend(little.broker), LocalSend(little.broker)

        def keeping(carry: Carry) -> tuple[int, bytes]:
            status, body = first(carry)
            kept.append(body)
            return status, body

        if one_attempt(releaser(little), keeping).state is not State.HAS_KEY:
            raise Unexpected("the other cell has no key")
        return stands(
            one_attempt(
                releaser(little), lambda carry: (200, kept[-1]) if carry.path.startswith("resource/") else second(carry)
            ),
            "grant.nonce",
        )
    finally:
        little.store.close()
