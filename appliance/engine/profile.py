"""The engine profile: every setting that can change the output, and the prompts that the engine must reproduce.

    profile = Profile.parse(raw)                            strict; raises ProfileRefused
    refuse_drift(profile.settings, observed)                raises ProfileDrift, which names every difference
    prove(engine, profile.golden, stop_tokens)              raises GoldenMissed (appliance.engine.golden)

`Settings` is stated by the profile and observed at start; the two must be equal. `Machine` is what an engine's bits
hang on besides: `None` for an engine whose bits hang on nothing of the sort. The digest is over the file as it stands.

Pure: nothing is observed here. docs/spec/profile.md.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Final, Self

from appliance.engine.golden import Golden, GoldenRefused
from appliance.engine.protocol import Sampling
from appliance.engine.sampling.rules import SamplingRefused, check
from foundation.digests import tagged_sha256
from foundation.document import Fields, json_object
from foundation.refusal import Refused, shown

FILE: Final = "engine-profile.json"
VERSION: Final = 1
DIGEST_TAG: Final = "anchorhold/engine-profile/v1"
BYTES_MAX: Final = 1 << 20
GOLDEN_MAX: Final = 64
ENTRIES_MAX: Final = 256  # of one table: variables, flags, libraries
NUMBER_MAX: Final = (1 << 32) - 1

_WORD: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_WORD_CHARACTERS_MAX: Final = 512
_NAME: Final = re.compile(r"[A-Za-z0-9_.:+-]{1,128}")


class ProfileRefused(Refused):
    """No profile, or not the one that was asked for."""

    stage = "profile"


class ProfileDrift(ProfileRefused):
    """What runs is not what the profile states. `differences` has (field, stated, observed), every one of them."""

    def __init__(self, differences: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(
            "profile.drift",
            expected=", ".join(f"{name} {stated}" for name, stated, _ in differences),
            got=", ".join(f"{name} {observed}" for name, _, observed in differences),
        )
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Machine:
    """What the bits of an engine hang on besides its rules, where they do."""

    device: str  # "cpu", or a GPU by its name and driver
    isa: str  # the instruction set its kernels were chosen for
    threads: int
    binding: str  # the processors they may run on
    environment: Mapping[str, str]  # variables that choose code or its order
    flags: Mapping[str, str]  # settings of the libraries, as they took
    backends: Mapping[str, str]  # which implementation does what


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can change a bit. A field added here is compared and tested without another line."""

    engine: str  # its id, which names its rules
    kernels: str  # digest of its own code
    arithmetic: str  # version of the rules of its numbers (engine.md)
    sampling: str  # version of sampling.md
    trace: str  # version of the trace's encoding
    weights: str  # how they are kept in memory
    cache: str  # element type of keys and values
    activations: str
    length_max: int  # a prompt and its answer, in tokens
    config: str  # digests of the model's own files, as its card has them
    tokenizer: str
    template: str
    rotary: str  # digest of the tables
    stop_tokens: tuple[int, ...]
    defaults: Sampling  # what holds where a request says nothing
    libraries: Mapping[str, str]  # versions of what is not ours
    machine: Machine | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as it stands in its file."""

    settings: Settings
    golden: tuple[Golden, ...]
    digest: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ProfileRefused` alone."""
        members = json_object(raw, "profile", ProfileRefused, bytes_max=BYTES_MAX, called=FILE, size="json")
        top = Fields(members, "profile", ProfileRefused)
        top.only("version", "settings", "golden")
        top.uint("version", VERSION, VERSION)
        golden = top.rows("golden", GOLDEN_MAX, least=1)
        return cls(_settings(top.fields("settings")), tuple([_golden(each) for each in golden]), digest_of(raw))

    def encode(self) -> bytes:
        return encode(self.settings, self.golden)


def digest_of(raw: bytes) -> bytes:
    """What a measured configuration names, and a receipt carries."""
    return tagged_sha256(DIGEST_TAG, raw)


