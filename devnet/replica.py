"""A stand-in for a replica: runs one canister, one message at a time, on a clock and randomness it is given.

Real here: the System API the canister is compiled against, messages and their callbacks, call contexts, the
discarding of everything a trapped message or a query changed, upgrades that run `pre_upgrade` and
`post_upgrade` over kept memory, certified data, and certificates whoever runs this makes for it (`certify`).

Not real, and nothing here may be read as evidence for it: no consensus and no second replica; no scheduling
(a message runs when it is submitted, a call to another canister waits until `deliver`); no cycles; no
instruction limit in the subnet's unit (a fuel bound stops a runaway message); no signatures on ingress (the
caller is whoever the call says); the management canister has `raw_rand` alone; the only other callee is the
canister itself; bounded-wait calls never time out.

    replica = Replica(canister_id, clock=..., randomness=..., certify=..., controllers={owner})
    replica.install(wasm)
    call = replica.ingress("seal_block", argument, owner)     # runs up to its first await
    replica.deliver(replica.outstanding[0])                   # raw_rand answers; the callback runs
    reply = call.reply()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import wasmtime

from devnet.ic0 import Callback, CanisterTrapped, Entry, Message, Request, SystemApi
from devnet.instance import Code, Instance, compile_module
from foundation.candid import BLOB, encode
from foundation.refusal import Refused

MANAGEMENT_CANISTER = b""
ANONYMOUS = b"\x04"
NO_ARGUMENTS = b"DIDL\0\0"
RANDOM_BYTES = 32
FUEL_MAX = 20_000_000_000
OUTSTANDING_MAX = 4_096


class RejectCode(IntEnum):
    SYS_FATAL = 1
    SYS_TRANSIENT = 2
    DESTINATION_INVALID = 3
    CANISTER_REJECT = 4
    CANISTER_ERROR = 5


class Rejected(Refused):
    """A call the replica or the canister rejected. `code` is the reject code's name, lower case."""

    stage = "devnet.replica"


class NotAnswered(Refused):
    stage = "devnet.replica"


@dataclass(frozen=True, slots=True)
class Rejection:
    code: RejectCode
    message: str

    def refused(self) -> Rejected:
        return Rejected(self.code.name.lower(), expected="a reply", got=self.message)


@dataclass(slots=True)
class Call:
    """An ingress call from its submission to its response."""

    method: str
    outcome: bytes | Rejection | None = None

    def reply(self) -> bytes:
        """The reply. Raises `Rejected`, or `NotAnswered` while the canister waits for another one."""
        match self.outcome:
            case bytes() as reply:
                return reply
            case Rejection() as rejection:
                raise rejection.refused()
            case None:
                raise NotAnswered("pending", expected="a response", got="an outstanding call")


@dataclass(slots=True, eq=False)
class _Context:
    """A call context: one incoming call and everything outstanding on its behalf."""

    caller: bytes
    respond: Callable[[bytes | Rejection], None]
    responded: bool = False
    outstanding: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingCall:
    """A call the canister made and that has not been delivered yet."""

    number: int
    request: Request
    context: _Context = field(repr=False)

    @property
    def callee(self) -> bytes:
        return self.request.callee

    @property
    def method(self) -> str:
        return self.request.method


def _discard(_outcome: bytes | Rejection) -> None:
    """The response of something nobody waits for."""


