"""`anchorhold ask`: seal a prompt to a service key. Reads the prompt from standard input, prints only ciphertext."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from anchorhold.command import Verbs
from anchorhold.input_files import OFFER, UsageRefused, hex_option
from foundation.document import SPACED_HEX, hexadecimal, undecoded
from foundation.refusal import Refused


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "ask",
        help="seal a prompt to the service key of a cell",
        description="This seals the prompt on standard input to a service key. It writes the payload to submit, and "
        "into another file the key that opens the answer. Exit status: 0 done, 1 usage, 2 an offer its "
        "broker did not sign.",
    )
    parser.add_argument(
        "--offer",
        type=Path,
        required=True,
        metavar="FILE",
        help="the service key, as a broker offers it in hexadecimal",
    )
    parser.add_argument(
        "--broker", required=True, metavar="HEX", help="the key of the broker that signed the offer: 32 bytes"
    )
    parser.add_argument(
        "--gateway", required=True, metavar="ID", help="the gateway canister that will order the request"
    )
    parser.add_argument(
        "--model-root", required=True, metavar="HEX", help="the root of the model that is to answer: 32 bytes"
    )
    parser.add_argument(
        "--expiry", type=int, required=True, metavar="HEIGHT", help="the last block in which the request may run"
    )
    parser.add_argument("--caller", metavar="ID", help="the one who may submit it (default: anybody)")
    parser.add_argument("--model", required=True, metavar="NAME", help="the name of the model, as its release has it")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="the most tokens that the answer may have")
    parser.add_argument("--stream", action="store_true", help="let the answer come in frames as it is made")
    parser.add_argument(
        "--keep", type=Path, required=True, metavar="FILE", help="the new file for the key that opens the answer"
    )
    parser.add_argument(
        "--hand-over",
        type=Path,
        metavar="FILE",
        help="a new file with the prompt and the key of its answer, for the auditor of this request",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new file for the payload")
    parser.set_defaults(run=_run, status_of=_status_of)


def _status_of(refusal: Refused) -> int:
    from anchorhold.client import KeysRefused

    return 2 if isinstance(refusal, KeysRefused) else 1


def _run(arguments: argparse.Namespace) -> int:
    from anchorhold.client import Mode, Service, chat
    from attestation.consensus.chat import Sampling
    from attestation.consensus.principal import from_text
    from foundation import private_files

    broker = hex_option(arguments.broker, "--broker", 32)
    model_root = hex_option(arguments.model_root, "--model-root", 32)
    gateway, caller = from_text(arguments.gateway), from_text(arguments.caller) if arguments.caller else None
    service = OFFER.parsed(
        arguments.offer,
        lambda raw: Service.checked(
            hexadecimal(raw.decode("ascii").strip(), "usage.offer", UsageRefused, form=SPACED_HEX),
            broker,
            gateway=gateway,
            model_root=model_root,
        ),
    )
    sampling = None if arguments.max_tokens is None else Sampling(max_tokens=arguments.max_tokens)
    try:
        words = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageRefused(
            "usage.prompt", expected="a prompt in UTF-8 on standard input", got=undecoded(error)
        ) from None
    question = service.ask(
        chat(arguments.model, words, sampling=sampling),
        expiry=arguments.expiry,
        mode=Mode.STREAM if arguments.stream else Mode.WHOLE,
        caller=caller,
    )
    private_files.write_new(arguments.keep, question.encode().reveal())
    if arguments.hand_over is not None:
        private_files.write_new(arguments.hand_over, question.hand_over().reveal())
    private_files.write_new(arguments.out, question.payload)
    return 0
