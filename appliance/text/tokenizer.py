"""`tokenizer.json` of a model: text to token ids, and the bytes each token stands for.

    tokenizer = Tokenizer.parse(raw)
    tokenizer.encode(rendered, veil) -> ids          control tokens are found where the template wrote them, only there
    tokenizer.pieces[token]          -> bytes        what that token adds to an answer

The library `tokenizers` does the splitting and merging of ordinary text; control tokens it never sees. Served are byte
pair encodings over bytes (Llama 3, Qwen) and over pieces with byte fallback (Llama 2, Mistral); what could make the
same text other tokens elsewhere (dropout, truncation, padding, tokens that swallow spaces) is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tokenizers import Tokenizer as Encoder

from appliance.text.errors import ModelTextRefused, PromptRefused
from appliance.text.veil import Veil
from foundation.document import json_object
from foundation.refusal import outline, shape, shown

FILE_BYTES_MAX: Final = 64 << 20
TOKENS_MAX: Final = 1 << 20
_MEMBERS: Final = frozenset(
    {
        "version",
        "truncation",
        "padding",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "decoder",
        "model",
    }
)
_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-F]{2})>")
_PIECES_WITH_FALLBACK: Final = ("Replace", "ByteFallback", "Fuse", "Strip")
SPACE: Final = "▁"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What was read, proven to be of a kind that is served."""

    pieces: tuple[bytes, ...]  # by token id; empty for a token that says nothing
    control: Mapping[str, int]  # every added token
    control_ids: frozenset[int]
    strips_first_space: bool
    _pattern: re.Pattern[str]
    _first: Encoder
    _later: Encoder

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ModelTextRefused` alone."""
        members = json_object(
            raw, "tokenizer", ModelTextRefused, bytes_max=FILE_BYTES_MAX, called="tokenizer.json", floats=True
        )
        _check_members(members)
        vocabulary = _vocabulary(members["model"])
        control, silent = _added(members["added_tokens"])
        over_bytes = _decoder_is_over_bytes(members["decoder"])
        pieces = _pieces(vocabulary, control, silent, _bytes_of if over_bytes else _bytes_of_piece)
        longest_first = sorted(control, key=lambda token: (-len(token), token))
        first = {**members, "added_tokens": [], "post_processor": None}
        later = {**first, "pre_tokenizer": _without_prefix(first["pre_tokenizer"])}
        encoder = _encoder(first)
        return cls(
            pieces,
            control,
            frozenset(control.values()),
            not over_bytes,
            re.compile("|".join(map(re.escape, longest_first)) or r"(?!)"),
            encoder,
            encoder if later == first else _encoder(later),
        )

    def encode(self, rendered: str, veil: Veil) -> tuple[int, ...]:
        """text.md L9, L10. Raises `PromptRefused` alone."""
        ids: list[int] = []
        at = 0
        for found in self._pattern.finditer(rendered):
            self._ordinary(rendered, at, found.start(), veil, ids=ids)
            ids.append(self.control[found[0]])
            at = found.end()
        self._ordinary(rendered, at, len(rendered), veil, ids=ids)
        return tuple(ids)

    def _ordinary(self, rendered: str, begin: int, end: int, veil: Veil, *, ids: list[int]) -> None:
        if begin == end:
            return
        encoder = self._later if begin else self._first
        found = _encoded(encoder, veil.off(rendered[begin:end]))
        if not self.control_ids.isdisjoint(found):
            # A vocabulary that holds a control token as an ordinary piece, too.
            raise PromptRefused("forged", expected="ordinary tokens for ordinary text", got="a control token")
        ids += found


def _check_members(members: Mapping[str, object]) -> None:
    if odd := sorted(set(members) ^ _MEMBERS):
        raise ModelTextRefused("tokenizer.members", expected=", ".join(sorted(_MEMBERS)), got=f"{odd}"[:200])
    for name in ("truncation", "padding"):
        if members[name] is not None:
            raise ModelTextRefused(f"tokenizer.{name}", expected="none", got=shape(members[name]))


def _vocabulary(model: object) -> dict[str, int]:
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise ModelTextRefused(
            "tokenizer.model",
            expected="a byte pair encoding (BPE)",
            got=shown(model.get("type")) if isinstance(model, dict) else shape(model),
        )
    if model.get("dropout"):
        raise ModelTextRefused("tokenizer.dropout", expected="none: it is random", got=shown(model["dropout"]))
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not all(_is_token(number) for number in vocabulary.values()):
        raise ModelTextRefused("tokenizer.vocab", expected="texts and their token numbers", got=shape(vocabulary))
    return vocabulary


def _added(value: object) -> tuple[dict[str, int], set[int]]:
    """Every added token, and those of them that are not part of a text."""
    control: dict[str, int] = {}
    silent = set()
    for member in value if isinstance(value, list) else [None]:
        match member:
            case {"id": int(number), "content": str(content), "special": bool(special), **flags} if content:
                pass
            case _:
                raise ModelTextRefused(
                    "tokenizer.added", expected="added tokens with id and content", got=outline(member)
                )
        for flag in ("lstrip", "rstrip", "single_word"):
            if flags.get(flag):
                raise ModelTextRefused(
                    "tokenizer.added", expected=f"added tokens without {flag}", got=repr(content[:64])
                )
        if content in control or number in control.values() or not _is_token(number):
            raise ModelTextRefused("tokenizer.added", expected="each token once", got=repr(content[:64]))
        control[content] = number
        if special:
            silent.add(number)
    return control, silent


def _is_token(number: object) -> bool:
    return type(number) is int and 0 <= number < TOKENS_MAX


def _decoder_is_over_bytes(decoder: object) -> bool:
    match decoder:
        case {"type": "ByteLevel"}:
            return True
        case {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        }:
            return False
        case _:
            raise ModelTextRefused(
                "tokenizer.decoder", expected=f"ByteLevel, or {', '.join(_PIECES_WITH_FALLBACK)}", got=shown(decoder)
            )


def _pieces(
    vocabulary: Mapping[str, int], control: Mapping[str, int], silent: set[int], bytes_of: Any
) -> tuple[bytes, ...]:
    pieces = [b""] * (1 + max((*vocabulary.values(), *control.values()), default=-1))
    seen: set[int] = set()
    for text, number in vocabulary.items():
        if number in seen:
            raise ModelTextRefused("tokenizer.vocab", expected="each token number once", got=number)
        seen.add(number)
        pieces[number] = bytes_of(text)
    for text, number in control.items():
        pieces[number] = b"" if number in silent else text.encode()
    return tuple(pieces)


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins byte-level vocabularies write bytes with: themselves, or 256 on in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + number): byte for number, byte in enumerate(others)}


_ALPHABET: Final = _byte_alphabet()


def _bytes_of(text: str) -> bytes:
    try:
        return bytes([_ALPHABET[character] for character in text])
    except KeyError:
        raise ModelTextRefused(
            "tokenizer.vocab", expected="tokens written in the byte alphabet", got=repr(text[:64])
        ) from None


def _bytes_of_piece(text: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace(SPACE, " ").encode()


def _without_prefix(pre_tokenizer: object) -> object:
    """For text behind a control token: a prefix that belongs to the beginning alone is left out there."""
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("prepend_scheme") == "first":
        return {**pre_tokenizer, "prepend_scheme": "never"}
    return pre_tokenizer


def _encoder(members: Mapping[str, object]) -> Encoder:
    try:
        return Encoder.from_str(json.dumps(members))
    except BaseException as error:
        if not (isinstance(error, Exception) or _is_panic(error)):  # the library has no narrower one
            raise
        got = str(error)[:200]
        raise ModelTextRefused("tokenizer.json", expected="a tokenizer the library reads", got=got) from None


def _encoded(encoder: Encoder, words: str) -> list[int]:
    """Words that a tokenizer cannot digest are a refusal of that request, the same on every cell."""
    try:
        found: list[int] = encoder.encode(words, add_special_tokens=False).ids
    except BaseException as error:
        if not (isinstance(error, Exception) or _is_panic(error)):
            raise
        raise PromptRefused(
            "tokens", expected="words that this tokenizer can cut", got="words on which it fails"
        ) from None
    return found


def _is_panic(error: BaseException) -> bool:
    """A bug of the library, below Python: no Exception, and of a type that nobody exports."""
    return type(error).__name__ == "PanicException"
