"""The devnet's governance canister on a stand-in replica: propose, vote, execute, and the subnet's certificate.

    governance = Governance.on_subnet(subnet, clock=...)
    number = governance.propose(proposal)               whoever holds the first neuron
    governance.vote(1, number, yes=True)
    governance.certified(number)                        the reply of an update call, certified: a decision's proof

The wasm is the one checked in at governance/governance.wasm, its digest checked before it runs. What it is not: a
subnet's consensus over who voted; one process plays the canister, the voters and the replica.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attestation.adoption import get_proposal_argument
from attestation.consensus.request_id import UpdateCall
from devnet.replica import ANONYMOUS, Replica
from devnet.subnet import Subnet
from foundation.candid import BLOB, INT32, NAT64, PRINCIPAL, TEXT, Opt, Record, Type, Variant, Vec, decode, encode
from foundation.refusal import Refused
from measurements.governance.authority import Chain, authority_digest
from measurements.governance.decision import CertifiedReply, Decision
from measurements.governance.proposal import Proposal

ARTEFACTS: Final = Path(__file__).resolve().parent.parent / "governance"
CANISTER: Final = bytes.fromhex("00000000fff000080101")
FUNCTION: Final = 1_000
METHOD: Final = "get_proposal"
EXPIRY_NS: Final = 5 * 60 * 10**9
_INIT: Final = Record(
    {"authority": BLOB, "function": NAT64, "neurons": Vec(Record({"subaccount": BLOB, "controller": PRINCIPAL}))}
)
_PROPOSAL_ID: Final = Record({"id": NAT64})
_VOTE: Final = Record(
    {
        "subaccount": BLOB,
        "command": Opt(Variant({"RegisterVote": Record({"vote": INT32, "proposal": Opt(_PROPOSAL_ID)})})),
    }
)
_ANSWER: Final = Record(
    {
        "command": Opt(
            Variant(
                {
                    "Error": Record({"error_message": TEXT, "error_type": INT32}),
                    "MakeProposal": Record({"proposal_id": Opt(_PROPOSAL_ID)}),
                    "RegisterVote": Record({}),
                }
            )
        )
    }
)
_HISTORY: Final = Record({"position": NAT64, "head": BLOB})


class GovernanceDeclined(Refused):
    """The canister answered with an error. `code` is its number."""

    stage = "devnet.governance"


def voter(number: int) -> bytes:
    """The principal that controls a neuron."""
    return bytes.fromhex(f"00000000fff000{0x20 + number:02x}0101")


def subaccount(number: int) -> bytes:
    return bytes([0x20 + number]) * 32


class Governance:
    """One governance canister with a few neurons of equal weight."""

    def __init__(self, subnet: Subnet, replica: Replica, chain: Chain, clock: Callable[[], int]) -> None:
        self.chain: Final = chain
        self._subnet, self._replica, self._clock = subnet, replica, clock

    @classmethod
    def on_subnet(
        cls, subnet: Subnet, *, clock: Callable[[], int], neurons: int = 3, canister: bytes = CANISTER
    ) -> Governance:
        chain = Chain(subnet.root_key, canister, METHOD, FUNCTION)
        replica = Replica(canister, clock=clock, randomness=lambda: bytes(32))
        replica.install(
            read_wasm(),
            encode(
                [_INIT],
                [
                    {
                        "authority": authority_digest(chain),
                        "function": FUNCTION,
                        "neurons": [{"subaccount": subaccount(n), "controller": voter(n)} for n in range(neurons)],
                    }
                ],
            ),
        )
        return cls(subnet, replica, chain, clock)

    def propose(self, proposal: Proposal, neuron: int = 0) -> int:
        """Submits exactly the bytes `manage_neuron` of an SNS would get; the proposal's number."""
        answer = self._managed(proposal.manage_neuron(subaccount(neuron)), neuron)
        number: int = answer["proposal_id"]["id"]
        return number

    def vote(self, neuron: int, proposal: int, *, yes: bool) -> None:
        command = ("RegisterVote", {"vote": 1 if yes else 2, "proposal": {"id": proposal}})
        self._managed(encode([_VOTE], [{"subaccount": subaccount(neuron), "command": command}]), neuron)

    def certified(self, proposal: int) -> CertifiedReply:
        """What anyone gets who asks `get_proposal` in an update call: the answer under the subnet's signature."""
        now_ns = self._clock()
        call = UpdateCall(self.chain.canister, METHOD, get_proposal_argument(proposal), ANONYMOUS, now_ns + EXPIRY_NS)
        reply = self._replica.ingress(METHOD, call.argument).reply()
        certificate = self._subnet.reply(self.chain.canister, call.request_id, reply, now_ns)
        return CertifiedReply(certificate, call.argument, call.sender, call.expiry_ns, call.nonce)

    def decided(self, proposal: Proposal) -> Decision:
        """Proposed, voted for by a majority, executed, certified: a decision."""
        number = self.propose(proposal)
        for neuron in (0, 1):
            self.vote(neuron, number, yes=True)
        return Decision(proposal.payload.encode(), self.certified(number))

    def history(self) -> tuple[int, bytes]:
        """How many steps the canister has executed, and the digest of the newest."""
        [found] = decode([_HISTORY], self._replica.query("history", encode([], [])))
        return found["position"], found["head"]

    def _managed(self, argument: bytes, neuron: int) -> dict[str, Any]:
        answer: Type = _ANSWER
        [reply] = decode([answer], self._replica.ingress("manage_neuron", argument, voter(neuron)).reply())
        kind, value = reply["command"]
        if kind == "Error":
            code, message = str(value["error_type"]), value["error_message"]
            raise GovernanceDeclined(code, expected="a proposal or a vote", got=message)
        found: dict[str, Any] = value
        return found


def read_wasm() -> bytes:
    """The checked-in module, if it is the one its digest names."""
    wasm = (ARTEFACTS / "governance.wasm").read_bytes()
    stated = (ARTEFACTS / "governance.wasm.sha256").read_text(encoding="ascii").split()[0]
    if hashlib.sha256(wasm).hexdigest() != stated:
        raise GovernanceDeclined("wasm", expected=stated, got=hashlib.sha256(wasm).hexdigest())
    return wasm
