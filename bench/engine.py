"""The fixed engine beside its peers, in one run: same random weights, same prompt lengths, same threads.

    python -m bench engine                      ours alone
    python -m bench.engine --peers PYTHON       with vLLM, transformers and llama.cpp (`make peers`)

Checkpoints of three sizes are made from a seed under build/bench, their weights normally distributed as trained ones
are nearly. The engines take turns, so that a bad minute of a shared machine meets them all; of each the best counts:
prefill of a prompt, then decoded tokens. Every matrix counts once a token, in the bytes of its format; that is held
against the rate at which memory is read (memchr, on as many threads, after each turn). What comes out above it was
read in fewer bytes: tight rows, or several tokens a pass. llama.cpp reads a GGUF made of the same checkpoint, and its
own Q8_0 and Q4_0 of it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from hashlib import shake_256
from pathlib import Path
from statistics import NormalDist
from typing import Final

from appliance.engine.fixed.architecture import Architecture, Format, Quantization, Tensor, Weights, names
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.memory import HugeMemory
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.quantization import QuantizedWeights
from appliance.engine.fixed.random_weights import REPEAT, MadeWeights
from appliance.engine.protocol import MICRO, EngineRequest, Sampling
from appliance.models.config import describe
from appliance.models.folder import open_folder
from appliance.models.loaded_model import load_model

HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = HERE.parent / "build" / "bench"


def _llama(layers: int, width: int, heads: int, kv_heads: int, hidden: int, vocabulary: int) -> Architecture:
    return Architecture(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_width=64,
        hidden=hidden,
        vocabulary=vocabulary,
        positions_max=1024,
        epsilon=1e-5,
        rotary_width=64,
    )


SIZES: Final = {
    "19M": _llama(8, 384, 6, 2, 1024, 8192),
    "160M": _llama(12, 768, 12, 12, 3072, 32000),
    "1.1B": _llama(22, 2048, 32, 4, 5632, 32000),
}
BITS: Final = {"bf16": Quantization(), "int8": Quantization(Format.INT8, 32), "int4": Quantization(Format.INT4, 32)}
LIKE: Final = {"bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}  # what llama.cpp has beside each


@dataclass(frozen=True, slots=True)
class Speed:
    prefill: float  # seconds of a prompt
    token: float  # seconds of a decoded token

    def best(self, other: Speed) -> Speed:
        return Speed(min(self.prefill, other.prefill), min(self.token, other.token))


@cache
def _quantiles() -> array[int]:
    return array(
        "H",
        (
            struct.unpack("<I", struct.pack("<f", NormalDist(0, 0.02).inv_cdf((i + 0.5) / 65536)))[0] + 0x8000 >> 16
            for i in range(65536)
        ),
    )


class NormalWeights(MadeWeights):
    """Of a standard deviation of 0.02: one of 65,536 quantiles each."""

    def tensor(self, name: str) -> Tensor:
        if "norm" in name:
            return super().tensor(name)
        shape = self._shapes[name]
        size = 2 * shape[0] * shape[1]
        drawn = array("H", shake_256(name.encode()).digest(min(size, REPEAT)))
        made = array("H", map(_quantiles().__getitem__, drawn)).tobytes()
        return Tensor(Format.BF16, shape, memoryview(made * -(-size // len(made)))[:size])


def write_checkpoint(architecture: Architecture, folder: Path, weights: Weights | None = None) -> None:
    """As this family's checkpoints are: config.json and one file of bf16 safetensors."""
    if (folder / "model.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    a, made, at, header = architecture, weights or NormalWeights(architecture), 0, {}
    for name, shape in names(a):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with (folder / "partial").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for name in header:
            file.write(made.tensor(name).data)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": a.width,
        "head_dim": a.head_width,
        "intermediate_size": a.hidden,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "vocab_size": a.vocabulary,
        "max_position_embeddings": a.positions_max,
        "rms_norm_eps": a.epsilon,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "partial").rename(folder / "model.safetensors")


def bytes_a_token(weights: Weights) -> int:
    """Every matrix once; of the embedding one row."""
    a, total = weights.architecture, 0
    for name, shape in names(a):
        if len(shape) == 2 and not (name.startswith("model.embed_tokens") and not a.tied):
            tensor = weights.tensor(name)
            total += len(tensor.data) + (len(tensor.scales) if tensor.scales is not None else 0)
    return total


class Resident:
    """Weights as a cell holds them: in memory of huge pages, not mapped from a file."""

    def __init__(self, weights: Weights) -> None:
        kernels = open_library().kernels
        self.architecture = weights.architecture
        self.rotary = weights.rotary
        self._held = {name: _moved(weights.tensor(name), kernels) for name, _ in names(weights.architecture)}

    def tensor(self, name: str) -> Tensor:
        return self._held[name]


def _moved(tensor: Tensor, kernels: ctypes.CDLL) -> Tensor:
    held = HugeMemory(kernels, len(tensor.data)).view
    held[:] = tensor.data
    return replace(tensor, data=held.toreadonly())


def read_rate(threads: int, gibibytes: int = 1, rounds: int = 3) -> float:
    """Bytes a second, of memory that no cache holds, in huge pages."""
    find, kernels = ctypes.CDLL(None).memchr, open_library().kernels
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    size = (gibibytes << 30) // threads
    buffers = [HugeMemory(kernels, size) for _ in range(threads)]
    for buffer in buffers:
        ctypes.memset(buffer.address, 0, size)  # memory never written is one page, read from a cache
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            list(pool.map(lambda buffer: find(buffer.address, 1, size), buffers))
            best = max(best, size * threads / (time.perf_counter() - started))
    return best


