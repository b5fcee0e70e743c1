"""Requests through the fixed engine: what may vary and does not, what is refused, what a request leaves behind."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.architecture import Tensor
from appliance.engine.fixed.drafter import Drafter
from appliance.engine.fixed.engine import FixedEngine, fingerprint
from appliance.engine.fixed.library import Variant
from appliance.engine.fixed.model import Model, check_architecture
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.protocol import EngineRequest, Sampling
from appliance.engine.sampling.rules import SamplingRefused
from appliance.engine.trace import START, TAG
from foundation.digests import tagged_sha256
from foundation.refusal import Refused
from tests.elsewhere import brought
from tests.fixed_models import BITS, FAMILIES, LLAMA, MISTRAL, engine, request, steps, variants, weights
from tests.switches import sized

TEMPERATURES = (0.0, 0.7, 1.0)
RUNS = sized("ANCHORHOLD_MATRIX_RUNS")  # each at the next temperature


def plainest(family: str, bits: str) -> FixedEngine:
    """Token by token: one thread, one row a pass, weights as they came, no guesses, the plainest kernels."""
    return engine(family, bits, Variant.SCALAR, rows_max=1, speculate=False, tight=False)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_but_the_request_reaches_a_bit(family: str, bits: str):  # engine.md X20
    machines = [
        engine(family, bits, variant, threads=threads, rows_max=rows, speculate=speculate)
        for variant in variants()
        if variant is not Variant.SCALAR
        for threads, rows, speculate in ((1, 29, True), (2, 128, False), (3, 7, True))
    ]
    for run in range(RUNS):
        asked = request(temperature=TEMPERATURES[run % len(TEMPERATURES)], start=run)
        alone = steps(plainest(family, bits), asked)
        for machine in machines:  # each has served the others' requests before
            assert steps(machine, asked) == alone


@pytest.mark.parametrize("chunk", range(1, 31))
def test_any_cut_of_a_prompt(chunk: int):  # engine.md X20: 29 of 30 leaves a remainder of one
    assert steps(engine(rows_max=chunk), request(tokens=3)) == steps(engine(), request(tokens=3))


@pytest.mark.parametrize("count", range(1, 9))
def test_neighbours_in_a_pass_are_not_felt(count: int):  # engine.md X20
    machine = engine("mistral", threads=2, batch_bytes_max=1 << 26)
    asked = [request(11 + 13 * i, 9 + i, temperature=i % 3 / 2, start=i) for i in range(count)]
    together: dict[int, list] = {index: [] for index in range(count)}
    for index, step in machine.run_many(asked):
        together[index].append(step)
    assert [together[i] for i in range(count)] == [steps(machine, one) for one in asked]


def test_a_shared_prefix_is_computed_once_and_changes_nothing():  # engine.md X20, X22
    machine = engine("mistral")
    first, second = request(60, scope=b"a"), request(75, scope=b"a")
    assert second.prompt[:60] == first.prompt
    list(machine.run(first))
    before = machine._cached.begin(second.prompt, b"a")
    assert before == 60
    assert steps(machine, second) == steps(engine("mistral"), second)


def test_strangers_share_nothing():  # engine.md X22
    machine = engine("mistral")
    list(machine.run(request(60, scope=b"a")))
    assert machine._cached.begin(request(75).prompt, b"b") == 0
    list(machine.run(request(60)))
    assert machine._cached.begin(request(75).prompt, b"") == 0


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 30), st.sampled_from([b"", b"a", b"b"])), max_size=5))
@settings(max_examples=10, deadline=None)
def test_whatever_was_asked_and_given_up_before(history: list[tuple[int, int, bytes]]):  # engine.md X20, X21
    machine = engine("qwen3" if len(history) % 2 else "mistral")
    asked = request(40, 20, 0.7, scope=b"a")
    for asked_for, read, scope in history:
        length = min(asked_for, machine.architecture.positions_max)
        running = machine.run(request(length, 30, 0.5, start=read % 3, scope=scope))
        for _ in zip(range(read), running, strict=False):
            pass
        if length % 2:
            running.close()  # type: ignore[attr-defined]
    assert steps(machine, asked) == steps(engine("qwen3" if len(history) % 2 else "mistral"), asked)


def test_a_reader_whose_turn_is_over_is_told():
    machine = engine()
    old = machine.run(request())
    next(old)
    new = steps(machine, request(start=1))
    with pytest.raises(EngineRefused, match=r"engine\.superseded"):
        list(old)
    assert new == steps(engine(), request(start=1))


def test_scribbled_memory_is_not_read():  # engine.md X21
    machine, asked = engine(), request()
    clean = steps(machine, asked)
    list(machine.run(request(90, 40, start=2)))
    cached = machine._cached.cache

    class _Cache(ctypes.Structure):
        _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]

    inside = _Cache.from_address(cached.address)
    ctypes.memset(inside.data, 0xFF, inside.bytes)  # NaN in every key and value
    assert steps(machine, asked) == clean


def test_guesses_are_confirmed_not_believed():  # engine.md X20
    class Wrong(Drafter):
        def draft(self, room: int) -> list[int]:
            return [7] * min(room, 5)

    machine, asked = engine(), request(40, 60)
    import appliance.engine.fixed.engine as module

    genuine, module.Drafter = module.Drafter, Wrong  # type: ignore[misc]
    try:
        assert steps(machine, asked) == steps(engine(speculate=False), asked)
    finally:
        module.Drafter = genuine  # type: ignore[misc]


def test_repetition_is_guessed():
    drafter = Drafter([1, 2, 3, 4, 5, 1, 2, 3])
    assert drafter.draft(10) == [4, 5, 1, 2]
    drafter.judged(4, 4)
    assert drafter.draft(2) == [4, 5]
    assert Drafter([1, 2, 3]).draft(4) == []


def test_text_that_does_not_repeat_itself_is_soon_left_alone():
    drafter = Drafter([1, 2, 9, 1, 2])
    drafts = []
    for _ in range(60):
        drafts.append(drafter.draft(8))
        drafter.judged(len(drafts[-1]), 0)
    assert drafts[0]
    assert sum(map(bool, drafts)) <= 7


def test_guessing_saves_passes():
    class Counting(Model):
        passes = 0

        def forward(self, *arguments, **more):
            Counting.passes += 1
            return super().forward(*arguments, **more)

    machine, always = engine(), Sampling(logit_bias=((7, 100_000_000),))
    machine.model.__class__ = Counting
    said = [step.token for step in machine.run(replace(request(10, 60), sampling=always))]
    assert said == [7] * 60
    assert Counting.passes < 15


def test_the_trace_is_a_chain_over_tokens_and_leading_logits():  # engine.md X23
    machine = engine("qwen2")
    (first, *_) = steps(machine, request(5, 2))
    model, cache = machine.model, machine.model.cache()
    found = model.forward(request(5).prompt, [cache] * 5, range(5), [4])
    logits = list(memoryview(model.logits(found[0])).cast("f"))
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:8]
    packed = b"".join(struct.pack("<If", i, logits[i]) for i in order)
    assert tagged_sha256(TAG) == START
    assert first.trace == tagged_sha256(TAG, START, struct.pack("<II", 0, first.token), packed)


# ---- refusals

ABSURD = st.builds(
    EngineRequest,
    prompt=st.lists(st.integers(-3, 400) | st.just(2**40), max_size=200).map(tuple),
    max_tokens=st.integers(-5, 12) | st.just(2**63),
    seed=st.binary(min_size=32, max_size=32) | st.binary(max_size=40),
    sampling=st.builds(
        Sampling,
        temperature_micro=st.integers(-1, 3_000_000) | st.just(2**70),
        top_k=st.integers(-2, 2**33),
        top_p_micro=st.integers(-5, 2_000_000),
        min_p_micro=st.integers(-5, 2_000_000),
        repetition_penalty_micro=st.integers(-5, 5_000_000),
        logit_bias=st.lists(st.tuples(st.integers(-2, 500), st.integers(-(2**40), 2**40)), max_size=3).map(tuple),
    ),
    stop_tokens=st.frozensets(st.integers(-5, 2**40), max_size=3),
    scope=st.sampled_from([b"", b"x"]),
)
SERVED = engine(threads=2)
CLEAN = steps(SERVED, request(temperature=0.7))


@given(ABSURD)
@settings(max_examples=60, deadline=None)
def test_absurd_requests_are_refused_or_served_and_leave_nothing(asked: EngineRequest):  # engine.md X21
    with suppress(Refused):  # and nothing else comes out
        for _ in zip(range(12), SERVED.run(asked), strict=False):
            pass
    assert steps(SERVED, request(temperature=0.7)) == CLEAN


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": ()}, "engine.prompt-length"),
        ({"prompt": (1,) * 161}, "engine.prompt-length"),
        ({"prompt": (300,)}, "engine.prompt-token"),
        ({"prompt": (-1,)}, "engine.prompt-token"),
        ({"prompt": (True,)}, "engine.prompt-token"),
        ({"max_tokens": -1}, "engine.max-tokens"),
        ({"seed": b"short"}, "engine.seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_request_out_of_bounds_is_refused_before_anything(change: dict, code: str):  # engine.md X21
    with pytest.raises(EngineRefused) as refused:
        SERVED.run(replace(request(), **change))
    assert refused.value.code == code


def test_settings_out_of_range_are_refused_at_once():  # engine.md X21
    with pytest.raises(SamplingRefused):
        SERVED.run(replace(request(), sampling=Sampling(temperature_micro=-1)))


def test_an_answer_ends_with_the_positions():  # engine.md X21
    assert len(steps(SERVED, request(150, 1000))) == LLAMA.positions_max - 150 + 1
    assert len(steps(SERVED, request(LLAMA.positions_max, 9))) == 1
    assert steps(SERVED, request(20, 0)) == []


def test_a_stop_token_ends_and_is_not_said():
    said = [step.token for step in steps(SERVED, request(temperature=1.0))]
    stop = said[5]
    cut = steps(SERVED, replace(request(temperature=1.0), stop_tokens=frozenset({stop})))
    assert [step.token for step in cut] == said[: said.index(stop)]


def test_more_sequences_than_memory_allows_are_refused():
    machine = engine(batch_bytes_max=1 << 10)
    with pytest.raises(EngineRefused, match=r"engine\.memory"):
        machine.run_many([request(), request()])
    assert steps(machine, request()) == steps(engine(), request())


OUT_OF_MEMORY = """
import resource
from dataclasses import replace
from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.random_weights import MadeWeights
from tests.fixed_models import LLAMA, engine, request, steps
served = engine()
before = steps(served, request())
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), -1))
try:
    served.model.cache(1 << 21)
