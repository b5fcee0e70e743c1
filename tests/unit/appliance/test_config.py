"""The measured configuration: three fields and what may be added, or a refusal that names what is wrong."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from appliance.config import CONFIG_BYTES_MAX, ConfigRefused, MeasuredConfig
from appliance.engine.scripted import ScriptedEngine
from appliance.main import runtime_starter
from attestation.auditor.measured import Measured
from attestation.consensus.principal import to_text
from attestation.receipts.price import FREE, PriceSchedule
from devnet.subnet import GATEWAY, Subnet
from foundation.refusal import Refused

ROOT_KEY = Subnet(b"config").root_key
GOOD = f'gateway = "{to_text(GATEWAY)}"\nroot_key = "{ROOT_KEY.hex()}"\nengine = "scripted-1"\n'


def test_a_good_one() -> None:
    assert MeasuredConfig.parse(GOOD.encode()) == MeasuredConfig(GATEWAY, ROOT_KEY, "scripted-1")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "fields"),
        (GOOD + 'extra = "1"\n', "fields"),
        ("\n".join(GOOD.splitlines()[:2]), "fields"),
        (GOOD + "[more]\n", "fields"),
        (GOOD.replace('"scripted-1"', "1"), "engine"),
        (GOOD.replace('"scripted-1"', '["scripted-1"]'), "engine"),
        (GOOD + GOOD, "toml"),
        ("gateway = ", "toml"),
        (GOOD.replace(to_text(GATEWAY), to_text(GATEWAY).upper()), "principal.text"),
        (GOOD.replace(to_text(GATEWAY), ""), "principal.text"),
        (GOOD.replace(to_text(GATEWAY), "aaaab-aa"), "principal.checksum"),
        (GOOD.replace(ROOT_KEY.hex(), "xyz"), "root_key"),
        (GOOD.replace(ROOT_KEY.hex(), "00" * 96), "key.point"),
        (GOOD.replace(ROOT_KEY.hex(), ""), "key.der"),
        ("#" * CONFIG_BYTES_MAX + "\n" + GOOD, "size"),
    ],
)
def test_what_is_refused_is_named(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        MeasuredConfig.parse(text.encode())
    assert refused.value.code == code


def test_not_utf8() -> None:
    with pytest.raises(ConfigRefused) as refused:
        MeasuredConfig.parse(b"\xff" + GOOD.encode())
    assert refused.value.code == "toml"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_configuration_or_refused(raw: bytes) -> None:
    try:
        config = MeasuredConfig.parse(raw)
    except Refused:
        return
    assert config.engine


@given(st.sampled_from(["gateway", "root_key", "engine"]), st.text(max_size=40))
def test_any_text_in_a_field_is_taken_or_refused(field: str, text: str) -> None:
    fields = {"gateway": to_text(GATEWAY), "root_key": ROOT_KEY.hex(), "engine": "scripted-1", field: text}
    escaped = {name: "".join(f"\\U{ord(letter):08x}" for letter in value) for name, value in fields.items()}
    raw = "".join(f'{name} = "{value}"\n' for name, value in escaped.items()).encode()
    try:
        config = MeasuredConfig.parse(raw)
    except Refused:
        return
    assert getattr(config, field) in {text, GATEWAY, ROOT_KEY}


def test_an_engine_is_chosen_by_its_id_alone() -> None:
    config = MeasuredConfig.parse(GOOD.encode())
    assert isinstance(runtime_starter(config)(None).engine, ScriptedEngine)
    for other in ("", "scripted", "scripted-2", "SCRIPTED-1", "fixed", "fixed-2", "FIXED-1"):
        with pytest.raises(ConfigRefused) as refused:
            runtime_starter(replace(config, engine=other))
        assert refused.value.code == "engine"


def test_an_engine_with_a_model_has_a_profile_and_one_without_has_none() -> None:
    # profile.md F5
    digest = bytes(range(32))
    named = f'engine = "fixed-1"\nprofile = "{digest.hex()}"'
    with_model = MeasuredConfig.parse((GOOD.replace('engine = "scripted-1"', named) + RELEASE).encode())
    assert with_model.profile == digest
    for engine in ("fixed-1", "torch-1", "vllm-1"):
        runtime_starter(replace(with_model, engine=engine))
    for wrong in (
        replace(with_model, profile=None),
        replace(with_model, release=None),
        replace(with_model, engine="scripted-1"),
    ):
        with pytest.raises(ConfigRefused) as refused:
            runtime_starter(wrong)
        assert refused.value.code == "profile"
    for text in ('profile = "00"', "profile = 1", 'profile = "zz"'):
        with pytest.raises(ConfigRefused) as refused:
            MeasuredConfig.parse(GOOD.replace('engine = "scripted-1"', f'engine = "fixed-1"\n{text}').encode())
        assert refused.value.code == "profile"


@pytest.mark.parametrize(
    ("engine", "more", "code"),
    [
        ("fixed-1", "", "profile"),
        ("fixed-1", "release", "profile"),
        ("fixed-1", "profile", "profile"),
        ("scripted-1", "profile", "profile"),
        ("scripted-2", "", "engine"),
        ("", "", "engine"),
    ],
)
def test_a_configuration_whose_engine_would_not_start_is_none(engine: str, more: str, code: str) -> None:
    """image.md I22: what builds and checks an image judges a configuration as the cell does, by `parse` alone."""
    added = {"": "", "profile": f'profile = "{"07" * 32}"\n', "release": RELEASE}[more]
    with pytest.raises(ConfigRefused) as refused:
        MeasuredConfig.parse(GOOD.replace("scripted-1", engine).encode() + added.encode())
    assert refused.value.code == code


def test_missing_and_unknown_fields_are_named_beside_all_that_there_are() -> None:
    with pytest.raises(ConfigRefused) as refused:
        MeasuredConfig.parse(GOOD.replace("gateway", "gatevay").encode())
    assert refused.value.expected == (
        "gateway, root_key, engine (optional: models, plaintext, price, profile, release)"
    )
    assert refused.value.got == "no gateway, unknown 'gatevay'"
    with pytest.raises(ConfigRefused) as refused:
        MeasuredConfig.parse((GOOD + "[release]\nmodel_root = 1\nkey = 1\n").encode())
    assert refused.value.expected == "broker_key, resource, model_root (optional: model, service)"
    assert refused.value.got == "no broker_key, no resource, unknown 'key'"


def test_lists_without_end_are_refused() -> None:
    with pytest.raises(ConfigRefused) as refused:
        MeasuredConfig.parse(b"a = " + b"[" * 20000)
    assert refused.value.code == "toml"


RELEASE = f'''[release]
broker_key = "{"00" * 32}"
resource = "default/model-key/little"
model_root = "{"30" * 32}"
'''
SERVICE = 'service = "default/service-key/little"\n'


@pytest.mark.parametrize(
    ("text", "plaintext", "service"),
    [
        (GOOD, True, False),
        (GOOD + "plaintext = false\n", False, False),
        (GOOD + RELEASE, True, False),
        (GOOD + RELEASE + SERVICE, False, True),
        (GOOD + "plaintext = true\n" + RELEASE + SERVICE, True, True),
        (GOOD + "plaintext = false\n" + RELEASE + SERVICE, False, True),
    ],
)
def test_a_cell_that_can_be_sealed_to_runs_nothing_else_unless_it_says_so(
    text: str, plaintext: bool, service: bool
) -> None:
    """answer.md A2"""
    config = MeasuredConfig.parse(text.encode())
    assert config.plaintext is plaintext
    assert (config.release is not None and config.release.service is not None) is service


def test_a_price() -> None:
    """receipt.md T16"""
    prices = "[price]\nrequest = 5\ntoken_in = 7\ntoken_out = 9\n"
    assert MeasuredConfig.parse((GOOD + prices).encode()).price == PriceSchedule(5, 7, 9)
    assert MeasuredConfig.parse(GOOD.encode()).price == FREE


NAMED = RELEASE + '[release.model]\nname = "tiny"\n'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (GOOD, {"scripted-1"}),
        (GOOD + '[models]\ndefault = "scripted-1"\n', {"scripted-1", "default"}),
        (GOOD + RELEASE, {"scripted-1"}),
        (GOOD + NAMED, {"tiny"}),
        (
            GOOD + NAMED + '[models]\n"llama3.1:8b" = "tiny"\n"qwen3:32b" = "tiny"\n',
            {"tiny", "llama3.1:8b", "qwen3:32b"},
        ),
    ],
)
def test_what_a_request_may_call_the_model_by(text: str, names: set[str]) -> None:
    """answer.md A25; the auditor reads the same, audit.md U23"""
    assert MeasuredConfig.parse(text.encode()).names == names
    assert Measured.parse(text.encode()).names == names


@pytest.mark.parametrize(
    "table",
    [
        "models = 1\n",
        "[models]\n",
        'models = ["default"]\n',
        '[models]\ndefault = "tiny-2"\n',
        "[models]\ndefault = 1\n",
        '[models]\ntiny = "tiny"\n',
        '[models]\n"" = "tiny"\n',
        '[models]\n"two words" = "tiny"\n',
        '[models]\n"é" = "tiny"\n',
        f'[models]\n{"m" * 129} = "tiny"\n',
        '[models]\na.b = "tiny"\n',
        '[models]\na = "b"\nb = "tiny"\n',
        "[models]\n" + "".join(f'm{n} = "tiny"\n' for n in range(65)),
    ],
)
def test_a_table_of_names_is_read_strictly(table: str) -> None:
    """answer.md A25"""
    text = table + GOOD + NAMED if table.startswith("models") else GOOD + NAMED + table
    with pytest.raises(ConfigRefused) as refused:
        MeasuredConfig.parse(text.encode())
    assert refused.value.code == "models"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD + 'plaintext = "yes"\n', "plaintext"),
        (GOOD + "plaintext = 1\n", "plaintext"),
        (GOOD + "price = 1\n", "price"),
        (GOOD + "[price]\nrequest = 1\n", "price.fields"),
        (GOOD + "[price]\nrequest = 1\ntoken_in = 1\ntoken_out = -1\n", "price.token_out"),
        (GOOD + "[price]\nrequest = 1\ntoken_in = 1\ntoken_out = true\n", "price.fields"),
        (GOOD + RELEASE + 'service = "default/model-key/little"\n', "release.service"),
        (GOOD + RELEASE + 'service = "service-key"\n', "release.service"),
        (GOOD + RELEASE + "service = 1\n", "release"),
        (GOOD + RELEASE.replace("model-key", "service-key"), "release.resource"),
    ],
)
def test_what_may_be_added_is_held_to_its_shape(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        MeasuredConfig.parse(text.encode())
    assert refused.value.code == code
