"""The main job on one machine: prompts through the gateway, proven to a cell, answered once.

Two processes: this one plays the subnet, the apps and the host; the cell is `python -m devnet.cell`, started here and
reached over the hybrid Unix socket alone. Only the roots differ from production: the subnet is the devnet's, and
so is the TEE.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from anchorhold.client import Expected, Question, Service, Taken, open_plain
from anchorhold.client import chat as chat_request
from anchorhold.host.answer_reports import AnswerCollector, ReportRefused, deliver
from anchorhold.host.gateway_client import Answered, chat
from anchorhold.host.receipt_log import ReceiptLog
from anchorhold.host.slice_feed import CellDeclined, evidence, feed, propose, standing
from appliance.key_release import State
from appliance.serving.window import Checkpoint, Piece
from attestation.auditor.audit_bundle import audit_nonce
from attestation.consensus.blocks import Kind
from attestation.consensus.certificate import parse_certificate, verify_certificate
from attestation.consensus.principal import to_text
from attestation.consensus.refusals import ConsensusRefused
from attestation.consensus.roots import MAINNET_ROOT_KEY
from attestation.consensus.slices import SliceProof
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyUse
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.price import PriceSchedule
from attestation.sealed.errors import AnswerRefused
from attestation.sealed.frames import FRAME_BYTES
from devnet.cell_process import CellEnded, started
from devnet.demo.audit import BUNDLE, PAGE, ROOTS, Kept, audit_in, bundle_of, replay_of, roots_of
from devnet.demo.engines import Choice, EngineAbsent
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.demo.screen import Screen
from devnet.gateway import Gateway
from devnet.subnet import GATEWAY, Subnet
from foundation import private_files
from foundation.secrecy import Prompt
from vsock_bridge.errors import BridgeError
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

OPERATOR: Final = bytes.fromhex("00000000fff0000a0101")
CALLERS: Final = tuple(bytes.fromhex(f"00000000fff000{number:02x}0101") for number in (0x11, 0x12, 0x13))
PROMPTS: Final = (
    "What is an anchorhold?",
    "Who may look through the window?",
    "Say this back in the order it was asked.",
    "Does the host know where the cell stands?",
    "What is a beacon drawn after the prompts good for?",
    "And what if the line is cut?",
)
AFTER_UPGRADE: Final = ("Is the chain still the same chain?",)
SEALED_FOR_BLOCKS: Final = 100
PRICE: Final = PriceSchedule(request=1_000_000, token_in=2_000, token_out=10_000)
CONFIG: Final = """\
gateway = "{gateway}"
root_key = "{root_key}"
{engine}
plaintext = true

[price]
request = {price.request}
token_in = {price.token_in}
token_out = {price.token_out}
"""


class DemoFailed(Exception):
    """Something that must hold did not: the demo is also a check."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an app holds until its answer is there: in the clear the payload, sealed the question."""

    caller: bytes
    number: int
    prompt: Prompt
    asked: bytes | Question = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """A prompt with its answer, as the app has them that asked."""

    place: str
    prompt: bytes = field(repr=False)
    words: bytes = field(repr=False)
    sealed: bool
    refused: str


class ServedCell(Protocol):
    """A cell whose window answers, wherever it runs."""

    @property
    def address(self) -> Address: ...

    async def model_open(self) -> None:
        """Until it has its key and has opened its model."""


