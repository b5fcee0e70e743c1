"""`config.json` of a model, read strictly: every key is used or known to be irrelevant.

    describe(raw) -> Described(family, architecture, rotation)

Every key is either used, or known to change no bit of an inference, or refused by name. What is switched on and not
computed here (biases of the gated layer, dynamic rotary scaling, other activations, foreign quantizations) is refused
by its value. text.md L21 to L24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from appliance.engine.fixed.architecture import GROUPS, Architecture, Format, Quantization
from appliance.models.errors import ModelRefused
from appliance.models.rotary import Llama3, Rotation
from foundation.document import json_object
from foundation.refusal import shown

CONFIG_BYTES_MAX: Final = 1 << 20
METHOD: Final = "anchorhold"  # of `quantization_config`: the formats of engine.md X6 to X8


class Family(Enum):
    LLAMA = "llama"
    QWEN2 = "qwen2"
    QWEN3 = "qwen3"
    MISTRAL = "mistral"


@dataclass(frozen=True, slots=True)
class Described:
    """What a configuration says."""

    family: Family
    architecture: Architecture
    rotation: Rotation

    def limited(self, positions_max: int) -> Described:
        """The same model with a shorter memory: for a profile that serves fewer positions than it could."""
        if not 1 <= positions_max <= self.architecture.positions_max:
            raise ModelRefused("positions", expected=f"1 to {self.architecture.positions_max}", got=positions_max)
        return replace(self, architecture=replace(self.architecture, positions_max=positions_max))


_SIZES: Final[Mapping[str, int]] = {
    "num_hidden_layers": 512,
    "hidden_size": 1 << 16,
    "num_attention_heads": 1024,
    "num_key_value_heads": 1024,
    "head_dim": 512,
    "intermediate_size": 1 << 18,
    "vocab_size": 1 << 20,
    "max_position_embeddings": 1 << 20,
}
_USED: Final = frozenset(
    {
        *_SIZES,
        "model_type",
        "rms_norm_eps",
        "hidden_act",
        "tie_word_embeddings",
        "attention_bias",
        "mlp_bias",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
        "pretraining_tp",
        "use_mrope",
        "quantization_config",
    }
)
# Of training, of other programs, or of the tokenizer.
_NO_BIT: Final = frozenset(
    {
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "initializer_range",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "_name_or_path",
    }
)
_NO_OTHER: Final[Mapping[str, object]] = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "pretraining_tp": 1,
    "use_mrope": False,
}
_EPSILON_MAX: Final = 1e-2
_THETA_MAX: Final = 1e9
_FACTOR_MAX: Final = 1024.0


def describe(raw: bytes) -> Described:
    """Raises `ModelRefused` alone."""
    members = json_object(raw, "config", ModelRefused, bytes_max=CONFIG_BYTES_MAX, called="config.json", floats=True)
    if unknown := sorted(set(members) - _USED - _NO_BIT):
        raise ModelRefused("config.key", expected="keys whose meaning is known", got=", ".join(unknown)[:200])
    for name, only in _NO_OTHER.items():
        if members.get(name, only) != only or type(members.get(name, only)) is not type(only):
            raise _refused(name, only, members[name])
    family = _family(members)
    reader = _Reader(members)
    architecture = reader.architecture(family)
    return Described(family, architecture, reader.rotation())


def _family(members: Mapping[str, object]) -> Family:
    name = members.get("model_type")
    try:
        return Family(name)
    except ValueError:
        raise _refused("model_type", ", ".join(family.value for family in Family), name) from None


class _Reader:
    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = members

    def architecture(self, family: Family) -> Architecture:
        heads, width = self._size("num_attention_heads"), self._size("hidden_size")
        kv_heads = self._size("num_key_value_heads", heads if family is Family.LLAMA else None)
        head_width = self._size("head_dim", width // heads)
        if heads % kv_heads:
            raise _refused("num_key_value_heads", f"a divisor of {heads}", kv_heads)
        if head_width % 2:
            raise _refused("head_dim", "an even number", head_width)
        bias = self._flag("attention_bias")
        window, window_from = self._window(family)
        return Architecture(
            layers=self._size("num_hidden_layers"),
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_width,
            hidden=self._size("intermediate_size"),
            vocabulary=self._size("vocab_size"),
            positions_max=self._size("max_position_embeddings"),
            epsilon=self._number("rms_norm_eps", least=0.0, most=_EPSILON_MAX),
            rotary_width=head_width,
            tied=self._flag("tie_word_embeddings"),
            # Qwen2 has its three biases whatever the key says, and none on the output; elsewhere it has all four.
            attention_bias=family is Family.QWEN2 or bias,
            output_bias=family is not Family.QWEN2 and bias,
            head_norm=family is Family.QWEN3,
            window=window,
            window_from=window_from,
            quantization=self._quantization(),
        )

    def rotation(self) -> Rotation:
        scaling = self._rope("rope_parameters") or self._rope("rope_scaling") or {}
        theta = scaling.get("rope_theta", self._members.get("rope_theta", 10_000.0))
        base = _number("rope_theta", theta, least=1.0, most=_THETA_MAX)
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if scaling.get("type", kind) != kind:
            raise _refused("rope_scaling.type", "one type", f"{shown(kind)} and {shown(scaling.get('type'))}")
        match kind:
            case "default":
                _check_keys(scaling)
                return Rotation(base)
            case "linear":
                _check_keys(scaling, "factor")
                return Rotation(base, divisor=_factor(scaling, "factor"))
            case "llama3":
                names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
                _check_keys(scaling, *names)
                low, high = _factor(scaling, "low_freq_factor"), _factor(scaling, "high_freq_factor")
                if high <= low:
                    raise _refused("rope_scaling.high_freq_factor", f"more than {low}", high)
                original = scaling[names[3]]
                if type(original) is not int or not 1 <= original <= _SIZES["max_position_embeddings"]:
                    raise _refused(f"rope_scaling.{names[3]}", "a number of positions", original)
                return Rotation(base, llama3=Llama3(_factor(scaling, "factor"), low, high, original))
            case _:
                pass
        raise _refused("rope_scaling.rope_type", "default, linear or llama3", kind)

    def _rope(self, name: str) -> Mapping[str, object] | None:
        value = self._members.get(name)
        if value is not None and not isinstance(value, dict):
            raise _refused(name, "an object", value)
        return value

    def _window(self, family: Family) -> tuple[int | None, int]:
        layers = self._size("num_hidden_layers")
        window, first = self._members.get("sliding_window"), 0
        if family in {Family.QWEN2, Family.QWEN3}:
            if self._flag("use_sliding_window"):
                first = self._size("max_window_layers", least=0, most=_SIZES["num_hidden_layers"])
            else:
                window = None
        elif family is Family.LLAMA and window is not None:
            raise _refused("sliding_window", "none for a Llama model", window)
        if window is not None and (type(window) is not int or not 1 <= window <= _SIZES["max_position_embeddings"]):
            raise _refused("sliding_window", "a number of positions", window)
        if window is None or first >= layers:
            window, first = None, 0
        self._check_layers(layers, window, first)
        return window, first

    def _check_layers(self, layers: int, window: int | None, first: int) -> None:
        said = self._members.get("layer_types")
        from_window = layers if window is None else first
        meant = ["full_attention"] * from_window + ["sliding_attention"] * (layers - from_window)
        if said is not None and said != meant:
            raise _refused("layer_types", "what the window settings say", shown(said))

    def _quantization(self) -> Quantization:
        value = self._members.get("quantization_config")
        match value:
            case None:
                return Quantization()
            case {"quant_method": "anchorhold", "format": "int8" | "int4" as name, "group": int(group), **others} if (
                not others and type(group) is int and group in GROUPS
            ):
                return Quantization(Format(name), group)
            case _:
                pass
        raise _refused("quantization_config", f"{METHOD}, int8 or int4, groups of 32, 64 or 128", shown(value))

    def _size(self, name: str, default: int | None = None, *, least: int = 1, most: int | None = None) -> int:
        value = self._members.get(name)
        value = default if value is None else value
        top = most if most is not None else _SIZES[name]
        if type(value) is not int or not least <= value <= top:
            raise _refused(name, f"an integer from {least} to {top}", value)
        return value

    def _number(self, name: str, *, least: float, most: float) -> float:
        return _number(name, self._members.get(name), least=least, most=most)

    def _flag(self, name: str) -> bool:
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            raise _refused(name, "true or false", value)
        return value


def _number(name: str, value: object, *, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _refused(name, f"a number from {least} to {most}", value)
    return float(value)


def _factor(scaling: Mapping[str, object], name: str) -> float:
    return _number(f"rope_scaling.{name}", scaling.get(name), least=1.0, most=_FACTOR_MAX)


def _check_keys(scaling: Mapping[str, object], *names: str) -> None:
    if odd := set(scaling) - {*names, "rope_type", "type", "rope_theta"} or set(names) - set(scaling):
        raise _refused("rope_scaling", ", ".join(names) or "no numbers for this type", ", ".join(sorted(odd))[:200])


def _refused(name: str, expected: object, got: object) -> ModelRefused:
    return ModelRefused(f"config.{name}", expected=expected, got=repr(got)[:80])
