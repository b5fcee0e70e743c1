"""A whole little world to audit: a subnet's order, a broker's release, two cells' evidence, receipts and logs.

Nothing in it is faked: certificates are BLS, quotes are the simulated TEE's, receipts the cell's own book's. Made once
for a run of the tests; what a test bends, it bends in a copy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from appliance.config import config_digest
from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion, ReceiptBook
from attestation.auditor.audit_bundle import Answer, AuditBundle, audit_nonce
from attestation.auditor.bundle_builder import CellSource, assemble
from attestation.auditor.terms import AuditTerms
from attestation.broker.administration import add_release, add_secret, append_release
from attestation.broker.broker import new_keys
from attestation.broker.session import EVERY_BLOCK, Release
from attestation.broker.store import Store
from attestation.broker.wrapping import SoftwareWrapping
from attestation.consensus.blocks import Kind
from attestation.consensus.principal import to_text
from attestation.decision_log.words import ReleaseState
from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.policy import document
from attestation.receipts.body import ServedBy
from attestation.receipts.outcome import Finish, Opening, Outcome, answer_digest
from attestation.receipts.price import PriceSchedule
from attestation.receipts.seeds import SeedPolicy, beacon_seed, client_seed
from devnet.broker import measurement_of
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from devnet.tee import identity_bundle, policy_document, reference_values
from foundation.secrecy import Secret
from measurements.release.heights import Heights
from tests.little_broker import KEK, MODEL_KEY, MODEL_ROOT, LittleBroker, LittleCell
from tests.little_broker import NOW_NS as BROKER_NOW_NS
from tests.little_receipts import raw, receipt_key
from tests.little_tee import AT, snp_tee

NOW_NS = int(AT.timestamp()) * 10**9
PRICE = PriceSchedule(1_000_000, 2_000, 10_000)
SUBNET = Subnet(b"audited", delegated=False)
ZEROS = bytes(32)
PROMPT = b"the canary in the prompt"
WORDS = b"the canary in the answer"


def config(broker: bytes | None) -> bytes:
    """A measured configuration; `broker` is the key it believes."""
    release = (
        ""
        if broker is None
        else (
            f'[release]\nbroker_key = "{broker.hex()}"\nresource = "{MODEL_KEY}"\nmodel_root = "{MODEL_ROOT.hex()}"\n'
        )
    )
    return (
        f'gateway = "{to_text(GATEWAY)}"\nroot_key = "{SUBNET.root_key.hex()}"\nengine = "scripted-1"\n'
        f"[price]\nrequest = {PRICE.request}\ntoken_in = {PRICE.token_in}\ntoken_out = {PRICE.token_out}\n{release}"
    ).encode()


@dataclass
class LittleCellHost:
    """One cell that ran the chain, and what its host kept."""

    name: str
    book: ReceiptBook
    signed: list[bytes] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)


Bend = Callable[[OrderedRequest, Conclusion], Conclusion]


def honest(request: OrderedRequest, said: Conclusion) -> Conclusion:
    return said


def keyset(name: str) -> Keyset:
    return Keyset((PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, raw(receipt_key(name))),))


def conclusion(request: OrderedRequest) -> Conclusion:
    """Answers of every kind: plain, sealed, sealed with a client's seed, refused."""
    seed = beacon_seed(request.beacon, request.id)
    if request.id % 5 == 4:
        return Conclusion.refusal("chat.model", seed, sealed=request.kind is Kind.SEALED)
    words = WORDS + b" %d" % request.id
    outcome = Outcome(Finish.STOP, 12 + request.id, 7, answer_digest((words,)), sha256(words).digest())
    if request.kind is Kind.PLAIN:
        return Conclusion.plain(outcome, SeedPolicy.BEACON, seed)
    policy = SeedPolicy.CLIENT if request.id % 2 else SeedPolicy.BEACON
    seed = client_seed(7) if policy is SeedPolicy.CLIENT else seed
    return Conclusion.sealed_answer(
        outcome, answer_digest((frames(request.id),)), policy, seed, salt=salt(request.id), tokens_in=16, tokens_out=16
    )


def frames(number: int) -> bytes:
    return sha256(b"frames of %d" % number).digest() * 4


def salt(number: int) -> bytes:
    return sha256(b"salt of %d" % number).digest()


def ordered(chain: Chain, height: int) -> list[OrderedRequest]:
    block = chain.blocks[height - 1]
    return [
        OrderedRequest(
            height=height,
            index=index,
            id=request.id,
            caller=request.caller,
            kind=request.kind,
            payload=request.payload,
            beacon=block.header.beacon,
            link=block.header.link(),
            request_digest=request.digest(),
            block_time_ns=block.header.time_ns,
            certified_time_ns=NOW_NS,
        )
        for index, request in enumerate(block.requests)
    ]


@functools.cache
def chain() -> Chain:
    """Three blocks: plain, sealed, and one of each kind's refusals among them."""
    made = Chain(SUBNET, GATEWAY, seed=b"audited")
    made.seal([PROMPT, b"two"], NOW_NS - 30)
    made.seal([b"sealed three", b"sealed four", b"sealed five"], NOW_NS - 20, kind=Kind.SEALED)
    made.seal([b"six", b"seven", b"eight", b"nine", b"ten"], NOW_NS - 10)
    return made