class Demo:
    def __init__(self, folder: Path, prompts: Sequence[Prompt], screen: Screen, engine: Choice = Choice.FIXED) -> None:
        self._folder: Final = folder
        self._engine: Final = engine
        self._prompts: Final = prompts
        self._screen: Final = screen
        self._subnet: Final = Subnet(secrets.token_bytes(16))
        self._gateway: Final = Gateway.on_subnet(
            self._subnet,
            clock=time.time_ns,
            randomness=lambda: secrets.token_bytes(32),
            controllers=frozenset({OPERATOR}),
        )
        self._gateway.set_reporters(OPERATOR, [OPERATOR])
        self._tickets: Final[list[Ticket]] = []
        self._collector: Final = AnswerCollector()
        self._receipt_key = b""

    async def run(self) -> None:
        self._screen.say("A subnet, a host, a broker and a cell on this machine; the subnet and the TEE are simulated.")
        private_files.folder(self._folder)
        with key_owner(self._folder, self._engine.write_model) as owner:
            await self._serve(owner)

    async def _serve(self, owner: KeyOwner) -> None:
        tell = self._screen.tell
        tell("built", f"{packed(owner)}; a broker keeps its key")
        async with self._cell(owner) as cell, open_host(cell.address, self._screen) as host:
            tell("started", f"a cell without a key, a process of its own; its log is {self._folder / 'cell.log'}")
            await self._release(owner, cell, host)
            log = await self._meet(cell.address)
            service = owner.service(GATEWAY)
            half = (len(self._prompts) + 1) // 2
            for prompts in (self._prompts[:half], self._prompts[half:]):
                self._ask(prompts, service, owner.identity.name)
                through = self._seal()
            tell("ordered", f"{self._asked()}, in {through} blocks of the gateway canister; the subnet certified them")
            was_cut = await self._carry(host, 1, log, cut=True)
            tell("answered", f"{self._answered()}")
            if was_cut:
                tell("answered", "the line was cut in the middle of an answer: nothing was lost, nothing said twice")
            await self._lie(host)
            self._gateway.upgrade()
            after = [Prompt(words.encode()) for words in AFTER_UPGRADE]
            self._ask(after, service, owner.identity.name)
            through = self._seal()
            await self._carry(host, (await standing(host)).height + 1, log, cut=False)
            tell("upgraded", f"the gateway canister; its chain goes on with block {through}, which the cell answered")
            self._deliver()
            self._check_certificate()
            await self._audit(owner, cell.address, log)
            log.close()
        asked, answered = len(self._tickets), len(self._collector.answers)
        if asked != answered:
            raise DemoFailed(f"{asked} prompts were asked and {answered} were answered")
        self._screen.say(f"demo: ok ({asked} prompts ordered by the devnet's subnet, proven, answered once each)")
        self._screen.say("audit: ok")

    # -- the players

    async def _release(self, owner: KeyOwner, cell: ServedCell, host: Host) -> None:
        """Denied before the configuration is approved, granted after; the cell serves only with its model open."""
        tell = self._screen.tell
        standing_, denials = await owner.carry(cell.address)
        if standing_.state is not State.NEEDS_KEY or not denials:
            raise DemoFailed(f"a cell nobody approved stands at {standing_.state.value}")
        tell("proven", f"genuine evidence of a configuration that nobody approved: denied, {denials[-1]}")
        try:
            await propose(host, b"")
        except CellDeclined as declined:
            tell("proven", f"prompts for the cell meanwhile: declined, {declined.code}")
        else:
            raise DemoFailed("a cell without its model took a proof")
        owner.approve((self._folder / "cell.toml").read_bytes())
        standing_, _ = await owner.carry(cell.address)
        if standing_.state is not State.HAS_KEY:
            raise DemoFailed(f"the approved cell stands at {standing_.state.value}: {standing_.failure}")
        await cell.model_open()
        entries = owner.entries()  # each signed and linked to the one before, or it raises
        tell(
            "proven",
            f"approved: the broker seals the key to this cell, which opens the pack; {entries} decisions logged",
        )

    @asynccontextmanager
    async def _cell(self, owner: KeyOwner) -> AsyncIterator[ServedCell]:
        config, socket, log = (self._folder / name for name in ("cell.toml", "cell.sock", "cell.log"))
        config.write_text(
            CONFIG.format(
                gateway=to_text(GATEWAY),
                root_key=self._subnet.root_key.hex(),
                price=PRICE,
                engine=self._engine.lines(self._folder / "model"),
            )
            + owner.config_section()
        )
        private_files.replace(log, b"")
        async with started(config, socket, log, owner.cell_arguments()) as cell:
            try:
                await cell.serving()
            except CellEnded:
                raise DemoFailed(f"the cell did not start; see {log}") from None
            yield cell

    async def _meet(self, address: Address) -> ReceiptLog:
        """The cell's evidence, kept for an auditor; its receipt key, and the log of what is signed with it."""
        async with Host(address, Port.OBSERVE) as host:
            raw = await evidence(host, secrets.token_bytes(32))
        (self._folder / "identity.evidence").write_bytes(raw)
        key = EvidenceBundle.parse(raw).keyset.key(KeyUse.RECEIPT)
        if key is None:
            raise DemoFailed("the cell has no receipt key")
        self._receipt_key = key.raw
        path = self._folder / "receipts.log"
        path.unlink(missing_ok=True)
        return ReceiptLog.open(path, key.raw)

    def _ask(self, prompts: Sequence[Prompt], service: Service, model: str) -> None:
        for number, prompt in enumerate(prompts):
            caller = CALLERS[number % len(CALLERS)]
            words = prompt.reveal().decode()
            if number % 2:
                expiry = self._gateway.status()["head_height"] + SEALED_FOR_BLOCKS
                question = service.ask(chat_request(model, words), expiry=expiry, caller=caller)
                ticket = self._gateway.submit_sealed(caller, question.payload)
                self._tickets.append(Ticket(caller, ticket, prompt, question))
            else:
                ticket = self._gateway.submit_chat(caller, chat(model, ("user", {"content": words})))
                self._tickets.append(Ticket(caller, ticket, prompt, chat_request(model, words).encode()))

    def _seal(self) -> int:
        """The height of the new block."""
        block = self._gateway.seal_block(OPERATOR)
        if block is None:
            raise DemoFailed("the gateway had nothing to seal")
        return block.height

    def _asked(self) -> str:
        sealed = sum(isinstance(ticket.asked, Question) for ticket in self._tickets)
        return f"{len(self._tickets)} prompts, {sealed} of them sealed"

    def _answered(self) -> str:
        """What the host sees of the answers."""
        told = self._collector.answers.values()
        sealed = [len(each.answer.reveal()) for each in told if each.signed.receipt.kind is Kind.SEALED]
        frames = f"{sum(sealed) // FRAME_BYTES} sealed frames of {FRAME_BYTES} B"
        return f"{len(told)} prompts; the host sees {len(sealed)} of the answers as {frames}"

    # -- the host

    async def _carry(self, host: Host, from_height: int, log: ReceiptLog, *, cut: bool) -> bool:
        """Through the window, proof first. Whether the line was cut: `cut` asks for it, once an answer has begun."""
        found = self._gateway.proof_and_bodies(from_height)
        if found is None:
            raise DemoFailed(f"the gateway has nothing from height {from_height}")
        proof, bodies = found
        was_cut = False
        async for said in feed(host, proof, {from_height + number: body for number, body in enumerate(bodies)}):
            if (told := self._collector.add(said)) is not None:
                log.append(told.raw)
            if isinstance(said, Checkpoint):
                log.checkpoint(said.note)
            if cut and not was_cut and isinstance(said, Piece):
                was_cut = True
                host.cut()
        return was_cut

    async def _lie(self, host: Host) -> None:
        found = self._gateway.proof_and_bodies(1)
        proof = found[0] if found else b""
        judged = await propose(host, proof)
        if judged.step not in ("current", "stale"):
            raise DemoFailed(f"the same slice again was {judged.step}")
        self._screen.tell("tampered", f"the same blocks again: {judged.step}, nothing runs twice")
        honest = SliceProof.parse(proof)
        flipped = bytearray(honest.certificate)
        flipped[len(flipped) // 2] ^= 1
        certified = verify_certificate(
            parse_certificate(honest.certificate), root_key=self._subnet.root_key, canister=GATEWAY
        ).certified_data()
        forger = Subnet(b"another root").certify(GATEWAY, certified, time.time_ns())
        for what, lie in {
            "one bit of the certificate": SliceProof(bytes(flipped), honest.headers, honest.tree),
            "a certificate under another root": SliceProof(forger, honest.headers, honest.tree),
            "the blocks without the last one": SliceProof(honest.certificate, honest.headers[:-1], honest.tree),
        }.items():
            try:
                await propose(host, lie.encode())
            except CellDeclined as declined:
                self._screen.tell("tampered", f"{what}: declined, {declined.code}")
            else:
                raise DemoFailed(f"the cell believed {what}")

    def _deliver(self) -> None:
        delivered = deliver(self._collector.answers.values(), partial(self._gateway.report_answer, OPERATOR))
        if missing := [str(each) for each in delivered if each.outcome != "recorded"]:
            raise DemoFailed(f"expected the gateway to take every answer, got {'; '.join(missing)}")
        opened = [self._open(ticket) for ticket in self._tickets]
        sealed = [one for one in opened if one.sealed]
        plain = [one for one in opened if not one.sealed]
        tell = self._screen.tell
        only = f"{len(sealed)} could be opened by nobody else"
        tell("returned", f"{len(opened)} answers, each to who asked; {only}; every receipt holds")
        for one in opened if self._screen.every else [*plain[:1], *sealed[:1]] if self._screen.words else []:
            how, text = "sealed" if one.sealed else "plain", self._screen.text
            tell("returned", f"{one.place} {how}: {text(one.prompt)} {one.refused or text(one.words)}")

    def _open(self, ticket: Ticket) -> Opened:
        """The app's own check: the receipt, signed by the cell's key, says these bytes answered this request."""
        found = self._gateway.take_answer(ticket.caller, ticket.number)
        if not isinstance(found, Answered):
            raise DemoFailed(f"ticket {ticket.number} has no answer")
        at, (_, signature) = found.position, found.signatures[0]
        taken = Taken(at.height, at.index, at.id, found.answer, found.receipt, signature)
        expected, place, prompt = Expected(price=PRICE), f"{at.height}/{at.index}", ticket.prompt.reveal()
        receipt = self._collector.answers[at.height, at.index].signed.receipt
        refused = str(receipt.finish) if receipt.refused else ""
        if isinstance(ticket.asked, Question):
            answer = ticket.asked.open(taken, self._receipt_key, expected, caller=ticket.caller)
            return Opened(place, prompt, answer.words.reveal(), sealed=True, refused=refused)
        open_plain(taken, self._receipt_key, expected, gateway=GATEWAY, caller=ticket.caller, payload=ticket.asked)
        return Opened(place, prompt, found.answer, sealed=False, refused=refused)

    def _check_certificate(self) -> None:
        certificate = self._gateway.get_slice(1).certificate or b""
        path = self._folder / "head.cert"
        path.write_bytes(certificate)
        verify_certificate(parse_certificate(certificate), root_key=self._subnet.root_key, canister=GATEWAY)
        try:
            verify_certificate(parse_certificate(certificate), root_key=MAINNET_ROOT_KEY, canister=GATEWAY)
        except ConsensusRefused as refusal:
            line = f"{path} holds under the devnet's root; the mainnet's refuses it, {refusal.code}"
            self._screen.tell("certified", line)
        else:
            raise DemoFailed("the mainnet's root vouched for the devnet")

    async def _audit(self, owner: KeyOwner, address: Address, log: ReceiptLog) -> None:
        """The host fills the bundle; what checks it has nothing but the file and a devnet's roots."""
        found = self._gateway.proof_and_bodies(1)
        if found is None:
            raise DemoFailed("the gateway has no chain")
        proof, bodies = found
        head = SliceProof.parse(proof).headers[-1]
        async with Host(address, Port.OBSERVE) as host:
            raw = await evidence(host, audit_nonce(head.link()))
        kept = Kept(
            (self._folder / "cell.toml").read_bytes(),
            proof,
            bodies,
            raw,
            log.signed,
            log.notes,
            self._collector.answers,
        )
        bundle = bundle_of(kept, owner.broker.store, owner.tee)
        done = audit_in(self._folder, bundle, roots_of(self._subnet.root_key, owner.tee))
        if not done.report.ok:
            raise DemoFailed(f"the audit refused: {done.report.failed[0].code}: {done.report.failed[0].got}")
        tell = self._screen.tell
        tell("audited", f"{done.held} checks held, none failed; the page for people is {self._folder / PAGE}")
        if done.tampered.ok:
            raise DemoFailed("a tampered copy of the bundle passed")
        with owner.opened() as model:
            again = replay_of(kept, bundle, owner.ring, model)
        tell("audited", self._engine.replayed(again))
        tell("audited", f"one bit of a receipt turned: refused, {done.tampered.failed[0].code}")
        tell("audited", f"again by hand: anchorhold audit {self._folder / BUNDLE} --devnet {self._folder / ROOTS}")


def packed(owner: KeyOwner) -> str:
    """What the owner of the model made of it."""
    return f"the model {owner.identity.name}, sealed into {owner.pack}, {owner.pack.stat().st_size} B"


@asynccontextmanager
async def open_host(address: Address, screen: Screen) -> AsyncIterator[Host]:
    async with Host(address, Port.STREAM, tap=screen.frame) as host:
        yield host


def run(folder: Path, prompts: Sequence[Prompt], screen: Screen, engine: Choice = Choice.FIXED) -> int:
    """0 when all held, 2 with the reason when something did not."""
    try:
        engine.check_installed()
        asyncio.run(Demo(folder, prompts, screen, engine).run())
    except (
        EngineAbsent,
        DemoFailed,
        CellEnded,
        CellDeclined,
        BridgeError,
        ReportRefused,
        ReceiptRefused,
        AnswerRefused,
    ) as reason:
        print(f"demo: failed: {reason}", file=sys.stderr)
        return 2
    return 0
