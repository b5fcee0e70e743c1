"""The output and the end of a `verify` verb: the facts, every claim, one verdict, one exit status.

Exit status: 0 accepted (or genuine, where only that was asked), 1 usage or malformed input, 2 not genuine,
3 collateral missing or expired, 4 genuine but refused by policy. Where a policy is left unmet by nothing
but missing collateral the status is 3: a newer list could still decide it (docs/spec/evidence.md E135).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from anchorhold.input_files import POLICY, REFERENCES
from attestation.errors import CollateralMissing, NotGenuine, PolicyRefused
from attestation.policy import document
from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from attestation.policy.document import Policy
from foundation.refusal import Refused
from measurements.reference import ReferenceValues

if TYPE_CHECKING:
    from attestation.verify.openssl_opinion import AskedChain, ChainOpinion
    from attestation.verify.verified import VerifiedSnp
    from attestation.verify.verified_gpu import VerifiedGpu
    from attestation.verify.verified_tdx import VerifiedTdx

DEFAULT_POLICY: Final = "strict"
CELL_WIDTH_MAX: Final = 56


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome of one `verify`: how far the evidence got, and what was found on the way."""

    kind: str
    at: datetime
    facts: Mapping[str, object]
    appraisal: Appraisal | None
    refusal: Refused | None
    opinions: tuple[ChainOpinion, ...] = ()

    @property
    def status(self) -> int:
        if self.refusal is not None:
            return status_of(self.refusal)
        if self.appraisal is None or self.appraisal.accepted:
            return 0
        return 3 if self.appraisal.wants_only_collateral else 4

    @property
    def verdict(self) -> str:
        """One word, stable: what a script looks at when the status is not enough."""
        genuine_only = self.appraisal is None and self.refusal is None
        names = {
            0: "genuine" if genuine_only else "accepted",
            1: "malformed",
            2: "not-genuine",
            3: "collateral-missing",
            4: "refused",
        }
        return names[self.status]

    def print(self, *, as_json: bool) -> int:
        """Write the judgement on standard output; returns the exit status."""
        print(self.as_json() if as_json else self.as_text())
        return self.status

    def as_json(self) -> str:
        """One object. Keys are only ever added; claim codes and the verdict are stable."""
        return json.dumps(
            {
                "kind": self.kind,
                "verdict": self.verdict,
                "status": self.status,
                "at": f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "evidence": dict(self.facts),
                "second_opinion": {opinion.name: opinion.refused or "accepted" for opinion in self.opinions},
                "policy": self.appraisal.policy_id if self.appraisal else None,
                "claims": [_claim_json(claim) for claim in self.appraisal.claims] if self.appraisal else [],
                "refusal": _refusal_json(self.refusal) if self.refusal else None,
            },
            indent=2,
        )

    def as_text(self) -> str:
        lines = [f"{self.kind} evidence, judged at {self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"]
        lines += [f"  {name:<20} {_short(value)}" for name, value in self.facts.items()]
        if self.opinions:
            names = ", ".join(opinion.name for opinion in self.opinions)
            lines.append(f"  {'second opinion':<20} OpenSSL accepts the chains: {names}")
        if self.appraisal:
            lines += ["", f"claims under {self.appraisal.policy_id}", *claim_table(self.appraisal.claims)]
        if self.refusal:
            lines += ["", str(self.refusal)]
        return "\n".join([*lines, "", f"verdict: {self._verdict_line()}"])

    def _verdict_line(self) -> str:
        if self.appraisal is None or self.refusal is not None:
            return self.verdict
        unmet = len(self.appraisal.unmet)
        unchecked = sum(claim.standing is ClaimStanding.UNCHECKED for claim in self.appraisal.claims)
        return f"{self.verdict} ({len(self.appraisal.claims)} claims, {unmet} not met, {unchecked} unchecked)"


def status_of(refusal: Refused) -> int:
    """The exit status a refusal ends in."""
    if isinstance(refusal, NotGenuine):
        return 2
    if isinstance(refusal, CollateralMissing):
        return 3
    if isinstance(refusal, PolicyRefused):
        return 4
    return 1


