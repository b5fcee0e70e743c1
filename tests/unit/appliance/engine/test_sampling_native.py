"""`sampling.c` against the reference, in every build: the same token, always, and nothing else touched.

`ANCHORHOLD_SAMPLING_CASES` says how many drawn cases (2,000 unless it does).
"""

from __future__ import annotations

import ctypes
import json
import random
from array import array
from pathlib import Path

import pytest

from appliance.engine.fixed.library import PATH
from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling import reference
from appliance.engine.sampling.native import NativeSampler, NativeSampling, self_test
from appliance.engine.sampling.rules import SamplingRefused
from appliance.engine.trace import LEADERS, packed
from tests.native import BUILDS, SAMPLING, can_run, compiled
from tests.sampling_cases import VECTORS, Case, drawn, logit
from tests.switches import sized

CASES = sized("ANCHORHOLD_SAMPLING_CASES")


@pytest.fixture(scope="module", params=[*BUILDS, "shipped"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if request.param == "shipped":
        if not PATH.is_file():
            pytest.skip("no kernels here: make setup builds them")
        return ctypes.CDLL(str(PATH))
    if not can_run(request.param):
        pytest.skip(f"this processor has no {request.param.upper()}")
    return compiled(SAMPLING, tmp_path_factory.mktemp(request.param), *BUILDS[request.param])


def tokens(library: ctypes.CDLL, case: Case) -> list[int]:
    sampler = NativeSampler(NativeSampling(library, len(case.logits)), case.sampling, case.seed, case.prompt)
    return [sampler.choose(case.logits) for _ in range(case.steps)]


def test_the_vectors(library: ctypes.CDLL) -> None:
    committed = json.loads(VECTORS.read_text(encoding="utf-8"))
    assert [tokens(library, Case.read(case)) for case in committed] == [case["tokens"] for case in committed]


@pytest.mark.sized
def test_the_same_tokens_as_the_reference(library: ctypes.CDLL) -> None:
    # sampling.md Y3 to Y16
    draw = random.Random(20)
    for number in range(CASES // len(BUILDS)):
        case = drawn(draw)
        before = case.logits.tobytes()
        assert tokens(library, case) == case.tokens(), f"case {number}: {case.sampling}"
        assert case.logits.tobytes() == before


def test_the_same_tokens_over_a_whole_vocabulary(library: ctypes.CDLL) -> None:
    draw = random.Random(21)
    logits = array("f", [draw.gauss(0, 2.5) for _ in range(32_000)])
    for sampling in (
        Sampling(temperature_micro=MICRO),
        Sampling(temperature_micro=500_000, top_k=50, top_p_micro=900_000),
        Sampling(temperature_micro=MICRO, top_p_micro=950_000, min_p_micro=1_000),
    ):
        case = Case(logits, sampling, draw.randbytes(32), (), steps=1)
        assert tokens(library, case) == case.tokens()


@pytest.mark.parametrize("kind", ["peaked", "tied", "equal", "huge", "special"])
def test_the_end_of_a_nucleus_among_many(library: ctypes.CDLL, kind: str) -> None:
    # sampling.md Y6, Y9: closed in on from both sides, among equal values and where halves of a range are no numbers
    draw = random.Random(kind)
    for vocabulary, temperature, top_p in ((5000, MICRO, 950_000), (4133, 1, 999_999), (2048, 100 * MICRO, 300_000)):
        logits = array("f", [logit(kind, draw, vocabulary) for _ in range(vocabulary)])
        sampling = Sampling(temperature_micro=temperature, top_p_micro=top_p)
        case = Case(logits, sampling, draw.randbytes(32), (), steps=2)
        assert tokens(library, case) == case.tokens()


def test_as_many_as_there_are_blocks_or_more(library: ctypes.CDLL) -> None:
    # sampling.md Y8: the first k are looked for in two ways
    draw = random.Random(24)
    logits = array("f", [draw.gauss(0, 2.5) for _ in range(64 * 70)])
    for top_k in (1, 63, 64, 65, 70, 71, 4479):
        case = Case(logits, Sampling(temperature_micro=2 * MICRO, top_k=top_k), draw.randbytes(32), (), steps=2)
        assert tokens(library, case) == case.tokens()


def test_many_edits_and_few(library: ctypes.CDLL) -> None:
    # sampling.md Y3, Y16: the greatest of a block is found anew where a logit in it changed
    draw = random.Random(25)
    logits = array("f", [draw.gauss(0, 2.5) for _ in range(64 * 40 + 7)])
    before = logits.tobytes()
    first = sorted(range(len(logits)), key=lambda token: -logits[token])
    for said in (1, 3, 9, 10, 11, 500):
        sampling = Sampling(repetition_penalty_micro=3 * MICRO, logit_bias=((len(logits) - 1, -5 * MICRO),))
        case = Case(logits, sampling, bytes(32), tuple(first[:said]), steps=3)
        assert tokens(library, case) == case.tokens()
        assert logits.tobytes() == before


def test_what_a_step_was_chosen_from_is_before_any_edit(library: ctypes.CDLL) -> None:
    # sampling.md Y3, engine.md X23
    logits = array("f", [float(t % 50) for t in range(200)])
    native = NativeSampling(library, len(logits))
    sampler = NativeSampler(native, Sampling(logit_bias=((7, 80 * MICRO), (49, -9 * MICRO))), bytes(32))
    assert sampler.choose(logits) == 7
    assert sampler.led() == packed(native.leaders(logits.buffer_info()[0], LEADERS))
    assert sampler.led()[:8] == packed([(49, 49.0)])


def test_weights_and_noise(library: ctypes.CDLL) -> None:
    # sampling.md Y12 to Y14
    library.ah_weight.restype, library.ah_weight.argtypes = ctypes.c_uint64, [ctypes.c_double]
    library.ah_noise.restype, library.ah_noise.argtypes = ctypes.c_double, [ctypes.c_uint64, ctypes.c_int32]
    draw = random.Random(22)
    for gap in (0.0, -28.0, -28.5, float("-inf"), *(-28 * draw.random() for _ in range(2000))):
        assert library.ah_weight(gap) == reference.weight(gap)
    for _ in range(2000):
        key, token = draw.getrandbits(64), draw.randrange(1 << 20)
        assert library.ah_noise(key, token) == reference.noise(key, token)


def test_a_hash_at_either_end_gives_a_finite_noise(library: ctypes.CDLL) -> None:
    # sampling.md Y14: key chosen so that token 0 hashes to 0, the least u there is
    library.ah_noise.restype, library.ah_noise.argtypes = ctypes.c_double, [ctypes.c_uint64, ctypes.c_int32]
    assert library.ah_noise(0, 0) == reference.noise(0, 0)
    assert -3.7 < library.ah_noise(0, 0) < -3.5


def test_the_leaders_are_the_first_of_the_order(library: ctypes.CDLL) -> None:
    # sampling.md Y6
    draw = random.Random(23)
    for _ in range(200):
        logits = drawn(draw).logits
        order = sorted((t for t in range(len(logits)) if logits[t] > float("-inf")), key=lambda t: (-logits[t], t))
        leaders = NativeSampling(library, len(logits)).leaders(logits.buffer_info()[0], 8)
        assert leaders == [(token, logits[token]) for token in order[:8]]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("0x9e3779b97f4a7c15ull", "0x9e3779b97f4a7c17ull"),
        ("x / penalty : x * penalty", "x * penalty : x / penalty"),
        ("1.0 / 6.0", "1.0 / 7.0"),
    ],
)
def test_a_library_that_chooses_otherwise_is_found_out(tmp_path: Path, right: str, wrong: str) -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in SAMPLING.parent.glob("*.[ch]")}
    assert any(right in source for source in sources.values())
    for name, source in sources.items():
        (tmp_path / name).write_text(source.replace(right, wrong), encoding="utf-8")
    with pytest.raises(SamplingRefused, match="self-test"):
        self_test(compiled(tmp_path / SAMPLING.name, tmp_path, "-O0"))


def test_a_sound_library_passes_its_test(library: ctypes.CDLL) -> None:
    self_test(library)


def test_logits_of_another_size_are_refused(library: ctypes.CDLL) -> None:
    sampler = NativeSampler(NativeSampling(library, 8), Sampling(), bytes(32))
    for wrong in (array("f", [0.0] * 7), array("d", [0.0] * 8)):
        with pytest.raises(SamplingRefused, match="logits"):
            sampler.choose(wrong)


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text("int ah_choose(void) { return 0; }\n", encoding="utf-8")
    with pytest.raises(SamplingRefused, match="ah_step"):
        NativeSampling(compiled(tmp_path / "other.c", tmp_path), 8)
