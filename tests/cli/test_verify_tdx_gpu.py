"""`anchorhold verify tdx` and `verify gpu`: exit status, verdict and stage, from real and simulated files."""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from anchorhold.command import Parser
from anchorhold.verbs import verify
from attestation.evidence.tdx_collateral import TdxCollateral
from tests.unit.attestation import published
from tests.unit.attestation.forge_gpu import MEASUREMENTS, Device
from tests.unit.attestation.forge_tdx import World

AT = ["--at", "2026-11-20T00:00:00Z"]


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    parser = Parser(prog="anchorhold")
    verify.add(parser.add_subparsers(dest="verb", parser_class=Parser))
    arguments: argparse.Namespace = parser.parse_args(["verify", *map(str, words), "--json"])
    status = arguments.run(arguments)
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def tdx(tmp_path: Path) -> dict[str, Path]:
    world = World()
    log = (
        bytes(4)
        + b"\3\0\0\0"
        + bytes(20)
        + (33).to_bytes(4, "little")
        + b"Spec ID Event03\0"
        + bytes(4)
        + b"\0\2\0\2\1\0\0\0\x0c\0\x30\0\0"
    )
    trust = 'name = "sim"\nabout = "sim"\nextends = "platform"\n'
    trust += f'[tdx]\nsimulated_roots = ["{world.root.spki.hex()}"]\n'
    contents: dict[str, bytes] = {
        "quote": world.quote(report_data=b"\7" * 64),
        "spoiled": world.quote(after_signing=lambda data: data[:200] + b"\1" + data[201:]),
        "collateral": json.dumps(world.collateral()).encode(),
        "root": world.root.der,
        "log": log,
        "other-log": log + b"\1\0\0\0\4\0\0\0\1\0\0\0\x0c\0" + bytes(48) + bytes(4),
        "policy": trust.encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def judged(
    capsys: pytest.CaptureFixture[str],
    tdx: dict[str, Path],
    *more: str | Path,
    quote: str = "quote",
    root: bool = True,
    collateral: bool = True,
) -> tuple[int, str, str | None]:
    words: list[str | Path] = ["tdx", "--quote", tdx[quote], *AT, *more]
    words += ["--simulated-root", tdx["root"]] if root else []
    words += ["--collateral", tdx["collateral"]] if collateral else []
    status, said = run(capsys, *words)
    assert said["status"] == status
    return status, said["verdict"], said["refusal"] and said["refusal"]["code"]


# evidence-tdx.md E66, E68, E70
def test_each_stage_has_its_status(capsys: pytest.CaptureFixture[str], tdx: dict[str, Path]) -> None:
    trusting = ["--policy", tdx["policy"]]
    assert judged(capsys, tdx, *trusting) == (0, "accepted", None)
    assert judged(capsys, tdx, "--genuine-only") == (0, "genuine", None)
    assert judged(capsys, tdx) == (4, "refused", None)  # strict by default
    assert judged(capsys, tdx, "--policy", "platform") == (4, "refused", None)
    assert judged(capsys, tdx, root=False) == (2, "not-genuine", "tdx.pck_chain.root")
    assert judged(capsys, tdx, quote="spoiled") == (2, "not-genuine", "tdx.quote_signature")
    assert judged(capsys, tdx, collateral=False) == (3, "collateral-missing", "tdx.collateral")
    late = ["--at", "2035-06-01T00:00:00Z"]
    assert judged(capsys, tdx, *late) == (3, "collateral-missing", "tdx.tcb_info_validity")
    assert judged(capsys, tdx, quote="root") == (1, "malformed", "tdx.version")
    assert judged(capsys, tdx, "--policy", tdx["root"])[0] == 1


def test_a_log_and_report_data_that_were_brought_are_compared(
    capsys: pytest.CaptureFixture[str], tdx: dict[str, Path]
) -> None:  # evidence-tdx.md E78, E95
    trusting = ["--policy", tdx["policy"]]
    assert judged(capsys, tdx, *trusting, "--event-log", tdx["log"])[0] == 0
    assert judged(capsys, tdx, *trusting, "--event-log", tdx["other-log"]) == (2, "not-genuine", "eventlog.rtmr0")
    assert judged(capsys, tdx, *trusting, "--report-data", "07" * 64)[0] == 0
    assert judged(capsys, tdx, *trusting, "--report-data", "08" * 64) == (4, "refused", "tdx.report-data")
    assert judged(capsys, tdx, "--genuine-only", "--report-data", "08" * 64)[0] == 4
    assert judged(capsys, tdx, "--report-data", "07")[:2] == (1, "malformed")


def test_a_quote_is_taken_in_every_layout(capsys: pytest.CaptureFixture[str], tdx: dict[str, Path]) -> None:
    raw = tdx["quote"].read_bytes()
    for text in (
        raw.hex(),
        base64.b64encode(raw).decode(),
        json.dumps({"quote": raw.hex()}),
        json.dumps({"td_quote": base64.urlsafe_b64encode(raw).decode().rstrip("=")}),
        json.dumps({"quote_b64": base64.b64encode(raw).decode()}),
    ):
        tdx["root"].with_name("text").write_text(text)
        assert judged(capsys, tdx | {"text": tdx["root"].with_name("text")}, "--genuine-only", quote="text")[0] == 0
    for text in ("{}", '{"quote": "*"}', "xyz", ""):
        tdx["root"].with_name("text").write_text(text)
        assert judged(capsys, tdx | {"text": tdx["root"].with_name("text")}, quote="text")[0] == 1


def test_the_parts_of_a_conformance_case_are_put_together(
    capsys: pytest.CaptureFixture[str], tdx: dict[str, Path], tmp_path: Path
) -> None:
    members = json.loads(tdx["collateral"].read_bytes())
    parts = {
        "tcb_info_json": f'{{"tcbInfo":{members["tcb_info"]},"signature":"{members["tcb_info_signature"]}"}}',
        "qe_identity_json": f'{{"enclaveIdentity":{members["qe_identity"]},'
        f'"signature":"{members["qe_identity_signature"]}"}}',
        "pck_crl_der_b64": base64.b64encode(bytes.fromhex(members["pck_crl"])).decode(),
        "root_crl_der_b64": base64.b64encode(bytes.fromhex(members["root_ca_crl"])).decode(),
    }
    chains = {f"{name}_issuer_chain_pem": members[f"{name}_issuer_chain"] for name in ("tcb_info", "qe_identity")}
    case = tmp_path / "case.json"
    for content, status in ((parts | chains, 0), (parts, 3)):
        case.write_text(json.dumps({"collateral": content}))
        found = judged(capsys, tdx | {"collateral": case}, "--genuine-only")
        assert found[0] == status
    TdxCollateral.parse(tdx["collateral"].read_bytes())
    case.write_text(json.dumps({"collateral": parts | {"tcb_info_json": '{"signature":"' + "00" * 64 + '"}'}}))
    assert judged(capsys, tdx | {"collateral": case}, "--genuine-only")[0] == 1


@pytest.fixture
def gpu(tmp_path: Path) -> dict[str, Path]:
    device = Device()
    report, chain = device.report(), device.chain()
    evidence = {"evidence": base64.b64encode(report).decode(), "certificate": base64.b64encode(chain).decode()}
    contents = {
        "report": report,
        "chain": chain,
        "short": report[:-1],
        "json": json.dumps([evidence]).encode(),
        "two": json.dumps([evidence, evidence]).encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert len(MEASUREMENTS) == 40
    return {name: tmp_path / name for name in contents}


def test_gpu_statuses(capsys: pytest.CaptureFixture[str], gpu: dict[str, Path]) -> None:
    def status(report: str, *more: str | Path, chain: bool = True) -> tuple[int, str | None]:
        words = ["gpu", "--report", gpu[report], *AT, *more] + (["--chain", gpu["chain"]] if chain else [])
        code, said = run(capsys, *words)
        return code, said["refusal"] and said["refusal"]["code"]

    # Nothing simulated gets through this verb: it knows NVIDIA's root alone.
    assert status("report", "--genuine-only") == (2, "gpu.chain.root")
    assert status("json", chain=False) == (2, "gpu.chain.root")
    assert status("short") == (1, "gpu.truncated")
    assert status("two", chain=False) == (1, "gpu.evidence")
    assert status("report", chain=False) == (1, "usage.chain")
    assert status("report", "--nonce", "00")[0] == 1


@published.NEEDED
def test_real_gpu_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    folder = published.FOLDER / "gpu" / "gh100-f628fc43"
    nonce = next(e for e in published.index() if e["file"] == "gpu/gh100-f628fc43/report.bin")["request_nonce"]
    rims = published.FOLDER / "endorsements" / "nvidia" / "rim"
    base: list[str | Path] = ["gpu", "--report", folder / "report.bin", "--chain", folder / "chain.pem"]
    base += ["--at", "2026-01-01", "--policy", "platform"]
    assert run(capsys, *base)[0] == 0
    status, said = run(capsys, *base, "--nonce", nonce, "--rim", rims / "NV_GPU_DRIVER_GH100_550.144.03.xml")
    assert (status, said["evidence"]["rim_matched"], said["evidence"]["rim_differing"]) == (0, 20, "")
    assert said["second_opinion"] == dict.fromkeys(["GPU", "GPU manifest 550.144.03"], "accepted")
    assert run(capsys, *base, "--nonce", "00" * 32)[1]["refusal"]["code"] == "gpu.nonce"
    spoiled = published.FOLDER / "gpu-neg" / "incorrect_signature_driver_rim.xml"
    assert run(capsys, *base, "--rim", spoiled)[0] == 2
    whole = published.FOLDER / "gpu" / "json" / "hopper_evidence.json"
    assert run(capsys, "gpu", "--report", whole, "--at", "2026-01-01", "--genuine-only")[0] == 0


@published.NEEDED
def test_real_tdx_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    folder = published.FOLDER / "endorsements" / "intel" / "collateral"
    words: list[str | Path] = [
        "tdx",
        "--quote",
        published.FOLDER / "tdx" / "v5-90c06f000000-cf77a6e9.quote",
        "--collateral",
        folder / "azure-collateral.json",
        "--at",
        "2026-02-18T11:08:51Z",
    ]
    assert run(capsys, *words, "--policy", "platform")[0] == 0
    assert run(capsys, *words)[0] == 4
    status, said = run(capsys, *words, "--genuine-only")
    assert (status, said["verdict"], said["evidence"]["tcb_status"]) == (0, "genuine", "UpToDate")
    assert said["second_opinion"] == dict.fromkeys(["PCK", "TCB info", "QE identity"], "accepted")
