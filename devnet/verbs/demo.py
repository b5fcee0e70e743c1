"""`anchorhold demo`: the whole path on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from anchorhold.command import Verbs
from anchorhold.input_files import PROMPTS, FileRefused, UsageRefused, line_of

ENGINES: Final = ("scripted", "fixed", "torch", "vllm")  # of devnet.demo.engines, unloaded


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "demo",
        help="run the whole path on this machine, over the devnet's own roots",
        description="This starts a cell, gives prompts to a devnet gateway, carries them to the cell, and prints what "
        "happens. Exit status: 0 all held, 1 prompts that make no demo, 2 something did not hold.",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build/demo"), help="the folder it writes into (default: build/demo)"
    )
    parser.add_argument(
        "--prompts",
        type=_prompts,
        metavar="FILE",
        help="your own prompts, one a line; - is standard input. They and their answers are not printed then",
    )
    parser.add_argument("--show", action="store_true", help="show every prompt and answer, in full")
    parser.add_argument("--wire", action="store_true", help="show every frame between host and cell")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="fixed",
        help="the engine that answers; torch and vllm need what they are named for (default: fixed)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from devnet.demo.engines import Choice
    from devnet.demo.run import PROMPTS as OWN
    from devnet.demo.run import run
    from devnet.demo.screen import Screen
    from foundation import logs
    from foundation.secrecy import Prompt

    if arguments.prompts is None:
        prompts = [Prompt(words.encode()) for words in OWN]
    else:
        prompts = [Prompt(line.strip()) for line in arguments.prompts.splitlines() if line.strip()]
    if not all(_is_text(prompt.reveal()) for prompt in prompts):
        raise UsageRefused("usage.prompts", expected="prompts in UTF-8", got="bytes that are not UTF-8")
    if len(prompts) < 2:
        raise UsageRefused("usage.prompts", expected="at least two prompts, one a line", got=f"{len(prompts)}")
    words = arguments.prompts is None or arguments.show
    logs.set_up()  # what a library logs, or nobody catches, quotes no prompt (secrecy.md S5, S6)
    screen = Screen(sys.stdout, words, every=arguments.show, wire=arguments.wire)
    return run(arguments.folder, prompts, screen, Choice(arguments.engine))


def _prompts(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else PROMPTS.read(name)
    except FileRefused as refusal:
        raise argparse.ArgumentTypeError(line_of(refusal)) from None


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
