"""Aliases from the side of a merchant's tools: which of a label's accounts can stand for a merchant, and as what.

What the node says of schemes is believed as it stands: the worst that a false word gives is an alias that no label has.
"""

from __future__ import annotations

from dataclasses import dataclass

from onecode.code.reading import AliasSource, Code, parse_code
from onecode.errors import Declined, Malformed
from onecode.network.client import NodeClient
from onecode.network.merchant import CONSENT_MS, Merchant, build_signed
from onecode.proof.governance import SchemeLeaf, scheme_key
from onecode.proof.leaves import alias_key
from onecode.proof.map import Section
from onecode.query.messages import Alias, LeafView
from onecode.registry.transactions import AliasRelease, Consent, Kind, Purpose, sign_consent
from onecode.schema import parse


@dataclass(frozen=True, slots=True)
class LabelAlias:
    """One account of a label as an alias. platform: the one that speaks for the scheme."""

    alias: Alias
    platform: bytes

    @property
    def key(self) -> bytes:
        """The alias's key in the map."""
        return alias_key(self.alias.guid, self.alias.values)


def fetch_scheme(node: NodeClient, guid: str) -> SchemeLeaf | None:
    """Who speaks for a scheme and which sub-objects make its alias, by the node's word."""
    view = parse(LeafView, node.leaf(Section.GOVERNANCE, scheme_key(guid)), path="leaf")
    return None if view.leaf is None else parse(SchemeLeaf, view.leaf, path="scheme")


def fetch_aliases(node: NodeClient, payload: str, prefix: str) -> list[LabelAlias]:
    """What can be bound of a label of other schemes: its accounts whose scheme is assigned to a platform."""
    code = parse_code(payload, prefix=prefix)
    if isinstance(code, Code):
        raise Malformed("alias.own_code", "this code has a merchant id of ours: it needs no alias", field="alias")
    found = ((source, fetch_scheme(node, source.guid)) for source in code.sources)
    return [
        LabelAlias(_alias(source, scheme), scheme.platform)
        for source, scheme in found
        if scheme is not None and set(scheme.sub_objects) <= set(source.subs)
    ]


def _alias(source: AliasSource, scheme: SchemeLeaf) -> Alias:
    return Alias(guid=source.guid, values=tuple(source.subs[sub] for sub in scheme.sub_objects))


def choose_alias(found: list[LabelAlias], guid: str | None = None, platform: bytes | None = None) -> LabelAlias:
    """The one that is meant; raises where there is none, or where it must be said which."""
    fitting = [
        one for one in found if guid in (None, one.alias.guid) and (platform is None or one.platform == platform)
    ]
    if not fitting:
        whom = "that platform" if platform is not None else "a platform"
        raise Declined("alias.none", f"no account on this label is of a scheme that {whom} speaks for", field="alias")
    if len({one.key for one in fitting}) > 1:
        names = ", ".join(one.alias.guid for one in fitting)
        raise Malformed("alias.several", f"the label has several: say which by --guid: {names}", field="guid")
    return fitting[0]


def hand_over_alias(
    merchant: Merchant, label: LabelAlias, now_ms: int, valid_ms: int = CONSENT_MS
) -> dict[str, str | list[str]]:
    """What the platform that speaks for the scheme needs to bind the alias: the alias, and the merchant's consent."""
    consent = Consent(
        purpose=Purpose.ALIAS,
        merchant=merchant.id,
        platform=label.platform,
        alias=label.key,
        consent_serial=merchant.consent_serial,
        expires_ms=now_ms + valid_ms,
    )
    return {
        "merchant": merchant.text,
        "guid": label.alias.guid,
        "values": list(label.alias.values),
        "consent": sign_consent(merchant.chain_id, consent, merchant.controller).encoded().hex(),
    }


def build_release(merchant: Merchant, label: LabelAlias, now_ms: int) -> bytes:
    """The transaction by which the merchant takes its alias back, whatever any platform wants."""
    payload = AliasRelease(guid=label.alias.guid, values=label.alias.values)
    return build_signed(merchant, Kind.ALIAS_RELEASE, payload, now_ms)