def encode(settings: Settings, golden: tuple[Golden, ...]) -> bytes:
    """The file. Any JSON that says the same is read; this is the one that is written."""
    document = {"version": VERSION, "settings": plain(settings), "golden": [each.plain() for each in golden]}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def plain(value: object) -> object:
    """As JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


# ---- comparing


def differences(stated: Settings, observed: Settings) -> tuple[tuple[str, str, str], ...]:
    """Every field in which the two differ, down to the variable."""
    one, other = flat(stated), flat(observed)
    return tuple(
        (name, one.get(name, "none"), other.get(name, "none"))
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    )


def refuse_drift(stated: Settings, observed: Settings) -> None:
    """profile.md F4. Raises `ProfileDrift`."""
    if found := differences(stated, observed):
        raise ProfileDrift(found)


def flat(value: object, path: str = "") -> dict[str, str]:
    """A value by the paths of its leaves: `machine.environment.OMP_NUM_THREADS`."""
    known = plain(value) if path == "" else value
    if not isinstance(known, dict):
        return {path: json.dumps(known)}
    leaves: dict[str, str] = {} if known or not path else {path: "{}"}
    for name, each in known.items():
        leaves |= flat(each, f"{path}.{name}" if path else name)
    return leaves


# ---- reading


def _settings(of: Fields) -> Settings:
    of.only(*_names(Settings))
    return Settings(
        engine=_word(of, "engine"),
        kernels=of.digest("kernels").hex(),
        arithmetic=_word(of, "arithmetic"),
        sampling=_word(of, "sampling"),
        trace=_word(of, "trace"),
        weights=_word(of, "weights"),
        cache=_word(of, "cache"),
        activations=_word(of, "activations"),
        length_max=of.uint("length_max", NUMBER_MAX),
        config=of.digest("config").hex(),
        tokenizer=of.digest("tokenizer").hex(),
        template=of.digest("template").hex(),
        rotary=of.digest("rotary").hex(),
        stop_tokens=_ascending(of, "stop_tokens"),
        defaults=_sampling(of.fields("defaults"), "profile.settings.defaults"),
        libraries=_words(of, "libraries"),
        machine=_machine(of.optional_fields("machine")),
    )


def _machine(of: Fields | None) -> Machine | None:
    if of is None:
        return None
    of.only(*_names(Machine))
    return Machine(
        device=_word(of, "device"),
        isa=_word(of, "isa"),
        threads=of.uint("threads", NUMBER_MAX),
        binding=_word(of, "binding"),
        environment=_words(of, "environment"),
        flags=_words(of, "flags"),
        backends=_words(of, "backends"),
    )


def _golden(of: Fields) -> Golden:
    of.only(*_names(Golden))
    try:
        return Golden(
            prompt=of.uints("prompt", NUMBER_MAX, NUMBER_MAX),
            seed=of.digest("seed"),
            max_tokens=of.uint("max_tokens", NUMBER_MAX),
            sampling=_sampling(of.fields("sampling"), "profile.golden.sampling"),
            said=of.uint("said", NUMBER_MAX),
            tokens=of.digest("tokens"),
            trace=of.digest("trace"),
        )
    except GoldenRefused as refusal:
        raise ProfileRefused("profile.golden", expected=refusal.expected, got=refusal.got) from None


def _sampling(of: Fields, path: str) -> Sampling:
    of.only(*_names(Sampling))
    numbers = {name: of.uint(name, NUMBER_MAX, -NUMBER_MAX) for name in _names(Sampling) if name != "logit_bias"}
    sampling = Sampling(**numbers, logit_bias=_biases(of))
    try:
        check(sampling)
    except SamplingRefused as refusal:
        raise ProfileRefused(path, expected=refusal.expected, got=refusal.got) from None
    return sampling


def _biases(of: Fields) -> tuple[tuple[int, int], ...]:
    found = []
    for each in of.items("logit_bias", NUMBER_MAX):
        match each:
            case [int(token), int(bias)] if type(token) is type(bias) is int:
                found.append((token, bias))
            case _:
                raise of.refused("logit_bias", "pairs of a token and its bias", shown(each))
    return tuple(found)


def _words(of: Fields, name: str) -> Mapping[str, str]:
    table = Fields(of.named(name, ENTRIES_MAX, _NAME), f"{of.where}.{name}", ProfileRefused)
    return MappingProxyType({each: _word(table, each) for each in table})


def _word(of: Fields, name: str) -> str:
    return of.text(name, _WORD_CHARACTERS_MAX, _WORD)


def _ascending(of: Fields, name: str) -> tuple[int, ...]:
    numbers = of.uints(name, NUMBER_MAX, NUMBER_MAX)
    if list(numbers) != sorted(set(numbers)):
        raise of.refused(name, "each once, ascending", shown(list(numbers)))
    return numbers


def _names(of: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(of))
