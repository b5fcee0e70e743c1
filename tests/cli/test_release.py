"""`anchorhold release` and the broker's governance verbs: a charter's decision from manifest to broker, as transcripts.

governance.md V2, V13, V15 to V17.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from anchorhold.command import main
from attestation.consensus.principal import to_text
from devnet.governance import FUNCTION, Governance
from devnet.subnet import Subnet
from foundation.private_files import write_new
from measurements.governance.actions import Adopt
from measurements.governance.authority import Chain, encode_authority
from measurements.governance.decision import CertifiedReply
from measurements.governance.history import Ledger
from measurements.governance.proposal import Proposal
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest, Serves
from tests.charters import AUTHORITY, charter
from tests.releases import made_manifest

FIRST = made_manifest()
SECOND = made_manifest("0.2.0", FIRST)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for manifest in (FIRST, SECOND):
        Path(f"{manifest.version}.json").write_bytes(manifest.encode())
    Path("authority.json").write_bytes(encode_authority(AUTHORITY))
    for name in ("ada", "ben", "cyd"):
        write_new(Path(f"{name}.key"), sha256(name.encode()).hexdigest().encode())
    return tmp_path


def release(*arguments: str) -> int:
    return main(["release", *arguments])


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def decided(capsys: pytest.CaptureFixture[str], name: str, *what: str, by: tuple[str, ...] = ("ada", "ben")) -> Path:
    """Propose, sign, put together: the decision's file."""
    assert release("propose", *what, "--authority", "authority.json", "--out", name) == 0
    payload, signatures = f"{name}/payload.bin", []
    for member in by:
        capsys.readouterr()
        assert release("sign", payload, "--authority", "authority.json", "--key", f"{member}.key") == 0
        signatures += ["--signature", said(capsys)[0]]
    out = f"{name}.decision"
    assert release("decide", payload, *signatures, "--out", out) == 0
    return Path(out)


def test_a_release_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release("show", "0.2.0.json") == 0
    shown = "\n".join(said(capsys))
    assert SECOND.digest.hex() in shown
    assert release("show", "0.2.0.json", "--json") == 0
    assert {"topic": "version", "value": "0.2.0", "meaning": "the name receipts carry"} in json.loads(said(capsys)[0])
    assert release("diff", "0.1.0.json", "0.2.0.json") == 0
    assert "asks you to trust:" in "\n".join(said(capsys))
    assert release("diff", "0.1.0.json", "0.2.0.json", "--json") == 0
    assert any(change["asks"] for change in json.loads(said(capsys)[0]))


def test_a_charter_decides_and_a_broker_adopts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "init", "broker"]) == 0
    config = ("--config", "broker/broker.toml")
    assert main(["broker", "govern", *config, "--authority", "authority.json"]) == 0
    decision = decided(capsys, "first", "--adopt", "0.1.0.json")
    assert {path.name for path in Path("first").iterdir()} == {
        "payload.bin",
        "summary.md",
        "proposal.html",
        "manifest.json",
        "launch-measurements.json",
    }
    assert (folder / "first" / "manifest.json").read_bytes() == FIRST.encode()
    capsys.readouterr()
    assert main(["broker", "adopt", *config, "--decision", str(decision)]) == 0
    [line, digest] = said(capsys)
    assert line == "decision 1: adopt 0.1.0"
    assert main(["broker", "adopt", *config, "--decision", str(decision)]) == 1
    assert "history.replayed" in capsys.readouterr().err
    assert main(["broker", "history", *config, "--out", "history.cbor"]) == 0
    assert release("history", "history.cbor", "--authority", "authority.json", "--seen", digest) == 0
    assert said(capsys)[-1] == "release 0.1.0: in force, blocks from 1 on"
    assert release("history", "history.cbor", "--authority", "authority.json", "--seen", "00" * 32) == 5
    assert main(["broker", "log", "verify", *config]) == 0


def test_the_text_comes_again_from_the_payload_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release("propose", "--adopt", "0.1.0.json", "--authority", "authority.json", "--out", "one") == 0
    capsys.readouterr()
    assert release("proposal", "one/payload.bin", "--authority", "authority.json") == 0
    assert capsys.readouterr().out.encode() == (folder / "one" / "summary.md").read_bytes()


