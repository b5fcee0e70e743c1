"""One sealed request, opened for an auditor whom its client chose. It opens no other request.

    handed = dCBOR [1, payload as it was submitted, what was sealed in it]

That the payload really held this, no one without the service key can see. What can be seen is that this very chat,
run at the place where the payload was ordered, gives the very frames that the receipt names, under keys that only
this reply key gives (docs/spec/audit.md U56).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from attestation.consensus.blocks import PAYLOAD_BYTES_MAX
from attestation.sealed.errors import AnswerRefused, SealedRefused
from attestation.sealed.request import SealedRequest, Unsealed
from foundation import cbor
from foundation.secrecy import Secret

HANDED_BYTES_MAX: Final = 2 * PAYLOAD_BYTES_MAX + 64
_LIMITS: Final = cbor.Limits(bytes_max=HANDED_BYTES_MAX, depth_max=1, items_max=4)


@dataclass(frozen=True, slots=True)
class HandedOver:
    VERSION: ClassVar[int] = 1
    payload: bytes = field(repr=False)
    inside: Unsealed = field(repr=False)

    def encode(self) -> Secret:
        return Secret(cbor.encode([self.VERSION, self.payload, self.inside.encode()]))

    @classmethod
    def parse(cls, raw: Secret) -> Self:
        """Raises `AnswerRefused`, nothing else."""
        try:
            match cbor.decode(raw.reveal(), _LIMITS):
                case [1, bytes(payload), bytes(inside)]:
                    SealedRequest.parse(payload)
                    handed = cls(payload, Unsealed.parse(inside))
                    if handed.encode() == raw:
                        return handed
                case _:
                    pass
        except (cbor.CborRefused, SealedRefused):
            pass
        raise AnswerRefused(
            "handed", expected="a request that was handed over", got=f"{len(raw.lend())} bytes of another form"
        )
