"""`anchorhold verify snp` and `anchorhold policy` as transcripts: arguments, exit status, what is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.command import Parser, carry_out
from anchorhold.input_files import SNP_REPORT, FileRefused, UsageRefused
from anchorhold.verbs import policy as policy_verb
from anchorhold.verbs import verify
from anchorhold.verbs.verify import verdict
from anchorhold.verbs.verify.verdict import Judgement, read_time, status_of
from attestation.errors import (
    BindingRefused,
    ChainRefused,
    CollateralMissing,
    FormatRefused,
    PolicyMalformed,
    PolicyRefused,
    Revoked,
    SignatureRefused,
)
from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from attestation.verify.chain import key_digest
from tests.keys import p384_key, rsa_key
from tests.unit.attestation.forge import NOW, Case, Forge, of_amds_own_critical

FORGE = Forge()
ROOT = key_digest(rsa_key("ark").public_key()).hex()
AT = "2026-06-01T00:00:00Z"


def run(*arguments: str) -> int:
    parser = Parser(prog="anchorhold")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    verify.add(verbs)
    policy_verb.add(verbs)
    return carry_out(parser.parse_args(arguments))


class Desk:
    """A folder with evidence in files, as a person has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lay(FORGE.case())
        (folder / "own.toml").write_text(
            f'name = "own"\nabout = "the test root"\nextends = "strict"\n[snp]\nsimulated_roots = ["{ROOT}"]\n'
        )

    def lay(self, case: Case) -> None:
        certs = self.folder / "certs" / "Genoa"
        certs.mkdir(parents=True, exist_ok=True)
        (self.folder / "report.bin").write_bytes(case.report)
        (self.folder / "vek.der").write_bytes(case.vek.public_bytes(Encoding.DER))
        for name, certificate in zip(("ask", "ark"), case.chain, strict=True):
            (certs / f"{name}.der").write_bytes(certificate.public_bytes(Encoding.DER))
        (self.folder / "crl.der").write_bytes(FORGE.crl().public_bytes(Encoding.DER))
        (certs / "notes.der").write_text("not a certificate")
        (certs / "notes.txt").write_text("neither")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def evidence(self) -> list[str]:
        return [
            "verify",
            "snp",
            "--report",
            self.path("report.bin"),
            "--vek",
            self.path("vek.der"),
            "--at",
            AT,
            "--simulated-root",
            f"test root:Genoa:{ROOT}",
        ]

    def chain(self) -> list[str]:
        return ["--chain", self.path("certs/Genoa/ask.der"), "--chain", self.path("certs/Genoa/ark.der")]

    def expectations(self) -> list[str]:
        return ["--measurement", "11" * 48, "--report-data", "22" * 64, "--chip-id", FORGE.chip.hex()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    spoken: dict[str, Any] = json.loads(capsys.readouterr().out)
    return spoken


def test_accepted(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *desk.evidence(),
        *desk.chain(),
        *desk.expectations(),
        "--crl",
        desk.path("crl.der"),
        "--policy",
        desk.path("own.toml"),
    ]
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("snp evidence, judged at 2026-06-01 00:00:00Z\n  root                 test root\n")
    assert "  met        snp.root " in text
    assert "  unchecked  snp.policy.rapl-disabled " in text
    assert "NOT MET" not in text
    assert text.endswith("verdict: accepted (43 claims, 0 not met, 17 unchecked)\n")
    assert run(*arguments, "--json") == 0
    spoken = said(capsys)
    assert (spoken["kind"], spoken["verdict"], spoken["status"]) == ("snp", "accepted", 0)
    assert (spoken["at"], spoken["refusal"]) == (AT, None)
    assert spoken["policy"].startswith("own@")
    assert spoken["claims"][0] == {
        "code": "snp.root",
        "rule": "E140",
        "standing": "met",
        "expected": "a hardware root, or one of 1 named simulated roots",
        "got": f"test root (simulated, {ROOT})",
    }
    assert (spoken["evidence"]["simulated"], spoken["evidence"]["measurement"]) == (True, "11" * 48)


def test_the_second_opinion_stands_beside_the_verdict(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:  # evidence.md E183
    assert run(*desk.evidence(), *desk.chain(), "--genuine-only") == 0
    assert "\n  second opinion       OpenSSL accepts the chains: VCEK\n" in capsys.readouterr().out
    assert run(*desk.evidence(), *desk.chain(), "--genuine-only", "--json") == 0
    assert said(capsys)["second_opinion"] == {"VCEK": "accepted"}


def test_a_chain_that_openssl_refuses_is_not_genuine(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:  # evidence.md E185
    case = FORGE.case()
    case.vek = FORGE.make_vek(**of_amds_own_critical())
    case.verify()
    desk.lay(case)
    assert run(*desk.evidence(), *desk.chain(), "--genuine-only", "--json") == 2
    spoken = said(capsys)
    assert (spoken["verdict"], spoken["second_opinion"], spoken["refusal"]["code"]) == (
        "not-genuine",
        {},
        "chain.second-opinion",
    )


def test_the_default_policy_takes_no_simulated_root(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:  # evidence.md E137
    arguments = [*desk.evidence(), *desk.chain(), *desk.expectations(), "--crl", desk.path("crl.der"), "--json"]
    assert run(*arguments) == 4
    spoken = said(capsys)
    assert spoken["policy"].startswith("strict@")
    assert [claim["code"] for claim in spoken["claims"] if claim["standing"] == "not met"] == ["snp.root"]
    assert spoken["verdict"] == "refused"


def test_genuine_only(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*desk.evidence(), *desk.chain(), "--genuine-only", "--json") == 0
    spoken = said(capsys)
    assert (spoken["verdict"], spoken["claims"], spoken["policy"]) == ("genuine", [], None)
    assert spoken["evidence"]["revocation"] == "no list was given"
    assert run(*desk.evidence(), *desk.chain(), "--genuine-only") == 0
    assert capsys.readouterr().out.endswith("verdict: genuine\n")


def test_a_folder_of_certificates(desk: Desk) -> None:  # evidence.md E23
    assert run(*desk.evidence(), "--certs", desk.path("certs"), "--genuine-only") == 0
    assert run(*desk.evidence(), "--certs", desk.path("nowhere"), "--genuine-only") == 1


def test_two_files_after_one_option(desk: Desk) -> None:
    files = desk.chain()
    assert run(*desk.evidence(), "--chain", files[1], files[3], "--genuine-only") == 0


def test_not_genuine(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    case = FORGE.case()
    case.report = FORGE.report(key=p384_key("other"))
    desk.lay(case)
    for more in ([], ["--genuine-only"]):
        assert run(*desk.evidence(), *desk.chain(), *more) == 2
        assert "signature: snp.signature: expected signed by the key of SEV-VCEK" in capsys.readouterr().out
    assert run(*desk.evidence(), "--json") == 2  # without a chain too
    assert said(capsys)["refusal"] == {
        "stage": "signature",
        "code": "snp.signature",
        "expected": "signed by the key of SEV-VCEK",
        "got": "a signature that does not verify",
        "hint": None,
    }


def test_a_root_nobody_pinned(desk: Desk) -> None:
    arguments = [argument for argument in desk.evidence() if "test root" not in argument]
    arguments.remove("--simulated-root")
    assert run(*arguments, *desk.chain()) == 2


def test_collateral_missing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*desk.evidence()) == 3
    assert "hint: pass it with --chain" in capsys.readouterr().out
    assert run(*desk.evidence()[:6], "--at", "2044-01-01", *desk.evidence()[8:], *desk.chain()) == 3
    stale = FORGE.crl(start=NOW - timedelta(days=9), end=NOW - timedelta(days=8))
    (desk.folder / "crl.der").write_bytes(stale.public_bytes(Encoding.PEM))
    assert run(*desk.evidence(), *desk.chain(), "--crl", desk.path("crl.der"), "--genuine-only") == 3


def test_a_list_alone_is_wanting(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:  # evidence.md E135
    arguments = [*desk.evidence(), *desk.chain(), "--policy", desk.path("own.toml"), "--json"]
    assert run(*arguments, *desk.expectations()) == 3
    assert said(capsys)["verdict"] == "collateral-missing"
    assert run(*arguments) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.bin", b""),
        ("report.bin", bytes(1184)),
        ("vek.der", b"no certificate"),
        ("crl.der", b"no list"),
        ("own.toml", b"name = 3"),
        ("certs/Genoa/ask.der", b"no certificate"),
        ("refs.toml", b"[snp]\nmeasurement = 3"),
    ],
)
def test_malformed(desk: Desk, name: str, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (desk.folder / "refs.toml").write_text("[snp]\n")
    arguments = [
        *desk.evidence(),
        *desk.chain(),
        "--crl",
        desk.path("crl.der"),
        "--policy",
        desk.path("own.toml"),
        "--references",
        desk.path("refs.toml"),
    ]
    assert run(*arguments) == 4
    (desk.folder / name).write_bytes(content)
    capsys.readouterr()
    assert run(*arguments, "--json") == 1
    spoken = said(capsys)
    assert (spoken["verdict"], spoken["claims"]) == ("malformed", [])


@pytest.mark.parametrize(
    "more",
    [
        ["--report", "/nowhere"],
        ["--measurement", "zz"],
        ["--measurement", "11"],
        ["--policy", "/nowhere"],
        ["--simulated-root", "x"],
        ["--simulated-root", f"x:Rome:{ROOT}"],
        ["--simulated-root", f"x:Genoa:{'zz' * 32}"],
        ["--chain", "/nowhere"],
        ["--crl", "/nowhere"],
        ["--references", "/nowhere"],
    ],
)
def test_usage(desk: Desk, more: list[str]) -> None:
    assert run(*desk.evidence(), *desk.chain(), *more) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify", "snp"],
        ["verify", "snp", "--at", "noon", "--report", "x", "--vek", "y"],
        ["verify", "tpm"],
        ["policy"],
    ],
)
def test_usage_the_parser_sees(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 1
    assert "usage" in capsys.readouterr().err


def test_reference_values_from_a_document(desk: Desk) -> None:
    (desk.folder / "refs.toml").write_text(
        f'[snp]\nmeasurement = ["{"11" * 48}"]\nreport_data = ["{"22" * 64}"]\nchip_id = ["{FORGE.chip.hex()}"]\n'
    )
    arguments = [*desk.evidence(), *desk.chain(), "--crl", desk.path("crl.der"), "--policy", desk.path("own.toml")]
    assert run(*arguments) == 4
    assert run(*arguments, "--references", desk.path("refs.toml")) == 0


def test_now_is_the_default_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return NOW.astimezone(tz)

    monkeypatch.setattr(verdict, "datetime", Clock)
    arguments = desk.evidence()
    del arguments[arguments.index("--at") : arguments.index("--at") + 2]
    assert run(*arguments, *desk.chain(), "--genuine-only", "--json") == 0
    assert said(capsys)["at"] == AT


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-06-01", NOW),
        ("2026-06-01T00:00:00Z", NOW),
        ("2026-06-01T02:00:00+02:00", NOW),
        ("1780272000", NOW),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert read_time(text) == moment
    assert read_time(text).tzinfo is not None


@pytest.mark.parametrize("text", ["", "now", "-1", "9" * 30, "2026-13-01", "1e9"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(Exception, match="not a time"):
        read_time(text)


def test_a_file_is_bounded(desk: Desk) -> None:
    assert len(SNP_REPORT.read(desk.path("report.bin"), 1184)) == 1184
    (desk.folder / "report.bin").write_bytes(bytes(1185))
    with pytest.raises(FileRefused, match=r"at most 1184 bytes in .*report\.bin"):
        SNP_REPORT.read(desk.path("report.bin"), 1184)


@pytest.mark.parametrize(
    ("family", "status"),
    [
        (UsageRefused, 1),
        (FormatRefused, 1),
        (PolicyMalformed, 1),
        (ChainRefused, 2),
        (SignatureRefused, 2),
        (BindingRefused, 2),
        (Revoked, 2),
        (CollateralMissing, 3),
        (PolicyRefused, 4),
    ],
)
def test_each_stage_has_its_status(family: Any, status: int) -> None:
    refusal = family("a.b", expected="x", got="y")
    assert status_of(refusal) == status
    assert Judgement("snp", NOW, {}, None, refusal).status == status


def test_long_values_are_cut_in_the_table_and_whole_in_json() -> None:
    claim = Claim("a.b", "E1", ClaimStanding.NOT_MET, "e" * 200, "g" * 200)
    made = Judgement("snp", NOW, {"fact": "f" * 200}, Appraisal("snp", "p", (claim,)), None)
    assert f"  fact                 {'f' * 55}…" in made.as_text()
    assert f"  NOT MET  a.b  E1  {'e' * 55}…  {'g' * 55}…" in made.as_text()
    assert json.loads(made.as_json())["claims"][0]["got"] == "g" * 200
    assert made.as_text().endswith("verdict: refused (1 claims, 1 not met, 0 unchecked)")


class TestPolicy:
    def test_explain(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("policy", "explain") == 0
        assert capsys.readouterr().out.startswith("policy strict@")
        assert run("policy", "explain", desk.path("own.toml")) == 0
        assert f"simulated_roots (E140): {ROOT}" in capsys.readouterr().out

    def test_check(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("policy", "check", desk.path("own.toml")) == 0
        assert capsys.readouterr().out.startswith("own@")
        (desk.folder / "own.toml").write_text("[snp]\n")
        assert run("policy", "check", desk.path("own.toml")) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("anchorhold: policy document: policy.")
        assert desk.path("own.toml") in line
