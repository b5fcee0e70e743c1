"""Who may import whom, judged from the source text: one case per file.

A room reaches only into the rooms named for it here, and a few places inside a room are narrower still. The
last tests hand the judge sources that break each rule, so that it cannot pass by seeing nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

EVERYTHING_BELOW = {"foundation", "vsock_bridge", "measurements", "attestation"}
MAY_IMPORT = {
    "foundation": set(),
    "vsock_bridge": set(),
    "measurements": {"foundation"},
    "attestation": {"foundation", "measurements"},
    "appliance": EVERYTHING_BELOW,
    "image_build": {"foundation", "measurements"},
    "anchorhold": EVERYTHING_BELOW | {"appliance", "image_build"},
    "devnet": EVERYTHING_BELOW | {"appliance", "image_build", "anchorhold"},
    "bench": EVERYTHING_BELOW | {"appliance", "image_build", "devnet", "anchorhold"},
    "gateway": EVERYTHING_BELOW,
}
OURS = frozenset(MAY_IMPORT) | {"tests"}
DYNAMIC = ("import_module", "__import__")

# Whoever carries bytes between a broker and its clients may speak over the bridge; nobody else in that room.
ALSO = {
    "attestation.broker.server": {"vsock_bridge"},
    "image_build.boot": {"vsock_bridge"},  # what a bare machine serves, and where it is spoken with
    "anchorhold.verbs.image_boot": {"devnet"},  # `image boot --devnet` gives the machine the devnet's simulated chip
}

# Inside a room: (this part, may not import that part, why).
NARROWER = (
    ("attestation.evidence", "attestation.verify", "evidence parses and proves nothing"),
    ("attestation.evidence", "attestation.policy", "evidence knows no policy"),
    ("attestation.verify", "attestation.policy", "what is genuine does not depend on what is wanted"),
    ("attestation.policy", "attestation.verify", "a policy never sees a certificate"),
    ("attestation.policy", "cryptography.x509", "a policy never sees a certificate"),
    ("attestation.consensus", "attestation.policy", "a subnet's word is verified, not appraised"),
    ("attestation.tee", "attestation.verify", "the cell asks for a quote and judges none"),
    ("attestation.report_data", "attestation.verify", "both sides compute it alike"),
    ("attestation.auditor", "appliance", "the auditor installs without an engine"),
    ("attestation.auditor", "torch", "the auditor installs without an engine"),
    ("attestation.broker", "appliance", "the broker is no part of a cell"),
    ("attestation.sealed", "attestation.broker", "client and cell compute it alike"),
    ("attestation.sealed", "attestation.verify", "what is sealed is sealed to a key, whoever holds it"),
    ("anchorhold.client", "appliance", "an app installs no cell"),
    ("anchorhold.client", "attestation.broker", "an app installs no broker"),
    ("anchorhold.client", "devnet", "an app installs no devnet"),
    ("anchorhold.client", "vsock_bridge", "an app speaks with a gateway"),
    ("appliance", "attestation.broker", "a cell holds no key of the broker's"),
    ("appliance", "attestation.auditor", "a cell does not audit itself"),
    ("appliance", "attestation.verify.openssl_opinion", "a second opinion is asked outside the image"),
    ("appliance.engine", "appliance.ordering", "the engine sees token ids and nothing else"),
    ("appliance.engine", "attestation", "the engine sees token ids and nothing else"),
    ("appliance.engine", "vsock_bridge", "the engine sees token ids and nothing else"),
    ("appliance.engine", "appliance.text", "the engine sees token ids and nothing else"),
    ("appliance.engine", "appliance.models", "the engine knows no file of a model"),
)
# What a policy may use of `verify`: the facts, made there and sealed.
VERIFIED_FACTS = "attestation.verify.verified"


def sources() -> Iterator[Path]:
    for room in sorted(MAY_IMPORT):
        yield from sorted((ROOT / room).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, *, is_package: bool) -> set[str]:
    """Every module that `source` names, in any position, also as text handed to `import_module`."""
    found: set[str] = set()
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in DYNAMIC:
            found.add(_text(node.args[0]))
    return {name for name in found if name}


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(argument: ast.expr) -> str:
    """A literal name, or the literal start of a composed one."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    value = argument.value if isinstance(argument, ast.Constant) else ""
    return value.rstrip(".") if isinstance(value, str) else ""


def within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def violations(module: str, names: set[str]) -> list[str]:
    """Which imports of `module` break a rule, each with the rule it breaks."""
    room = module.partition(".")[0]
    allowed = MAY_IMPORT[room] | {room}
    for part, more in ALSO.items():
        if within(module, part):
            allowed = allowed | more
    found = [
        f"{module} imports {name}: {room} may import {', '.join(sorted(MAY_IMPORT[room])) or 'none of ours'}"
        for name in sorted(names)
        if name.partition(".")[0] in OURS - allowed
    ]
    for part, forbidden, why in NARROWER:
        if within(module, part):
            found += [
                f"{module} imports {name}: {why}"
                for name in sorted(names)
                if within(name, forbidden) and not _sealed_facts(part, name)
            ]
    return found


