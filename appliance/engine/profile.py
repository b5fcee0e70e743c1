"""The engine profile: everything that can change a bit of an answer, and what the engine must say to prove it.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Final, Self, TypeVar

from appliance.engine.golden import Golden, GoldenRefused
from appliance.engine.protocol import Sampling
from appliance.engine.sampling.rules import SamplingRefused, check
from foundation.digests import tagged_sha256
from foundation.refusal import Refused
from measurements.pack.errors import PackMalformed
from measurements.pack.strict_json import parse_object

FILE: Final = "engine-profile.json"
VERSION: Final = 1
DIGEST_TAG: Final = "anchorhold/engine-profile/v1"
BYTES_MAX: Final = 1 << 20
GOLDEN_MAX: Final = 64
ENTRIES_MAX: Final = 256            # of one table: variables, flags, libraries
NUMBER_MAX: Final = (1 << 32) - 1

_WORD: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:+-]{1,128}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


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

    device: str                             # "cpu", or a GPU by its name and driver
    isa: str                                # the instruction set its kernels were chosen for
    threads: int
    binding: str                            # the processors they may run on
    environment: Mapping[str, str]          # variables that choose code or its order
    flags: Mapping[str, str]                # settings of the libraries, as they took
    backends: Mapping[str, str]             # which implementation does what


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can change a bit. A field added here is compared and tested without another line."""

    engine: str                             # its id, which names its rules
    kernels: str                            # digest of its own code
    arithmetic: str                         # version of the rules of its numbers (engine.md)
    sampling: str                           # version of sampling.md
    trace: str                              # version of the trace's encoding
    weights: str                            # how they are kept in memory
    cache: str                              # element type of keys and values
    activations: str
    length_max: int                         # a prompt and its answer, in tokens
    config: str                             # digests of the model's own files, as its card has them
    tokenizer: str
    template: str
    rotary: str                             # digest of the tables
    stop_tokens: tuple[int, ...]
    defaults: Sampling                      # what holds where a request says nothing
    libraries: Mapping[str, str]            # versions of what is not ours
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
        try:
            members = parse_object(FILE, raw, bytes_max=BYTES_MAX, floats=False)
        except PackMalformed as refusal:
            raise ProfileRefused("profile.json", expected=refusal.expected, got=refusal.got) from None
        top = _Members("profile", members, ("version", "settings", "golden"))
        if (version := members["version"]) != VERSION or type(version) is not int:
            raise ProfileRefused("profile.version", expected=VERSION, got=str(version)[:32])
        golden = members["golden"]
        if not isinstance(golden, list) or not 1 <= len(golden) <= GOLDEN_MAX:
            raise ProfileRefused("profile.golden", expected=f"1 to {GOLDEN_MAX} prompts", got="another number")
        return cls(_settings(top.table("settings")), tuple([_golden(each) for each in golden]), digest_of(raw))

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
        for name in sorted({*one, *other}) if one.get(name) != other.get(name)
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


class _Members:
    """The members of one object, all of them known."""

    def __init__(self, path: str, value: object, names: tuple[str, ...]) -> None:
        if not isinstance(value, dict) or set(value) != set(names):
            got = "missing or unknown: " + ", ".join(sorted(set(value) ^ set(names)))[:200] if isinstance(
                value, dict) else type(value).__name__
            raise ProfileRefused(path, expected=f"an object of {', '.join(names)}", got=got)
        self.path = path
        self._members: dict[str, object] = value

    def table(self, name: str) -> object:
        return self._members[name]

    def read(self, name: str, reader: Callable[[str, object], _T]) -> _T:
        return reader(f"{self.path}.{name}", self._members[name])


