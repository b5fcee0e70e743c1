"""A charter: named keys, and how many of them decide where no chain is used.

    charter = Charter.parse(raw)                    JSON, one spelling
    sign(private, statement)                        one voice for a decision
    charter.check(statement, signatures)            raises unless enough of these keys spoke

Every signature that is brought must hold and be by a member: a file with a bad one is refused whole, so that no byte
of it is without meaning. What it does not establish: that the names belong to the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from foundation import cbor, ed25519
from foundation.digests import tagged_sha256
from foundation.document import Fields
from foundation.refusal import disorder
from measurements.governance.errors import AuthorityRefused
from measurements.release.document import Document, parse, refuse_other_form, render
from measurements.release.errors import ReleaseDocumentRefused

SCHEMA: Final = "anchorhold/charter/v1"
DIGEST_TAG: Final = "anchorhold/governance/charter/v1"
SIGNATURE_TAG: Final = "anchorhold/governance/signature/v1"
CHARTER_BYTES_MAX: Final = 16 * 1024
MEMBERS_MAX: Final = 32
KEY_BYTES: Final = 32
NAME: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    key: bytes  # Ed25519


@dataclass(frozen=True, slots=True)
class Charter:
    name: str
    threshold: int
    members: tuple[Member, ...]  # by key

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ReleaseDocumentRefused`, nothing else."""
        fields = parse(raw, "charter", bytes_max=CHARTER_BYTES_MAX)
        fields.text("schema", 32, re.compile(re.escape(SCHEMA)))
        members = tuple(_member(row) for row in fields.rows("members", MEMBERS_MAX, 1))
        charter = cls(fields.text("name", 128, NAME), fields.uint("threshold", len(members), 1), members)
        fields.done()
        refuse_other_form(raw, charter.encode(), "charter")
        keys, names = [each.key for each in members], {each.name for each in members}
        if keys != sorted(set(keys)) or len(names) != len(keys):
            raise ReleaseDocumentRefused(
                "charter.members",
                expected="each key and name once, by key",
                got=f"{disorder(keys)}, {len(names)} names for {len(keys)} keys",
            )
        for key in keys:  # V8: of a key of small order anyone makes signatures
            if (expected := ed25519.expected_instead(key)) is not None:
                raise ReleaseDocumentRefused("charter.key", expected=expected, got=key.hex())
        if 2 * charter.threshold <= len(members):  # two disjoint groups could each decide otherwise
            raise ReleaseDocumentRefused("charter.threshold", expected="more than half", got=charter.threshold)
        return charter

    def document(self) -> dict[str, Document]:
        members: list[Document] = [{"name": each.name, "key": each.key.hex()} for each in self.members]
        return {"schema": SCHEMA, "name": self.name, "threshold": self.threshold, "members": members}

    def encode(self) -> bytes:
        return render(self.document())

    @property
    def digest(self) -> bytes:
        return tagged_sha256(DIGEST_TAG, cbor.encode(self.document()))

    def check(self, statement: bytes, signatures: Mapping[bytes, bytes]) -> None:
        """Raises `AuthorityRefused` unless `threshold` members signed, each as they must."""
        known = {each.key for each in self.members}
        speaking = known & signatures.keys()
        for key in sorted(speaking):
            check_signature(key, signatures[key], statement)
        if len(speaking) < self.threshold:
            raise AuthorityRefused(
                "charter.threshold", expected=f"{self.threshold} of {len(self.members)} members", got=len(speaking)
            )

    def named(self, keys: frozenset[bytes]) -> tuple[str, ...]:
        """The names of those members, in the charter's order."""
        return tuple(each.name for each in self.members if each.key in keys)


def sign(private: Ed25519PrivateKey, statement: bytes) -> tuple[bytes, bytes]:
    """The key and its signature over a decision's digest."""
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return public, private.sign(tagged_sha256(SIGNATURE_TAG, statement))


def check_signature(key: bytes, signature: bytes, statement: bytes) -> None:
    if not ed25519.holds(key, signature, tagged_sha256(SIGNATURE_TAG, statement)):
        expected = f"a decision signed by {key.hex()}"
        raise AuthorityRefused("charter.signature", expected=expected, got="a signature that does not hold")


def _member(row: Fields) -> Member:
    member = Member(row.text("name", 64, NAME), row.digest("key", KEY_BYTES))
    row.done()
    return member
