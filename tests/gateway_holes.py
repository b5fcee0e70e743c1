"""What somebody may try at a gateway, on whichever module is installed: `make attack` and the tests of modules use it.

Both modules are read through the members that both have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from anchorhold.host.answer_reports import Report
from anchorhold.host.gateway_client import GatewayRefused, chat
from attestation.consensus.answered import AnsweredProof, verify_answered
from attestation.consensus.blocks import Block
from attestation.consensus.refusals import ConsensusRefused
from devnet.lone_gateway import OWNER, REPORTER, SECOND_REPORTER, person, receipt_for
from devnet.replica import Entry, Execution, Rejected
from devnet.subnet import GATEWAY, Subnet
from foundation.candid import BLOB, NAT64, CandidRefused, Opt, Record, Type, Variant, Vec, decode, encode
from foundation.limits import PAYLOAD_BYTES_MAX
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.gateways import Bench, caller, with_history_bound

ALICE: Final = caller(1)
STRANGER: Final = person(99)
SECRET: Final = "my secret"
SECOND_NS: Final = 1_000_000_000
INSTRUCTIONS_A_BYTE_MAX: Final = 300
HISTORY_BYTES: Final = 100_000
BLOBS_BYTES: Final = 16_384  # the longest receipt and the longest signature that a gateway takes

MEMBERS: Final = {"answer": BLOB, "digest": BLOB}
ANSWER: Final = Record({**MEMBERS, "others": Vec(Record(MEMBERS)), "certificate": Opt(BLOB), "tree": BLOB})
LOG: Final = Record({"divergences": Vec(Record({"evidence": Opt(Record({"receipt": BLOB, "signature": BLOB}))}))})


def read(bench: Bench, method: str, of: Type, values: tuple[int, ...] = (), by: bytes = OWNER) -> Any:
    return decode([of], bench.replica.query(method, encode([NAT64] * len(values), list(values)), by))[0]


def number(bench: Bench, name: str) -> int:
    return int(read(bench, "status", Record({name: NAT64}))[name])


def taken(bench: Bench, ticket: int) -> dict[str, Any]:
    """Alice's answer. The first module has neither others nor a certificate."""
    try:
        tag, answered = read(bench, "take_answer", Variant({"answered": ANSWER}), (ticket,), ALICE)
    except CandidRefused:
        tag, answered = read(bench, "take_answer", Variant({"answered": Record(MEMBERS)}), (ticket,), ALICE)
        answered |= {"others": [], "certificate": None, "tree": b""}
    if tag != "answered":
        raise Unexpected(f"ticket {ticket}: {tag}")
    return dict(answered)


def sealed(bench: Bench) -> int:
    """Seals what waits; the height."""
    block = bench.gateway.seal_block(OWNER)
    if block is None:
        raise Unexpected("nothing waited to be sealed")
    return block.height


def fitting(bench: Bench, height: int, answer: bytes, signature: bytes = b"signature") -> Report:
    """An answer to the first request of a block, with a receipt that names both."""
    (raw, *_) = read(bench, "get_slice", Record({"blocks": Vec(BLOB)}), (height, 1), REPORTER)["blocks"]
    return Report(height, 0, answer, receipt_for(Block.decode(raw), 0, answer), signature)


def refused(work: Callable[[], object]) -> str | None:
    """The code of the refusal, if there is one."""
    try:
        work()
    except (GatewayRefused, Rejected) as refusal:
        return refusal.code
    return None


# ---- answers


def garbage_first(bench: Bench) -> Outcome:
    """One reporter brings garbage, and an answer of its own invention, before another brings the honest one."""
    gateway = bench.gateway
    ticket = gateway.submit_sealed(ALICE, b"x")
    height = sealed(bench)
    garbage = refused(lambda: gateway.report_answer(REPORTER, Report(height, 0, b"garbage", b"", b"")))
    gateway.report_answer(REPORTER, fitting(bench, height, b"invented"))
    gateway.report_answer(SECOND_REPORTER, fitting(bench, height, b"honest"))
    found = taken(bench, ticket)
    answers = [found["answer"], *(other["answer"] for other in found["others"])]
    words = f"garbage: {garbage or 'taken'}; its owner is given {b', '.join(answers).decode()}"
    return held(words) if garbage is not None and b"honest" in answers else broken(words)


