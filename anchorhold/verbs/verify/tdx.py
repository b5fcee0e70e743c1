"""`anchorhold verify tdx`: is this Intel TDX quote genuine, and is it acceptable?

Nothing is fetched. The quote brings its certificates; TCB info, QE identity and revocation lists come with
`--collateral`. Quotes and collateral are taken in the layouts they are published in (`published_layouts.py`).
"""

from __future__ import annotations

import argparse

from anchorhold.command import Verbs
from anchorhold.input_files import COLLATERAL, EVENT_LOG, ROOT_CERTIFICATE, TDX_QUOTE, hex_option
from anchorhold.verbs.verify.published_layouts import collateral_json, tdx_quote_bytes
from anchorhold.verbs.verify.verdict import Criteria, Found, add_judging_options, judged
from attestation.errors import PolicyRefused
from attestation.policy.document import Policy
from attestation.policy.fields import OneOf
from measurements.reference import ReferenceValues


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "tdx",
        help="judge an Intel TDX quote",
        description="Judge an Intel TDX quote, offline. Exit status: 0 accepted, 1 usage or malformed input, "
        "2 not genuine, 3 collateral missing or expired, 4 refused by policy.",
    )
    parser.add_argument(
        "--quote", required=True, metavar="FILE", help="the quote: raw, or in a JSON file that holds one"
    )
    parser.add_argument("--collateral", metavar="FILE", help="Intel's collateral for the platform, as JSON")
    parser.add_argument("--event-log", metavar="FILE", help="the log behind the RTMRs: CCEL, or dstack's JSON")
    parser.add_argument(
        "--report-data", action="append", default=[], metavar="HEX", help="a reference value for tdx.report_data"
    )
    parser.add_argument(
        "--simulated-root",
        metavar="FILE",
        help="judge under this root certificate instead of Intel's; a policy still has to name it",
    )
    add_judging_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return judged("tdx", arguments, _judge)


def _judge(arguments: argparse.Namespace, by: Criteria) -> Found:
    from attestation.evidence.event_log import parse_event_log
    from attestation.evidence.tdx_collateral import TdxCollateral
    from attestation.evidence.tdx_quote import TdxQuote
    from attestation.verify.event_log import verify_event_log
    from attestation.verify.evidence_chains import tdx_chains
    from attestation.verify.tdx import verify_tdx, verify_tdx_with_root_ca
    from attestation.verify.tdx_facts import tdx_facts

    stated = [hex_option(text, "--report-data", 64) for text in arguments.report_data]
    quote = TDX_QUOTE.parsed(arguments.quote, lambda raw: TdxQuote.parse(tdx_quote_bytes(raw)))
    collateral = None
    if arguments.collateral is not None:
        collateral = COLLATERAL.parsed(
            arguments.collateral, lambda raw: TdxCollateral.parse(collateral_json(raw, quote))
        )
    log = None if arguments.event_log is None else EVENT_LOG.parsed(arguments.event_log, parse_event_log)
    if arguments.simulated_root is None:
        verified = verify_tdx(quote, collateral, at=by.at)
    else:
        root = ROOT_CERTIFICATE.read(arguments.simulated_root)
        with ROOT_CERTIFICATE.at(arguments.simulated_root):
            verified = verify_tdx_with_root_ca(quote, collateral, at=by.at, root_der=root)
    if log is not None:
        verified = verify_event_log(log, verified)
    _require_stated(verified.report.report_data, stated, by.policy)
    appraisal = by.appraisal(verified, ReferenceValues.of({"tdx.report_data": stated}))
    return Found(tdx_facts(verified), appraisal, tdx_chains(quote, collateral, verified.root))


def _require_stated(got: bytes, stated: list[bytes], policy: Policy | None) -> None:
    """A REPORTDATA that was asked for is compared even where the policy would leave it unchecked."""
    compared = policy is not None and policy.tdx is not None and isinstance(policy.tdx.report_data, OneOf)
    if stated and not compared and got not in stated:
        raise PolicyRefused("tdx.report-data", expected="a REPORTDATA that was asked for", got=got.hex())
