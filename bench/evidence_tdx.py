"""`python -m bench.evidence_tdx`: our TDX verdicts beside dcap-qvl's own, on the same files, in one run.

Both get the same quote, collateral, root and time. dcap-qvl's verdict is what its `verify` returns or
raises; ours is the stage a quote gets to and then what the built-in `platform` policy says (it judges the
machine alone, so that no reference values are needed). Times are the median of the repetitions, per file,
parsing included on both sides; ours includes a run of dcap-qvl, which is the second opinion.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import dcap_qvl

from attestation.errors import EvidenceRefused
from attestation.evidence.tdx_collateral import TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.document import Policy
from attestation.verify.tdx import verify_tdx, verify_tdx_with_root_ca
from measurements.reference import ReferenceValues

VECTORS: Final = Path(__file__).parents[1].parent / "shared" / "vectors" / "attestation"


@dataclass(frozen=True, slots=True)
class Case:
    """One file with what it is judged with, and what its index says must become of it."""

    name: str
    quote: bytes
    collateral: bytes
    root: bytes | None
    at: datetime
    must_refuse: bool


def cases(folder: Path) -> Iterator[Case]:
    for entry in json.loads((folder / "index.json").read_bytes()):
        if not str(entry["kind"]).startswith("tdx-quote"):
            continue
        for verdict in _judged_with(entry):
            name = verdict["collateral"]
            path = folder / (name if name.endswith(".json") else f"endorsements/intel/collateral/{name}.json")
            yield Case(
                name=entry["file"].removesuffix(".quote"),
                quote=(folder / entry["file"]).read_bytes(),
                collateral=path.read_bytes(),
                root=(folder / entry["root"]).read_bytes() if entry["kind"].endswith("simulated") else None,
                at=datetime.fromisoformat(verdict["at"]),
                must_refuse=entry["expect"].get("result") == "reject",
            )


def _judged_with(entry: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The first collateral and time a real quote was published with, or the one a derived quote names."""
    verdicts: list[dict[str, Any]] = entry["expect"].get("dcap_qvl_0_7_0", [entry])
    return verdicts[:1]


def theirs(case: Case) -> str:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(case.collateral.decode())
    now = int(case.at.timestamp())
    try:
        if case.root is None:
            return str(dcap_qvl.verify(case.quote, collateral, now).status)
        return str(dcap_qvl.verify_with_root_ca(case.quote, collateral, case.root, now).status)
    except ValueError:
        return "refused"


def ours(case: Case, policies: Callable[[bytes], Policy]) -> tuple[str, str]:
    """(accepted or refused, the stage)."""
    try:
        quote, collateral = TdxQuote.parse(case.quote), TdxCollateral.parse(case.collateral)
        if case.root is None:
            verified = verify_tdx(quote, collateral, at=case.at)
        else:
            verified = verify_tdx_with_root_ca(quote, collateral, at=case.at, root_der=case.root)
    except EvidenceRefused as refusal:
        return "refused", refusal.stage
    policy = policies(verified.root.spki_sha256 if verified.root.simulated else b"")
    appraisal = appraise(verified, ReferenceValues.none(), policy)
    return ("accepted", "") if appraisal.accepted else ("refused", ", ".join(c.code for c in appraisal.unmet))


@cache
def platform_policy(simulated_root: bytes) -> Policy:
    """The built-in policy, and for a simulated file one that names its root."""
    if not simulated_root:
        return document.builtin("platform")
    head = 'name = "bench"\nabout = "platform, and one simulated root"\nextends = "platform"\n'
    return document.parse(f'{head}[tdx]\nsimulated_roots = ["{simulated_root.hex()}"]'.encode())


def milliseconds(repetitions: int, call: Callable[[], object]) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, default=VECTORS)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args(argv)
    if not arguments.vectors.is_dir():
        print(f"no published evidence at {arguments.vectors}", file=sys.stderr)
        return 1
    row = "{:<46} {:<20} {:<9} {:>7} {:>7}  {}"
    print(row.format("file", "dcap-qvl", "ours", "its ms", "our ms", "stage or unmet claims"))
    tally: Counter[str] = Counter()
    times: list[tuple[float, float]] = []
    for case in cases(arguments.vectors):
        their = theirs(case)
        verdict, stage = ours(case, platform_policy)
        spent = (
            milliseconds(arguments.repetitions, partial(theirs, case)),
            milliseconds(arguments.repetitions, partial(ours, case, platform_policy)),
        )
        times.append(spent)
        tally["files"] += 1
        tally["must be refused"] += case.must_refuse
        tally["must be refused, not refused by dcap-qvl's verify"] += case.must_refuse and their != "refused"
        tally["must be refused, accepted by us"] += case.must_refuse and verdict == "accepted"
        print(row.format(case.name, their, verdict, f"{spent[0]:.2f}", f"{spent[1]:.2f}", stage))
    print()
    for what, count in tally.items():
        print(f"{count:>4}  {what}")
    print(
        f"median ms a file: dcap-qvl {statistics.median(t for t, _ in times):.2f}, "
        f"ours {statistics.median(o for _, o in times):.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
