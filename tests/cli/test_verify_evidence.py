"""`anchorhold verify evidence`: one file in, one exit status out, for every stage at which it can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold import command
from anchorhold.command import main
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.kinds import TeeKind
from devnet.tee import identity_bundle, policy_document, reference_values
from tests.little_tee import CONFIG, KEYSET, MEASUREMENT, NONCE, snp_tee, tdx_tee

AT = "2026-11-20T00:00:00Z"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def this_verb_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb is tested without loading the others."""
    monkeypatch.setattr(command, "VERBS", ("verify",))


@pytest.fixture(params=["snp", "tdx"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bundle(kind: str) -> EvidenceBundle:
    return identity_bundle(snp_tee() if kind == "snp" else tdx_tee(), NONCE, KEYSET, CONFIG)


@pytest.fixture
def run(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Write the bundle, the simulated root, a policy that names it and references for it; run the verb."""
    tee = snp_tee() if kind == "snp" else tdx_tee()
    (tmp_path / "root.pem").write_text(tee.root.pem)
    (tmp_path / "devnet.toml").write_bytes(policy_document(tee))
    rows = "".join(
        f'{claim.partition(".")[2]} = ["{value.hex()}"]\n'
        for claim, values in reference_values(tee).values.items()
        for value in values
    )
    (tmp_path / "references.toml").write_text(f"[{kind}]\n{rows}")

    def run(raw: bytes | EvidenceBundle, *options: str) -> tuple[int, str]:
        (tmp_path / "bundle").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        words = [word.format(dir=tmp_path, nonce=NONCE.hex()) for word in options]
        try:
            status = main(["verify", "evidence", str(tmp_path / "bundle"), "--at", AT, *words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        streams = capsys.readouterr()
        return status, streams.out + streams.err

    return run


SIMULATED = ("--simulated-root", "{dir}/root.pem")
DEVNET = (*SIMULATED, "--policy", "{dir}/devnet.toml", "--references", "{dir}/references.toml")


def test_accepted_when_all_is_named(run: Run, bundle: EvidenceBundle):  # evidence-production.md E129
    status, text = run(bundle, *DEVNET, "--nonce", "{nonce}")
    assert (status, "verdict: accepted" in text) == (0, True), text


def test_as_json(run: Run, bundle: EvidenceBundle, kind: str):
    status, text = run(bundle, *DEVNET, "--nonce", "{nonce}", "--json")
    value = json.loads(text)
    assert (status, value["verdict"], value["status"]) == (0, "accepted", 0)
    assert value["evidence"]["tee"] == f"simulated-{kind}"
    assert value["evidence"]["simulated"] is True
    assert value["evidence"]["keyset"] == KEYSET.digest.hex()
    assert value["evidence"]["measured_config"] == CONFIG.hex()
    assert value["claims"][0]["code"] == "bundle.nonce"
    chains = ["VCEK"] if kind == "snp" else ["PCK", "TCB info", "QE identity"]
    assert value["second_opinion"] == dict.fromkeys(chains, "accepted")


def test_genuine_only(run: Run, bundle: EvidenceBundle):  # evidence-production.md E129
    status, text = run(bundle, *SIMULATED, "--genuine-only")
    assert (status, "verdict: genuine" in text) == (0, True), text


def test_not_fresh_without_a_nonce(run: Run, bundle: EvidenceBundle):  # evidence-production.md E125, E129
    status, text = run(bundle, *DEVNET)
    assert status == 4
    assert "no nonce was asked for" in text
    assert "report_data" in text


@pytest.mark.parametrize("policy", ["strict", "platform"])
def test_a_built_in_policy_refuses_a_simulated_root(
    run: Run, bundle: EvidenceBundle, policy: str, kind: str
):  # evidence-production.md E127
    status, text = run(bundle, *SIMULATED, "--policy", policy, "--nonce", "{nonce}", "--json")
    unmet = [claim["code"] for claim in json.loads(text)["claims"] if claim["standing"] == "not met"]
    assert status == 4
    assert f"{kind}.root" in unmet


# evidence-production.md E127, E129
def test_without_its_root_a_simulated_bundle_is_not_genuine(run: Run, bundle: EvidenceBundle):
    assert run(bundle)[0] == 2
    assert run(bundle, "--genuine-only")[0] == 2


def test_a_relabelled_bundle_is_not_genuine(run: Run, bundle: EvidenceBundle, kind: str):
    assert run(replace(bundle, kind=TeeKind(kind)), *DEVNET, "--nonce", "{nonce}")[0] == 2


def test_another_nonce_is_a_broken_binding(run: Run, bundle: EvidenceBundle):  # evidence-production.md E129
    status, text = run(bundle, *DEVNET, "--nonce", "00" * 32)
    assert (status, "bundle.nonce" in text) == (2, True)


def test_a_claim_put_in_its_place_is_a_broken_binding(run: Run, bundle: EvidenceBundle):
    status, text = run(replace(bundle, measured_config=bytes(32)), *DEVNET, "--nonce", "{nonce}")
    assert (status, "bundle.report-data" in text) == (2, True)


def test_missing_collateral(run: Run, bundle: EvidenceBundle):  # evidence-production.md E129
    assert run(replace(bundle, certificates={}, crls=(), collateral=b""), *DEVNET)[0] == 3


# evidence-production.md E129
def test_an_unwanted_measurement(run: Run, bundle: EvidenceBundle, kind: str, tmp_path: Path):
    other = (tmp_path / "references.toml").read_text().replace(MEASUREMENT.hex(), "00" * 48)
    (tmp_path / "references.toml").write_text(other)
    status, text = run(bundle, *DEVNET, "--nonce", "{nonce}")
    assert (status, "NOT MET" in text) == (4, True)


@pytest.mark.parametrize("raw", [b"", b"not a bundle", bytes(40)])
def test_malformed(run: Run, raw: bytes):  # evidence-production.md E129
    assert run(raw)[0] == 1


def test_one_bit_too_many(run: Run, bundle: EvidenceBundle):
    assert run(bundle.encode() + b"\0")[0] == 1


@pytest.mark.parametrize(
    "options",
    [("--nonce", "zz"), ("--policy", "/nowhere"), ("--simulated-root", "/nowhere"), ("--unknown",), ("--at", "soon")],
)
def test_usage(run: Run, bundle: EvidenceBundle, options: tuple[str, ...]):  # evidence-production.md E129
    assert run(bundle, *options)[0] == 1


def test_no_bundle_at_all(capsys: pytest.CaptureFixture[str]):
    assert main(["verify", "evidence", "/nowhere/bundle"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "/nowhere/bundle" in line