def test_a_later_text_comes_again_from_the_folder_of_its_proposal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text says what changes, so it takes the decisions before it: the folder has them."""
    assert main(["broker", "init", "broker"]) == 0
    config = ("--config", "broker/broker.toml")
    assert main(["broker", "govern", *config, "--authority", "authority.json"]) == 0
    assert main(["broker", "adopt", *config, "--decision", str(decided(capsys, "one", "--adopt", "0.1.0.json"))]) == 0
    assert main(["broker", "history", *config, "--out", "history.cbor"]) == 0
    given = ("--authority", "authority.json", "--history", "history.cbor")
    for name, what in (
        ("two", ("--adopt", "0.2.0.json")),
        ("end", ("--withdraw", "0.1.0", "--reason", "its engine was wrong")),
    ):
        assert release("propose", *what, *given, "--out", name) == 0
        assert Path(name, "history.cbor").read_bytes() == Path("history.cbor").read_bytes()
        text = Path(name, "summary.md").read_text()
        assert text.splitlines()[-1] == (
            "`anchorhold release proposal PAYLOAD --authority AUTHORITY --history HISTORY` makes this text again from "
            "the payload and the decision before it."
        )
        capsys.readouterr()
        again = ["proposal", f"{name}/payload.bin", "--authority", "authority.json"]
        assert release(*again, "--history", f"{name}/history.cbor") == 0
        assert capsys.readouterr().out == text
        assert release(*again) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "expected --history with the decision before this one, got 0 decisions" in line
    assert release("proposal", "one/payload.bin", *given) == 1
    assert "usage.history" in capsys.readouterr().err


def test_a_chain_decides(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter(range(1_750_000_000, 1_760_000_000))
    governance = Governance.on_subnet(Subnet(b"cli"), clock=lambda: next(seconds) * 10**9)
    Path("chain.json").write_bytes(encode_authority(governance.chain))
    subaccount = "20" * 32
    assert (
        release(
            "propose", "--adopt", "0.1.0.json", "--authority", "chain.json", "--subaccount", subaccount, "--out", "one"
        )
        == 0
    )
    made = Proposal.of(Ledger.begin(governance.chain), Adopt(FIRST))
    assert bytes.fromhex(Path("one/manage-neuron.hex").read_text()) == made.manage_neuron(bytes.fromhex(subaccount))
    reply = governance.decided(made).proof
    assert isinstance(reply, CertifiedReply)
    Path("reply.cert").write_bytes(reply.certificate)
    given = [
        "decide",
        "one/payload.bin",
        "--certificate",
        "reply.cert",
        "--authority",
        "chain.json",
        "--expiry-ns",
        str(reply.expiry_ns),
        "--sender",
        to_text(reply.sender),
        "--out",
        "one.decision",
    ]
    assert release(*given, "--proposal", "2") == 2
    assert not Path("one.decision").exists()
    assert release(*given, "--proposal", "1") == 0
    assert main(["broker", "init", "broker"]) == 0
    config = ("--config", "broker/broker.toml")
    assert main(["broker", "govern", *config, "--authority", "chain.json"]) == 0
    assert main(["broker", "adopt", *config, "--decision", "one.decision"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["show", "authority.json"], 1),
        (["show", "none.json"], 1),
        (["propose", "--adopt", "0.2.0.json", "--authority", "authority.json", "--out", "x"], 5),
        (["propose", "--withdraw", "0.1.0", "--authority", "authority.json", "--out", "x"], 1),
        (["propose", "--revoke-chip", "00", "--authority", "authority.json", "--out", "x"], 1),
        (["propose", "--adopt", "0.1.0.json", "--authority", "chain.json", "--out", "x"], 1),
        (["propose", "--authority", "authority.json", "--out", "x"], 1),
        (["propose", "--adopt", "0.1.0.json", "--withdraw", "0.1.0", "--authority", "authority.json", "--out", "x"], 1),
        (["sign", "0.1.0.json", "--authority", "authority.json", "--key", "ada.key"], 1),
        (["decide", "0.1.0.json", "--signature", "x", "--out", "x"], 1),
        (["decide", "0.1.0.json", "--certificate", "0.1.0.json", "--out", "x"], 1),
        (["history", "0.1.0.json", "--authority", "authority.json"], 5),
        ([], 1),
    ],
)
def test_what_is_wrong_has_a_status_and_leaves_nothing(folder: Path, arguments: list[str], status: int) -> None:
    Path("chain.json").write_bytes(encode_authority(Chain(bytes(96), b"\x01", "get_proposal", FUNCTION)))
    assert release(*arguments) == status
    assert not Path("x").exists()


def test_other_actions_are_proposed_alike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("charter.json").write_bytes(charter("ada", "ben", "dan").encode())
    for number, what in enumerate(
        (
            ["--revoke-chip", "07" * 64, "--reason", "its seed was extracted"],
            ["--rotate-key", "default/model-key/tiny", "--least-version", "2", "--reason", "a backup was lost"],
            ["--amend-charter", "charter.json"],
        )
    ):
        assert release("propose", *what, "--authority", "authority.json", "--out", str(number)) == 0
        assert Path(f"{number}/summary.md").read_text().startswith("# Anchorhold: ")
        assert Path(f"{number}/proposal.html").read_bytes().startswith(b"<!DOCTYPE html>")


def built(folder: Path) -> None:
    """An image of made-up bytes over the test firmware, as `image build` and `measure` leave one."""
    from measurements.launch.launch_manifest import joined, measure_snp, measure_tdx
    from tests.firmware import LittleFirmware, LittleProgram

    (folder / "image").mkdir()
    kernel, initrd, line = LittleProgram().build(), b"initrd", "roothash=00 ro"
    firmware = LittleFirmware().build()
    for name, raw in (("vmlinuz", kernel), ("initrd.img", initrd), ("cmdline", line.encode()), ("root.img", b"root")):
        (folder / "image" / name).write_bytes(raw)
    launch = joined(measure_snp(firmware, kernel, initrd, line), measure_tdx(firmware, kernel, initrd, line))
    (folder / "launch.json").write_bytes(launch.encode() + b"\n")
    (folder / "cell.toml").write_text(
        f'gateway = "rrkah-fqaaa-aaaaa-aaaaq-cai"\nroot_key = "{Subnet(b"draft").root_key.hex()}"\n'
        f'engine = "scripted-1"\n[release]\nbroker_key = "{"0c" * 32}"\nresource = "default/model-key/m"\n'
        f'model_root = "{"30" * 32}"\n'
    )


DRAFT = [
    "draft",
    "--version",
    "0.1.0",
    "--first",
    "7",
    "--lease",
    "50",
    "--image",
    "image",
    "--launch",
    "launch.json",
    "--config",
    "cell.toml",
    "--cpu",
    "EPYC-v4",
    "--vcpus",
    "1",
    "--vcpus",
    "4",
    "--model",
    "tiny",
    "--repository",
    "https://example.invalid/a.git",
    "--commit",
    "0" * 40,
    "--rebuild",
    "make image",
    "--out",
    "draft.json",
]


def test_a_manifest_is_drafted_from_what_was_built(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """governance.md V1: every digest is computed from the files, and every launch that was measured is in it."""
    built(folder)
    assert release(*DRAFT) == 0
    manifest = Manifest.parse(Path("draft.json").read_bytes())
    assert capsys.readouterr().out.strip() == manifest.digest.hex()
    assert manifest.serves == Serves(Heights(7, None), 50)
    assert {"vmlinuz", "initrd.img", "cmdline", "root.img", "snp_firmware", "tdx_firmware"} == set(manifest.image.parts)
    assert [launch.place for launch in manifest.launch.snp] == [("EPYC-v4", 1, 1), ("EPYC-v4", 4, 1)]
    measured = {row["measurement"] for row in json.loads(Path("launch.json").read_text())["snp"]}
    assert {launch.measurement.hex() for launch in manifest.launch.snp} <= measured
    assert len(manifest.launch.tdx) == 4
    assert "Genoa 25/17/1" in manifest.minimum_tcb.snp
    assert release("propose", "--adopt", "draft.json", "--authority", "authority.json", "--out", "big") == 0
    assert len(Path("big/summary.md").read_bytes()) < 30_000


def test_an_image_that_was_not_the_one_measured_is_refused(folder: Path) -> None:
    built(folder)
    assert release(*DRAFT, "--last", "6") == 1
    (folder / "image" / "initrd.img").write_bytes(b"another")
    assert release(*DRAFT) == 1
    assert not Path("draft.json").exists()
