"""Published reports and manifests of real devices."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from attestation.errors import EvidenceRefused
from attestation.evidence.gpu_report import GpuReport
from attestation.evidence.gpu_rim import GpuRim
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.verify.gpu import compare_with_rims, verify_gpu
from attestation.verify.gpu_rim import verify_rim
from tests.unit.attestation import published
from tests.unit.attestation.gpu_samples import REFERENCES
from tests.unit.attestation.published import named, of_kind

AT = datetime(2026, 1, 1, tzinfo=UTC)


@published.NEEDED
@pytest.mark.parametrize("entry", of_kind("nvidia-report"), ids=named)
def test_a_real_report_is_genuine(entry: dict[str, Any]) -> None:  # evidence-gpu.md E98, E99, E101
    verified = verify_gpu(GpuReport.parse(published.read(entry["file"])), published.read(entry["chain"]), at=AT)
    assert not verified.root.simulated
    assert verified.nonce.hex() == entry["request_nonce"]
    assert len(verified.measurements) == entry["n_measurement_blocks"]
    assert entry["device"].startswith(verified.product)
    accepted = appraise(verified, REFERENCES, document.builtin("platform")).accepted
    assert accepted == (verified.product == "GH100" and verified.firmware_id_bound)


@published.NEEDED
@pytest.mark.parametrize("entry", of_kind("nvidia-report-negative"), ids=named)
def test_a_spoiled_report_is_refused(entry: dict[str, Any]) -> None:  # evidence-gpu.md E100
    chains = [entry["chain"]] if "chain" in entry else sorted({e["chain"] for e in of_kind("nvidia-report")})
    report = GpuReport.parse(published.read(entry["file"]))
    for chain in chains:
        with pytest.raises(EvidenceRefused) as refused:
            verify_gpu(report, published.read(chain), at=AT)
        assert refused.value.stage == "signature"


@published.NEEDED
def test_a_real_manifest_is_nvidias_and_a_spoiled_one_is_not() -> None:  # evidence-gpu.md E103
    folder = published.FOLDER / "endorsements" / "nvidia" / "rim"
    inside = {"NV_GPU_DRIVER_GH100_550.144.03.xml": AT}
    for path in sorted(folder.iterdir()):
        at = inside.get(path.name, datetime(2024, 1, 1, tzinfo=UTC))
        assert verify_rim(GpuRim.parse(path.read_bytes()), at=at).product == "GH100"
    spoiled = of_kind("nvidia-rim-negative")[0]["file"]
    with pytest.raises(EvidenceRefused) as refused:
        verify_rim(GpuRim.parse(published.read(spoiled)), at=AT)
    assert refused.value.stage == "signature"


@published.NEEDED
@pytest.mark.parametrize(
    ("device", "manifest", "at", "matched"),
    [
        ("gh100-f628fc43", "NV_GPU_DRIVER_GH100_550.144.03.xml", AT, 20),
        ("gh100-30cddcd0", "1010_0200_882_96005E0001_PROD.swidtag", datetime(2024, 1, 1, tzinfo=UTC), 12),
    ],
)
def test_a_real_report_measures_what_its_real_manifest_states(
    device: str, manifest: str, at: datetime, matched: int
) -> None:  # evidence-gpu.md E104
    report = GpuReport.parse(published.read(f"gpu/{device}/report.bin"))
    verified = verify_gpu(report, published.read(f"gpu/{device}/chain.pem"), at=at)
    stated = verify_rim(GpuRim.parse(published.read(f"endorsements/nvidia/rim/{manifest}")), at=at)
    found = compare_with_rims(verified, [stated], report).rims
    assert found is not None
    assert (len(found.matched), found.differing) == (matched, frozenset())