def request(prompt: int, tokens: int, temperature: float) -> EngineRequest:
    ids = tuple((7 * place * place + 3 * place + 5) % 4000 + 3 for place in range(prompt))
    return EngineRequest(ids, tokens, bytes(32), Sampling(int(temperature * MICRO)))


def ours(engine: FixedEngine, asked: EngineRequest, rounds: int) -> Speed:
    prefill = token = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        running = engine.run(asked)
        next(running)
        first = time.perf_counter()
        count = sum(1 for _ in running)
        prefill = min(prefill, first - started)
        token = min(token, (time.perf_counter() - first) / count)
    return Speed(prefill, token)


def repetitive(engine: FixedEngine, tokens: int, rounds: int) -> Speed:
    """Of an answer that repeats itself: a bias keeps random weights at one token."""
    circle = tuple(range(100, 116))
    sampling = Sampling(logit_bias=((circle[0], 900 * MICRO),))
    asked = EngineRequest(circle * 8, tokens, bytes(32), sampling)
    return ours(engine, asked, rounds)


def peer(python: str, kind: str, model: Path, arguments: argparse.Namespace, temperature: float) -> Speed | None:
    done = subprocess.run(
        [
            python,
            str(HERE / "_peer.py"),
            kind,
            str(model),
            str(arguments.threads),
            str(arguments.prompt),
            str(arguments.tokens),
            str(arguments.rounds),
            str(temperature),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER,
    )
    if done.returncode:
        print(f"    {kind}: did not run ({done.stderr.strip().splitlines()[-1:]})")
        return None
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def gguf(python: str, folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.gguf"
    if not path.exists():
        subprocess.run(
            [python, str(HERE / "_gguf.py"), str(folder), str(path), *([kind] if kind != "bf16" else [])],
            check=True,
            capture_output=True,
        )
    return path


def peers(python: str, folder: Path, bits: str, arguments: argparse.Namespace) -> Iterator[tuple[str, float, Speed]]:
    kinds = [("llama", gguf(python, folder, LIKE[bits]))]
    if bits == "bf16":
        kinds += [("vllm", folder), ("transformers", folder)]
    for kind, model in kinds:
        for temperature in (0.0, 1.0) if bits == "bf16" else (0.0,):
            if (speed := peer(python, kind, model, arguments, temperature)) is not None:
                yield f"{kind} {model.stem if model.is_file() else 'bf16'}", temperature, speed


Turn = tuple[str, float, Speed]  # who, at which temperature


def contest(weights: Weights, bits: str, folder: Path, arguments: argparse.Namespace) -> Iterator[Turn]:
    engine = FixedEngine(weights, threads=arguments.threads, speculate=False)
    for _ in range(arguments.rounds):  # temperatures take turns too
        for temperature in (0.0, 0.5, 1.0):
            asked = request(arguments.prompt, arguments.tokens, temperature)
            yield f"fixed {bits}", temperature, ours(engine, asked, 1)
    guessing = FixedEngine(weights, threads=arguments.threads)
    yield f"fixed {bits}, again", 0.0, repetitive(guessing, arguments.tokens, arguments.rounds)
    if arguments.peers:
        yield from peers(arguments.peers, folder, bits, arguments)


def show(best: dict[tuple[str, float], Speed], bits: str, prompt: int, reads: int, rate: float) -> None:
    base = best[f"fixed {bits}", 0.0]
    for (name, temperature), speed in best.items():
        print(
            f"  {name:18} T={temperature:<3g}"
            f"   prefill {prompt / speed.prefill:8.1f} tok/s ({base.prefill / speed.prefill:5.2f})"
            f"   decode {1 / speed.token:8.1f} tok/s ({base.token / speed.token:5.2f})"
            f"   {reads / speed.token / 1e9:6.1f} GB/s, {reads / speed.token / rate:4.0%} of the read rate",
            flush=True,
        )


def measure(size: str, arguments: argparse.Namespace) -> None:
    folder = FOLDER / f"normal-{size}"
    write_checkpoint(SIZES[size], folder)
    print(
        f"{size}, {arguments.threads} threads, prompt {arguments.prompt}, {arguments.tokens} tokens. "
        "In brackets: speed as a share of ours at T=0",
        flush=True,
    )
    with open_folder(folder) as files:
        plain = Resident(load_model(files.tensors(), describe(files.file("config.json"))))
        for bits in arguments.bits:
            quantization = BITS[bits]
            weights: Weights = plain if bits == "bf16" else QuantizedWeights(plain, quantization, open_library())
            best: dict[tuple[str, float], Speed] = {}
            rate = 0.0
            for number in range(arguments.passes):
                for name, temperature, speed in contest(weights, bits, folder, arguments):
                    print(
                        f"    pass {number + 1} of {arguments.passes}: {name} at T={temperature:g}",
                        file=sys.stderr,
                        flush=True,
                    )
                    rate = max(rate, read_rate(arguments.threads))
                    best[name, temperature] = speed.best(best.get((name, temperature), speed))
            print(f" {bits}, memory read at {rate / 1e9:.1f} GB/s", flush=True)
            show(best, bits, arguments.prompt, bytes_a_token(weights), rate)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the fixed engine beside its peers.")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["19M", "160M"])
    parser.add_argument("--bits", nargs="+", choices=BITS, default=list(BITS))
    parser.add_argument(
        "--peers", metavar="PYTHON", help="an interpreter that has vllm, transformers, llama_cpp and gguf"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="decoded")
    parser.add_argument("--rounds", type=int, default=3, help="of each engine in a pass; the best counts")
    parser.add_argument("--passes", type=int, default=2, help="through all engines in turn; the best counts")
    arguments = parser.parse_args(sys.argv[1:])
    for size in arguments.sizes:
        measure(size, arguments)


if __name__ == "__main__":
    main()
