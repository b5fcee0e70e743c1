"""Published SNP evidence judged as its index says: which stage refuses it, or that nothing does."""

from __future__ import annotations

import base64
import functools
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import EvidenceRefused, FormatRefused
from attestation.evidence.certificates import read_certificate
from attestation.evidence.snp_report import Product, SnpReport
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.claims import Appraisal
from attestation.verify.pins import AMD_ROOTS
from attestation.verify.snp import SnpCollateral, SnpEvidence, verify_snp
from attestation.verify.verified import Revocation, VerifiedSnp
from measurements.reference import ReferenceValues

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "attestation"
INDEX: list[dict[str, Any]] = (
    json.loads((VECTORS / "index.json").read_bytes()) if (VECTORS / "index.json").exists() else []
)
pytestmark = pytest.mark.skipif(not INDEX, reason="needs ../shared/vectors/attestation")

# The index's words for a stage, and ours.
STAGES = {
    "format": {"format"},
    "format-strict": {"format"},
    "signature": {"signature"},
    "chain": {"chain"},
    "signature/product": {"signature", "binding"},
}

# Milan has no place in a policy of ours; to compare with the index, this one lets it in at the fixed levels.
# The lists published with the vectors have run out before most certificates begin, so they are left out.
ANY_PRODUCT = b"""
name = "any product"
about = "published machines of every product, at levels of the same dates"
extends = "platform"

[snp]
products = ["Milan", "Genoa", "Turin"]
keys = ["VCEK", "VLEK"]
csp_ids = ["CN=cc-eu-west-1.amazonaws.com"]
masked_chip_id = "accept"
crl = { unchecked = "no list in force is published with this evidence" }
vmpl = [0, 1]

[snp.minimum_tcb]
"Milan 25/1/1" = { bootloader = 4, tee = 0, snp = 24, microcode = 217 }
"Genoa 25/17/1" = { bootloader = 9, tee = 0, snp = 23, microcode = 72 }
"Genoa 25/160/2" = { bootloader = 10, tee = 0, snp = 23, microcode = 25 }
"Turin 26/2/1" = { fmc = 0, bootloader = 1, tee = 0, snp = 2, microcode = 71 }

[snp.minimum_firmware]
Milan = "1.55.22"
Genoa = "1.55.38"
Turin = "1.55.61"
"""


def of_kind(*kinds: str) -> list[Any]:
    found = [item for item in INDEX if item["kind"] in kinds]
    return [pytest.param(item, id=item["file"]) for item in found]


@functools.cache
def collateral() -> SnpCollateral:
    files = sorted((VECTORS / "endorsements" / "amd").glob("*/a*.der"))
    return SnpCollateral.parse([path.read_bytes() for path in files])


def verified(item: dict[str, Any]) -> VerifiedSnp:
    evidence = SnpEvidence.parse((VECTORS / item["file"]).read_bytes(), (VECTORS / item["vek"]).read_bytes())
    at = evidence.vek.not_valid_before_utc + timedelta(days=30)
    return verify_snp(evidence, collateral(), at=at)


def appraised(evidence: VerifiedSnp, policy: document.Policy) -> Appraisal:
    return appraise(evidence, ReferenceValues.none(), policy)


