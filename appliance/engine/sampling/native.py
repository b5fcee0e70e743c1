"""`sampling.c` through ctypes: the same tokens as `reference`, fast enough to be beside the point.

Who builds the library decides how: any C compiler, `-ffp-contract=off`, no fast-math. That it gives the right bits is
shown by `self_test`, not assumed.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import Final

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling import reference
from appliance.engine.sampling.rules import RANGES, Edit, History, SamplingRefused, key_of


class _Sampling(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in RANGES]      # in the order of sampling.h


class _Edit(ctypes.Structure):
    _fields_ = [
        ("token", ctypes.c_int32),
        ("seen", ctypes.c_int32),
        ("count", ctypes.c_int64),
        ("bias_micro", ctypes.c_int64),
        ("kept", ctypes.c_float),
        ("unused", ctypes.c_int32),
    ]


class NativeSampling:
    """The functions of one loaded library, with the scratch they need for a vocabulary."""

    def __init__(self, library: ctypes.CDLL, vocabulary: int) -> None:
        self.vocabulary: Final = vocabulary
        self._choose = library.ah_choose
        self._choose.restype = ctypes.c_int32
        self._choose.argtypes = [
            ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64,
            ctypes.c_void_p,
        ]
        self._leaders = library.ah_leaders
        self._leaders.restype = ctypes.c_int32
        self._leaders.argtypes = [
            ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
        ]
        library.ah_scratch_bytes.restype = ctypes.c_size_t
        library.ah_scratch_bytes.argtypes = [ctypes.c_int32]
        size = library.ah_scratch_bytes(vocabulary)
        self._scratch = (ctypes.c_uint64 * (size // 8 + 1))()
        self._scratch_at = ctypes.addressof(self._scratch)

    def choose(self, logits: int, sampling: _Sampling, edits: ctypes.Array[_Edit], edit_count: int, key: int) -> int:
        token: int = self._choose(
            logits, self.vocabulary, ctypes.byref(sampling), edits, edit_count, key, self._scratch_at
        )
        return token

    def leaders(self, logits: int, wanted: int) -> list[tuple[int, float]]:
        """The greatest logits at that address, in order: what a step's trace covers."""
        tokens, values = (ctypes.c_int32 * wanted)(), (ctypes.c_float * wanted)()
        found = self._leaders(logits, self.vocabulary, wanted, tokens, values, self._scratch_at)
        return list(zip(tokens[:found], values[:found], strict=True))


class NativeSampler:
    """The tokens of one answer, in order. As `sampler.Sampler`, over logits at an address."""

    def __init__(
        self, native: NativeSampling, sampling: Sampling, seed: bytes, prompt: tuple[int, ...] = ()
    ) -> None:
        self._native: Final = native
        self._history: Final = History(sampling, prompt, native.vocabulary)
        self._seed: Final = seed
        self._position = 0
        self._sampling: Final = _Sampling(*(getattr(sampling, name) for name in RANGES))
        self._places: dict[int, int] = {}
        self._edits = (_Edit * max(16, 2 * len(self._history.edits)))()
        for token, edit in self._history.edits.items():
            self._write(token, edit)

    def resume(self, said: Sequence[int]) -> None:
        """Go on behind these tokens, which were chosen before."""
        for token in said:
            self._history.said(token)
        self._position += len(said)
        for token, edit in self._history.edits.items():
            self._write(token, edit)

    def choose_at(self, logits: int) -> int:
        """The next token from the float32 logits at this address, which are left as they were."""
        key = key_of(self._seed, self._position)
        token = self._native.choose(logits, self._sampling, self._edits, len(self._places), key)
        self._position += 1
        self._history.said(token)
        if (edit := self._history.edits.get(token)) is not None:
            self._write(token, edit)
        return token

    def choose(self, logits: array[float]) -> int:
        """The same from an array of float32."""
        if logits.typecode != "f" or len(logits) != self._native.vocabulary:
            raise SamplingRefused(
                "sampling.logits", expected=f"{self._native.vocabulary} of float32", got=len(logits)
            )
        return self.choose_at(logits.buffer_info()[0])

    def _write(self, token: int, edit: Edit) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._edits):
            larger = (_Edit * (2 * place))()
            ctypes.memmove(larger, self._edits, ctypes.sizeof(self._edits))
            self._edits = larger
        self._edits[place] = _Edit(token, edit.seen, edit.count, edit.bias_micro)


def self_test(library: ctypes.CDLL) -> None:
    """Hold a library against `reference` on a few hard inputs. Raises `SamplingRefused`: it must then not be used."""
    _test_arithmetic(library)
    vocabulary = 4096 + 37
    native = NativeSampling(library, vocabulary)
    logits = array("f", [((t * 2654435761) % 20011) / 1250.0 - 8.0 for t in range(vocabulary)])
    for number, sampling in enumerate(SELF_TEST):
        seed = bytes([number]) * 32
        sampler = NativeSampler(native, sampling, seed, (5, 6))
        history = History(sampling, (5, 6), vocabulary)
        for position in range(3):
            expected = reference.choose(logits, sampling, key_of(seed, position), history.edits)
            history.said(expected)
            if (got := sampler.choose(logits)) != expected:
                raise SamplingRefused("sampling.self-test", expected=f"token {expected}", got=f"token {got}")


def _test_arithmetic(library: ctypes.CDLL) -> None:
    library.ah_weight.restype, library.ah_weight.argtypes = ctypes.c_uint64, [ctypes.c_double]
    library.ah_noise.restype, library.ah_noise.argtypes = ctypes.c_double, [ctypes.c_uint64, ctypes.c_int32]
    for number in range(256):
        gap = -number * 28.5 / 255
        if library.ah_weight(gap) != reference.weight(gap):
            raise SamplingRefused("sampling.self-test", expected=f"the weight of {gap!r}", got="another")
        if library.ah_noise(number, number) != reference.noise(number, number):
            raise SamplingRefused("sampling.self-test", expected=f"the noise of {number}", got="another")


SELF_TEST: Final = (
    Sampling(),
    Sampling(temperature_micro=MICRO),
    Sampling(temperature_micro=700_000, top_k=50, top_p_micro=900_000),
    Sampling(temperature_micro=MICRO, top_p_micro=950_000, min_p_micro=10_000),
    Sampling(temperature_micro=500_000, repetition_penalty_micro=1_300_000, frequency_penalty_micro=400_000,
             presence_penalty_micro=200_000, logit_bias=((7, 3_000_000), (4000, -5_000_000))),
)
