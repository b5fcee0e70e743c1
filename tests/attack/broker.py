"""Attacks on the broker's sessions, releases and log, over its HTTPS edge."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

from anchorhold.host.broker_relay import BrokerAddress, RelayRefused
from appliance.key_release import Carry
from attestation.broker import log
from attestation.broker.administration import add_release, revoke, set_release
from attestation.broker.broker import load_keys
from attestation.broker.rates import Rate
from attestation.broker.server import ServerLimits
from attestation.broker.session import Endorsements, GrantTerms, Release, Session, judge
from attestation.broker.store import Store
from attestation.broker.wrapping import SoftwareWrapping
from attestation.decision_log import chain
from attestation.decision_log.chain import Head
from attestation.decision_log.codec import Entry
from attestation.decision_log.errors import LogRefused
from attestation.decision_log.events import Granted
from attestation.decision_log.words import ReleaseState, RevocationKind
from attestation.evidence.auxblob import TableEntry
from attestation.policy import document
from attestation.rcar.messages import ATTESTATION_BYTES_MAX, Attestation, nonce_bytes
from devnet.tee import policy_document
from measurements.launch.measurement import LaunchMeasurement, SnpLaunchDigest
from tests.attack.brokers import https_broker, key_or_code, no_key
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room
from tests.attack.weakening import Patch, instead, without
from tests.little_broker import KEK, MODEL_KEY, MODEL_ROOT, NOW_NS, SECRETS, LittleBroker, LittleCell, bent
from tests.little_tee import CONFIG, snp_tee
from tests.rcar_client import Client, snp_json

SESSION = "attestation.broker.session:"

# -- sessions


def nonce_of_the_attestation(session: Session, attestation: Attestation, terms: GrantTerms, now_ns: int) -> Any:
    """A session that takes the nonce which the evidence brings."""
    return judge(replace(session, nonce=nonce_bytes(attestation.nonce)), attestation, terms, now_ns)


@attack(
    "attestation-replayed",
    tries="an attestation that was accepted once, in a session of the attacker's own",
    defence="evidence answers the nonce of its own session (R6)",
    without=instead("attestation.broker.broker:judge", nonce_of_the_attestation),
)
def attestation_replayed(room: Room) -> Outcome:
    with https_broker(room) as (little, remote):
        victim = LittleCell(snp_tee())
        victim.ask(remote)  # type: ignore[arg-type]
        raw = victim.attestation()
        victim.attest(remote, raw)  # type: ignore[arg-type]
        victim.ask(remote, committed=False)  # type: ignore[arg-type]  # whoever asks: a host's own session
        return no_key(key_or_code(victim, remote, little, raw), "session.nonce")


def any_key(session: Session, attestation: Attestation, terms: GrantTerms, now_ns: int) -> Any:
    return judge(replace(session, commitment=None), attestation, terms, now_ns)


@attack(
    "cookie-stolen-before",
    tries="another machine answers the challenge with a stolen cookie and a key of its own",
    defence="who opens a session says which key will attest (R6)",
    without=instead("attestation.broker.broker:judge", any_key),
)
def cookie_stolen_before(room: Room) -> Outcome:
    with https_broker(room) as (little, remote):
        victim, thief = LittleCell(snp_tee()), LittleCell(snp_tee())
        victim.ask(remote)  # type: ignore[arg-type]
        thief.cookie, thief.nonce = victim.cookie, victim.nonce
        return no_key(key_or_code(thief, remote, little), "session.key")


@attack(
    "attested-many-times",
    tries="one attestation in eight requests at once",
    defence="a session is judged once (R6)",
    without=instead("attestation.broker.store:Change.claim", lambda self, session_id: True),
)
def attested_many_times(room: Room) -> Outcome:
    with https_broker(room) as (little, remote):
        cell = LittleCell(snp_tee())
        cell.ask(remote)  # type: ignore[arg-type]
        raw = cell.attestation()

        def once(_: int) -> int:
            return remote.call("POST", "attest", raw, cell.cookie)[0]

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(once, range(8)))
        admitted = [entry.kind for entry in little.entries()].count("admitted")
    return held("admitted once") if admitted == 1 else broken(f"admitted {admitted} times: {sorted(statuses)}")


# -- what is released, and to which release


@attack(
    "plain-client-wants-the-model",
    tries="a genuine machine that binds no keyset asks for the model's key",
    defence="a model key goes to evidence that binds a keyset (R9, R12)",
    without=without("attestation.broker.broker:check_grant"),
)
def plain_client_wants_the_model(room: Room) -> Outcome:
    tee = snp_tee()

    def quote(report_data: bytes) -> dict[str, object]:
        return snp_json(tee.quote(report_data).report, {"VCEK": tee.platform.vcek.der})

    def endorse(little: LittleBroker) -> None:
        platform = tee.platform
        held_ = Endorsements({TableEntry.ASK: platform.ask.der, TableEntry.ARK: platform.ark.der}, (platform.crl,))
        little.broker._judging = replace(little.broker._judging, endorsements=held_)

    with https_broker(room, change=endorse) as (_, remote):
        guest = Client("localhost", remote.port, remote.authority, "simulated-snp", quote)
        if guest.auth() != 200 or guest.attest()[0] != 200:
            raise Unexpected("a plain client was not admitted")
        status, body = guest.resource(MODEL_KEY)
    if status == 403 and b"grant.keyset" in body:
        return held("denied: grant.keyset")
    return broken("the model's key came out") if body == SECRETS[MODEL_KEY] else held(f"status {status}")


@attack(
    "release-withdrawn",
    tries="a release that was withdrawn asks for its key again",
    defence="a release is approved at the attestation and again at every grant (R10, R11)",
    without=instead(f"{SESSION}GrantTerms.refuse_unwanted", lambda self, release, named: release),
)
def release_withdrawn(room: Room) -> Outcome:
    with https_broker(room) as (little, remote):
        set_release(little.store, "little-1", ReleaseState.RETIRED, NOW_NS)
        cell = LittleCell(snp_tee())
        cell.ask(remote)  # type: ignore[arg-type]
        return no_key(key_or_code(cell, remote, little), "release.unapproved")


@attack(
    "release-never-approved",
    tries="an image that was proposed, and that nobody approved",
    defence="a release has keys by decision, or on the administrator's word (R10)",
    without=instead(f"{SESSION}GrantTerms.refuse_unwanted", lambda self, release, named: release),
)
def release_never_approved(room: Room) -> Outcome:
    other = bent(snp_tee(), measurement=b"\x5e" * 48)
    with https_broker(room) as (little, remote):
        proposed = Release("little-2", SnpLaunchDigest(b"\x5e" * 48), MODEL_ROOT, CONFIG, ReleaseState.PROPOSED)
        add_release(little.store, proposed, NOW_NS)
        cell = LittleCell(other)
        cell.ask(remote)  # type: ignore[arg-type]
        return no_key(key_or_code(cell, remote, little), "release.unapproved")


def any_config(terms: GrantTerms, measurement: LaunchMeasurement, config: bytes | None) -> Release:
    return terms.refuse_unwanted(terms.releases.get(measurement), "")


@attack(
    "configuration-changed",
    tries="the approved image under another configuration: another gateway, another broker",
    defence="the measured configuration is the release's (R10)",
    without=instead(f"{SESSION}_release", any_config),
)
def configuration_changed(room: Room) -> Outcome:
    with https_broker(room) as (little, remote):
        cell = LittleCell(snp_tee(), config=b"\xc1" * 32)
        cell.ask(remote)  # type: ignore[arg-type]
        return no_key(key_or_code(cell, remote, little), "release.config")


def whose_chip_nobody_asks(patch: Patch) -> None:
    patch.put("attestation.verify.verified:VerifiedSnp.chip", property(lambda evidence: evidence.chip_id))
    patch.put(
        f"{SESSION}GrantTerms.refuse_revoked_chip", lambda self, chip: self.refuse_revoked(RevocationKind.CHIP, chip)
    )


@attack(
    "revoked-chip-masked",
    tries="a revoked machine whose host hides which chip it is",
    defence="a chip is known by the HWID in its certificate (R11, E49)",
    without=whose_chip_nobody_asks,
)
def revoked_chip_masked(room: Room) -> Outcome:
    tee = snp_tee()
    lenient = policy_document(tee).decode() + (
        'chip_id = { unchecked = "any machine of this site" }\nmasked_chip_id = "accept"\n'
    )

    def shut_out(little: LittleBroker) -> None:
        little.broker._judging = replace(little.broker._judging, policy=document.parse(lenient.encode()))
        revoke(little.store, RevocationKind.CHIP, tee.platform.hardware_id, NOW_NS)

    with https_broker(room, change=shut_out) as (little, remote):
        cell = LittleCell(bent(tee, chip_masked=True))
        cell.ask(remote)  # type: ignore[arg-type]
        return no_key(key_or_code(cell, remote, little), "revoked.chip")


# -- floods and sizes


@attack(
    "attestation-too-large",
    tries="an attestation one byte longer than any may be",
    defence="bounds are checked before anything is parsed (R2)",
    without=instead("attestation.broker.server:ATTESTATION_BYTES_MAX", 1 << 30),
)
def attestation_too_large(room: Room) -> Outcome:
    with https_broker(room) as (_, remote):
        status, _, _ = remote.call("POST", "attest", b" " * (ATTESTATION_BYTES_MAX + 1), "0" * 32)
    return held("413 before anything is parsed") if status == 413 else broken(f"read to its end: {status}")


@attack(
    "challenges-without-end",
    tries="ten requests where three are allowed",
    defence="who asks too often waits",
    without=instead("attestation.broker.rates:RateLimits.allows", lambda self, address, now: True),
)
def challenges_without_end(room: Room) -> Outcome:
    with https_broker(room, limits=ServerLimits(each=Rate(3, 0.0001))) as (_, remote):
        statuses = [remote.call("POST", "auth", b"{}", None)[0] for _ in range(10)]
    refused = statuses.count(429)
    return held(f"{refused} of 10 were told to wait") if refused == 7 else broken(f"{refused} of 10 were told to wait")


@attack(
    "relay-for-other-errands",
    tries="a cell that has its host ask the broker's machine for something else",
    defence="a host carries three errands and no other (R25)",
    without=without("anchorhold.host.broker_relay:refuse_other_errands"),
)
def relay_for_other_errands(room: Room) -> Outcome:
    with https_broker(room) as (_, remote):
        send = BrokerAddress(f"https://localhost:{remote.port}", remote.authority)
        try:
            status, _ = send(Carry(1, "DELETE", "../../admin/releases", b"{}"))
        except RelayRefused as refusal:
            return held(f"refused before anything left: {refusal.code}")
    return broken(f"carried, and answered with {status}")


# -- the log


def edited(room: Room, *statements: str) -> None:
    with closing(sqlite3.connect(room.folder / "broker.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def starts_again(room: Room, known: tuple[Head, ...] = ()) -> Outcome:
    """Whether a broker would start over the store as it lies there now."""
    store = Store.open(f"sqlite:///{room.folder}/broker.db")
    try:
        head = log.audit(store, load_keys(store, SoftwareWrapping(KEK)).public, known)
    except LogRefused as refusal:
        return held(f"it does not start: {refusal.code}")
    finally:
        store.close()
    return broken(f"it starts, at entry {head.position}")


def with_a_grant(room: Room, *, copied: str | None = None) -> Entry:
    """A broker's folder after one grant, whose entry this is; before that a copy of its database, if it is named."""
    with https_broker(room) as (little, remote):
        cell = LittleCell(snp_tee())
        cell.ask(remote)  # type: ignore[arg-type]
        if copied is not None:
            with (
                closing(sqlite3.connect(room.folder / "broker.db")) as database,
                closing(sqlite3.connect(room.folder / copied)) as copy,
            ):
                database.backup(copy)
        if (got := key_or_code(cell, remote, little)) != "key":
            raise Unexpected(f"expected the key, got {got}")
        return little.last()


