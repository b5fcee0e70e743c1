"""The locks in requirements/: one completed from the other, nothing without its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requirements.join import LockRefused, entries, joined

LOCKS = Path(__file__).resolve().parents[2] / "requirements"
NAMES = st.sampled_from(["a", "b-c", "d", "numpy", "setuptools", "z9"])
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2}){0,2}(\+cpu)?", fullmatch=True)


def pin(name: str, version: str) -> str:
    return f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n    # via somebody\n"


def lock(pins: dict[str, str]) -> str:
    return "".join(pin(name, version) for name, version in sorted(pins.items()))


@given(st.dictionaries(NAMES, VERSIONS), st.dictionaries(NAMES, VERSIONS))
def test_the_first_lock_stands_and_the_second_fills_it(first: dict[str, str], second: dict[str, str]) -> None:
    both = joined(lock(first), lock(second))
    assert both == lock({**second, **first})
    assert joined(both, lock(second)) == both


def test_a_name_is_one_however_it_is_written() -> None:
    assert joined(pin("Typing_Extensions", "1"), pin("typing-extensions", "2")) == pin("Typing_Extensions", "1")


def test_what_pip_compile_says_at_the_end_is_no_entry() -> None:
    assert joined(pin("a", "1") + "\n# WARNING: left out\n# torchvision\n", "") == pin("a", "1")


@pytest.mark.parametrize(
    "text",
    [
        "a==1\n",
        "a>=1 \\\n    --hash=sha256:00\n",
        "a==1 \\\n",
        "a==1 \\\n    # via b\n",
        "--index-url somewhere\n",
        "    --hash=sha256:00\n",
        pin("a", "1") + pin("A", "2"),
    ],
)
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(LockRefused):
        entries(text)


def test_the_lock_of_vllm_has_all_that_the_rest_of_the_project_needs() -> None:
    whole = (LOCKS / "vllm.txt").read_text("utf-8")
    assert joined(whole, (LOCKS / "dev.txt").read_text("utf-8")) == whole
    project = tomllib.loads((LOCKS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    locked = entries(whole)
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["vllm-cpu"]]:
        name, version = re.split("==", wanted)
        assert re.match(rf"{re.escape(name)}=={re.escape(version)}[+ ]", locked[name])
    assert locked.keys().isdisjoint({"torchaudio", "torchcodec", "torchvision"})


@pytest.mark.parametrize("name", ["peers-build", "peers"])
def test_peers_change_no_version_that_vllm_stands_on(name: str) -> None:
    vllm, peers = (entries((LOCKS / f"{each}.txt").read_text("utf-8")) for each in ("vllm", name))
    both = vllm.keys() & peers.keys()
    assert "numpy" in both or name != "peers"
    assert {each: vllm[each].split()[0] for each in both} == {each: peers[each].split()[0] for each in both}


@pytest.mark.parametrize("name", ["cell", "broker", "dev", "lock-tools"])
def test_the_public_index_has_all_that_the_default_environment_is_made_of(name: str) -> None:
    """It takes no build with a local version (PEP 440), as torch's for the CPU is."""
    locked = entries((LOCKS / f"{name}.txt").read_text("utf-8"))
    assert [entry.split()[0] for entry in locked.values() if "+" in entry.split()[0]] == []
    assert locked.keys().isdisjoint({"torch", "transformers", "vllm", "vllm-cpu"})


def test_the_default_environment_builds_the_project_without_asking_an_index() -> None:
    project = tomllib.loads((LOCKS.parent / "pyproject.toml").read_text("utf-8"))
    locked = entries((LOCKS / "dev.txt").read_text("utf-8"))
    for wanted in project["build-system"]["requires"]:
        assert locked[wanted.split("==")[0]].split()[0] == wanted


@pytest.mark.parametrize("name", ["cell", "broker", "dev", "lock-tools", "vllm", "peers-build", "peers"])
def test_no_lock_says_where_packages_are_fetched(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text("utf-8")
    assert entries(text)
    assert re.search(r"://|--(index|extra-index|find|trusted)", text) is None
