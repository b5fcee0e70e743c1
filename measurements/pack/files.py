"""What may be in a pack: file names, what each is for, and what its bytes have to be.

A pack holds files whose name is known, flat, each of them data of a grammar that is checked. All else is refused by
name: pickle and the archives that carry it, programs, scripts, code beside the model.

Establishes that a file is of its kind. A chat template is a program in a small language, too: whoever renders it
keeps it in a sandbox.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from foundation.document import json_object
from measurements.pack.errors import PackMalformed

CARD: Final = "card.json"
TEMPLATE: Final = "chat_template.jinja"
ENGINE_PROFILE: Final = "engine-profile.json"
WEIGHTS_INDEX: Final = "model.safetensors.index.json"
SMALL_BYTES_MAX: Final = 64 << 20
"""Of everything but weights: the largest tokenizers have half of it."""


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")  # tab, line feed, form feed and return are text


class Kind(Enum):
    """What a file is for."""

    WEIGHTS = "weights"
    WEIGHTS_INDEX = "weights index"
    CONFIG = "config"
    TOKENIZER = "tokenizer"
    TEMPLATE = "template"
    PROFILE = "engine profile"
    TEXT = "text"


_BY_NAME: Final[dict[str, Kind]] = {
    "model.safetensors": Kind.WEIGHTS,
    WEIGHTS_INDEX: Kind.WEIGHTS_INDEX,
    "config.json": Kind.CONFIG,
    "generation_config.json": Kind.CONFIG,
    "tokenizer.json": Kind.TOKENIZER,
    "tokenizer_config.json": Kind.TOKENIZER,
    "special_tokens_map.json": Kind.TOKENIZER,
    "added_tokens.json": Kind.TOKENIZER,
    "vocab.json": Kind.TOKENIZER,
    "merges.txt": Kind.TOKENIZER,
    TEMPLATE: Kind.TEMPLATE,
    ENGINE_PROFILE: Kind.PROFILE,
    "LICENSE": Kind.TEXT,
    "LICENSE.txt": Kind.TEXT,
    "NOTICE": Kind.TEXT,
    "README.md": Kind.TEXT,
}
_SHARD: Final = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")

# What files of other kinds start with; the name of the kind goes into the refusal.
_SIGNS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a zip or torch archive"),
    (b"PK\x05\x06", "a zip or torch archive"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ", "a Windows program"),
    (b"\xfe\xed\xfa", "a Mach-O program"),
    (b"\xce\xfa\xed\xfe", "a Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"\xca\xfe\xba\xbe", "a Mach-O program or Java class"),
    (b"\x00asm", "a WebAssembly program"),
    (b"#!", "a script"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy file, which may hold pickle"),
)
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]|\(dp0|\(lp0|c[a-z_.]+\n[a-zA-Z_.]+\n|cos\n|c__builtin__\n")


def kind_of(name: str) -> Kind:
    """What the file of that name is for. Raises `PackMalformed` for a name that no pack has."""
    kind = _BY_NAME.get(name)
    if kind is not None:
        return kind
    shard = _SHARD.fullmatch(name)
    if shard and 1 <= int(shard[1]) <= int(shard[2]):
        return Kind.WEIGHTS
    raise PackMalformed(
        "pack.name",
        expected="safetensors, tokenizer, template, config, licence or card",
        got=repr(name[:96]),
        hint="a pack carries no pickle, no code and no folders; leave the file out",
    )


def looks_like(start: bytes) -> str | None:
    """What bytes that are not what they should be seem to be instead."""
    for sign, kind in _SIGNS:
        if start.startswith(sign):
            return kind
    if _PICKLE.match(start):
        return "pickle"
    if start[257:262] == b"ustar":
        return "a tar or torch archive"
    return None


def check_names(names: list[str]) -> None:
    """pack.md P4: what has to be there is there, and shards are whole."""
    kinds = {name: kind_of(name) for name in names}
    for kind in (Kind.WEIGHTS, Kind.TOKENIZER, Kind.TEMPLATE):
        if kind not in kinds.values():
            raise PackMalformed("pack.missing", expected=f"a {kind.value} file", got="none", hint=_WHERE.get(kind))
    if "config.json" not in kinds:
        raise PackMalformed("pack.missing", expected="config.json", got="none")
    weights = sorted(name for name, kind in kinds.items() if kind is Kind.WEIGHTS)
    if weights == ["model.safetensors"]:
        return
    total = int(weights[-1][15:20]) if _SHARD.fullmatch(weights[-1]) else 0
    wanted = [f"model-{number:05d}-of-{total:05d}.safetensors" for number in range(1, len(weights) + 1)]
    if weights != wanted or len(weights) != total:
        raise PackMalformed(
            "pack.shards", expected="model.safetensors, or every shard of one set", got=", ".join(weights)[:256]
        )


_WHERE: Final = {
    Kind.TEMPLATE: f"the template is a file of its own, {TEMPLATE}",
    Kind.WEIGHTS: "model.safetensors, or model-00001-of-0000N.safetensors and so on",
}


def check_small(name: str, raw: bytes) -> None:
    """pack.md P5: a file that is not weights is of its kind. Raises `PackMalformed` alone."""
    if len(raw) > SMALL_BYTES_MAX:
        raise PackMalformed("pack.size", expected=f"{name} of at most {SMALL_BYTES_MAX} bytes", got=f"{len(raw)} bytes")
    if (seems := looks_like(raw[:512])) is not None:
        raise PackMalformed("pack.content", expected=f"{name} to be {_form(name)}", got=seems)
    if name.endswith(".json"):
        members = json_object(raw, "pack", PackMalformed, bytes_max=SMALL_BYTES_MAX, called=name, floats=True)
        _check_members(name, members)
    else:
        _check_text(name, raw)


def _form(name: str) -> str:
    return "JSON" if name.endswith(".json") else "text"


def _check_members(name: str, members: dict[str, object]) -> None:
    if "auto_map" in members:
        raise PackMalformed("pack.code", expected=f"{name} without code of its own", got="the member auto_map")
    if name == "tokenizer_config.json" and "chat_template" in members:
        # One template, in one place: otherwise the template digest would not be that of the template used.
        raise PackMalformed(
            "pack.template",
            expected=f"the template in {TEMPLATE} alone",
            got="the member chat_template in tokenizer_config.json",
        )


def _check_text(name: str, raw: bytes) -> None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PackMalformed(
            "pack.content", expected=f"{name} to be UTF-8 text", got=f"{len(raw)} bytes that are not UTF-8"
        ) from None
    if (odd := _CONTROL.search(text)) is not None:
        raise PackMalformed("pack.content", expected=f"{name} to be text", got=f"control character {ord(odd[0])}")
