"""What becomes of a call: its context is opened, its callee runs, its response comes back, its callback runs.

A call between canisters is `QUEUED` until its callee begins, `OPEN` while the callee may still respond, `ANSWERED`
until the caller's callback runs. Cycles travel with it both ways. A bounded wait that is over is answered in the
callee's name; what the callee says later reaches nobody, and cycles it did not accept are lost, as on the subnet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from devnet.replica import system_canisters
from devnet.replica.canister import Canister
from devnet.replica.messages import (
    MANAGEMENT_CANISTER,
    Call,
    Context,
    Entry,
    Message,
    NotAnswered,
    Outcome,
    OutgoingCall,
    RejectCode,
    Rejected,
    Rejection,
    Stage,
    rejection_of,
)
from devnet.replica.settings import Status

QUEUE_MAX: Final = 500
NATIVE: Final = system_canisters.IDS | {MANAGEMENT_CANISTER}  # run by this program, without WebAssembly
_SECOND_NS: Final = 10**9


class Delivery(ABC):
    """Calls and contexts of one network's canisters."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.canisters: Final[dict[bytes, Canister]] = {}
        self.calls: Final[dict[int, OutgoingCall]] = {}
        self.contexts: Final[dict[int, Context]] = {}
        self.ingress: Final[dict[int, Call]] = {}
        self.numbers = 0  # calls, contexts and places in the queue all draw from it
        self._clock: Final = clock

    def now_ns(self) -> int:
        return self._clock()

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def canister(self, canister_id: bytes) -> Canister:
        """Raises `Rejected`."""
        if (found := self.canisters.get(canister_id)) is None:
            raise Rejected("destination_invalid", expected="a canister of this devnet", got=canister_id.hex())
        return found

    @abstractmethod
    def ask_native(self, context: Context, method: str, argument: bytes) -> Outcome | None:
        """What the management or a system canister responds; None if it does so later. Raises `Rejected`."""

    def has_room(self, caller: bytes, callee: bytes, being_made: int) -> bool:
        is_open = sum(call.caller == caller and call.callee == callee for call in self.calls.values())
        return is_open + being_made < QUEUE_MAX

    # ---- beginning

    def open_context(self, context: Context) -> Context:
        self.contexts[context.number] = context
        return context

    def start(self, context: Context) -> None:
        """Begins a call from outside that waited."""
        context.queued = False
        call = self.ingress[context.ingress or 0]
        call.started = True
        self._enter(context, call.method, call.argument)

    def deliver(self, call: OutgoingCall, failure: Rejection | None = None) -> None:
        """Begins a call between canisters; with `failure`, the callee never sees it."""
        if self.calls.get(call.number) is not call or call.stage is not Stage.QUEUED:
            raise NotAnswered("delivered", expected="an outstanding call", got=f"number {call.number}")
        if failure is not None:
            self._answered(call, failure)
            return
        call.stage = Stage.OPEN
        cycles, call.cycles = call.cycles, 0
        self._enter(
            self.open_context(
                Context(
                    self.number(),
                    call.callee,
                    call.caller,
                    call=call.number,
                    deadline_ns=call.deadline_ns,
                    cycles=cycles,
                )
            ),
            call.method,
            call.argument,
        )

    def _enter(self, context: Context, method: str, argument: bytes) -> None:
        try:
            if context.canister in NATIVE:
                outcome = self.ask_native(context, method, argument)
                if outcome is not None:
                    self.respond(context, outcome)
            else:
                self._call_method(context, method, argument)
        except Rejected as refused:
            self.finish(context, rejection_of(refused))

    def _call_method(self, context: Context, method: str, argument: bytes) -> None:
        callee = self.canister(context.canister)
        if callee.status is not Status.RUNNING:
            what = f"the canister is {callee.status.name.lower()}"
            raise Rejected("canister_error", expected="a running canister", got=what)
        instance = callee.installed()
        entry, keeps = Entry.UPDATE, True
        function = instance.function(f"canister_update {method}")
        if function is None:
            entry, keeps = Entry.REPLICATED_QUERY, False
            function = instance.function(f"canister_query {method}")
        if function is None:
            raise Rejected("canister_error", expected="a method of the canister", got=f"no method {method!r}")
        message = callee.message(entry, context.caller, argument, method)
        message.may_respond = True
        message.deadline_ns = context.deadline_ns if keeps else 0
        callee.execute(function, message, commit=keeps, context=context)
        if not keeps:
            callee.undo()
        self.conclude(context, message)

    # ---- coming back

    def _answered(self, call: OutgoingCall, outcome: Outcome) -> None:
        call.stage, call.outcome, call.place = Stage.ANSWERED, outcome, self.number()

    def call_back(self, call: OutgoingCall) -> None:
        """Runs the callback of a call that was answered."""
        del self.calls[call.number]
        context, outcome = self.contexts[call.context], call.outcome
        canister = self.canister(call.caller)
        context.outstanding -= 1
        canister.cycles += call.cycles
        message = canister.message(Entry.REPLY, context.caller)
        message.may_respond = not context.responded
        message.deadline_ns = context.deadline_ns
        message.cycles_refunded = call.cycles
        callback = call.on_reply
        if isinstance(outcome, bytes):
            message.argument = outcome
        elif outcome is not None:
            message.entry, callback = Entry.REJECT, call.on_reject
            message.reject_code, message.reject_message = int(outcome.code), outcome.message
        try:
            canister.call_back(callback, message, context)
        except Rejected as trapped:
            self._clean_up(canister, call, message, context)
            self.finish(context, Rejection(RejectCode.CANISTER_ERROR, trapped.got))
        else:
            self.conclude(context, message)

    def _clean_up(self, canister: Canister, call: OutgoingCall, trapped: Message, context: Context) -> None:
        """After a trapped callback: the canister may free what it held. It cannot respond or call here."""
        if call.on_cleanup is None:
            return
        message = canister.message(Entry.CLEANUP, context.caller)
        message.reject_code = trapped.reject_code
        message.deadline_ns = context.deadline_ns
        try:
            canister.call_back(call.on_cleanup, message, context)
        except Rejected:
            return

    # ---- ending

    def conclude(self, context: Context, message: Message) -> None:
        """What a message did beside changing its canister: calls, a response, or neither."""
        for request in message.requests:
            number = self.number()
            context.outstanding += 1
            limit = 0 if request.timeout_s is None else self.now_ns() + request.timeout_s * _SECOND_NS
            self.calls[number] = OutgoingCall(
                number,
                context.canister,
                context.number,
                request.callee,
                request.method,
                bytes(request.argument),
                request.on_reply,
                request.on_reject,
                request.on_cleanup,
                request.cycles,
                limit,
                place=number,
            )
        if not context.responded and (outcome := message.response()) is not None:
            self.respond(context, outcome)
        self.finish(context, Rejection(RejectCode.CANISTER_ERROR, "the canister did not respond"))

    def respond(self, context: Context, outcome: Outcome) -> None:
        """To whoever called; cycles that were not accepted go back with it."""
        context.responded = True
        left, context.cycles = context.cycles, 0
        if context.ingress is not None:
            call = self.ingress[context.ingress]
            call.outcome = outcome
            if not call.request_id:
                del self.ingress[context.ingress]
        elif (outgoing := self.calls.get(context.call or 0)) is not None and outgoing.stage is Stage.OPEN:
            outgoing.cycles = left
            self._answered(outgoing, outcome)
        if context.outstanding == 0:
            self.contexts.pop(context.number, None)

    def finish(self, context: Context, rejection: Rejection) -> None:
        """If nobody is left to respond, the system rejects in the canister's name."""
        if context.outstanding:
            return
        if not context.responded:
            self.respond(context, rejection)
        self.contexts.pop(context.number, None)

    def expire(self) -> int:
        """Ends every bounded wait whose time is over. How many."""
        now, ended = self.now_ns(), 0
        for call in self.calls.values():
            if 0 < call.deadline_ns <= now and call.stage is not Stage.ANSWERED:
                call.cycles = 0
                self._answered(call, Rejection(RejectCode.SYS_UNKNOWN, "the time limit of a bounded wait is over"))
                ended += 1
        return ended

    def abandon(self, canister: Canister, why: str) -> None:
        """The canister's state is gone: nothing can answer what was open, and no callback may run."""
        mine = canister.canister_id
        for call in [each for each in self.calls.values() if each.caller == mine]:
            del self.calls[call.number]
        for context in [each for each in self.contexts.values() if each.canister == mine]:
            context.outstanding = 0
            self.finish(context, Rejection(RejectCode.CANISTER_REJECT, why))
