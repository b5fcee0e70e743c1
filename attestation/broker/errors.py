"""Why the broker refuses. `status` is what a client of the protocol is told in HTTP."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class BrokerRefused(Refused):
    """Base of the family."""

    stage: ClassVar[str] = "broker"
    status: ClassVar[int] = 400


class Denied(BrokerRefused):
    """Judged, and no key leaves. Every one of these is in the log."""

    stage: ClassVar[str] = "denied"
    status: ClassVar[int] = 403


class Unauthenticated(BrokerRefused):
    """No session, or not one in which this may be asked."""

    stage: ClassVar[str] = "session"
    status: ClassVar[int] = 401


class UnknownResource(BrokerRefused):
    """There is nothing of that name."""

    stage: ClassVar[str] = "resource"
    status: ClassVar[int] = 404


class Busy(BrokerRefused):
    """Too many asked, or too often."""

    stage: ClassVar[str] = "rate"
    status: ClassVar[int] = 429


class StoreRefused(BrokerRefused):
    """The store cannot be used as it is, or an administration change makes no sense."""

    stage: ClassVar[str] = "store"
    status: ClassVar[int] = 500


class WrapRefused(BrokerRefused):
    """A secret at rest cannot be wrapped or unwrapped with the key-encryption key given."""

    stage: ClassVar[str] = "wrapping"
    status: ClassVar[int] = 500
