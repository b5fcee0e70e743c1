"""Apps written in Motoko for the LLM canister's interface, on the gateway: by its public id and by a configured one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from attestation.consensus.blocks import Block
from attestation.consensus.chat import Argument, AssistantMessage, ChatRequest, ToolCall, ToolMessage, encode_message
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.principal import from_text, to_text
from attestation.receipts.outcome import Finish
from devnet import little_model
from devnet.gateway import ARTEFACTS, Gateway, gateway_wasm
from devnet.lone_gateway import OWNER, REPORTER, Clock, canister, person, report_on
from devnet.replica import NO_ARGUMENTS, Call, Network, Rejected, Replica
from devnet.subnet import GATEWAY
from foundation.candid import NAT64, TEXT, Record, Vec, decode, encode
from foundation.secrecy import Prompt

PUBLIC = from_text("w36hm-eqaaa-aaaal-qr76a-cai")
APP = canister(0x4242)
USER = person(1)
SECOND = 1_000_000_000
HEARD = Vec(Record({"ticket": NAT64, "words": TEXT}))


def example(name: str) -> bytes:
    folder = ARTEFACTS / "examples" / name
    wasm = (folder / f"{name}.wasm").read_bytes()
    assert hashlib.sha256(wasm).hexdigest() == (folder / f"{name}.wasm.sha256").read_text("ascii").split()[0]
    return wasm


@dataclass
class Subnet:
    """A gateway and an app beside it."""

    network: Network
    gateway: Gateway
    clock: Clock

    def call(self, method: str, argument: str) -> Call:
        return self.network.submit(APP, method, encode([TEXT], [argument]), USER)

    def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.now_ns += SECOND
            self.network.round()

    def until_ordered(self, height: int) -> Block:
        for _ in range(20):
            self.rounds()
            if self.gateway.status()["head_height"] >= height:
                return Block.decode(self.gateway.get_slice(height, 1).encoded[0])
        raise AssertionError(f"nothing is sealed at height {height}")

    def say(self, height: int, answer: bytes, finish: Finish | str = Finish.STOP) -> None:
        self.gateway.report_answer(REPORTER, report_on(self.gateway, height, 0, answer, finish=finish))

    def text(self, call: Call) -> str:
        for _ in range(20):
            if call.outcome is not None:
                break
            self.rounds()
        return str(decode([TEXT], call.reply())[0])


def subnet(gateway_id: bytes, environment: dict[str, str]) -> Subnet:
    clock = Clock()
    drawn = iter(range(1, 1_000_000))
    network = Network(clock=clock, randomness=lambda: hashlib.sha256(b"%d" % next(drawn)).digest())
    network.create(gateway_id, controllers={OWNER}).install(gateway_wasm(), NO_ARGUMENTS, OWNER)
    app = network.create(APP, controllers={OWNER})
    app.change(environment=environment)
    app.install(example("adviser"), NO_ARGUMENTS, OWNER)
    gateway = Gateway(Replica.of(network, gateway_id))
    gateway.set_reporters(OWNER, [REPORTER])
    return Subnet(network, gateway, clock)


@pytest.fixture(params=["hard-coded", "configured"])
def on(request: pytest.FixtureRequest) -> Subnet:
    if request.param == "hard-coded":
        return subnet(PUBLIC, {})
    return subnet(GATEWAY, {"PUBLIC_CANISTER_ID:llm": to_text(GATEWAY)})


def test_one_question_one_answer(on: Subnet) -> None:
    call = on.call("ask", "what is the capital of Switzerland?")
    on.until_ordered(1)
    on.say(1, b"Bern")
    assert on.text(call) == "Bern"


def test_tools_are_called_and_their_results_go_back(on: Subnet) -> None:
    call = on.call("advise", "Bern")
    on.until_ordered(1)
    weather = ToolCall(Prompt(b"call-7"), Prompt(b"weather"), (Argument(Prompt(b"city"), Prompt(b"Bern")),))
    on.say(1, encode_message(AssistantMessage(None, (weather,))), Finish.TOOL_CALLS)
    request = on.until_ordered(2).requests[0]
    assert request.caller == APP
    chat = ChatRequest.decode(request.payload, RAISED)
    assert chat.model == little_model.NAME
    assert chat.tools is not None
    assert [tool.name.reveal() for tool in chat.tools] == [b"weather"]
    *_, said, result = chat.messages
    assert isinstance(said, AssistantMessage)
    assert isinstance(result, ToolMessage)
    assert (said.tool_calls, result.content.reveal(), result.tool_call_id.reveal()) == ((weather,), b"rain", b"call-7")
    on.say(2, b"Take an umbrella.")
    assert on.text(call) == "Take an umbrella."


def test_what_the_gateway_rejects_the_app_sees(on: Subnet) -> None:
    call = on.call("advise", "Bern")
    on.until_ordered(1)
    on.say(1, b"", "chat.text-size")
    assert on.text(call).startswith("chat.text-size: ")


def test_a_callback_brings_the_answer(on: Subnet) -> None:
    ordered = on.call("order", "what is the capital of Switzerland?")
    assert on.text(ordered) == "ticket 0"
    on.until_ordered(1)
    assert decode([HEARD], on.network.query(APP, "answers", NO_ARGUMENTS)) == [[]]
    on.say(1, b"Bern")
    on.rounds(3)
    assert decode([HEARD], on.network.query(APP, "answers", NO_ARGUMENTS)) == [[{"ticket": 0, "words": "Bern"}]]
    on.gateway.upgrade()  # nothing of a call back holds an upgrade up


def test_a_callback_is_told_of_expiry(on: Subnet) -> None:
    on.gateway.set_pace(OWNER, soonest_ms=0, latest_ms=0, expiry_blocks=16)
    assert on.text(on.call("order", "anybody there?")) == "ticket 0"
    on.until_ordered(1)
    for _ in range(16):
        on.gateway.submit_sealed(USER, b"x")
        on.gateway.seal_block(OWNER)
    on.rounds(3)
    assert decode([HEARD], on.network.query(APP, "answers", NO_ARGUMENTS)) == [
        [{"ticket": 0, "words": "order.expired"}]
    ]


def test_nobody_but_the_gateway_tells_the_app() -> None:
    on = subnet(PUBLIC, {})
    forged = Record({"ticket": NAT64})
    call = on.network.submit(APP, "told", encode([forged], [{"ticket": 0}]), USER)
    on.rounds(2)
    with pytest.raises(Rejected):
        call.reply()
    assert decode([HEARD], on.network.query(APP, "answers", NO_ARGUMENTS)) == [[]]
