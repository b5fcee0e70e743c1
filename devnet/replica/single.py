"""One canister of a network, driven by hand: for tests, demonstrations and figures.

    replica = Replica(canister_id, clock=..., randomness=..., certify=..., controllers={owner})
    replica.install(wasm)
    call = replica.ingress("seal_block", argument, owner)     # runs up to its first await
    replica.deliver(replica.outstanding[0])                   # raw_rand answers; the callback runs
    reply = call.reply()

A message from outside runs when it is submitted, and a call to another canister when it is delivered: the order is the
test's. Without a `network` the canister has one to itself.
"""

from __future__ import annotations

from collections.abc import Callable

from devnet.replica.canister import FUEL_MAX
from devnet.replica.instance import Instance
from devnet.replica.messages import ANONYMOUS, NO_ARGUMENTS, Call, NotAnswered, OutgoingCall, Rejection, Stage
from devnet.replica.network import Network

SETTLED_STEPS_MAX = 100_000


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
        network = Network(clock=clock, randomness=randomness, certify=certify, fuel_max=fuel_max)
        network.create(canister_id, controllers=controllers)
        self.network, self.canister_id = network, canister_id
        self.canister = network.canister(canister_id)

    @classmethod
    def of(cls, network: Network, canister_id: bytes) -> Replica:
        """A canister that a network already has."""
        replica = cls.__new__(cls)
        replica.network, replica.canister_id = network, canister_id
        replica.canister = network.canister(canister_id)
        return replica

    # ---- what may be looked at

    @property
    def certified_data(self) -> bytes:
        return self.canister.certified_data

    @property
    def timer_ns(self) -> int:
        return self.canister.timer_ns

    @property
    def prints(self) -> list[str]:
        return self.canister.prints

    @property
    def outstanding(self) -> tuple[OutgoingCall, ...]:
        """Calls of this canister that wait to be delivered, oldest first. The caller chooses the order."""
        mine = (call for call in self.network.calls.values() if call.caller == self.canister_id)
        return tuple(sorted((call for call in mine if call.stage is Stage.QUEUED), key=lambda call: call.place))

    def installed(self) -> Instance:
        return self.canister.installed()

    # ---- the canister's life

    def install(self, wasm: bytes, argument: bytes = NO_ARGUMENTS, *, caller: bytes = ANONYMOUS) -> None:
        """Fresh state. Raises `Rejected` if `canister_init` traps; the canister is then as it was before."""
        self.network.install(self.canister, wasm, argument, caller)

    def upgrade(self, wasm: bytes, argument: bytes = NO_ARGUMENTS, *, caller: bytes = ANONYMOUS) -> None:
        """New code over kept state. A trap anywhere in it leaves old code and old state (`Rejected`)."""
        self.canister.upgrade(wasm, argument, caller)

    # ---- messages

    def ingress(self, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> Call:
        """Inspects and starts an update call (or a replicated query), which may end at once or wait."""
        self.canister.installed()
        rejection = self.network.inspect(self.canister_id, method, argument, caller)
        if rejection is not None:
            return Call(self.canister_id, method, argument, caller, outcome=rejection)
        call = self.network.submit(self.canister_id, method, argument, caller)
        number = self.network.numbers
        self.network.run(number, number)
        return call

    def query(self, method: str, argument: bytes, caller: bytes = ANONYMOUS) -> bytes:
        """A query on this replica alone: it sees a certificate, and leaves no trace."""
        return self.network.query(self.canister_id, method, argument, caller)

    def fire_timer(self) -> bool:
        """Runs the global timer if its time has come. Says whether it ran."""
        return self.network.fire_timer(self.canister)

    def deliver(self, call: OutgoingCall, failure: Rejection | None = None) -> None:
        """Runs an outgoing call, and its callback if it was answered; with `failure`, the callee never sees it."""
        self.network.deliver(call, failure)
        if call.stage is Stage.ANSWERED:
            self.network.call_back(call)
        self.network.end_stops()

    def settle(self, until: Call | None = None) -> None:
        """Runs whatever waits anywhere in the network, oldest first: until nothing does, or `until` is answered."""
        for _ in range(SETTLED_STEPS_MAX):
            if until is not None and until.outcome is not None:
                return
            waiting = self.network.waiting()
            if not waiting:
                return
            self.network.run(*waiting[0])
        raise NotAnswered(
            "settle",
            expected=f"quiet within {SETTLED_STEPS_MAX} messages",
            got=f"{len(self.network.waiting())} messages still waiting",
        )
