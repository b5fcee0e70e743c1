"""key-release.md R25 to R30: whatever a host brings, the cell ends in a clear state and may try again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.host.broker_relay import holds_key, relay
from appliance.config import ConfigRefused, MeasuredConfig
from appliance.key_release import (
    Attester,
    Begin,
    Brought,
    Carry,
    Declined,
    Releaser,
    Standing,
    State,
    StateQuery,
    Wanted,
    decode_ask,
    decode_say,
    encode_ask,
    encode_say,
)
from appliance.serving.services import ReleaseService
from attestation.broker.administration import revoke
from attestation.broker.broker import Broker
from attestation.decision_log.words import RevocationKind
from attestation.rcar.errors import RcarRefused
from attestation.rcar.grant import GrantPurpose
from attestation.rcar.messages import Challenge, nonce_text
from devnet.broker import LocalSend, devnet_broker
from foundation.secrecy import Secret
from tests.little_broker import MODEL_KEY, MODEL_ROOT, NOW_NS, SECRETS, LittleBroker, MakeBroker
from tests.little_tee import CONFIG, KEYSET, snp_tee, tdx_tee
from tests.unit.appliance.test_config import GOOD
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address

TEE = snp_tee()


def releaser(little: LittleBroker, **changes: object) -> Releaser:
    fields = {
        "broker": little.keys.public,
        "resource": MODEL_KEY,
        "purpose": GrantPurpose.MODEL,
        "model_root": MODEL_ROOT,
    } | changes
    return Releaser(Wanted(**fields), Attester(TEE, KEYSET, CONFIG))  # type: ignore[arg-type]


def carried(cell: Releaser, send: Callable[[Carry], tuple[int, bytes]]) -> Standing:
    """One attempt, as a host makes it, through the encodings."""
    said = decode_say(encode_say(cell.respond(decode_ask(encode_ask(Begin())))))
    while isinstance(said, Carry):
        status, body = send(said)
        said = decode_say(encode_say(cell.respond(decode_ask(encode_ask(Brought(said.number, status, body))))))
    assert isinstance(said, Standing)
    return said


@pytest.fixture
def little(tmp_path: Path, make_broker: MakeBroker) -> LittleBroker:
    return make_broker(tmp_path)


def test_the_cell_gets_its_key(little: LittleBroker) -> None:
    cell = releaser(little)
    assert carried(cell, LocalSend(little.broker)) == Standing(State.HAS_KEY, 3, None)
    assert cell.held is not None
    key = cell.take_key()
    assert key is not None
    assert key.reveal() == SECRETS[MODEL_KEY]
    assert cell.take_key() is None
    assert cell.held.context.decision == little.last().digest
    assert cell.respond(Begin()) == cell.standing  # R30: it is not made to ask again
    assert SECRETS[MODEL_KEY].decode() not in repr(cell.held) + repr(vars(cell))


@pytest.mark.parametrize("lost", ["auth", "attest", "resource"])
@pytest.mark.parametrize("status", [0, 500, 401])
def test_a_cut_anywhere_ends_in_a_state_to_try_again_from(little: LittleBroker, lost: str, status: int) -> None:
    cell, send = releaser(little), LocalSend(little.broker)

    def cutting(carry: Carry) -> tuple[int, bytes]:
        status_and_body = send(carry)  # the broker heard it; the answer is lost
        return (status, b"") if carry.path.startswith(lost) else status_and_body

    standing = carried(cell, cutting)
    assert standing.state is State.NEEDS_KEY
    assert standing.failure == ("broker.unreachable" if status == 0 else f"broker.{status}")
    assert carried(cell, LocalSend(little.broker)).state is State.HAS_KEY
    little.audit()


def test_a_host_that_goes_away_in_the_middle_costs_an_attempt(little: LittleBroker) -> None:
    cell, send = releaser(little), LocalSend(little.broker)
    first = cell.respond(Begin())
    assert isinstance(first, Carry)
    _, body = send(first)
    second = cell.respond(Begin())  # another host, or the same one after a restart
    assert isinstance(second, Carry)
    assert first.body != second.body  # R27: another key
    assert cell.respond(Brought(first.number, 200, body)) == Declined("release.number")
    assert cell.standing.state is State.AWAITS_CHALLENGE
    assert carried(cell, LocalSend(little.broker)).state is State.HAS_KEY


def test_a_denial_is_a_state_and_not_an_end(little: LittleBroker) -> None:
    cell, send = releaser(little), LocalSend(little.broker)
    revoke(little.store, RevocationKind.KEY, KEYSET.digest, NOW_NS)
    assert carried(cell, send) == Standing(State.NEEDS_KEY, 2, "broker.403")
    assert send.denials == ["revoked.key"]


def test_another_broker_is_not_believed(little: LittleBroker, tmp_path: Path, make_broker: MakeBroker) -> None:
    (tmp_path / "other").mkdir()
    other = make_broker(tmp_path / "other")
    cell = releaser(little)
    assert carried(cell, LocalSend(other.broker)).failure == "challenge.broker"

    # A host that mixes both: our challenge, the other's grant.
    ours, theirs = LocalSend(little.broker), LocalSend(other.broker)

    def mixing(carry: Carry) -> tuple[int, bytes]:
        if not carry.path.startswith("resource/"):
            return ours(carry)
        stranger = releaser(other)
        kept: list[bytes] = []

        def keeping(each: Carry) -> tuple[int, bytes]:
            status, body = theirs(each)
            kept.append(body)
            return status, body

        assert carried(stranger, keeping).state is State.HAS_KEY
        return 200, kept[-1]

    assert carried(cell, mixing).failure == "grant.broker"
    assert cell.held is None


def test_a_challenge_for_another_request_is_not_believed(little: LittleBroker) -> None:
    cell = releaser(little)
    other = releaser(little).respond(Begin())
    assert isinstance(other, Carry)
    send = LocalSend(little.broker)
    assert carried(cell, lambda _: send(other)).failure == "challenge.broker"


def test_an_unsigned_challenge_is_not_believed(little: LittleBroker) -> None:
    cell = releaser(little)
    assert carried(cell, lambda _: (200, Challenge(nonce_text(bytes(32))).encode())).failure == "challenge.broker"


def test_a_replayed_grant_and_one_for_another_cell_are_not_taken(little: LittleBroker) -> None:
    kept: list[bytes] = []
    send = LocalSend(little.broker)

    def keeping(carry: Carry) -> tuple[int, bytes]:
        status, body = send(carry)
        kept.append(body)
        return status, body

    assert carried(releaser(little), keeping).state is State.HAS_KEY
    cell, live = releaser(little), LocalSend(little.broker)

    def replaying(carry: Carry) -> tuple[int, bytes]:
        return (200, kept[-1]) if carry.path.startswith("resource/") else live(carry)

    assert carried(cell, replaying).failure == "grant.nonce"
    assert cell.held is None
    assert carried(cell, LocalSend(little.broker)).state is State.HAS_KEY


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"model_root": b"\x31" * 32}, "grant.model-root"), ({"purpose": GrantPurpose.SERVICE}, "grant.purpose")],
)
def test_a_grant_of_something_else_is_not_taken(little: LittleBroker, changes: dict, code: str) -> None:
    cell = releaser(little, **changes)
    assert carried(cell, LocalSend(little.broker)).failure == code
    assert cell.held is None


def test_a_grant_of_another_resource_is_not_taken(little: LittleBroker) -> None:
    cell, send = releaser(little), LocalSend(little.broker)

    def elsewhere(carry: Carry) -> tuple[int, bytes]:
        path = "resource/default/service-key/little" if carry.path.startswith("resource/") else carry.path
        return send(Carry(carry.number, carry.method, path, carry.body))

    assert carried(cell, elsewhere).failure == "grant.resource"


def test_no_answer_of_any_bytes_is_more_than_a_failure(little: LittleBroker) -> None:
    for raw in (b"", b"{}", b"[]", b"\xff", b"null", b'{"nonce":1,"extra-params":{}}', b'{"token":"x"}'):
        for step in ("auth", "attest", "resource"):
            cell, send = releaser(little), LocalSend(little.broker)
            standing = carried(cell, lambda c, s=step, r=raw, to=send: (200, r) if c.path.startswith(s) else to(c))
            if not (step == "attest" and raw == b'{"token":"x"}'):  # a token is of no use to the cell
                assert standing.state is State.NEEDS_KEY
                assert standing.failure


def test_messages_that_are_none(little: LittleBroker) -> None:
    for raw in (b"", b"\x80", b"\x81\x03", b"\x81\xf5", b"\x84\x02\x01\x20\x40", b"\x00"):
        with pytest.raises(Exception, match=r"release\.format") as caught:
            decode_ask(raw)
        assert not isinstance(caught.value, RcarRefused)
    cell = releaser(little)
    assert cell.respond(Brought(0, 200, b"")) == Declined("release.number")
    assert cell.respond(StateQuery()) == Standing(State.NEEDS_KEY, 0, None)


def over_the_bridge(cell: Releaser, send: Callable[[Carry], tuple[int, bytes]], *, cut: bool) -> Standing:
    async def run() -> Standing:
        address = Address.parse("memory:release")
        service = ReleaseService(cell)
        async with CellServer({Port.RELEASE: service}) as server:
            await server.start(address)
            async with Host(address, Port.RELEASE) as host:

                def cutting(carry: Carry) -> tuple[int, bytes]:
                    loop.call_soon_threadsafe(host.cut)
                    return send(carry)

                loop = asyncio.get_running_loop()
                standing = await relay(host, cutting if cut else send)
            assert service.first_grant.done() is holds_key(standing)
            return standing

    return asyncio.run(run())


@pytest.mark.parametrize("cut", [False, True])
def test_over_the_bridge_cut_or_not(little: LittleBroker, cut: bool) -> None:
    assert over_the_bridge(releaser(little), LocalSend(little.broker), cut=cut).state is State.HAS_KEY


def test_a_cell_gives_up_after_the_last_attempt_and_not_before(little: LittleBroker) -> None:
    """boot.md J12: whatever a host brings, each attempt costs a quote."""

    async def run() -> list[bool]:
        service = ReleaseService(releaser(little))
        async with CellServer({Port.RELEASE: service}) as server:
            await server.start(Address.parse("memory:giving-up"))
            async with Host(Address.parse("memory:giving-up"), Port.RELEASE) as host:
                seen = []
                for _ in range(ReleaseService.ATTEMPTS_MAX):
                    seen.append(service.gave_up.is_set())
                    assert (await relay(host, lambda _: (403, b""))).failure == "broker.403"
                return [*seen, service.gave_up.is_set()]

    assert asyncio.run(run()) == [False] * ReleaseService.ATTEMPTS_MAX + [True]


def test_the_devnets_broker(tmp_path: Path) -> None:
    import dataclasses
    from datetime import UTC, datetime

    for tee in (snp_tee(), tdx_tee()):
        with devnet_broker(
            tmp_path / tee.kind.value, tee, model_root=MODEL_ROOT, secrets={MODEL_KEY: Secret(b"k" * 32)}
        ) as made:
            made.approve(CONFIG)
            assert isinstance(made.broker, Broker)
            assert datetime.now(UTC).year < 2036  # until when the machines of these tests hold
            cell = Releaser(
                Wanted(made.public, MODEL_KEY, GrantPurpose.MODEL, MODEL_ROOT),
                Attester(tee, KEYSET, CONFIG, getattr(tee, "log", b"")),
            )
            assert over_the_bridge(cell, LocalSend(made.broker), cut=False).state is State.HAS_KEY
            wrong = dataclasses.replace(
                tee,
                fields=dataclasses.replace(
                    tee.fields,
                    **({"measurement": b"\x01" * 48} if hasattr(tee.fields, "measurement") else {"mrtd": b"\x01" * 48}),
                ),
            )
            send = LocalSend(made.broker)
            cell = Releaser(
                Wanted(made.public, MODEL_KEY, GrantPurpose.MODEL, MODEL_ROOT),
                Attester(wrong, KEYSET, CONFIG, getattr(tee, "log", b"")),
            )
            assert over_the_bridge(cell, send, cut=False).failure == "broker.403"
            assert send.denials in (["snp.measurement"], ["tdx.mr-td"])


RELEASE = f'[release]\nbroker_key = "{"0a" * 32}"\nresource = "{MODEL_KEY}"\nmodel_root = "{"30" * 32}"\n'


def test_the_measured_configuration_names_the_broker() -> None:
    wanted = MeasuredConfig.parse((GOOD + RELEASE).encode()).release
    assert wanted == Wanted(b"\x0a" * 32, MODEL_KEY, GrantPurpose.MODEL, MODEL_ROOT)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("0a" * 32, "0a" * 31, "release.broker_key"),
        ("0a" * 32, "zz", "release.broker_key"),
        ("30" * 32, "", "release.model_root"),
        (MODEL_KEY, "default/service-key/x", "release.resource"),
        (MODEL_KEY, "x", "release.resource"),
        ("model_root", "root", "release"),
        (f'"{MODEL_KEY}"', "1", "release"),
    ],
)
def test_a_release_section_that_is_none(old: str, new: str, code: str) -> None:
    with pytest.raises(ConfigRefused) as caught:
        MeasuredConfig.parse((GOOD + RELEASE.replace(old, new)).encode())
    assert caught.value.code == code
