"""The main job on one machine: prompts through the gateway, proven to a cell, answered once.

Two processes: this one plays the subnet, the apps and the host; the cell is `python -m devnet.cell`, started here and
reached over the hybrid Unix socket alone. Only the roots differ from production: the subnet is the devnet's, and
so is the TEE.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from anchorhold.client import Expected, Question, Service, Taken, open_plain
from anchorhold.client import chat as chat_request
from anchorhold.host.answer_reports import Hearing, ReportRefused, deliver
from anchorhold.host.receipt_log import ReceiptLog
from anchorhold.host.slice_feed import CellDeclined, evidence, feed, propose, standing
from appliance.key_release import State
from appliance.serving.window import Checkpoint, Judged, Piece
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
from devnet.cell_process import CellEnded, CellProcess, started
from devnet.demo.audit import BUNDLE, PAGE, ROOTS, Kept, audit_in, bundle_of, replay_of, roots_of
from devnet.demo.engines import Choice, EngineAbsent
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.gateway import Answered, Gateway, chat
from devnet.subnet import GATEWAY, Subnet
from foundation import private_files
from foundation.secrecy import Prompt
from vsock_bridge.errors import BridgeError
from vsock_bridge.host import Host
from vsock_bridge.messages import Data, Message
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
FRAMES_SHOWN_MAX: Final = 14
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


@dataclass
class Screen:
    """Where the demo says what it does. `words` decides whether prompts and answers are among it."""

    out: TextIO
    words: bool
    frames_left: int = 0
    _step: int = 0

    def step(self, title: str) -> None:
        self._step += 1
        self.say(f"\n{self._step}. {title}")

    def say(self, line: str) -> None:
        try:
            print(line, file=self.out, flush=True)
        except BrokenPipeError:  # whoever watched has seen enough; the demo is still a check
            self.out = open(os.devnull, "w")  # noqa: PTH123, SIM115  # for the rest of the process

    def frame(self, outgoing: bool, message: Message) -> None:
        """One frame on the wire. A payload has no rendering; its size has."""
        if self.frames_left <= 0:
            return
        self.frames_left -= 1
        size = f" {len(message.payload)} B" if isinstance(message, Data) else ""
        self.say(f"     {'host -> cell' if outgoing else 'cell -> host'}  {_short(message)}{size}")

    def text(self, words: bytes) -> str:
        return repr(words.decode("utf-8", "replace")) if self.words else f"{len(words)} bytes, not shown"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an app holds until its answer is there: in the clear the payload, sealed the question."""

    caller: bytes
    number: int
    asked: bytes | Question = field(repr=False)


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
        self._hearing: Final = Hearing()
        self._receipt_key = b""

    async def run(self) -> None:
        screen = self._screen
        self._tell_who_is_who()
        private_files.folder(self._folder)
        screen.step("The owner of a model seals it into a pack and gives the key to a broker")
        with key_owner(self._folder, self._engine.write_model) as owner:
            await self._serve(owner)

    async def _serve(self, owner: KeyOwner) -> None:
        screen = self._screen
        self._tell_of_the_owner(owner)
        screen.step("The cell starts: a process of its own, one window, no key")
        async with self._cell(owner) as cell, open_host(cell.address, screen) as host:
            screen.step("No key without proof")
            await self._release(owner, cell, host)
            screen.step("Anyone may ask the cell who it is")
            log = await self._meet(cell.address)
            screen.step("Apps ask the gateway canister, every second one sealed; it seals blocks")
            service = owner.service(GATEWAY)
            half = (len(self._prompts) + 1) // 2
            for prompts in (self._prompts[:half], self._prompts[half:]):
                self._ask(prompts, service, owner.identity.name)
                self._seal()
            screen.step("The host carries the slice through the window; the cell proves the order and answers")
            await self._carry(host, 1, log, cut=True)
            self._show_answers()
            screen.step("The host lies, the cell declines")
            await self._lie(host)
            screen.step("The canister is upgraded; the chain goes on")
            self._gateway.upgrade()
            after = [Prompt(words.encode()) for words in AFTER_UPGRADE]
            self._ask(after, service, owner.identity.name)
            self._seal()
            await self._carry(host, (await standing(host)).height + 1, log, cut=False)
            screen.step("Answers go back through the gateway to those who asked, each with its receipt")
            self._deliver()
            screen.step("Anyone checks the certificate")
            self._check_certificate()
            screen.step("An auditor who was not there checks all of it, from one file")
            await self._audit(owner, cell.address, log)
            log.close()
        asked, answered = len(self._tickets), len(self._hearing.told)
        if asked != answered:
            raise DemoFailed(f"{asked} prompts were asked and {answered} were answered")
        screen.say(f"\ndemo: ok ({asked} prompts ordered by the devnet's subnet, proven, answered once each)")
        screen.say("audit: ok")

    # -- the players

    def _tell_who_is_who(self) -> None:
        say = self._screen.say
        say("A stand-in subnet, a host, a broker and a cell on this machine; the TEE is simulated.")
        self._screen.step("The devnet")
        say(f"     root key   {_start(self._subnet.root_key)}  (new in every run; no default trusts it)")
        say(f"     gateway    {to_text(GATEWAY)}, gateway/gateway.wasm with its digest checked")

    def _tell_of_the_owner(self, owner: KeyOwner) -> None:
        say = self._screen.say
        say(f"     model      {owner.identity.name}, root {_start(owner.identity.model_root)}  (very small)")
        say(f"     engine     {self._engine.value}")
        say(f"     pack       {owner.pack}, {owner.pack.stat().st_size} B, every bit of it signed")
        say(f"     broker     key {_start(owner.broker.public)}, its decisions in a signed log")

    async def _release(self, owner: KeyOwner, cell: CellProcess, host: Host) -> None:
        """Denied before the configuration is approved, granted after; the cell serves only with its model open."""
        say = self._screen.say
        standing_, denials = await owner.carry(cell.address)
        if standing_.state is not State.NEEDS_KEY or not denials:
            raise DemoFailed(f"a cell nobody approved stands at {standing_.state.value}")
        say(f"     genuine evidence of a configuration nobody approved: denied, {denials[-1]}")
        try:
            await propose(host, b"")
        except CellDeclined as declined:
            say(f"     a proof for the cell meanwhile: declined, {declined.code}")
        else:
            raise DemoFailed("a cell without its model took a proof")
        owner.approve((self._folder / "cell.toml").read_bytes())
        standing_, _ = await owner.carry(cell.address)
        if standing_.state is not State.HAS_KEY:
            raise DemoFailed(f"the approved cell stands at {standing_.state.value}: {standing_.failure}")
        await cell.model_open()
        say("     approved: the key is sealed to the quoted one, and opens the pack; the cell serves")
        say(f"     broker     {owner.entries()} entries in its log, each signed and linked to the one before")

    @asynccontextmanager
    async def _cell(self, owner: KeyOwner) -> AsyncIterator[CellProcess]:
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
            self._screen.say(f"     process {cell.pid} serves {cell.address}; its log is {log}")
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
        self._screen.say(f"     receipt key {_start(key.raw)}, bound by evidence of {len(raw)} B over our nonce")
        return ReceiptLog.open(path, key.raw)

    def _ask(self, prompts: Sequence[Prompt], service: Service, model: str) -> None:
        for number, prompt in enumerate(prompts):
            caller = CALLERS[number % len(CALLERS)]
            words = prompt.reveal().decode()
            if number % 2:
                expiry = self._gateway.status()["head_height"] + SEALED_FOR_BLOCKS
                question = service.ask(chat_request(model, words), expiry=expiry, caller=caller)
                ticket = self._gateway.submit_sealed(caller, question.payload)
                self._tickets.append(Ticket(caller, ticket, question))
                how = f"sealed, {len(question.payload)} B"
            else:
                ticket = self._gateway.submit_chat(caller, chat(model, ("user", {"content": words})))
                self._tickets.append(Ticket(caller, ticket, chat_request(model, words).encode()))
                how = "plain"
            self._screen.say(f"     app {to_text(caller)}  {self._screen.text(prompt.reveal())}  ({how})")

    def _seal(self) -> None:
        block = self._gateway.seal_block(OPERATOR)
        if block is None:
            raise DemoFailed("the gateway had nothing to seal")
        self._screen.say(f"     sealed     height {block.height}, {block.count} prompts, link {_start(block.link)}")

    # -- the host

    async def _carry(self, host: Host, from_height: int, log: ReceiptLog, *, cut: bool) -> None:
        found = self._gateway.proof_and_bodies(from_height)
        if found is None:
            raise DemoFailed(f"the gateway has nothing from height {from_height}")
        proof, bodies = found
        self._screen.frames_left = FRAMES_SHOWN_MAX if cut else 0
        async for said in feed(host, proof, {from_height + number: body for number, body in enumerate(bodies)}):
            if isinstance(said, Judged):
                heights = f"heights {from_height} to {said.through}"
                self._screen.say(f"     proof      {len(proof)} B for {heights}: {said.step}")
            if (told := self._hearing.hear(said)) is not None:
                log.append(told.raw)
            if isinstance(said, Checkpoint):
                log.checkpoint(said.note)
            if cut and isinstance(said, Piece):
                cut = False
                self._screen.say("     (the line is cut here, in the middle of an answer)")
                self._screen.frames_left = FRAMES_SHOWN_MAX
                host.cut()
        where = await standing(host)
        self._screen.say(f"     the cell stands behind height {where.height}, link {_start(where.link or b'')}")

    def _show_answers(self) -> None:
        for (height, index), told in sorted(self._hearing.told.items()):
            receipt, answer = told.signed.receipt, told.answer.reveal()
            what = self._screen.text(answer)
            if receipt.kind is Kind.SEALED:
                what = f"{len(answer) // FRAME_BYTES} sealed frames of {FRAME_BYTES} B"
            how = f"{receipt.tokens_in} tokens in, {receipt.tokens_out} out, {receipt.cycles} cycles"
            self._screen.say(f"     {height}/{index}  {what}  ({receipt.finish if receipt.refused else how})")

    async def _lie(self, host: Host) -> None:
        found = self._gateway.proof_and_bodies(1)
        proof = found[0] if found else b""
        judged = await propose(host, proof)
        self._expect(judged.step in ("current", "stale"), f"the same slice again: {judged.step}, nothing runs twice")
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
            "a slice without its last block": SliceProof(honest.certificate, honest.headers[:-1], honest.tree),
        }.items():
            try:
                await propose(host, lie.encode())
            except CellDeclined as declined:
                self._screen.say(f"     {what}: declined, {declined.code}")
            else:
                raise DemoFailed(f"the cell believed {what}")

    def _deliver(self) -> None:
        delivered = deliver(self._hearing.told.values(), partial(self._gateway.report_answer, OPERATOR))
        if missing := [str(each) for each in delivered if each.outcome != "recorded"]:
            raise DemoFailed(f"expected the gateway to take every answer, got {'; '.join(missing)}")
        sealed = sum(self._open(ticket) for ticket in self._tickets)
        redeemed = f"{len(self._tickets)} tickets redeemed, each by its own caller"
        self._screen.say(f"     {redeemed}; {sealed} could be opened by nobody else; every receipt holds")

    def _open(self, ticket: Ticket) -> bool:
        """The app's own check: the receipt, signed by the cell's key, says these bytes answered this request."""
        found = self._gateway.take_answer(ticket.caller, ticket.number)
        if not isinstance(found, Answered):
            raise DemoFailed(f"ticket {ticket.number} has no answer")
        at, (_, signature) = found.position, found.signatures[0]
        taken = Taken(at.height, at.index, at.id, found.answer, found.receipt, signature)
        expected = Expected(price=PRICE)
        if isinstance(ticket.asked, Question):
            answer = ticket.asked.open(taken, self._receipt_key, expected, caller=ticket.caller)
            self._screen.say(f"     {at.height}/{at.index}  opened: {self._screen.text(answer.words.reveal())}")
            return True
        open_plain(taken, self._receipt_key, expected, gateway=GATEWAY, caller=ticket.caller, payload=ticket.asked)
        return False

    def _check_certificate(self) -> None:
        certificate = self._gateway.get_slice(1).certificate or b""
        path = self._folder / "head.cert"
        path.write_bytes(certificate)
        proven = verify_certificate(parse_certificate(certificate), root_key=self._subnet.root_key, canister=GATEWAY)
        self._screen.say(f"     certified_data {_start(proven.certified_data())} at {proven.time_ns} ns")
        try:
            verify_certificate(parse_certificate(certificate), root_key=MAINNET_ROOT_KEY, canister=GATEWAY)
        except ConsensusRefused as refusal:
            self._screen.say(f"     under the mainnet's root: refused, {refusal.code}")
        else:
            raise DemoFailed("the mainnet's root vouched for the devnet")
        command = sys.argv[0] if Path(sys.argv[0]).name == "anchorhold" else "anchorhold"
        self._screen.say(
            f"     again by hand: {command} verify certificate {path} --canister {to_text(GATEWAY)} "
            f"--path certified_data --root-key {self._subnet.root_key.hex()}"
        )

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
            (self._folder / "cell.toml").read_bytes(), proof, bodies, raw, log.signed, log.notes, self._hearing.told
        )
        bundle = bundle_of(kept, owner.broker.store, owner.tee)
        done = audit_in(self._folder, bundle, roots_of(self._subnet.root_key, owner.tee))
        if not done.report.ok:
            raise DemoFailed(f"the audit refused: {done.report.failed[0].code}: {done.report.failed[0].got}")
        say = self._screen.say
        say(f"     bundle     {self._folder / BUNDLE}, {done.size} B: {done.held} checks held, none failed")
        say(f"     page       {self._folder / PAGE}, for people")
        if done.tampered.ok:
            raise DemoFailed("a tampered copy of the bundle passed")
        with owner.opened() as model:
            again = replay_of(kept, bundle, owner.ring, model)
        say(f"     {self._engine.replayed(again)}")
        say(f"     one bit of a receipt turned: refused, {done.tampered.failed[0].code}")
        say(f"     again by hand: anchorhold audit {self._folder / BUNDLE} --devnet {self._folder / ROOTS}")

    def _expect(self, held: bool, what: str) -> None:
        if not held:
            raise DemoFailed(f"expected otherwise: {what}")
        self._screen.say(f"     {what}")


def _start(digest: bytes) -> str:
    return f"{digest.hex()[:32]}..."


def _short(message: Message) -> str:
    """`DATA stream 1 ...`: the fields of a message, long bytes cut."""
    fields: Mapping[str, object] = {
        name: getattr(message, name) for name in type(message).__slots__ if name != "payload"
    }
    shown = (
        f"{name} {value.hex()[:8] if isinstance(value, bytes) else getattr(value, 'name', value)}"
        for name, value in fields.items()
    )
    return f"{type(message).__name__.upper():<6} {' '.join(shown)}"


@asynccontextmanager
async def open_host(address: Address, screen: Screen) -> AsyncIterator[Host]:
    host = Host(address, Port.STREAM)
    host.tap = screen.frame
    screen.say("     the first frames on the wire:")
    screen.frames_left = FRAMES_SHOWN_MAX
    async with host:
        yield host


def run(folder: Path, prompts: Sequence[Prompt], out: TextIO, *, words: bool, engine: Choice = Choice.FIXED) -> int:
    """0 when all held, 2 with the reason when something did not."""
    try:
        engine.check_installed()
        asyncio.run(Demo(folder, prompts, Screen(out, words), engine).run())
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
