"""A decision, its payload, a history of them: each is its own encoding, or is refused; and nothing bent is believed."""

from __future__ import annotations

import contextlib

from foundation.refusal import Refused
from measurements.governance.actions import Adopt, Payload, RotateKey, Withdraw
from measurements.governance.authority import authority_digest
from measurements.governance.decision import CertifiedReply, Decision
from measurements.governance.errors import GovernanceRefused
from measurements.governance.history import History, Ledger
from measurements.release.errors import ReleaseDocumentRefused
from tests.charters import AUTHORITY, advance, decide, no_chain
from tests.releases import made_manifest

_FIRST = made_manifest()
_EMPTY = Ledger.begin(AUTHORITY)
_ONE, _ = advance(_EMPTY, Adopt(_FIRST))
_DECISIONS = (decide(_EMPTY, Adopt(_FIRST)), decide(_ONE, Withdraw("0.1.0", _FIRST.digest, "why")))
_HISTORY = History(AUTHORITY, _DECISIONS)
_TRUSTED = authority_digest(AUTHORITY)
_HEADS = {_HISTORY.verify(_TRUSTED, no_chain)[0].digests[:count] for count in range(3)}
SEEDS: list[bytes] = [
    _HISTORY.encode(),
    History(AUTHORITY, ()).encode(),
    *(each.encode() for each in _DECISIONS),
    *(each.payload for each in _DECISIONS),
    decide(_EMPTY, RotateKey("a/b/c", 2, "why")).payload,
    Decision(b"payload", CertifiedReply(b"certificate", b"argument", b"\x04", 1, None)).encode(),
    b"",
]


def one_input(data: bytes) -> None:
    for parse in (Decision.parse, Payload.parse):
        with contextlib.suppress(GovernanceRefused, ReleaseDocumentRefused):
            assert parse(data).encode() == data
    try:
        history = History.parse(data)
    except (GovernanceRefused, ReleaseDocumentRefused):
        return
    assert history.encode() == data
    try:
        ledger, _ = history.verify(_TRUSTED, no_chain)
    except Refused:
        return
    # Signatures may differ between copies; what was decided may not.
    assert ledger.digests in _HEADS
