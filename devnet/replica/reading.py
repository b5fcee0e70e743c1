"""Which paths of the state tree a request may read: the interface specification's rules, and nothing beside them."""

from __future__ import annotations

from typing import Final, NoReturn

from devnet.replica.canister import Canister
from devnet.replica.envelopes import Request, RequestRefused
from devnet.replica.network import Network

_OF_CANISTERS: Final = (b"controllers", b"module_hash")
_OF_SUBNETS: Final = (b"public_key", b"canister_ranges", b"node", b"type")


def check_canister_paths(request: Request, about: bytes, network: Network) -> None:
    """Raises `RequestRefused` for a path that this sender may not read at this canister's address."""
    asked: set[bytes] = set()
    for path in request.paths:
        match path:
            case (b"request_status", request_id, *_):
                asked.add(request_id)
                _check_status(request, about, network, request_id)
            case (b"canister", canister_id, *rest):
                if canister_id != about:
                    _refuse("a path below the canister of the address", path)
                _check_canister(request, network.canisters.get(canister_id), tuple(rest), path)
            case _:
                _check_common(path)
    if len(asked) > 1:
        raise RequestRefused("paths", expected="the status of one request", got=f"of {len(asked)}")


def check_subnet_paths(request: Request, about: bytes, subnet_id: bytes) -> None:
    if about != subnet_id:
        raise RequestRefused("subnet", expected=subnet_id.hex(), got=about.hex())
    for path in request.paths:
        _check_common(path)


def _check_common(path: tuple[bytes, ...]) -> None:
    match path:
        case (b"time",) | (b"subnet",) | (b"subnet", _) | (b"canister_ranges", *_):
            return
        case (b"subnet", _, what, *_) if what in _OF_SUBNETS:
            return
    _refuse("a path that may be read here", path)


def _check_status(request: Request, about: bytes, network: Network, request_id: bytes) -> None:
    number = network.requests.get(request_id)
    if number is None:
        return  # absent, and proven so
    call = network.ingress[number]
    if call.caller != request.sender:
        raise RequestRefused(
            "request_status", expected="the sender of that request", got=f"sender {request.sender.hex()}"
        )
    if call.canister and call.canister != about:
        raise RequestRefused("request_status", expected="the canister of that request", got=about.hex())


def _check_canister(
    request: Request, canister: Canister | None, rest: tuple[bytes, ...], path: tuple[bytes, ...]
) -> None:
    match rest:
        case (what,) if what in _OF_CANISTERS:
            return
        case (b"metadata", name):
            found = None
            if canister is not None and canister.code is not None:
                found = canister.code.reachable.metadata(name.decode("utf-8", "replace"))
            if found is None or found[1]:
                return
            if canister is not None and canister.is_controller(request.sender):
                return
            raise RequestRefused(
                "metadata", expected="a controller, for what is private", got=f"sender {request.sender.hex()}"
            )
    _refuse("controllers, module_hash or metadata", path)


def _refuse(expected: str, path: tuple[bytes, ...]) -> NoReturn:
    shown = "/".join(label.decode("ascii", "backslashreplace")[:32] for label in path[:4])
    raise RequestRefused("path", expected=expected, got=shown)
