"""Decides what runs next: slices in, ordered requests out.

    sequencer = Sequencer(root_key=..., canister=...)
    verdict = sequencer.propose(proof)              # any host, any time
    while verdict.wants is not None: ...            # fetch that block's body
        for request in sequencer.supply(body): ...  # run it

A slice comes as one proof, which fills the plan with headers, and one body per header, which is checked
against that header and released. State, all of it:

    position    height, link and next request id of the last block released
    plan        headers proven to follow it, bodies still to come: at most `plan_max`
    heights     the blocks this cell's release was granted, where there is a release; they only grow
    certified   height, link and time of the newest certificate accepted; the time is the cell's only clock

Everything is decided here and nothing is touched: no socket, clock, disk or randomness. A call either
succeeds or leaves the state as it was. One owner, one thread. Rules O20 to O30, O34, O35 and O38 of docs/spec/order.md.

What this does not establish: that a slice is recent or the newest (there is no clock to say so), or that
bodies will ever come (the host may stop). Released once means once in this process: after a restart the host
chooses where the cell joins, and the same requests give the same answers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from appliance.ordering.refusals import Forked, OrderRefused
from attestation.consensus.blocks import Beacon, Header, Kind, Link, RequestDigest, check_requests
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.slices import Body, SliceProof, SliceRefused, VerifiedSlice, verify_slice
from foundation.limits import HEADERS_MAX
from foundation.secrecy import Prompt
from measurements.release.heights import Heights


class Step(Enum):
    """What a proof did to the plan."""

    JOINED = "joined"  # the first proof: the chain starts for us before its first header
    EXTENDED = "extended"  # every header was new
    OVERLAPPED = "overlapped"  # some were known and agreed, some were new
    CURRENT = "current"  # nothing new, but certified no earlier than what we have
    STALE = "stale"  # nothing new, and older: true once, changes nothing


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a proof and what the host should bring next."""

    step: Step
    wants: int | None  # the height of the next body, if one is missing
    through: int  # the last height the plan reaches
    certified_time_ns: int


@dataclass(frozen=True, slots=True)
class OrderedRequest:
    """A request at its place. `certified_time_ns` depends on which certificates the host brought, so it is
    for the cell's own use; all other fields are the same on every cell (O30)."""

    height: int
    index: int
    id: int
    caller: bytes
    kind: Kind
    payload: Prompt
    beacon: Beacon
    link: Link
    request_digest: RequestDigest
    block_time_ns: int
    certified_time_ns: int
    expired: bool = False  # the gateway refused it in a later block that is in the plan (O38)


@dataclass(frozen=True, slots=True)
class Position:
    """Behind one block: its height, its link, and the id the next request must have."""

    height: int
    link: Link
    next_id: int


@dataclass(frozen=True, slots=True)
class _Planned:
    header: Header
    link: Link


