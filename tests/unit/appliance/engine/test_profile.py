"""The engine profile (profile.md): every field that is stated is compared, every golden prompt is run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.engine import observe
from appliance.engine.golden import Golden, GoldenMissed, prove, questions, record
from appliance.engine.observe import Traits
from appliance.engine.profile import (
    BYTES_MAX,
    GOLDEN_MAX,
    Machine,
    Profile,
    ProfileDrift,
    ProfileRefused,
    Settings,
    differences,
    digest_of,
    encode,
    refuse_drift,
)
from appliance.engine.protocol import MICRO, EngineRequest, Sampling, Step
from appliance.engine.scripted import ScriptedEngine
from foundation.digests import tagged_sha256
from tests.elsewhere import brought

D = "ab" * 32
MACHINE = Machine(
    device="cpu",
    isa="avx2",
    threads=2,
    binding="0-1",
    environment={"OMP_NUM_THREADS": "2"},
    flags={"deterministic_algorithms": "True"},
    backends={"attention": "sdpa"},
)
SETTINGS = Settings(
    engine="torch-1",
    kernels=D,
    arithmetic="torch",
    sampling="sampling-1",
    trace="anchorhold/trace/v1",
    weights="bf16",
    cache="bf16",
    activations="float32",
    length_max=512,
    config=D,
    tokenizer=D,
    template=D,
    rotary=D,
    stop_tokens=(2, 7),
    defaults=Sampling(temperature_micro=700_000, logit_bias=((3, 5),)),
    libraries={"tokenizers": "0.23.3"},
    machine=MACHINE,
)
STOPS = frozenset[int]()
REQUEST = EngineRequest(tuple(b"user:hello\n"), 30, bytes(32))


def written(settings: Settings = SETTINGS) -> bytes:
    return encode(settings, (record(ScriptedEngine(), REQUEST),))


def leaves(of: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field of the settings, by its path, read off the dataclasses: one that is added comes here by itself."""
    tables = {
        "libraries": "tokenizers",
        "environment": "OMP_NUM_THREADS",
        "flags": "deterministic_algorithms",
        "backends": "attention",
    }
    for field in dataclasses.fields(of):
        here = (*path, field.name)
        if field.name == "defaults":
            yield from leaves(Sampling, here)
        elif field.name == "machine":
            yield from leaves(Machine, here)
        elif field.name in tables:
            yield (*here, tables[field.name])
        else:
            yield here


def changed(value: Any) -> Any:
    match value:
        case int():
            return value - 1 if value == MICRO else value + 1
        case [int(), *_]:
            return [*value[:-1], value[-1] + 1]
        case [[int(token), int(bias)]]:
            return [[token, bias + 1]]
        case str() if value == D:
            return "cd" * 32
        case str():
            return value + "x"
        case _:
            raise AssertionError(f"no change is known for {value!r}")


def with_leaf(path: tuple[str, ...], change: Any) -> bytes:
    document = json.loads(written())
    table = document["settings"]
    for name in path[:-1]:
        table = table[name]
    table[path[-1]] = change(table[path[-1]])
    return json.dumps(document).encode()


@pytest.mark.parametrize("path", list(leaves(Settings)), ids=".".join)
def test_a_field_that_differs_is_refused_by_name(path: tuple[str, ...]) -> None:
    # profile.md F2 to F4
    stated = Profile.parse(with_leaf(path, changed)).settings
    with pytest.raises(ProfileDrift) as refused:
        refuse_drift(stated, SETTINGS)
    assert [name for name, _, _ in refused.value.differences] == [".".join(path)]
    assert ".".join(path) in str(refused.value)


def test_nothing_differs_from_itself() -> None:
    profile = Profile.parse(written())
    assert profile.settings == SETTINGS
    refuse_drift(profile.settings, SETTINGS)
    assert profile.encode() == written()


def test_all_that_differs_is_named_at_once() -> None:
    # profile.md F4
    other = replace(SETTINGS, weights="int8/64", machine=replace(MACHINE, threads=1, environment={"KMP_X": "1"}))
    assert [name for name, _, _ in differences(SETTINGS, other)] == [
        "machine.environment.KMP_X",
        "machine.environment.OMP_NUM_THREADS",
        "machine.threads",
        "weights",
    ]


