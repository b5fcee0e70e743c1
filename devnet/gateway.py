"""The gateway canister on a stand-in replica, as Python calls.

    gateway = Gateway(Replica(...))
    ticket = gateway.submit_chat(caller, {"model": ..., "messages": [("user", {"content": ...})]})
    gateway.seal_block(operator)
    slice_ = gateway.get_slice(1)
    gateway.report_answer(reporter, Report(height=1, index=0, ...))
    gateway.take_answer(caller, ticket)

The wasm is the one checked in at gateway/gateway.wasm, its digest checked before it runs. A refusal of the
canister is raised as `GatewayRefused` with the canister's own code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from anchorhold.host.answer_reports import Report
from attestation.consensus.blocks import Block
from attestation.consensus.slices import VERSION, Body
from devnet.replica import Call, Replica
from devnet.subnet import GATEWAY, Subnet
from foundation import cbor
from foundation.candid import BLOB, INT64, NAT64, NULL, PRINCIPAL, TEXT, Opt, Record, Type, Variant, Vec, decode, encode
from foundation.limits import HEADERS_MAX
from foundation.refusal import Refused

ARTEFACTS = Path(__file__).resolve().parent.parent / "gateway"

# ---- gateway/gateway.did, by name

_ARGUMENT = Record({"name": TEXT, "value": TEXT})
_TOOL_CALL = Record({"id": TEXT, "function": Record({"name": TEXT, "arguments": Vec(_ARGUMENT)})})
_MESSAGE = Variant(
    {
        "user": Record({"content": TEXT}),
        "system": Record({"content": TEXT}),
        "assistant": Record({"content": Opt(TEXT), "tool_calls": Vec(_TOOL_CALL)}),
        "tool": Record({"content": TEXT, "tool_call_id": TEXT}),
    }
)
_PROPERTY = Record({"type": TEXT, "name": TEXT, "description": Opt(TEXT), "enum": Opt(Vec(TEXT))})
_PARAMETERS = Record({"type": TEXT, "properties": Opt(Vec(_PROPERTY)), "required": Opt(Vec(TEXT))})
_FUNCTION = Record({"name": TEXT, "description": Opt(TEXT), "parameters": Opt(_PARAMETERS)})
_TOOL = Variant({"function": _FUNCTION})
_SAMPLING = Record(
    {
        "temperature_micro": Opt(NAT64),
        "top_p_micro": Opt(NAT64),
        "top_k": Opt(NAT64),
        "max_tokens": Opt(NAT64),
        "stop": Opt(Vec(TEXT)),
        "seed": Opt(NAT64),
        "min_p_micro": Opt(NAT64),
        "repetition_penalty_micro": Opt(NAT64),
        "presence_penalty_micro": Opt(INT64),
        "frequency_penalty_micro": Opt(INT64),
        "logit_bias": Opt(Vec(Record({"token": NAT64, "bias_micro": INT64}))),
    }
)
CHAT_REQUEST = Record({"model": TEXT, "messages": Vec(_MESSAGE), "tools": Opt(Vec(_TOOL)), "sampling": Opt(_SAMPLING)})
_REFUSAL = Record({"code": TEXT, "expected": TEXT, "got": TEXT})
_SUBMITTED = Variant({"ticket": NAT64, "refused": _REFUSAL})
_POSITION = Record({"height": NAT64, "index": NAT64, "id": NAT64})
_SEALED = Variant(
    {"sealed": Record({"height": NAT64, "link": BLOB, "count": NAT64}), "empty": NULL, "refused": _REFUSAL}
)
_HEAD: dict[str, Type] = {"certificate": Opt(BLOB), "head_height": NAT64, "head_link": BLOB, "oldest_height": NAT64}
_SLICE = Record({"blocks": Vec(BLOB), **_HEAD})
_HEADERS = Record({"headers": Vec(BLOB), **_HEAD})
_SIGNATURE = Record({"reporter": PRINCIPAL, "signature": BLOB})
_ANSWERED = Record(
    {
        "position": _POSITION,
        "answer": BLOB,
        "receipt": BLOB,
        "digest": BLOB,
        "signatures": Vec(_SIGNATURE),
        "dissenters": Vec(PRINCIPAL),
    }
)
_TAKEN = Variant({"waiting": NULL, "ordered": _POSITION, "answered": _ANSWERED, "refused": _REFUSAL})
_REPORT = Record({"height": NAT64, "index": NAT64, "answer": BLOB, "receipt": BLOB, "signature": BLOB})
_OUTCOME = Variant(
    {
        "recorded": Record({"digest": BLOB}),
        "repeated": Record({"digest": BLOB}),
        "diverged": Record({"kept": BLOB, "other": BLOB}),
        "refused": _REFUSAL,
    }
)
_DISAGREEMENT = Record(
    {
        "height": NAT64,
        "index": NAT64,
        "reporter": PRINCIPAL,
        "time": NAT64,
        "kept": BLOB,
        "other": BLOB,
        "evidence": Opt(Record({"receipt": BLOB, "signature": BLOB})),
    }
)
_DIVERGENCES = Record({"seen": NAT64, "divergences": Vec(_DISAGREEMENT)})
_SET = Variant({"set": NULL, "refused": _REFUSAL})
_STATUS = Record(
    {
        name: BLOB if name == "head_link" else NAT64
        for name in (
            "head_height",
            "head_link",
            "oldest_height",
            "queued",
            "queued_bytes",
            "callers_waiting",
            "fixed",
            "next_id",
            "next_ticket",
            "history_bytes",
        )
    }
)
_LIMIT_NAMES = (
    "payload_bytes_max",
    "messages_max",
    "tools_max",
    "tokens_max",
    "queued_max",
    "queued_per_caller_max",
    "block_requests_max",
    "block_payload_bytes_max",
    "answer_bytes_max",
)
_LIMITS = Record(dict.fromkeys(_LIMIT_NAMES, NAT64))


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
    head_height: int
    head_link: bytes
    oldest_height: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """In the queue, or in a block whose beacon is not drawn yet."""


@dataclass(frozen=True, slots=True)
class Answered:
    position: Position
    answer: bytes
    receipt: bytes
    digest: bytes
    signatures: tuple[tuple[bytes, bytes], ...]
    dissenters: tuple[bytes, ...]


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


def gateway_wasm() -> bytes:
    """The checked-in module, refused unless it has the digest checked in beside it."""
    wasm = (ARTEFACTS / "gateway.wasm").read_bytes()
    expected = (ARTEFACTS / "gateway.wasm.sha256").read_text("ascii").split()[0]
    if (got := hashlib.sha256(wasm).hexdigest()) != expected:
        raise GatewayRefused("wasm.digest", expected=expected, got=got)
    return wasm


def chat(model: str, *messages: tuple[str, Mapping[str, Any]], **options: Any) -> dict[str, Any]:
    """A request as the Candid codec wants it: every optional field named, absent ones `None`."""
    sampling = options.get("sampling")
    if sampling is not None:
        sampling = {name: sampling.get(name) for _, name, _ in _SAMPLING.fields}
    return {"model": model, "messages": list(messages), "tools": options.get("tools"), "sampling": sampling}


def _accepted(outcome: tuple[str, Any]) -> tuple[str, Any]:
    tag, value = outcome
    if tag == "refused":
        raise GatewayRefused(value["code"], expected=value["expected"], got=value["got"])
    return tag, value


def _sealed(reply: bytes) -> SealedBlock | None:
    tag, value = _accepted(decode([_SEALED], reply)[0])
    return None if tag == "empty" else SealedBlock(value["height"], value["link"], value["count"])


class Gateway:
    """Typed calls on an installed gateway. Callers are principals' raw bytes."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    @classmethod
    def install(cls, replica: Replica) -> Gateway:
        replica.install(gateway_wasm())
        return cls(replica)

    @classmethod
    def on_subnet(
        cls, subnet: Subnet, *, clock: Callable[[], int], randomness: Callable[[], bytes], controllers: frozenset[bytes]
    ) -> Gateway:
        """A fresh gateway whose certificates `subnet` signs, at the time `clock` gives."""

        def certify(canister: bytes, certified_data: bytes) -> bytes:
            return subnet.certify(canister, certified_data, clock())

        return cls.install(
            Replica(GATEWAY, clock=clock, randomness=randomness, certify=certify, controllers=controllers)
        )

    def upgrade(self) -> None:
        """The same code again, through `pre_upgrade` and `post_upgrade`."""
        self.replica.upgrade(gateway_wasm())

    def _update(self, method: str, of: Sequence[Type], values: Sequence[Any], result: Type, caller: bytes) -> Any:
        return decode([result], self.replica.ingress(method, encode(of, values), caller).reply())[0]

    def _query(
        self, method: str, of: Sequence[Type], values: Sequence[Any], result: Type, caller: bytes = b"\x04"
    ) -> Any:
        return decode([result], self.replica.query(method, encode(of, values), caller))[0]

    # ---- apps

    def submit_chat(self, caller: bytes, request: Mapping[str, Any]) -> int:
        """The ticket. Build `request` with `chat`."""
        outcome = self._update("submit_chat", [CHAT_REQUEST], [request], _SUBMITTED, caller)
        return int(_accepted(outcome)[1])

    def submit_sealed(self, caller: bytes, payload: bytes) -> int:
        argument = Record({"payload": BLOB})
        outcome = self._update("submit_sealed", [argument], [{"payload": payload}], _SUBMITTED, caller)
        return int(_accepted(outcome)[1])

    def take_answer(self, caller: bytes, ticket: int) -> Taken:
        tag, value = _accepted(self._query("take_answer", [NAT64], [ticket], _TAKEN, caller))
        if tag == "waiting":
            return Waiting()
        if tag == "ordered":
            return Position(**value)
        signatures = tuple((entry["reporter"], entry["signature"]) for entry in value["signatures"])
        return Answered(
            **{
                **value,
                "position": Position(**value["position"]),
                "signatures": signatures,
                "dissenters": tuple(value["dissenters"]),
            }
        )

    # ---- hosts

    def begin_seal(self, caller: bytes) -> Call:
        """Starts sealing: the prompts are fixed, `raw_rand` is outstanding. `end_seal` reads the result."""
        return self.replica.ingress("seal_block", encode([], []), caller)

    def end_seal(self, call: Call) -> SealedBlock | None:
        return _sealed(call.reply())

    def seal_block(self, caller: bytes) -> SealedBlock | None:
        """Seals what waits and delivers every outstanding call. `None` if nothing waited."""
        call = self.begin_seal(caller)
        self.replica.settle()
        return self.end_seal(call)

    def get_slice(self, from_height: int, max_blocks: int = 256) -> Slice:
        found = self._query("get_slice", [NAT64, NAT64], [from_height, max_blocks], _SLICE)
        return Slice(tuple(found.pop("blocks")), **found)

    def get_headers(self, from_height: int, max_headers: int = 4_096) -> Slice:
        found = self._query("get_headers", [NAT64, NAT64], [from_height, max_headers], _HEADERS)
        return Slice(tuple(found.pop("headers")), **found)

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
        headers = [cbor.decode(raw) for raw in read.encoded]
        proof = cbor.encode([VERSION, read.certificate, headers])
        bodies: list[bytes] = []
        while len(bodies) < len(headers):
            for raw in self.get_slice(from_height + len(bodies)).encoded:
                block = Block.decode(raw)
                bodies.append(Body(block.header.height, block.requests).encode())
        return proof, tuple(bodies[: len(headers)])

    # ---- reporters

    def report_answer(self, reporter: bytes, report: Report) -> str:
        """`recorded`, `repeated` or `diverged`."""
        values = {name: getattr(report, name) for _, name, _ in _REPORT.fields}
        return _accepted(self._update("report_answer", [_REPORT], [values], _OUTCOME, reporter))[0]

    def answer_digest(self, height: int, index: int) -> bytes | None:
        digest: bytes | None = self._query("answer_digest", [NAT64, NAT64], [height, index], Opt(BLOB))
        return digest

    def divergences(self, caller: bytes = b"\x04", first: int = 0, count: int = 256) -> tuple[Divergence, ...]:
        found = self._query("divergences", [NAT64, NAT64], [first, count], _DIVERGENCES, caller)
        return tuple(_divergence(entry) for entry in found["divergences"])

    # ---- controllers and anyone

    def set_reporters(self, caller: bytes, reporters: Sequence[bytes]) -> None:
        _accepted(self._update("set_reporters", [Vec(PRINCIPAL)], [list(reporters)], _SET, caller))

    def set_history(self, caller: bytes, bytes_max: int) -> None:
        _accepted(self._update("set_history", [NAT64], [bytes_max], _SET, caller))

    def reporters(self) -> tuple[bytes, ...]:
        return tuple(self._query("reporters", [], [], Vec(PRINCIPAL)))

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._query("status", [], [], _STATUS)
        return status

    def limits(self) -> dict[str, int]:
        limits: dict[str, int] = self._query("limits", [], [], _LIMITS)
        return limits


def _divergence(entry: dict[str, Any]) -> Divergence:
    evidence = entry.pop("evidence")
    return Divergence(**entry, evidence=(evidence["receipt"], evidence["signature"]) if evidence else None)
