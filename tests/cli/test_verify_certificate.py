"""`anchorhold verify certificate`: command, exit status, what is printed where."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anchorhold.command import main
from attestation.consensus import principal
from attestation.consensus.certified_time import SKEW_NS_MAX
from attestation.consensus.hashtree import Fork, Labeled, Leaf, Pruned, serialise, to_cbor
from foundation.cbor import encode
from tests.little_subnet import (
    CANISTER,
    NOW_NS,
    RANGE,
    ROOT,
    SUBNET,
    SUBNET_SIGNER,
    LittleState,
    certificate_bytes,
    flat_delegation,
    grow,
    little_certificate,
    ranges,
)

ROOM = Path(__file__).resolve().parents[2]
VECTORS = ROOM.parent / "shared" / "vectors" / "icp"
OURS = ["--root-key", ROOT.public_key.hex()]
CANISTER_TEXT = principal.to_text(CANISTER)
REQUEST = bytes(range(32))


class Ran:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    def run(data: bytes, *options: str, canister: str | None = CANISTER_TEXT) -> Ran:
        file = tmp_path / "certificate.cbor"
        file.write_bytes(data)
        named = [] if canister is None else ["--canister", canister]
        try:
            status = main(["verify", "certificate", str(file), *named, *options])
        except SystemExit as usage:
            status = int(str(usage.code))
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


def test_a_good_certificate_prints_what_it_shows(verify: Any) -> None:
    ran = verify(little_certificate(), *OURS)
    assert (ran.status, ran.err) == (0, "")
    assert f"canister: {CANISTER_TEXT}" in ran.out
    assert f"subnet: {principal.to_text(SUBNET)}" in ran.out
    assert "(2023-11-14T22:13:20.000000000Z)" in ran.out
    assert f"/canister/0x{CANISTER.hex()}/certified_data: {bytes(range(32)).hex()}" in ran.out
    assert b"another's".hex() not in ran.out


def test_json_has_the_same_facts_under_fixed_names(verify: Any) -> None:
    ran = verify(little_certificate(), *OURS, "--path", "certified_data", "--json")
    assert ran.status == 0
    assert list(ran.json) == [
        "verdict",
        "canister",
        "subnet",
        "root_key",
        "mainnet",
        "root_hash",
        "time_ns",
        "time",
        "delegation",
        "shown",
        "data_tree",
    ]
    assert ran.json["verdict"] == "verified"
    assert ran.json["mainnet"] is False
    assert ran.json["time_ns"] == NOW_NS
    assert ran.json["shown"] == {f"/canister/0x{CANISTER.hex()}/certified_data": bytes(range(32)).hex()}


def test_the_root_key_is_mainnet_s_unless_another_is_given(verify: Any) -> None:
    ran = verify(little_certificate())
    assert ran.status == 2
    assert re.fullmatch(
        r"anchorhold: delegation: delegation\.signature\.invalid: "
        r"expected a delegation signed by the root key, got [0-9a-f]{96} over \d+ bytes\n",
        ran.err,
    )
    assert verify(little_certificate(), "--root-key", ROOT.der.hex()).status == 0


@pytest.mark.parametrize("key", ["", "zz", "00" * 96, "00" * 133, ROOT.public_key.hex()[:-2]])
def test_a_root_key_that_is_none_is_wrong_usage(verify: Any, key: str) -> None:
    assert verify(little_certificate(), "--root-key", key).status == 1


def test_refusals_are_one_line_and_json_if_asked(verify: Any) -> None:
    outside = principal.to_text(b"\x00" * 9 + b"\x01")
    ran = verify(little_certificate(), *OURS, "--json", canister=outside)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert list(ran.json) == ["verdict", "stage", "code", "expected", "got"]
    assert list(ran.json.values())[:3] == ["refused", "ranges", "ranges.outside"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("certified_data", 0),
        ("/certified_data", 0),
        ("module_hash", 0),
        ("controllers", 0),
        ("time", 0),
        (f"canister/{CANISTER_TEXT}/certified_data", 0),
        (f"canister/0x{CANISTER.hex()}/0x{b'certified_data'.hex()}", 0),
        (f"request_status/{REQUEST.hex()}/reply", 0),
        (f"request_status/0x{REQUEST.hex()}/status", 0),
        (f"request_status/{bytes(32).hex()}/reply", 4),
        (f"request_status/{REQUEST.hex()}", 4),
        ("metadata/candid:service", 4),
        ("nothing", 4),
        ("certified_data/deeper", 4),
        ("", 4),
        ("canister/rwlgt-iiaaa-aaaaa-aaaaa-cai/certified_data", 2),
        ("canister/not-a-principal", 1),
        ("request_status/xyz/reply", 1),
        ("0xabc", 1),
    ],
)
def test_a_path_is_found_or_refused(verify: Any, path: str, status: int) -> None:
    state = LittleState(request_status={REQUEST: {b"status": b"replied", b"reply": b"DIDL\x00\x00"}})
    assert verify(little_certificate(state), *OURS, "--path", path).status == status


def test_a_certificate_that_hides_all_of_its_canister_is_refused_with_or_without_a_path(verify: Any) -> None:
    hidden = Fork(
        Labeled(b"canister", Labeled(CANISTER, Fork(Pruned(bytes(32)), Pruned(bytes(32))))),
        Labeled(b"time", Leaf(LittleState().time)),
    )
    data = certificate_bytes(hidden, SUBNET_SIGNER, flat_delegation())
    for options in ([], ["--path", "certified_data"]):
        ran = verify(data, *OURS, *options)
        assert ran.status == 4
        assert "lookup.unknown" in ran.err
    assert verify(data, *OURS, "--path", "time").status == 0


def test_time_is_held_against_at(verify: Any) -> None:
    for direction in (1, -1):
        for shift, status in ((0, 0), (SKEW_NS_MAX, 0), (SKEW_NS_MAX + 1, 2)):
            at = str(NOW_NS + direction * shift)
            assert verify(little_certificate(), *OURS, "--at", at).status == status
    assert verify(little_certificate(), *OURS, "--at", "noon").status == 1


@pytest.mark.parametrize(
    ("data", "stage"),
    [(b"", "file"), (little_certificate() + b"\x00", "format"), (b"\xa0", "format"), (b"text", "format")],
)
def test_malformed_input_is_status_1_and_names_its_stage(verify: Any, data: bytes, stage: str) -> None:
    ran = verify(data, *OURS)
    assert ran.status == 1
    assert ran.err.startswith(f"anchorhold: {stage}: ")
    assert ran.out == ""


def test_wrong_usage_is_status_1(verify: Any) -> None:
    assert verify(little_certificate(), *OURS, canister="not a principal").status == 1
    assert verify(little_certificate(), *OURS, "--subnet", principal.to_text(SUBNET)).status == 1
    assert verify(little_certificate(), *OURS, "--data-path", "a").status == 1
    assert verify(little_certificate(), *OURS, "--data-tree", "/nowhere/at/all").status == 1
    assert main(["verify", "certificate", "/nowhere/at/all", "--canister", CANISTER_TEXT]) == 1


def test_a_subnet_s_own_certificate(verify: Any) -> None:
    subnet = principal.to_text(SUBNET)
    empty = little_certificate(delegation=flat_delegation(ranges()))
    ran = verify(empty, *OURS, "--subnet", subnet, canister=None)
    assert ran.status == 0
    assert "canister: not read" in ran.out
    assert verify(empty, *OURS).status == 2
    assert verify(empty, *OURS, "--subnet", principal.to_text(bytes(29)), canister=None).status == 2
    path = f"canister/{CANISTER_TEXT}/certified_data"
    assert verify(empty, *OURS, "--subnet", subnet, "--path", path, canister=None).status == 2


def test_without_a_canister_none_is_read(verify: Any) -> None:
    ran = verify(little_certificate(), *OURS, canister=None)
    assert ran.status == 0
    assert "canister: not read" in ran.out
    assert bytes(range(32)).hex() not in ran.out
    assert verify(little_certificate(), *OURS, "--path", "time", canister=None).status == 0
    path = f"canister/{CANISTER_TEXT}/certified_data"
    assert verify(little_certificate(), *OURS, "--path", path, canister=None).status == 2


def test_replies_and_canister_signatures_are_unwrapped(verify: Any) -> None:
    own = grow({b"sig": {b"seed": {b"message": b""}}})
    data = little_certificate(LittleState(certified_data=own.digest))
    assert verify(encode({"certificate": data}), *OURS, "--path", "certified_data").status == 0
    assert verify(encode({"certificate": data, "status": "replied"}), *OURS).status == 0
    ran = verify(encode({"certificate": data, "tree": to_cbor(own)}), *OURS, "--json")
    assert ran.status == 0
    assert ran.json["data_tree"] == {"digest": own.digest.hex(), "shown": {"/sig/seed/message": ""}}
    other = grow({b"sig": b""})
    assert verify(encode({"certificate": data, "tree": to_cbor(other)}), *OURS).status == 2
    assert verify(encode({"certificate": data, "other": 1}), *OURS).status == 1


def test_a_data_tree_is_checked_and_looked_into(verify: Any, tmp_path: Path) -> None:
    own = grow({b"blocks": {b"\x00": b"zero", b"previous": bytes(32)}})
    data = little_certificate(LittleState(certified_data=own.digest))
    file = tmp_path / "tree.cbor"
    file.write_bytes(serialise(own))
    tree = ["--data-tree", str(file)]
    assert f"/blocks/0x00: {b'zero'.hex()}" in verify(data, *OURS, *tree).out
    one = verify(data, *OURS, *tree, "--data-path", "blocks/previous")
    assert f"/blocks/previous: {bytes(32).hex()}" in one.out
    assert verify(data, *OURS, *tree, "--data-path", "blocks/0x01").status == 4
    ran = verify(little_certificate(), *OURS, *tree)
    assert ran.status == 2
    assert "data tree: data-tree.digest" in ran.err
    file.write_bytes(b"\x81\x09")
    assert verify(data, *OURS, *tree).status == 1


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(little_certificate())))
    assert main(["verify", "certificate", "-", "--canister", CANISTER_TEXT, *OURS]) == 0


def test_the_command_itself_in_a_process_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "certificate.cbor"
    file.write_bytes(little_certificate())
    command = [sys.executable, "-m", "anchorhold.command", "verify", "certificate", str(file)]
    good = subprocess.run(
        [*command, "--canister", CANISTER_TEXT, *OURS], cwd=ROOM, capture_output=True, text=True, check=False
    )
    assert (good.returncode, good.stderr) == (0, "")
    outside = principal.to_text(RANGE[1] + b"\x00")
    bad = subprocess.run(
        [*command, "--canister", outside, *OURS], cwd=ROOM, capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("anchorhold: ranges: ranges.outside: expected")


# --- real certificates --------------------------------------------------------------------------------------

STATUS = {
    "03_ivg37_sharded_pruned": 2,
    "15_local_dfx_not_mainnet": 2,
    "n15_trailing_bytes": 1,
    "n18_certified_data_pruned": 4,
    "n19_duplicate_map_key": 1,
}


def _entries() -> list[dict[str, Any]]:
    if not VECTORS.is_dir():
        return []
    listed: list[dict[str, Any]] = json.loads((VECTORS / "index.json").read_text())["vectors"]
    return listed + json.loads((VECTORS / "neg" / "index.json").read_text())


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no certificate vectors at {VECTORS}")
@pytest.mark.parametrize("entry", _entries(), ids=[entry["name"] for entry in _entries()])
def test_every_vector_is_judged_as_its_index_says(entry: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    file = str(VECTORS / entry["file"])
    status = main(["verify", "certificate", file, "--canister", entry["effective_canister"], "--json"])
    shown = capsys.readouterr().out
    if entry.get("expect") == "valid":
        assert status == 0
        assert json.loads(shown)["time_ns"] == entry["time_ns"]
        assert json.loads(shown)["root_hash"] == entry["root_hash"]
    else:
        assert status == STATUS.get(entry["name"], 2)
        assert json.loads(shown)["verdict"] == "refused"


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no certificate vectors at {VECTORS}")
def test_a_real_hash_chain_is_followed_to_its_certified_data(capsys: pytest.CaptureFixture[str]) -> None:
    name = "10_factland_certified_blockchain"
    arguments = [
        "verify",
        "certificate",
        str(VECTORS / f"{name}.cert.cbor"),
        "--canister",
        "3nump-2aaaa-aaaae-qaesa-cai",
        "--path",
        "certified_data",
        "--data-tree",
        str(VECTORS / f"{name}.tree.cbor"),
        "--data-path",
        "certified_blocks/previous_hash",
        "--json",
    ]
    assert main(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [facts["data_tree"]["digest"]] == list(facts["shown"].values())
    assert facts["data_tree"]["shown"] == {"/certified_blocks/previous_hash": bytes(32).hex()}
    wrong = [*arguments]
    wrong[wrong.index("--data-tree") + 1] = str(VECTORS / "12_canister_sig_alias_jws.tree.cbor")
    assert main(wrong) == 2
