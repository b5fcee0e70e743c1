"""`anchorhold owner ...`: all that the owner of a model holds, made together, and held against one another."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anchorhold.command import Parser, Verbs
from foundation.refusal import Refused

if TYPE_CHECKING:
    from anchorhold.input_files import Kind
    from anchorhold.owner.broker_process import Place
    from anchorhold.owner.measured_configuration import Served
    from anchorhold.owner.owner_folder import Machines, Made

_STATUS: Final = (
    "Exit status: 0 done, 1 usage or malformed input, 2 signature or key refused, 4 a part does not fit the others, 5 "
    "content is not what was sealed, or the broker's log does not hold."
)
_ENGINES: Final = ("fixed-1", "torch-1", "vllm-1")
_HOST: Final = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})")
_BLOCKS_MAX: Final = 1 << 62


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "owner",
        help="make all that the owner of a model needs, and check that it fits",
        description=f"An owner's folder holds card, profile, key, pack, measured configuration and broker. {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    init = _job(jobs, "init", "make an owner's folder from the folder of a model", _init)
    init.add_argument("model", type=Path, metavar="MODEL", help="the folder of the model, which is only read")
    init.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    _add_cell(init)
    _add_broker(init)
    _add_model(init)
    check = _job(jobs, "check", "check line by line that the parts of an owner's folder fit one another", _check)
    check.add_argument("folder", type=Path, metavar="DIR", help="the folder that `owner init` made")


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.set_defaults(run=work, status_of=_status_of)
    return parser


def _add_cell(init: Parser) -> None:
    group = init.add_argument_group("the cells")
    group.add_argument("--gateway", metavar="ID", help="the gateway canister (default: a terminal is asked)")
    group.add_argument(
        "--root-key", metavar="HEX", help="the root key of the subnets (default: that of the Internet Computer)"
    )
    group.add_argument(
        "--devnet",
        type=Path,
        metavar="DIR",
        help="the folder of a devnet: take gateway, root key and simulated machine from it",
    )
    group.add_argument(
        "--engine", choices=_ENGINES, default=_ENGINES[0], help=f"the engine that answers (default: {_ENGINES[0]})"
    )
    group.add_argument("--plaintext", action="store_true", help="run plain requests as well as sealed ones")
    group.add_argument(
        "--price",
        nargs=3,
        type=int,
        metavar=("REQUEST", "TOKEN_IN", "TOKEN_OUT"),
        help="cycles for a request, and for each token in and out (default: an answer costs none)",
    )


def _add_broker(init: Parser) -> None:
    group = init.add_argument_group("the broker")
    group.add_argument(
        "--broker", metavar="HOST:PORT", help="where hosts reach the broker (default: localhost:8443, this machine)"
    )
    group.add_argument("--policy", metavar="POLICY", help="a built-in policy or a file (default: strict)")
    group.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="reference values: the machines of your fleet (default: none yet)",
    )
    group.add_argument(
        "--first-block",
        type=_block,
        default=1,
        metavar="HEIGHT",
        help="the first block that the service keys are for (default: 1)",
    )


def _add_model(init: Parser) -> None:
    group = init.add_argument_group("the model")
    group.add_argument(
        "--name", metavar="NAME", help="the name of a model without card.json (default: the name of its folder)"
    )
    group.add_argument(
        "--license", metavar="ID", help="the licence of a model without card.json (default: a terminal is asked)"
    )
    group.add_argument(
        "--length",
        type=_block,
        metavar="TOKENS",
        help="the most tokens of a prompt and its answer (default: all the model can)",
    )
    group.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="FILE",
        help="a file of the model's folder that is not sealed; may be given several times",
    )


def _block(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _BLOCKS_MAX:
        raise argparse.ArgumentTypeError("expected a whole number from 1 on")
    return int(text)


# ---- init


def _init(arguments: argparse.Namespace) -> int:
    from anchorhold.owner import owner_folder
    from anchorhold.progress import Bar

    owner_folder.refuse_existing(arguments.out)
    _ask(arguments)
    place = _place(arguments.broker)
    order = owner_folder.Order(
        model=arguments.model,
        out=arguments.out,
        served=_served(arguments),
        place=place,
        machines=_machines(arguments),
        name=arguments.name,
        licence=arguments.license,
        leave_out=frozenset(arguments.leave_out),
        first_block=arguments.first_block,
        length_max=arguments.length,
    )
    with Bar("sealing") as bar:
        made = owner_folder.make(order, say=_say, progress=bar)
    _print_made(arguments, made, place)
    return 0


def _ask(arguments: argparse.Namespace) -> None:
    """What nobody else can know: asked of a person, or refused, all of it at once."""
    from anchorhold.owner.errors import OwnerRefused
    from measurements.pack.files import CARD

    wanted = {}
    if arguments.gateway is None and arguments.devnet is None:
        wanted["gateway"] = "the gateway canister's id"
    if arguments.license is None and arguments.model.is_dir() and not (arguments.model / CARD).exists():
        wanted["license"] = "the model's licence, for its card"
    if not wanted:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise OwnerRefused(
            "owner.options",
            expected=" and ".join(f"--{name} ({what})" for name, what in wanted.items()),
            got="none, and no terminal to ask at",
            hint="--devnet DIR instead of --gateway for a devnet" if "gateway" in wanted else None,
        )
    for name, what in wanted.items():
        print(f"{what}: ", end="", file=sys.stderr, flush=True)
        setattr(arguments, name, sys.stdin.readline().strip())


def _served(arguments: argparse.Namespace) -> Served:
    from anchorhold.input_files import hex_option
    from anchorhold.owner.errors import OwnerRefused
    from anchorhold.owner.measured_configuration import Served
    from attestation.consensus.roots import MAINNET_ROOT_KEY, parse_root_key
    from attestation.receipts.price import FREE, PriceSchedule

    price = FREE if arguments.price is None else PriceSchedule(*arguments.price)
    if arguments.devnet is None:
        stated = arguments.root_key
        root_key = MAINNET_ROOT_KEY if stated is None else parse_root_key(hex_option(stated, "--root-key"))
        return Served(_gateway(arguments.gateway), root_key, arguments.engine, arguments.plaintext, price)
    for option in ("gateway", "root_key", "policy", "references"):
        if getattr(arguments, option) is not None:
            named = f"--{option.replace('_', '-')}"
            raise OwnerRefused("owner.devnet", expected=f"no {named}, since --devnet says it", got=named)
    gateway, root_key = _of_devnet(arguments.devnet)
    return Served(gateway, root_key, arguments.engine, arguments.plaintext, price)


def _gateway(text: str) -> bytes:
    from anchorhold.input_files import UsageRefused
    from attestation.consensus.principal import from_text

    try:
        return from_text(text)
    except Refused as refusal:
        raise UsageRefused(
            "usage.gateway", expected=f"a canister's id after --gateway: {refusal.expected}", got=refusal.got
        ) from None


def _of_devnet(folder: Path) -> tuple[bytes, bytes]:
    """Gateway and root key, out of what the devnet's own cells were measured with."""
    from anchorhold.input_files import CELL_CONFIG
    from appliance.config import MeasuredConfig

    config = CELL_CONFIG.parsed(_devnet_file(folder, "cell.toml"), MeasuredConfig.parse)
    return config.gateway, config.root_key


