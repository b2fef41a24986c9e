"""The operator's part of the API that binds labels of other schemes."""

from __future__ import annotations

from contextlib import suppress

from starlette.responses import Response

from onecode.code.identity import merchant_text
from onecode.errors import Declined, Unreachable
from onecode.platform.aliases import AliasRequest, bind_alias, load_aliases, load_binding
from onecode.platform.context import Platform
from onecode.platform.http import Call, json_response
from onecode.platform.outbox import Sender
from onecode.platform.plain import parse_merchant
from onecode.platform.schema import OutboxState
from onecode.schema import from_plain


class AliasApi:
    """Handlers of one platform; each runs on a thread, after the operator's token was checked."""

    def __init__(self, platform: Platform, sender: Sender, prefix: str) -> None:
        self._platform = platform
        self._sender = sender
        self._prefix = prefix

    def bind_alias(self, call: Call) -> Response:
        """200 once the chain has it, 202 while it waits in the outbox; `Declined` where the chain refused it."""
        merchant = parse_merchant(call, self._prefix)
        given = from_plain(AliasRequest, call.json(), "alias")
        state = OutboxState.DONE
        if bind_alias(self._platform, merchant, given):
            with suppress(Unreachable):
                self._sender.drain()
            state, refusal = load_binding(self._platform, merchant)
            if refusal is not None:
                raise Declined("alias.refused", f"the chain refused to bind the alias: {refusal}")
        plain = {
            "merchant": merchant.hex(),
            "merchant_text": merchant_text(merchant, self._prefix),
            "guid": given.guid,
            "values": list(given.values),
            "state": state,
        }
        return json_response(plain, 200 if state == OutboxState.DONE else 202)

    def aliases(self, call: Call) -> Response:
        return json_response(load_aliases(self._platform, parse_merchant(call, self._prefix)))
