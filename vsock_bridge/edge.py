"""A connection on a transport: the thin part both ends share. Owns the clock and nothing else.

Bytes from the transport go to the `Connection`, its events to the owner, what it gathers back to the transport,
never more than the transport is willing to take. The owner calls `swept` now and then, which ends what is too
slow: a greeting, a frame, a silence, a reader (W15).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vsock_bridge.connection import Connection, Event, State
from vsock_bridge.errors import Code, RemoteProtocolError
from vsock_bridge.limits import WRITE_BUFFER_BYTES, Limits

_PING_TOKEN: Final = 0


class Edge(asyncio.BufferedProtocol):
    """`on_events` is called with what happened; `on_lost` once, when the transport is gone."""

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        on_events: Callable[[Edge, list[Event]], None],
        on_lost: Callable[[Edge], None],
    ) -> None:
        self.connection: Final = connection
        self._limits: Final = limits
        self._on_events: Final = on_events
        self._on_lost: Final = on_lost
        self._loop: Final = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.gone: Final = asyncio.Event()  # the transport is closed and nothing will be called any more
        self._paused = False
        self._waits = True
        self._flush_is_due = False
        self.began = self._heard = self._loop.time()
        self._frame_began: float | None = None
        self._stalled_since: float | None = None
        self._pinged = False

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # a stream protocol is given nothing else
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the decoder knows better
        return self.connection.room()

    def buffer_updated(self, nbytes: int) -> None:
        frames = self.connection.received_frames
        events = self.connection.filled(nbytes)
        completed = self.connection.received_frames > frames
        self._note_progress(completed)
        if events:
            self._on_events(self, events)
        if completed or events:
            self.flush_soon()

    def pause_writing(self) -> None:
        self._paused = True
        self._stalled_since = self._loop.time()

    def resume_writing(self) -> None:
        self._paused = False
        self._stalled_since = None
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # why it went changes nothing
        self._transport = None
        self._on_lost(self)
        self.gone.set()

    # -- ours

    def flush_soon(self) -> None:
        """Flush once everything that is ready to run has run: what it all has to say leaves in one write."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what may be written now; close once the connection is over and everything has gone."""
        self._flush_is_due = False
        if self._transport is None:
            return
        more = True
        while more and not self._paused:
            out = self.connection.gather()
            if out:
                self._transport.write(out)
            more = len(out) >= self._limits.gather_bytes_max
        if self.connection.closed:
            self._close()

    def _close(self) -> None:
        assert self._transport is not None  # noqa: S101  # asked by flush alone
        if not self._waits and self._transport.get_write_buffer_size():
            self._transport.abort()
        elif not self._transport.is_closing():
            self._stalled_since = self._loop.time() if self._stalled_since is None else self._stalled_since
            self._transport.close()

    def swept(self, now: float) -> None:
        """End what is too slow."""
        limits = self._limits
        if self._stalled_since is not None and now - self._stalled_since > limits.stall_seconds_max:
            self.cut()
        elif self.connection.state is State.GREETING and now - self.began > limits.hello_seconds_max:
            self._refuse(f"a greeting within {limits.hello_seconds_max} s")
        elif self._frame_began is not None and now - self._frame_began > limits.frame_seconds_max:
            self._refuse(f"a frame within {limits.frame_seconds_max} s")
        elif now - self._heard > 2 * limits.silence_seconds_max:
            self._refuse(f"a word within {2 * limits.silence_seconds_max} s")
        elif now - self._heard > limits.silence_seconds_max and not self._pinged:
            self._pinged = True
            self.connection.ping(_PING_TOKEN)
            self.flush()

    def refuse(self, refusal: RemoteProtocolError) -> None:
        """The owner has a reason to end this."""
        self._on_events(self, self.connection.refuse(refusal))
        self.flush()

    def leave(self) -> None:
        self.connection.leave()
        self.flush()

    def let_go(self) -> None:
        """Once the connection is over, wait no longer for the peer to read what is on its way to it."""
        self._waits = False
        self.flush()

    def _refuse(self, expected: str) -> None:
        self.refuse(RemoteProtocolError(Code.TIMEOUT, expected=expected, got="silence"))

    def cut(self) -> None:
        """Drop the transport without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _note_progress(self, completed_a_frame: bool) -> None:
        self._heard = self._loop.time()
        self._pinged = False
        if not self.connection.held_bytes:
            self._frame_began = None
        elif completed_a_frame or self._frame_began is None:
            self._frame_began = self._heard
