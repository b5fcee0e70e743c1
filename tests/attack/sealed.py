"""Attacks on sealed prompts and their answers: copies, other places, other releases, cut and forged answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.client import Expected, Question, Taken, chat
from anchorhold.host.slice_feed import evidence, feed
from appliance.serving.window import Answered, Piece
from attestation.consensus.blocks import Kind
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyUse
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import Finish
from attestation.receipts.outcome import Outcome as Said
from attestation.receipts.signed_receipt import SignedReceipt, sign
from attestation.sealed.frames import FRAME_BYTES, AnswerKeys
from attestation.sealed.request import Mode, Place, SealedRequest, Unsealed
from devnet.chain import CALLER, Chain
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.model import TinyModel
from devnet.subnet import GATEWAY
from foundation import cbor
from foundation.refusal import Refused
from tests.attack.cells import NOW, SUBNET, ReleasedCell, prompt, released_cell
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room, judged
from tests.attack.weakening import Patch, instead, nothing, together, without
from tests.unit.appliance.orders import PLACE
from tests.unit.appliance.test_rings import overtaken
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

SCRIPTED = 'engine = "scripted-1"'
PLAINTEXT = f"{SCRIPTED}\nplaintext = true"
Ask = Callable[[KeyOwner], bytes]


@dataclass
class Told:
    """What a cell said of a chain: answers and receipts by place, and the key in its evidence."""

    answers: dict[tuple[int, int], bytes] = field(default_factory=dict)
    receipts: dict[tuple[int, int], SignedReceipt] = field(default_factory=dict)
    key: bytes = b""

    def taken(self, height: int, index: int = 0) -> Taken:
        signed = self.receipts[height, index]
        return Taken(
            height, index, signed.receipt.id, self.answers.get((height, index), b""), signed.body, signed.signature
        )

    def finish(self, height: int, index: int = 0) -> object:
        return self.receipts[height, index].receipt.finish


def told(room: Room, *blocks: Callable[[KeyOwner], list[tuple[Kind, bytes]]], engine: str = SCRIPTED) -> Told:
    """Everything a cell says of blocks of payloads, each made when the keys are there."""
    found = Told()
    of = Chain(SUBNET, GATEWAY, seed=b"sealed")

    async def work(cell: ReleasedCell) -> None:
        async with Host(cell.address, Port.OBSERVE) as host:
            key = EvidenceBundle.parse(await evidence(host, bytes(32))).keyset.key(KeyUse.RECEIPT)
            found.key = key.raw if key is not None else b""
        heights = range(1, of.height + 1)
        async with Host(cell.address, Port.STREAM) as host:
            async for say in feed(host, of.proof(1, of.height, NOW + 9), {each: of.body(each) for each in heights}):
                match say:
                    case Piece(height, index, words):
                        found.answers[height, index] = found.answers.get((height, index), b"") + words
                    case Answered(height, index, raw):
                        found.receipts[height, index] = SignedReceipt.parse(raw)

    with key_owner(room.folder, TinyModel().write) as owner:
        for number, block in enumerate(blocks):
            made = block(owner)
            of.seal([payload for _, payload in made], NOW + number, kind=made[0][0])
        with released_cell(room, owner, engine) as cell:
            asyncio.run(work(cell))
    return found


def question(owner: KeyOwner, *, caller: bytes | None = CALLER, expiry: int = 100) -> Question:
    return owner.service(GATEWAY).ask(
        chat(owner.identity.name, "what is it?"), expiry=expiry, mode=Mode.WHOLE, caller=caller
    )


def sealed(owner: KeyOwner, **named: Any) -> list[tuple[Kind, bytes]]:
    return [(Kind.SEALED, question(owner, **named).payload)]


def finished(got: object, code: str) -> Outcome:
    return judged(code if got == code else "answered" if not isinstance(got, str) else got, code, taken="answered")


# -- requests


def careless_unseal(payload: bytes, ring: Any, place: Place, *, height: int, caller: bytes) -> Unsealed:
    """Opens what its keys open, whoever brings it and whenever."""
    request = SealedRequest.parse(payload)
    key = ring.by_id[request.key_id].key
    return Unsealed.parse(key.open(request.sealed, request.info(place)))


CARELESS = instead("appliance.service_keys:unseal", careless_unseal)


@attack(
    "copied-by-another",
    tries="somebody else submits a copy of a sealed request, to see its answer's length",
    defence="a request names its caller inside, and is run for that one alone (A10)",
    without=CARELESS,
)
def copied_by_another(room: Room) -> Outcome:
    of = told(room, lambda owner: sealed(owner, caller=b"\x09"))
    return finished(of.finish(1), "sealed.caller")


@attack(
    "kept-for-later",
    tries="a sealed request that is ordered after the height its sender allowed",
    defence="a request is run up to its expiry and no further (A10)",
    without=CARELESS,
)
def kept_for_later(room: Room) -> Outcome:
    of = told(room, sealed, lambda owner: sealed(owner, expiry=1))
    return finished(of.finish(2), "sealed.expired")


def for_any_place(self: SealedRequest, place: Place) -> bytes:
    return cbor.encode(["anywhere", self.key_id, self.expiry, int(self.suite)])


@attack(
    "for-another-model",
    tries="a request sealed for another model, under the same service key",
    defence="a request is bound to gateway and model as it is sealed (A5)",
    without=instead("attestation.sealed.request:SealedRequest.info", for_any_place),
)
def for_another_model(room: Room) -> Outcome:
    def elsewhere(owner: KeyOwner) -> list[tuple[Kind, bytes]]:
        service = replace(owner.service(GATEWAY), place=Place(GATEWAY, b"\x66" * 32))
        return [(Kind.SEALED, service.ask(chat(owner.identity.name, "for another"), expiry=100, caller=CALLER).payload)]

    got = told(room, elsewhere).finish(1)
    if isinstance(got, str) and got.startswith("sealed."):
        return held(f"refused: {got}")
    return broken("answered by another model")


@attack(
    "prompt-in-the-clear",
    tries="a prompt in the clear, to a cell that takes sealed ones",
    defence="the measured configuration says whether a cell takes any (A2)",
    without=instead("appliance.config:_plaintext", lambda stated, wanted: True),
)
def prompt_in_the_clear(room: Room) -> Outcome:
    got = told(room, lambda owner: [(Kind.PLAIN, prompt("in the clear", owner.identity.name))]).finish(1)
    return finished(got, "plain.refused")


# -- answers


def derived_anywhere(*, position: bool, config: bool) -> Callable[[Patch], None]:
    """Answer keys that leave out where, or by which release, a request is answered."""

    def weaken(patch: Patch) -> None:
        derive = patch.now("attestation.sealed.frames:AnswerKeys.derive")

        def careless(_: type, /, reply_key: Any, **named: Any) -> AnswerKeys:
            if not position:
                named |= {"height": 0, "index": 0, "number": 0, "request": bytes(32)}
            if not config:
                named |= {"config": bytes(32)}
            made: AnswerKeys = derive(reply_key, **named)
            return made

        patch.put("attestation.sealed.frames:AnswerKeys.derive", classmethod(careless))

    return weaken


@attack(
    "request-ordered-twice",
    tries="one sealed request ordered at two positions, for two answers under one key",
    defence="answer keys are derived for gateway, position and request (A14)",
    without=derived_anywhere(position=False, config=True),
)
def request_ordered_twice(room: Room) -> Outcome:
    asked: list[Question] = []

    def once(owner: KeyOwner) -> list[tuple[Kind, bytes]]:
        asked.append(asked[0] if asked else question(owner))
        return [(Kind.SEALED, asked[0].payload)]

    of = told(room, once, once)
    first = of.receipts[1, 0].receipt
    reader = asked[0].reader(1, 0, first.id, CALLER, config=first.by.config)
    try:
        reader.feed(of.answers[2, 0][:FRAME_BYTES])
    except Refused:
        return held("the second answer opens under keys of its own")
    return broken("the second answer is under the first one's key and nonces")


@attack(
    "answered-by-two-releases",
    tries="two releases answer one position, and the host compares their frames",
    defence="answer keys name the measured configuration, so two releases never share key and nonce (A14)",
    without=derived_anywhere(position=True, config=False),
)
def answered_by_two_releases(room: Room) -> Outcome:
    lives = []
    asked: list[Question] = []

    def same(owner: KeyOwner) -> list[tuple[Kind, bytes]]:
        asked.append(question(owner))
        return [(Kind.SEALED, asked[-1].payload)]

    for number, engine in enumerate((SCRIPTED, PLAINTEXT)):
        (room.folder / str(number)).mkdir()
        lives.append(told(replace(room, folder=room.folder / str(number)), same, engine=engine))
    first, second = lives
    config = first.receipts[1, 0].receipt.by.config
    if config == second.receipts[1, 0].receipt.by.config:
        raise Unexpected("two configurations with one digest")
    # The second release's answer, read with the keys of the first: as if both had answered the second's request.
    reader = asked[1].reader(1, 0, second.receipts[1, 0].receipt.id, CALLER, config=config)
    try:
        reader.feed(second.answers[1, 0][:FRAME_BYTES])
    except Refused:
        return held("each release's answer opens under its own keys")
    return broken("both releases answer under one key and the same nonces")


def opened(asked: Question, of: Told, taken: Taken) -> str:
    try:
        asked.open(taken, of.key, Expected(), caller=CALLER)
    except Refused as refusal:
        return refusal.code
    return "believed"


def one_answer(room: Room) -> tuple[Question, Told]:
    asked: list[Question] = []

    def once(owner: KeyOwner) -> list[tuple[Kind, bytes]]:
        asked.append(question(owner))
        return [(Kind.SEALED, asked[0].payload)]

    of = told(room, once)
    return asked[0], of


@attack(
    "receipt-forged",
    tries="a receipt of the host's own making, over the cell's true answer",
    defence="a receipt is signed by the key in the cell's evidence (T9, A21)",
    without=without("attestation.receipts.signed_receipt:SignedReceipt.verify"),
)
def receipt_forged(room: Room) -> Outcome:
    asked, of = one_answer(room)
    ours = Ed25519PrivateKey.generate()
    receipt = replace(of.receipts[1, 0].receipt, cycles=0)
    forged = SignedReceipt.parse(sign(receipt.encode(), ours, ours.public_key().public_bytes_raw()))
    taken = replace(of.taken(1), receipt=forged.body, signature=forged.signature)
    return judged(opened(asked, of, taken), "receipt-signature.signature", taken="believed")


def any_receipt(taken: Taken, *_: object, **__: object) -> Any:
    return Receipt.parse(taken.receipt)


@attack(
    "answer-exchanged",
    tries="the true answer and receipt of another of the app's own questions",
    defence="a receipt names request and place, and frames open at their own (T4, A14, A21)",
    without=together(
        instead("anchorhold.client.question:checked_receipt", any_receipt),
        derived_anywhere(position=False, config=True),
    ),
)
def answer_exchanged(room: Room) -> Outcome:
    asked: list[Question] = []

    def two(owner: KeyOwner) -> list[tuple[Kind, bytes]]:
        made = question(owner)
        asked.append(made)
        # One reply key for both: what a careless app does, and nothing else would let a frame open elsewhere.
        return [(Kind.SEALED, made.payload), (Kind.SEALED, made.payload)]

    of = told(room, two)
    other = replace(of.taken(1, 1), height=1, index=0, id=of.receipts[1, 0].receipt.id)
    got = opened(asked[0], of, other)
    return held(f"refused: {got}") if got.startswith("receipt.") else judged(got, "receipt.place", taken="believed")


def cut_whenever(patch: Patch) -> None:
    """A client that takes the words it has, and looks at no digest."""
    patch.put("anchorhold.client.question:checked_receipt", any_receipt)
    patch.put("attestation.sealed.frames:FrameReader.end", lambda self: Said(Finish.STOP, 1, 1, bytes(32), bytes(32)))
    patch.put("anchorhold.client.question:check_opening", nothing)
    patch.put("attestation.sealed.frames:FrameReader.opening", property(lambda self: True))


@attack(
    "answer-cut-short",
    tries="an answer without its last frames",
    defence="the receipt is over every frame, and the last frame is one of its own kind (A19, A20, T12)",
    without=cut_whenever,
)
def answer_cut_short(room: Room) -> Outcome:
    asked, of = one_answer(room)
    taken = of.taken(1)
    cut = replace(taken, answer=taken.answer[:FRAME_BYTES])
    return judged(opened(asked, of, cut), "receipt.answer", taken="believed")


def two_rings_and_no_more(patch: Patch) -> None:
    """A cell that keeps the newest ring and the one before it, whatever waits."""
    patch.put("appliance.service_keys:Rings.hold", nothing)
    patch.put(
        "appliance.service_keys:Rings.renew", lambda self, ring: setattr(self, "_rings", (ring, *self._rings[:1]))
    )


@attack(
    "rings-that-overtake",
    tries="seven rotations of the service keys, brought while a block waits for its answers",
    defence="a block keeps the ring it was released under until it is answered (A8, A9)",
    without=two_rings_and_no_more,
)
def rings_that_overtake(room: Room) -> Outcome:
    rings, waiting = overtaken(7)
    try:
        rings.unseal(waiting, PLACE)
    except (Refused, AssertionError) as reason:
        return broken(f"a request that was ordered in time does not open: {reason}")
    return held("the block that waited still opens")
