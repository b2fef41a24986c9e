"""The platform's HTTP API: the operations of `operations.py`, each with its handler."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from onecode.code.identity import prefix_of
from onecode.platform.api_aliases import AliasApi
from onecode.platform.api_checkpoints import CheckpointApi
from onecode.platform.api_operator import OperatorApi
from onecode.platform.api_partners import PartnerApi
from onecode.platform.api_payers import PayerApi
from onecode.platform.api_tills import TillApi
from onecode.platform.connections import Bounded
from onecode.platform.context import Platform
from onecode.platform.http import Call, answer_http_error, endpoint
from onecode.platform.notices import NoticeSender
from onecode.platform.operation import Operation, Who
from onecode.platform.operations import OPERATIONS
from onecode.platform.outbox import Sender
from onecode.platform.tills import Announcer


class PlatformApp:
    """The routes over one platform. Handlers run on threads, but for those of the tills that wait."""

    def __init__(self, platform: Platform, sender: Sender, notices: NoticeSender) -> None:
        self._platform = platform
        self._announcer = Announcer()
        prefix = prefix_of(platform.config.chain_id)
        self._parts = (
            PayerApi(platform, notices, prefix),
            OperatorApi(platform, sender, prefix),
            AliasApi(platform, sender, prefix),
            TillApi(platform, self._announcer, prefix),
            PartnerApi(platform),
            CheckpointApi(platform),
        )

    def starlette(self) -> Any:
        """The ASGI application."""
        routes = [self._route(operation) for operation in OPERATIONS]
        app = Starlette(routes=routes, exception_handlers={HTTPException: answer_http_error})
        app.router.redirect_slashes = False
        return Bounded(app, self._platform.config.connections_max)

    def _handler(self, name: str) -> Callable[[Call], Any]:
        found = [getattr(part, name) for part in self._parts if hasattr(part, name)]
        (handler,) = found
        return handler  # type: ignore[no-any-return]

    def _route(self, operation: Operation) -> Route:
        handler = self._handler(operation.name)
        config = self._platform.config
        is_write = operation.method != "GET"

        async def answer(call: Call) -> Response:
            if operation.who == (Who.OPERATOR,):
                call.require_bearer(config.operator_token)
            if inspect.iscoroutinefunction(handler):
                waited: Awaitable[Response] = handler(call)
                return await waited
            response: Response = await run_in_threadpool(handler, call)
            if is_write:
                self._announcer.wake()
            return response

        return Route(
            operation.path,
            endpoint(answer, config.body_bytes_max, config.request_timeout_ms),
            methods=[operation.method],
        )
