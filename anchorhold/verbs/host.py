"""`anchorhold host ...`: speak with a cell over its window, as the replica host does."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from anchorhold.command import Parser, Verbs
from anchorhold.input_files import BODY, SLICE_PROOF, hex_option
from foundation.refusal import Refused
from vsock_bridge.errors import AddressRefused, BridgeError
from vsock_bridge.host import Host, Patience
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

Work = Callable[[Host], Awaitable[int]]
Plan = Callable[[argparse.Namespace], Work]  # what was typed is read before anything is said to a cell


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "host",
        help="speak with a cell as its host does",
        description="A host speaks with a cell over its window. The cell trusts nothing of it, and a cut of the "
        "connection does no harm. Exit status: 0 done, 1 usage or no connection, 4 declined by the cell.",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    ping = _job(jobs, "ping", "measure how long the cell takes to answer", Port.OBSERVE, plan=_ping)
    ping.add_argument("--count", type=int, default=3, help="how often it is asked (default: 3)")
    _job(jobs, "health", "print what the cell says of itself", Port.OBSERVE, plan=_observe)
    _job(jobs, "metrics", "print what the cell counts", Port.OBSERVE, plan=_observe)
    identity = _job(
        jobs, "identity", "write evidence of what the cell is, over a nonce of yours", Port.OBSERVE, plan=_identity
    )
    identity.add_argument(
        "--nonce", required=True, metavar="HEX", help="the nonce: 16 to 64 bytes that nobody could foresee"
    )
    identity.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file for the evidence bundle")
    _job(
        jobs,
        "position",
        "print the block the cell stands behind and the one it wants next",
        Port.STREAM,
        plan=_position,
    )
    feed = _job(jobs, "feed", "give the cell a slice of blocks, and print its answers", Port.STREAM, plan=_feed)
    feed.add_argument("--proof", type=Path, required=True, metavar="FILE", help="the proof of the slice")
    feed.add_argument(
        "--body", type=Path, action="append", default=[], metavar="FILE", help="a body of the slice; repeat it for each"
    )
    feed.add_argument("--words", action="store_true", help="print the words of plain answers too")

    carry = _job(
        jobs,
        "relay",
        "carry the messages between the cell and its broker until the cell has its key",
        Port.RELEASE,
        plan=_relay,
    )
    carry.add_argument("--broker", required=True, metavar="URL", help="the address of the broker: https://host:port")
    carry.add_argument("--authority", metavar="FILE", help="the certificates to believe in place of the system's")


def _job(jobs: Verbs, name: str, text: str, port: Port, *, plan: Plan) -> Parser:
    parser = jobs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument(
        "address", type=_address, metavar="ADDRESS", help="the window of the cell: vsock:CID or unix:PATH"
    )
    parser.set_defaults(
        run=lambda arguments: asyncio.run(_with_host(port, arguments.address, plan(arguments))), status_of=_status_of
    )
    return parser


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except AddressRefused as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None


async def _with_host(port: Port, address: Address, work: Work) -> int:
    try:
        async with Host(address, port, patience=Patience(total_seconds=10)) as host:
            return await work(host)
    except BridgeError as reason:  # no refusal: the bridge knows none of ours
        print(f"anchorhold: {reason}", file=sys.stderr)
        return 1


def _status_of(refusal: Refused) -> int:
    from anchorhold.host.slice_feed import CellDeclined

    return 4 if isinstance(refusal, CellDeclined) else 1


def _ping(arguments: argparse.Namespace) -> Work:
    async def ping(host: Host) -> int:
        for number in range(1, arguments.count + 1):
            began = time.perf_counter()
            await host.ping()
            print(f"{number}: {1e6 * (time.perf_counter() - began):.0f} us")
        return 0

    return ping


def _observe(arguments: argparse.Namespace) -> Work:
    from anchorhold.host.slice_feed import CellDeclined

    async def observe(host: Host) -> int:
        raw = await host.ask(arguments.job.encode())
        try:
            said = json.loads(raw)
        except ValueError:
            raise CellDeclined("shape", expected="JSON", got=f"{len(raw)} other bytes") from None
        print(json.dumps(said, indent=2))
        return 0

    return observe


def _identity(arguments: argparse.Namespace) -> Work:
    from anchorhold.host.slice_feed import CellDeclined, evidence
    from vsock_bridge.errors import StreamEnded

    nonce = hex_option(arguments.nonce, "--nonce")

    async def identity(host: Host) -> int:
        try:
            raw = await evidence(host, nonce)
        except StreamEnded as ended:
            raise CellDeclined("identity", expected="evidence", got=str(ended)) from ended
        arguments.out.write_bytes(raw)
        print(f"{len(raw)} bytes of evidence in {arguments.out}")
        return 0

    return identity


def _position(_arguments: argparse.Namespace) -> Work:
    from anchorhold.host.slice_feed import standing

    async def position(host: Host) -> int:
        where = await standing(host)
        link = where.link.hex() if where.link else None
        print(json.dumps({**asdict(where), "link": link}, indent=2))
        return 0

    return position


def _relay(arguments: argparse.Namespace) -> Work:
    from anchorhold.host.broker_relay import BrokerAddress, holds_key, relay

    broker = BrokerAddress(arguments.broker, arguments.authority)

    async def carry(host: Host) -> int:
        standing = await relay(host, broker)
        print(json.dumps({"state": standing.state.value, "failure": standing.failure}))
        return 0 if holds_key(standing) else 4

    return carry


def _feed(arguments: argparse.Namespace) -> Work:
    from anchorhold.host.slice_feed import feed
    from attestation.consensus.slices import Body

    proof = SLICE_PROOF.read(arguments.proof)
    bodies = {BODY.parsed(path, Body.parse).height: BODY.read(path) for path in arguments.body}

    async def propose(host: Host) -> int:
        async for say in feed(host, proof, bodies):
            print(json.dumps(_shown(say, arguments.words)))
        return 0

    return propose


def _shown(say: object, words: bool) -> dict[str, object]:
    """A message of the cell as JSON; an answer's words only if they were asked for."""
    from appliance.serving.window import Answered, Piece
    from attestation.receipts.signed_receipt import SignedReceipt

    fields: dict[str, object] = {"said": type(say).__name__.lower()}
    for name, value in asdict(say).items():  # type: ignore[call-overload]  # every message is a dataclass
        fields[name] = value.hex() if isinstance(value, bytes) else value
    if isinstance(say, Answered):
        receipt = SignedReceipt.parse(say.receipt).receipt
        fields |= {
            "finish": receipt.finish,
            "tokens_in": receipt.tokens_in,
            "tokens_out": receipt.tokens_out,
            "cycles": receipt.cycles,
        }
    if isinstance(say, Piece):
        fields["words"] = say.words.decode("utf-8", "replace") if words else f"{len(say.words)} bytes"
    return fields
