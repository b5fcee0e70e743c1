"""What an auditor names holds or fails, and an option that changes nothing is refused. audit.md U12, U17, U27, U39."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.command import main
from attestation.auditor.audit_bundle import audit_nonce
from attestation.auditor.devnet_roots import DevnetRoots
from devnet.tee import reference_values
from measurements.governance.authority import encode_authority
from tests import little_audit
from tests.charters import AUTHORITY
from tests.little_audit import SUBNET, chain, evidence_of, good, granted, measured_config, run_cell, world
from tests.little_broker import MODEL_ROOT
from tests.little_tee import snp_tee

ROOTS = DevnetRoots(SUBNET.root_key, snp_tee().root.der, reference_values(snp_tee()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").write_bytes(good())
    (tmp_path / "roots").write_bytes(ROOTS.encode())
    (tmp_path / "authority").write_bytes(encode_authority(AUTHORITY))
    (tmp_path / "references").write_bytes(b'[snp]\nmeasurement = ["' + b"11" * 48 + b'"]\n')
    return tmp_path


def audit(folder: Path, *more: str, devnet: bool = True) -> int:
    roots = ["--devnet", str(folder / "roots")] if devnet else []
    return main(["audit", str(folder / "bundle"), *roots, *(each.replace("FOLDER", str(folder)) for each in more)])


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


# -- what is named holds or fails


@pytest.mark.parametrize("decided", [(), ("--decided", "00" * 32), ("--decided", "11" * 32)], ids=len)
def test_an_authority_that_decided_nothing_is_no_authority_of_this(
    folder: Path, capsys: pytest.CaptureFixture[str], decided: tuple[str, ...]
) -> None:  # audit.md U17
    assert audit(folder, "--authority", "FOLDER/authority", *decided) == 2
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "audit: refused, release.decision#1"
    assert "expected a decision of the authority that you named" in said
    assert "got      none: the owner of the key decided alone" in said


def test_a_nonce_that_nobody_answered_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U12
    assert audit(folder, "--nonce", "42" * 32) == 4
    assert last(capsys) == "audit: refused, policy.nonce"
    asked = evidence_of("cell a", measured_config(), b"\x42" * 32)
    (folder / "bundle").write_bytes(replace(world(), evidence={**world().evidence, "cell a": asked}).bundle().encode())
    assert audit(folder, "--nonce", "42" * 32) == 0
    assert last(capsys) == "audit: ok"
    assert audit(folder, "--nonce", "42" * 32, "--nonce", "43" * 32) == 4
    assert last(capsys) == "audit: refused, policy.nonce"


def test_a_checkpoint_of_no_log_shown_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U27
    elsewhere = run_cell("cell c", measured_config(), chain())
    (folder / "note").write_bytes(elsewhere.notes[-1])
    assert audit(folder, "--seen", "FOLDER/note") == 5
    assert last(capsys) == "audit: refused, log.named"
    (folder / "note").write_bytes(world().cells[0].notes[-1])
    assert audit(folder, "--seen", "FOLDER/note") == 0
    (folder / "note").write_bytes(b"no checkpoint")
    assert audit(folder, "--seen", "FOLDER/note") == 1


def test_a_policy_that_is_named_is_not_softened_by_a_devnet_s_roots(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # audit.md U14
    assert audit(folder, "--policy", "strict") == 4
    assert last(capsys) == "audit: refused, policy.claims#1"


# -- what changes nothing is refused


@pytest.mark.parametrize(
    ("more", "devnet", "expected", "got"),
    [
        (["--root-key", SUBNET.root_key.hex()], True, "--root-key or --devnet", "both, and --devnet's file"),
        (["--decided", "00" * 32], True, "--authority beside --decided", "--decided alone, which changes nothing"),
        (["--references", "FOLDER/references", "--policy", "platform"], True, "a --policy that", "--references with"),
        (["--model", "x"], True, "--replay beside --model", "--model alone"),
        (["--model-key", "x"], True, "--replay beside --model-key", "--model-key alone"),
        (["--service-keys", "x"], True, "--replay beside --service-keys", "--service-keys alone"),
        (["--handed", "x"], True, "--replay beside --handed", "--handed alone"),
        (["--sample", "3"], True, "--replay beside --sample", "--sample alone"),
        (["--only", "1/0"], True, "--replay beside --only", "--only alone"),
        (["--processes", "2"], True, "--replay beside --processes", "--processes alone"),
        (["--cluster", "x"], True, "--replay beside --cluster", "--cluster alone"),
        (["--replay", "--model-key", "x"], True, "--model beside --model-key", "--model-key alone"),
        (["--replay", "--cluster", "x"], True, "--processes beside --cluster", "--cluster alone"),
        (["--replay", "--sample", "3", "--only", "1/0"], True, "--sample or --only", "both, and --only names"),
    ],
    ids=lambda each: each[-2] if isinstance(each, list) and len(each) > 1 else None,
)
def test_an_option_that_changes_nothing_is_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], devnet: bool, expected: str, got: str
) -> None:  # audit.md U39
    assert audit(folder, *more, devnet=devnet) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert f"usage.idle: expected {expected}" in line
    assert got in line


# -- a replay without the model


def test_a_replay_without_the_model_s_pack_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # audit.md U51
    def of_a_model(key: bytes | None) -> bytes:
        return scripted(key).replace(b'engine = "scripted-1"', b'engine = "fixed-1"\nprofile = "' + b"e0" * 32 + b'"')

    scripted = little_audit.config
    monkeypatch.setattr(little_audit, "config", of_a_model)
    little = little_audit.broker.__wrapped__()
    measured = little_audit.config(little.keys.public)
    of = replace(
        world(),
        config=measured,
        cells=(run_cell("cell a", measured, chain()),),
        entries={"cell a": granted("cell a", measured, little)},
        evidence={"cell a": evidence_of("cell a", measured, audit_nonce(chain().link(1)))},
    )
    little.store.close()
    (folder / "bundle").write_bytes(of.bundle().encode())
    assert audit(folder) == 0
    capsys.readouterr()
    assert audit(folder, "--replay") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert f"usage.model: expected --model PACK: the pack of the model of root {MODEL_ROOT.hex()}, got none" in line


# -- how to go on


@pytest.mark.parametrize("more", [[], ["--root-key", SUBNET.root_key.hex()]], ids=len)
def test_a_devnet_s_bundle_without_its_roots_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:  # audit.md U39
    hint = "the roots in this bundle are a devnet's: pass --devnet ROOTS to accept them, and simulated silicon"
    assert audit(folder, *more, devnet=False) == 2
    lines = capsys.readouterr().out.splitlines()
    assert f"hint: {hint}" in lines
    assert lines[-1].startswith("audit: refused, ")
    assert audit(folder, *more, "--json", devnet=False) == 2
    assert json.loads(capsys.readouterr().out)["hint"] == hint


def test_no_hint_where_roots_are_not_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # audit.md U39
    assert audit(folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["hint"] == ""
    (folder / "bundle").write_bytes(b"no bundle")
    assert audit(folder, "--json", devnet=False) == 1
    assert json.loads(capsys.readouterr().out)["hint"] == ""
