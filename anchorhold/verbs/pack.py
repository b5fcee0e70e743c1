"""`anchorhold pack ...`: seal a model into one file, look at it, check every bit of it, open it for development."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from anchorhold.command import Parser, Verbs, hex_argument
from anchorhold.input_files import MODEL, PACK, key_file
from foundation.refusal import Refused

if TYPE_CHECKING:
    from measurements.pack.header import SignedHeader

_STATUS = (
    "Exit status: 0 done, 1 usage or malformed input, 2 signature or key refused, 5 content is not what was signed."
)


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "pack",
        help="seal a model into one file, check it, open it",
        description=f"A pack is a model sealed into one file. A key file holds 64 lower-case hexadecimal digits and is "
        f"readable by its owner alone. {_STATUS}",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    seal = _job(jobs, "seal", "seal the folder of a model into a pack", _seal)
    seal.add_argument("folder", type=Path, metavar="MODEL_DIR", help="the folder of the model, with card.json")
    seal.add_argument("out", type=Path, metavar="OUT", help="the new pack")
    _add_key(seal)
    seal.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help="the key file of the publisher's signing key (default: a key derived from the pack key)",
    )
    inspect = _job(jobs, "inspect", "print what the signed header of a pack says", _inspect)
    inspect.add_argument("file", type=Path, metavar="FILE", help="the pack")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    verify = _job(jobs, "verify", "check every bit of a pack, without its key", _verify)
    verify.add_argument("file", type=Path, metavar="FILE", help="the pack")
    verify.add_argument(
        "--signer", type=hex_argument(32), metavar="HEX", help="the public key that must have signed the pack: 32 bytes"
    )
    opening = _job(jobs, "open", "write the files of a pack to disk in the clear, for development", _open)
    opening.add_argument("file", type=Path, metavar="FILE", help="the pack")
    opening.add_argument("folder", type=Path, metavar="DIR", help="the new folder")
    _add_key(opening)
    for each in (seal, verify, opening):
        each.add_argument(
            "--threads",
            type=_threads,
            metavar="N",
            help="how many threads work (default: one for each processor, at most 8)",
        )


def _job(jobs: Verbs, name: str, text: str, work: Callable[[argparse.Namespace], int]) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_STATUS}")
    parser.set_defaults(run=work, status_of=_status_of)
    return parser


def _add_key(parser: Parser) -> None:
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the key file of the pack")


def _threads(text: str) -> int:
    from measurements.pack.parallel import THREADS_MAX

    if not text.isdecimal() or not 1 <= int(text) <= THREADS_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {THREADS_MAX}")
    return int(text)


def _status_of(refusal: Refused) -> int:
    from measurements.pack import errors

    match refusal:
        case errors.PackSignatureRefused() | errors.PackKeyRefused():
            return 2
        case errors.PackContentRefused() | errors.PackIdentityRefused():
            return 5
        case _:
            return 1


def _seal(arguments: argparse.Namespace) -> int:
    from anchorhold.progress import Bar
    from measurements.pack.disk import refuse_existing
    from measurements.pack.keys import signing_key
    from measurements.pack.pack_writer import seal_pack

    key = key_file(arguments.key)
    signer = signing_key(key_file(arguments.sign_key)) if arguments.sign_key else None
    refuse_existing(arguments.out)
    with MODEL.at(arguments.folder), Bar("sealing") as bar:
        signed = seal_pack(
            arguments.folder, arguments.out, key, signer=signer, threads=_how_many(arguments), progress=bar
        )
    _print_identity(signed)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from measurements.pack.pack_check import inspect_pack

    with PACK.at(arguments.file):
        signed = inspect_pack(arguments.file)
    if arguments.json:
        print(json.dumps(_described(signed), indent=2))
    else:
        _print_identity(signed)
        for file in signed.header.manifest.files:
            print(f"  {file.size:>14,}  {file.name}")
        print("only the header was checked; `anchorhold pack verify` checks every bit")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from anchorhold.progress import Bar
    from measurements.pack.pack_check import verify_pack

    with PACK.at(arguments.file), Bar("verifying") as bar:
        signed = verify_pack(arguments.file, threads=_how_many(arguments), signer=arguments.signer, progress=bar)
    _print_identity(signed)
    compared = "as expected" if arguments.signer else "not compared: no --signer was given"
    print(f"every bit is as it was signed; signer {compared}")
    return 0


def _open(arguments: argparse.Namespace) -> int:
    from anchorhold.progress import Bar
    from foundation import private_files
    from measurements.pack.disk import whole_folder
    from measurements.pack.pack_reader import open_pack

    key = key_file(arguments.key)
    with ExitStack() as kept, whole_folder(arguments.folder) as folder:
        with PACK.at(arguments.file), Bar("opening") as bar:
            opened = kept.enter_context(open_pack(arguments.file, key, threads=_how_many(arguments), progress=bar))
        print("anchorhold: for development only: this writes the model to disk in the clear", file=sys.stderr)
        for name in opened.names:
            private_files.write_new(folder / name, opened.file(name))
        _print_identity(opened.signed)
    return 0


def _how_many(arguments: argparse.Namespace) -> int:
    from measurements.pack.parallel import default_threads

    return arguments.threads or default_threads()


def _print_identity(signed: SignedHeader) -> None:
    from measurements.pack.identity import Identity

    for name, value in Identity.of(signed).shown().items():
        print(f"{name.replace('_', ' '):<14}{value}")


def _described(signed: SignedHeader) -> dict[str, object]:
    from measurements.pack.identity import Identity

    manifest, card = signed.header.manifest, signed.header.card
    return {
        **Identity.of(signed).shown(),
        "license": card.claims.license,
        "dtypes": list(card.measured.dtypes),
        "sampling": dict(card.claims.sampling),
        "file_id": signed.header.file_id.hex(),
        "chunk_bytes": manifest.chunk_bytes,
        "chunks": manifest.chunks,
        "pack_bytes": signed.file_bytes,
        "files": [{"name": file.name, "offset": file.offset, "size": file.size} for file in manifest.files],
    }