def unsigned_answer(bench: Bench) -> Outcome:
    """A node that answers a query alone puts another answer in the place of the one reported."""
    gateway = bench.gateway
    ticket = gateway.submit_sealed(ALICE, b"x")
    height = sealed(bench)
    gateway.report_answer(REPORTER, fitting(bench, height, b"honest"))
    alone = Bench(module=bench.module)  # the node's own copy, into which it brings what it likes
    if alone.gateway.submit_sealed(ALICE, b"x") != ticket or sealed(alone) != height:
        raise Unexpected("the node's copy stands elsewhere")
    alone.gateway.report_answer(REPORTER, fitting(alone, height, b"the node's"))
    true, false = taken(bench, ticket), taken(alone, ticket)
    if true["certificate"] is None:
        return broken("nothing that the subnet signs speaks of the answer")
    if not signed_for(bench, true["digest"], AnsweredProof(true["certificate"], true["tree"])):
        raise Unexpected("the subnet does not sign for the answer that was reported")
    own = Subnet(b"one node's own").certify(GATEWAY, alone.replica.certified_data, alone.clock())
    for proof in (
        AnsweredProof(true["certificate"], true["tree"]),
        AnsweredProof(true["certificate"], false["tree"]),
        AnsweredProof(own, false["tree"]),
    ):
        if signed_for(bench, false["digest"], proof):
            return broken("the node's answer is believed")
    return held("the subnet signs for the answer that was reported, and no proof speaks for the node's")


def signed_for(bench: Bench, digest: bytes, proof: AnsweredProof) -> bool:
    try:
        record = verify_answered(proof, 0, root_key=bench.subnet.root_key, canister=GATEWAY)
    except ConsensusRefused:
        return False
    return record is not None and digest in record.digests


def log_of_disagreements(bench: Bench) -> Outcome:
    """One reporter disagrees about everything, at the greatest length that is taken, while history is bounded."""
    gateway = bench.gateway
    gateway.set_history(OWNER, HISTORY_BYTES)
    signature = bytes(BLOBS_BYTES)
    for count in range(24):
        gateway.submit_sealed(caller(2 + count), b"x")
        height = sealed(bench)
        gateway.report_answer(REPORTER, fitting(bench, height, b"honest"))
        hostile = Report(height, 0, b"other", bytes(BLOBS_BYTES), signature)
        if refused(partial(gateway.report_answer, SECOND_REPORTER, hostile)) is not None:
            gateway.report_answer(SECOND_REPORTER, fitting(bench, height, b"other", signature))
    entries = read(bench, "divergences", LOG, (0, 256))["divergences"]
    if len(entries) != 24:
        raise Unexpected(f"24 disagreements, {len(entries)} in the log")
    proofs = [each["evidence"] for each in entries if each["evidence"] is not None]
    kept = sum(len(each["receipt"]) + len(each["signature"]) for each in proofs)
    words = f"{kept} bytes of evidence where history is bounded by {HISTORY_BYTES}"
    return held(words) if kept <= HISTORY_BYTES else broken(words)


# ---- who reads, and who gets in


def prompts_of_others(bench: Bench) -> Outcome:
    """A stranger asks for blocks by every query that has them."""
    bench.gateway.submit_chat(ALICE, chat("tiny", ("user", {"content": SECRET})))
    height = sealed(bench)
    if SECRET.encode() not in bench.replica.query("get_slice", encode([NAT64] * 2, [height, 1]), REPORTER):
        raise Unexpected("a reporter does not read the prompt")
    shown = []
    for method, values in (("get_slice", [height, 1]), ("get_headers", [height, 1]), ("get_entries", [height])):
        try:
            raw = bench.replica.query(method, encode([NAT64] * len(values), values), STRANGER)
        except Rejected:
            continue
        if SECRET.encode() in raw:
            shown.append(method)
    return broken(f"shown by {', '.join(shown)}") if shown else held("shown by none, and by get_slice to reporters")


def large_refused_message(bench: Bench) -> Outcome:
    ran: list[Execution] = []
    bench.replica.network.observe = ran.append
    request = chat("tiny", ("user", {"content": "x" * 1_000_000}))
    code = refused(lambda: bench.gateway.submit_chat(STRANGER, request))
    bench.replica.network.observe = None
    if code is None:
        raise Unexpected("a prompt of 1 MB was taken")
    entries = ", ".join(each.entry.name.lower() for each in ran)
    words = f"{code}; {entries} ran, {sum(each.fuel for each in ran)} instructions"
    return held(words) if [each.entry for each in ran] == [Entry.INSPECT] else broken(words)


