"""answer.md A1, window.md N9, receipt.md T8: however many cells, whenever started and however fed, one set of bytes.

Each cell is a process of its own, released to by one broker, and sees the same chain through its own host: other slice
boundaries, cut lines, kills and restarts that join it at another height. What comes out is compared byte by byte. By
default a few cells and prompts; `ANCHORHOLD_CELLS=13 ANCHORHOLD_PROMPTS=200` is the whole of it (`make test-cells`).
The engine is the fixed one over the little model, proven by its profile in each cell; where no kernels were built, and
with `ANCHORHOLD_ENGINE=scripted-1`, it is the scripted one.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anchorhold.client import Expected, Question, Service, Taken, chat
from anchorhold.command import main
from anchorhold.host.answer_reports import AnswerCollector, CompletedAnswer
from anchorhold.host.slice_feed import evidence, feed, propose, says
from appliance.engine.fixed.library import PATH
from appliance.engine.profile import FILE, digest_of
from appliance.key_release import State
from appliance.serving.window import Answered, Declined, Standing, Supply
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import Sampling
from attestation.consensus.principal import to_text
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyUse
from attestation.receipts.checkpoint import SignedCheckpoint
from attestation.sealed.request import Mode
from devnet import little_model
from devnet.chain import CALLER, Chain
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.demo.run import CONFIG, PRICE
from devnet.subnet import GATEWAY, Subnet
from tests.cell_process import environment
from tests.switches import ENGINE as ENGINE_SWITCH
from tests.switches import sized
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

CELLS = sized("ANCHORHOLD_CELLS")
PROMPTS = sized("ANCHORHOLD_PROMPTS")
ENGINE = os.environ.get(ENGINE_SWITCH, "fixed-1" if PATH.is_file() else "scripted-1")
TEMPERATURES = (0, 700_000, 1_000_000)
AT_ONCE = 3
NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"thirteen cells", delegated=False)
Place = tuple[int, int]


@dataclass
class Asked:
    """The chain, and what an app keeps to open what comes of it. A None was no request at all."""

    chain: Chain
    questions: dict[Place, Question | None]

    @classmethod
    def make(cls, owner: KeyOwner, source: random.Random) -> Asked:
        service, chain = owner.service(GATEWAY), Chain(SUBNET, GATEWAY, seed=b"thirteen")
        questions: dict[Place, Question | None] = {}
        done = 0
        while done < PROMPTS:
            size = min(source.randint(1, 9), PROMPTS - done)
            payloads = []
            for index, number in enumerate(range(done, done + size)):
                question = _question(service, owner.identity.name, number)
                questions[chain.height + 1, index] = question
                payloads.append(b"sealed to nobody" if question is None else question.payload)
            chain.seal(payloads, NOW + chain.height, kind=Kind.SEALED)
            done += size
        return cls(chain, questions)


def _question(service: Service, model: str, number: int) -> Question | None:
    if number % 20 == 19:
        return None
    sampling = Sampling(temperature_micro=TEMPERATURES[number % 3], max_tokens=8 * (1 + number % 9))
    words = f"Prompt {number} of {PROMPTS}: " + "say this back in the order it was asked. " * (number % 4)
    return service.ask(
        chat(model, words, sampling=sampling),
        expiry=5000 if number % 11 else 1,
        mode=Mode(number % 2),
        caller=CALLER if number % 5 else None,
    )


@dataclass
class Running:
    """One cell process, and what it said about each place."""

    folder: Path
    owner: KeyOwner
    told: dict[Place, CompletedAnswer] = field(default_factory=dict)
    keys: dict[Place, bytes] = field(default_factory=dict)
    boots: int = 0

    @property
    def address(self) -> Address:
        return Address.parse(f"unix:{self.folder}/cell.sock")

    @asynccontextmanager
    async def boot(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Started, released to, its model open: ready for a first proof."""
        self.boots += 1
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "devnet.cell",
            "--config",
            str(self.folder.parent / "cell.toml"),
            "--listen",
            str(self.address),
            *self.owner.cell_arguments(),
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        try:
            await _until(process, "serving")
            standing, denials = await self.owner.carry(self.address)
            assert (standing.state, denials) == (State.HAS_KEY, [])
            await _until(process, "model open")
            async with Host(self.address, Port.OBSERVE) as host:
                key = EvidenceBundle.parse(await evidence(host, bytes(32))).keyset.key(KeyUse.RECEIPT)
            assert key is not None
            self.key = key.raw
            reading = asyncio.create_task(_drained(process))
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await reading

    def hear(self, told: CompletedAnswer) -> None:
        """What a cell says twice, before and after a restart, it says alike; each boot under its own key."""
        told.signed.verify(self.key)
        before = self.told.setdefault(told.place, told)
        assert (before.answer, before.signed.body) == (told.answer, told.signed.body)
        self.keys.setdefault(told.place, self.key)

    async def live(self, chain: Chain, source: random.Random) -> None:
        """From a first boot to the chain's end, with one kill or stop on the way."""
        ends = sorted({source.randint(1, chain.height), chain.height})
        begin = 1
        for end in ends:
            async with self.boot() as process:
                await self._follow(chain, begin, end, source)
                process.send_signal(source.choice([signal.SIGKILL, signal.SIGTERM]))
                await process.wait()
            begin = source.randint(1, end)  # joined lower: what was answered is answered again

    async def _follow(self, chain: Chain, begin: int, end: int, source: random.Random) -> None:
        collector, height = AnswerCollector(), begin
        async with Host(self.address, Port.STREAM) as host:
            while height <= end:
                last = source.randint(height, end)
                first = source.randint(begin, height)
                bodies = {each: chain.body(each) for each in range(height, last + 1)}
                cut = source.randint(1, 30)
                async for say in feed(host, chain.proof(first, last, NOW + 10**6 + last), bodies):
                    told = collector.add(say)
                    if told is not None:
                        self.hear(told)
                    cut -= 1
                    if cut == 0:
                        host.cut()
                height = last + 1
        sizes = [SignedCheckpoint.parse(note).verify(self.key).size for note in collector.notes]
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == len(collector.answers)


