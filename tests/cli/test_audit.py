"""`anchorhold audit` and `anchorhold compare`: what they print, write and exit with. audit.md U39 to U41."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.command import main
from attestation.auditor.audit_bundle import Answer, AnswersPart, AuditBundle
from attestation.auditor.devnet_roots import DevnetRoots, RootsRefused
from attestation.receipts.fork import ForkDocument
from devnet.tee import reference_values
from foundation.refusal import Refused
from measurements.governance.authority import encode_authority
from tests.charters import AUTHORITY
from tests.little_audit import SUBNET, good, run_cell, world
from tests.little_tee import snp_tee

ROOTS = DevnetRoots(SUBNET.root_key, snp_tee().root.der, reference_values(snp_tee()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").write_bytes(good())
    (tmp_path / "roots").write_bytes(ROOTS.encode())
    return tmp_path


def audit(folder: Path, *more: str, bundle: str = "bundle", devnet: bool = True) -> int:
    roots = ["--devnet", str(folder / "roots")] if devnet else []
    return main(["audit", str(folder / bundle), *roots, *more])


def test_a_sound_bundle_ends_in_ok(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U39
    assert audit(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "audit: ok"
    assert "the silicon is simulated" in lines[-2]
    assert any(line.startswith("ok ") and "receipt.md T7" in line for line in lines)


def test_a_tampered_one_ends_in_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # audit.md U39
    (folder / "bundle").write_bytes(good()[:-200] + bytes([good()[-200] ^ 1]) + good()[-199:])
    assert audit(folder) == 5
    assert capsys.readouterr().out.splitlines()[-1] == "audit: refused, log.whole#2"


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [([], 2, "configuration.subnet"), (["--root-key", SUBNET.root_key.hex()], 2, "evidence.genuine#1")],
)
def test_the_default_believes_no_devnet(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, code: str
) -> None:  # audit.md U6, U14
    assert audit(folder, *arguments, devnet=False) == status
    assert capsys.readouterr().out.splitlines()[-1] == f"audit: refused, {code}"


def test_a_devnet_s_roots_do_not_soften_a_policy_that_is_named(folder: Path) -> None:  # audit.md U14
    assert audit(folder, "--policy", "platform") == 4


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U39
    assert audit(folder, "--json", "--gateway", "aaaaa-aa") == 2
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["status"], said["simulated"]) == ("refused", 2, True)
    failed = [each for each in said["findings"] if each["standing"] == "fails"]
    assert [each["code"] for each in failed] == ["configuration.gateway"]
    assert failed[0]["rule"] == "audit.md U6"
    assert len(said["claims"]) > 80


def test_no_bundle_is_a_usage_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U1
    (folder / "bundle").write_bytes(b"something else")
    assert audit(folder) == 1
    assert "audit: refused, form.bundle" in capsys.readouterr().out
    assert main(["audit", str(folder / "absent")]) == 1
    for wrong in (["--nonce", "zz"], ["--root-key", "zz"], ["--gateway", "zz"], ["--devnet", str(folder / "bundle")]):
        assert main(["audit", str(folder / "bundle"), *wrong]) == 1


def test_the_page_is_written_and_says_the_same(folder: Path) -> None:  # audit.md U35
    assert audit(folder, "--page", str(folder / "page.html")) == 0
    assert "Everything holds" in (folder / "page.html").read_text(encoding="utf-8")


def test_who_decides_is_named_by_its_document(folder: Path) -> None:  # audit.md U17, U18
    (folder / "authority").write_bytes(encode_authority(AUTHORITY))
    assert audit(folder, "--authority", str(folder / "authority"), "--decided", "zz") == 1
    assert audit(folder, "--authority", str(folder / "bundle")) == 1


def test_evidence_of_fraud_is_written_out(folder: Path) -> None:  # audit.md U27
    other = run_cell(
        "cell a",
        world().config,
        world().chain,
        bend=lambda request, said: replace(said, tokens_out=9) if request.id == 8 else said,
    )
    (folder / "note").write_bytes(other.notes[-1])
    fork = folder / "fork"
    assert audit(folder, "--seen", str(folder / "note"), "--fork", str(fork)) == 5
    assert "two different logs of 10" in ForkDocument.parse(fork.read_bytes()).check()
    fork.unlink()
    assert audit(folder, "--fork", str(fork)) == 0
    assert not fork.exists()


# -- compare


def test_two_cells_that_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U40
    assert main(["compare", str(folder / "bundle")]) == 0
    assert capsys.readouterr().out == "compare: equal (2 cells, 10 requests)\n"
    (folder / "later").write_bytes(world().bundle(2, 3).encode())
    assert main(["compare", str(folder / "bundle"), str(folder / "later"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "equal": True,
        "outputs": 4,
        "compared": 8,
        "only_some": 2,
        "divergence": None,
    }


def test_the_first_difference_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U41
    cell = run_cell(
        "cell b",
        world().config,
        world().chain,
        bend=lambda request, said: replace(said, tokens_out=9) if request.id in (3, 6) else said,
    )
    (folder / "other").write_bytes(replace(world(), cells=(cell,)).bundle().encode())
    assert main(["compare", str(folder / "bundle"), str(folder / "other")]) == 5
    said = capsys.readouterr().out
    assert "differ first at height 2, index 1: receipts differ in tokens_out, cycles" in said
    assert main(["compare", str(folder / "bundle"), str(folder / "other"), "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["divergence"]["index"] == 1


def test_answers_are_compared_to_the_byte(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U41
    bundle = AuditBundle.parse(good())
    answers = AnswersPart.parse(bundle.answers).answers
    bent = (Answer((answers[0].said or b"")[:-1] + b"!"), *answers[1:])
    (folder / "other").write_bytes(replace(bundle, answers=AnswersPart(bent).encode()).encode())
    assert main(["compare", str(folder / "bundle"), str(folder / "other")]) == 5
    assert "bytes differ from byte 25 on" in capsys.readouterr().out


def test_nothing_to_compare(folder: Path) -> None:  # audit.md U40
    one = replace(world(), cells=world().cells[:1])
    (folder / "one").write_bytes(one.bundle(1, 1).encode())
    (folder / "two").write_bytes(one.bundle(2, 2).encode())
    assert main(["compare", str(folder / "one")]) == 1
    assert main(["compare", str(folder / "one"), str(folder / "two")]) == 1
    (folder / "two").write_bytes(good()[:-1] + b"x")
    assert main(["compare", str(folder / "two")]) == 1


# -- a devnet's roots


def test_roots_read_back() -> None:  # audit.md U6
    assert DevnetRoots.parse(ROOTS.encode()) == ROOTS


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\xff",
        b'subnet = "00"\ntee = "00"',
        ROOTS.encode() + b"more = 1\n",
        ROOTS.encode().replace(b'"', b"'''", 1),
        ROOTS.encode().replace(b'tee = "30', b'tee = "zz'),
        b"x" * (1 << 21),
        b"subnet = 1\ntee = 2\n",
        ROOTS.encode().replace(b"measurement = [", b"measurement = [1, "),
        ROOTS.encode() + b"other = 5\n",
        b"references = 1\n" + ROOTS.encode().split(b"\n[")[0],
    ],
)
def test_what_are_no_roots(other: bytes) -> None:  # audit.md U6
    with pytest.raises((Refused, RootsRefused)):
        DevnetRoots.parse(other)