class Sequencer:
    """The one mutable thing of ordering."""

    def __init__(
        self, *, root_key: bytes, canister: bytes, plan_max: int = HEADERS_MAX, cache: DelegationCache | None = None
    ) -> None:
        if plan_max < 1:
            raise ValueError(f"a plan holds at least one header, got {plan_max}")
        self._root_key: Final = root_key
        self._canister: Final = canister
        self._plan_max: Final = plan_max
        self._cache: Final = cache
        self._heights: Heights | None = None
        self._position: Position | None = None
        self._plan: deque[_Planned] = deque()
        self._certified_time_ns = 0

    def grant(self, heights: Heights) -> None:
        """From now on these blocks are run and no others (O34)."""
        self._heights = heights

    @property
    def position(self) -> Position | None:
        """Behind the last block released; None before the first proof."""
        return self._position

    @property
    def certified_time_ns(self) -> int:
        """The newest certified time accepted, 0 before the first proof. Never decreases (O27)."""
        return self._certified_time_ns

    @property
    def wants(self) -> int | None:
        """The height of the body that would be released next, if its header is proven."""
        return self._plan[0].header.height if self._plan else None

    # --- proofs ---------------------------------------------------------------------------------------------

    def propose(self, raw: bytes) -> Verdict:
        """Take in a slice proof. Raises `Forked`, `OrderRefused`, or what parsing and verifying raise."""
        proven = verify_slice(
            SliceProof.parse(raw), root_key=self._root_key, canister=self._canister, cache=self._cache
        )
        position, step = self._placed(proven)
        self._check_room(position, proven.head.height)
        # From here on nothing refuses.
        self._position = position
        tip = self._tip_height(position)
        self._plan.extend(
            _Planned(header, link)
            for header, link in zip(proven.headers, proven.links, strict=True)
            if header.height > tip
        )
        self._certified_time_ns = max(self._certified_time_ns, proven.certified_time_ns)  # O27
        return Verdict(step, self.wants, self._tip_height(position), self._certified_time_ns)

    def _placed(self, proven: VerifiedSlice) -> tuple[Position, Step]:
        """Where we stand once `proven` is taken in, and what it is to us; refuses what does not fit."""
        if self._position is None:  # O21: before its first header, whatever height that is
            first = proven.first
            if self._heights is not None and first.height < self._heights.first:  # O35
                raise OrderRefused(
                    "heights",
                    expected=f"a slice from height {self._heights.first} on, where this release begins",
                    got=f"one from {first.height}",
                )
            return Position(first.height - 1, first.parent, first.first_id), Step.JOINED
        position, lowest, head = self._position, proven.first.height, proven.head.height
        tip = self._tip_height(position)
        if lowest > tip + 1:  # O24
            raise OrderRefused("gap", expected=f"a slice from height {tip + 1} or below", got=f"{lowest}")
        self._check_same_history(position, proven)
        self._check_not_rewound(proven, tip)
        if head > tip:
            return position, Step.EXTENDED if lowest == tip + 1 else Step.OVERLAPPED
        current = proven.certified_time_ns >= self._certified_time_ns
        return position, Step.CURRENT if current and head == tip else Step.STALE

    def _check_same_history(self, position: Position, proven: VerifiedSlice) -> None:
        """O23, O25: wherever the slice and our chain both have a link, it is the same link."""
        theirs = dict(zip(range(proven.first.height, proven.head.height + 1), proven.links, strict=True))
        theirs[proven.first.height - 1] = proven.first.parent
        for height, ours in self._links(position):
            if theirs.get(height, ours) != ours:
                raise Forked(
                    "fork",
                    height=height,
                    ours=ours,
                    theirs=theirs[height],
                    expected=f"our link at height {height}",
                    got=theirs[height].hex(),
                )

    def _check_not_rewound(self, proven: VerifiedSlice, tip: int) -> None:
        """O26: a chain only grows: a later certificate cannot show less of it, nor an earlier one more."""
        time_ns, head = proven.certified_time_ns, proven.head.height
        shrank = time_ns > self._certified_time_ns and head < tip
        outgrew = time_ns < self._certified_time_ns and head > tip
        if shrank or outgrew:
            assert self._position is not None  # noqa: S101  # `_placed` returned before
            raise Forked(
                "rewind",
                height=head,
                ours=self._tip_link(self._position),
                theirs=proven.head_link,
                expected=f"a chain that grows from height {tip} at {self._certified_time_ns}",
                got=f"height {head} at {time_ns}",
            )

    def _check_room(self, position: Position, head: int) -> None:
        if head - position.height > self._plan_max:  # O28
            raise OrderRefused(
                "plan-full",
                expected=f"at most {self._plan_max} blocks ahead of height {position.height}",
                got=f"height {head}",
            )

    def _links(self, position: Position) -> list[tuple[int, Link]]:
        """Every height whose link we hold, lowest first."""
        return [(position.height, position.link), *((each.header.height, each.link) for each in self._plan)]

    def _tip_height(self, position: Position) -> int:
        return position.height + len(self._plan)

    def _tip_link(self, position: Position) -> Link:
        return self._plan[-1].link if self._plan else position.link

    # --- bodies ---------------------------------------------------------------------------------------------

    def supply(self, raw: bytes) -> tuple[OrderedRequest, ...]:
        """The requests of the next planned block, once; nothing for a block already behind us (O29).

        Raises `OrderRefused` for a block we are not at, or `BlockRefused` for one that is not its header's.
        """
        body = Body.parse(raw)
        position = self._position
        if position is None:
            raise OrderRefused("not-joined", expected="a proof before any body", got=f"height {body.height}")
        if body.height <= position.height:
            return ()
        if body.height != position.height + 1:
            raise OrderRefused("gap", expected=f"height {position.height + 1}", got=f"height {body.height}")
        if not self._plan:
            raise OrderRefused("unproven", expected="a proof of this height", got=f"height {body.height}")
        if self._heights is not None and body.height not in self._heights:  # O34
            raise OrderRefused(
                "heights", expected=f"a block of this release: {self._heights}", got=f"height {body.height}"
            )
        planned = self._plan[0]
        released = _released(planned, body, self._certified_time_ns, self._expired(planned.header))
        self._plan.popleft()
        self._position = _behind(planned.header, planned.link)
        return released

    def _expired(self, header: Header) -> frozenset[int]:
        """Which ids of a planned block the headers planned after it say have expired (O38)."""
        own = range(header.first_id, header.next_id)
        return frozenset(
            number
            for each in self._plan
            for ids in each.header.expired
            for number in range(max(ids.first, own.start), min(ids.end, own.stop))
        )


def _released(
    planned: _Planned, body: Body, certified_time_ns: int, expired: frozenset[int]
) -> tuple[OrderedRequest, ...]:
    header = planned.header
    digests = check_requests(header, body.requests, SliceRefused)
    return tuple(
        [
            OrderedRequest(
                height=header.height,
                index=index,
                id=request.id,
                caller=request.caller,
                kind=request.kind,
                payload=request.payload,
                beacon=header.beacon,
                link=planned.link,
                request_digest=digest,
                block_time_ns=header.time_ns,
                certified_time_ns=certified_time_ns,
                expired=request.id in expired,
            )
            for index, (request, digest) in enumerate(zip(body.requests, digests, strict=True))
        ]
    )


def _behind(header: Header, link: Link) -> Position:
    return Position(header.height, link, header.next_id)
