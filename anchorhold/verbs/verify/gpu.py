"""`anchorhold verify gpu`: is this NVIDIA attestation report genuine, and is it acceptable?

Nothing is fetched, so revocation, which NVIDIA answers over OCSP alone, is not looked at; the policy has to
say so. Manifests (`--rim`) are verified before anything is compared with them.
"""

from __future__ import annotations

import argparse

from anchorhold.command import Verbs
from anchorhold.input_files import CHAIN, GPU_REPORT, GPU_RIM, UsageRefused, hex_option
from anchorhold.verbs.verify.published_layouts import gpu_evidence
from anchorhold.verbs.verify.verdict import Criteria, Found, add_judging_options, judged
from measurements.reference import ReferenceValues


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "gpu",
        help="judge an NVIDIA attestation report",
        description="Judge an NVIDIA attestation report, offline. Exit status: 0 accepted, 1 usage or "
        "malformed input, 2 not genuine, 3 collateral missing or expired, 4 refused by policy.",
    )
    parser.add_argument(
        "--report", required=True, metavar="FILE", help="the report: raw, or evidence JSON that also holds the chain"
    )
    parser.add_argument("--chain", metavar="FILE", help="its five certificates as PEM, device first, root last")
    parser.add_argument("--nonce", action="append", default=[], metavar="HEX", help="the nonce that was asked for")
    parser.add_argument(
        "--rim",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="reference integrity manifests of its driver and of its VBIOS",
    )
    add_judging_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return judged("gpu", arguments, _judge)


def _judge(arguments: argparse.Namespace, by: Criteria) -> Found:
    from attestation.evidence.gpu_report import GpuReport
    from attestation.evidence.gpu_rim import GpuRim
    from attestation.verify.evidence_chains import gpu_chains
    from attestation.verify.gpu import compare_with_rims, verify_gpu, verify_nonce
    from attestation.verify.gpu_facts import gpu_facts
    from attestation.verify.gpu_rim import verify_rim

    nonces = [hex_option(text, "--nonce", 32) for text in arguments.nonce]
    raw, chain = GPU_REPORT.parsed(arguments.report, gpu_evidence)
    if arguments.chain is not None:
        chain = CHAIN.read(arguments.chain)
    if chain is None:
        raise UsageRefused("usage.chain", expected="--chain with the five certificates", got="none")
    with GPU_REPORT.at(arguments.report):
        report = GpuReport.parse(raw)
    manifests = [GPU_RIM.parsed(name, GpuRim.parse) for name in arguments.rim]
    verified = verify_gpu(report, chain, at=by.at)
    if nonces:
        verify_nonce(verified, nonces)
    if manifests:
        rims = [verify_rim(manifest, at=by.at) for manifest in manifests]
        verified = compare_with_rims(verified, rims, report)
    appraisal = by.appraisal(verified, ReferenceValues.of({"gpu.nonce": nonces}))
    return Found(gpu_facts(verified), appraisal, gpu_chains("GPU", chain, manifests, verified.root))