def _settings(value: object) -> Settings:
    read = _Members("profile.settings", value, _names(Settings)).read
    return Settings(
        engine=read("engine", _word),
        kernels=read("kernels", _digest),
        arithmetic=read("arithmetic", _word),
        sampling=read("sampling", _word),
        trace=read("trace", _word),
        weights=read("weights", _word),
        cache=read("cache", _word),
        activations=read("activations", _word),
        length_max=read("length_max", _number),
        config=read("config", _digest),
        tokenizer=read("tokenizer", _digest),
        template=read("template", _digest),
        rotary=read("rotary", _digest),
        stop_tokens=read("stop_tokens", _ascending),
        defaults=read("defaults", _sampling),
        libraries=read("libraries", _words),
        machine=read("machine", _machine),
    )


def _machine(path: str, value: object) -> Machine | None:
    if value is None:
        return None
    read = _Members(path, value, _names(Machine)).read
    return Machine(
        device=read("device", _word),
        isa=read("isa", _word),
        threads=read("threads", _number),
        binding=read("binding", _word),
        environment=read("environment", _words),
        flags=read("flags", _words),
        backends=read("backends", _words),
    )


def _golden(value: object) -> Golden:
    members = _Members("profile.golden", value, _names(Golden))
    try:
        return Golden(
            prompt=members.read("prompt", _numbers),
            seed=bytes.fromhex(members.read("seed", _digest)),
            max_tokens=members.read("max_tokens", _number),
            sampling=members.read("sampling", _sampling),
            said=members.read("said", _number),
            tokens=bytes.fromhex(members.read("tokens", _digest)),
            trace=bytes.fromhex(members.read("trace", _digest)),
        )
    except GoldenRefused as refusal:
        raise ProfileRefused("profile.golden", expected=refusal.expected, got=refusal.got) from None


def _sampling(path: str, value: object) -> Sampling:
    read = _Members(path, value, _names(Sampling)).read
    numbers = {name: read(name, _signed) for name in _names(Sampling) if name != "logit_bias"}
    sampling = Sampling(**numbers, logit_bias=read("logit_bias", _biases))
    try:
        check(sampling)
    except SamplingRefused as refusal:
        raise ProfileRefused(path, expected=refusal.expected, got=refusal.got) from None
    return sampling


def _biases(path: str, value: object) -> tuple[tuple[int, int], ...]:
    found = []
    for each in _list(path, value):
        match each:
            case [int(token), int(bias)] if type(token) is type(bias) is int:
                found.append((token, bias))
            case _:
                raise ProfileRefused(path, expected="pairs of a token and its bias", got="something else")
    return tuple(found)


def _words(path: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > ENTRIES_MAX:
        raise ProfileRefused(path, expected=f"an object of at most {ENTRIES_MAX} texts", got="something else")
    for name in value:
        if not _NAME.fullmatch(name):
            raise ProfileRefused(path, expected="names of 1 to 128 letters, digits or _.:+-", got="another")
    return MappingProxyType({name: _word(f"{path}.{name}", text) for name, text in value.items()})


def _word(path: str, value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ProfileRefused(path, expected="1 to 512 printable ASCII characters", got="something else")
    return value


def _digest(path: str, value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ProfileRefused(path, expected="64 hexadecimal digits", got="something else")
    return value


def _number(path: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise ProfileRefused(path, expected=f"0 to {NUMBER_MAX}", got="something else")
    return value


def _signed(path: str, value: object) -> int:
    if type(value) is not int or not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise ProfileRefused(path, expected=f"an integer up to {NUMBER_MAX} either way", got="something else")
    return value


def _numbers(path: str, value: object) -> tuple[int, ...]:
    return tuple([_number(path, each) for each in _list(path, value)])


def _ascending(path: str, value: object) -> tuple[int, ...]:
    numbers = _numbers(path, value)
    if list(numbers) != sorted(set(numbers)):
        raise ProfileRefused(path, expected="each once, ascending", got="another order")
    return numbers


def _list(path: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ProfileRefused(path, expected="an array", got=type(value).__name__)
    return value


def _names(of: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(of))
