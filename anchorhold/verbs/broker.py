"""`anchorhold broker ...`: make, serve and administer the key broker. Every change is an entry of its log.

Exit status: 0 done, 1 usage or refused, 5 the log does not hold together.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Parser, Verbs, hex_argument
from anchorhold.input_files import AUTHORITY, DECISION, SLICE_PROOF, UsageRefused, hex_option
from foundation.refusal import Refused
from measurements.release.heights import LEASE, Heights

if TYPE_CHECKING:
    from anchorhold.owner.broker_process import Opened
    from attestation.decision_log.chain import Head
    from attestation.decision_log.codec import Entry
    from attestation.sealed.suites import SuiteId

Work = Callable[["Opened", argparse.Namespace], int]


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "broker",
        help="make, serve and administer the broker of keys",
        description="A broker judges the evidence of cells and gives them keys. Every decision and every change "
        "stands in its signed log before anything leaves. Exit status: 0 done, 1 usage or refused, 5 the"
        " log does not hold.",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    init = jobs.add_parser(
        "init",
        help="make a broker in a folder and print its key",
        description="This makes a broker in a folder, and prints the key that cells must know it by.",
    )
    init.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the new broker")
    init.add_argument(
        "--store",
        default="sqlite:///broker.db",
        metavar="URL",
        help="the database: sqlite:///FILE or postgresql://... (default: sqlite:///broker.db)",
    )
    init.add_argument(
        "--wrapping",
        default="file:kek",
        metavar="KEY",
        help="the key that wraps all others: file:FILE, env:NAME or pkcs11:... (default: file:kek)",
    )
    init.add_argument(
        "--policy",
        default="strict",
        metavar="POLICY",
        help="what a machine has to be: a built-in policy or a file (default: strict)",
    )
    init.set_defaults(run=_init)
    _job(jobs, "serve", "answer cells until a signal", _serve)
    _job(jobs, "key", "print the key that cells must know this broker by", _key)
    _add_log(jobs)
    _add_secret(jobs)
    _add_service(jobs)
    _add_release(jobs)
    _add_governance(jobs)
    revoke = _job(jobs, "revoke", "give nothing more to a chip, a measurement, a release or a cell's key", _revoke)
    revoke.add_argument("kind", choices=["chip", "measurement", "release", "key"], help="what is revoked")
    revoke.add_argument("value", help="which one, in hexadecimal; of a release its name")


def _add_log(jobs: Verbs) -> None:
    group = jobs.add_parser(
        "log", help="check or print the log of decisions", description="The log has every decision and every change."
    )
    parts = group.add_subparsers(metavar="WHAT", required=True, parser_class=Parser)
    verify = _job(parts, "verify", "check every entry and the chain, and the store against them", _verify)
    verify.add_argument(
        "--seen",
        action="append",
        default=[],
        metavar="POSITION:DIGEST",
        help="a head that was seen, in a grant, say: the log must run through it",
    )
    _job(parts, "show", "print the entries, a line of JSON each", _show)


def _add_secret(jobs: Verbs) -> None:
    group = jobs.add_parser(
        "secret",
        help="add, rotate or revoke a secret",
        description="A secret is what a broker gives: a model's key, say.",
    )
    parts = group.add_subparsers(metavar="WHAT", required=True, parser_class=Parser)
    for name, text in (("add", "add a secret"), ("rotate", "give a secret new bytes, and forget the old")):
        job = _job(parts, name, text, _keep_secret)
        job.add_argument(
            "resource",
            metavar="REPOSITORY/TYPE/TAG",
            help="the name of the secret; its type is model-key, service-key or another",
        )
        job.add_argument(
            "--from",
            dest="source",
            required=True,
            metavar="FILE",
            help="the key file of a model key, or the bytes of another secret; - is standard input",
        )
        job.add_argument(
            "--pack", type=Path, metavar="FILE", help="the pack of a model key: the key must open its header"
        )
        job.add_argument(
            "--model-root",
            type=hex_argument(32),
            metavar="HEX",
            help="the root of the model, where there is no --pack: 32 bytes",
        )
        job.set_defaults(rotate=name == "rotate")
    job = _job(parts, "revoke", "forget the bytes of a secret", _forget)
    job.add_argument("resource", metavar="REPOSITORY/TYPE/TAG", help="the name of the secret")


def _add_service(jobs: Verbs) -> None:
    group = jobs.add_parser(
        "service",
        help="make, rotate or print the keys that prompts are sealed to",
        description="Prompts are sealed to service keys. Each is in "
        "use for some blocks, and the next one is there before it is needed.",
    )
    parts = group.add_subparsers(metavar="WHAT", required=True, parser_class=Parser)
    new = _job(parts, "make", "make the first two keys, and print what clients are shown of them", _make_service)
    new.add_argument(
        "--first", type=int, default=1, metavar="HEIGHT", help="the first block of the first key (default: 1)"
    )
    new.add_argument("--blocks", type=int, required=True, metavar="N", help="for how many blocks each key is in use")
    new.add_argument(
        "--overlap", type=int, required=True, metavar="N", help="how many blocks a key stays in use beside the next"
    )
    new.add_argument(
        "--model-root",
        default="",
        metavar="HEX",
        help="the root of the model whose cells alone may have them: 32 bytes",
    )
    turn = _job(parts, "rotate", "add a key, and forget those whose blocks are all answered", _rotate_service)
    turn.add_argument(
        "--answered",
        type=int,
        default=0,
        metavar="HEIGHT",
        help="the last block up to which all are answered (default: forget no key)",
    )
    for job in (new, turn):
        job.add_argument(
            "--suite",
            choices=["mlkem768-x25519", "x25519"],
            default="mlkem768-x25519",
            help="the suite of the new keys (default: mlkem768-x25519)",
        )
    show = _job(parts, "offers", "print what clients are shown of each key, a line of signed JSON each", _offers)
    for job in (new, turn, show):
        job.add_argument("resource", metavar="REPOSITORY/service-key/TAG", help="the name of the keys")


def _add_release(jobs: Verbs) -> None:
    group = jobs.add_parser(
        "release",
        help="add, approve or retire an image that may have keys",
        description="A release is an image that may have keys. `adopt` takes one that was decided.",
    )
    parts = group.add_subparsers(metavar="WHAT", required=True, parser_class=Parser)
    job = _job(parts, "add", "add an image by its measurement", _add)
    job.add_argument("name", help="the name of the release")
    job.add_argument(
        "--measurement",
        required=True,
        metavar="HEX",
        help="what a machine reports: the measurement of SNP, or MRTD and RTMR0 to 3 of TDX",
    )
    named = {"model-root": "root of the model it may have", "measured-config": "digest of its configuration"}
    for name, what in named.items():
        text = f"the {what}: 32 bytes (default: as [release] in broker.toml names it)"
        job.add_argument(f"--{name}", type=hex_argument(32), metavar="HEX", help=text)
    job.add_argument("--first", type=int, default=1, metavar="HEIGHT", help="the first block it answers (default: 1)")
    job.add_argument("--last", type=int, metavar="HEIGHT", help="the last block it answers (default: none)")
    job.add_argument(
        "--lease",
        type=int,
        default=LEASE,
        metavar="N",
        help=f"how many blocks beyond the chain a grant reaches (default: {LEASE})",
    )
    job.add_argument("--proposed", action="store_true", help="do not approve it yet")
    _add_word(job)
    for name, state in (("approve", "approved"), ("retire", "retired")):
        job = _job(parts, name, f"{name} a release", _state)
        job.add_argument("name", help="the name of the release")
        job.set_defaults(state=state, on_my_word=False)
        if name == "approve":
            _add_word(job)


def _add_word(job: Parser) -> None:
    job.add_argument("--on-my-word", action="store_true", help="approve it without a decision; the log then says so")


def _add_governance(jobs: Verbs) -> None:
    govern = _job(jobs, "govern", "name, once and for good, who decides about releases", _govern)
    govern.add_argument(
        "--authority",
        type=Path,
        required=True,
        metavar="FILE",
        help="the document of who decides: a canister or a charter",
    )
    adopt = _job(jobs, "adopt", "take a decision with its proof", _adopt)
    adopt.add_argument(
        "--decision", type=Path, required=True, metavar="FILE", help="the decision, from `anchorhold release decide`"
    )
    height = _job(jobs, "height", "show the broker how far the gateway's chain goes", _height)
    height.add_argument("--proof", type=Path, required=True, metavar="FILE", help="the slice proof that shows it")
    height.add_argument("--root-key", required=True, metavar="HEX", help="the root key of the subnets: 96 bytes")
    height.add_argument("--gateway", required=True, metavar="ID", help="the gateway canister whose chain it is")
    history = _job(jobs, "history", "write the decisions with their proofs", _history)
    history.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file")


def _job(jobs: Verbs, name: str, text: str, work: Work) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument(
        "--config",
        dest="file",
        type=Path,
        default=Path("broker.toml"),
        metavar="FILE",
        help="the configuration of the broker (default: broker.toml)",
    )
    parser.set_defaults(run=lambda arguments: _with_broker(work, arguments), status_of=_status_of)
    return parser


def _with_broker(work: Work, arguments: argparse.Namespace) -> int:
    from anchorhold.owner.broker_process import open_broker

    opened = open_broker(arguments.file)
    try:
        return work(opened, arguments)
    finally:
        opened.store.close()


def _status_of(refusal: Refused) -> int:
    from attestation.decision_log.errors import LogRefused

    return 5 if isinstance(refusal, LogRefused) else 1


def _init(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.broker_process import initialise

    keys = initialise(arguments.folder, store=arguments.store, wrapping=arguments.wrapping, policy=arguments.policy)
    print(keys.public.hex())
    return 0


def _serve(opened: Opened, _arguments: argparse.Namespace) -> int:
    import asyncio

    from anchorhold.owner.broker_process import serve
    from appliance.process_hardening import seal_process
    from foundation import logs

    logs.set_up()
    seal_process()  # what is unwrapped in here does not end in a core dump
    return asyncio.run(serve(opened))


def _key(opened: Opened, _arguments: argparse.Namespace) -> int:
    print(opened.keys.public.hex())
    return 0


def _verify(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.log import audit

    head = audit(opened.store, opened.keys.public, [_head(text) for text in arguments.seen])
    print(f"{head.position}:{head.digest.hex()}")
    return 0


def _show(opened: Opened, _arguments: argparse.Namespace) -> int:
    from attestation.decision_log.codec import Entry

    with opened.store.change() as change:
        entries = [Entry.parse(raw) for raw, _ in change.entries()]
    for entry in entries:
        print(json.dumps(_shown(entry)))
    return 0


def _keep_secret(opened: Opened, arguments: argparse.Namespace) -> int:
    from anchorhold.owner.broker_process import read_secret
    from attestation.broker.administration import add_secret, purpose_of

    purpose = purpose_of(arguments.resource)
    secret, model_root = read_secret(arguments.source, purpose, arguments.pack, arguments.model_root)
    keep = partial(add_secret, opened.store, opened.wrapping, rotate=arguments.rotate)
    row = keep(arguments.resource, secret, model_root=model_root, now_ns=time.time_ns())
    opens = "" if arguments.pack is None else f", opens {arguments.pack}"
    print(f"{row.resource} version {row.version}{opens}")
    return 0


def _forget(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.administration import forget_secret

    forget_secret(opened.store, arguments.resource, time.time_ns())
    return 0


def _make_service(opened: Opened, arguments: argparse.Namespace) -> int:
    import secrets

    from attestation.broker import service
    from attestation.sealed.ring import Ring

    ring = Ring.make(
        _suite(arguments.suite), arguments.first, arguments.blocks, arguments.overlap, randomness=secrets.token_bytes
    )
    model_root = hex_option(arguments.model_root, "--model-root")
    service.make(opened.store, opened.wrapping, arguments.resource, ring, model_root=model_root, now_ns=time.time_ns())
    return _offers(opened, arguments)


def _rotate_service(opened: Opened, arguments: argparse.Namespace) -> int:
    import secrets

    from attestation.broker import service

    service.rotate(
        opened.store,
        opened.wrapping,
        arguments.resource,
        _suite(arguments.suite),
        randomness=secrets.token_bytes,
        now_ns=time.time_ns(),
        answered=arguments.answered,
    )
    return _offers(opened, arguments)


def _offers(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker import service
    from attestation.sealed.ring import Offer

    for raw in service.published(opened.store, opened.wrapping, arguments.resource, opened.keys.signing):
        offer = Offer.checked(raw, opened.keys.public)
        print(
            json.dumps(
                {
                    "key": offer.key.id.hex(),
                    "suite": offer.key.suite.name,
                    "first": offer.first,
                    "last": offer.last,
                    "offer": raw.hex(),
                }
            )
        )
    return 0


def _suite(name: str) -> SuiteId:
    from attestation.sealed.suites import SuiteId

    return SuiteId[name.upper().replace("-", "_")]


def _govern(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.authority import govern
    from measurements.governance.authority import authority_digest

    authority = AUTHORITY.parsed(arguments.authority, lambda raw: govern(opened.store, raw, time.time_ns()))
    print(authority_digest(authority).hex())
    return 0


def _adopt(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.authority import adopt
    from measurements.governance.actions import describe

    decided = DECISION.parsed(arguments.decision, lambda raw: adopt(opened.store, raw, time.time_ns()))
    kind, subject = describe(decided.action)
    print(f"decision {decided.position}: {kind} {subject}")
    print(decided.digest.hex())
    return 0


def _height(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.authority import show_height
    from attestation.consensus.principal import from_text
    from attestation.consensus.roots import parse_root_key

    root_key, gateway = parse_root_key(hex_option(arguments.root_key, "--root-key")), from_text(arguments.gateway)
    print(
        SLICE_PROOF.parsed(
            arguments.proof,
            lambda raw: show_height(opened.store, raw, root_key=root_key, gateway=gateway, now_ns=time.time_ns()),
        )
    )
    return 0


def _history(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.authority import history_of

    with arguments.out.open("xb") as file:
        file.write(history_of(opened.store).encode())
    return 0


def _word(arguments: argparse.Namespace, approves: bool) -> bool:
    if approves and not arguments.on_my_word:
        raise UsageRefused("usage.word", expected="a decision (`broker adopt`), or --on-my-word", got="no --on-my-word")
    return bool(arguments.on_my_word)


def _add(opened: Opened, arguments: argparse.Namespace) -> int:
    from anchorhold.owner.broker_process import intended
    from attestation.broker.administration import add_release
    from attestation.broker.session import Release
    from attestation.decision_log.words import ReleaseState
    from measurements.launch.measurement import read_measurement

    try:
        heights = Heights(arguments.first, arguments.last)
    except ValueError:
        got = f"{arguments.first} to {arguments.last}"
        raise UsageRefused("usage.heights", expected="a first block and a last one, in order", got=got) from None
    add_release(
        opened.store,
        Release(
            arguments.name,
            read_measurement(hex_option(arguments.measurement, "--measurement")),
            *intended(opened.config, arguments.model_root, arguments.measured_config),
            ReleaseState.PROPOSED if arguments.proposed else ReleaseState.APPROVED,
            heights=heights,
            lease=arguments.lease,
        ),
        time.time_ns(),
        on_my_word=_word(arguments, not arguments.proposed),
    )
    return 0


def _state(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.administration import set_release
    from attestation.decision_log.words import ReleaseState

    state = ReleaseState(arguments.state)
    set_release(
        opened.store, arguments.name, state, time.time_ns(), on_my_word=_word(arguments, state is ReleaseState.APPROVED)
    )
    return 0


def _revoke(opened: Opened, arguments: argparse.Namespace) -> int:
    from attestation.broker.administration import revoke
    from attestation.decision_log.words import RevocationKind

    kind = RevocationKind(arguments.kind)
    value = arguments.value.encode() if kind is RevocationKind.RELEASE else hex_option(arguments.value, arguments.kind)
    revoke(opened.store, kind, value, time.time_ns())
    return 0


def _head(text: str) -> Head:
    from attestation.decision_log.chain import Head

    position, _, digest = text.partition(":")
    if not position.isdecimal():
        raise UsageRefused("usage.seen", expected="POSITION:DIGEST", got=repr(text[:40]))
    return Head(int(position), hex_option(digest, "--seen"))


def _shown(entry: Entry) -> dict[str, object]:
    details = {name: value.hex() if isinstance(value, bytes) else value for name, value in entry.details.items()}
    return {
        "position": entry.position,
        "time_ns": entry.time_ns,
        "kind": entry.kind,
        **details,
        "digest": entry.digest.hex(),
    }
