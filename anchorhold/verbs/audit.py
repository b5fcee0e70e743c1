"""`anchorhold audit`: check a bundle, offline, from one file, with your own roots."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Verbs
from anchorhold.input_files import AUTHORITY, BUNDLE, CHECKPOINT, DEVNET_ROOTS, UsageRefused, hex_option
from anchorhold.verbs.verify.verdict import DEFAULT_POLICY, judging_references, policy_named, read_time

if TYPE_CHECKING:
    from attestation.auditor.findings import Finding, Report
    from attestation.auditor.terms import AuditTerms, DecisionReader


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "audit",
        help="check everything an answer rests on, from one file",
        description="This checks a bundle offline: evidence, keys, release, order, receipts, log, answers, price. Exit "
        "status: 0 all of it holds, 1 usage or no bundle, 2 a signature or chain refused, 3 collateral missing, "
        "4 refused by policy, 5 receipts, log, answers or price refused.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle to audit")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--page", metavar="FILE", type=Path, help="also write a page for people: one HTML file")
    parser.add_argument(
        "--policy",
        metavar="FILE",
        help="what a machine has to be, as `anchorhold policy` shows it "
        f"(default: {DEFAULT_POLICY}, and with --devnet the same for simulated silicon)",
    )
    parser.add_argument("--references", metavar="FILE", help="reference values the policy may ask for")
    parser.add_argument("--root-key", metavar="HEX", help="the network's root key (default: the Internet Computer's)")
    parser.add_argument("--gateway", metavar="PRINCIPAL", help="the gateway that must have ordered the requests")
    parser.add_argument(
        "--at",
        metavar="TIME",
        type=read_time,
        help="the time to judge evidence at (default: when the network certified the order)",
    )
    parser.add_argument(
        "--nonce",
        metavar="HEX",
        action="append",
        default=[],
        help="a nonce you asked a cell with: its evidence must answer it",
    )
    parser.add_argument(
        "--seen",
        metavar="NOTE",
        action="append",
        default=[],
        help="a checkpoint seen elsewhere: must be of the same log",
    )
    parser.add_argument("--authority", metavar="FILE", help="who must have decided which release runs")
    parser.add_argument(
        "--decided",
        metavar="HEX",
        action="append",
        default=[],
        help="a decision seen elsewhere: must be among those shown",
    )
    parser.add_argument("--fork", metavar="FILE", type=Path, help="write evidence of fraud here, if any is found")
    parser.add_argument("--devnet", metavar="ROOTS", help="believe a devnet's roots in place of all others")
    again = parser.add_argument_group("computing answers again", "After the audit, with the engine in this program.")
    again.add_argument("--replay", action="store_true", help="compute the answers again and hold them against theirs")
    again.add_argument("--model", metavar="PACK", help="the pack of the measured model")
    again.add_argument("--model-key", metavar="FILE", help="the key file of the pack")
    again.add_argument(
        "--service-keys", metavar="FILE", help="the broker's ring of service keys, to read sealed requests with"
    )
    again.add_argument(
        "--handed",
        metavar="FILE",
        action="append",
        default=[],
        help="one sealed request that its client handed over (`anchorhold ask --hand-over`)",
    )
    again.add_argument("--sample", metavar="N", type=int, help="how many requests, drawn at random (default: all)")
    again.add_argument(
        "--only", metavar="HEIGHT/INDEX", type=_place, action="append", default=[], help="a request to compute again"
    )
    again.add_argument("--processes", metavar="N", type=int, help="how many processes compute, through Ray")
    again.add_argument("--cluster", metavar="ADDRESS", help="the Ray cluster that computes (default: this machine)")
    parser.set_defaults(run=run)


def _place(text: str) -> tuple[int, int]:
    height, _, index = text.partition("/")
    if not (height.isdecimal() and index.isdecimal()):
        raise argparse.ArgumentTypeError(f"not a place in the order: {text!r} (use 12/0)")
    return int(height), int(index)


def run(arguments: argparse.Namespace) -> int:
    from attestation.auditor.audit import audit
    from attestation.auditor.rows import BUNDLE as FORM

    _refuse_idle(arguments)
    terms = _terms(arguments)
    raw = BUNDLE.read(arguments.bundle, empty=True)
    report = audit(raw, terms)
    hint = _hint(report, raw, arguments)
    if arguments.replay:
        report = report.also(_replayed(report, arguments))
    if arguments.page is not None:
        _write_page(report, arguments.bundle, arguments.page)
    if arguments.fork is not None and report.forks:
        arguments.fork.write_bytes(report.forks[0])
    if arguments.json:
        print(_as_json(report, hint))
    elif report.failed and report.failed[0].code == FORM:
        print(_as_line(report.failed[0], arguments.bundle))
    else:
        print(_as_text(report, hint))
    return int(report.status)


def _refuse_idle(arguments: argparse.Namespace) -> None:
    """U39: an option that would change nothing in this run is refused by name."""
    alone = "{} alone, which changes nothing"
    needs_replay = ("model", "model_key", "service_keys", "handed", "sample", "only", "processes", "cluster")
    rows: list[tuple[str, bool, str, str]] = [
        *((name, not arguments.replay, "--replay beside {}", alone) for name in needs_replay),
        ("decided", arguments.authority is None, "--authority beside {}", alone),
        ("model_key", arguments.model is None, "--model beside {}", alone),
        ("cluster", arguments.processes is None, "--processes beside {}", alone),
        ("root_key", arguments.devnet is not None, "{} or --devnet", "both, and --devnet's file has a root key"),
        ("sample", bool(arguments.only), "{} or --only", "both, and --only names the requests"),
    ]
    for name, idle, expected, got in rows:
        if idle and getattr(arguments, name) not in (None, []):
            option = f"--{name.replace('_', '-')}"
            raise UsageRefused("usage.idle", expected=expected.format(option), got=got.format(option))


def _hint(report: Report, raw: bytes, arguments: argparse.Namespace) -> str:
    """How to go on, where a devnet's bundle was held against the roots of real networks and silicon."""
    from attestation.auditor.evidence_checks import states_simulated

    if report.ok or arguments.devnet is not None or not states_simulated(raw):
        return ""
    if report.failed[0].code not in ("configuration.subnet", "evidence.genuine"):
        return ""
    return "the roots in this bundle are a devnet's: pass --devnet ROOTS to accept them, and simulated silicon"


