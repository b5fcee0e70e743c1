"""From a model's files and a profile's digest to an engine that passed its self-test and golden prompts.

    started = start(opened_pack, sampling=card.claims.sampling, profile=digest, threads=2)
    started.engine, started.text, started.profile

The profile is the one that was named, what runs is what it states, and every golden prompt gave its digests
(docs/spec/profile.md F4 to F7); else this raises and there is no engine. What it does not establish: which model the
files are. The model root does, and whoever opened the pack has checked it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from appliance.engine.fixed import engine as fixed
from appliance.engine.fixed import self_test
from appliance.engine.fixed.architecture import Format, Quantization
from appliance.engine.fixed.proven import open_library
from appliance.engine.golden import prove
from appliance.engine.observe import NUMERIC_LIBRARIES, Traits, machine, observe, variables
from appliance.engine.profile import FILE, Profile, ProfileRefused, Settings, digest_of, refuse_drift
from appliance.engine.protocol import Engine, Sampling
from appliance.engine.sampling import native
from appliance.engine.sampling.rules import RANGES
from appliance.models import Described, LoadedModel, describe, load_model
from appliance.text import ModelText
from foundation.digests import tagged_sha256
from measurements.pack.errors import PackMalformed
from measurements.pack.files import Kind, kind_of
from measurements.pack.pack_reader import TensorView

FIXED: Final = fixed.ID
TORCH: Final = "torch-1"
VLLM: Final = "vllm-1"
THREADS_MAX: Final = 256
SOURCE_TAG: Final = "anchorhold/engine/source/v1"
_ENGINE_ROOM: Final = Path(fixed.__file__).parents[1]


class ModelFiles(Protocol):
    """An opened pack, or a folder."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def file(self, name: str) -> bytes | memoryview: ...

    def tensors(self) -> Mapping[str, TensorView]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine with its words, and what was observed of them. Nothing is proven yet."""

    engine: Engine
    text: ModelText
    vocabulary: int
    observed: Settings


@dataclass(frozen=True, slots=True)
class Started:
    """An engine that is what its profile states, and says what it must say."""

    engine: Engine
    text: ModelText
    profile: Profile


def start(
    model: ModelFiles,
    *,
    sampling: Mapping[str, int],
    profile: bytes | None,
    threads: int | None = None,
    engine: str | None = None,
) -> Started:
    """`profile` and `engine` as they were named, None where a person takes what is there; `sampling` as the card says.
    `threads` None: what the profile states, and where it states none, as many as there are processors.

    Raises `ProfileRefused`, `GoldenMissed`, `EngineRefused`, `SamplingRefused`, `ModelRefused` and `ModelTextRefused`.
    """
    stated = read_profile(model, profile)
    if engine is not None and engine != stated.settings.engine:
        raise ProfileRefused("profile.engine", expected=engine, got=stated.settings.engine)
    settings = stated.settings
    if threads is None:
        threads = processors() if settings.machine is None else max(1, min(settings.machine.threads, THREADS_MAX))
    loaded = load(model, engine=settings.engine, sampling=sampling, length_max=settings.length_max, threads=threads)
    try:
        refuse_drift(settings, loaded.observed)
        prove(loaded.engine, stated.golden, loaded.text.stop_tokens)
    except BaseException:
        close(loaded.engine)
        raise
    return Started(loaded.engine, loaded.text, stated)


def processors() -> int:
    return min(len(os.sched_getaffinity(0)), THREADS_MAX)


def read_profile(model: ModelFiles, wanted: bytes | None) -> Profile:
    """profile.md F5. Raises `ProfileRefused`."""
    if FILE not in model.names:
        raise ProfileRefused(
            "profile.missing",
            expected=f"{FILE} in the model's pack",
            got="none",
            hint="`anchorhold engine profile` writes one",
        )
    raw = bytes(model.file(FILE))
    if wanted is not None and (got := digest_of(raw)) != wanted:
        raise ProfileRefused("profile.digest", expected=wanted.hex(), got=got.hex())
    return Profile.parse(raw)


def load(
    model: ModelFiles, *, engine: str, sampling: Mapping[str, int], length_max: int | None, threads: int
) -> Loaded:
    """An engine over a model's files, and what is observed of it. `length_max` None: all the model can."""
    maker = MAKERS.get(engine)
    if maker is None:
        raise ProfileRefused("profile.engine", expected=" or ".join(MAKERS), got=engine)
    files = small_files(model)
    if "config.json" not in files:
        raise ProfileRefused("profile.config", expected="config.json", got="none")
    described = describe(files["config.json"])
    most = described.architecture.positions_max
    limited = described.limited(most if length_max is None else max(1, min(length_max, most)))
    native.self_test(open_library().kernels)  # the sampler is the same in every engine
    text = ModelText.of(files, context_tokens=limited.architecture.positions_max)
    try:
        made, traits = maker(model, limited, threads)
    except ModuleNotFoundError as absent:
        raise ProfileRefused(
            "profile.engine", expected=f"what {engine} stands on", got=f"no {absent.name} (`make vllm` brings it)"
        ) from None
    observed = observe(traits, files, defaults=defaults_of(sampling), stop_tokens=text.stop_tokens)
    return Loaded(made, text, limited.architecture.vocabulary, observed)