@pytest.mark.parametrize("item", of_kind("snp-report"))
class TestPublished:
    def test_it_is_genuine(self, item: dict[str, Any]) -> None:
        assert item["expect"]["signature_chain"] == "valid"
        evidence = verified(item)
        assert (evidence.product.value, evidence.key.name) == (item["product"], item["vek_kind"])
        assert evidence.root == AMD_ROOTS[evidence.root.spki_sha256].anchor
        assert not evidence.root.simulated

    def test_its_fields_are_those_of_the_index(self, item: dict[str, Any]) -> None:
        evidence = verified(item)
        for name in ("version", "vmpl", "guest_svn"):
            assert getattr(evidence, name) == item[name]
        for name in ("measurement", "report_data", "host_data"):
            assert getattr(evidence, name).hex() == item[name]
        assert (evidence.policy.raw, evidence.platform.raw) == (int(item["policy"], 16), int(item["platform_info"], 16))
        assert evidence.policy.debug is item["debug"]
        assert evidence.csp_id == item["csp_id"]
        assert str(evidence.current_firmware) == item["current"]
        assert str(evidence.committed_firmware) == item["committed"]
        assert (evidence.launch_mitigations or 0) == int(item["launch_mit_vector"], 16)
        assert (evidence.current_mitigations or 0) == int(item["current_mit_vector"], 16)
        expected = item["chip_id"] if any(bytes.fromhex(item["chip_id"])) else None
        assert (evidence.chip_id and evidence.chip_id.hex().ljust(128, "0")) == expected

    def test_the_strict_default_takes_none_of_it(self, item: dict[str, Any]) -> None:
        appraisal = appraised(verified(item), document.builtin("strict"))
        assert not appraisal.accepted
        assert not appraisal.wants_only_collateral

    def test_a_policy_for_such_machines_takes_what_the_index_takes(self, item: dict[str, Any]) -> None:
        appraisal = appraised(verified(item), document.parse(ANY_PRODUCT))
        unmet = {claim.code for claim in appraisal.unmet}
        if item["expect"]["policy_default"] == "reject":
            assert {"snp.version", "snp.platform.alias-check"} <= unmet
            assert item["expect"]["reasons"] == ["report version 2", "ALIAS_CHECK_COMPLETE=0"]
        else:
            assert unmet == set()

    def test_a_year_with_no_certificate_gives_no_verdict(self, item: dict[str, Any]) -> None:  # evidence.md E25
        evidence = SnpEvidence.parse((VECTORS / item["file"]).read_bytes(), (VECTORS / item["vek"]).read_bytes())
        with pytest.raises(EvidenceRefused) as caught:
            verify_snp(evidence, collateral(), at=datetime(2044, 1, 1, tzinfo=UTC))
        assert (caught.value.stage, caught.value.code) == ("collateral", "chain.validity")


@pytest.mark.parametrize("item", of_kind("snp-report-negative"))
def test_a_changed_one_is_refused_at_its_stage(item: dict[str, Any]) -> None:
    expect = item["expect"]
    if expect["result"] == "accept-with-care":  # evidence.md E43
        source = next(other for other in INDEX if other["file"] == f"{item['derived_from']}/report.bin")
        assert verified(item) == verified(source)
        return
    assert expect["result"] == "reject"
    with pytest.raises(EvidenceRefused) as caught:
        verified(item)
    assert caught.value.stage in STAGES[expect["layer"]], caught.value


@pytest.mark.parametrize("item", of_kind("snp-report-no-vek"))
def test_reports_without_a_certificate_are_read(item: dict[str, Any]) -> None:  # evidence.md E2
    raw = (VECTORS / item["file"]).read_bytes()
    if item["version"] == 1:
        with pytest.raises(FormatRefused, match=r"snp\.report\.version"):
            SnpReport.parse(raw)
        return
    report = SnpReport.parse(raw)
    assert (report.version, report.measurement.hex()) == (item["version"], item["measurement"])


class TestLists:
    """The published revocation lists. evidence.md E30, E34, E35."""

    @staticmethod
    def judged(name: str, at: datetime, crl: str) -> VerifiedSnp:
        folder = VECTORS / "snp" / name
        evidence = SnpEvidence.parse((folder / "report.bin").read_bytes(), (folder / "vek.der").read_bytes())
        lists = SnpCollateral.parse([], [(VECTORS / "endorsements" / "amd" / crl).read_bytes()]).lists
        return verify_snp(evidence, SnpCollateral(collateral().certificates, lists), at=at)

    def test_a_list_in_force(self) -> None:
        evidence = self.judged("milan-v3-vcek-05b7438a", datetime(2025, 9, 1, tzinfo=UTC), "Milan/crl_2025-05-06.der")
        assert (evidence.revocation, evidence.revocation_until) == (Revocation.FRESH, datetime(2026, 5, 12, tzinfo=UTC))

    def test_genoas_list_names_an_older_intermediate_only(self) -> None:
        at = datetime(2025, 9, 1, tzinfo=UTC)
        evidence = self.judged("genoa-v3-vcek-8d8bfb3e", at, "Genoa/crl_2024-10-23.der")
        assert evidence.revocation is Revocation.FRESH

    def test_a_list_that_ran_out(self) -> None:
        with pytest.raises(EvidenceRefused, match=r"crl\.stale"):
            self.judged("milan-v3-vcek-05b7438a", datetime(2026, 6, 1, tzinfo=UTC), "Milan/crl_2025-05-06.der")

    def test_a_list_of_another_product(self) -> None:
        at = datetime(2025, 9, 1, tzinfo=UTC)
        evidence = self.judged("genoa-v3-vcek-8d8bfb3e", at, "Milan/crl_2025-05-06.der")
        assert evidence.revocation is Revocation.UNKNOWN


