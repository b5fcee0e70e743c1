"""The gateway's interface is one that clients of the first module, and of the LLM canister, still understand."""

from __future__ import annotations

from pathlib import Path

import pytest

from devnet.gateway import ARTEFACTS
from tests.candid_subtyping import differences, read_interface

VECTORS = Path(__file__).parents[2] / "vectors"
GATEWAY = (ARTEFACTS / "gateway.did").read_text("utf-8")


def against(new: str, old: str) -> list[str]:
    return differences(read_interface(new), read_interface(old))


@pytest.mark.parametrize("old", ["gateway-first.did", "llm-canister.did"])
def test_clients_of_an_older_interface_understand_this_one(old: str) -> None:
    text = (VECTORS / old).read_text("utf-8")
    assert len(read_interface(text).methods) >= 2
    assert against(GATEWAY, text) == []


def test_an_older_module_is_not_taken_for_this_one() -> None:
    found = against((VECTORS / "gateway-first.did").read_text("utf-8"), GATEWAY)
    assert "v1_chat: is gone" in found
    assert "get_slice(result 0).tree: is missing" in found


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        ("{ f : (nat) -> (nat) }", "{ f : (nat) -> (int) }", ""),
        ("{ f : (int) -> (nat) }", "{ f : (nat) -> (nat) }", ""),
        ("{ f : (nat) -> (nat) }", "{ f : (int) -> (nat) }", "f(argument 0): another kind of type"),
        ("{ f : (record { a : nat; b : opt text }) -> () }", "{ f : (record { a : nat }) -> () }", ""),
        ("{ f : (record { a : nat; b : text }) -> () }", "{ f : (record { a : nat }) -> () }",
         "f(argument 0).b: is missing"),
        ("{ f : () -> (record { a : nat; b : text }) }", "{ f : () -> (record { a : nat }) }", ""),
        ("{ f : () -> (record { a : nat }) }", "{ f : () -> (record { a : nat; b : text }) }",
         "f(result 0).b: is missing"),
        ("{ f : () -> (variant { a; b }) }", "{ f : () -> (variant { a }) }",
         "f(result 0).b: is a case that was not there"),
        ("{ f : (variant { a; b }) -> () }", "{ f : (variant { a }) -> () }", ""),
        ("{ f : () -> (opt nat) }", "{ f : () -> (opt text) }", "f(result 0).opt: another kind of type"),
        ("{ f : () -> (nat) query }", "{ f : () -> (nat) }", "f: another mode"),
        ("{ f : (func (nat) -> () oneway) -> () }", "{ f : (func (int) -> () oneway) -> () }", ""),
        ("{ f : (func (int) -> () oneway) -> () }", "{ f : (func (nat) -> () oneway) -> () }",
         "f(argument 0)(argument 0): another kind of type"),
        ("{ }", "{ f : () -> () }", "f: is gone"),
    ],
)  # fmt: skip
def test_the_checker_knows_candids_rules(new: str, old: str, why: str) -> None:
    assert against(f"service : {new}", f"service : {old}") == ([why] if why else [])


def test_definitions_may_go_round() -> None:
    tree = "type T = record { next : opt T; at : nat }; service : { f : () -> (T) }"
    assert against(tree, tree.replace("at : nat", "at : int")) == []
    assert against(tree.replace("at : nat", "at : int"), tree) == ["f(result 0).at: another kind of type"]
