"""JSON as a model folder has it: one object, no key twice, nothing that is not JSON.

Establishes shape alone.
"""

from __future__ import annotations

import json
from collections import Counter
from operator import itemgetter
from typing import NoReturn

from measurements.pack.errors import PackMalformed


def parse_object(what: str, raw: bytes, *, bytes_max: int, floats: bool) -> dict[str, object]:
    """The object that `raw` is. Raises `PackMalformed` alone."""
    if len(raw) > bytes_max:
        raise PackMalformed("pack.size", expected=f"{what} of at most {bytes_max} bytes", got=f"{len(raw)} bytes")

    def refuse(word: str) -> NoReturn:
        raise PackMalformed("pack.json", expected=f"integers and strings in {what}", got=word[:32])

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = max(Counter(name for name, _ in pairs).items(), key=itemgetter(1))[0]
            raise PackMalformed("pack.json", expected=f"each key of {what} once", got=f"{twice[:64]!r} twice")
        return found

    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse,
            parse_float=float if floats else refuse,
        )
    except (ValueError, RecursionError) as error:
        raise PackMalformed("pack.json", expected=f"{what} to be JSON", got=type(error).__name__) from None
    if not isinstance(value, dict):
        raise PackMalformed("pack.json", expected=f"{what} to be a JSON object", got=type(value).__name__)
    return value