def test_a_table_that_only_one_side_has_differs() -> None:
    # profile.md F3, F4
    assert differences(SETTINGS, replace(SETTINGS, machine=None))
    assert differences(replace(SETTINGS, machine=None), SETTINGS)
    assert differences(replace(SETTINGS, libraries={}), SETTINGS)
    empty = replace(SETTINGS, machine=replace(MACHINE, flags={}))
    assert differences(empty, SETTINGS)
    assert differences(empty, empty) == ()


# ---- the file


def of(**members: Any) -> bytes:
    return json.dumps({**json.loads(written()), **members}).encode()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "profile.json"),
        (b"[]", "profile.json"),
        (written() + b"x", "profile.json"),
        (b'{"version": 1, "version": 1}', "profile.json"),
        (written().replace(b"512", b"512.5"), "profile.json"),
        (b" " * (BYTES_MAX + 1), "profile.json"),
        (of(version=2), "profile.version"),
        (of(version=True), "profile.version"),
        (of(more=1), "profile"),
        (of(settings=[]), "profile.settings"),
        (of(settings={**json.loads(written())["settings"], "more": 1}), "profile.settings"),
        (of(golden=[]), "profile.golden"),
        (of(golden=[{}]), "profile.golden"),
        (of(golden=json.loads(written())["golden"] * (GOLDEN_MAX + 1)), "profile.golden"),
        (with_leaf(("engine",), lambda _: ""), "profile.settings.engine"),
        (with_leaf(("engine",), lambda _: " x"), "profile.settings.engine"),
        (with_leaf(("engine",), lambda _: "é"), "profile.settings.engine"),
        (with_leaf(("engine",), lambda _: 1), "profile.settings.engine"),
        (with_leaf(("kernels",), lambda _: D.upper()), "profile.settings.kernels"),
        (with_leaf(("length_max",), lambda _: -1), "profile.settings.length_max"),
        (with_leaf(("length_max",), lambda _: True), "profile.settings.length_max"),
        (with_leaf(("length_max",), lambda _: 1 << 32), "profile.settings.length_max"),
        (with_leaf(("stop_tokens",), lambda _: [2, 2]), "profile.settings.stop_tokens"),
        (with_leaf(("stop_tokens",), lambda _: [7, 2]), "profile.settings.stop_tokens"),
        (with_leaf(("stop_tokens",), lambda _: 7), "profile.settings.stop_tokens"),
        (with_leaf(("defaults", "top_p_micro"), lambda _: 0), "profile.settings.defaults"),
        (with_leaf(("defaults", "logit_bias"), lambda _: [[1]]), "profile.settings.defaults.logit_bias"),
        (with_leaf(("libraries",), lambda _: {"a b": "1"}), "profile.settings.libraries"),
        (with_leaf(("libraries",), lambda _: {"a": 1}), "profile.settings.libraries.a"),
        (with_leaf(("libraries",), lambda _: {str(n): "1" for n in range(257)}), "profile.settings.libraries"),
        (with_leaf(("machine",), lambda _: {}), "profile.settings.machine"),
    ],
)
def test_what_is_no_profile_is_refused(raw: bytes, code: str) -> None:
    # profile.md F1
    with pytest.raises(ProfileRefused) as refused:
        Profile.parse(raw)
    assert refused.value.code == code


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Golden)])
def test_a_golden_prompt_has_all_its_fields_and_each_is_read(field: str) -> None:
    # profile.md F6
    document = json.loads(written())
    golden = document["golden"][0]
    removed = golden.pop(field)
    with pytest.raises(ProfileRefused):
        Profile.parse(json.dumps(document).encode())
    for wrong in (None, -1, "", [-1], {}):
        if wrong == removed:
            continue
        golden[field] = wrong
        with pytest.raises(ProfileRefused):
            Profile.parse(json.dumps(document).encode())


def test_the_digest_is_of_the_bytes_of_the_file() -> None:
    # profile.md F5
    raw = written()
    assert Profile.parse(raw).digest == tagged_sha256("anchorhold/engine-profile/v1", raw) == digest_of(raw)
    assert Profile.parse(raw + b"\n").digest != Profile.parse(raw).digest


# ---- golden prompts


class Changed:
    """A scripted engine with one thing about it that is not as it was."""

    id, fingerprint = "scripted-1", bytes(32)

    def __init__(self, what: str) -> None:
        self._what = what

    def run(self, request: EngineRequest) -> Iterator[Step]:
        steps = list(ScriptedEngine().run(request))
        match self._what:
            case "tokens":
                steps[3] = Step(steps[3].token ^ 1, steps[3].trace)
            case "trace":
                steps[-1] = Step(steps[-1].token, bytes(32))
            case "said":
                steps = steps[:-1]
        yield from steps


