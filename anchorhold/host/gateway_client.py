"""The gateway canister as Python calls, over whatever carries them to it.

    gateway = GatewayClient(canister)
    ticket = gateway.submit_chat(caller, chat("little", ("user", {"content": "..."})))
    proof, bodies = gateway.proof_and_bodies(1)
    gateway.report_answer(reporter, Report(height=1, index=0, ...))
    gateway.take_answer(caller, ticket)

A query's reply is one node's claim: its certificate proves the parts that are accepted, and is checked elsewhere. A
refusal of the canister is raised as `GatewayRefused` with the canister's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from anchorhold.host import gateway_candid as did
from anchorhold.host.answer_reports import Report
from attestation.consensus.answered import AnsweredProof
from attestation.consensus.blocks import Block, Header, Request, header_from, requests_from
from attestation.consensus.slices import VERSION_WITH_TREE, Body
from foundation import cbor
from foundation.candid import BLOB, BOOL, NAT64, PRINCIPAL, TEXT, Opt, Record, Type, Vec, decode, encode
from foundation.limits import HEADERS_MAX
from foundation.refusal import Refused

ANONYMOUS: Final = b"\x04"


class Call(Protocol):
    """An update call under way."""

    def reply(self) -> bytes:
        """Raises whatever says that the canister rejected it, or that it is not answered yet."""


class Canister(Protocol):
    """One canister, in this process or behind an address."""

    def ingress(self, method: str, argument: bytes, caller: bytes, /) -> Call: ...

    def query(self, method: str, argument: bytes, caller: bytes, /) -> bytes: ...


class GatewayRefused(Refused):
    stage = "gateway"


@dataclass(frozen=True, slots=True)
class Position:
    height: int
    index: int
    id: int


@dataclass(frozen=True, slots=True)
class SealedBlock:
    height: int
    link: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What a host reads: encoded blocks (or headers) and a certificate for the head."""

    encoded: tuple[bytes, ...]
    certificate: bytes | None
    tree: bytes
    head_height: int
    head_link: bytes
    oldest_height: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """In the queue, or in a block whose beacon is not drawn yet."""


@dataclass(frozen=True, slots=True)
class Reported:
    """One answer and those who reported it."""

    answer: bytes
    receipt: bytes
    digest: bytes
    signatures: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Answered(Reported):
    """The first answer; `others` differ from it. `proof` is what the subnet certifies of all of them."""

    position: Position
    dissenters: tuple[bytes, ...]
    others: tuple[Reported, ...]
    proof: AnsweredProof | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What `v1_chat` gives: the LLM canister's message, and what this gateway knows besides."""

    message: dict[str, Any]
    ticket: int
    position: Position
    receipt: bytes
    digest: bytes
    signatures: tuple[tuple[bytes, bytes], ...]


Taken: TypeAlias = Waiting | Position | Answered


@dataclass(frozen=True, slots=True)
class Divergence:
    height: int
    index: int
    reporter: bytes
    time: int
    kept: bytes
    other: bytes
    evidence: tuple[bytes, bytes] | None


def chat(model: str, *messages: tuple[str, Mapping[str, Any]], **options: Any) -> dict[str, Any]:
    """A request as the Candid codec wants it: every optional field named, absent ones `None`."""
    sampling = options.get("sampling")
    if sampling is not None:
        sampling = {name: sampling.get(name) for _, name, _ in did.SAMPLING.fields}
    return {
        "model": model,
        "messages": list(messages),
        "tools": options.get("tools"),
        "sampling": sampling,
        "response_format": options.get("response_format"),
    }


def proof_of(read: Slice) -> bytes:
    """The slice proof of headers as `get_headers` gives them, with their certificate and its tree."""
    return cbor.encode([VERSION_WITH_TREE, read.certificate, read.tree, [cbor.decode(raw) for raw in read.encoded]])


def _accepted(outcome: tuple[str, Any]) -> tuple[str, Any]:
    tag, value = outcome
    if tag == "refused":
        raise GatewayRefused(value["code"], expected=value["expected"], got=value["got"])
    return tag, value


def _sealed(reply: bytes) -> SealedBlock | None:
    tag, value = _accepted(decode([did.SEALED], reply)[0])
    return None if tag == "empty" else SealedBlock(value["height"], value["link"], value["count"])


