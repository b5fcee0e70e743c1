"""What is written for a cell is what the cell's own reader reads back."""

from __future__ import annotations

import tomllib

import pytest

from anchorhold.owner.measured_configuration import Resources, Served, broker_section, configuration
from appliance.config import ConfigRefused, MeasuredConfig
from attestation.broker.administration import purpose_of
from attestation.consensus.roots import MAINNET_ROOT_KEY
from attestation.rcar.grant import GrantPurpose
from attestation.receipts.price import FREE, PriceSchedule
from devnet.subnet import GATEWAY
from measurements.pack.identity import Identity

BROKER, PROFILE = b"\xb0" * 32, b"\x0f" * 32
IDENTITY = Identity("mine-1", "llama", "none", 9, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, b"\x05" * 32)
PRICE = PriceSchedule(request=1, token_in=2, token_out=3)


def written(served: Served) -> bytes:
    resources = Resources.of(IDENTITY.name)
    return configuration(served, profile=PROFILE, identity=IDENTITY, broker_key=BROKER, resources=resources)


@pytest.mark.parametrize("plaintext", [True, False])
@pytest.mark.parametrize("price", [FREE, PRICE])
@pytest.mark.parametrize("engine", ["fixed-1", "torch-1", "vllm-1"])
def test_every_value_is_read_back(plaintext: bool, price: PriceSchedule, engine: str) -> None:
    read = MeasuredConfig.parse(written(Served(GATEWAY, MAINNET_ROOT_KEY, engine, plaintext, price)))
    assert (read.gateway, read.root_key, read.engine) == (GATEWAY, MAINNET_ROOT_KEY, engine)
    assert (read.plaintext, read.price, read.profile) == (plaintext, price, PROFILE)
    assert read.names == {"mine-1"}
    assert read.release is not None
    assert read.model is not None
    assert (read.release.broker, read.release.model_root) == (BROKER, IDENTITY.model_root)
    assert (read.release.resource, read.release.service) == ("default/model-key/mine-1", "default/service-key/mine-1")
    assert (read.model.tokenizer, read.model.template) == (IDENTITY.tokenizer, IDENTITY.template)


def test_what_no_cell_starts_with_is_not_written() -> None:
    with pytest.raises(ConfigRefused):
        written(Served(GATEWAY, MAINNET_ROOT_KEY, "scripted-1"))


@pytest.mark.parametrize("name", ["mine-1", "Llama-3.1:8B", "org/Model_7b", "..x", "+++", "a" * 96])
def test_names_of_keys_are_such_as_a_broker_has(name: str) -> None:
    resources = Resources.of(name)
    assert purpose_of(resources.model) is GrantPurpose.MODEL
    assert purpose_of(resources.service) is GrantPurpose.SERVICE


def test_the_broker_is_told_of_the_same_digest() -> None:
    assert tomllib.loads(broker_section(b"\x0c" * 32, b"\x0d" * 32)) == {
        "release": {"measured_config": "0c" * 32, "model_root": "0d" * 32}
    }