def _machines(arguments: argparse.Namespace) -> Machines:
    from anchorhold.input_files import POLICY, REFERENCES, ROOT_CERTIFICATE
    from anchorhold.owner.owner_folder import Machines
    from attestation.policy import document
    from measurements.reference import ReferenceValues

    if arguments.devnet is not None:
        policy, references, root = (
            _devnet_file(arguments.devnet, f"machine/{name}") for name in ("policy.toml", "references.toml", "root.der")
        )
        return Machines(POLICY.read(policy), REFERENCES.read(references), ROOT_CERTIFICATE.read(root))
    named: str = arguments.policy or "strict"
    return Machines(
        named if named in document.builtin_names() else _held(POLICY, Path(named), document.parse),
        None if arguments.references is None else _held(REFERENCES, arguments.references, ReferenceValues.parse),
    )


def _held(kind: Kind, path: Path, parse: Callable[[bytes], object]) -> bytes:
    """The bytes of a file that is what it has to be."""
    raw = kind.read(path)
    with kind.at(path):
        parse(raw)
    return raw


def _devnet_file(folder: Path, name: str) -> Path:
    from anchorhold.owner.errors import OwnerRefused

    path = folder / name
    if not path.is_file():
        raise OwnerRefused(
            "owner.devnet",
            expected=f"a devnet in {folder}",
            got=f"no {path}",
            hint="`anchorhold devnet up --folder DIR` makes one; wait for its line of JSON",
        )
    return path


def _place(text: str | None) -> Place:
    from anchorhold.owner.broker_process import HERE, Place
    from anchorhold.owner.errors import OwnerRefused
    from foundation.refusal import shown

    if text is None:
        return HERE
    found = _HOST.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 0xFFFF:
        raise OwnerRefused("owner.broker", expected="HOST:PORT after --broker", got=shown(text))
    return Place(found[1], int(found[2]))


def _print_made(arguments: argparse.Namespace, made: Made, place: Place) -> None:
    print(f"{'model':<16}{made.identity.name}")
    print(f"{'model root':<16}{made.identity.model_root.hex()}")
    print(f"{'profile':<16}{made.profile.hex()}")
    print(f"{'digest':<16}{made.measured_config.hex()}")
    print(f"{'broker key':<16}{made.broker_key.hex()}")
    print(f"{'broker':<16}{place.url}")
    if arguments.engine == _ENGINES[0]:
        print(f"{'memory':<16}{made.memory.mib:,} MiB or more for a machine")
    print(f"{'folder':<16}{arguments.out}")
    if arguments.devnet is None and arguments.references is None:
        _say(f"next: list your machines in {arguments.out}/broker/references.toml, or no machine gets the key")


# ---- check


def _check(arguments: argparse.Namespace) -> int:
    from anchorhold.owner.owner_check import check
    from anchorhold.progress import Bar

    with Bar("opening") as bar:
        for held in check(arguments.folder, bar):
            print(f"ok  {held}", flush=True)
    return 0


def _status_of(refusal: Refused) -> int:
    from anchorhold.owner.errors import NoPart, OwnerRefused
    from anchorhold.owner.owner_check import OwnerMismatch
    from appliance.engine.golden import GoldenMissed
    from appliance.engine.profile import ProfileDrift
    from attestation.decision_log.errors import LogRefused
    from measurements.pack import errors

    if not isinstance(refusal, OwnerMismatch):
        return 1
    match refusal.reason:
        case errors.PackSignatureRefused() | errors.PackKeyRefused():
            return 2
        case errors.PackContentRefused() | GoldenMissed() | LogRefused():
            return 5
        case NoPart():
            return 1
        case OwnerRefused() | errors.PackIdentityRefused() | ProfileDrift():
            return 4
        case _:
            return 1


def _say(words: str) -> None:
    print(f"owner: {words}", file=sys.stderr, flush=True)