def _sealed_facts(part: str, name: str) -> bool:
    """The modules of `verify` that hold the sealed types, and the package on the way to them."""
    if part != "attestation.policy":
        return False
    return name == "attestation.verify" or name.startswith(VERIFIED_FACTS)


@pytest.mark.parametrize("path", list(sources()), ids=module_of)
def test_a_file_imports_only_what_its_room_may(path: Path):  # evidence-production.md E128
    module = module_of(path)
    names = imported(path.read_text(), module, is_package=path.name == "__init__.py")
    assert violations(module, names) == []


def import_graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Who imports whom, of these modules alone. Importing `a.b.c` is no import of the package `a.b` as well."""
    graph = {}
    for module, path in files.items():
        names = imported(path.read_text(), module, is_package=path.name == "__init__.py") & (files.keys() - {module})
        graph[module] = {
            name
            for name in names
            if files[name].name != "__init__.py" or not any(other.startswith(f"{name}.") for other in names)
        }
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Every set of modules that import each other in a circle (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        open_.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in open_:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            circle = open_[open_.index(module) :]
            del open_[open_.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in graph:
        if module not in order:
            visit(module)
    return found


def test_no_modules_import_each_other_in_a_circle():
    files = {module_of(path): path for path in (*sources(), *sorted((ROOT / "tests").rglob("*.py")))}
    assert circles(import_graph(files)) == []


def test_the_build_of_the_kernels_runs_with_none_of_our_modules():
    """setup.py and the image's build run it where there are only the sources."""
    module = "appliance.engine.fixed.kernels_build"
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert {name.partition(".")[0] for name in imported(path.read_text(), module, is_package=False)} & OURS == set()


@pytest.mark.parametrize(
    ("graph", "circle"),
    [
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}, [["a", "b", "c"]]),
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
    ],
)
def test_the_judge_sees_a_circle(graph: dict[str, set[str]], circle: list[list[str]]):
    assert circles(graph) == circle


def test_the_rooms_are_there():
    seen = {path.relative_to(ROOT).parts[0] for path in sources()}
    assert set(MAY_IMPORT) - {"bench", "gateway"} <= seen


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("foundation.x", "import measurements"),
        ("vsock_bridge.x", "from foundation import cbor"),
        ("measurements.x", "from attestation.errors import EvidenceRefused"),
        ("attestation.x", "import vsock_bridge.frame"),
        ("attestation.x", "def late():\n    import appliance"),
        ("attestation.tee.x", "from devnet.tee import SimulatedSnpTee"),
        ("appliance.boot", "import importlib\nimportlib.import_module('devnet.tee')"),
        ("appliance.boot", "import importlib\nname = 'x'\nimportlib.import_module(f'devnet.{name}')"),
        ("appliance.boot", "__import__('devnet')"),
        ("appliance.boot", "try:\n    import devnet\nexcept ImportError:\n    pass"),
        ("appliance.boot", "from attestation import broker"),
        ("appliance.boot", "from attestation.auditor.checks import x"),
        ("appliance.engine.native", "from appliance.ordering import sequencer"),
        ("appliance.engine.native", "from ..ordering import sequencer"),
        ("appliance.engine.native", "from .. import ordering"),
        ("appliance.engine.native", "from attestation.errors import EvidenceRefused"),
        ("appliance.engine.native", "import vsock_bridge"),
        ("attestation.evidence.x", "from attestation.verify.verified import SEAL"),
        ("attestation.evidence.x", "from ..policy import claims"),
        ("attestation.verify.x", "from attestation.policy.claims import Claim"),
        ("attestation.policy.x", "from attestation.verify.chain import verify_chain"),
        ("attestation.policy.x", "from attestation.verify import chain"),
        ("attestation.policy.x", "from cryptography import x509"),
        ("attestation.policy.x", "import cryptography.x509.oid"),
        ("attestation.policy.x", "from attestation.verify.evidence_bundle import VerifiedBundle"),
        ("attestation.broker.store", "import vsock_bridge"),
        ("anchorhold.host.x", "import devnet"),
        ("image_build.x", "import devnet"),
        ("image_build.x", "import vsock_bridge"),
        ("image_build.boot.x", "import devnet"),
        ("bench.x", "from tests.vm import tables"),
        ("devnet.x", "import bench"),
        ("foundation.x", "from tests.fakes import fuse"),
        ("anchorhold.client.x", "from appliance.serving.window import Piece"),
        ("anchorhold.client.x", "import devnet.gateway"),
        ("attestation.sealed.x", "from attestation.broker.store import Store"),
    ],
)
def test_the_judge_sees_a_violation(module: str, source: str):
    assert violations(module, imported(source, module, is_package=False)) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("foundation.x", "import hashlib\nfrom foundation import cbor"),
        ("attestation.policy.x", "from attestation.verify.verified import VerifiedSnp"),
        ("attestation.policy.x", "from attestation.verify.verified_tdx import VerifiedTdxQuote"),
        ("attestation.broker.server", "import vsock_bridge"),
        ("image_build.boot.x", "import vsock_bridge"),
        ("devnet.x", "import anchorhold.host"),
        ("devnet.x", "import appliance"),
    ],
)
def test_the_judge_lets_through_what_is_allowed(module: str, source: str):
    assert violations(module, imported(source, module, is_package=False)) == []
