"""Every way a model pack is refused, one class per stage, so that a caller catches one family.

`malformed` means the bytes or the folder are not what a pack is made of; `signature` that nobody vouches for
them, or not the one that was asked for; `key` that the key is not the one it was sealed with; `content` that
bytes differ from what was signed, and which; `identity` that it is a sound pack of another model.
"""

from __future__ import annotations

from foundation.refusal import Refused


class PackRefused(Refused):
    """Base of the family: nothing else leaves a parser, a verifier or an opening of a pack."""

    stage = "pack"


class PackMalformed(PackRefused):
    """Not a pack, or not a folder a pack can be made of."""

    stage = "pack format"


class PackSignatureRefused(PackRefused):
    """The header is not signed by the key it names, or that key is not the one expected."""

    stage = "pack signature"


class PackKeyRefused(PackRefused):
    """A key file that cannot be used, or a key the pack was not sealed with."""

    stage = "pack key"


class PackContentRefused(PackRefused):
    """Bytes are not those that were signed. `chunk` is the number of the chunk, where it is one."""

    stage = "pack content"

    def __init__(
        self, code: str, *, expected: object, got: object, hint: str | None = None, chunk: int | None = None
    ) -> None:
        super().__init__(code, expected=expected, got=got, hint=hint)
        self.chunk = chunk


class PackIdentityRefused(PackRefused):
    """A sound pack of something else. `differences` has every field that differs, as (name, expected, got)."""

    stage = "pack identity"

    def __init__(self, differences: tuple[tuple[str, str, str], ...]) -> None:
        name, expected, got = differences[0]
        others = "; ".join(f"{also}: expected {wanted}, got {came}" for also, wanted, came in differences[1:])
        super().__init__(f"pack.{name}", expected=expected, got=got, hint=f"also {others}" if others else None)
        self.differences = differences
