"""What `anchorhold verify certificate` does: read, judge, print. See `certificate.py` beside it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from anchorhold.command import complain
from anchorhold.input_files import CERTIFICATE, HASH_TREE, FileRefused, Kind
from attestation.consensus import certified_time, hashtree, principal
from attestation.consensus.certificate import (
    VerifiedCertificate,
    demanded,
    describe_path,
    open_envelope,
    parse_certificate,
    verify_certificate,
)
from attestation.consensus.hashtree import FoundTree, HashTree
from attestation.consensus.refusals import ConsensusRefused, EncodingRefused, LookupRefused
from attestation.consensus.roots import MAINNET_ROOT_KEY, parse_root_key
from foundation.document import SPACED_HEX, hexadecimal
from foundation.refusal import Refused

_FILE_BYTES_MAX: Final = 8 << 20
_SHOWN_DIGITS: Final = 96
_OF_CANISTER: Final = frozenset({"certified_data", "module_hash", "controllers", "metadata"})
_NAMED_BY_PRINCIPAL: Final = frozenset({"canister", "subnet", "canister_ranges"})


def give(arguments: argparse.Namespace) -> int:
    """Prints the verdict and returns the exit status."""
    try:
        facts = _judge(arguments)
    except (ConsensusRefused, FileRefused) as refusal:
        complain(refusal)
        if arguments.json:
            _print_json(_refused(refusal))
        return _status(refusal)
    if arguments.json:
        _print_json(facts)
    else:
        _print_text(facts, whole=arguments.path is not None or arguments.data_path is not None)
    return 0


def _status(refusal: Refused) -> int:
    match refusal:
        case EncodingRefused() | FileRefused():
            return 1
        case LookupRefused():
            return 4
        case _:
            return 2


# --- judging ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments, parsed before the file is opened: wrong usage is wrong whatever the file says."""

    canister: bytes | None
    subnet: bytes | None
    root_key: bytes
    path: tuple[bytes, ...] | None
    data_path: tuple[bytes, ...] | None

    @classmethod
    def parse(cls, arguments: argparse.Namespace) -> Self:
        canister = None if arguments.canister is None else principal.from_text(arguments.canister)
        given = arguments.root_key
        return cls(
            canister=canister,
            subnet=None if arguments.subnet is None else principal.from_text(arguments.subnet),
            root_key=MAINNET_ROOT_KEY if given is None else parse_root_key(_hex(given)),
            path=None if arguments.path is None else _state_path(arguments.path, canister),
            data_path=None if arguments.data_path is None else _plain_path(arguments.data_path),
        )


def _judge(arguments: argparse.Namespace) -> dict[str, Any]:
    asked = _Asked.parse(arguments)
    raw = _read(arguments.file, CERTIFICATE)
    with CERTIFICATE.at(arguments.file):
        envelope = open_envelope(raw)
        certificate = parse_certificate(envelope.certificate)
    verified = verify_certificate(certificate, root_key=asked.root_key, canister=asked.canister, subnet=asked.subnet)
    if arguments.at is not None:
        certified_time.check_near(verified.time_ns, arguments.at)
    facts = _facts(verified, asked.root_key)
    facts["shown"] = _shown(verified) if asked.path is None else _demanded(verified, asked.path)
    data_tree = envelope.tree
    if arguments.data_tree is not None:
        tree = _read(arguments.data_tree, HASH_TREE)
        with HASH_TREE.at(arguments.data_tree):
            data_tree = hashtree.parse(tree)
    if data_tree is not None:
        facts["data_tree"] = _data_tree(verified.certified_tree(data_tree), asked.data_path)
    elif asked.data_path is not None:
        raise EncodingRefused("usage.data-path", expected="a data tree to look into", got="none")
    return facts


def _facts(verified: VerifiedCertificate, root_key: bytes) -> dict[str, Any]:
    delegation = verified.delegation
    return {
        "verdict": "verified",
        "canister": None if verified.canister is None else principal.to_text(verified.canister),
        "subnet": None if delegation is None else principal.to_text(delegation.subnet),
        "root_key": root_key.hex(),
        "mainnet": root_key == MAINNET_ROOT_KEY,
        "root_hash": verified.root_hash.hex(),
        "time_ns": verified.time_ns,
        "time": _utc(verified.time_ns),
        "delegation": None
        if delegation is None
        else {
            "root_hash": delegation.tree.digest.hex(),
            "public_key": delegation.public_key.hex(),
            "time_ns": delegation.time_ns,
        },
        "shown": {},
        "data_tree": None,
    }


