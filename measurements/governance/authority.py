"""Who decides: a governance canister under a subnet's root key, or a charter. Fixed for a history from its first entry.

{"schema": "anchorhold/authority/v1", "kind": "chain", "root_key": "…", "canister": "…", "method": "get_proposal",
 "function": 1000}
{"schema": "anchorhold/authority/v1", "kind": "charter", "charter": {…}}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from foundation import cbor
from foundation.digests import tagged_sha256
from measurements.governance.charter import CHARTER_BYTES_MAX, Charter
from measurements.release.document import Document, parse, refuse_other_form, render

SCHEMA: Final = "anchorhold/authority/v1"
DIGEST_TAG: Final = "anchorhold/governance/authority/v1"
AUTHORITY_BYTES_MAX: Final = CHARTER_BYTES_MAX + 1024
ROOT_KEY_BYTES: Final = 96
METHOD: Final = re.compile(r"[a-z][a-z0-9_]*")
CANISTER: Final = re.compile(r"(?:[0-9a-f]{2}){1,29}")


@dataclass(frozen=True, slots=True)
class Chain:
    """The canister whose word counts, how it is asked, and which of its generic functions is ours."""

    root_key: bytes
    canister: bytes
    method: str
    function: int

    def document(self) -> dict[str, Document]:
        return {
            "schema": SCHEMA,
            "kind": "chain",
            "root_key": self.root_key.hex(),
            "canister": self.canister.hex(),
            "method": self.method,
            "function": self.function,
        }


@dataclass(frozen=True, slots=True)
class Chartered:
    charter: Charter

    def document(self) -> dict[str, Document]:
        return {"schema": SCHEMA, "kind": "charter", "charter": self.charter.document()}


Authority: TypeAlias = Chain | Chartered


def parse_authority(raw: bytes) -> Authority:
    """Raises `ReleaseDocumentRefused`, nothing else."""
    fields = parse(raw, "authority", bytes_max=AUTHORITY_BYTES_MAX)
    fields.text("schema", 32, re.compile(re.escape(SCHEMA)))
    authority: Authority
    if fields.text("kind", 16, re.compile("chain|charter")) == "chain":
        authority = Chain(
            fields.digest("root_key", ROOT_KEY_BYTES),
            bytes.fromhex(fields.text("canister", 58, CANISTER)),
            fields.text("method", 64, METHOD),
            fields.uint("function"),
        )
    else:
        authority = Chartered(Charter.parse(render(cast(Document, fields.take("charter")))))
    fields.done()
    refuse_other_form(raw, encode_authority(authority), "authority")
    return authority


def encode_authority(authority: Authority) -> bytes:
    return render(authority.document())


def authority_digest(authority: Authority) -> bytes:
    return tagged_sha256(DIGEST_TAG, cbor.encode(authority.document()))