def close(engine: Engine) -> None:
    """End what an engine runs beside this process. Most run nothing."""
    if callable(end := getattr(engine, "close", None)):
        end()


# ---- the engines, and what each knows of itself

Maker: TypeAlias = Callable[[ModelFiles, Described, int], tuple[Engine, Traits]]


def _fixed(model: ModelFiles, described: Described, threads: int) -> tuple[Engine, Traits]:
    """No machine: engine.md's rules leave threads and instruction sets no bit to change (profile.md F3)."""
    weights = load_model(model.tensors(), described)
    engine = fixed.FixedEngine(weights, threads=threads)
    return engine, Traits(
        engine=engine.id,
        kernels=self_test.DIGEST,  # the library was held against it when it was opened
        arithmetic="fixed-arithmetic-1",
        weights=_kept(described.architecture.quantization),
        cache="bf16",
        activations="float32",
        length_max=described.architecture.positions_max,
        rotary=weights.rotary_digest,
    )


def _torch(model: ModelFiles, described: Described, threads: int) -> tuple[Engine, Traits]:
    from appliance.engine.plain_torch import TorchEngine  # noqa: PLC0415  # a cell with another engine has no torch

    weights = load_model(model.tensors(), described)
    engine = TorchEngine(weights, threads=threads)
    return engine, Traits(
        engine=engine.id,
        kernels=_sources("plain_torch.py"),
        arithmetic="torch",
        weights="float32 of bf16",
        cache="bf16",
        activations="float32",
        length_max=described.architecture.positions_max,
        rotary=weights.rotary_digest,
        machine=machine(),
        libraries=NUMERIC_LIBRARIES,
    )


def _vllm(model: ModelFiles, described: Described, threads: int) -> tuple[Engine, Traits]:  # noqa: ARG001  # it has one
    from appliance.engine.vllm_engine import ENVIRONMENT, SETTINGS, VllmEngine  # noqa: PLC0415  # where vllm is installed
    from appliance.models.pack_folder import laid_out  # noqa: PLC0415  # in no image

    weights: LoadedModel = load_model(model.tensors(), described)
    length_max = described.architecture.positions_max
    # What it is given: once it runs it writes variables of its own, one of them new every time.
    given = {**machine().environment, **variables(ENVIRONMENT)}
    with laid_out(model) as path:
        engine = VllmEngine(path, length_max)
    seen = machine()
    chosen = {f"vllm.{name}": json.dumps(value) for name, value in SETTINGS.items()}
    return engine, Traits(
        engine=engine.id,
        kernels=_sources("vllm_engine.py", "vllm_sampling.py"),
        arithmetic="vllm",
        weights="bf16",
        cache="bf16",
        activations="bf16",
        length_max=length_max,
        rotary=weights.rotary_digest,
        machine=replace(seen, environment=given, flags={**seen.flags, **chosen}),
        libraries=NUMERIC_LIBRARIES,
    )


MAKERS: Final[Mapping[str, Maker]] = {FIXED: _fixed, TORCH: _torch, VLLM: _vllm}


def _sources(*names: str) -> str:
    """Of engines whose bits follow from their code and what it calls."""
    parts = (sha256((_ENGINE_ROOM / name).read_bytes()).digest() for name in names)
    return tagged_sha256(SOURCE_TAG, *parts).hex()


def defaults_of(sampling: Mapping[str, int]) -> Sampling:
    """What the card says of sampling, as far as a token is chosen by it."""
    known: dict[str, Any] = {name: number for name, number in sampling.items() if name in RANGES}
    return Sampling(**known)


def small_files(model: ModelFiles) -> dict[str, bytes]:
    """Every file but the weights."""
    return {name: bytes(model.file(name)) for name in model.names if not _is_weights(name)}


def _is_weights(name: str) -> bool:
    try:
        return kind_of(name) is Kind.WEIGHTS
    except PackMalformed:
        return False


def _kept(quantization: Quantization) -> str:
    kept: str = quantization.format.value
    return kept if quantization.format is Format.BF16 else f"{kept}/{quantization.group}"