@attack(
    "grant-hidden",
    tries="the newest entry of the broker's log is deleted, and its head set back",
    defence="a broker replays its log before it starts, and the store has to be what was logged (R23)",
    without=without("attestation.broker.log:_Replay.compare"),
)
def grant_hidden(room: Room) -> Outcome:
    granted = with_a_grant(room)
    edited(
        room,
        f"delete from log where position = {granted.position}",
        f"update head set position = {granted.position - 1}, digest = x'{granted.previous.hex()}'",
    )
    return starts_again(room)


def chained_alone(entries: Any, public: bytes, known: Any = ()) -> Head:
    """A log whose entries are counted and not checked."""
    head = chain.genesis(public)
    for raw, _ in entries:
        entry = Entry.parse(raw)
        head = Head(entry.position, entry.digest)
    return head


@attack(
    "grant-rewritten",
    tries="the log's newest entry says that another policy let the cell in",
    defence="every entry is signed, and names the one before it (R19)",
    without=instead("attestation.decision_log.chain:verify", chained_alone),
)
def grant_rewritten(room: Room) -> Outcome:
    granted = with_a_grant(room)
    event = granted.event
    assert isinstance(event, Granted)
    forged = replace(granted, event=replace(event, cell=replace(event.cell, policy="lax")))
    edited(
        room,
        f"update log set entry = x'{forged.encode().hex()}' where position = {granted.position}",
        f"update head set digest = x'{forged.digest.hex()}'",
    )
    return starts_again(room)


def whatever_was_known(patch: Patch) -> None:
    audited = patch.now("attestation.broker.log:audit")
    patch.put("attestation.broker.log:audit", lambda store, public, known=(): audited(store, public))


@attack(
    "log-rolled-back",
    tries="yesterday's database in the place of today's, so that a grant never was",
    defence="every grant carries the log's head, and a head kept elsewhere has to lie on the way (R21)",
    without=whatever_was_known,
)
def log_rolled_back(room: Room) -> Outcome:
    granted = with_a_grant(room, copied="yesterday.db")
    (room.folder / "yesterday.db").replace(room.folder / "broker.db")
    return starts_again(room, (Head(granted.position, granted.digest),))
