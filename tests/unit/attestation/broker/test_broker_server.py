"""key-release.md R1 to R5, R9, R24: a client written from the protocol's documents, over HTTPS; real evidence; and what
the edge refuses before anybody judges it.
"""

from __future__ import annotations

import base64
import copy
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from anchorhold.host.broker_relay import BrokerAddress, RelayRefused
from appliance.key_release import Carry, State
from attestation.broker import session
from attestation.broker.errors import Denied
from attestation.broker.rates import Rate
from attestation.broker.server import ServerLimits
from attestation.broker.session import Endorsements
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.kinds import TeeKind
from attestation.policy import document
from attestation.rcar.jwe import RecipientKey
from attestation.rcar.messages import REQUEST_BYTES_MAX, Attestation, AuthRequest, encode_error
from devnet.tee import SimulatedSnpTee
from measurements.reference import ReferenceValues
from tests.little_broker import MODEL_KEY, PLAIN, SECRETS, SERVICE_KEY, LittleBroker, MakeBroker, bent
from tests.little_tee import snp_tee
from tests.rcar_client import Client, snp_json
from tests.served_broker import served
from tests.unit.appliance.test_key_release import carried, releaser
from tests.unit.attestation import published

TEE = snp_tee()
GENEROUS = ServerLimits(each=Rate(10_000, 10_000), all_together=Rate(10_000, 10_000))


@pytest.fixture
def little(tmp_path: Path, make_broker: MakeBroker) -> LittleBroker:
    little = make_broker(tmp_path)
    platform = TEE.platform
    held = Endorsements({TableEntry.ASK: platform.ask.der, TableEntry.ARK: platform.ark.der}, (platform.crl,))
    little.broker._judging = replace(little.broker._judging, endorsements=held)
    return little


@pytest.fixture
def place(little: LittleBroker, tmp_path: Path) -> Iterator[tuple[int, str]]:
    with served(little.broker, tmp_path, GENEROUS) as where:
        yield where


def client(place: tuple[int, str], tee: SimulatedSnpTee = TEE, kind: str = "simulated-snp") -> Client:
    def quote(report_data: bytes) -> dict:
        return snp_json(tee.quote(report_data).report, {"VCEK": tee.platform.vcek.der})

    return Client("localhost", place[0], place[1], kind, quote)


def test_a_client_of_the_documents_alone(place: tuple[int, str], little: LittleBroker) -> None:
    guest = client(place)
    assert guest.call("GET", f"resource/{PLAIN}")[0] == 401
    assert guest.auth() == 200
    assert guest.call("GET", f"resource/{PLAIN}")[0] == 401
    status, token = guest.attest()
    assert status == 200
    assert token["token"].count(".") == 2
    assert guest.resource(PLAIN) == (200, SECRETS[PLAIN])
    assert guest.resource("default/resource/none")[0] == 404
    # R9: it bound no keyset, so what needs one stays where it is.
    for resource in (MODEL_KEY, SERVICE_KEY):
        status, body = guest.resource(resource)
        assert (status, json.loads(body)["type"].rpartition("/")[2]) == (403, "grant.keyset")
    little.audit()


def test_it_is_refused_as_the_protocol_says(place: tuple[int, str], little: LittleBroker) -> None:
    guest = client(place, bent(TEE, measurement=b"\x01" * 48))
    assert guest.auth() == 200
    status, error = guest.attest()
    assert (status, error["type"].rpartition("/")[2]) == (403, "snp.measurement")
    assert set(error) == {"type", "detail"}
    assert guest.attest()[0] == 401
    again = client(place)
    assert again.attest()[0] == 401  # no session at all


def test_nonce_replay_cookie_theft_and_concurrent_attests(place: tuple[int, str], little: LittleBroker) -> None:
    victim, thief = client(place), client(place)
    victim.auth()
    raw = victim.attestation()
    stolen = victim.cookies["kbs-session-id"].value
    assert victim.call("POST", "attest", raw)[0] == 200
    assert thief.auth() == 200
    assert thief.call("POST", "attest", raw)[0] == 403  # the nonce of another session
    thief.cookies["kbs-session-id"] = stolen
    assert thief.call("POST", "attest", raw)[0] == 401  # its session is used
    assert thief.call("GET", f"resource/{PLAIN}")[0] == 401  # and its old name worth nothing
    many = client(place)
    many.auth()
    raw = many.attestation()
    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(lambda _: many.call("POST", "attest", raw)[0], range(6)))
    assert statuses == [200, 401, 401, 401, 401, 401]
    little.audit()