async def _until(process: asyncio.subprocess.Process, event: str) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"the cell ended without saying {event!r}")


async def _drained(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    await process.stderr.read()


async def lives(folder: Path, owner: KeyOwner, asked: Asked) -> list[Running]:
    cells = []
    for number in range(CELLS):
        (folder / f"{number}").mkdir()
        cells.append(Running(folder / f"{number}", owner))
    room = asyncio.Semaphore(AT_ONCE)  # so they start at different times, each when another has ended

    async def one(number: int, cell: Running) -> None:
        async with room:
            await cell.live(asked.chain, random.Random(f"cell {number}"))

    await asyncio.gather(*(one(number, cell) for number, cell in enumerate(cells)))
    return cells


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little model; for the fixed engine with a profile that was made of it."""
    folder = tmp_path_factory.mktemp("cells") / "model"
    little_model.write(folder)
    if ENGINE == "fixed-1":
        assert main(["engine", "profile", str(folder), "--tokens", "8"]) == 0
    return folder


@contextmanager
def owned(folder: Path, model: Path) -> Iterator[KeyOwner]:
    """A broker that gives its keys to cells of one configuration, which lies in `folder`."""
    with key_owner(folder, lambda place: shutil.copytree(model, place)) as owner:
        engine = f'engine = "{ENGINE}"'
        if ENGINE == "fixed-1":
            engine += f'\nprofile = "{digest_of((model / FILE).read_bytes()).hex()}"'
        config = CONFIG.format(gateway=to_text(GATEWAY), root_key=SUBNET.root_key.hex(), price=PRICE, engine=engine)
        config = config.replace("plaintext = true", "plaintext = false")
        (folder / "cell.toml").write_text(config + owner.config_section())
        owner.approve((folder / "cell.toml").read_bytes())
        yield owner


@pytest.mark.sized
@pytest.mark.slow
def test_one_set_of_frames_and_receipts(tmp_path: Path, model: Path) -> None:
    with owned(tmp_path, model) as owner:
        asked = Asked.make(owner, random.Random("thirteen"))
        cells = asyncio.run(lives(tmp_path, owner, asked))
    places = set(asked.questions)
    assert len(places) == PROMPTS
    for cell in cells:
        assert set(cell.told) == places
        assert cell.boots in (1, 2)
    for place in places:
        assert len({cell.told[place].answer.reveal() for cell in cells}) == 1
        assert len({cell.told[place].signed.body for cell in cells}) == 1
        assert len({cell.keys[place] for cell in cells}) == CELLS  # and under as many keys
    _open_all(asked, cells[0])
    assert all(cell.told[place].signed.receipt.by.model_root == owner.identity.model_root for place in places)


def _open_all(asked: Asked, cell: Running) -> None:
    """Every answer opens for who asked; what was no request, or too late, has the receipt of a refusal."""
    finishes: dict[object, int] = {}
    for (height, index), question in asked.questions.items():
        told = cell.told[height, index]
        receipt = told.signed.receipt
        if question is not None:
            taken = Taken(height, index, receipt.id, told.answer.reveal(), told.signed.body, told.signed.signature)
            answer = question.open(taken, cell.keys[height, index], Expected(price=PRICE), caller=CALLER)
            assert answer.refused or answer.opening is not None
        finishes[receipt.finish] = finishes.get(receipt.finish, 0) + 1
    assert finishes["sealed.format"] == PROMPTS // 20
    assert set(finishes) == {255, "sealed.format", "sealed.expired"}


def test_a_cell_that_was_asked_twice_answers_once(tmp_path: Path, model: Path) -> None:
    """window.md N8: the same body from another host says where the cell stands, and makes no second receipt."""

    async def work(owner: KeyOwner) -> None:
        asked = Asked.make(owner, random.Random("twice"))
        (tmp_path / "0").mkdir()
        cell = Running(tmp_path / "0", owner)
        async with cell.boot(), Host(cell.address, Port.STREAM) as host, Host(cell.address, Port.STREAM) as other:
            await propose(host, asked.chain.proof(1, 1, NOW + 10**6))
            first = [say async for say in says(host, Supply(asked.chain.body(1)))]
            again = [say async for say in says(other, Supply(asked.chain.body(1)))]
        assert sum(isinstance(say, Answered) for say in first) == len(asked.chain.blocks[0].requests)
        assert [type(say) for say in again] == [Standing]
        assert not any(isinstance(say, Declined) for say in first)

    with owned(tmp_path, model) as owner:
        asyncio.run(work(owner))
