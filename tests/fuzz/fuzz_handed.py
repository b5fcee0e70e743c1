"""What a client hands over: read back as the same bytes, or refused as `AnswerRefused`, and nothing else."""

from __future__ import annotations

from anchorhold.client.hand_over import HandedOver
from attestation.sealed.errors import AnswerRefused
from attestation.sealed.request import Mode, SealedRequest, Unsealed
from attestation.sealed.suites import SuiteId
from foundation.secrecy import Prompt, Secret

_PAYLOAD = SealedRequest(SuiteId.X25519, bytes(32), 9, b"sealed").encode()
SEEDS: list[bytes] = [
    HandedOver(_PAYLOAD, Unsealed(Prompt(b"chat"), Secret(bytes(32)), mode, caller)).encode().reveal()
    for mode, caller in ((Mode.WHOLE, None), (Mode.STREAM, b"\x01"))
]


def one_input(data: bytes) -> None:
    try:
        handed = HandedOver.parse(Secret(data))
    except AnswerRefused:
        return
    assert handed.encode().reveal() == data
