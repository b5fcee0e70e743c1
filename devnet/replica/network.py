"""Several canisters on one clock: calls from outside, queries, rounds, timers.

    network = Network(clock=..., randomness=...)
    app = network.create(APP, controllers={owner})
    app.install(wasm, NO_ARGUMENTS, owner)
    call = network.submit(APP, "ask", argument, user)       # waits for a round
    network.round()                                         # runs what waits; what that causes waits for the next
    call.reply()

The same calls, clock and randomness give the same bytes. What waits, waits in one order; at most `QUEUE_MAX` calls of
one canister to another may be open, and a canister that makes one more is told so (`call_perform` is not 0).

Not here, and nothing may be read as evidence for it: consensus, a second replica, a price for anything that runs, the
subnet's own unit for instructions (a bound of fuel stops a runaway message), composite queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from devnet.replica import management, system_canisters
from devnet.replica.canister import CYCLES_AT_START, FUEL_MAX, Canister
from devnet.replica.delivery import NATIVE, Delivery
from devnet.replica.messages import (
    ANONYMOUS,
    MANAGEMENT_CANISTER,
    Call,
    Context,
    Entry,
    Execution,
    Outcome,
    OutgoingCall,
    RejectCode,
    Rejected,
    Rejection,
    Stage,
    rejection_of,
)
from devnet.replica.settings import Settings, Status

FIRST_CREATED: Final = 0x100


def numbered(number: int) -> bytes:
    """The id of the canister with that number in the devnet's range."""
    return bytes.fromhex("00000000fff0") + number.to_bytes(2, "big") + b"\1\1"


