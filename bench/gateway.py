"""What the gateway's calls cost: instructions by the engine's fuel, and cycles by the Internet Computer's price list.

    python -m bench.gateway

Every figure is of one message or of one path of messages, on a gateway with nothing else to do. Fuel counts WebAssembly
instructions as wasmtime does, which are near the subnet's own count and not equal to it. The same module gives the same
figures on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from anchorhold.host.gateway_client import chat
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER, REPORTER, LoneGateway, canister, person, report_on
from devnet.replica import Entry, Execution, Replica, prices

SECOND_NS = 1_000_000_000
PROMPT = 1_000
ANSWER = 4_096
APP, USER = canister(1), person(1)
RAND = prices.transmission(len("raw_rand") + len(b"DIDL\0\0"))


@dataclass
class Meter:
    """Counts what ran while it is open."""

    gateway: Gateway
    ran: list[Execution] = field(default_factory=list)

    def of(self, work: Callable[[], object]) -> tuple[int, int]:
        """Messages that the gateway is charged for, and their instructions."""
        self.ran.clear()
        network = self.gateway.replica.network
        network.observe = self.ran.append
        work()
        network.observe = None
        charged = [each for each in self.ran if each.entry not in (Entry.INSPECT, Entry.QUERY)]
        return len(charged), sum(each.fuel for each in charged)


def cycles(messages: int, instructions: int, *, draws: int = 0, ingress_bytes: int | None = None) -> int:
    looked_at = prices.ingress(ingress_bytes) if ingress_bytes is not None else 0
    return messages * prices.EXECUTION_BASE + instructions * prices.PER_INSTRUCTION + draws * RAND + looked_at


def _deliver(replica: Replica) -> None:
    replica.deliver(replica.outstanding[-1])


def main() -> dict[str, float]:
    """Prints the table and returns its figures."""
    bench = LoneGateway()
    gateway, replica, meter = bench.gateway, bench.replica, Meter(bench.gateway)
    replica.fire_timer()
    replica.settle()
    figures: dict[str, float] = {}

    def say(name: str, spent: tuple[int, int], **other: int) -> int:
        whole = cycles(*spent, **other)
        figures[f"{name}_instructions"] = spent[1]
        figures[f"{name}_cycles"] = whole
        print(f"{name:36} {spent[0]:2} messages {spent[1]:>12,} instructions {whole:>12,} cycles")
        return whole

    request = chat("tiny", ("user", {"content": "x" * PROMPT}))
    call = []
    opened = say(
        "v1_chat, 1 KB, until it waits", meter.of(lambda: call.append(gateway.begin_chat(APP, request))), draws=1
    )
    sealed = say("its draw seals the block", meter.of(lambda: _deliver(replica)), draws=1)
    tick = say("a round of waiting", meter.of(lambda: _deliver(replica)), draws=1)
    report = report_on(gateway, 1, 0, b"a" * ANSWER)
    size = len(report.answer) + len(report.receipt) + 64 + 100
    reported = say(
        "report_answer, 4 KiB", meter.of(lambda: gateway.report_answer(REPORTER, report)), ingress_bytes=size
    )
    say("the round that finds the answer", meter.of(lambda: _deliver(replica)))
    gateway.end_chat(call[0])
    figures["v1_chat_path_cycles"] = opened + sealed + reported
    figures["waiting_second_cycles"] = tick
    print(f"{'v1_chat without waiting, in all':66} {opened + sealed + reported:>12,} cycles")

    bench.clock.now_ns += 10 * SECOND_NS
    ticket = meter.of(lambda: gateway.submit_chat(USER, request))
    submitted = say("submit_chat, 1 KB, from a person", ticket, ingress_bytes=PROMPT + 300)
    bench.clock.now_ns += 10 * SECOND_NS

    def timer() -> None:
        replica.fire_timer()
        replica.settle()

    timed = say("the timer seals a block", meter.of(timer), draws=2)
    figures["ticket_path_cycles"] = submitted + timed + reported
    print(f"{'a ticket alone in its block, in all':66} {submitted + timed + reported:>12,} cycles")

    for name, work in (("submit_sealed, 128 KiB", lambda: gateway.submit_sealed(APP, bytes(131_072))),):
        say(name, meter.of(work))
    for _ in range(7):
        gateway.submit_sealed(APP, bytes(131_072))
    say("seal_block, 1 MiB", meter.of(lambda: gateway.seal_block(OWNER)), draws=1)
    for number in range(256):
        gateway.submit_sealed(canister(100 + number), b"x")
    say("seal_block, 256 prompts", meter.of(lambda: gateway.seal_block(OWNER)), draws=1)
    large = report_on(gateway, 3, 0, b"a" * 524_288)
    say("report_answer, 512 KiB", meter.of(lambda: gateway.report_answer(REPORTER, large)))
    hashed = figures["seal_block, 1 MiB_instructions"] / (1 << 20)
    figures["instructions_per_byte_hashed"] = hashed
    print(f"{'instructions a byte hashed, in a block of 1 MiB':66} {hashed:>12.0f}")
    return figures


if __name__ == "__main__":
    main()