def claim_table(claims: tuple[Claim, ...]) -> list[str]:
    """Claims as aligned rows: standing, code, rule, expected, got. Unmet ones stand out by their capitals."""
    marks = {ClaimStanding.MET: "met", ClaimStanding.NOT_MET: "NOT MET", ClaimStanding.UNCHECKED: "unchecked"}
    rows = [(marks[c.standing], c.code, c.rule, _short(c.expected), _short(c.got)) for c in claims]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]])
        for row in rows
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= CELL_WIDTH_MAX else f"{text[: CELL_WIDTH_MAX - 1]}…"


def _claim_json(claim: Claim) -> dict[str, object]:
    return {
        "code": claim.code,
        "rule": claim.rule,
        "standing": claim.standing.value,
        "expected": claim.expected,
        "got": claim.got,
    }


def _refusal_json(refusal: Refused) -> dict[str, object]:
    return {
        "stage": refusal.stage,
        "code": refusal.code,
        "expected": refusal.expected,
        "got": refusal.got,
        "hint": refusal.hint,
    }


# What every `verify` verb takes alike.


def add_judging_options(parser: argparse.ArgumentParser) -> None:
    """`--policy`, `--references`, `--at`, `--genuine-only`, `--json`."""
    parser.add_argument(
        "--policy",
        metavar="FILE",
        default=DEFAULT_POLICY,
        help=f"a policy document, or the name of a built-in one: "
        f"{', '.join(document.builtin_names())} (default: {DEFAULT_POLICY})",
    )
    parser.add_argument("--references", metavar="FILE", help="reference values the policy may ask for")
    parser.add_argument(
        "--at", metavar="TIME", type=read_time, help="the time to judge at, ISO 8601 or Unix seconds (default: now)"
    )
    parser.add_argument("--genuine-only", action="store_true", help="stop after verification: no policy")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


@dataclass(frozen=True, slots=True)
class Criteria:
    """By what a verb judges: `--at`, the policy and the reference values."""

    at: datetime
    policy: Policy | None  # none: whether the evidence is genuine is all that was asked
    references: ReferenceValues

    def appraisal(self, verified: VerifiedSnp | VerifiedTdx | VerifiedGpu, stated: ReferenceValues) -> Appraisal | None:
        """Under the policy; `stated` are reference values of the command line itself."""
        if self.policy is None:
            return None
        from attestation.policy.appraise import appraise

        return appraise(verified, self.references.joined(stated), self.policy)


@dataclass(frozen=True, slots=True)
class Found:
    """The facts of genuine evidence, how a policy judges it, and the chains to ask OpenSSL about as well."""

    facts: Mapping[str, object]
    appraisal: Appraisal | None
    chains: Iterable[AskedChain]


def judged(kind: str, arguments: argparse.Namespace, judge: Callable[[argparse.Namespace, Criteria], Found]) -> int:
    """What every verb that judges evidence does: judge, print the verdict or the refusal, give its status."""
    from attestation.verify.openssl_opinion import require_openssl

    at = arguments.at or datetime.now(UTC)  # the one place of the verb that reads the clock
    try:
        # A policy that can't be read is a usage error whatever the evidence is, so it is read first.
        policy = None if arguments.genuine_only else judging_policy(arguments)
        found = judge(arguments, Criteria(at, policy, judging_references(arguments)))
        opinions = require_openssl(found.chains, at)
        judgement = Judgement(kind, at, found.facts, found.appraisal, None, opinions)
    except Refused as refusal:
        if status_of(refusal) == 1 and not arguments.json:
            raise  # nothing was judged: the command says in one line which file is not what it has to be
        judgement = Judgement(kind, at, {}, None, refusal)
    return judgement.print(as_json=arguments.json)


def judging_policy(arguments: argparse.Namespace) -> Policy:
    return policy_named(arguments.policy)


def policy_named(name: str) -> Policy:
    """A built-in policy, or the document of that path."""
    if name in document.builtin_names():
        return document.builtin(name)
    return POLICY.parsed(name, lambda raw: document.parse(raw, called=name))


def judging_references(arguments: argparse.Namespace) -> ReferenceValues:
    if arguments.references is None:
        return ReferenceValues.none()
    return REFERENCES.parsed(arguments.references, ReferenceValues.parse)


def read_time(text: str) -> datetime:
    """ISO 8601 or whole Unix seconds; a time without a zone is UTC."""
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"not a time: {text!r} (use 2026-06-01T00:00:00Z or Unix seconds)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
