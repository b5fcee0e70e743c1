"""`fixed` on a GPU, proven and measured in one run of a few minutes: the same digests as the CPU's, and how fast.

    python -m bench.gpu [--bits bf16 int8 int4]

Random weights of the shapes of a 1B and an 8B Llama. Tokens a second first, at T = 0 and T = 1, and what share they are
of the rate at which the device copies its own memory, measured in the same call. Then bits: the steps of twelve
requests on the CPU and of `--runs` on the device, in turn, each with others before it.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Final

from appliance.engine.fixed.architecture import Architecture, Format, Quantization, Weights
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.kernels_build import build_for_device
from appliance.engine.fixed.library import Library
from appliance.engine.fixed.proven import open_device, open_library
from appliance.engine.fixed.quantization import QuantizedWeights
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.protocol import MICRO, EngineRequest, Sampling, Step

SHAPES: Final = {
    "1B": Architecture(
        layers=16,
        width=2048,
        heads=32,
        kv_heads=8,
        head_width=64,
        hidden=8192,
        vocabulary=128256,
        positions_max=1024,
        epsilon=1e-5,
        rotary_width=64,
        tied=True,
    ),
    "8B": Architecture(
        layers=32,
        width=4096,
        heads=32,
        kv_heads=8,
        head_width=128,
        hidden=14336,
        vocabulary=128256,
        positions_max=1024,
        epsilon=1e-5,
        rotary_width=128,
    ),
}
BITS: Final = {"bf16": Quantization(), "int8": Quantization(Format.INT8, 128), "int4": Quantization(Format.INT4, 128)}
TEMPERATURES: Final = (0, 700_000, MICRO)
REQUESTS: Final = 12
TOKENS: Final = 16
DECODED: Final = 256


class _Once:
    """Tensors made once for both engines."""

    def __init__(self, made: MadeWeights) -> None:
        self.architecture: Final = made.architecture
        self.rotary: Final = made.rotary
        self.tensor: Final = cache(made.tensor)


def weights_of(architecture: Architecture, quantization: Quantization, library: Library) -> Weights:
    made = _Once(MadeWeights(architecture))
    return made if quantization.format is Format.BF16 else QuantizedWeights(made, quantization, library)


def bytes_of(weights: int, quantization: Quantization) -> int:
    """Of a matrix: its numbers, and where they are codes, a scale for each group."""
    match quantization.format:
        case Format.BF16:
            return 2 * weights
        case Format.INT8:
            return weights + 2 * weights // quantization.group
        case Format.INT4:
            return weights // 2 + 2 * weights // quantization.group


def bytes_a_token(architecture: Architecture) -> int:
    """What a decode must read: every matrix of the layers, and the head."""
    a = architecture
    q, kv = a.heads * a.head_width, a.kv_heads * a.head_width
    layers = a.layers * a.width * (2 * q + 2 * kv + 3 * a.hidden)
    head = bytes_of(a.vocabulary * a.width, Quantization() if a.tied else a.quantization)
    return bytes_of(layers, a.quantization) + head


def request(number: int, max_tokens: int = TOKENS, temperature_micro: int | None = None) -> EngineRequest:
    prompt = tuple((number * 7919 + place * 104729) % 128_000 for place in range(24 + 5 * number))
    warmth = TEMPERATURES[number % len(TEMPERATURES)] if temperature_micro is None else temperature_micro
    return EngineRequest(prompt, max_tokens, bytes([number]) * 32, Sampling(warmth, top_p_micro=950_000))


def steps(engine: FixedEngine, asked: EngineRequest) -> list[Step]:
    return list(engine.run(asked))


def prove(device: FixedEngine, weights: Weights, runs: int, library: Library) -> None:
    host = FixedEngine(weights, threads=os.cpu_count() or 1, library=library)
    expected = [steps(host, request(number)) for number in range(REQUESTS)]
    different = sum(steps(device, request(run % REQUESTS)) != expected[run % REQUESTS] for run in range(runs))
    print(f"  {different} of {runs} runs differ from the CPU in any token or trace digest")


def measure(device: FixedEngine, architecture: Architecture) -> None:
    copy = device.library.kernels.fixed_copy_rate
    copy.restype, copy.argtypes = ctypes.c_double, [ctypes.c_size_t, ctypes.c_int]
    rate, rates = copy(4 << 30, 20), {}
    for temperature in (0, MICRO):
        steps(device, request(1, 8, temperature))
        started = time.perf_counter()
        running = device.run(request(1, DECODED, temperature))
        next(running)
        first = time.perf_counter()
        count = sum(1 for _ in running)
        rates[temperature] = count / (time.perf_counter() - first)
        print(
            f"  T = {temperature / MICRO:g}: {rates[temperature]:.1f} tokens/s, first token after "
            f"{1000 * (first - started):.1f} ms"
        )
    read = rates[0] * bytes_a_token(architecture)
    print(
        f"  reads {read / 1e12:.2f} TB/s, {read / rate:.0%} of the copy rate of {rate / 1e12:.2f} TB/s; "
        f"T = 1 at {rates[MICRO] / rates[0]:.1%} of T = 0"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Bits and speed of the fixed engine on a GPU.")
    parser.add_argument("--library", type=Path, default=Path("build/fixed_cuda.so"), help="built if it is not there")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--bits", nargs="+", choices=BITS, default=["bf16"])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments = parser.parse_args()
    if shutil.which("nvidia-smi") is None:
        print("no GPU here")
        return
    if not arguments.library.exists():
        build_for_device(arguments.library)
    library, host = open_device(arguments.library), open_library()
    print("the self-test's digest holds on the device")
    for name, bits in itertools.product(arguments.shapes, arguments.bits):
        print(f"{name} in {bits}:")
        weights = weights_of(SHAPES[name], BITS[bits], host)
        device = FixedEngine(weights, library=library, speculate=False)
        measure(device, weights.architecture)
        prove(device, weights, arguments.runs, host)


if __name__ == "__main__":
    main()
