"""What a policy says of an NVIDIA device: every claim alone left unmet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.errors import PolicyMalformed
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.claims import ClaimStanding
from attestation.verify.verified_gpu import VerifiedGpu
from measurements.reference import ReferenceValues
from tests.unit.attestation.forge_gpu import MEASUREMENTS, NONCE
from tests.unit.attestation.gpu_samples import BIOS_VERSION, DEVICE, DRIVER, MAKER, REFERENCES, VBIOS, compared, judge

TRUSTING = f'[gpu]\nsimulated_roots = ["{DEVICE.root.spki.hex()}"]\n'


def policy(text: str, base: str = "strict") -> document.Policy:
    return document.parse(f'name = "x"\nabout = "x"\nextends = "{base}"\n{text}'.encode())


def full() -> document.Policy:
    return policy(
        TRUSTING + f'devices = ["{DEVICE.identity.spki.hex()}"]\ndriver_versions = ["550.1"]\n'
        f'vbios_versions = ["{BIOS_VERSION.upper()}"]\n'
    )


def unmet(evidence: VerifiedGpu, chosen: document.Policy | None = None) -> set[str]:
    return {claim.code for claim in appraise(evidence, REFERENCES, chosen or full()).unmet}


def sound() -> VerifiedGpu:
    return compared(MAKER.manifest(DRIVER), MAKER.manifest(VBIOS, version=BIOS_VERSION))


def test_a_sound_report_meets_every_claim_but_the_one_that_needs_a_network() -> None:
    appraisal = appraise(sound(), REFERENCES, full())
    assert appraisal.accepted
    assert {c.code for c in appraisal.claims if c.standing is not ClaimStanding.MET} == {"gpu.revocation"}


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("gpu.product", {"product": "GB100"}),
        ("gpu.device", {"device_id": bytes(32)}),
        ("gpu.nonce", {"nonce": bytes(32)}),
        ("gpu.firmware-id", {"firmware_id_bound": False}),
        ("gpu.driver", {"driver_version": ""}),
        ("gpu.vbios", {"vbios_version": "1"}),
    ],
)
def test_one_change_leaves_one_claim_unmet(code: str, changes: dict[str, Any]) -> None:  # evidence-gpu.md E106 to E108
    assert unmet(replace(sound(), **changes)) == {code}


def test_manifests_are_wanted_and_heeded() -> None:  # evidence-gpu.md E109
    assert unmet(judge(DEVICE.report())) == {"gpu.rims", "gpu.measurements", "gpu.measurements.uncovered"}
    wrong = compared(MAKER.manifest({**DRIVER, 0: (bytes(48),)}), MAKER.manifest(VBIOS, version=BIOS_VERSION))
    assert unmet(wrong) == {"gpu.measurements"}
    # Even a policy that asks for no manifest heeds one that was brought.
    assert unmet(wrong, policy(TRUSTING, "platform")) == {"gpu.measurements"}
    assert not unmet(judge(DEVICE.report()), policy(TRUSTING, "platform"))
    uncovered = compared(MAKER.manifest(DRIVER), MAKER.manifest({20: (MEASUREMENTS[20],)}, version=BIOS_VERSION))
    assert unmet(uncovered) == {"gpu.measurements.uncovered"}
    known = policy(TRUSTING + f"uncovered_measurements = {list(range(21, 40))}\n")
    assert not unmet(uncovered, known)


def test_a_simulated_device_and_revocation_are_refused_unless_named() -> None:  # evidence-gpu.md E105, E107
    for name in document.builtin_names():
        assert "gpu.root" in unmet(sound(), document.builtin(name))
    assert unmet(sound(), policy(TRUSTING + 'revocation = "required"\n')) == {"gpu.revocation"}


@pytest.mark.parametrize("name", document.builtin_names())
def test_the_builtin_policies_take_one_product(name: str) -> None:  # evidence-gpu.md E106
    section = document.builtin(name).gpu
    assert section is not None
    assert section.products == {"GH100"}


@pytest.mark.parametrize(
    "line",
    [
        'simulated_roots = { unchecked = "why" }',
        'products = { unchecked = "why" }',
        'simulated_roots = ["00"]',
        f'devices = ["{"00" * 33}"]',
        f'devices = ["{"00" * 31}"]',
        f'nonce = ["{"00" * 31}"]',
        f'nonce = ["{"00" * 33}"]',
        'rims = ["firmware"]',
        "uncovered_measurements = [-1]",
        "uncovered_measurements = [256]",
        'driver_versions = [""]',
        'firmware_id = "forbidden"',
    ],
)
def test_a_field_of_another_kind_is_refused(line: str) -> None:
    with pytest.raises(PolicyMalformed):
        policy(f"[gpu]\n{line}")


def test_every_index_may_be_known() -> None:
    section = policy("[gpu]\nuncovered_measurements = [0, 255]").gpu
    assert section is not None
    assert section.uncovered_measurements == {0, 255}


def test_the_appraisal_says_what_was_expected_and_what_came() -> None:
    claims = {claim.code: claim for claim in appraise(sound(), REFERENCES, full()).claims}
    assert claims["gpu.nonce"].expected == NONCE.hex()
    assert claims["gpu.rims"].got == "driver, vbios"
    assert claims["gpu.measurements"].got == "40 as stated"
    assert claims["gpu.measurements.uncovered"].got == "none"
    assert claims["gpu.firmware-id"].got == "the same"
    assert claims["gpu.root"].expected == "NVIDIA's root, or one of 1 named simulated roots"
    assert "simulated" in claims["gpu.root"].got
    bare = {claim.code: claim for claim in appraise(judge(DEVICE.report()), ReferenceValues.none(), full()).claims}
    assert bare["gpu.nonce"].expected == "one of 0 reference values"
    assert bare["gpu.rims"].got == "none"
    assert bare["gpu.measurements"].got == "not compared"
    wrong = compared(MAKER.manifest({0: [bytes(48)], 1: [MEASUREMENTS[1]]}))
    told = {claim.code: claim for claim in appraise(wrong, REFERENCES, full()).claims}
    assert told["gpu.measurements"].got == "1 as stated, different at 0"
    assert not told["gpu.measurements"].collateral
    assert told["gpu.rims"].collateral


def test_only_missing_manifests_could_still_be_brought() -> None:
    without = policy(TRUSTING + 'uncovered_measurements = { unchecked = "why" }\nrevocation = "required"')
    assert appraise(sound(), REFERENCES, without).wants_only_collateral
