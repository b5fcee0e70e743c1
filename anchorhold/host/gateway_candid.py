"""The types of gateway/gateway.did by name, as the Candid codec takes them."""

from __future__ import annotations

from foundation.candid import BLOB, BOOL, INT64, NAT64, NULL, PRINCIPAL, TEXT, Opt, Record, Type, Variant, Vec

ARGUMENT = Record({"name": TEXT, "value": TEXT})
TOOL_CALL = Record({"id": TEXT, "function": Record({"name": TEXT, "arguments": Vec(ARGUMENT)})})
MESSAGE = Variant(
    {
        "user": Record({"content": TEXT}),
        "system": Record({"content": TEXT}),
        "assistant": Record({"content": Opt(TEXT), "tool_calls": Vec(TOOL_CALL)}),
        "tool": Record({"content": TEXT, "tool_call_id": TEXT}),
    }
)
PROPERTY = Record({"type": TEXT, "name": TEXT, "description": Opt(TEXT), "enum": Opt(Vec(TEXT))})
PARAMETERS = Record({"type": TEXT, "properties": Opt(Vec(PROPERTY)), "required": Opt(Vec(TEXT))})
FUNCTION = Record({"name": TEXT, "description": Opt(TEXT), "parameters": Opt(PARAMETERS)})
TOOL = Variant({"function": FUNCTION})
SAMPLING = Record(
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
RESPONSE_FORMAT = Variant({"text": NULL, "json_object": NULL, "json_schema": Record({"name": TEXT, "schema": TEXT})})
CHAT_REQUEST = Record(
    {
        "model": TEXT,
        "messages": Vec(MESSAGE),
        "tools": Opt(Vec(TOOL)),
        "sampling": Opt(SAMPLING),
        "response_format": Opt(RESPONSE_FORMAT),
    }
)
CHAT_REQUEST_V0 = Record(
    {
        "model": TEXT,
        "messages": Vec(Record({"role": Variant({"user": NULL, "assistant": NULL, "system": NULL}), "content": TEXT})),
    }
)
REFUSAL = Record({"code": TEXT, "expected": TEXT, "got": TEXT})
SUBMITTED = Variant({"ticket": NAT64, "refused": REFUSAL})
POSITION = Record({"height": NAT64, "index": NAT64, "id": NAT64})
SEALED = Variant({"sealed": Record({"height": NAT64, "link": BLOB, "count": NAT64}), "empty": NULL, "refused": REFUSAL})
HEAD: dict[str, Type] = {
    "certificate": Opt(BLOB),
    "tree": BLOB,
    "head_height": NAT64,
    "head_link": BLOB,
    "oldest_height": NAT64,
}
SLICE = Record({"blocks": Vec(BLOB), **HEAD})
HEADERS = Record({"headers": Vec(BLOB), **HEAD})
SIGNATURE = Record({"reporter": PRINCIPAL, "signature": BLOB})
ENTRIES = Opt(Record({"header": BLOB, "entries": Vec(Variant({"request": BLOB, "leaf": BLOB}))}))
OTHER = Record({"answer": BLOB, "receipt": BLOB, "digest": BLOB, "signatures": Vec(SIGNATURE)})
PROOF = Record({"certificate": Opt(BLOB), "tree": BLOB})
ANSWERED = Record(
    {
        "position": POSITION,
        "answer": BLOB,
        "receipt": BLOB,
        "digest": BLOB,
        "signatures": Vec(SIGNATURE),
        "dissenters": Vec(PRINCIPAL),
        "others": Vec(OTHER),
        "certificate": Opt(BLOB),
        "tree": BLOB,
    }
)
TAKEN = Variant({"waiting": NULL, "ordered": POSITION, "answered": ANSWERED, "refused": REFUSAL})
REPORT = Record({"height": NAT64, "index": NAT64, "answer": BLOB, "receipt": BLOB, "signature": BLOB})
OUTCOME = Variant(
    {
        "recorded": Record({"digest": BLOB}),
        "repeated": Record({"digest": BLOB}),
        "diverged": Record({"kept": BLOB, "other": BLOB}),
        "refused": REFUSAL,
    }
)
DISAGREEMENT = Record(
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
DIVERGENCES = Record({"seen": NAT64, "divergences": Vec(DISAGREEMENT)})
SET = Variant({"set": NULL, "refused": REFUSAL})
ASSISTANT = Record({"content": Opt(TEXT), "tool_calls": Vec(TOOL_CALL)})
REPLY = Record(
    {
        "message": ASSISTANT,
        "ticket": NAT64,
        "position": POSITION,
        "receipt": BLOB,
        "digest": BLOB,
        "signatures": Vec(SIGNATURE),
    }
)
PACE = Record({"soonest_ms": NAT64, "latest_ms": NAT64, "expiry_blocks": NAT64})
STATUS_NUMBERS = (
    "head_height",
    "oldest_height",
    "queued",
    "queued_bytes",
    "callers_waiting",
    "fixed",
    "next_id",
    "next_ticket",
    "history_bytes",
    "open_calls",
    "draws",
    "expired",
)
STATUS = Record({**dict.fromkeys(STATUS_NUMBERS, NAT64), "head_link": BLOB, "draining": BOOL, "pace": PACE})
LIMIT_NAMES = (
    "payload_bytes_max",
    "messages_max",
    "tools_max",
    "tokens_max",
    "queued_max",
    "queued_per_caller_max",
    "queued_per_canister_max",
    "block_requests_max",
    "block_payload_bytes_max",
    "answer_bytes_max",
    "alternatives_max",
    "open_calls_max",
    "open_calls_per_canister_max",
    "expiry_blocks_max",
)
LIMITS = Record(dict.fromkeys(LIMIT_NAMES, NAT64))