def _terms(arguments: argparse.Namespace) -> AuditTerms:
    from attestation.auditor.devnet_roots import DevnetRoots
    from attestation.auditor.terms import AuditTerms
    from attestation.consensus.principal import from_text
    from attestation.consensus.roots import MAINNET_ROOT_KEY, parse_root_key
    from attestation.receipts.checkpoint import without_cosignatures

    gateway = None if arguments.gateway is None else from_text(arguments.gateway)
    nonces = tuple(hex_option(text, "--nonce") for text in arguments.nonce)
    seen = tuple(CHECKPOINT.parsed(name, without_cosignatures) for name in arguments.seen)
    references = judging_references(arguments)
    if arguments.devnet is None:
        root_key, simulated_root = MAINNET_ROOT_KEY, None
        if arguments.root_key is not None:
            root_key = parse_root_key(hex_option(arguments.root_key, "--root-key"))
        policy = policy_named(arguments.policy or DEFAULT_POLICY)
    else:
        roots = DEVNET_ROOTS.parsed(arguments.devnet, DevnetRoots.parse)
        root_key, simulated_root = roots.subnet, roots.tee
        policy = roots.policy if arguments.policy is None else policy_named(arguments.policy)
        references = roots.references.joined(references)
    if arguments.references is not None and not policy.uses_references:
        got = f"--references with {policy.id}, which compares with none"
        raise UsageRefused("usage.idle", expected="a --policy that compares with reference values", got=got)
    return AuditTerms(
        policy, references, root_key, gateway, arguments.at, simulated_root, nonces, seen, _reader(arguments)
    )


def _reader(arguments: argparse.Namespace) -> DecisionReader | None:
    from attestation.auditor.decision_history import HistoryReader
    from measurements.governance.authority import authority_digest, parse_authority

    if arguments.authority is None:
        return None
    authority = authority_digest(AUTHORITY.parsed(arguments.authority, parse_authority))
    return HistoryReader(authority, tuple(hex_option(text, "--decided") for text in arguments.decided))


