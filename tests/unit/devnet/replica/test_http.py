"""The HTTP interface, spoken by hand: what a right request gets, and that nothing wrong gets more than a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha224
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from attestation.consensus import hashtree
from attestation.consensus.certificate import parse_certificate
from attestation.consensus.request_id import representation_independent_hash
from devnet.replica import MANAGEMENT_CANISTER, RejectCode, numbered
from foundation import cbor
from foundation.candid import BLOB, NAT, NULL, PRINCIPAL, Opt, Record, Variant, decode, encode
from foundation.digests import domain
from tests.canisters import CALLEE, CALLER, OWNER, callee_wasm, caller_wasm, request
from tests.local_ic import MINUTE_NS, Ask, Identity, LocalIc, ask, certified, local_ic, read

OTHER = numbered(0x77)


@pytest.fixture(scope="module")
def ic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIc]:
    with local_ic(tmp_path_factory.mktemp("ic") / "state") as made:

        def install() -> None:
            network = made.running.network
            for canister_id, wasm in ((CALLER, caller_wasm()), (CALLEE, callee_wasm())):
                network.install(network.create(canister_id, controllers={OWNER}), wasm, b"", OWNER)

        made.do(install)
        yield made


@pytest.fixture
def alice() -> Identity:
    return Identity()


# ---- what is right


def test_the_status_names_the_root_key(ic: LocalIc) -> None:
    response = ic.get("/api/v2/status")
    value = cbor.decode_foreign(response.body)  # type: ignore[attr-defined]
    assert isinstance(value, cbor.Tag)
    assert value.value == {
        "root_key": ic.running.certifier.root_key,
        "replica_health_status": "healthy",
        "impl_version": "anchorhold-devnet",
    }


def test_any_web_page_may_ask(ic: LocalIc) -> None:
    wanted = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    response = ic.get("/api/v2/canister/aaaaa-aa/call", "OPTIONS", wanted)
    assert response.status == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert ic.get("/api/v2/status", headers={"Origin": "https://x"}).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("curve", [None, ec.SECP256R1(), ec.SECP256K1()], ids=["ed25519", "p-256", "secp256k1"])
def test_a_signed_call_gets_its_certified_reply(ic: LocalIc, version: int, curve: ec.EllipticCurve | None) -> None:
    who = Identity(curve)
    asked = ask(ic, "call", CALLEE, "who", identity=who)
    status, response = asked.send("call", version)
    assert (status, response["status"]) == (200, "replied")
    path = (b"request_status", asked.request_id, b"reply")
    assert certified(ic, response["certificate"], CALLEE, path) == who.principal


def test_an_anonymous_call_needs_no_signature(ic: LocalIc) -> None:
    asked = ask(ic, "call", CALLEE, "who")
    _, response = asked.send("call", 4)
    assert certified(ic, response["certificate"], CALLEE, (b"request_status", asked.request_id, b"reply")) == b"\4"


def test_a_call_that_is_rejected_is_certified_too(ic: LocalIc) -> None:
    asked = ask(ic, "call", CALLEE, "refuse")
    _, response = asked.send("call", 4)
    below = (b"request_status", asked.request_id)
    assert certified(ic, response["certificate"], CALLEE, (*below, b"status")) == b"rejected"
    assert certified(ic, response["certificate"], CALLEE, (*below, b"reject_code")) == bytes([4])
    assert certified(ic, response["certificate"], CALLEE, (*below, b"reject_message")) == b"no"


def test_version_2_accepts_and_the_status_is_read(ic: LocalIc, alice: Identity) -> None:
    asked = ask(ic, "call", CALLER, "ask", request("echo", b"hello"), alice)
    assert asked.send("call", 2)[0] == 202
    path = [b"request_status", asked.request_id]
    status = b""
    while status not in (b"replied", b"rejected"):
        _, response = read(ic, [path], alice).send("read_state", 2, CALLER)
        status = certified(ic, response["certificate"], CALLER, (*path, b"status"))
    assert certified(ic, response["certificate"], CALLER, (*path, b"reply"))[32:] == b"hello"


def test_a_call_that_is_not_answered_soon_is_accepted_and_read_later(
    ic: LocalIc, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.replica.http.ANSWER_S_MAX", 0)
    asked = ask(ic, "call", CALLEE, "who", identity=alice)
    assert asked.send("call", 4) == (202, "")
    path = [b"request_status", asked.request_id]
    status = b""
    while status != b"replied":
        _, response = read(ic, [path], alice).send("read_state", 3, CALLEE)
        status = certified(ic, response["certificate"], CALLEE, (*path, b"status"))
        assert status in (b"received", b"processing", b"replied")
    assert certified(ic, response["certificate"], CALLEE, (*path, b"reply")) == alice.principal


def test_a_request_nobody_sent_is_proven_absent(ic: LocalIc, alice: Identity) -> None:
    path = [b"request_status", bytes(32), b"status"]
    _, response = read(ic, [path], alice).send("read_state", 3, CALLEE)
    certificate = parse_certificate(response["certificate"])
    assert isinstance(hashtree.lookup(certificate.tree, tuple(path)), hashtree.Absent)


def test_one_request_sent_twice_runs_once(ic: LocalIc, alice: Identity) -> None:
    asked = ask(ic, "call", CALLEE, "spent", b"", alice)
    before = ic.do(lambda: ic.running.network.numbers)
    replies = [asked.send("call", 4)[1]["certificate"] for _ in range(2)]
    path = (b"request_status", asked.request_id, b"reply")
    assert len({certified(ic, each, CALLEE, path) for each in replies}) == 1
    assert ic.do(lambda: ic.running.network.numbers) == before + 1


@pytest.mark.parametrize("version", [2, 3])
def test_the_answer_to_a_query_is_signed_by_the_node(ic: LocalIc, version: int) -> None:
    asked = ask(ic, "query", CALLEE, "fired")
    status, response = asked.send("query", version)
    assert (status, response["status"], response["reply"]["arg"]) == (200, "replied", bytes(4))
    [signed] = response["signatures"]
    subnet = ic.running.certifier.subnet_id
    path = [b"subnet", subnet, b"node", signed["identity"], b"public_key"]
    _, state = read(ic, [path]).send("read_state", version, subnet, "subnet")
    key = _subnet_value(state["certificate"], path)
    message = domain("ic-response") + representation_independent_hash(
        {
            "status": "replied",
            "reply": response["reply"],
            "request_id": asked.request_id,
            "timestamp": signed["timestamp"],
        }
    )
    ed25519.Ed25519PublicKey.from_public_bytes(key[-32:]).verify(signed["signature"], message)


def _subnet_value(certificate: bytes, path: list[bytes]) -> bytes:
    """A value of a certificate whose signatures other tests check: found in its tree."""
    found = hashtree.lookup(parse_certificate(certificate).tree, tuple(path))
    assert isinstance(found, hashtree.Found)
    return found.value


def test_a_query_that_is_rejected_says_how(ic: LocalIc) -> None:
    _, response = ask(ic, "query", CALLEE, "nothing_here").send("query", 3)
    assert (response["status"], response["reject_code"]) == ("rejected", RejectCode.CANISTER_ERROR)
    assert "nothing_here" in response["reject_message"]
    _, response = ask(ic, "query", OTHER, "x").send("query", 3)
    assert response["reject_code"] == RejectCode.DESTINATION_INVALID


def test_a_chain_of_delegations_speaks_for_its_first_key(ic: LocalIc, alice: Identity) -> None:
    session, device = Identity(ec.SECP256R1()), Identity()
    until = ic.now_ns() + MINUTE_NS
    asked = ask(ic, "call", CALLEE, "who", identity=alice)
    asked.delegations = [alice.delegate(session, until, [CALLEE, OTHER]), session.delegate(device, until)]
    asked.signer = device
    _, response = asked.send("call", 4)
    path = (b"request_status", asked.request_id, b"reply")
    assert certified(ic, response["certificate"], CALLEE, path) == alice.principal


def test_modules_and_controllers_are_read_and_private_metadata_is_for_controllers(ic: LocalIc, alice: Identity) -> None:
    def install() -> tuple[bytes, bytes]:
        wasm = callee_wasm()
        for name, content in ((b"icp:public candid:service", b"service : {}"), (b"icp:private key", b"hidden")):
            wasm += bytes([0, 1 + len(name) + len(content), len(name)]) + name + content
        network = ic.running.network
        made = network.create(controllers={alice.principal})
        network.install(made, wasm, b"", alice.principal)
        return made.canister_id, made.code.digest if made.code else b""

    canister, digest = ic.do(install)
    below = [b"canister", canister]
    paths = [[*below, b"module_hash"], [*below, b"controllers"], [*below, b"metadata", b"candid:service"]]
    _, response = read(ic, paths).send("read_state", 3, canister)
    certificate = response["certificate"]
    assert certified(ic, certificate, canister, tuple(paths[0])) == digest
    assert cbor.decode_foreign(certified(ic, certificate, canister, tuple(paths[1]))) == cbor.Tag(
        55799, [alice.principal]
    )
    assert certified(ic, certificate, canister, tuple(paths[2])) == b"service : {}"
    private = [[*below, b"metadata", b"key"]]
    assert read(ic, private).send("read_state", 3, canister)[0] == 400
    _, response = read(ic, private, alice).send("read_state", 3, canister)
    assert certified(ic, response["certificate"], canister, tuple(private[0])) == b"hidden"


# ---- the management canister from outside

_CREATE = Record({"amount": Opt(NAT), "settings": Opt(NULL), "specified_id": Opt(PRINCIPAL)})
_INSTALL = Record(
    {"mode": Variant({"install": NULL, "reinstall": NULL}), "canister_id": PRINCIPAL, "wasm_module": BLOB, "arg": BLOB}
)
_ABOUT = Record({"canister_id": PRINCIPAL})


def managed(ic: LocalIc, who: Identity, about: bytes, method: str, of: Record, value: dict[str, Any]) -> Any:
    """(status, reply or rejection) of an update call to the management canister."""
    asked = ask(ic, "call", MANAGEMENT_CANISTER, method, encode([of], [value]), who)
    status, response = asked.send("call", 4, about)
    if status != 200 or response["status"] != "replied":
        return status, response
    below = (b"request_status", asked.request_id)
    kind = certified(ic, response["certificate"], about or CALLEE, (*below, b"status"))
    what = b"reply" if kind == b"replied" else b"reject_message"
    return kind.decode(), certified(ic, response["certificate"], about or CALLEE, (*below, what))


def test_a_canister_is_created_installed_and_described(ic: LocalIc, alice: Identity) -> None:
    nothing = {"amount": 10**12, "settings": None, "specified_id": None}
    kind, reply = managed(ic, alice, OTHER, "provisional_create_canister_with_cycles", _CREATE, nothing)
    made = decode([_ABOUT], reply)[0]["canister_id"]
    module = {"mode": ("install", None), "canister_id": made, "wasm_module": callee_wasm(), "arg": b""}
    assert managed(ic, alice, made, "install_code", _INSTALL, module) == ("replied", encode([], []))
    assert managed(ic, alice, made, "install_code", _INSTALL, module)[0] == "rejected"  # it has code now
    kind, reply = managed(ic, alice, made, "canister_status", _ABOUT, {"canister_id": made})
    assert kind == "replied"
    told = decode(
        [
            Record(
                {
                    "cycles": NAT,
                    "module_hash": Opt(BLOB),
                    "status": Variant({"running": NULL, "stopping": NULL, "stopped": NULL}),
                }
            )
        ],
        reply,
    )[0]
    assert told["cycles"] == 10**12
    assert told["status"] == ("running", None)


def test_only_controllers_manage(ic: LocalIc, alice: Identity) -> None:
    module = {"mode": ("reinstall", None), "canister_id": CALLEE, "wasm_module": callee_wasm(), "arg": b""}
    status, response = managed(ic, alice, CALLEE, "install_code", _INSTALL, module)
    assert (status, response["status"]) == (200, "non_replicated_rejection")
    assert "only controllers" in response["reject_message"]


def test_a_management_method_that_is_not_here_is_named(ic: LocalIc, alice: Identity) -> None:
    asked = ask(ic, "call", MANAGEMENT_CANISTER, "sign_with_ecdsa", encode([], []), alice)
    status, said = asked.send("call", 4, CALLEE)
    assert status == 400
    assert "has no method 'sign_with_ecdsa'" in said


# ---- what is wrong


def _other_arg(asked: Ask) -> None:
    asked.changed_later["arg"] = b"other"


def _other_sender(asked: Ask) -> None:
    asked.content["sender"] = Identity().principal


def _expired(asked: Ask) -> None:
    asked.content["ingress_expiry"] -= 5 * MINUTE_NS


def _far_away(asked: Ask) -> None:
    asked.content["ingress_expiry"] += 10 * MINUTE_NS


def _unsigned(asked: Ask) -> None:
    asked.identity = None


def _other_key_signs(asked: Ask) -> None:
    asked.signer = Identity()


def _anonymous_with_a_signature(asked: Ask) -> None:
    asked.content["sender"] = b"\4"


def _long_nonce(asked: Ask) -> None:
    asked.content["nonce"] = bytes(33)


def _another_kind(asked: Ask) -> None:
    asked.content["request_type"] = "query"


def _unknown_kind(asked: Ask) -> None:
    asked.content["request_type"] = "Call"


def _unknown_field(asked: Ask) -> None:
    asked.content["priority"] = 1


def _a_field_of_another_type(asked: Ask) -> None:
    asked.content["method_name"] = b"who"


def _a_field_left_out(asked: Ask) -> None:
    del asked.content["arg"]


def _delegated(**wrong: Any) -> Callable[[Ask], None]:
    def tamper(asked: Ask) -> None:
        assert asked.identity is not None
        session = Identity()
        until = asked.content["ingress_expiry"] + wrong.get("later", 0)
        signed = asked.identity.delegate(session, until, wrong.get("targets"))
        if "changed" in wrong:
            signed["delegation"] = {**signed["delegation"], **wrong["changed"]}
        asked.delegations, asked.signer = [signed], wrong.get("signer", session)

    return tamper


def _a_circle(asked: Ask) -> None:
    assert asked.identity is not None
    session, until = Identity(), asked.content["ingress_expiry"]
    asked.delegations = [asked.identity.delegate(session, until), session.delegate(asked.identity, until)]


def _too_many_delegations(asked: Ask) -> None:
    assert asked.identity is not None
    chain = [asked.identity, *(Identity() for _ in range(21))]
    until = asked.content["ingress_expiry"]
    asked.delegations = [one.delegate(other, until) for one, other in pairwise(chain)]
    asked.signer = chain[-1]


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (_other_arg, "signature"),
        (_other_sender, "sender"),
        (_expired, "ingress_expiry"),
        (_far_away, "ingress_expiry"),
        (_unsigned, "signature"),
        (_other_key_signs, "signature"),
        (_anonymous_with_a_signature, "signature"),
        (_long_nonce, "nonce"),
        (_another_kind, "request_type"),
        (_unknown_kind, "request_type"),
        (_unknown_field, "content.field"),
        (_a_field_of_another_type, "content.method_name"),
        (_a_field_left_out, "content.arg"),
        (_delegated(targets=[OTHER]), "delegation.targets"),
        (_delegated(targets=[]), "delegation.targets"),
        (_delegated(later=-10 * MINUTE_NS), "delegation.expiration"),
        (_delegated(changed={"expiration": 2**63}), "delegation.signature"),
        (_delegated(changed={"targets": [CALLEE]}), "delegation.signature"),
        (_delegated(signer=Identity()), "signature"),
        (_a_circle, "delegation.pubkey"),
        (_too_many_delegations, "delegations"),
    ],
)
@pytest.mark.parametrize("curve", [None, ec.SECP256K1()], ids=["ed25519", "secp256k1"])
def test_a_tampered_call_gets_400_and_runs_nothing(
    ic: LocalIc, tamper: Callable[[Ask], None], code: str, curve: ec.EllipticCurve | None
) -> None:
    asked = ask(ic, "call", CALLEE, "who", identity=Identity(curve))
    tamper(asked)
    before = ic.do(lambda: ic.running.network.numbers)
    status, said = asked.send("call", 4)
    assert status == 400
    assert said.startswith(f"devnet.request: {code}: expected ")
    assert ic.do(lambda: ic.running.network.numbers) == before


@pytest.mark.parametrize("tamper", [_other_arg, _other_sender, _expired, _unsigned, _other_key_signs])
def test_a_tampered_query_gets_400(ic: LocalIc, tamper: Callable[[Ask], None]) -> None:
    asked = ask(ic, "query", CALLEE, "fired", identity=Identity())
    tamper(asked)
    assert asked.send("query", 3)[0] == 400


def test_another_canister_in_the_address_is_refused(ic: LocalIc, alice: Identity) -> None:
    status, said = ask(ic, "call", CALLEE, "who", identity=alice).send("call", 4, OTHER)
    assert (status, "effective_canister_id" in said) == (400, True)
    about = encode([_ABOUT], [{"canister_id": CALLEE}])
    status, said = ask(ic, "call", MANAGEMENT_CANISTER, "canister_status", about, alice).send("call", 4, OTHER)
    assert (status, "effective_canister_id" in said) == (400, True)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (bytes.fromhex("300c060a2b0601040183b8430101") + bytes(40), "a WebAuthn key"),
        (bytes.fromhex("303c300c060a2b0601040183b8430102032c00") + bytes(43), "a canister signature"),
        (b"no key", "a public key in DER"),
    ],
    ids=["webauthn", "canister", "none"],
)
def test_a_key_of_another_kind_is_refused_by_name(ic: LocalIc, alice: Identity, key: bytes, said: str) -> None:
    alice.der = key
    alice.principal = sha224(key).digest() + b"\2"
    status, text = ask(ic, "call", CALLEE, "who", identity=alice).send("call", 4)
    assert (status, said in text) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"not cbor",
        cbor.encode({}),
        cbor.encode([1, 2]),
        cbor.encode({"content": {"request_type": 1}}),
        b"\xbf\xff",
        b"\xa1\x67content\xa0\x00",
        b"\x9b" + b"\xff" * 8,
        b"\xd9\xd9\xf7" * 40,
    ],
    ids=lambda body: body[:8].hex() or "empty",
)
def test_bytes_that_are_no_request_get_400(ic: LocalIc, body: bytes) -> None:
    for path in ("canister/aaaaa-aa/call", "canister/aaaaa-aa/query", "canister/aaaaa-aa/read_state"):
        assert ic.post(f"/api/v2/{path}", body)[0] == 400


def test_a_body_without_end_gets_400(ic: LocalIc) -> None:
    assert ic.post("/api/v2/canister/aaaaa-aa/call", bytes(6 << 20))[0] == 400


@pytest.mark.parametrize("about", ["aaaaa", "not-an-id", "AAAAA-AA", "w36hm-eqaaa-aaaal-qr76a-caj"])
def test_an_id_that_is_none_gets_400(ic: LocalIc, about: str) -> None:
    assert ic.post(f"/api/v4/canister/{about}/call", b"")[0] == 400


def test_the_status_of_a_request_is_its_senders(ic: LocalIc, alice: Identity) -> None:
    asked = ask(ic, "call", CALLEE, "who", identity=alice)
    asked.send("call", 4)
    path = [b"request_status", asked.request_id]
    assert read(ic, [path], alice).send("read_state", 3, CALLEE)[0] == 200
    assert read(ic, [path], Identity()).send("read_state", 3, CALLEE)[0] == 400
    assert read(ic, [path]).send("read_state", 3, CALLEE)[0] == 400
    assert read(ic, [path], alice).send("read_state", 3, CALLER)[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        [b"canister", CALLEE, b"certified_data"],
        [b"canister", CALLER, b"module_hash"],
        [b"canister", CALLEE],
        [b"request_status"],
        [b"canister"],
        [],
        [b"streams"],
        [b"time", b"x"],
    ],
)
def test_other_paths_of_the_state_cannot_be_read(ic: LocalIc, path: list[bytes]) -> None:
    assert read(ic, [path]).send("read_state", 3, CALLEE)[0] == 400


def test_a_subnets_state_is_read_at_its_own_address(ic: LocalIc) -> None:
    subnet = ic.running.certifier.subnet_id
    path = [b"subnet", subnet, b"public_key"]
    assert read(ic, [path]).send("read_state", 3, subnet, "subnet")[0] == 200
    assert read(ic, [path]).send("read_state", 3, bytes(29), "subnet")[0] == 400
    assert read(ic, [[b"canister", CALLEE, b"module_hash"]]).send("read_state", 3, subnet, "subnet")[0] == 400
