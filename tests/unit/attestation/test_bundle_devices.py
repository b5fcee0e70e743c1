"""Devices in a bundle: each answers the challenge, none can be added, left out, exchanged or shown twice.

The device is one under a root of the test's own; that root stands in for NVIDIA's, and nothing else does.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from attestation.errors import BindingRefused, ChainRefused, EvidenceRefused
from attestation.evidence.evidence_bundle import DeviceEvidence, EvidenceBundle
from attestation.policy.bundle_appraisal import appraise_bundle
from attestation.policy.document import parse
from attestation.report_data import identity_device_nonce, release_device_nonce
from attestation.tee.produce import identity, release
from attestation.verify import evidence_bundle as module
from attestation.verify.evidence_bundle import verify_bundle
from attestation.verify.evidence_chains import bundle_chains
from attestation.verify.gpu import verify_gpu_with_root_ca
from attestation.verify.openssl_opinion import require_openssl
from attestation.verify.verified_bundle import VerifiedBundle
from devnet.tee import policy_document, reference_values
from tests.little_tee import AT, CONFIG, KEYSET, NONCE, snp_platform, snp_tee
from tests.unit.attestation.forge_gpu import Device

DEVICE = Device()
OTHER = Device(DEVICE.root)
CHALLENGE = base64.b64encode(NONCE).decode()
KEY = {"kty": "EC", "x": "AAAA"}
DEVICE_NONCE = identity_device_nonce(NONCE, KEYSET.digest)
ARK = Path(__file__).resolve().parents[4] / "shared/vectors/attestation/endorsements/amd/Genoa/ark.der"


@pytest.fixture
def our_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "verify_gpu", partial(verify_gpu_with_root_ca, root_spki=DEVICE.root.spki))


def shown(device: Device, nonce: bytes = DEVICE_NONCE) -> DeviceEvidence:
    return DeviceEvidence(device.report(nonce=nonce), device.chain())


def bundle_with(*devices: DeviceEvidence) -> EvidenceBundle:
    return identity(snp_tee(), NONCE, KEYSET, CONFIG, devices=devices)


def verify(bundle: EvidenceBundle) -> VerifiedBundle:
    return verify_bundle(bundle, at=AT, nonce=NONCE, simulated_root=snp_platform().ark.der)


def refusal(bundle: EvidenceBundle) -> EvidenceRefused:
    with pytest.raises(EvidenceRefused) as caught:
        verify(bundle)
    return caught.value


def test_two_devices_of_one_challenge(our_root: None):
    verified = verify(bundle_with(shown(DEVICE), shown(OTHER)))
    assert [device.nonce for device in verified.devices] == [DEVICE_NONCE, DEVICE_NONCE]
    assert verified.device_nonce == DEVICE_NONCE


def test_openssl_is_asked_about_every_chain_of_a_bundle(our_root: None):  # evidence.md E183
    bundle = bundle_with(shown(DEVICE), shown(OTHER))
    opinions = require_openssl(bundle_chains(bundle, verify(bundle)), AT)
    assert [(opinion.name, opinion.refused) for opinion in opinions] == [("VCEK", ""), ("GPU 0", ""), ("GPU 1", "")]


def test_devices_of_a_release(our_root: None):
    nonce = release_device_nonce(CHALLENGE, KEY)
    bundle = release(snp_tee(), CHALLENGE, KEY, KEYSET, measured_config=CONFIG, devices=(shown(DEVICE, nonce),))
    assert verify(bundle).device_nonce == nonce
    stale = release(snp_tee(), CHALLENGE, KEY, KEYSET, measured_config=CONFIG, devices=(shown(DEVICE),))
    assert refusal(stale).code == "bundle.device-nonce"


def test_a_device_that_answered_something_else(our_root: None):
    assert refusal(bundle_with(shown(DEVICE, bytes(32)))).code == "bundle.device-nonce"
    assert refusal(bundle_with(shown(OTHER), shown(DEVICE, NONCE))).code == "bundle.device-nonce"


def test_a_device_shown_twice(our_root: None):
    assert refusal(bundle_with(shown(DEVICE), shown(DEVICE))).code == "bundle.device-twice"


@pytest.mark.parametrize("devices", [(), (DEVICE, OTHER), (OTHER,)], ids=["left out", "added", "exchanged"])
def test_devices_are_those_the_cell_showed(our_root: None, devices: tuple[Device, ...]):
    bundle = bundle_with(shown(DEVICE))
    refused = refusal(replace(bundle, devices=tuple(shown(device) for device in devices)))
    assert isinstance(refused, BindingRefused)
    assert refused.code == "bundle.report-data"


def test_no_device_under_another_root():
    assert isinstance(refusal(bundle_with(shown(DEVICE))), ChainRefused)


def test_a_policy_without_a_word_on_devices_refuses_one(our_root: None):
    verified = verify(bundle_with(shown(DEVICE)))
    policy = parse(policy_document(snp_tee()))
    unmet = [claim.code for claim in appraise_bundle(verified, reference_values(snp_tee()), policy, nonce=NONCE).unmet]
    assert "gpu.root" in unmet
    assert not [code for code in unmet if not code.startswith("gpu.")]


def test_amds_root_is_not_to_be_had_as_a_simulated_one():
    if not ARK.exists():
        pytest.skip("the attestation vectors are not beside this checkout")
    with pytest.raises(ChainRefused) as caught:
        verify_bundle(bundle_with(), at=AT, simulated_root=ARK.read_bytes())
    assert caught.value.code == "bundle.simulated-root"