def test_a_cell_over_the_relay(place: tuple[int, str], little: LittleBroker) -> None:
    cell = releaser(little)
    send = BrokerAddress(f"https://localhost:{place[0]}", place[1])
    assert carried(cell, send).state is State.HAS_KEY
    assert carried(releaser(little), BrokerAddress("https://localhost:1")).failure == "broker.unreachable"
    # A relay that does not know the broker's certificate does not speak to it; the cell may try again.
    assert carried(releaser(little), BrokerAddress(f"https://localhost:{place[0]}")).failure == "broker.unreachable"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "auth"),
        ("PUT", "attest"),
        ("POST", "resource/a/b/c"),
        ("DELETE", "resource/a/b/c"),
        ("GET", "resource/a/b"),
        ("GET", "resource/a/b/c/d"),
        ("GET", "resource/../../admin"),
        ("GET", ""),
        ("GET", "resource/a/b/..?x=/y"),
        ("POST", "attest?x"),
        ("POST", "../../admin/revoke"),
        ("GET", "resource/a/b/c\r\nx: y"),
        ("post", "auth"),
        ("POST", "auth "),
        ("GET", "resource//b/c"),
        ("GET", "resource/a/b/c\n"),
    ],
)
def test_a_relay_runs_no_other_errand(method: str, path: str) -> None:
    """R25: a cell is no way for its image's author to speak to whatever else the host can reach."""
    with socket.create_server(("localhost", 0)) as listening:
        listening.setblocking(False)
        send = BrokerAddress(f"https://localhost:{listening.getsockname()[1]}")
        with pytest.raises(RelayRefused) as caught:
            send(Carry(1, method, path, b""))
        assert caught.value.code == "relay.errand"
        with pytest.raises(BlockingIOError):
            listening.accept()  # nobody even knocked


def test_a_relay_carries_no_body_with_a_question_that_has_none() -> None:
    with pytest.raises(RelayRefused) as caught:
        BrokerAddress("https://localhost:1")(Carry(1, "GET", "resource/a/b/c", b"more"))
    assert caught.value.code == "relay.body"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "auth", None, 404),
        ("POST", "resource/a/b/c", b"", 404),
        ("PUT", "attest", b"", 404),
        ("POST", "auth", b"not json", 400),
        ("POST", "auth", b" " * 9000, 413),
        ("GET", "resource/../../x", None, 404),
        ("GET", "resource/a/b/c", None, 401),
        ("POST", "attest", b"", 401),
        ("GET", "nothing", None, 404),
    ],
)
def test_what_the_edge_refuses(place: tuple[int, str], method: str, path: str, body: bytes | None, status: int) -> None:
    assert client(place).call(method, path, body)[0] == status


