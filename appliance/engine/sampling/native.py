"""`sampling.c` through ctypes: the same tokens as `reference`, but fast.

Who builds the library decides how: any C compiler, `-ffp-contract=off`, no fast-math. That it gives the right bits is
shown by `self_test`, not assumed.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Sequence
from typing import Final

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling import reference
from appliance.engine.sampling.rules import RANGES, Edit, History, SamplingRefused, key_of
from appliance.engine.trace import LEADERS, packed


class _Sampling(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in RANGES]  # in the order of sampling.h


class _Edit(ctypes.Structure):
    _fields_ = [
        ("token", ctypes.c_int32),
        ("seen", ctypes.c_int32),
        ("count", ctypes.c_int64),
        ("bias_micro", ctypes.c_int64),
        ("kept", ctypes.c_float),
        ("unused", ctypes.c_int32),
    ]


class _Leader(ctypes.Structure):
    _fields_ = [("token", ctypes.c_int32), ("value", ctypes.c_float)]


_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32
_FUNCTIONS: Final = {
    "ah_step": (_INT, [_POINTER, _INT, _POINTER, _POINTER, _INT, ctypes.c_uint64, _POINTER, _INT, _POINTER, _POINTER]),
    "ah_leaders": (_INT, [_POINTER, _INT, _INT, _POINTER, _POINTER]),
    "ah_scratch_bytes": (ctypes.c_size_t, [_INT]),
    "ah_weight": (ctypes.c_uint64, [ctypes.c_double]),
    "ah_noise": (ctypes.c_double, [ctypes.c_uint64, _INT]),
}


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise SamplingRefused("sampling.library", expected=f"a function {name}", got="none")
        function.restype, function.argtypes = result, arguments
    return library


class NativeSampling:
    """The functions of one loaded library, with the scratch they need for a vocabulary. One call at a time."""

    def __init__(self, library: ctypes.CDLL, vocabulary: int) -> None:
        self.vocabulary: Final = vocabulary
        _declared(library)
        self._step = library.ah_step
        self._leaders = library.ah_leaders
        # made once: a step allocates nothing of its own
        self._scratch = (ctypes.c_uint64 * (library.ah_scratch_bytes(vocabulary) // 8 + 1))()
        self._scratch_at = ctypes.addressof(self._scratch)
        self._led = (_Leader * LEADERS)()
        self._led_at = ctypes.addressof(self._led)
        self._found = ctypes.c_int32()
        self._found_at = ctypes.addressof(self._found)

    def step(self, logits: int, sampling: int, edits: int, edit_count: int, *, key: int) -> int:
        """The token from the float32 logits at that address; what it was chosen from is `led` until the next call."""
        token: int = self._step(
            logits,
            self.vocabulary,
            sampling,
            edits,
            edit_count,
            key,
            self._scratch_at,
            LEADERS,
            self._led_at,
            self._found_at,
        )
        return token

    def led(self) -> bytes:
        """The leaders of the last step, in order, as a trace covers them (`trace.packed`)."""
        size = self._found.value * ctypes.sizeof(_Leader)
        return (
            bytes(self._led)[:size]
            if sys.byteorder == "little"
            else packed([(leader.token, leader.value) for leader in self._led[: self._found.value]])
        )

    def leaders(self, logits: int, wanted: int) -> list[tuple[int, float]]:
        """The greatest logits at that address, in order."""
        leaders = (_Leader * wanted)()
        found = self._leaders(logits, self.vocabulary, wanted, leaders, self._scratch_at)
        return [(leader.token, leader.value) for leader in leaders[:found]]


class NativeSampler:
    """The tokens of one answer, in order. As `sampler.Sampler`, over logits at an address."""

    def __init__(self, native: NativeSampling, sampling: Sampling, seed: bytes, prompt: tuple[int, ...] = ()) -> None:
        self._native: Final = native
        self._history: Final = History(sampling, prompt, native.vocabulary)
        self._seed: Final = seed
        self._position = 0
        self._sampling: Final = _Sampling(*(getattr(sampling, name) for name in RANGES))
        self._sampling_at: Final = ctypes.addressof(self._sampling)
        self._places: dict[int, int] = {}
        self._take((_Edit * max(16, 2 * len(self._history.edits)))())
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
        token = self._native.step(logits, self._sampling_at, self._edits_at, len(self._places), key=key)
        self._position += 1
        if (edit := self._history.said(token)) is not None:
            self._write(token, edit)
        return token

    def led(self) -> bytes:
        """What the last token was chosen from, as a trace covers it: before any other sampler's choice."""
        return self._native.led()

    def choose(self, logits: array[float]) -> int:
        """The same from an array of float32."""
        if logits.typecode != "f" or len(logits) != self._native.vocabulary:
            raise SamplingRefused("sampling.logits", expected=f"{self._native.vocabulary} of float32", got=len(logits))
        return self.choose_at(logits.buffer_info()[0])

    def _take(self, edits: ctypes.Array[_Edit]) -> None:
        self._edits = edits
        self._edits_at = ctypes.addressof(edits)

    def _write(self, token: int, edit: Edit) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._edits):
            larger = (_Edit * (2 * place))()
            ctypes.memmove(larger, self._edits, ctypes.sizeof(self._edits))
            self._take(larger)
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
    _declared(library)
    for number in range(256):
        gap = -number * 28.5 / 255
        if library.ah_weight(gap) != reference.weight(gap):
            raise SamplingRefused(
                "sampling.self-test", expected=f"the weight of {gap!r}", got=repr(library.ah_weight(gap))
            )
        if library.ah_noise(number, number) != reference.noise(number, number):
            raise SamplingRefused(
                "sampling.self-test", expected=f"the noise of {number}", got=repr(library.ah_noise(number, number))
            )


SELF_TEST: Final = (
    Sampling(),
    Sampling(temperature_micro=MICRO),
    Sampling(temperature_micro=700_000, top_k=50, top_p_micro=900_000),
    Sampling(temperature_micro=MICRO, top_p_micro=950_000, min_p_micro=10_000),
    Sampling(
        temperature_micro=500_000,
        repetition_penalty_micro=1_300_000,
        frequency_penalty_micro=400_000,
        presence_penalty_micro=200_000,
        logit_bias=((7, 3_000_000), (4000, -5_000_000)),
    ),
)