def _demanded(verified: VerifiedCertificate, path: tuple[bytes, ...]) -> dict[str, str]:
    return {describe_path(path): verified.demand(path).hex()}


def _shown(verified: VerifiedCertificate) -> dict[str, str]:
    """What the certificate shows of its canister and of requests."""
    if verified.canister is None:
        return {}
    own = _below(verified, (b"canister", verified.canister))
    if own is not None and not own:
        # The canister's part is there and all of it pruned: sound, and silent. Not to be waved through.
        verified.certified_data()
    return {**(own or {}), **(_below(verified, (b"request_status",)) or {})}


def _below(verified: VerifiedCertificate, start: tuple[bytes, ...]) -> dict[str, str] | None:
    found = verified.find(start)
    if not isinstance(found, FoundTree):
        return None
    return {describe_path((*start, *path)): value.hex() for path, value in hashtree.leaves(found.tree)}


def _data_tree(tree: HashTree, path: tuple[bytes, ...] | None) -> dict[str, Any]:
    if path is None:
        shown = {describe_path(at): value.hex() for at, value in hashtree.leaves(tree)}
    else:
        shown = {describe_path(path): demanded(hashtree.lookup(tree, path), path).hex()}
    return {"digest": tree.digest.hex(), "shown": shown}


def _refused(refusal: Refused) -> dict[str, Any]:
    return {
        "verdict": "refused",
        "stage": refusal.stage,
        "code": refusal.code,
        "expected": refusal.expected,
        "got": refusal.got,
    }


# --- arguments ----------------------------------------------------------------------------------------------


def _read(name: str, kind: Kind) -> bytes:
    return sys.stdin.buffer.read(_FILE_BYTES_MAX + 1) if name == "-" else kind.read(name, _FILE_BYTES_MAX)


def _hex(text: str) -> bytes:
    return hexadecimal(text, "usage.hex", EncodingRefused, form=SPACED_HEX)


def _plain_path(text: str) -> tuple[bytes, ...]:
    return tuple(_label(part) for part in text.removeprefix("/").split("/"))


def _state_path(text: str, canister: bytes | None) -> tuple[bytes, ...]:
    parts = text.removeprefix("/").split("/")
    if parts[0] in _OF_CANISTER and canister is not None:
        return (b"canister", canister, *map(_label, parts))
    return tuple(_state_label(parts, place) for place in range(len(parts)))


def _state_label(parts: list[str], place: int) -> bytes:
    """One label of a path from the root; where the state tree has an id, its usual text is understood."""
    part = parts[place]
    if place == 0 or part.startswith("0x"):
        return _label(part)
    if (place == 1 and parts[0] in _NAMED_BY_PRINCIPAL) or (place == 3 and parts[2] == "node"):
        return principal.from_text(part)
    if place == 1 and parts[0] == "request_status":
        return _hex(part)
    return _label(part)


def _label(part: str) -> bytes:
    return _hex(part[2:]) if part.startswith("0x") else part.encode()


# --- printing -----------------------------------------------------------------------------------------------


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=2))


def _print_text(facts: dict[str, Any], *, whole: bool) -> None:
    lines = [
        ("certificate", facts["verdict"]),
        ("canister", facts["canister"] or "not read"),
        ("subnet", facts["subnet"] or "the root subnet"),
        ("root key", "mainnet" if facts["mainnet"] else facts["root_key"]),
        ("time", f"{facts['time_ns']} ns ({facts['time']})"),
        ("root hash", facts["root_hash"]),
    ]
    values = [*facts["shown"].items()]
    if facts["data_tree"] is not None:
        lines.append(("data tree", facts["data_tree"]["digest"]))
        values += facts["data_tree"]["shown"].items()
    for name, value in (*lines, *((name, value if whole else _shortened(value)) for name, value in values)):
        print(f"{name}: {value}")


def _shortened(digits: str) -> str:
    if len(digits) <= _SHOWN_DIGITS:
        return digits
    return f"{digits[:_SHOWN_DIGITS]}... ({len(digits) // 2} bytes; --path or --json has them all)"


def _utc(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (OverflowError, ValueError, OSError):  # 64 bits of seconds reach past the year 9999
        return "beyond the calendar"
