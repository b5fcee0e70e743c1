"""One sampler for each row of a batch that an engine keeps, as requests come, go and move.

For engines that call out for every row they are about to sample from: the row is answered with the one token that
`sampling.md` chooses, and greedy sampling underneath can then take nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from appliance.engine.protocol import SEED_BYTES, Sampling
from appliance.engine.sampling.rules import RANGES, SamplingRefused, check
from appliance.engine.sampling.sampler import Sampler
from foundation.refusal import outline

ARGUMENT: Final = "anchorhold_sampling"


def as_argument(sampling: Sampling, seed: bytes) -> dict[str, object]:
    """What travels with a request to whoever samples for it."""
    return {**asdict(sampling), "logit_bias": [list(each) for each in sampling.logit_bias], "seed": seed.hex()}


def of_argument(argument: object) -> tuple[Sampling, bytes]:
    """Raises `SamplingRefused` alone."""
    match argument:
        case {"seed": str(seed), "logit_bias": list(biases), **rest} if set(rest) == set(RANGES):
            numbers = {str(name): number for name, number in rest.items() if type(number) is int}
            if len(numbers) == len(rest) and all(_is_bias(each) for each in biases) and _HEX.fullmatch(seed):
                sampling = Sampling(**numbers, logit_bias=tuple((token, bias) for token, bias in biases))
                check(sampling)
                return sampling, bytes.fromhex(seed)
    raise SamplingRefused("sampling.argument", expected="a sampling and its seed", got=outline(argument))


_HEX: Final = re.compile(f"[0-9a-f]{{{2 * SEED_BYTES}}}")


def _is_bias(each: Any) -> bool:
    return isinstance(each, list) and len(each) == 2 and all(type(number) is int for number in each)


class Chooser(Protocol):
    """Chooses the tokens of one row, in order, from logits in whatever form its engine has them."""

    def resume(self, said: Sequence[int]) -> None: ...

    def choose(self, logits: Any) -> int: ...


@dataclass(slots=True)
class _Row:
    sampler: Chooser
    said: Sequence[int]  # the engine's own list, which grows
    heard: int


class Rows:
    """Rows by their number. `vocabulary` as the logits have it."""

    def __init__(
        self, vocabulary: int, chooser: Callable[[Sampling, bytes, tuple[int, ...], int], Chooser] = Sampler
    ) -> None:
        self._vocabulary: Final = vocabulary
        self._chooser: Final = chooser
        self._rows: dict[int, _Row] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._rows))

    def remove(self, number: int) -> None:
        self._rows.pop(number, None)

    def add(
        self, number: int, arguments: Mapping[str, object] | None, prompt: Sequence[int], said: Sequence[int]
    ) -> None:
        """A request without the argument keeps the engine's own sampling."""
        self.remove(number)
        if arguments is None or ARGUMENT not in arguments:
            return
        sampling, seed = of_argument(arguments[ARGUMENT])
        sampler = self._chooser(sampling, seed, tuple(prompt), self._vocabulary)
        sampler.resume(said)
        self._rows[number] = _Row(sampler, said, len(said))

    def move(self, number: int, to: int, *, swap: bool) -> None:
        one, other = self._rows.pop(number, None), self._rows.pop(to, None)
        if one is not None:
            self._rows[to] = one
        if swap and other is not None:
            self._rows[number] = other

    def choose(self, number: int, logits: Any) -> int:
        row = self._rows[number]
        if len(row.said) != row.heard:  # speculation or a missed step: the position would be wrong
            raise SamplingRefused("sampling.position", expected=f"{row.heard} tokens before", got=len(row.said))
        row.heard += 1
        return row.sampler.choose(logits)
