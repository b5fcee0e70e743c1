"""JSON documents that people vote on: strict fields, and one accepted spelling of every value.

    fields = parse(raw, "manifest", bytes_max=48 << 10)
    name = fields.text("name", 64)
    fields.done()                       # nothing was left unread
    render(document) == raw             # or it is refused: no second spelling to hide a difference in

Establishes form alone. Raises `ReleaseDocumentRefused`, nothing else.
"""

from __future__ import annotations

import json
from typing import Final, TypeAlias, Union

from foundation.document import Fields, json_value
from measurements.release.errors import ReleaseDocumentRefused

Document: TypeAlias = Union[str, int, "list[Document]", "dict[str, Document]", None]
"""What a document is made of: no floats, no booleans."""

DEPTH_MAX: Final = 8


def render(document: Document) -> bytes:
    """The one spelling: sorted names, two spaces, ASCII, a newline at the end."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def parse(raw: bytes, where: str, *, bytes_max: int) -> Fields:
    value = json_value(
        raw,
        where,
        ReleaseDocumentRefused,
        bytes_max=bytes_max,
        encoding="ascii",
        depth_max=DEPTH_MAX,
        called=f"the {where}",
    )
    return Fields(value, where, ReleaseDocumentRefused)


def refuse_other_form(raw: bytes, rendered: bytes, where: str) -> None:
    """Raises unless `raw` is the one spelling of what it says."""
    if raw != rendered:
        at = next((at for at, (one, other) in enumerate(zip(raw, rendered, strict=False)) if one != other), None)
        got = f"{len(raw)} bytes" if at is None else f"another from byte {at}"
        raise ReleaseDocumentRefused(
            f"{where}.form", expected=f"the one spelling of its value, {len(rendered)} bytes", got=got
        )