def test_an_engine_that_says_what_it_said_is_proven() -> None:
    # profile.md F7
    assert prove(ScriptedEngine(), Profile.parse(written()).golden, STOPS) == 1


@pytest.mark.parametrize("what", ["tokens", "trace", "said"])
def test_an_engine_that_says_anything_else_is_not(what: str) -> None:
    # profile.md F7
    with pytest.raises(GoldenMissed) as missed:
        prove(Changed(what), Profile.parse(written()).golden, STOPS)
    assert missed.value.code == f"golden.{what}"
    assert "prompt 0" in str(missed.value)


def test_the_digest_of_what_was_said() -> None:
    # profile.md F6
    golden = record(ScriptedEngine(), REQUEST)
    said = [step.token for step in ScriptedEngine().run(REQUEST)]
    assert golden.said == len(said)
    packed = b"".join(token.to_bytes(4, "little") for token in said)
    assert golden.tokens == tagged_sha256("anchorhold/golden-tokens/v1", packed)
    silent = record(ScriptedEngine(), replace(REQUEST, stop_tokens=frozenset(range(256))))
    assert (silent.said, silent.trace) == (0, bytes(32))


@pytest.mark.parametrize(("vocabulary", "length_max"), [(1, 2), (256, 8), (256, 40), (32_000, 4096)])
def test_the_questions_of_a_new_profile_fit_the_model(vocabulary: int, length_max: int) -> None:
    asked = questions(vocabulary, length_max, STOPS, tokens=16)
    assert asked
    for request in asked:
        assert max(request.prompt) < vocabulary
        assert len(request.prompt) + request.max_tokens <= length_max
    if length_max == 4096:
        assert {request.sampling.temperature_micro for request in asked} == {0, 500_000, 700_000, MICRO}
        assert {len(request.prompt) % 8 for request in asked} == {0, 1, 7}
    assert asked == questions(vocabulary, length_max, STOPS, tokens=16)


# ---- observing


TRAITS = Traits(
    engine="fixed-1",
    kernels=D,
    arithmetic="a",
    weights="bf16",
    cache="bf16",
    activations="float32",
    length_max=9,
    rotary=bytes(32),
)


def test_what_is_observed_follows_the_files() -> None:
    # profile.md F2
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "chat_template.jinja": b"t", "engine-profile.json": b"{}"}
    seen = observe.observe(TRAITS, files, defaults=Sampling(), stop_tokens={5, 2})
    assert seen.stop_tokens == (2, 5)
    assert seen.machine is None
    fields = {"config.json": "config", "tokenizer.json": "tokenizer", "chat_template.jinja": "template"}
    for name, field in fields.items():
        other = observe.observe(TRAITS, {**files, name: b"other"}, defaults=Sampling(), stop_tokens={5, 2})
        assert [path for path, _, _ in differences(seen, other)] == [field]
    # profile.md F8: the profile is no part of what it states
    other = observe.observe(TRAITS, {**files, "engine-profile.json": b"other"}, defaults=Sampling(), stop_tokens={5, 2})
    assert differences(seen, other) == ()


def test_a_machine_is_observed_with_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    # profile.md F3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("VLLM_CPU_ATTN_SPLIT_KV", "0")
    monkeypatch.setenv("UNRELATED_THING", "1")
    here = observe.machine()
    assert here.environment["OMP_NUM_THREADS"] == "3"
    assert here.environment["VLLM_CPU_ATTN_SPLIT_KV"] == "0"
    assert "UNRELATED_THING" not in here.environment
    assert here.threads >= 1
    assert here.binding
    assert here.isa
    Profile.parse(encode(replace(SETTINGS, machine=here), (record(ScriptedEngine(), REQUEST),)))


@pytest.mark.torch
def test_torch_is_observed_where_it_is_loaded() -> None:
    # profile.md F3
    torch = brought("torch")
    before = observe.machine()
    threads, flush = torch.get_num_threads(), before.flags["flush_denormal"]
    torch.set_num_threads(threads + 1)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "high" else "high")
    try:
        after = observe.machine()
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    changes = {name for name, _, _ in differences(replace(SETTINGS, machine=before), replace(SETTINGS, machine=after))}
    assert changes >= {"machine.flags.float32_matmul_precision", "machine.threads"}
    assert after.flags["flush_denormal"] == flush
