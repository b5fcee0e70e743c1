"""`python -m tests.mutation attestation/verify attestation/policy`: does a test notice each small change?

Each mutant runs in a process of its own, forked from one that has the libraries loaded: the changed module
takes the place of the real one there, and the tests of its room run until the first fails. A mutant that
nothing notices is printed. A mutant that hangs is stopped and counts as noticed.

`--jobs` runs several at once, `--every N` takes each Nth mutant, for a quick look.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from tests.keys import rsa_key
from tests.mutation.mutants import Mutant, mutants_of, unchanged

SECONDS_MAX = 90
ROOMS = ("foundation", "measurements", "attestation", "appliance", "anchorhold", "devnet", "tests")

KEPT = ("tests", "tests.keys", "tests.mutation", "tests.mutation.mutants")

TDX = tuple(
    f"tests/unit/attestation/test_tdx_{subject}.py" for subject in ("verify", "collateral", "levels", "second_opinion")
)
GPU = tuple(f"tests/unit/attestation/test_gpu_{subject}.py" for subject in ("report", "rim", "published", "policy"))

# Which tests answer for which code, the sharpest first; the longest matching prefix counts.
TESTS: dict[str, tuple[str, ...]] = {
    "attestation/verify/tdx": (
        *TDX,
        "tests/cli/test_verify_tdx_gpu.py",
        "tests/unit/attestation/test_tdx_published.py",
    ),
    "attestation/sealed": ("tests/unit/attestation/sealed", "tests/cli/test_ask_open.py"),
    "attestation/verify/event_log.py": ("tests/unit/attestation/test_event_log.py",),
    "attestation/verify/gpu": (*GPU, "tests/cli/test_verify_tdx_gpu.py"),
    "attestation/verify/ec_chain.py": ("tests/unit/attestation/test_ec_chain.py", *TDX, *GPU),
    "attestation/policy/tdx.py": ("tests/unit/attestation/test_tdx_policy.py",),
    "attestation/policy/gpu.py": (
        "tests/unit/attestation/test_gpu_policy.py",
        "tests/unit/attestation/test_gpu_published.py",
    ),
    "attestation/evidence/tdx": ("tests/unit/attestation/test_tdx_parse.py", *TDX),
    "attestation/evidence/sgx_extension.py": ("tests/unit/attestation/test_tdx_parse.py",),
    "foundation/document.py": ("tests/unit/foundation/test_document.py",),
    "attestation/evidence/event_log.py": ("tests/unit/attestation/test_event_log.py",),
    "attestation/evidence/gpu": GPU,
    "attestation/evidence/canonical_xml.py": (
        "tests/unit/attestation/test_canonical_xml.py",
        "tests/unit/attestation/test_gpu_rim.py",
    ),
    "attestation/verify": (
        "tests/unit/attestation/test_snp_verify.py",
        "tests/unit/attestation/test_snp_chain.py",
        "tests/unit/attestation/test_snp_vectors.py",
        "tests/unit/anchorhold/test_verify_snp.py",
    ),
    "attestation/policy/snp.py": (
        "tests/unit/attestation/test_policy_snp.py",
        "tests/unit/attestation/test_policy_document.py",
    ),
    "attestation/policy/ear.py": ("tests/unit/attestation/test_ear.py",),
    "attestation/policy/appraise.py": (
        "tests/unit/attestation/test_policy_document.py",
        "tests/unit/attestation/test_tdx_policy.py",
        "tests/unit/attestation/test_gpu_policy.py",
        "tests/cli/test_verify_tdx_gpu.py",
    ),
    "attestation/policy": (
        "tests/unit/attestation/test_policy_document.py",
        "tests/unit/attestation/test_policy_snp.py",
        "tests/unit/anchorhold/test_verify_snp.py",
    ),
    "attestation/evidence/snp_report.py": (
        "tests/unit/attestation/test_snp_report.py",
        "tests/unit/attestation/test_snp_verify.py",
    ),
    "attestation/evidence/vek.py": ("tests/unit/attestation/test_vek.py",),
    "attestation/evidence/certificates.py": (
        "tests/unit/attestation/test_vek.py",
        "tests/unit/attestation/test_snp_vectors.py",
    ),
    "measurements/pack/safetensors.py": ("tests/unit/measurements/pack/test_safetensors.py",),
    "measurements/pack/keys.py": (
        "tests/unit/measurements/pack/test_pack_keys.py",
        "tests/unit/measurements/pack/test_pack_format.py",
        "tests/unit/measurements/pack/test_pack_opening.py",
    ),
    "measurements/pack": (
        "tests/unit/measurements/pack/test_pack_format.py",
        "tests/unit/measurements/pack/test_pack_files.py",
        "tests/unit/measurements/pack/test_pack_opening.py",
        "tests/cli/test_pack.py",
    ),
    "measurements/reference.py": ("tests/unit/measurements/test_reference.py",),
}


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a changed tree."""

    def __init__(self, name: str, tree: ast.Module, path: Path) -> None:
        self.name, self.code = name, compile(tree, str(path), "exec")
        self.path = path

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)  # noqa: S102  # running the changed module is the job