def test_a_body_without_end_is_cut_off(place: tuple[int, str]) -> None:
    context = ssl.create_default_context(cafile=place[1])
    connection = http.client.HTTPSConnection("localhost", place[0], context=context, timeout=30)
    connection.putrequest("POST", "/kbs/v0/auth")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    with closing(connection):
        # Up to the first byte too many: what is sent behind that would meet a line already cut.
        for _ in range(REQUEST_BYTES_MAX // 0x400):
            connection.send(b"400\r\n" + b" " * 0x400 + b"\r\n")
        connection.send(b"1\r\n \r\n")
        assert connection.getresponse().status == 413


def test_who_asks_too_often_waits(little: LittleBroker, tmp_path: Path) -> None:
    with served(little.broker, tmp_path, ServerLimits(each=Rate(3, 0.0001))) as place:
        assert [client(place).auth() for _ in range(4)] == [200, 200, 200, 429]


def test_an_error_says_a_code_and_no_more() -> None:
    assert json.loads(encode_error("a.b", "refused"))["detail"] == "refused"


# -- real evidence


def strictly(little: LittleBroker, held: Endorsements, at: datetime) -> None:
    """From here on by the strict policy, for hardware alone, at this time."""
    little.now_ns = int(at.timestamp()) * 10**9
    little.broker._judging = replace(
        little.broker._judging,
        policy=document.builtin("strict"),
        endorsements=held,
        references=ReferenceValues.none(),
        simulated_root=None,
    )


def judged(
    little: LittleBroker, kind: TeeKind, evidence: dict, monkeypatch: pytest.MonkeyPatch, bound: bytes | None = None
) -> str:
    """The code of the session's denial; with `bound`, as if the report had answered this challenge."""
    reply = little.broker.auth(AuthRequest(kind).encode())
    key = RecipientKey.of(ec.generate_private_key(ec.SECP256R1()).public_key())
    raw = Attestation(json.loads(reply.body)["nonce"], key, key.jwk(), evidence, "").encode()
    with monkeypatch.context() as patched:
        if bound is not None:
            patched.setattr(session, "release_report_data", lambda *_: bound)
        with pytest.raises(Denied) as caught:
            little.broker.attest(reply.cookie, raw)
    assert little.last().details["code"] == caught.value.code
    return caught.value.code


def amd(product: str) -> Endorsements:
    held = {TableEntry.ASK: "ask", TableEntry.ARK: "ark"}
    folder = f"endorsements/amd/{product}"
    return Endorsements({entry: published.read(f"{folder}/{name}.der") for entry, name in held.items()})


@published.NEEDED
def test_the_sample_evidence_of_the_protocol(little: LittleBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Genuine, of another session; were it of this one, of a machine nobody named; and bent, not genuine."""
    strictly(little, amd("Genoa"), datetime(2026, 11, 20, tzinfo=UTC))
    evidence = json.loads(published.read("kbs/trustee_snp_evidence.json"))
    assert judged(little, TeeKind.SNP, evidence, monkeypatch) == "bundle.report-data"
    bound = bytes(evidence["attestation_report"]["report_data"])
    assert judged(little, TeeKind.SNP, evidence, monkeypatch, bound) == "snp.revocation"
    assert judged(little, TeeKind.SIMULATED_SNP, evidence, monkeypatch, bound) == "bundle.kind"
    for name, part in (("measurement", 0), ("report_data", 63), ("chip_id", 5)):
        bent_evidence = copy.deepcopy(evidence)
        bent_evidence["attestation_report"][name][part] ^= 1
        assert judged(little, TeeKind.SNP, bent_evidence, monkeypatch) == "snp.signature"
    little.audit()


@published.NEEDED
def test_real_reports_of_every_product(little: LittleBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for entry in published.of_kind("snp-report"):
        if entry["vek_kind"] != "VCEK":
            continue
        strictly(little, amd(entry["product"]), datetime(2026, 11, 20, tzinfo=UTC))
        report = published.read(entry["file"])
        evidence = snp_json(report, {"VCEK": published.read(entry["vek"])}, turin=entry["product"] == "Turin")
        assert judged(little, TeeKind.SNP, evidence, monkeypatch) == "bundle.report-data", entry["file"]
        seen.add(judged(little, TeeKind.SNP, evidence, monkeypatch, report[0x50:0x90]))
        evidence["attestation_report"]["measurement"][7] ^= 4
        assert judged(little, TeeKind.SNP, evidence, monkeypatch) == "snp.signature", entry["file"]
    assert seen == {"snp.product", "snp.revocation"}  # Milan as such; the others for want of a list
    little.audit()


@published.NEEDED
def test_real_quotes(little: LittleBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = []
    for entry in published.of_kind("tdx-quote"):
        for verdict in entry["expect"]["dcap_qvl_0_7_0"][:1]:
            held = Endorsements(collateral=published.collateral(verdict["collateral"]))
            strictly(little, held, published.moment(verdict["at"]))
            raw = published.read(entry["file"])
            evidence = {"cc_eventlog": None, "quote": base64.b64encode(raw).decode()}
            code = judged(little, TeeKind.TDX, evidence, monkeypatch)
            assert code == ("bundle.report-data" if "CertNotValidYet" not in str(verdict["detail"]) else code)
            codes.append(code)
    assert codes.count("bundle.report-data") >= 10
    little.audit()
