"""secrecy.md S12, S13: a sealed prompt and its answer are on no disk of a host, in no log, in nothing it was told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anchorhold.client import Expected, Mode, Question, Taken, chat
from anchorhold.host.answer_reports import AnswerCollector
from anchorhold.host.receipt_log import ReceiptLog
from anchorhold.host.slice_feed import feed, standing
from appliance.serving.window import Checkpoint, Say
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import Sampling
from attestation.consensus.principal import to_text
from attestation.receipts.outcome import Finish
from devnet.chain import CALLER, Chain
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.demo.run import CONFIG, PRICE
from devnet.model import TinyModel
from devnet.subnet import GATEWAY, Subnet
from foundation.secrecy import Prompt
from tests.canary import Canary, found, found_below
from tests.e2e.test_cells_agree import Running
from vsock_bridge.host import Host
from vsock_bridge.messages import Data, Message
from vsock_bridge.ports import Port

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"sealed canary", delegated=False)
ASKED = [Canary(f"CANARYSEALED{number}4B7D19E2F0") for number in range(4)]
STOP = Canary("CANARYSTOPTEXT5C2A90")
CANARIES = [*ASKED, STOP]


async def host(folder: Path, owner: KeyOwner, questions: list[Question]) -> tuple[AnswerCollector, bytes, bytes]:
    """What an honest, curious host does: keeps every byte it carries in either direction, and every log there is."""
    chain = Chain(SUBNET, GATEWAY, seed=b"canary")
    for question in questions:
        chain.seal(
            [question.payload, chat(owner.identity.name, "plain and not hidden").encode()],
            NOW + chain.height,
            kind=Kind.SEALED,
        )
    cell, collector = Running(folder, owner), AnswerCollector()
    wire = bytearray()

    def tap(outgoing: bool, message: Message) -> None:
        if isinstance(message, Data):
            wire.extend(message.payload)

    async with cell.boot() as process:
        log = ReceiptLog.open(folder / "receipts.log", cell.key)
        async with (
            Host(cell.address, Port.STREAM, tap=tap) as stream,
            Host(cell.address, Port.OBSERVE, tap=tap) as observer,
        ):
            bodies = {height: chain.body(height) for height in range(1, chain.height + 1)}
            (folder / "proof").write_bytes(chain.proof(1, chain.height, NOW + 10**6))
            for height, body in bodies.items():
                (folder / f"body-{height}").write_bytes(body)
            async for say in feed(stream, (folder / "proof").read_bytes(), bodies):
                kept(say, collector, log)
            for item in (b"health", b"metrics", b"identity:" + bytes(32)):
                wire.extend(await observer.ask(item))
            assert (await standing(stream)).height == chain.height
        log.close()
        process.terminate()
        assert process.stderr is not None
        await process.wait()
    (folder / "wire").write_bytes(wire)
    for (height, index), told in collector.answers.items():
        report = told.report()
        (folder / f"report-{height}-{index}").write_bytes(report.answer + report.receipt + report.signature)
    return collector, bytes(wire), cell.key


def kept(say: Say, collector: AnswerCollector, log: ReceiptLog) -> None:
    if (told := collector.add(say)) is not None:
        log.append(told.raw)
    if isinstance(say, Checkpoint):
        log.checkpoint(say.note)


@pytest.mark.slow
def test_a_sealed_prompt_and_its_answer_are_the_clients_alone(tmp_path: Path) -> None:
    """secrecy.md S13"""
    (tmp_path / "host").mkdir()
    with key_owner(tmp_path, TinyModel().write) as owner:
        engine = 'engine = "scripted-1"'
        config = CONFIG.format(gateway=to_text(GATEWAY), root_key=SUBNET.root_key.hex(), price=PRICE, engine=engine)
        (tmp_path / "cell.toml").write_text(config + owner.config_section())
        owner.approve((tmp_path / "cell.toml").read_bytes())
        service = owner.service(GATEWAY)
        questions = [
            service.ask(
                chat(owner.identity.name, canary.text, system=canary.text, sampling=Sampling(stop=(Prompt(STOP.raw),))),
                expiry=100,
                mode=Mode(number % 2),
                caller=CALLER,
            )
            for number, canary in enumerate(ASKED)
        ]
        collector, wire, key = asyncio.run(host(tmp_path / "host", owner, questions))
    assert len(wire) > 20 * 146
    assert wire.count(b"plain and not hidden") == len(ASKED)  # what was not sealed is there to be seen
    assert found(CANARIES, wire) == []
    assert found_below(CANARIES, tmp_path) == []
    seeds = [each.key.secret.reveal() for each in owner.ring.keys]
    secrets = [*seeds, *(question.reply_key.reveal() for question in questions)]
    for path in tmp_path.rglob("*"):
        raw = path.read_bytes() if path.is_file() else b""
        assert not any(secret in raw or secret.hex().encode() in raw.lower() for secret in secrets), path
    # It was answered all the same: whoever asked reads it back, and nobody's stop text was met.
    for number, question in enumerate(questions):
        told = collector.answers[number + 1, 0]
        of = told.signed.receipt
        taken = Taken(of.height, of.index, of.id, told.answer.reveal(), told.signed.body, told.signed.signature)
        answer = question.open(taken, key, Expected(price=PRICE), caller=CALLER)
        assert ASKED[number].raw in answer.words.reveal()
        assert answer.finish is Finish.STOP
        assert repr(answer).find(ASKED[number].text) == -1


def test_the_search_would_see_a_plain_one(tmp_path: Path) -> None:
    """secrecy.md S12: the same folder with one payload that was not sealed."""
    (tmp_path / "body").write_bytes(chat("tiny", ASKED[0].text).encode())
    assert found_below(CANARIES, tmp_path) == [(str(tmp_path / "body"), ASKED[0].text)]
