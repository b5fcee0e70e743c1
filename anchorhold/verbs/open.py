"""`anchorhold open`: print the text of a sealed answer. Nothing is printed before its receipt is verified."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Verbs
from anchorhold.input_files import ANSWER, QUESTION, RECEIPT, UsageRefused, hex_option
from foundation.refusal import Refused

if TYPE_CHECKING:
    from anchorhold.client import Expected


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "open",
        help="check a sealed answer and print its words",
        description="This prints the words of a sealed answer once its receipt holds: signed over this request and "
        "these frames, and none else. Whether the key that signed is a cell's, the evidence of the cell "
        "shows. Exit status: 0 done, 1 usage, 4 the request was refused, 5 answer or receipt do not "
        "hold.",
    )
    parser.add_argument(
        "--question", type=Path, required=True, metavar="FILE", help="the file that `anchorhold ask --keep` wrote"
    )
    parser.add_argument("--answer", type=Path, required=True, metavar="FILE", help="the frames of the answer, joined")
    parser.add_argument("--receipt", type=Path, required=True, metavar="FILE", help="the signed receipt")
    parser.add_argument("--key", required=True, metavar="HEX", help="the key the cell signs receipts with: 32 bytes")
    parser.add_argument("--caller", required=True, metavar="ID", help="the caller who submitted the request")
    parser.add_argument("--release", metavar="NAME", help="the release that must have answered")
    parser.add_argument("--config", metavar="HEX", help="the digest of the measured configuration it must have had")
    parser.add_argument("--profile", metavar="HEX", help="the digest of the engine profile it must have had")
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="the manifest of the release that must have answered, in place of the three before",
    )
    parser.add_argument(
        "--successor",
        type=Path,
        metavar="FILE",
        help="with --manifest: the manifest of the release after it, where its blocks end",
    )
    parser.add_argument("--json", action="store_true", help="print the words and what the receipt says as JSON")
    parser.set_defaults(run=_run, status_of=_status_of)


def _status_of(refusal: Refused) -> int:
    from anchorhold.client import AnswerRefused
    from attestation.receipts.errors import ReceiptRefused

    return 5 if isinstance(refusal, AnswerRefused | ReceiptRefused) else 1


def _run(arguments: argparse.Namespace) -> int:
    from anchorhold.client import Expected, Question, Taken
    from attestation.consensus.principal import from_text
    from attestation.receipts.signed_receipt import SignedReceipt
    from foundation.secrecy import Secret

    key, caller = hex_option(arguments.key, "--key", 32), from_text(arguments.caller)
    expected = (
        _of_manifests(arguments)
        if arguments.manifest is not None
        else Expected(
            release=arguments.release,
            config=arguments.config and hex_option(arguments.config, "--config", 32),
            profile=arguments.profile and hex_option(arguments.profile, "--profile", 32),
        )
    )
    question = QUESTION.parsed(arguments.question, lambda raw: Question.parse(Secret(raw)))
    signed = RECEIPT.parsed(arguments.receipt, SignedReceipt.parse)
    of = signed.receipt
    frames = ANSWER.read(arguments.answer, empty=True)  # what was refused has none
    taken = Taken(of.height, of.index, of.id, frames, signed.body, signed.signature)
    answer = question.open(taken, key, expected, caller=caller)
    words = answer.words.reveal()
    if arguments.json:
        finish = answer.finish if isinstance(answer.finish, str) else answer.finish.name.lower()
        print(
            json.dumps(
                {
                    "words": words.decode("utf-8", "replace"),
                    "finish": finish,
                    "height": of.height,
                    "index": of.index,
                    "release": of.by.release,
                    "tokens_in": of.tokens_in,
                    "tokens_out": of.tokens_out,
                    "cycles": of.cycles,
                }
            )
        )
    elif answer.refused:
        print(f"anchorhold: the cell refused it: {answer.finish}", file=sys.stderr)
    else:
        sys.stdout.buffer.write(words)
        sys.stdout.buffer.write(b"\n")
    return 4 if answer.refused else 0


def _of_manifests(arguments: argparse.Namespace) -> Expected:
    from anchorhold.client import Expected
    from anchorhold.owner.release_documents import read_manifest

    if any((arguments.release, arguments.config, arguments.profile)):
        raise UsageRefused(
            "usage.manifest",
            expected="--manifest, or what it says one by one",
            got="--manifest beside --release, --config or --profile",
        )
    manifest = read_manifest(arguments.manifest)
    if arguments.successor is None:
        return Expected.of(manifest)
    heights = read_manifest(arguments.successor).serves.heights
    if heights.first <= manifest.serves.heights.first:
        raise UsageRefused("usage.successor", expected="a release that begins later", got=str(heights))
    return Expected.of(manifest, manifest.serves.heights.ended_by(heights))
