"""Why a message of the handshake is refused. Codes are stable; docs/spec/key-release.md lists them."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class RcarRefused(Refused):
    """Base of the family: nothing else leaves a parser or a check of this room."""

    stage: ClassVar[str] = "release"


class MessageRefused(RcarRefused):
    """Bytes that are not the message their place asks for."""

    stage: ClassVar[str] = "release message"


class SealRefused(RcarRefused):
    """A sealed resource that does not open, or a key that nothing can be sealed to."""

    stage: ClassVar[str] = "release seal"


class GrantRefused(RcarRefused):
    """A challenge or grant that is not of this broker, this session, this cell or this purpose."""

    stage: ClassVar[str] = "release grant"