except EngineRefused as refused:
    print(refused.code)
print(steps(served, request()) == before)
"""


def test_no_memory_for_keys_and_values_is_a_refusal():  # engine.md X21
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["engine.memory", "True"]


# ---- models that do not fit


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 0},
        {"heads": 5},
        {"rotary_width": 15},
        {"rotary_width": 18},
        {"window": 0},
        {"epsilon": -1.0},
        {"vocabulary": 1 << 30},
        {"quantization": replace(BITS["int8"], group=48)},
        {"window_from": -1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_sizes_that_do_not_fit_are_refused(change: dict):
    with pytest.raises(EngineRefused, match=r"engine\.architecture"):
        check_architecture(replace(LLAMA, **change))


class _Changed(MadeWeights):
    def __init__(self, name: str, tensor: Tensor | None) -> None:
        super().__init__(LLAMA)
        self._name, self._tensor = name, tensor

    def tensor(self, name: str) -> Tensor:
        if name != self._name:
            return super().tensor(name)
        if self._tensor is None:
            raise KeyError(name)
        return self._tensor


def changed() -> Iterator[tuple[str, Tensor | None]]:
    name = "model.layers.1.self_attn.q_proj.weight"
    good = MadeWeights(LLAMA).tensor(name)
    yield name, None
    yield name, replace(good, shape=(64, 63))
    yield name, replace(good, data=good.data[:-2])
    yield name, weights("llama", "int8").tensor(name)
    yield "model.norm.weight", replace(MadeWeights(LLAMA).tensor("model.norm.weight"), shape=(1, 64))


@pytest.mark.parametrize(("name", "tensor"), list(changed()), ids=["none", "shape", "short", "format", "vector"])
def test_weights_that_do_not_fit_are_refused(name: str, tensor: Tensor | None):
    with pytest.raises(EngineRefused, match=r"engine\.weights"):
        FixedEngine(_Changed(name, tensor))


def test_a_scale_that_is_no_number_is_refused():  # engine.md X7
    name = "model.layers.0.mlp.up_proj.weight"
    held = weights("llama", "int8")

    class Scaled:
        architecture, rotary = held.architecture, held.rotary

        def tensor(self, wanted: str) -> Tensor:
            tensor = held.tensor(wanted)
            if wanted != name:
                return tensor
            assert tensor.scales is not None
            return replace(tensor, scales=memoryview(b"\x80\x7f" + bytes(tensor.scales[2:])))

    with pytest.raises(EngineRefused, match="finite scales"):
        FixedEngine(Scaled())


def test_settings_of_an_engine_have_bounds():
    for settings_ in ({"threads": 0}, {"rows_max": 0}, {"rows_max": 5000}):
        with pytest.raises(EngineRefused, match=r"engine\.settings"):
            engine(**settings_)


def test_rows_out_of_bounds_never_reach_the_kernels():
    model = SERVED.model
    cache = model.cache(8)
    for tokens, positions, wanted in (([300], [0], [0]), ([1], [8], [0]), ([1], [0], [1]), ([1], [-1], [0])):
        with pytest.raises(EngineRefused, match=r"engine\.bounds"):
            model.forward(tokens, [cache], positions, wanted)


# ---- who it says it is


def test_the_fingerprint_is_the_same_on_every_machine():  # engine.md X19
    prints = {
        engine("qwen2", variant=variant, threads=threads).fingerprint for variant in variants() for threads in (1, 2)
    }
    assert prints == {fingerprint(weights("qwen2"))}


@pytest.mark.parametrize(
    "change",
    [{"window": 9}, {"window_from": 1}, {"epsilon": 1e-6}, {"tied": True}, {"head_norm": True}, {"positions_max": 150}],
    ids=lambda change: next(iter(change)),
)
def test_another_architecture_has_another_fingerprint(change: dict):  # engine.md X19
    assert fingerprint(MadeWeights(replace(MISTRAL, **change))) != fingerprint(MadeWeights(MISTRAL))


def test_a_variant_the_processor_lacks_is_refused():
    missing = [variant for variant in Variant if variant not in variants()]
    if not missing:
        pytest.skip("this processor has them all")
    with pytest.raises(EngineRefused, match=r"engine\.variant"):
        open_library(missing[0])


# ---- a second opinion


@pytest.mark.torch
@pytest.mark.parametrize("family", FAMILIES)
def test_torch_says_the_same_within_rounding(family: str):  # engine.md X11 to X16
    torch = brought("torch")
    from appliance.engine.plain_torch import TorchEngine

    other, ours = TorchEngine(weights(family)), engine(family).model
    differences = []
    for first in range(0, 40, 5):
        tokens = list(request(60).prompt[first : first + 12])
        at = ours.forward(tokens, [ours.cache()] * 12, range(12), range(12))
        rows = [list(memoryview(ours.logits(row)).cast("f")) for row in at]
        differences.append((other.logits(tokens, []) - torch.tensor(rows)).abs().max().item())
    assert max(differences) < 0.05  # where another order of a sum put a number on the other side of a rounding
    assert min(differences) < 2e-6
    answers = [[step.token for step in steps_of(request(44, 12))] for steps_of in (other.run, engine(family).run)]
    assert answers[0] == answers[1]
