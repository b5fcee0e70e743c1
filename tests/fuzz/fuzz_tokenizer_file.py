"""Invariant: whatever the bytes, tokenizer.json parses or is refused with ModelTextRefused; with a parsed one, a
client's words become ordinary tokens, or are refused with PromptRefused, and every token has bytes.
"""

from __future__ import annotations

import json

from appliance.text import ModelTextRefused, PromptRefused
from appliance.text.tokenizer import Tokenizer
from appliance.text.veil import Veil

SMALL = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "normalizer": None,
    "post_processor": None,
    "added_tokens": [{"id": 9, "content": "<e>", "special": True, "normalized": False}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel"},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "vocab": {"a": 0, "b": 1, "ab": 2, "<": 3, ">": 4},
        "merges": [["a", "b"]],
    },
}
PIECES = {
    **SMALL,
    "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"},
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
}
SEEDS: list[bytes] = [json.dumps(SMALL).encode(), json.dumps(PIECES).encode(), b"{}", b""]


def one_input(data: bytes) -> None:
    try:
        tokenizer = Tokenizer.parse(data)
        veil = Veil(tokenizer.control)
    except ModelTextRefused:
        return
    words = "ab <e> a" + "".join(tokenizer.control)
    try:
        ids = tokenizer.encode(veil.over(words), veil)
    except PromptRefused:
        return
    assert not set(ids) & set(tokenizer.control.values())
    assert all(0 <= number < len(tokenizer.pieces) for number in ids)
