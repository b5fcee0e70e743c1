"""A governance canister's word: proposed, voted on, executed, certified, and believed for nothing less.

governance.md V7, V13, V14; the canister is the one checked in, under the devnet's subnet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.adoption import executed_reply, get_proposal_argument
from attestation.consensus.request_id import UpdateCall
from devnet.governance import CANISTER, Governance, GovernanceDeclined
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import NEIGHBOUR, Subnet
from foundation.refusal import Refused
from measurements.governance.actions import Action, Adopt, Payload, Withdraw
from measurements.governance.authority import Chain
from measurements.governance.decision import CertifiedReply, Decision
from measurements.governance.history import Ledger
from measurements.governance.proposal import Proposal
from tests.releases import made_manifest

START_NS = 1_750_000_000 * 10**9
FIRST = made_manifest()


def ticking() -> Callable[[], int]:
    seconds: Iterator[int] = iter(range(1_000_000))
    return lambda: START_NS + next(seconds) * 10**9


@pytest.fixture(scope="module")
def subnet() -> Subnet:
    return Subnet(b"governance")


@pytest.fixture
def governance(subnet: Subnet) -> Governance:
    return Governance.on_subnet(subnet, clock=ticking())


@pytest.fixture(scope="module")
def adopted(subnet: Subnet) -> tuple[Chain, Decision]:
    made = Governance.on_subnet(subnet, clock=ticking())
    return made.chain, made.decided(Proposal.of(Ledger.begin(made.chain), Adopt(FIRST)))


def proposal(governance: Governance, action: Action | None = None) -> Proposal:
    return Proposal.of(Ledger.begin(governance.chain), action or Adopt(FIRST))


def refusal(chain: Chain, decision: Decision) -> str:
    with pytest.raises(Refused) as caught:
        Ledger.begin(chain).advance(decision, executed_reply)
    return caught.value.code


def test_an_executed_proposal_is_a_decision(governance: Governance) -> None:
    ledger = Ledger.begin(governance.chain)
    ledger, first = ledger.advance(governance.decided(proposal(governance)), executed_reply)
    assert first.by == ("proposal 1",)
    assert first.certified_ns is not None
    assert governance.history() == (1, ledger.head)
    second = Proposal.of(ledger, Withdraw("0.1.0", FIRST.digest, "it leaks"))
    ledger, _ = ledger.advance(governance.decided(second), executed_reply)
    assert governance.history() == (2, ledger.head)


def test_what_is_not_executed_is_not_decided(governance: Governance) -> None:
    made = proposal(governance)
    number = governance.propose(made)

    def now() -> Decision:
        return Decision(made.payload.encode(), governance.certified(number))

    assert refusal(governance.chain, now()) == "authority.status"
    governance.vote(0, number, yes=True)
    assert refusal(governance.chain, now()) == "authority.status"
    governance.vote(1, number, yes=False)
    governance.vote(2, number, yes=False)
    assert refusal(governance.chain, now()) == "authority.status"
    with pytest.raises(GovernanceDeclined):
        governance.vote(1, number, yes=True)


def test_a_step_that_does_not_follow_fails_to_execute(governance: Governance) -> None:
    made = proposal(governance)
    governance.decided(made)
    late = Proposal.of(Ledger.begin(governance.chain), Adopt(made_manifest("0.9.0")))
    decision = governance.decided(late)
    assert refusal(governance.chain, decision) == "authority.status"
    assert governance.history()[0] == 1


def test_a_vote_is_one_and_its_own(governance: Governance) -> None:
    number = governance.propose(proposal(governance))
    governance.vote(0, number, yes=True)
    with pytest.raises(GovernanceDeclined):
        governance.vote(0, number, yes=True)
    with pytest.raises(GovernanceDeclined):
        governance.vote(0, number + 1, yes=True)


def test_a_payload_that_is_no_step_cannot_be_proposed(governance: Governance) -> None:
    good = proposal(governance)

    class Nonsense(Payload):
        def encode(self) -> bytes:
            return b"DIDL\x00\x00"

    bad = replace(good, payload=Nonsense(1, bytes(32), good.payload.action))
    with pytest.raises(Refused):
        governance.propose(bad)


def test_another_proposals_answer_proves_nothing(governance: Governance) -> None:
    made = proposal(governance)
    governance.decided(made)
    after = Ledger.begin(governance.chain).rehearse(made.payload.action, made.digest)
    other = Proposal.of(after, Adopt(made_manifest("0.2.0", FIRST)))
    assert refusal(governance.chain, Decision(other.payload.encode(), governance.certified(1))) == "authority.payload"
    assert refusal(governance.chain, Decision(made.payload.encode(), governance.certified(7))) == "authority.proposal"


BENT: dict[str, tuple[Callable[[Chain], Chain], str]] = {
    "another root key": (lambda chain: replace(chain, root_key=Subnet(b"other").root_key), "history.fork"),
    "another canister": (lambda chain: replace(chain, canister=NEIGHBOUR), "history.fork"),
    "another method": (lambda chain: replace(chain, method="list_proposals"), "history.fork"),
    "another function": (lambda chain: replace(chain, function=1_001), "history.fork"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_decision_belongs_to_its_authority(adopted: tuple[Chain, Decision], name: str) -> None:
    bend, code = BENT[name]
    assert refusal(bend(adopted[0]), adopted[1]) == code


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (lambda chain: replace(chain, root_key=Subnet(b"other").root_key), "delegation.signature"),
        (lambda chain: replace(chain, canister=NEIGHBOUR), "lookup.absent"),
        (lambda chain: replace(chain, canister=bytes(8) + b"\x01\x01"), "ranges.outside"),
        (lambda chain: replace(chain, method="list_proposals"), "lookup.absent"),
        (lambda chain: replace(chain, function=1_001), "authority.function"),
    ],
)
def test_every_binding_is_checked_by_itself(
    adopted: tuple[Chain, Decision], bend: Callable[[Chain], Chain], code: str
) -> None:
    chain, decision = adopted
    assert isinstance(decision.proof, CertifiedReply)
    with pytest.raises(Refused) as caught:
        executed_reply(decision.proof, bend(chain))
    family = caught.value.code.split(".")[0]
    assert family == code.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("part", ["argument", "sender", "expiry_ns", "nonce"])
def test_the_call_is_bound_by_its_request_id(adopted: tuple[Chain, Decision], part: str) -> None:
    chain, decision = adopted
    assert isinstance(decision.proof, CertifiedReply)
    other = {"argument": get_proposal_argument(2), "sender": b"\x05", "expiry_ns": 1, "nonce": b"n"}[part]
    bent = replace(decision, proof=replace(decision.proof, **{part: other}))
    assert refusal(chain, bent).startswith("lookup.")


def test_a_rejected_call_proves_nothing(subnet: Subnet, adopted: tuple[Chain, Decision]) -> None:
    chain, decision = adopted
    reply = decision.proof
    assert isinstance(reply, CertifiedReply)
    call = UpdateCall(chain.canister, chain.method, reply.argument, reply.sender, reply.expiry_ns, reply.nonce)
    certificate = subnet.rejection(CANISTER, call.request_id, 4, "no", time_ns=START_NS)
    assert refusal(chain, Decision(decision.payload, replace(reply, certificate=certificate))) == "lookup.status"


@pytest.mark.parametrize(
    "misbehaviour",
    [
        Misbehaviour.WRONG_KEY,
        Misbehaviour.NO_TIME,
        Misbehaviour.EMPTY_RANGES,
        Misbehaviour.OUTSIDE_RANGES,
        Misbehaviour.NO_RANGES,
        Misbehaviour.NESTED_DELEGATION,
        Misbehaviour.IDENTITY_SIGNATURE,
        Misbehaviour.IDENTITY_SUBNET_KEY,
        Misbehaviour.FLIPPED_SIGNATURE,
        Misbehaviour.TRAILING_BYTE,
    ],
    ids=lambda each: each.name,
)
def test_a_subnet_that_misbehaves_is_not_believed(
    subnet: Subnet, adopted: tuple[Chain, Decision], misbehaviour: Misbehaviour
) -> None:
    chain, decision = adopted
    reply = decision.proof
    assert isinstance(reply, CertifiedReply)
    call = UpdateCall(chain.canister, chain.method, reply.argument, reply.sender, reply.expiry_ns, reply.nonce)
    certificate = subnet.reply(CANISTER, call.request_id, b"DIDL\x00\x00", START_NS, misbehaviour=misbehaviour)
    code = refusal(chain, Decision(decision.payload, replace(reply, certificate=certificate)))
    assert not code.startswith("authority.")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_bit_of_a_certified_decision_counts(adopted: tuple[Chain, Decision], data: st.DataObject) -> None:
    chain, decision = adopted
    raw = bytearray(decision.encode())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused) as caught:
        Ledger.begin(chain).advance(Decision.parse(bytes(raw)), executed_reply)
    assert "." in caught.value.code or caught.value.code in ("manifest", "launch")


@given(data=st.data())
def test_a_truncated_one_is_none(adopted: tuple[Chain, Decision], data: st.DataObject) -> None:
    raw = adopted[1].encode()
    size = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(Refused) as caught:
        Decision.parse(raw[:size])
    assert caught.value.code == "decision.cbor"
