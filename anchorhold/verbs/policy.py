"""`anchorhold policy`: read a policy document and say in words what it accepts, and why.

Exit status: 0 readable, 1 not (with the line, the field, what was expected and what came).
"""

from __future__ import annotations

import argparse

from anchorhold.command import Parser, Verbs


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "policy",
        help="explain or check a policy document",
        description="A policy says what a machine has to be. Exit status: 0 done, 1 it cannot be read.",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    explain = jobs.add_parser(
        "explain",
        help="print what a policy accepts, and why",
        description="This prints every field of a policy, what it accepts, and why.",
    )
    explain.add_argument(
        "policy",
        nargs="?",
        default="strict",
        metavar="FILE",
        help="a policy document or the name of a built-in one (default: strict)",
    )
    explain.set_defaults(run=run_explain)
    check = jobs.add_parser(
        "check", help="read a policy and print its id", description="This reads a policy strictly and prints its id."
    )
    check.add_argument("policy", metavar="FILE", help="a policy document or the name of a built-in one")
    check.set_defaults(run=run_check)


def run_explain(arguments: argparse.Namespace) -> int:
    from anchorhold.verbs.verify.verdict import judging_policy
    from attestation.policy.explain import explain

    print(explain(judging_policy(arguments)))
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    from anchorhold.verbs.verify.verdict import judging_policy

    print(judging_policy(arguments).id)
    return 0
