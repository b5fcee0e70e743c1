"""`anchorhold release ...`: what a release is, what changes, what is proposed, and what was decided.

Exit status: 0 done, 1 usage or a malformed document, 2 not decided by who may decide, 5 no such place in the history.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Parser, Verbs, hex_argument
from anchorhold.input_files import AUTHORITY, CERTIFICATE, HISTORY, LAUNCH, PAYLOAD, UsageRefused, hex_option, key_file
from foundation.refusal import Refused, listed
from measurements.release.heights import LEASE, Heights

if TYPE_CHECKING:
    from measurements.governance.actions import Action
    from measurements.governance.history import Ledger

_STATUS = (
    "Exit status: 0 done, 1 usage or a malformed document, 2 not decided by who may decide, "
    "5 it does not fit the history."
)


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "release",
        help="show, draft, propose and decide what cells may run",
        description=f"A release is an image, its configuration and its model, as a manifest names them. {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    show = _job(jobs, "show", "print what a manifest says, in words", _show)
    show.add_argument("manifest", type=Path, metavar="MANIFEST", help="the manifest of the release")
    show.add_argument("--json", action="store_true", help="print JSON")
    diff = _job(jobs, "diff", "print what changes between two releases, and what that asks you to trust", _diff)
    diff.add_argument("before", type=Path, metavar="BEFORE", help="the manifest of the earlier release")
    diff.add_argument("after", type=Path, metavar="AFTER", help="the manifest of the later release")
    diff.add_argument("--json", action="store_true", help="print JSON")
    _add_draft(jobs)
    _add_propose(jobs)
    again = _job(jobs, "proposal", "make a proposal's text again, from what executes", _again)
    again.add_argument("payload", type=Path, metavar="PAYLOAD", help="the payload that would execute")
    _add_history(again)
    sign = _job(jobs, "sign", "print a member's signature for a payload, where a charter decides", _sign)
    sign.add_argument("payload", type=Path, metavar="PAYLOAD", help="the payload that is signed")
    sign.add_argument("--authority", type=Path, required=True, metavar="FILE", help="the document of who decides")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="the key file of the member")
    decide = _job(jobs, "decide", "join a payload with the proof that it was decided", _decide)
    decide.add_argument("payload", type=Path, metavar="PAYLOAD", help="the payload that was decided")
    how = decide.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--signature", action="append", metavar="KEY:SIGNATURE", help="the signature of a member; repeat it for each"
    )
    how.add_argument(
        "--certificate", type=Path, metavar="FILE", help="the certificate of an update call to get_proposal"
    )
    decide.add_argument(
        "--authority", type=Path, metavar="FILE", help="with --certificate: the document of who decides"
    )
    decide.add_argument("--proposal", type=int, metavar="N", help="with --certificate: the number of the proposal")
    decide.add_argument(
        "--sender", default="2vxsx-fae", metavar="ID", help="with --certificate: who made the call (default: anonymous)"
    )
    decide.add_argument("--expiry-ns", type=int, metavar="N", help="with --certificate: the expiry of the call")
    decide.add_argument(
        "--nonce", type=hex_argument(), metavar="HEX", help="with --certificate: the nonce of the call, if it had one"
    )
    decide.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file for the decision")
    history = _job(jobs, "history", "prove every decision of a history, and print them", _history)
    history.add_argument("history", type=Path, metavar="HISTORY", help="the history, from `anchorhold broker history`")
    history.add_argument("--authority", type=Path, required=True, metavar="FILE", help="the document of who decides")
    history.add_argument(
        "--seen",
        action="append",
        default=[],
        metavar="DIGEST",
        help="the digest of a decision that was seen, in a receipt, say: the history must hold it",
    )


def _add_draft(jobs: Verbs) -> None:
    job = _job(jobs, "draft", "write a manifest of what was built and measured", _draft)
    job.add_argument("--version", required=True, metavar="X.Y.Z", help="the version, above every one adopted before")
    job.add_argument(
        "--first",
        type=int,
        required=True,
        metavar="HEIGHT",
        help="the first block it answers, behind those that the release in force has keys for",
    )
    job.add_argument(
        "--last", type=int, metavar="HEIGHT", help="the last block it answers (default: where a successor begins)"
    )
    job.add_argument(
        "--lease",
        type=int,
        default=LEASE,
        metavar="N",
        help=f"how many blocks beyond the chain a grant reaches (default: {LEASE})",
    )
    job.add_argument(
        "--image", type=Path, required=True, metavar="DIR", help="the folder of the image, as it was built"
    )
    job.add_argument(
        "--launch", type=Path, required=True, metavar="FILE", help="the launch manifest, from `anchorhold measure`"
    )
    job.add_argument(
        "--cpu",
        action="append",
        required=True,
        metavar="NAME",
        help="the name QEMU has for a processor it is meant for; repeat it for several",
    )
    job.add_argument(
        "--vcpus",
        type=int,
        action="append",
        required=True,
        metavar="N",
        help="how many processors a machine has; repeat it for several",
    )
    job.add_argument(
        "--guest-features",
        type=lambda text: int(text, 0),
        action="append",
        metavar="N",
        help="the SEV features of the guest; repeat it for several (default: 0x1)",
    )
    job.add_argument("--config", type=Path, required=True, metavar="FILE", help="the measured configuration")
    job.add_argument(
        "--policy",
        default="strict",
        metavar="POLICY",
        help="the policy whose minimum TCB it asks for (default: strict)",
    )
    job.add_argument("--model", required=True, metavar="NAME", help="the name of the model")
    job.add_argument(
        "--supersedes", type=Path, metavar="MANIFEST", help="the manifest of the release in force, if there is one"
    )
    job.add_argument("--repository", required=True, metavar="URL", help="the address of the source")
    job.add_argument("--commit", required=True, metavar="HEX", help="the commit that was built")
    job.add_argument(
        "--rebuild",
        action="append",
        required=True,
        metavar="COMMAND",
        help="a command that builds it again; repeat it for each step",
    )
    job.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file for the manifest")


def _add_propose(jobs: Verbs) -> None:
    job = _job(jobs, "propose", "write a proposal: its payload, and the text that voters read", _propose)
    what = job.add_argument_group("what is proposed, one of these")
    what.add_argument("--adopt", type=Path, metavar="MANIFEST", help="let this release have keys")
    what.add_argument("--withdraw", metavar="VERSION", help="give this release no more keys")
    what.add_argument(
        "--revoke-chip", action="append", metavar="HEX", help="give this machine no more keys; repeat it for several"
    )
    what.add_argument("--rotate-key", metavar="RESOURCE", help="give out no older version of this secret")
    what.add_argument("--amend-charter", type=Path, metavar="CHARTER", help="let this charter decide from then on")
    job.add_argument(
        "--least-version",
        type=int,
        default=0,
        metavar="N",
        help="with --rotate-key: the least version that is given out",
    )
    job.add_argument(
        "--reason",
        default="",
        metavar="TEXT",
        help="with --withdraw, --revoke-chip, --rotate-key: the reason, in a sentence",
    )
    job.add_argument(
        "--subaccount",
        type=hex_argument(),
        metavar="HEX",
        help="the subaccount of the neuron that proposes, where a canister decides",
    )
    job.add_argument("--url", default="", help="the address where voters discuss it")
    job.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    _add_history(job)


def _add_history(parser: Parser) -> None:
    parser.add_argument("--authority", type=Path, required=True, metavar="FILE", help="the document of who decides")
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="the decisions before this one (default: it is the first)"
    )


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.set_defaults(run=work, status_of=_status_of)
    return parser


def _status_of(refusal: Refused) -> int:
    from attestation.consensus.refusals import ConsensusRefused, EncodingRefused
    from measurements.governance.errors import AuthorityRefused, HistoryRefused

    match refusal:
        case EncodingRefused():
            return 1
        case AuthorityRefused() | ConsensusRefused():
            return 2
        case HistoryRefused():
            return 5
        case _:
            return 1


def _show(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import read_manifest
    from measurements.release.changes import facts

    found = facts(read_manifest(arguments.manifest))
    if arguments.json:
        print(json.dumps([{"topic": fact.topic, "value": fact.value, "meaning": fact.meaning} for fact in found]))
        return 0
    width = max(len(fact.topic) for fact in found)
    for fact in found:
        print(f"{fact.topic:{width}}  {fact.value}")
        print(f"{'':{width}}  ({fact.meaning})")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import read_manifest
    from measurements.release.changes import changes

    found = changes(read_manifest(arguments.before), read_manifest(arguments.after))
    if arguments.json:
        print(json.dumps([{"topic": each.topic, "words": each.words, "asks": each.asks} for each in found]))
        return 0
    for change in found:
        print(f"{change.topic}: {change.words}")
        if change.asks:
            print(f"  asks you to trust: {change.asks}")
    return 0


def _draft(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import read_cell_config, read_manifest
    from anchorhold.owner.release_draft import ReleaseParameters, draft
    from anchorhold.verbs.verify.verdict import judging_policy
    from measurements.launch.launch_manifest import LaunchManifest
    from measurements.release.manifest import Rebuild, Serves

    manifest = draft(
        ReleaseParameters(
            arguments.version,
            arguments.model,
            Rebuild(arguments.repository, arguments.commit, tuple(arguments.rebuild)),
            tuple(arguments.cpu),
            tuple(arguments.vcpus),
            tuple(arguments.guest_features or [1]),
            Serves(_heights(arguments), arguments.lease),
        ),
        image=arguments.image,
        launch=LAUNCH.parsed(arguments.launch, lambda raw: LaunchManifest.parse(raw.removesuffix(b"\n"))),
        config=read_cell_config(arguments.config),
        policy=judging_policy(arguments),
        before=None if arguments.supersedes is None else read_manifest(arguments.supersedes),
    )
    with arguments.out.open("xb") as file:
        file.write(manifest.encode())
    print(manifest.digest.hex())
    return 0


def _heights(arguments: argparse.Namespace) -> Heights:

    try:
        return Heights(arguments.first, arguments.last)
    except ValueError:
        got = f"{arguments.first} to {arguments.last}"
        raise UsageRefused("usage.heights", expected="a first block and a last one, in order", got=got) from None


def _propose(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import read_authority, read_ledger, write_proposal
    from measurements.governance.actions import Payload
    from measurements.governance.proposal import Proposal

    ledger, _ = read_ledger(read_authority(arguments.authority), arguments.history)
    proposal = Proposal.of(ledger, _action(arguments, ledger), arguments.url)
    Payload.parse(proposal.payload.encode())  # what was typed is held to the same rules as what is received
    history = None if arguments.history is None else HISTORY.read(arguments.history)
    for path in write_proposal(proposal, arguments.out, arguments.subaccount, history):
        print(path)
    print(f"decision {proposal.payload.position}: {proposal.digest.hex()}")
    return 0


def _action(arguments: argparse.Namespace, ledger: Ledger) -> Action:
    from anchorhold.owner.release_documents import read_manifest
    from measurements.governance.actions import Adopt, AmendCharter, RevokeChips, RotateKey, Withdraw
    from measurements.governance.charter import Charter

    named = (arguments.adopt, arguments.withdraw, arguments.revoke_chip, arguments.rotate_key, arguments.amend_charter)
    if sum(each is not None for each in named) != 1:
        raise UsageRefused("usage.propose", expected="one thing to propose", got="none or several")
    if arguments.adopt is not None:
        return Adopt(read_manifest(arguments.adopt))
    if arguments.withdraw is not None:
        held = ledger.releases.get(arguments.withdraw)
        if held is None:
            got = repr(arguments.withdraw[:40])
            raise UsageRefused("usage.withdraw", expected="a release of this history", got=got)
        return Withdraw(arguments.withdraw, held.manifest.digest, arguments.reason)
    if arguments.revoke_chip is not None:
        chips = {hex_option(chip, "--revoke-chip") for chip in arguments.revoke_chip}
        return RevokeChips(tuple(sorted(chips)), arguments.reason)
    if arguments.rotate_key is not None:
        return RotateKey(arguments.rotate_key, arguments.least_version, arguments.reason)
    return AmendCharter(AUTHORITY.parsed(arguments.amend_charter, Charter.parse))


def _again(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import again, read_authority, read_ledger
    from measurements.governance.actions import Payload

    ledger, _ = read_ledger(read_authority(arguments.authority), arguments.history)
    print(again(ledger, PAYLOAD.parsed(arguments.payload, Payload.parse)).summary, end="")
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import member_signature, read_authority

    seed, authority = key_file(arguments.key), read_authority(arguments.authority)
    print(PAYLOAD.parsed(arguments.payload, lambda payload: member_signature(seed, authority, payload)))
    return 0


def _decide(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import (
        certified_decision,
        chartered_decision,
        checked_payload,
        read_authority,
    )
    from attestation.adoption import get_proposal_argument
    from attestation.consensus.principal import from_text
    from measurements.governance.decision import CertifiedReply

    payload = PAYLOAD.parsed(arguments.payload, checked_payload)
    if arguments.signature:
        decision = chartered_decision(payload, arguments.signature)
    elif None in (arguments.authority, arguments.proposal, arguments.expiry_ns):
        needed = ("authority", "proposal", "expiry_ns")
        missing = [f"--{name.replace('_', '-')}" for name in needed if getattr(arguments, name) is None]
        raise UsageRefused(
            "usage.certificate", expected="--authority, --proposal and --expiry-ns", got=f"no {listed(missing)}"
        )
    else:
        reply = CertifiedReply(
            CERTIFICATE.read(arguments.certificate),
            get_proposal_argument(arguments.proposal),
            from_text(arguments.sender),
            arguments.expiry_ns,
            arguments.nonce,
        )
        decision = certified_decision(payload, read_authority(arguments.authority), reply)
    with arguments.out.open("xb") as file:
        file.write(decision.encode())
    return 0


def _history(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.release_documents import read_authority, read_ledger
    from measurements.governance.actions import describe

    seen = [hex_option(text, "--seen") for text in arguments.seen]
    ledger, decided = read_ledger(read_authority(arguments.authority), arguments.history, seen)
    for each in decided:
        kind, subject = describe(each.action)
        print(f"{each.position}  {each.digest.hex()}  {kind} {subject}  by {', '.join(each.by)}")
    for version, held in ledger.releases.items():
        print(f"release {version}: {held.standing.value}, {held.heights}")
    return 0
