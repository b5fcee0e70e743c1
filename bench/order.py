"""What proving order costs, beside the BLS pairing that bounds it, measured in the same run.

    python -m bench.order

One-block slices say how much of a proof is anything but the pairing; the long slice says what a prompt costs
when a thousand share one. Figures are the best of many rounds that take turns: the
pairing runs on two threads, so on a busy machine its time has two modes, and a median may fall into either.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from appliance.ordering.sequencer import Sequencer
from attestation.consensus import bls
from attestation.consensus.certificate import parse_certificate
from attestation.consensus.chat import ChatRequest, UserMessage
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.delegation import DelegationCache, signed_bytes
from attestation.consensus.slices import SliceProof, verify_slice
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from foundation.secrecy import Prompt

NOW_NS = 1_700_000_000_000_000_000
ROUNDS = 31
BLOCKS = 4
PROMPTS = 250
PAYLOAD_BYTES = 200


def main() -> dict[str, float]:
    """Prints the table and returns its figures, in microseconds unless the name says otherwise."""
    subnet = Subnet(b"bench")
    short, long = _chain(subnet, 1, 1), _chain(subnet, BLOCKS, PROMPTS)
    chat = ChatRequest("llama3.1:8b", (UserMessage(Prompt(b"x" * PAYLOAD_BYTES)),)).encode()
    cold, warm, whole, bodies, pairing, reading = _best(
        _one_block(subnet, short, cached=False),
        _one_block(subnet, short, cached=True),
        _whole_slice(subnet, long),
        _bodies(subnet, long),
        _pairing(subnet, short),
        lambda: ChatRequest.decode(Prompt(chat), RAISED),
    )
    count = BLOCKS * PROMPTS
    figures = {
        "pairing_us": pairing,
        "pairings_per_second": 1e6 / pairing,
        "one_block_us": warm,
        "one_block_pairing_share": pairing / warm,
        "one_block_new_delegation_us": cold,
        "one_block_new_delegation_pairing_share": 2 * pairing / cold,
        "certificates_per_second": 1e6 / warm,
        "long_slice_us": whole,
        "long_slice_us_per_prompt": whole / count,
        "long_slice_bodies_us_per_prompt": bodies / count,
        "prompts_per_second": count * 1e6 / whole,
        "chat_payload_us": reading,
    }
    for name, figure in figures.items():
        print(f"{name:42} {figure:12.2f}")
    return figures


def _chain(subnet: Subnet, blocks: int, prompts: int) -> Chain:
    chain = Chain(subnet, GATEWAY, seed=b"bench")
    for height in range(blocks):
        chain.seal([b"%0*d" % (PAYLOAD_BYTES, k) for k in range(prompts)], NOW_NS + height)
    return chain


def _best(*jobs: Callable[[], object]) -> list[float]:
    spent: list[list[float]] = [[] for _ in jobs]
    for _ in range(ROUNDS):
        for times, job in zip(spent, jobs, strict=True):
            start = perf_counter()
            job()
            times.append((perf_counter() - start) * 1e6)
    return [min(times) for times in spent]


def _pairing(subnet: Subnet, chain: Chain) -> Callable[[], object]:
    """One signature, its message and its key already taken out of the certificate."""
    certificate = parse_certificate(SliceProof.parse(chain.proof(1, 1, NOW_NS + 9)).certificate)
    message = signed_bytes(certificate.tree)
    return lambda: bls.verify(subnet.subnet_key, certificate.signature, message)


def _one_block(subnet: Subnet, chain: Chain, *, cached: bool) -> Callable[[], object]:
    raw = chain.proof(1, 1, NOW_NS + 9)
    cache = DelegationCache() if cached else None
    return lambda: verify_slice(SliceProof.parse(raw), root_key=subnet.root_key, canister=GATEWAY, cache=cache)


def _whole_slice(subnet: Subnet, chain: Chain) -> Callable[[], object]:
    """Proof and bodies through the sequencer, as the cell does it, the delegation known."""
    raw, cache = chain.proof(1, BLOCKS, NOW_NS + 9), DelegationCache()
    bodies = [chain.body(height + 1) for height in range(BLOCKS)]

    def run() -> None:
        sequencer = Sequencer(root_key=subnet.root_key, canister=GATEWAY, cache=cache)
        sequencer.propose(raw)
        for body in bodies:
            sequencer.supply(body)

    return run


def _bodies(subnet: Subnet, chain: Chain) -> Callable[[], object]:
    """The bodies alone."""
    raw, cache = chain.proof(1, BLOCKS, NOW_NS + 9), DelegationCache()
    bodies = [chain.body(height + 1) for height in range(BLOCKS)]
    waiting = []
    for _ in range(ROUNDS):
        sequencer = Sequencer(root_key=subnet.root_key, canister=GATEWAY, cache=cache)
        sequencer.propose(raw)
        waiting.append(sequencer)

    def run() -> None:
        sequencer = waiting.pop()
        for body in bodies:
            sequencer.supply(body)

    return run


if __name__ == "__main__":
    main()