def _replayed(report: Report, arguments: argparse.Namespace) -> list[Finding]:
    """Only what holds is worth computing again."""
    import secrets

    from anchorhold.replay.replayer import findings_of, refused_engine
    from anchorhold.replay.runs import Source, choose, run, run_on_ray
    from attestation.auditor.findings import Finding, FindingStanding, Stage
    from foundation.refusal import Refused

    if not report.ok:
        return [
            Finding(
                Stage.REPLAY,
                "replay.answers",
                "audit.md U50",
                "the same requests give the same answers",
                FindingStanding.NOT_REACHED,
                got="it rests on: the audit",
            )
        ]
    source = Source(
        arguments.bundle, arguments.model, arguments.model_key, arguments.service_keys, tuple(arguments.handed)
    )
    chosen = choose(source, sample=arguments.sample, only=arguments.only, draw=secrets.randbelow)
    try:
        if arguments.processes is None:
            replayed = run(source, chosen)
        else:
            replayed = run_on_ray(source, chosen, arguments.processes, address=arguments.cluster)
    except UsageRefused:
        raise
    except Refused as refusal:
        return [refused_engine(refusal)]
    return findings_of(replayed, len(chosen), len(source.records()))


def _write_page(report: Report, bundle: str, path: Path) -> None:
    from attestation.auditor.page import page

    path.write_text(page(report, title=Path(bundle).name), encoding="utf-8")
    print(f"page: {path}", file=sys.stderr)


# -- what is printed


def _as_line(form: Finding, bundle: str) -> str:
    """The one line for a file that is not a bundle (U39)."""
    said = f"{form.code}: expected {form.expected}, got {form.got}"
    return f"audit: refused, {said}; {bundle} has to be {BUNDLE.called}: {BUNDLE.remedy}"


def _as_text(report: Report, hint: str) -> str:
    from attestation.auditor.findings import FindingStanding

    marks = {
        FindingStanding.HOLDS: "ok",
        FindingStanding.FAILS: "FAILED",
        FindingStanding.UNCHECKED: "unchecked",
        FindingStanding.NOT_REACHED: "not reached",
    }
    rows = [(marks[f.standing], _name(f), f.rule, f.what) for f in report.findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for finding, row in zip(report.findings, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        lines.append("  ".join([*cells, row[3]]))
        if finding.standing is FindingStanding.FAILS:
            lines += [f"    expected {finding.expected}", f"    got      {finding.got}"]
        elif finding.standing is not FindingStanding.HOLDS:
            lines.append(f"    {finding.got}")
    return "\n".join([*lines, "", *([f"hint: {hint}"] if hint else []), _verdict(report)])


def _name(finding: Finding) -> str:
    return finding.code if finding.cell is None else f"{finding.code}#{finding.cell + 1}"


def _verdict(report: Report) -> str:
    from attestation.auditor.findings import FindingStanding

    if not report.ok:
        failed = f"{len(report.failed)} of {len(report.findings)} checks failed"
        return f"{failed}\naudit: refused, {_name(report.failed[0])}"
    held = sum(finding.standing is FindingStanding.HOLDS for finding in report.findings)
    silicon = "; the silicon is simulated" if report.simulated else ""
    return f"{held} checks held, {len(report.findings) - held} had nothing to look at{silicon}\naudit: ok"


def _as_json(report: Report, hint: str) -> str:
    """One object. Keys are only ever added; codes and standings are stable."""
    return json.dumps(
        {
            "verdict": "ok" if report.ok else "refused",
            "status": int(report.status),
            "simulated": report.simulated,
            "facts": dict(report.facts),
            "findings": [
                {
                    "stage": f.stage.value,
                    "code": f.code,
                    "rule": f.rule,
                    "what": f.what,
                    "standing": f.standing.value,
                    "expected": f.expected,
                    "got": f.got,
                    "cell": f.cell,
                }
                for f in report.findings
            ],
            "claims": [
                {
                    "cell": cell,
                    "policy": appraisal.policy_id,
                    "code": claim.code,
                    "rule": claim.rule,
                    "standing": claim.standing.value,
                    "expected": claim.expected,
                    "got": claim.got,
                }
                for cell, appraisal in report.appraisals
                for claim in appraisal.claims
            ],
            "forks": [document.hex() for document in report.forks],
            "hint": hint,
        },
        indent=2,
    )
