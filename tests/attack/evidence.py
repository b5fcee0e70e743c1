"""Attacks with evidence: genuine reports bent, borrowed, replayed and dressed up, at a real broker."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from attestation.broker.session import GrantTerms, Session, judge
from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.policy import document
from attestation.rcar.evidence import attestation_of, bound_members
from attestation.rcar.messages import Attestation, nonce_bytes
from attestation.tee.produce import release
from attestation.verify.snp import P384_ORDER
from attestation.verify.verified import Revocation
from devnet.pki import Validity
from devnet.sim_snp import PatchLevels, SimulatedSnp
from devnet.tee import SimulatedSnpTee, SimulatedTee, simulated_snp
from tests.attack.brokers import everything_accepted, https_broker, key_or_code, no_key
from tests.attack.outcome import Outcome
from tests.attack.registry import Attack, Weaken, add, attack
from tests.attack.room import Room
from tests.attack.weakening import Patch, instead, nothing, together, without
from tests.little_broker import LittleBroker, LittleCell, bent
from tests.little_tee import MEASUREMENT, SEED, VALIDITY, snp_tee

BUNDLE = "attestation.verify.evidence_bundle:"
DEBUG, SMT = 1 << 19, 1 << 16


def attested(
    room: Room,
    tee: SimulatedTee,
    *,
    raw: Callable[[LittleCell], bytes] | None = None,
    change: Callable[[LittleBroker], None] = lambda _: None,
    at: SimulatedSnpTee | None = None,
) -> str:
    """What comes of an attestation by `tee` at a broker that believes the machine `at`."""
    with https_broker(room, at or snp_tee(), change=change) as (little, remote):
        cell = LittleCell(tee)
        cell.ask(remote)  # type: ignore[arg-type]
        return key_or_code(cell, remote, little, None if raw is None else raw(cell))


# -- machines and images that no policy wants


def any_image(patch: Patch) -> None:
    everything_accepted(patch)
    patch.put("attestation.broker.session:_release", lambda terms, *_: next(iter(terms.releases.values())))
    patch.put("attestation.broker.broker:check_grant", nothing)


UNWANTED: dict[str, tuple[str, dict[str, Any], str, str, Weaken]] = {
    "image-changed": (
        "one changed byte of the image, and so another launch measurement",
        {"measurement": b"\x4e" * 48},
        "snp.measurement",
        "the measurement is an approved release's (R10, E178)",
        any_image,
    ),
    "debugging-allowed": (
        "the approved image, started so that its host may read its memory",
        {"policy": 1 << 17 | DEBUG},
        "snp.policy.debug",
        "a policy without debugging, which no broker may leave open (E155, R18)",
        everything_accepted,
    ),
    "cores-shared": (
        "the approved image on a host with sibling threads",
        {"policy": 1 << 17 | SMT},
        "snp.policy.smt",
        "the default policy, which the boot command agrees with (E153, J1)",
        everything_accepted,
    ),
    "less-privileged-level": (
        "a report by code at a privilege level below the image's",
        {"vmpl": 1},
        "snp.vmpl",
        "reports of level 0 alone (E172)",
        everything_accepted,
    ),
    "firmware-before-badram": (
        "firmware that does not look for two addresses of one memory",
        {"firmware": (1, 50, 1)},
        "snp.firmware",
        "a least firmware build (E151)",
        everything_accepted,
    ),
}


def unwanted(fields: dict[str, Any], code: str) -> Callable[[Room], Outcome]:
    return lambda room: no_key(attested(room, bent(snp_tee(), **fields)), code)


for name, (tries, fields, code, defence, weaken) in UNWANTED.items():
    add(Attack(f"evidence.{name}", tries, defence, unwanted(fields, code), weaken))


@attack(
    "microcode-before-entrysign",
    tries="a machine whose microcode can be replaced by anybody's",
    defence="a least patch level for each model (E149)",
    without=everything_accepted,
)
def microcode_before_entrysign(room: Room) -> Outcome:
    old = simulated_snp(SimulatedSnp.create(SEED, VALIDITY, tcb=PatchLevels(microcode=1)), MEASUREMENT)
    return no_key(attested(room, old, at=old), "snp.tcb.reported")


@attack(
    "simulated-machine",
    tries="a simulated machine at a broker with the default policy",
    defence="no built-in policy has a simulated root (E137, E140)",
    without=everything_accepted,
)
def simulated_machine(room: Room) -> Outcome:
    def by_default(little: LittleBroker) -> None:
        little.broker._judging = replace(little.broker._judging, policy=document.builtin("strict"))

    return no_key(attested(room, snp_tee(), change=by_default), "snp.root")


@functools.cache
def another_maker() -> SimulatedSnpTee:
    return simulated_snp(SimulatedSnp.create(SEED, VALIDITY), MEASUREMENT)


def roots_by_what_comes(patch: Patch) -> None:
    found = patch.now(f"{BUNDLE}_snp_roots")
    patch.put(f"{BUNDLE}_snp_roots", lambda report, simulated_root: found(report, another_maker().root.der))
    everything_accepted(patch)  # the policy names roots as well


@attack(
    "another-chain",
    tries="a machine of another maker: sound in every respect, under a root of its own",
    defence="roots are pinned by key (E20)",
    without=roots_by_what_comes,
)
def another_chain(room: Room) -> Outcome:
    other = another_maker()
    return no_key(attested(room, other), "chain.root")


# -- collateral


def platform(validity: Validity, *, revokes: bool = False) -> SimulatedSnpTee:
    made = snp_tee().platform
    made = replace(made, validity=validity)
    return simulated_snp(made.revoking(made.ask) if revokes else made, MEASUREMENT)


@attack(
    "revocation-list-stale",
    tries="a list of last winter, from before the intermediate was revoked",
    defence="silence counts only from a list in force (E34)",
    without=instead("attestation.verify.snp:freshness", lambda lists, at: (Revocation.FRESH, at)),
)
def revocation_list_stale(room: Room) -> Outcome:
    winter = Validity(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    return no_key(attested(room, platform(winter)), "crl.stale")


@attack(
    "intermediate-revoked",
    tries="a machine whose intermediate is on the list that it brings itself",
    defence="a list that names a certificate of the chain condemns the evidence (E33)",
    without=without("attestation.verify.snp:refuse_revoked"),
)
def intermediate_revoked(room: Room) -> Outcome:
    return no_key(attested(room, platform(VALIDITY, revokes=True)), "crl.revoked")


# -- what the report binds


def changed(cell: LittleCell, change: Callable[[dict[str, Any]], None]) -> bytes:
    value = json.loads(cell.attestation())
    change(value)
    return json.dumps(value).encode()


def report_of(value: dict[str, Any], edit: Callable[[bytearray], None]) -> None:
    primary = value["tee-evidence"]["primary_evidence"]
    raw = bytearray(base64.urlsafe_b64decode(primary["report"] + "=="))
    edit(raw)
    primary["report"] = base64.urlsafe_b64encode(raw).decode().rstrip("=")


@attack(
    "report-edited",
    tries="one bit of a genuine report",
    defence="the report's signature (E40)",
    without=together(without("attestation.verify.snp:_check_signature"), any_image),
)
def report_edited(room: Room) -> Outcome:
    def flip(raw: bytearray) -> None:
        raw[0x90] ^= 1

    return no_key(
        attested(room, snp_tee(), raw=lambda cell: changed(cell, lambda value: report_of(value, flip))), "snp.signature"
    )


def any_report_data(bundle: Any, statement: Any, evidence: Any) -> bytes:
    return bytes(evidence.report_data)


@attack(
    "report-of-another-session",
    tries="a genuine report over another cell's key, beside one's own claims",
    defence="the report binds challenge, key and keyset (E119, E120)",
    without=instead(f"{BUNDLE}_check_report_data", any_report_data),
)
def report_of_another_session(room: Room) -> Outcome:
    def borrowed(cell: LittleCell) -> bytes:
        other = LittleCell(cell.tee)
        other.nonce = cell.nonce
        theirs = json.loads(other.attestation())["tee-evidence"]["primary_evidence"]
        return changed(cell, lambda value: value["tee-evidence"].__setitem__("primary_evidence", theirs))

    return no_key(attested(room, snp_tee(), raw=borrowed), "bundle.report-data")


def any_statement(bundle: Any) -> Any:
    from attestation.report_data import carried_statement

    return carried_statement(bundle.release.additional_evidence, bundle.release.nonce)


@attack(
    "keyset-exchanged",
    tries="another keyset beside a statement that names the cell's own",
    defence="the statement is made anew from what came, and has to be the one carried (E118)",
    without=instead(f"{BUNDLE}_bound_statement", any_statement),
)
def keyset_exchanged(room: Room) -> Outcome:
    def other(cell: LittleCell) -> bytes:
        theirs = Keyset((PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, b"\x09" * 32),))
        bundle = release(
            cell.tee,
            cell.nonce,
            cell.key.jwk(),
            cell.keyset,
            measured_config=cell.config,
            other_evidence=bound_members(theirs),
        )
        return attestation_of(bundle).encode()

    return no_key(attested(room, snp_tee(), raw=other), "bundle.statement")


SEEN: set[bytes] = set()


def by_digest_of_the_report(session: Session, attestation: Attestation, terms: GrantTerms, now_ns: int) -> Any:
    """A broker that knows a replay by the digest of the whole report."""
    digest = hashlib.sha256(attestation.encode()).digest()
    if digest in SEEN:
        raise AssertionError("this very report was seen")
    SEEN.add(digest)
    return judge(replace(session, nonce=nonce_bytes(attestation.nonce)), attestation, terms, now_ns)


@attack(
    "signature-turned",
    tries="an accepted attestation again, its signature's S turned into n - S, which verifies too",
    defence="nothing is remembered or matched by a digest of the signature: nonces are (E43, R6)",
    without=instead("attestation.broker.broker:judge", by_digest_of_the_report),
)
def signature_turned(room: Room) -> Outcome:
    def turn(raw: bytearray) -> None:
        s = int.from_bytes(raw[0x2E8:0x318], "little")
        raw[0x2E8:0x318] = (P384_ORDER - s).to_bytes(48, "little")

    with https_broker(room) as (little, remote):
        victim = LittleCell(snp_tee())
        victim.ask(remote)  # type: ignore[arg-type]
        raw = victim.attestation()
        victim.attest(remote, raw)  # type: ignore[arg-type]
        value = json.loads(raw)
        report_of(value, turn)
        victim.ask(remote, committed=False)  # type: ignore[arg-type]
        return no_key(key_or_code(victim, remote, little, json.dumps(value).encode()), "session.nonce")
