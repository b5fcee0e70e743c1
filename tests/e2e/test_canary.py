"""secrecy.md S7, S10, S11, S12: canaries wherever bytes can be put, searched for in all that is written."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from anchorhold.host.gateway_client import chat
from anchorhold.host.slice_feed import CellDeclined, feed, propose, says, standing
from appliance.serving.window import Answered, Piece, Say, Supply
from attestation.consensus.blocks import Header, Kind
from attestation.consensus.chat import (
    Argument,
    AssistantMessage,
    ChatRequest,
    Sampling,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.slices import SliceProof
from attestation.receipts.signed_receipt import SignedReceipt
from devnet.chain import Chain
from devnet.lone_gateway import OWNER
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, Subnet
from foundation import cbor
from foundation.secrecy import Prompt
from tests.canary import Canary, found, found_below, found_of_process
from tests.cell_process import ROOT, CellProcess
from tests.gateways import Bench, caller
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"canary", delegated=False)


def canary(where: str) -> Canary:
    """Its place is in it, so that a hit says which way the leak went; upper case, which no code of ours is."""
    return Canary("".join(letter for letter in f"CANARY{where}" if letter.isalnum()).upper() + "7F3A9C51E0")


PLACES = (
    "chat",
    "system",
    "tool",
    "malformed",
    "oversize",
    "sealed",
    "model",
    "unproven",
    "certificate",
    "header",
    "body",
    "wire",
    "ask",
    "observe",
    "release",
    "config",
    "opening",
)
CANARIES = {place: canary(place) for place in PLACES}
ALL = list(CANARIES.values())


def payloads() -> list[tuple[Kind, bytes]]:
    """What apps may send: good, broken, too large, sealed."""
    name = {place: CANARIES[place].raw for place in PLACES}
    whole = ChatRequest(
        "scripted-1",
        (
            SystemMessage(Prompt(name["system"])),
            AssistantMessage(
                None,
                (
                    ToolCall(
                        Prompt(name["tool"]),
                        Prompt(name["tool"]),
                        (Argument(Prompt(name["tool"]), Prompt(name["tool"])),),
                    ),
                ),
            ),
            ToolMessage(Prompt(name["tool"]), Prompt(name["tool"])),
            UserMessage(Prompt(name["chat"])),
        ),
        tools=(Tool(Prompt(name["tool"]), Prompt(name["tool"]), None),),
        sampling=Sampling(stop=(Prompt(name["tool"]),)),
    ).encode()
    text = CANARIES["malformed"].text
    return [
        (Kind.PLAIN, whole),
        (Kind.PLAIN, name["malformed"]),
        (Kind.PLAIN, cbor.encode({text: text})),
        (Kind.PLAIN, cbor.encode({"model": "m", "messages": [{"role": text, "content": text}]})),
        (
            Kind.PLAIN,
            cbor.encode({"model": "scripted-1", "messages": [{"role": "user", "content": name["malformed"]}]}),
        ),
        (Kind.PLAIN, cbor.encode({"model": CANARIES["model"].text + " \n", "messages": []})),
        (Kind.PLAIN, name["oversize"] * (RAISED.payload_bytes // len(name["oversize"]) + 1)),
        (Kind.SEALED, name["sealed"]),
    ]


async def drive(address: Address) -> list[Say]:
    """Everything a host and apps can do to a cell; what it said about the honest blocks comes back."""
    chain = Chain(SUBNET, GATEWAY, seed=b"canary")
    for number, (kind, payload) in enumerate(payloads()):
        chain.seal([payload], NOW + number, kind=kind)
    spoken: list[Say] = []
    async with Host(address, Port.STREAM) as host:
        await lies(host, chain)
        proof = chain.proof(1, chain.height, NOW + 99)
        async for say in feed(host, proof, {height: chain.body(height) for height in range(1, chain.height + 1)}):
            spoken.append(say)
            if len(spoken) == 4:
                host.cut()
        await lies(host, chain)
    for port, place in ((Port.OBSERVE, "observe"), (Port.RELEASE, "release")):
        async with Host(address, port) as host:
            await (await host.submit(CANARIES[place].raw)).read()
    await hostile_bytes(Path(address.place))
    return spoken


async def lies(host: Host, chain: Chain) -> None:
    """Slices and bodies that must be refused, full of canaries."""
    name = {place: CANARIES[place].raw for place in PLACES}
    elsewhere = Chain(Subnet(b"elsewhere", delegated=False), GATEWAY, seed=b"elsewhere")
    elsewhere.seal([name["unproven"]], NOW)
    header = SliceProof.parse(chain.proof(1, 1, NOW + 99)).headers[0]
    bent = Header(
        canister=name["header"][:29],
        height=header.height,
        parent=name["header"].ljust(32)[:32],
        beacon=name["header"].ljust(32)[:32],
        time_ns=1,
        first_id=0,
        count=1,
        request_root=name["header"].ljust(32)[:32],
    )
    for proof in (
        elsewhere.proof(1, 1, NOW + 99),
        SliceProof(name["certificate"], (header,)).encode(),
        SliceProof(SliceProof.parse(chain.proof(1, 1, NOW + 99)).certificate, (bent,)).encode(),
        cbor.encode([1, cbor.encode({name["certificate"]: name["certificate"]}), [name["header"]]]),
        cbor.encode([CANARIES["header"].text, CANARIES["header"].text]),
        name["certificate"],
    ):
        with pytest.raises(CellDeclined) as declined:
            await propose(host, proof)
        # A canister's id, and nothing else of a slice, is told back to who sent it.
        assert found(ALL, str(declined.value).encode()) in ([], [CANARIES["header"].text])
    for body in (
        elsewhere.body(1),
        name["body"],
        cbor.encode([1, [[0, name["body"][:29], 0, name["body"]]]]),
        cbor.encode([CANARIES["body"].text, [name["body"]]]),
        cbor.encode([1, [[0, b"\x04", CANARIES["body"].text, b""]]]),
        chain.body(1, misbehaviour=Misbehaviour.REQUEST_CHANGED),
    ):
        said = [say async for say in says(host, Supply(body))]
        assert found(ALL, repr(said).encode()) == []
    for item in (name["ask"], cbor.encode([CANARIES["ask"].text]), cbor.encode({CANARIES["ask"].text: 1})):
        await (await host.submit(item)).read()


async def hostile_bytes(path: Path) -> None:
    """Openings, greetings and frames that are none, on connections of their own."""
    wire, seeded = CANARIES["wire"].raw, random.Random(5)
    for opening in (b"CONNECT 5000\n", b"CONNECT 5002\n", CANARIES["opening"].raw + b"\n", b""):
        for data in (
            wire,
            b"\x08" + len(wire).to_bytes(3, "big") + bytes(4) + wire,
            b"\x01\x00\x00\x20" + wire * 4,
            b"\xff" + wire * 1000,
            seeded.randbytes(200) + wire,
        ):
            with suppress(ConnectionError):  # refused in the middle of what we said
                reader, writer = await asyncio.open_unix_connection(str(path))
                writer.write(opening + data)
                writer.write_eof()
                await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def test_nothing_of_a_prompt_or_answer_is_written(tmp_path: Path) -> None:
    with CellProcess(tmp_path, SUBNET, GATEWAY) as cell:
        spoken = asyncio.run(drive(cell.address))
        assert found_of_process(ALL, cell.process.pid) == []  # S10
        assert found_below(ALL, tmp_path) == []
        assert cell.stop() == 0
    # It was answered and refused, not merely ignored.
    answer = b"".join(say.words for say in spoken if isinstance(say, Piece))
    assert CANARIES["chat"].raw in answer
    receipts = [SignedReceipt.parse(say.receipt).receipt for say in spoken if isinstance(say, Answered)]
    assert [receipt.refused for receipt in receipts] == [False] + [True] * (len(payloads()) - 1)
    assert found(ALL, repr([say for say in spoken if not isinstance(say, Piece)]).encode()) == []  # S7
    assert len([event for event in cell.events if event["event"] == "refused"]) >= 20
    assert found(ALL, cell.output.encode()) == []
    assert found_below(ALL, tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell.toml"]


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
def test_a_cell_that_dies_leaves_no_core(tmp_path: Path, number: signal.Signals) -> None:
    """secrecy.md S9: with prompts in its memory, killed in the ways that make a core."""
    with CellProcess(tmp_path, SUBNET, GATEWAY) as cell:
        asyncio.run(drive(cell.address))
        assert cell.stop(number) == -number
    assert found(ALL, cell.output.encode()) == []
    assert found_below(ALL, tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell.sock", "cell.toml"]


def test_a_configuration_with_the_canary_in_it_is_refused_without_quoting(tmp_path: Path) -> None:
    text = CANARIES["config"].text
    for number, config in enumerate(
        (
            text,
            f"{text} = 1\n",
            f'gateway = "{text}"\nroot_key = "{text}"\nengine = "{text}"\n',
            f'gateway = "{text}',
            f'gateway = "aaaaa-aa"\nroot_key = "{text}"\nengine = "{text}"\n',
            f'gateway = "aaaaa-aa"\nroot_key = "{SUBNET.root_key.hex()}"\nengine = "{text}"\n',
        )
    ):
        path = tmp_path / f"{number}.toml"
        path.write_text(config)
        ended = subprocess.run(
            [sys.executable, "-m", "appliance", "--config", path.name, "--listen", "unix:cell.sock"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert found(ALL, ended.stdout + ended.stderr) == []


def anchorhold(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "anchorhold.command", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_the_demo_with_prompts_of_ones_own_shows_and_writes_none(tmp_path: Path) -> None:
    """secrecy.md S11: what the subnet and the cell do with them is on screen, they are not."""
    prompts = b"\n".join(CANARIES[place].raw for place in ("chat", "system", "tool"))
    ended = anchorhold(tmp_path, "demo", "--prompts", "-", "--folder", "out", stdin=prompts)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == b"audit: ok"
    assert found(ALL, ended.stdout + ended.stderr) == []
    assert found_below(ALL, tmp_path) == []
    assert (tmp_path / "out" / "cell.log").read_bytes()
    asked_for = anchorhold(tmp_path, "demo", "--prompts", "-", "--show", "--folder", "shown", stdin=prompts)
    assert found(ALL, asked_for.stdout) == [CANARIES[place].text for place in ("chat", "system", "tool")]
    assert found_below(ALL, tmp_path) == []


def test_host_feed_prints_words_only_when_asked(tmp_path: Path) -> None:
    """secrecy.md S11, with a slice of the gateway canister itself."""
    bench = Bench()
    ticket = bench.gateway.submit_chat(caller(1), chat("scripted-1", ("user", {"content": CANARIES["chat"].text})))
    assert ticket == 0
    bench.gateway.submit_sealed(caller(1), CANARIES["sealed"].raw)
    bench.gateway.seal_block(OWNER)
    found_slice = bench.gateway.proof_and_bodies(1)
    assert found_slice is not None
    slice_folder, cell_folder = tmp_path / "slice", tmp_path / "cell"
    slice_folder.mkdir()
    cell_folder.mkdir()
    (slice_folder / "proof").write_bytes(found_slice[0])
    (slice_folder / "body").write_bytes(found_slice[1][0])
    for words in ([], ["--words"]):
        with CellProcess(cell_folder, bench.subnet, GATEWAY) as cell:
            feeding = anchorhold(
                slice_folder, "host", "feed", "--proof", "proof", "--body", "body", *words, str(cell.address)
            )
            assert cell.stop() == 0
        assert feeding.returncode == 0, feeding.stderr
        assert found(ALL, cell.output.encode() + feeding.stderr) == []
        assert found_below(ALL, cell_folder) == []
        joined = b"".join(line.partition(b'"words": "')[2].partition(b'"')[0] for line in feeding.stdout.splitlines())
        if words:
            assert CANARIES["chat"].raw in joined
        else:
            assert found(ALL, feeding.stdout + joined) == []


@pytest.mark.parametrize("form", range(len(list(ALL[0].forms()))))
def test_the_search_finds_what_is_there(tmp_path: Path, form: int) -> None:
    """secrecy.md S12: planted in each form in a copy of what a cell writes."""
    log = tmp_path / "cell.log"
    log.write_bytes(b'{"event": "serving"}\n')
    assert found_below(ALL, tmp_path) == []
    planted = tmp_path / "copy"
    planted.mkdir()
    shutil.copy(log, planted)
    with (planted / "cell.log").open("ab") as appended:
        appended.write(b'{"text": "' + list(CANARIES["chat"].forms())[form] + b'"}\n')
    assert found_below(ALL, tmp_path) == [(str(planted / "cell.log"), CANARIES["chat"].text)]


def test_the_search_finds_it_in_base64_of_something_longer_and_in_names(tmp_path: Path) -> None:
    for before in range(3):
        assert CANARIES["chat"].found_in(base64.b64encode(bytes(before) + CANARIES["chat"].raw + b"after"))
    (tmp_path / CANARIES["wire"].text).touch()
    assert found_below(ALL, tmp_path) == [(str(tmp_path / CANARIES["wire"].text), CANARIES["wire"].text)]


def test_the_search_sees_a_process(tmp_path: Path) -> None:
    """A command line or an environment that held it would be seen."""
    text = CANARIES["chat"].text
    for arguments, extra in ([text], {}), ([], {"WORDS": text}):
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **extra},
            cwd=tmp_path,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it runs: the kernel shows it whole
            assert found_of_process(ALL, process.pid) == [text]
            process.communicate()


def test_a_log_that_did_quote_would_be_seen(tmp_path: Path) -> None:
    """The whole way: a cell whose refusals were logged with their text would fail the first test here."""
    code = (
        "import structlog; from foundation import logs; logs.set_up()\n"
        f"structlog.get_logger().warning('refused', text='expected x, got {CANARIES['body'].text}')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert found(ALL, ended.stderr) == [CANARIES["body"].text]


def test_a_position_says_nothing_of_what_was_asked(tmp_path: Path) -> None:
    with CellProcess(tmp_path, SUBNET, GATEWAY) as cell:
        asyncio.run(drive(cell.address))

        async def look() -> bytes:
            async with Host(cell.address, Port.STREAM) as host, Host(cell.address, Port.OBSERVE) as observer:
                stands = repr(await standing(host)).encode()
                return stands + await observer.ask(b"health") + await observer.ask(b"metrics")

        assert found(ALL, asyncio.run(look())) == []
