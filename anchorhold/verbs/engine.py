"""`anchorhold engine ...`: write the profile of a model's engine, and prove one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Parser, Verbs, hex_argument
from anchorhold.input_files import MODEL, PACK, UsageRefused, key_file
from foundation.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.engine.profile import Settings
    from appliance.engine_start import ModelFiles

_STATUS = (
    "Exit status: 0 done, 1 usage, or a model or profile that is none, 2 key refused, 4 what runs is not what the "
    "profile states, 5 a golden prompt gave other digests."
)
_TOKENS = 16


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "engine",
        help="write or prove the profile of a model's engine",
        description=f"A profile states all that can change a bit of an answer. {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    profile = _job(jobs, "profile", "write a profile: what runs here, and the digests of its golden prompts", _profile)
    profile.add_argument(
        "--out", type=Path, metavar="FILE", help="the new file (default: engine-profile.json in the model's folder)"
    )
    profile.add_argument(
        "--engine",
        choices=("fixed-1", "torch-1", "vllm-1"),
        default="fixed-1",
        help="the engine that is profiled (default: fixed-1)",
    )
    profile.add_argument(
        "--length",
        type=_count,
        metavar="TOKENS",
        help="the most tokens of a prompt and its answer (default: all the model can)",
    )
    profile.add_argument(
        "--tokens",
        type=_count,
        default=_TOKENS,
        metavar="N",
        help=f"how many tokens each golden prompt gives (default: {_TOKENS})",
    )
    check = _job(jobs, "check", "prove a profile: compare what runs, and run the golden prompts", _check)
    check.add_argument(
        "--profile", type=hex_argument(32), metavar="HEX", help="the digest that the profile must have: 32 bytes"
    )
    for each in (profile, check):
        each.add_argument("model", type=Path, metavar="MODEL", help="the folder of the model, or its pack with --key")
        each.add_argument("--key", type=Path, metavar="FILE", help="the key file of the pack")
        each.add_argument(
            "--threads",
            type=_count,
            metavar="N",
            help="how many threads compute (default: what the profile states, or one for each processor)",
        )


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.set_defaults(run=lambda arguments: _each_difference(work, arguments), status_of=_status_of)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError("expected 1 to 1048576")
    return int(text)


def _each_difference(work: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Of a profile that differs every field is named, a line for each."""
    from appliance.engine.profile import ProfileDrift

    try:
        return work(arguments)
    except ProfileDrift as drift:
        for name, stated, observed in drift.differences:
            print(f"anchorhold: profile: {name}: expected {stated}, got {observed}", file=sys.stderr)
        return 4


def _status_of(refusal: Refused) -> int:
    from appliance.engine.golden import GoldenMissed
    from measurements.pack.errors import PackKeyRefused, PackMalformed, PackRefused

    match refusal:
        case PackMalformed():
            return 1
        case PackKeyRefused():
            return 2
        case GoldenMissed() | PackRefused():
            return 5
        case _:
            return 1


def _profile(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.engine_profile import write_profile
    from appliance.engine.profile import FILE
    from appliance.engine_start import processors

    out: Path = arguments.out or arguments.model / FILE
    if arguments.out is None and not arguments.model.is_dir():
        raise UsageRefused(
            "usage.out", expected="--out with the file to write, since a pack takes none", got=f"{arguments.model}"
        )
    with _opened(arguments) as (model, sampling):
        written = write_profile(
            model,
            engine=arguments.engine,
            sampling=sampling,
            length_max=arguments.length,
            threads=arguments.threads or processors(),
            tokens=arguments.tokens,
        )
        with out.open("xb") as file:
            file.write(written.raw)
        _print_settings(written.settings)
    print(f"golden prompts  {written.golden}")
    if written.settings.machine is None:
        print(f"machine         not part of it, since no bit hangs on it: {_machine()}")
    print(f"profile         {written.digest.hex()}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from appliance.engine_start import close, start

    with _opened(arguments) as (model, sampling):
        started = start(model, sampling=sampling, profile=arguments.profile, threads=arguments.threads)
        close(started.engine)
        _print_settings(started.profile.settings)
    print(f"golden prompts  {len(started.profile.golden)}, each as it was")
    if started.profile.settings.machine is None:
        print(f"machine         not compared, since no bit hangs on it: {_machine()}")
    compared = "as expected" if arguments.profile else "not compared: no --profile was given"
    print(f"profile         {started.profile.digest.hex()}, {compared}")
    return 0


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple[ModelFiles, Mapping[str, int]]]:
    """The model's files, and what its card says of sampling."""
    from appliance.models.folder import open_folder
    from measurements.pack.card import Claims
    from measurements.pack.files import CARD
    from measurements.pack.pack_check import inspect_pack
    from measurements.pack.pack_reader import open_pack
    from measurements.pack.parallel import default_threads

    with ExitStack() as kept:  # what is refused while the model is open is not about its files
        if arguments.model.is_dir():
            with MODEL.at(arguments.model):
                sampling = Claims.parse((arguments.model / CARD).read_bytes()).sampling
                folder = kept.enter_context(open_folder(arguments.model))
            yield folder, sampling
            return
        if arguments.key is None:
            with PACK.at(arguments.model):
                inspect_pack(arguments.model)
            raise UsageRefused("usage.key", expected="--key with the key file of the pack", got="none")
        key = key_file(arguments.key)
        with PACK.at(arguments.model):
            pack = kept.enter_context(open_pack(arguments.model, key, threads=default_threads()))
        yield pack, pack.card.claims.sampling


def _print_settings(settings: Settings) -> None:
    from appliance.engine.profile import flat

    for name, value in flat(settings).items():
        print(f"{name:<47} {value}")


def _machine() -> str:
    from appliance.engine.observe import machine

    seen = machine()
    return f"{seen.threads} threads on {seen.binding}, {seen.isa}"
