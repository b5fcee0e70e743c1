"""The card of a model without one: all of it but name and licence stands in the model's own files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anchorhold.owner.errors import OwnerRefused
from anchorhold.owner.model_card import card_of, quantization_of, sampling_of
from appliance.engine.fixed.architecture import Format, Quantization
from appliance.models import describe
from devnet import little_model
from measurements.pack.card import Claims
from measurements.pack.errors import PackMalformed

LITTLE = describe((little_model.folder() / "config.json").read_bytes())


def test_a_card_is_what_the_files_say() -> None:
    said = Claims.parse(
        card_of(LITTLE, b'{"temperature": 0.7, "top_p": 0.95, "top_k": 40}', name="mine", licence="MIT")
    )
    assert (said.name, said.family, said.license, said.quantization) == ("mine", "llama", "MIT", "none")
    assert said.sampling == {"temperature_micro": 700_000, "top_p_micro": 950_000, "top_k": 40}


def test_a_card_that_was_written_by_hand_says_the_same() -> None:
    by_hand = Claims.parse((little_model.folder() / "card.json").read_bytes())
    generation = b'{"do_sample": false, "temperature": 0.7}'
    assert Claims.parse(card_of(LITTLE, generation, name=by_hand.name, licence=by_hand.license)) == by_hand


def test_the_format_of_the_weights_is_named() -> None:
    assert quantization_of(Quantization(Format.INT4, 64)) == "int4-g64"
    quantized = replace(LITTLE, architecture=replace(LITTLE.architecture, quantization=Quantization(Format.INT8, 32)))
    assert json.loads(card_of(quantized, None, name="mine", licence="MIT"))["quantization"] == "int8-g32"


def test_what_a_file_leaves_out_stays_out() -> None:
    assert sampling_of(b"{}") == {}
    assert json.loads(card_of(LITTLE, None, name="mine", licence="MIT"))["sampling"] == {}


@pytest.mark.parametrize(
    "generation", [b'{"temperature": "hot"}', b'{"top_p": true}', b'{"top_k": 1.5}', b'{"top_k": -1}', b"[]", b"\xff"]
)
def test_sampling_that_is_none_is_refused(generation: bytes) -> None:
    with pytest.raises(OwnerRefused):
        sampling_of(generation)


@pytest.mark.parametrize(("name", "licence"), [("two words", "MIT"), ('"', "MIT"), ("m" * 200, "MIT"), ("mine", "")])
def test_a_name_that_no_request_can_give_is_refused(name: str, licence: str) -> None:
    with pytest.raises((OwnerRefused, PackMalformed)):
        card_of(LITTLE, None, name=name, licence=licence)
