"""Aliases: binding the labels of a scheme that this platform speaks for to merchants, through the outbox."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from onecode.errors import Declined, Untrusted
from onecode.platform.context import Platform
from onecode.platform.outbox import enqueue, has_waiting
from onecode.platform.schema import OutboxRow, OutboxState
from onecode.proof.leaves import alias_key
from onecode.registry.transactions import AliasBind, Consent, Kind, Purpose, SignedConsent
from onecode.schema import ListOf, Message, Nested, Text, item, parse

NO_SERVICE = ""  # an alias is of a merchant, not of one of its services


class AliasRequest(Message):
    """An alias to bind, with the merchant's consent for this platform and alias."""

    guid: str = item(1, Text(32))
    values: tuple[str, ...] = item(2, ListOf(Text(99), 8, min=1))
    consent: SignedConsent = item(3, Nested(SignedConsent))


def verify_alias_consent(given: AliasBind, platform: bytes, now_ms: int) -> None:
    """What can be told of the consent without the chain; the registry judges it in full.

    1. It is a consent to bind this alias, for this merchant and platform. 2. It has not expired.
    Does NOT check its signature and serial, nor that the platform speaks for the scheme.
    """
    consent = parse(Consent, given.consent.body, path="consent")
    key = alias_key(given.guid, given.values)
    wanted = (Purpose.ALIAS, given.merchant, platform, key)
    if (consent.purpose, consent.merchant, consent.platform, consent.alias) != wanted:  # 1
        raise Untrusted("alias.consent", "the consent is for another merchant, platform or alias", field="consent")
    if now_ms >= consent.expires_ms:  # 2
        raise Untrusted("alias.consent_expired", "the consent has expired; ask the merchant again", field="consent")


def bind_alias(platform: Platform, merchant: bytes, request: AliasRequest) -> bool:
    """Put the binding into the outbox; False where the chain proves that it holds already."""
    given = AliasBind(guid=request.guid, values=request.values, merchant=merchant, consent=request.consent)
    verify_alias_consent(given, platform.id, platform.clock_ms())
    leaf = platform.chain.fetch_alias(alias_key(given.guid, given.values))
    if leaf is not None and leaf.merchant == given.merchant:
        return False
    nonce_floor = platform.chain.last_nonce()
    with platform.database.write() as session:
        if has_waiting(session, given.merchant, NO_SERVICE):
            raise Declined("alias.busy", "another alias of this merchant is still on its way to the chain")
        enqueue(platform, session, Kind.ALIAS_BIND, given, given.merchant, NO_SERVICE, 0, b"", nonce_floor)
    return True


def load_binding(platform: Platform, merchant: bytes) -> tuple[OutboxState, str | None]:
    """How the newest binding of the merchant stands, and the chain's reason where it was refused."""
    with platform.database.read() as session:
        row = session.scalars(_bindings(merchant).order_by(OutboxRow.id.desc()).limit(1)).one()
        return OutboxState(row.state), row.refusal


def _bindings(merchant: bytes) -> Select[OutboxRow]:
    return select(OutboxRow).where(OutboxRow.merchant == merchant, OutboxRow.kind == int(Kind.ALIAS_BIND))


def load_aliases(platform: Platform, merchant: bytes) -> list[dict[str, Any]]:
    """What this platform was asked to bind to the merchant, newest last, each once, and whether it is bound now."""
    query = _bindings(merchant).order_by(OutboxRow.id)
    with platform.database.read() as session:
        rows = [(parse(AliasBind, row.payload), row.state, row.refusal) for row in session.scalars(query)]
    newest = {alias_key(given.guid, given.values): (given, state, refusal) for given, state, refusal in rows}
    found = []
    for key, (given, state, refusal) in newest.items():
        leaf = platform.chain.fetch_alias(key) if state != OutboxState.WAITING else None
        found.append(
            {
                "guid": given.guid,
                "values": list(given.values),
                "state": state,
                "refusal": refusal,
                "bound": leaf is not None and leaf.merchant == merchant,
            }
        )
    return found