class Network(Delivery):
    """Canisters on one clock. Nothing here is concurrent: one thread owns a network."""

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        randomness: Callable[[], bytes],
        certify: Callable[[bytes, bytes], bytes] | None = None,
        subnet_id: bytes = b"",
        root_key: bytes = b"",
        fuel_max: int = FUEL_MAX,
    ) -> None:
        super().__init__(clock)
        self.randomness = randomness
        self.certify = certify
        self.observe: Callable[[Execution], None] | None = None
        self.requests: Final[dict[bytes, int]] = {}  # request id -> number of the call from outside
        self.created = FIRST_CREATED
        self.subnet_id: Final = subnet_id
        self.root_key: Final = root_key
        self._fuel_max: Final = fuel_max

    # ---- canisters

    def create(
        self, canister_id: bytes | None = None, *, controllers: Iterable[bytes] = (), cycles: int = CYCLES_AT_START
    ) -> Canister:
        """An empty canister, under the next free id if none is given. Raises `Rejected` if that id is taken."""
        if canister_id is None:
            while numbered(self.created) in self.canisters:
                self.created += 1
            canister_id = numbered(self.created)
        if canister_id in self.canisters or canister_id in NATIVE:
            raise Rejected("destination_invalid", expected="an id that is free", got=canister_id.hex())
        made = Canister(self, canister_id, Settings(frozenset(controllers)), cycles, fuel_max=self._fuel_max)
        self.canisters[canister_id] = made
        return made

    def install(self, canister: Canister, wasm: bytes, argument: bytes, caller: bytes) -> None:
        """Code and fresh state; what was open of older code is abandoned. Raises `Rejected`."""
        had_code = canister.instance is not None
        canister.install(wasm, argument, caller)
        if had_code:
            self.abandon(canister, "the canister was reinstalled")

    def ask_native(self, context: Context, method: str, argument: bytes) -> Outcome | None:
        if context.canister == MANAGEMENT_CANISTER:
            return management.run(self, context, method, argument)
        return system_canisters.run(self, context.canister, method, argument, caller=context.caller)

    # ---- from outside

    def inspect(self, canister: bytes, method: str, argument: bytes, caller: bytes) -> Rejection | None:
        """What the canister (or the management canister) says of a call from outside, before it is taken."""
        try:
            if canister == MANAGEMENT_CANISTER:
                management.inspect(self, method, argument, caller)
                return None
            if canister in NATIVE:
                return None
            callee = self.canister(canister)
            callee.installed()
            if callee.status is not Status.RUNNING:
                return Rejection(RejectCode.CANISTER_ERROR, f"the canister is {callee.status.name.lower()}")
            accepted = callee.inspect(method, argument, caller)
        except Rejected as refused:
            return rejection_of(refused)
        return None if accepted else Rejection(RejectCode.CANISTER_REJECT, "the message is not accepted")

    def submit(
        self,
        canister: bytes,
        method: str,
        argument: bytes,
        caller: bytes = ANONYMOUS,
        *,
        request_id: bytes = b"",
        expiry_ns: int = 0,
    ) -> Call:
        """Takes a call that was inspected. The next round runs it."""
        call = Call(canister, method, argument, caller, request_id, expiry_ns)
        context = Context(self.number(), canister, caller, queued=True)
        context.ingress = context.number
        self.ingress[context.number] = call
        if request_id:
            self.requests[request_id] = context.number
        self.open_context(context)
        return call

    def forget(self, before_ns: int) -> None:
        """Drops answered calls from outside that expired before then."""
        for number, call in list(self.ingress.items()):
            if call.outcome is not None and call.expiry_ns < before_ns:
                del self.ingress[number]
                self.requests.pop(call.request_id, None)

    def query(self, canister: bytes, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> bytes:
        """A query on this replica alone: it sees a certificate, and leaves no trace. Raises `Rejected`."""
        if canister == MANAGEMENT_CANISTER:
            return management.query(self, method, argument, caller)
        if canister in NATIVE:
            return system_canisters.query(self, canister, method, argument, caller=caller)
        callee = self.canister(canister)
        instance = callee.installed()
        if callee.status is not Status.RUNNING:
            what = f"the canister is {callee.status.name.lower()}"
            raise Rejected("canister_error", expected="a running canister", got=what)
        function = instance.function(f"canister_query {method}")
        if function is None:
            what = f"no query method {method!r}"
            if instance.function(f"canister_composite_query {method}") is not None:
                what = f"method {method!r} is a composite query, and the devnet runs none"
            raise Rejected("canister_error", expected="a query method", got=what)
        message = callee.message(Entry.QUERY, caller, argument, method)
        message.may_respond = True
        if self.certify is not None:
            message.certificate = _once(self.certify, canister, callee.certified_data)
        callee.execute(function, message, commit=False)
        callee.undo()
        match message.response():
            case bytes() as reply:
                return reply
            case Rejection() as rejection:
                raise rejection.refused()
            case None:
                raise Rejected("canister_error", expected="a response", got="the canister did not respond")

    # ---- rounds

    def round(self) -> int:
        """Runs everything that waits now, once; what that causes waits for the next round. How much ran."""
        ran = self.expire()
        for canister in list(self.canisters.values()):
            ran += self.heartbeat(canister) + self.fire_timer(canister)
        for place, number in self.waiting():
            ran += self.run(place, number)
        return ran

    def waiting(self) -> list[tuple[int, int]]:
        """What waits, in order: (place, number) of contexts from outside, of calls and of responses."""
        outside = [(number, number) for number, context in self.contexts.items() if context.queued]
        calls = [(call.place, call.number) for call in self.calls.values() if call.stage is not Stage.OPEN]
        return sorted(outside + calls)

    def run(self, place: int, number: int) -> bool:
        """One thing that waited, if it still does."""
        if (context := self.contexts.get(number)) is not None and context.queued:
            self.start(context)
        else:
            call = self.calls.get(number)
            if call is None or call.place != place or call.stage is Stage.OPEN:
                return False
            self._go_on(call)
        self.end_stops()
        return True

    def _go_on(self, call: OutgoingCall) -> None:
        if call.stage is Stage.QUEUED:
            self.deliver(call)
        else:
            self.call_back(call)

    def wakes_ns(self) -> int | None:
        """When something happens by itself: the earliest timer or time limit. None if nothing ever does."""
        running = (
            each for each in self.canisters.values() if each.status is Status.RUNNING and each.instance is not None
        )
        timers = [each.timer_ns for each in running if each.timer_ns]
        limits = [
            each.deadline_ns for each in self.calls.values() if each.deadline_ns and each.stage is not Stage.ANSWERED
        ]
        return min(timers + limits, default=None)

    def has_heartbeat(self) -> bool:
        return any(each.exports("canister_heartbeat") for each in self.canisters.values())

    def heartbeat(self, canister: Canister) -> bool:
        if canister.status is not Status.RUNNING or not canister.exports("canister_heartbeat"):
            return False
        return self._system_task(canister, Entry.HEARTBEAT, "canister_heartbeat")

    def fire_timer(self, canister: Canister) -> bool:
        """Runs the global timer if its time has come. Says whether it ran."""
        if canister.status is not Status.RUNNING or not 0 < canister.timer_ns <= self.now_ns():
            return False
        canister.timer_ns = 0
        return self._system_task(canister, Entry.TIMER, "canister_global_timer")

    def _system_task(self, canister: Canister, entry: Entry, name: str) -> bool:
        context = self.open_context(Context(self.number(), canister.canister_id, MANAGEMENT_CANISTER, responded=True))
        message = canister.message(entry, MANAGEMENT_CANISTER)
        try:
            canister.execute(canister.installed().function(name), message, commit=True, context=context)
        except Rejected as trapped:
            canister.say(f"[trap in {name}] {trapped.got}")
            self.contexts.pop(context.number)
        else:
            self.conclude(context, message)
        return True

    def end_stops(self) -> None:
        """A canister that is stopping has stopped when nothing of it is open any more."""
        for canister in self.canisters.values():
            if canister.status is not Status.STOPPING:
                continue
            if any(each.canister == canister.canister_id for each in self.contexts.values()):
                continue
            canister.status = Status.STOPPED
            stops, canister.stops = canister.stops, []
            for number in stops:
                if (context := self.contexts.get(number)) is not None:
                    self.respond(context, management.NOTHING)

    def ran(self, execution: Execution) -> None:
        if self.observe is not None:
            self.observe(execution)


def _once(certify: Callable[[bytes, bytes], bytes], canister: bytes, data: bytes) -> Callable[[], bytes]:
    """A certificate that is made when it is first asked for."""
    made: list[bytes] = []

    def certificate() -> bytes:
        if not made:
            made.append(certify(canister, data))
        return made[0]

    return certificate