class GatewayClient:
    """Typed calls on an installed gateway. Callers are principals' raw bytes."""

    def __init__(self, canister: Canister) -> None:
        self._canister: Final = canister

    def _update(self, method: str, of: Sequence[Type], values: Sequence[Any], result: Type, *, caller: bytes) -> Any:
        return decode([result], self.begin(method, encode(of, values), caller).reply())[0]

    def begin(self, method: str, argument: bytes, caller: bytes) -> Call:
        """Starts an update call, as somebody outside the subnet does."""
        return self._canister.ingress(method, argument, caller)

    def _query(
        self, method: str, of: Sequence[Type], values: Sequence[Any], result: Type, *, caller: bytes = ANONYMOUS
    ) -> Any:
        return decode([result], self._canister.query(method, encode(of, values), caller))[0]

    # ---- apps

    def submit_chat(self, caller: bytes, request: Mapping[str, Any]) -> int:
        """The ticket. Build `request` with `chat`."""
        outcome = self._update("submit_chat", [did.CHAT_REQUEST], [request], did.SUBMITTED, caller=caller)
        return int(_accepted(outcome)[1])

    def submit_sealed(self, caller: bytes, payload: bytes) -> int:
        argument = Record({"payload": BLOB})
        outcome = self._update("submit_sealed", [argument], [{"payload": payload}], did.SUBMITTED, caller=caller)
        return int(_accepted(outcome)[1])

    def take_answer(self, caller: bytes, ticket: int) -> Taken:
        tag, value = _accepted(self._query("take_answer", [NAT64], [ticket], did.TAKEN, caller=caller))
        if tag == "waiting":
            return Waiting()
        if tag == "ordered":
            return Position(**value)
        return Answered(
            **_reported(value),
            position=Position(**value["position"]),
            dissenters=tuple(value["dissenters"]),
            others=tuple(Reported(**_reported(other)) for other in value["others"]),
            proof=_proof(value),
        )

    def admission_refusal(self, caller: bytes) -> str | None:
        """The code under which one more prompt of this caller would be refused."""
        refusal = self._query("admission_refusal", [], [], Opt(did.REFUSAL), caller=caller)
        return None if refusal is None else str(refusal["code"])

    def prove_answer(self, number: int) -> AnsweredProof | None:
        """What the subnet certifies of one request, by its id. Anyone may ask."""
        return _proof(self._query("prove_answer", [NAT64], [number], did.PROOF))

    def begin_chat(self, caller: bytes, request: Mapping[str, Any]) -> Call:
        """`v1_chat`: waits in the gateway, by draws that whoever runs the replica delivers. `end_chat` reads it."""
        return self.begin("v1_chat", encode([did.CHAT_REQUEST], [request]), caller)

    def end_chat(self, call: Call) -> Reply:
        """Raises `Rejected` with the gateway's reason, `NotAnswered` while it waits."""
        value = decode([did.REPLY], call.reply())[0]
        signatures = _signatures(value["signatures"])
        return Reply(**{**value, "position": Position(**value["position"]), "signatures": signatures})

    def begin_chat_v0(self, caller: bytes, request: Mapping[str, Any]) -> Call:
        return self.begin("v0_chat", encode([did.CHAT_REQUEST_V0], [request]), caller)

    def end_chat_v0(self, call: Call) -> str:
        return str(decode([TEXT], call.reply())[0])

    # ---- hosts

    def begin_seal(self, caller: bytes) -> Call:
        """Starts sealing: the prompts are fixed, `raw_rand` is outstanding. `end_seal` reads the result."""
        return self.begin("seal_block", encode([], []), caller)

    def end_seal(self, call: Call) -> SealedBlock | None:
        return _sealed(call.reply())

    def get_slice(self, from_height: int, max_blocks: int = 256, *, reader: bytes | None = None) -> Slice:
        """Whole blocks, which reporters and controllers alone may read: without `reader`, as the first reporter."""
        as_whom = reader if reader is not None else next(iter(self.reporters()), ANONYMOUS)
        found = self._query("get_slice", [NAT64, NAT64], [from_height, max_blocks], did.SLICE, caller=as_whom)
        return Slice(tuple(found.pop("blocks")), **found)

    def get_headers(self, from_height: int, max_headers: int = 4_096) -> Slice:
        found = self._query("get_headers", [NAT64, NAT64], [from_height, max_headers], did.HEADERS)
        return Slice(tuple(found.pop("headers")), **found)

    def get_entries(self, height: int, caller: bytes = ANONYMOUS) -> tuple[Header, tuple[Request | bytes, ...]] | None:
        """A block's header and each of its requests: itself where `caller` may read it, else its leaf."""
        found = self._query("get_entries", [NAT64], [height], did.ENTRIES, caller=caller)
        if found is None:
            return None
        return header_from(cbor.decode(found["header"])), tuple(_entry(*each) for each in found["entries"])

    def proof_and_bodies(self, from_height: int) -> tuple[bytes, tuple[bytes, ...]] | None:
        """What a host carries to a cell: one slice proof and a body per block. `None` if nothing is newer.

        The certificate speaks for the head alone, so the headers must reach it: a host that is further behind
        than one proof allows needs a certificate it kept on the way.
        """
        read = self.get_headers(from_height)
        if from_height > read.head_height or read.certificate is None:
            return None
        if from_height < read.oldest_height or from_height + len(read.encoded) <= read.head_height:
            expected = f"a height from {read.oldest_height} within {HEADERS_MAX} of {read.head_height}"
            raise GatewayRefused("slice.range", expected=expected, got=from_height)
        bodies: list[bytes] = []
        while len(bodies) < len(read.encoded):
            for raw in self.get_slice(from_height + len(bodies)).encoded:
                block = Block.decode(raw)
                bodies.append(Body(block.header.height, block.requests).encode())
        return proof_of(read), tuple(bodies[: len(read.encoded)])

    # ---- reporters

    def report_answer(self, reporter: bytes, report: Report) -> str:
        """`recorded`, `repeated` or `diverged`."""
        values = {name: getattr(report, name) for _, name, _ in did.REPORT.fields}
        return _accepted(self._update("report_answer", [did.REPORT], [values], did.OUTCOME, caller=reporter))[0]

    def answer_digest(self, height: int, index: int) -> bytes | None:
        digest: bytes | None = self._query("answer_digest", [NAT64, NAT64], [height, index], Opt(BLOB))
        return digest

    def divergences(self, caller: bytes = ANONYMOUS, first: int = 0, count: int = 256) -> tuple[Divergence, ...]:
        found = self._query("divergences", [NAT64, NAT64], [first, count], did.DIVERGENCES, caller=caller)
        return tuple(_divergence(entry) for entry in found["divergences"])

    # ---- controllers and anyone

    def set_reporters(self, caller: bytes, reporters: Sequence[bytes]) -> None:
        _accepted(self._update("set_reporters", [Vec(PRINCIPAL)], [list(reporters)], did.SET, caller=caller))

    def set_pace(self, caller: bytes, *, soonest_ms: int, latest_ms: int, expiry_blocks: int) -> None:
        pace = {"soonest_ms": soonest_ms, "latest_ms": latest_ms, "expiry_blocks": expiry_blocks}
        _accepted(self._update("set_pace", [did.PACE], [pace], did.SET, caller=caller))

    def set_draining(self, caller: bytes, on: bool) -> None:
        _accepted(self._update("set_draining", [BOOL], [on], did.SET, caller=caller))

    def set_history(self, caller: bytes, bytes_max: int) -> None:
        _accepted(self._update("set_history", [NAT64], [bytes_max], did.SET, caller=caller))

    def reporters(self) -> tuple[bytes, ...]:
        return tuple(self._query("reporters", [], [], Vec(PRINCIPAL)))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._query("status", [], [], did.STATUS)
        return status

    def limits(self) -> dict[str, int]:
        limits: dict[str, int] = self._query("limits", [], [], did.LIMITS)
        return limits


def _signatures(entries: Sequence[Mapping[str, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((entry["reporter"], entry["signature"]) for entry in entries)


def _reported(value: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: value[name] for name in ("answer", "receipt", "digest")}
    return {**named, "signatures": _signatures(value["signatures"])}


def _proof(value: Mapping[str, Any]) -> AnsweredProof | None:
    certificate = value["certificate"]
    return None if certificate is None else AnsweredProof(certificate, value["tree"])


def _entry(kind: str, raw: bytes) -> Request | bytes:
    return requests_from([cbor.decode(raw)])[0] if kind == "request" else raw


def _divergence(entry: dict[str, Any]) -> Divergence:
    evidence = entry.pop("evidence")
    return Divergence(**entry, evidence=(evidence["receipt"], evidence["signature"]) if evidence else None)