CODES = {
    "211-truncated-report": "snp.report.size",
    "221-signed-region-measurement-tampered": "snp.signature",
    "231-vcek-signature-tampered": "chain.signature",
    # Certificates called ARK-Genoa that AMD never made: refused for their key before anything else is read.
    "601-synth-reserved-mbo-cleared": "chain.root",
    "603-synth-migrate-ma-set": "chain.root",
    "700-vcek-hwid-mismatch": "chain.root",
    "702-vcek-ucode-spl-mismatch": "chain.root",
}
UNMET = {
    "400-measurement-pin-mismatch": "snp.measurement",
    "420-report-data-pin-mismatch": "snp.report-data",
    "440-author-key-digest-pin-mismatch": "snp.author-key",
    "451-tcb-ucode-spl-below-min": "snp.tcb.reported",
}
PINS = {
    "expected_measurement_hex": "measurement",
    "expected_report_data_hex": "report_data",
    "expected_author_key_digest_hex": "author_key_digest",
    "expected_host_data_hex": "host_data",
}


@pytest.mark.parametrize("item", of_kind("tinfoil-conformance-sev"))
def test_conformance_cases(item: dict[str, Any]) -> None:  # evidence.md E20
    name = Path(item["file"]).parent.name
    case = json.loads((VECTORS / item["file"]).read_bytes())
    raw = gzip.decompress(base64.b64decode(case["attestation_doc_b64"]))
    given = [case[key].encode() for key in ("ask_pem", "amd_root_ca_pem") if key in case]
    at = datetime.fromtimestamp(case["expiration_check_date_unix"], UTC)
    vek = base64.b64decode(case["vcek_der_b64"])
    certificates = SnpCollateral.parse(given) if given else collateral()
    if name in CODES:
        assert item["expect"]["accepted"] is False
        with pytest.raises(EvidenceRefused) as caught:
            verify_snp(SnpEvidence.parse(raw, vek), certificates, at=at)
        assert caught.value.code == CODES[name]
        return
    evidence = verify_snp(SnpEvidence.parse(raw, vek), certificates, at=at)
    appraisal = appraised(evidence, document.parse(_pinned(case.get("policy", {}))))
    assert appraisal.accepted is item["expect"]["accepted"]
    assert [claim.code for claim in appraisal.unmet] == ([UNMET[name]] if name in UNMET else [])


def _pinned(policy: dict[str, Any]) -> bytes:
    fields = "".join(f'{PINS[key]} = ["{value}"]\n' for key, value in policy.items() if key in PINS)
    floor = policy.get("min_tcb_ucode_spl", 84)
    rows = f'"Genoa *" = {{ bootloader = 10, tee = 0, snp = 23, microcode = {floor} }}'
    return f"""
name = "pins"
about = "a case of the conformance suite"
extends = "platform"
[snp]
crl = {{ unchecked = "not part of the case" }}
launch_tcb = {{ unchecked = "not part of the case" }}
{fields}
[snp.minimum_tcb]
{rows}
""".encode()


def test_the_certificates_of_the_vectors_are_under_the_pins() -> None:
    folder = VECTORS / "endorsements" / "amd"
    for product in Product:
        root = read_certificate((folder / product.value / "ark.der").read_bytes())
        assert root.subject == root.issuer
