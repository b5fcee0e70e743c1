"""`anchorhold compare`: did these cells give the same answers? If not, where do they differ first, and in what?"""

from __future__ import annotations

import argparse
import json
from functools import partial

from anchorhold.command import Verbs
from anchorhold.input_files import BUNDLE

EQUAL, DIVERGED = 0, 5


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "compare",
        help="compare the answers and receipts of several cells",
        description="This compares the cells in one or more bundles, request by request, and names the first "
        "difference. It checks no signature: `anchorhold audit` does. Exit status: 0 all equal, 1 usage "
        "or nothing to compare, 5 they differ.",
    )
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+", help="an audit bundle of one or more cells")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from attestation.auditor.comparison import Output, compare

    found = compare(
        [output for name in arguments.bundles for output in BUNDLE.parsed(name, partial(Output.all_of, name))]
    )
    differs = found.divergence
    if arguments.json:
        print(
            json.dumps(
                {
                    "equal": found.equal,
                    "outputs": found.outputs,
                    "compared": found.compared,
                    "only_some": found.only_some,
                    "divergence": None
                    if differs is None
                    else {
                        "height": differs.place[0],
                        "index": differs.place[1],
                        "one": differs.one,
                        "other": differs.other,
                        "what": differs.what,
                    },
                },
                indent=2,
            )
        )
    elif differs is None:
        some = f", {found.only_some} more are in some alone" if found.only_some else ""
        print(f"compare: equal ({found.outputs} cells, {found.compared} requests{some})")
    else:
        height, index = differs.place
        print(
            f"compare: differ first at height {height}, index {index}: {differs.what}\n"
            f"  one    {differs.one}\n  other  {differs.other}"
        )
    return EQUAL if found.equal else DIVERGED