class Replica:
    """One canister and its messages. The same calls, clock and randomness give the same bytes."""

    def __init__(
        self,
        canister_id: bytes,
        *,
        clock: Callable[[], int],
        randomness: Callable[[], bytes],
        certify: Callable[[bytes, bytes], bytes] | None = None,
        controllers: frozenset[bytes] = frozenset(),
        fuel_max: int = FUEL_MAX,
    ) -> None:
        self.canister_id = canister_id
        self.certified_data = b""
        self.timer_ns = 0
        self.prints: list[str] = []
        self._clock, self._randomness, self._certify = clock, randomness, certify
        self._controllers = controllers
        self._fuel_max = fuel_max
        self._api = SystemApi(canister_id, controllers.__contains__, self._fuel_left)
        self._instance: Instance | None = None
        self._outstanding: dict[int, OutgoingCall] = {}
        self._calls_made = 0

    # ---- the canister's life

    def install(self, wasm: bytes, argument: bytes = NO_ARGUMENTS, *, caller: bytes = ANONYMOUS) -> None:
        """Fresh state. Raises `Rejected` if `canister_init` traps; the canister is then as it was before."""
        self._replace_code(compile_module(wasm), "canister_init", argument, caller, fresh=True)

    def upgrade(self, wasm: bytes, argument: bytes = NO_ARGUMENTS, *, caller: bytes = ANONYMOUS) -> None:
        """New code over kept state. A trap anywhere in it leaves old code and old state (`Rejected`)."""
        instance = self._installed()
        code = compile_module(wasm)
        if not code.keeps_main_memory and instance.code.keeps_main_memory:
            raise Rejected("sys_fatal", expected="a module that keeps main memory", got="one that drops it")
        before = self._message(Entry.PRE_UPGRADE, caller)
        self._execute(instance.function("canister_pre_upgrade"), before, commit=False)
        certified_before = self.certified_data
        if before.certified_data is not None:
            self.certified_data = before.certified_data
        try:
            self._replace_code(code, "canister_post_upgrade", argument, caller, fresh=False)
        except Rejected:
            self.certified_data = certified_before
            self._undo()
            raise

    def _replace_code(self, code: Code, entry: str, argument: bytes, caller: bytes, *, fresh: bool) -> None:
        old = self._instance
        stable_before = self._api.stable
        keep = old is not None and not fresh and code.keeps_main_memory
        memory = old.memory_now() if old is not None and keep else b""
        if fresh:
            self._api.stable = type(stable_before)()
        new = Instance(code, self._api.imports(), memory)
        self._instance = self._api.memory = new
        try:
            self._execute(new.start(), self._message(Entry.START), commit=False)
            message = self._message(Entry.INIT, caller, argument)
            self._execute(new.function(entry), message, commit=False)
        except Rejected:
            self._instance = self._api.memory = old
            self._api.stable = stable_before
            raise
        # Interface specification: changing code clears the timer; a fresh install clears certified data too.
        self.timer_ns = 0
        if fresh:
            self.certified_data = b""
            self._abandon_calls()
        self._commit(message)

    def _abandon_calls(self) -> None:
        """State is gone, so nothing can answer what was open."""
        abandoned, self._outstanding = self._outstanding, {}
        for call in abandoned.values():
            call.context.outstanding = 0
            self._finish(call.context, Rejection(RejectCode.CANISTER_REJECT, "the canister was reinstalled"))

    def _installed(self) -> Instance:
        if self._instance is None:
            raise Rejected("destination_invalid", expected="an installed canister", got="none")
        return self._instance

    # ---- calls from outside

    def ingress(self, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> Call:
        """Inspects and starts an update call (or a replicated query), which may end at once or wait."""
        instance = self._installed()
        call = Call(method)
        if (inspect := instance.function("canister_inspect_message")) is not None:
            message = self._message(Entry.INSPECT, caller, argument)
            message.method = method
            try:
                self._execute(inspect, message, commit=False)
            except Rejected as trapped:
                call.outcome = Rejection(RejectCode.CANISTER_ERROR, trapped.got)
                return call
            self._undo()
            if not message.accepted:
                call.outcome = Rejection(RejectCode.CANISTER_REJECT, "the message is not accepted")
                return call

        def respond(outcome: bytes | Rejection) -> None:
            call.outcome = outcome

        self._call_method(method, argument, _Context(caller, respond))
        return call

    def query(self, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> bytes:
        """A query on this replica alone: it sees a certificate, and leaves no trace."""
        instance = self._installed()
        function = instance.function(f"canister_query {method}")
        if function is None:
            raise Rejection(RejectCode.CANISTER_ERROR, f"no query method {method!r}").refused()
        message = self._message(Entry.QUERY, caller, argument)
        message.may_respond = True
        if self._certify is not None:
            message.certificate = self._certify(self.canister_id, self.certified_data)
        self._execute(function, message, commit=False)
        self._undo()
        outcome = _response(message)
        if isinstance(outcome, Rejection):
            raise outcome.refused()
        return outcome

    def fire_timer(self) -> bool:
        """Runs the global timer if its time has come. Says whether it ran."""
        if not 0 < self.timer_ns <= self._clock():
            return False
        self.timer_ns = 0
        context = _Context(MANAGEMENT_CANISTER, _discard, responded=True)
        message = self._message(Entry.TIMER, self.canister_id)
        self._execute(self._installed().function("canister_global_timer"), message, commit=True)
        self._issue(message, context)
        return True

    # ---- calls the canister made

    @property
    def outstanding(self) -> tuple[OutgoingCall, ...]:
        """Calls waiting to be delivered, oldest first. The caller chooses the order."""
        return tuple(self._outstanding.values())

    def deliver(self, call: OutgoingCall, failure: Rejection | None = None) -> None:
        """Executes an outgoing call and its callback; with `failure`, the callee never sees it."""
        if self._outstanding.pop(call.number, None) is not call:
            raise NotAnswered("delivered", expected="an outstanding call", got=f"number {call.number}")
        if failure is not None:
            self._respond_to(call, failure)
        elif call.callee == MANAGEMENT_CANISTER and call.method == "raw_rand":
            self._respond_to(call, self._raw_rand())
        elif call.callee == self.canister_id:
            context = _Context(self.canister_id, lambda outcome: self._respond_to(call, outcome))
            self._call_method(call.method, bytes(call.request.argument), context)
        else:
            missing = f"no canister {call.callee.hex() or 'aaaaa-aa'} with method {call.method!r} here"
            self._respond_to(call, Rejection(RejectCode.DESTINATION_INVALID, missing))

    def settle(self) -> None:
        """Delivers everything, oldest first, until nothing is outstanding."""
        while self._outstanding:
            self.deliver(next(iter(self._outstanding.values())))

    def _raw_rand(self) -> bytes:
        random = self._randomness()
        if len(random) != RANDOM_BYTES:
            raise ValueError(f"randomness gives {RANDOM_BYTES} bytes a time, got {len(random)}")
        return encode([BLOB], [random])

    def _respond_to(self, call: OutgoingCall, outcome: bytes | Rejection) -> None:
        context, request = call.context, call.request
        context.outstanding -= 1
        message = self._message(Entry.REPLY, context.caller)
        message.may_respond = not context.responded
        if isinstance(outcome, bytes):
            message.argument = outcome
            callback = request.on_reply
        else:
            message.entry = Entry.REJECT
            message.reject_code, message.reject_message = int(outcome.code), outcome.message
            callback = request.on_reject
        try:
            self._run_callback(callback, message)
        except Rejected as trapped:
            self._clean_up(call, message)
            self._finish(context, Rejection(RejectCode.CANISTER_ERROR, trapped.got))
        else:
            self._conclude(context, message)

    def _clean_up(self, call: OutgoingCall, trapped: Message) -> None:
        """After a trapped callback: the canister may free what it held. It cannot respond or call here."""
        if call.request.on_cleanup is None:
            return
        message = self._message(Entry.CLEANUP, call.context.caller)
        message.reject_code = trapped.reject_code
        try:
            self._run_callback(call.request.on_cleanup, message)
        except Rejected:
            return

    def _run_callback(self, callback: Callback, message: Message) -> None:
        function = self._installed().table_entry(callback.table_index)
        self._execute(function, message, callback.environment, commit=True)

    # ---- one execution

    def _call_method(self, method: str, argument: bytes, context: _Context) -> None:
        instance = self._installed()
        entry, keeps = Entry.UPDATE, True
        function = instance.function(f"canister_update {method}")
        if function is None:
            entry, keeps = Entry.REPLICATED_QUERY, False
            function = instance.function(f"canister_query {method}")
        if function is None:
            rejection = Rejection(RejectCode.CANISTER_ERROR, f"no method {method!r}")
            self._finish(context, rejection)
            return
        message = self._message(entry, context.caller, argument)
        message.may_respond = True
        try:
            self._execute(function, message, commit=keeps)
        except Rejected as trapped:
            self._finish(context, Rejection(RejectCode.CANISTER_ERROR, trapped.got))
            return
        if not keeps:
            self._undo()
        self._conclude(context, message)

    def _conclude(self, context: _Context, message: Message) -> None:
        self._issue(message, context)
        if not context.responded and (message.reply is not None or message.rejection is not None):
            context.responded = True
            context.respond(_response(message))
        self._finish(context, Rejection(RejectCode.CANISTER_ERROR, "the canister did not respond"))

    def _finish(self, context: _Context, rejection: Rejection) -> None:
        """Nobody is left to respond: the system rejects in the canister's name."""
        if not context.responded and context.outstanding == 0:
            context.responded = True
            context.respond(rejection)

    def _issue(self, message: Message, context: _Context) -> None:
        for request in message.requests:
            self._calls_made += 1
            context.outstanding += 1
            self._outstanding[self._calls_made] = OutgoingCall(self._calls_made, request, context)

    def _message(self, entry: Entry, caller: bytes = b"", argument: bytes = b"") -> Message:
        return Message(entry, self._clock(), caller=caller, argument=argument)

    def _execute(
        self, function: wasmtime.Func | None, message: Message, *arguments: int, commit: bool
    ) -> None:
        """Runs one message. On a trap everything it did is gone and `Rejected` says why."""
        if function is None:
            return
        instance = self._installed()
        self._api.message = message
        instance.store.set_fuel(self._fuel_max)
        message.fuel_before = self._fuel_max
        try:
            function(instance.store, *arguments)
            if len(self._outstanding) + len(message.requests) > OUTSTANDING_MAX:
                raise CanisterTrapped(f"more than {OUTSTANDING_MAX} outstanding calls")
        except (CanisterTrapped, wasmtime.Trap, wasmtime.WasmtimeError) as trap:
            self._undo()
            reason = str(trap).splitlines()[-1].strip() if str(trap) else type(trap).__name__
            raise Rejected("canister_error", expected="a message that does not trap", got=reason) from None
        except BaseException:
            self._undo()
            raise
        if commit:
            self._commit(message)

    def _commit(self, message: Message) -> None:
        self._installed().commit()
        self._api.stable.commit()
        self.prints += message.prints
        if message.certified_data is not None:
            self.certified_data = message.certified_data
        if message.timer_ns is not None:
            self.timer_ns = message.timer_ns

    def _undo(self) -> None:
        self._installed().roll_back()
        self._api.stable.roll_back()

    def _fuel_left(self) -> int:
        return self._installed().store.get_fuel()


def _response(message: Message) -> bytes | Rejection:
    if message.rejection is not None:
        return Rejection(RejectCode.CANISTER_REJECT, message.rejection)
    if message.reply is None:
        return Rejection(RejectCode.CANISTER_ERROR, "the canister did not respond")
    return message.reply
