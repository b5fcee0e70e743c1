"""The Internet Computer's HTTP interface over a running network: what its agents and command lines speak.

    GET  /api/v2/status
    POST /api/v{2,3,4}/canister/ID/call        v2 answers at once; v3, v4 with the certified response if it comes
    POST /api/v{2,3}/canister/ID/query         signed by the node
    POST /api/v{2,3}/canister/ID/read_state    v3, as v4 of call, with sharded canister ranges in its delegation
    POST /api/v{2,3}/subnet/ID/read_state

A request that is not one, or not from whom it says, gets a 400 with one line that says why. Any web
page may ask (CORS).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from attestation.consensus import principal
from devnet.replica import management
from devnet.replica.certification import error_code
from devnet.replica.envelopes import Request, RequestRefused, authenticate, parse
from devnet.replica.messages import MANAGEMENT_CANISTER, Rejected, Rejection, rejection_of
from devnet.replica.reading import check_canister_paths, check_subnet_paths
from devnet.replica.running import Running
from devnet.subnet import RangesLayout
from foundation import cbor
from foundation.refusal import Refused

BODY_BYTES_MAX: Final = 5 << 20
ANSWER_S_MAX: Final = 10
IMPLEMENTATION: Final = "anchorhold-devnet"
CBOR: Final = "application/cbor"


def application(running: Running) -> Starlette:
    interface = _Interface(running)
    answers: list[tuple[str, str, Callable[[bytes, bytes, int], Awaitable[Response]], int]] = [
        ("canister", "call", interface.call, version) for version in (2, 3, 4)
    ]
    for version in (2, 3):
        answers += [
            ("canister", "query", interface.query, version),
            ("canister", "read_state", interface.read_canister_state, version),
            ("subnet", "read_state", interface.read_subnet_state, version),
        ]
    routes = [
        Route("/api/v2/status", interface.status, methods=["GET"]),
        *(
            Route(f"/api/v{version}/{kind}/{{about}}/{path}", _answering(answer, version), methods=["POST"])
            for kind, path, answer, version in answers
        ),
    ]
    anyone = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "HEAD", "POST"], allow_headers=["*"])
    return Starlette(routes=routes, middleware=[anyone])


def _encoded(value: cbor.Encodable, status: int = 200) -> Response:
    return Response(cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, value)), status, media_type=CBOR)


def _answering(
    answer: Callable[[bytes, bytes, int], Awaitable[Response]], version: int
) -> Callable[[HttpRequest], Awaitable[Response]]:
    """From HTTP and back: the body, whom it is about, and a 400 for whatever is refused."""

    async def endpoint(http: HttpRequest) -> Response:
        try:
            about = principal.from_text(http.path_params["about"])
            return await answer(about, await _body(http), version)
        except Refused as refused:
            return PlainTextResponse(str(refused), 400)

    return endpoint


async def _body(http: HttpRequest) -> bytes:
    body = bytearray()
    async for piece in http.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise RequestRefused("body", expected=f"at most {BODY_BYTES_MAX} bytes", got=f"{len(body)} bytes or more")
    return bytes(body)


class _Interface:
    def __init__(self, running: Running) -> None:
        self._running: Final = running
        self._certifier: Final = running.certifier

    async def status(self, _http: HttpRequest) -> Response:
        return _encoded(
            {"root_key": self._certifier.root_key, "replica_health_status": "healthy", "impl_version": IMPLEMENTATION}
        )

    async def call(self, about: bytes, body: bytes, version: int) -> Response:
        request = await self._request(body, "call")
        _check_about(request, about)
        call = await self._running.submit(
            request.canister,
            request.method,
            request.argument,
            request.sender,
            request_id=request.request_id,
            expiry_ns=request.expiry_ns,
        )
        if isinstance(call, Rejection):
            return _encoded({"status": "non_replicated_rejection", **_rejected(call)})
        if version == 2 or not await self._running.answered(call, ANSWER_S_MAX):
            return Response(status_code=202)
        certificate = await self._certificate(((b"request_status", request.request_id),), version >= 4)
        return _encoded({"status": "replied", "certificate": certificate})

    async def query(self, about: bytes, body: bytes, _version: int) -> Response:
        request = await self._request(body, "query")
        _check_about(request, about)

        def answer() -> dict[str, Any]:
            now_ns = self._running.time.go_on()
            try:
                reply = self._running.network.query(request.canister, request.method, request.argument, request.sender)
                response: dict[str, Any] = {"status": "replied", "reply": {"arg": reply}}
            except Rejected as rejected:
                response = {"status": "rejected", **_rejected(rejection_of(rejected))}
            return self._certifier.signed(request.request_id, response, now_ns)

        return _encoded(await self._running.do(answer))

    async def read_canister_state(self, about: bytes, body: bytes, version: int) -> Response:
        request = await self._request(body, "read_state")
        await self._running.do(lambda: check_canister_paths(request, about, self._running.network))
        return _encoded({"certificate": await self._certificate(request.paths, version >= 3)})

    async def read_subnet_state(self, about: bytes, body: bytes, version: int) -> Response:
        request = await self._request(body, "read_state")
        check_subnet_paths(request, about, self._certifier.subnet_id)
        return _encoded({"certificate": await self._certificate(request.paths, version >= 3)})

    async def _request(self, body: bytes, kind: str) -> Request:
        envelope = parse(body)
        request = authenticate(envelope, await self._running.do(self._running.time.go_on))
        if request.kind != kind:
            raise RequestRefused("request_type", expected=kind, got=request.kind)
        return request

    async def _certificate(self, paths: tuple[tuple[bytes, ...], ...], sharded: bool) -> bytes:
        layout = RangesLayout.SHARDED if sharded else RangesLayout.CLASSIC
        return await self._running.do(
            lambda: self._certifier.certificate(self._running.network, paths, self._running.time.go_on(), layout)
        )


def _rejected(rejection: Rejection) -> dict[str, Any]:
    return {
        "reject_code": int(rejection.code),
        "reject_message": rejection.message,
        "error_code": error_code(rejection),
    }


def _check_about(request: Request, about: bytes) -> None:
    """The canister in the address is the one that the request is about."""
    if request.canister != MANAGEMENT_CANISTER:
        if about != request.canister:
            raise RequestRefused("effective_canister_id", expected=request.canister.hex(), got=about.hex())
        return
    try:
        meant = management.effective_canister(request.method, request.argument)
    except Rejected as rejected:
        raise RequestRefused("management", expected=rejected.expected, got=rejected.got) from None
    if meant is not None and about != meant:
        raise RequestRefused("effective_canister_id", expected=meant.hex(), got=about.hex())