@functools.cache
def broker(
    adopts: Callable[[bytes], bytes] | None = None, name: str = "little-1", heights: Heights = EVERY_BLOCK
) -> LittleBroker:
    """`adopts` gives the decision behind the release, for the digest of its configuration."""
    store = Store.open("sqlite://", create=True)
    wrapping = SoftwareWrapping(KEK)
    keys = new_keys(store, wrapping, BROKER_NOW_NS)
    tee = snp_tee()
    measured = config_digest(config(keys.public))
    release = Release(name, measurement_of(tee), MODEL_ROOT, measured, ReleaseState.APPROVED, heights=heights)
    if adopts is None:
        add_release(store, release, BROKER_NOW_NS)
    else:
        with store.change() as change:
            append_release(change, replace(release, adoption=adopts(measured)), BROKER_NOW_NS)
    add_secret(
        store,
        wrapping,
        MODEL_KEY,
        Secret(b"the key of the little model packs"),
        model_root=MODEL_ROOT,
        now_ns=BROKER_NOW_NS,
    )
    return LittleBroker.over(store, keys, tee, wrapping)


@dataclass(frozen=True)
class World:
    """Everything a bundle is made of."""

    config: bytes
    chain: Chain
    cells: tuple[LittleCellHost, ...]
    entries: Mapping[str, tuple[tuple[bytes, bytes], ...]]
    evidence: Mapping[str, bytes]

    def source(self, cell: LittleCellHost) -> CellSource:
        return CellSource(self.evidence[cell.name], cell.signed, cell.notes, self.entries[cell.name])

    def bundle(
        self,
        first: int = 1,
        last: int = 3,
        *,
        show_plain: bool = True,
        answers: bool = True,
        cells: tuple[LittleCellHost, ...] | None = None,
    ) -> AuditBundle:
        chosen = self.cells if cells is None else cells
        return assemble(
            config=self.config,
            proof=self.chain.proof(first, last, NOW_NS),
            bodies=[self.chain.body(height) for height in range(first, last + 1)],
            cells=[self.source(cell) for cell in chosen],
            show_plain=show_plain,
            answers=self.answers(first, last) if answers else None,
        )

    def answers(self, first: int, last: int) -> dict[tuple[int, int], Answer]:
        found = {}
        for request in (each for height in range(first, last + 1) for each in ordered(self.chain, height)):
            said = conclusion(request)
            opening = Opening(said.salt, said.outcome).encode()
            if isinstance(said.outcome.finish, str):
                words: bytes | None = b""
            else:
                words = frames(request.id) if said.sealed else WORDS + b" %d" % request.id
            found[request.height, request.index] = Answer(words, opening)
        return found


def served_by(measured: bytes, release: str = "little-1") -> ServedBy:
    return ServedBy(
        release,
        ZEROS if release else None,
        config_digest(measured),
        MODEL_ROOT,
        ZEROS,
        ZEROS,
        b"\xe0" * 32,
        b"\xe1" * 32,
    )


def run_cell(
    name: str,
    measured: bytes,
    of: Chain,
    *,
    first: int = 1,
    last: int | None = None,
    bend: Bend = honest,
    by: ServedBy | None = None,
    price: PriceSchedule = PRICE,
) -> LittleCellHost:
    """A cell that joined at `first` and answered every request since."""
    host = LittleCellHost(name, ReceiptBook(receipt_key(name), by or served_by(measured), GATEWAY, price))
    for height in range(first, (last or of.height) + 1):
        for request in ordered(of, height):
            host.signed.append(host.book.issue(request, bend(request, conclusion(request))).signed)
        host.notes.append(host.book.checkpoint())
    return host


def evidence_of(name: str, measured: bytes, nonce: bytes) -> bytes:
    return identity_bundle(snp_tee(), nonce, keyset(name), config_digest(measured)).encode()


def granted(name: str, measured: bytes, little: LittleBroker | None = None) -> tuple[tuple[bytes, bytes], ...]:
    """The entry of this cell's grant, out of the broker's own log, with that of its release."""
    little = little or broker()
    cell = LittleCell(snp_tee(), keyset(name), config_digest(measured)).admitted(little.broker)
    cell.fetch(little.broker, MODEL_KEY)
    with little.store.change() as change:
        entries = list(change.entries())
    parsed = [(each.kind, each.details, at) for at, each in enumerate(little.entries())]
    added = [
        at
        for kind, said, at in parsed
        if kind == "release-added" and said["measured_config"] == config_digest(measured)
    ]
    grants = [at for kind, said, at in parsed if kind == "granted" and said["keyset"] == keyset(name).digest]
    return tuple(entries[at] for at in (added[-1], grants[-1]))


def measured_config() -> bytes:
    return config(broker().keys.public)


@functools.cache
def world() -> World:
    """Two cells that ran all three blocks."""
    measured, of = measured_config(), chain()
    names = ("cell a", "cell b")
    cells = (run_cell(names[0], measured, of), run_cell(names[1], measured, of))
    nonce = audit_nonce(of.link(1))
    return World(
        measured,
        of,
        cells,
        {name: granted(name, measured) for name in names},
        {name: evidence_of(name, measured, nonce) for name in names},
    )


def terms(**changes: object) -> AuditTerms:
    """An auditor of this devnet: its subnet, its simulated root, its one image and machine."""
    tee = snp_tee()
    made = AuditTerms(
        policy=document.parse(policy_document(tee)),
        references=reference_values(tee),
        root_key=SUBNET.root_key,
        gateway=GATEWAY,
        simulated_root=tee.root.der,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@functools.cache
def good() -> bytes:
    return world().bundle().encode()