def noticed(mutant: Mutant) -> bool:
    """Run the tests against `mutant` in this process, which ends with it."""
    import pytest

    for name in [name for name in sys.modules if name.partition(".")[0] in ROOMS and name not in KEPT]:
        del sys.modules[name]
    module = ".".join(mutant.path.with_suffix("").parts)
    sys.meta_path.insert(0, Replaced(module, mutant.tree, mutant.path))
    quiet = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return pytest.main([*quiet, *tests_for(mutant.path)]) != 0


def tests_for(path: Path) -> tuple[str, ...]:
    found = [prefix for prefix in TESTS if path.as_posix().startswith(prefix)]
    if not found:
        raise SystemExit(f"no tests are named for {path}")
    return TESTS[max(found, key=len)]


def start(mutant: Mutant) -> int:
    """Fork a process for one mutant; it ends with 1 where a test noticed."""
    child = os.fork()
    if child:
        return child
    signal.alarm(SECONDS_MAX)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    status = 1
    try:
        status = int(noticed(mutant))
    except BaseException:  # noqa: BLE001  # a module that no longer imports was noticed
        status = 1
    finally:
        os._exit(status)


def run_all(mutants: Sequence[Mutant], jobs: int, *, quiet: bool = False) -> list[Mutant]:
    """The mutants nothing noticed."""
    survivors: list[Mutant] = []
    running: dict[int, Mutant] = {}
    waiting = list(reversed(mutants))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant)] = mutant
        child, status = os.wait()
        mutant = running.pop(child)
        if os.waitstatus_to_exitcode(status) == 0:
            survivors.append(mutant)
            if not quiet:
                print(f"survived: {mutant.name}", flush=True)
    return survivors


def files(paths: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("paths", nargs="+", help="files or folders, from the project's root")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--least", type=float, default=0.0, metavar="SHARE", help="fail below this share noticed")
    arguments = parser.parse_args()

    for library in ("cryptography.x509", "hypothesis", "pytest"):
        importlib.import_module(library)  # once, here, for every fork
    for name in ("ark", "intermediate", "intermediate-VLEK", "other"):
        rsa_key(name)
    total = dead = 0
    begun = time.monotonic()
    for path in files(arguments.paths):
        mutants = list(mutants_of(path))[:: arguments.every]
        if mutants and not run_all([unchanged(path)], 1, quiet=True):
            raise SystemExit(f"{path}: its tests fail without any change")
        survivors = run_all(mutants, arguments.jobs)
        total, dead = total + len(mutants), dead + len(mutants) - len(survivors)
        print(f"{path}: {len(mutants) - len(survivors)} of {len(mutants)} noticed", flush=True)
    share = dead / total if total else 1.0
    print(f"total: {dead} of {total} noticed ({share:.1%}) in {time.monotonic() - begun:.0f} s")
    return 0 if share >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