def queue_of_invented_callers(bench: Bench) -> Outcome:
    """64 invented principals put in what they may, and then as many more as are let in, one prompt each."""
    gateway = bench.gateway
    room = int(read(bench, "limits", Record({"queued_max": NAT64}))["queued_max"])
    some = [person(1_000 + each) for each in range(64)]
    into = sum(refused(partial(gateway.submit_sealed, by, b"x")) is None for by in some for _ in range(64))
    single = room - into
    for count in range(single):
        gateway.submit_sealed(person(2_000 + count), b"x")
    code = refused(lambda: gateway.submit_chat(ALICE, chat("tiny", ("user", {"content": "let me in"}))))
    words = f"{into} places taken by 64 callers and {single} by {single} more; the next caller is "
    return held(words + "let in") if code is None else broken(words + f"refused: {code}")


# ---- what goes on by itself


def unanswered_prompt(bench: Bench) -> Outcome:
    """A prompt that nobody answers stands in the way of everything behind it."""
    gateway = bench.gateway
    gateway.set_history(OWNER, 40_000)
    gateway.submit_sealed(ALICE, bytes(1_000))
    sealed(bench)
    for count in range(60):
        code = refused(partial(gateway.submit_sealed, caller(2 + count), bytes(2_000)))
        if code is not None:
            return broken(f"refused for good after {count} prompts: {code}")
        gateway.report_answer(REPORTER, fitting(bench, sealed(bench), b"ok"))
    return held(f"60 prompts behind it answered, {number(bench, 'history_bytes')} bytes of history")


def nobody_seals(bench: Bench) -> Outcome:
    """A host that never asks for a block keeps a prompt out of the order."""
    bench.gateway.submit_sealed(ALICE, b"x")
    for _ in range(60):
        bench.clock.now_ns += SECOND_NS
        bench.replica.fire_timer()
        for call in bench.replica.outstanding:
            bench.replica.deliver(call)
    height = number(bench, "head_height")
    return held("sealed by the gateway's own timer") if height else broken("it waits after a minute as it did before")


# ---- bounds and costs


def bound_lowered(bench: Bench) -> Outcome:
    """A state that keeps much, under a module that is made to keep little."""
    bound = 40_000
    gateway = bench.gateway
    for count in range(40):
        gateway.submit_sealed(caller(2 + count), bytes(2_000))
        gateway.report_answer(REPORTER, fitting(bench, sealed(bench), b"ok"))
    before = number(bench, "history_bytes")
    bench.replica.upgrade(with_history_bound(bench.module, bound))
    gateway.submit_sealed(ALICE, b"x")
    sealed(bench)
    after = number(bench, "history_bytes")
    words = f"{before} bytes before, {after} under a module whose bound is {bound}"
    if before <= bound:
        raise Unexpected(words)
    newest = 4_000  # the newest block stays, and what is being sealed is added before the oldest goes
    return held(words) if after <= bound + newest else broken(words)


def costly_bytes(bench: Bench) -> Outcome:
    """The longest prompts that are taken, through to the block: what the gateway computes for a byte of them."""
    ran: list[Execution] = []
    prompts = 4
    bench.replica.network.observe = ran.append
    for count in range(prompts):
        bench.gateway.submit_sealed(caller(2 + count), bytes([count]) * PAYLOAD_BYTES_MAX)
    sealed(bench)
    bench.replica.network.observe = None
    each = sum(message.fuel for message in ran) // (prompts * PAYLOAD_BYTES_MAX)
    words = f"{each} instructions a byte, where {INSTRUCTIONS_A_BYTE_MAX} are the bound"
    return held(words) if each <= INSTRUCTIONS_A_BYTE_MAX else broken(words)


HOLES: Final = (
    garbage_first,
    unsigned_answer,
    log_of_disagreements,
    prompts_of_others,
    large_refused_message,
    queue_of_invented_callers,
    unanswered_prompt,
    nobody_seals,
    bound_lowered,
    costly_bytes,
)
