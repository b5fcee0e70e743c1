"""From a model's files and a profile's digest to an engine that has been proven.

    started = start(opened_pack, sampling=card.claims.sampling, profile=digest, threads=2)
    started.engine, started.text, started.profile

The profile is the one that was named, what runs is what it states, and every golden prompt gave its digests
(docs/spec/profile.md F4 to F7); else this raises and there is no engine. What it does not establish: which model the
files are. The model root does, and whoever opened the pack has checked it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance.engine.fixed import self_test
from appliance.engine.fixed.architecture import Format, Quantization
from appliance.engine.fixed.engine import ID, FixedEngine
from appliance.engine.golden import prove
from appliance.engine.observe import Traits, observe
from appliance.engine.profile import FILE, Profile, ProfileRefused, Settings, digest_of, refuse_drift
from appliance.engine.protocol import Sampling
from appliance.engine.sampling import native
from appliance.engine.sampling.rules import RANGES
from appliance.models import LoadedModel, describe, load_model
from appliance.text import ModelText
from measurements.pack.errors import PackMalformed
from measurements.pack.files import Kind, kind_of
from measurements.pack.opening import TensorView

ARITHMETIC: Final = "fixed-arithmetic-1"        # docs/spec/engine.md
CACHE: Final = "bf16"
ACTIVATIONS: Final = "float32"


class ModelFiles(Protocol):
    """An opened pack, or a folder."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def file(self, name: str) -> bytes | memoryview: ...

    def tensors(self) -> Mapping[str, TensorView]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine with its words, and what was observed of them. Nothing is proven yet."""

    engine: FixedEngine
    text: ModelText
    observed: Settings


@dataclass(frozen=True, slots=True)
class Started:
    """An engine that is what its profile states, and says what it must say."""

    engine: FixedEngine
    text: ModelText
    profile: Profile


def start(model: ModelFiles, *, sampling: Mapping[str, int], profile: bytes | None, threads: int) -> Started:
    """`profile`: the digest that was named, None where a person asks for whatever is there. `sampling`: the card's.

    Raises `ProfileRefused`, `GoldenMissed`, `EngineRefused`, `SamplingRefused`, `ModelRefused` and `ModelTextRefused`.
    """
    stated = read_profile(model, profile)
    loaded = load(model, sampling=sampling, length_max=stated.settings.length_max, threads=threads)
    refuse_drift(stated.settings, loaded.observed)
    prove(loaded.engine, stated.golden, loaded.text.stop_tokens)
    return Started(loaded.engine, loaded.text, stated)


def read_profile(model: ModelFiles, wanted: bytes | None) -> Profile:
    """profile.md F5. Raises `ProfileRefused`."""
    if FILE not in model.names:
        raise ProfileRefused("profile.missing", expected=f"{FILE} in the model's pack", got="none",
                             hint="`anchorhold engine profile` writes one")
    raw = bytes(model.file(FILE))
    if wanted is not None and (got := digest_of(raw)) != wanted:
        raise ProfileRefused("profile.digest", expected=wanted.hex(), got=got.hex())
    stated = Profile.parse(raw)
    if stated.settings.engine != ID:
        raise ProfileRefused("profile.engine", expected=ID, got=stated.settings.engine)
    return stated


def load(model: ModelFiles, *, sampling: Mapping[str, int], length_max: int | None, threads: int) -> Loaded:
    """The fixed engine over a model's files, and what is observed of it. `length_max` None: all the model can."""
    files = small_files(model)
    if "config.json" not in files:
        raise ProfileRefused("profile.config", expected="config.json", got="none")
    described = describe(files["config.json"])
    most = described.architecture.positions_max
    limited = described.limited(most if length_max is None else max(1, min(length_max, most)))
    weights = load_model(model.tensors(), limited)
    engine = FixedEngine(weights, threads=threads)
    native.self_test(engine.library.kernels)
    text = ModelText.of(files, context_tokens=limited.architecture.positions_max)
    observed = observe(
        traits(engine, weights), files, defaults=defaults_of(sampling), stop_tokens=text.stop_tokens
    )
    return Loaded(engine, text, observed)


def traits(engine: FixedEngine, weights: LoadedModel) -> Traits:
    """No machine: engine.md's rules leave threads and instruction sets no bit to change (profile.md F3)."""
    return Traits(
        engine=engine.id,
        kernels=self_test.DIGEST,       # the library was held against it when it was opened
        arithmetic=ARITHMETIC,
        weights=_kept(engine.architecture.quantization),
        cache=CACHE,
        activations=ACTIVATIONS,
        length_max=engine.architecture.positions_max,
        rotary=weights.rotary_digest,
    )


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
