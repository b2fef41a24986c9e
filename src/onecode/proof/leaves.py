"""What the map holds about merchants, platforms, aliases and enclaves: the leaves a wallet and an enclave verify.

A leaf's value in the map is the CBOR of one of these messages. Timed effects are evaluated by the reader against the
block's time, from an `..._ms` in the leaf, so that an empty block changes nothing (docs/spec/registry.md).
"""

from __future__ import annotations

import dataclasses
from enum import IntEnum

from onecode.errors import Untrusted
from onecode.schema import Bytes, Choice, ListOf, Message, Nested, Text, Uint, item
from onecode.wire import Domain, encode, frame, sha256

ID = Bytes(20)  # merchant id or platform id
KEY = Bytes(32)  # Ed25519 or X25519 public key
HASH = Bytes(32)
TIME_MS = Uint((1 << 53) - 1)  # milliseconds since the epoch, UTC; exact in JSON too
SERVICE = Text(16)

LINKS_MAX = 32
SERVICES_MAX = 16
ORDER_KEYS_MAX = 16
ALIASES_MAX = 16
AUDIENCE_MAX = 16
PLATFORM_KEYS_MAX = 64
RETIRED_DEVICE_KEY_MS = 24 * 3600 * 1000


class Role(IntEnum):
    """What a platform's key may sign (docs/spec/registry.md)."""

    TRANSACTION = 1
    RECORD = 2
    DEVICE = 3
    KEY_SERVICE = 4
    RECEIPT = 5
    GOVERNANCE = 6
    ANCHOR = 7


class KeyState(IntEnum):
    ACTIVE = 1
    RETIRED = 2  # record keys verify links published before it; device keys 24 h more
    REVOKED = 3  # verifies nothing


class PlatformStatus(IntEnum):
    ACTIVE = 1
    SUSPENDED = 2


class Link(Message):
    """The public trace of one record. A withdrawn or unlinked record has no link: every listed link is live."""

    platform: bytes = item(1, ID)
    version: int = item(2, Uint())
    epoch: int = item(3, Uint())
    audience: tuple[bytes, ...] = item(4, ListOf(ID, AUDIENCE_MAX, ascending=True))  # partners; empty: `own`
    height: int = item(5, Uint())  # of publication
    envelope_hash: bytes = item(6, HASH)
    commitment: bytes = item(7, HASH)

    def readable_by(self, platform: bytes) -> bool:
        """Whether a wallet of `platform` is in the audience."""
        return platform == self.platform or platform in self.audience


class LinkList(Message):
    """All links of one merchant and service, ascending by platform, stored and returned whole."""

    links: tuple[Link, ...] = item(1, ListOf(Nested(Link), LINKS_MAX))


def links_hash(chain_id: str, merchant: bytes, service: str, links: LinkList) -> bytes:
    """Hash in the merchant entry that commits to a links list."""
    return links_bytes_hash(chain_id, merchant, service, links.encoded())


def links_bytes_hash(chain_id: str, merchant: bytes, service: str, links: bytes) -> bytes:
    """The same over the list's bytes; a list that parses has no other bytes."""
    body = encode([merchant, service, links])
    return sha256(frame(Domain.LINKS, chain_id, body))


class ServiceEntry(Message):
    """One service of a merchant: the hash of its links list. It stays when the list becomes empty."""

    service: str = item(1, SERVICE)
    links_hash: bytes = item(2, HASH)


class PendingRecovery(Message):
    controller: bytes = item(1, KEY)
    effective_ms: int = item(2, TIME_MS)


class MerchantEntry(Message):
    """One merchant. Never deleted. `recover` takes effect by time: read it through `settled_at`."""

    controller: bytes = item(1, KEY)
    recovery_hash: bytes = item(2, HASH)
    order_keys: tuple[bytes, ...] = item(3, ListOf(KEY, ORDER_KEYS_MAX, ascending=True))
    nonce: int = item(4, Uint())
    consent_serial: int = item(5, Uint())
    services: tuple[ServiceEntry, ...] = item(6, ListOf(Nested(ServiceEntry), SERVICES_MAX))  # ascending by service
    alias_count: int = item(7, Uint(ALIASES_MAX))
    frozen_from_ms: int | None = item(8, TIME_MS, default=None)
    frozen_until_ms: int | None = item(9, TIME_MS, default=None)
    recovery: PendingRecovery | None = item(10, Nested(PendingRecovery), default=None)

    def service(self, name: str) -> ServiceEntry | None:
        return next((entry for entry in self.services if entry.service == name), None)

    def settled_at(self, time_ms: int) -> MerchantEntry:
        """The entry as it stands at `time_ms`: a recovery that took effect has replaced the controller, raised the
        consent serial and cleared the order keys (docs/spec/registry.md); one that is still pending stays."""
        if self.recovery is None or time_ms < self.recovery.effective_ms:
            return self
        return dataclasses.replace(
            self,
            controller=self.recovery.controller,
            consent_serial=self.consent_serial + 1,
            order_keys=(),
            recovery=None,
        )

    def frozen_at(self, time_ms: int) -> bool:
        return self.frozen_until_ms is not None and time_ms < self.frozen_until_ms

    def order_keys_at(self, time_ms: int) -> tuple[bytes, ...]:
        """Order keys; none while a recovery is pending or after it took effect (docs/spec/registry.md)."""
        return () if self.recovery is not None else self.order_keys


class PlatformKey(Message):
    role: Role = item(1, Choice(Role))
    key: bytes = item(2, KEY)
    state: KeyState = item(3, Choice(KeyState))
    height: int = item(4, Uint())  # at which this state began
    since_ms: int = item(5, TIME_MS)  # block time at which this state began
    not_after_ms: int | None = item(6, TIME_MS, default=None)  # anchor keys: at most 90 days ahead


class PlatformNode(Message):
    """A node that a platform runs: its engine's node id and its public query address."""

    node_id: str = item(1, Text(64))
    url: str = item(2, Text(200))


class PlatformLeaf(Message):
    root: bytes = item(1, KEY)
    name: str = item(2, Text(64))
    status: PlatformStatus = item(3, Choice(PlatformStatus))
    keys: tuple[PlatformKey, ...] = item(4, ListOf(Nested(PlatformKey), PLATFORM_KEYS_MAX))
    epoch_min: int = item(5, Uint())
    active_from_ms: int = item(6, TIME_MS)  # an admission or restoration takes effect after the governance delay
    url: str | None = item(7, Text(200), default=None)  # the platform's service
    key_service_url: str | None = item(8, Text(200), default=None)
    nodes: tuple[PlatformNode, ...] = item(9, ListOf(Nested(PlatformNode), 16))

    def active_at(self, time_ms: int) -> bool:
        return self.status == PlatformStatus.ACTIVE and time_ms >= self.active_from_ms

    def key(self, role: Role, public: bytes) -> PlatformKey | None:
        return next((key for key in self.keys if key.role == role and key.key == public), None)

    def require_key(self, role: Role, public: bytes, time_ms: int, *, link_height: int | None = None) -> None:
        """Raise `Untrusted` unless `public` may verify something of `role` at `time_ms`.

        An active key may. A retired record key may for a link published before its retirement (`link_height`), a
        retired device key for 24 h more, others not. A revoked one never. Source: docs/spec/registry.md.
        """
        key = self.key(role, public)
        if key is None:
            raise Untrusted("platform.key_unknown", f"the platform has no such {role.name.lower()} key", field="key")
        if key.not_after_ms is not None and time_ms > key.not_after_ms:
            raise Untrusted("platform.key_expired", f"the platform's {role.name.lower()} key has expired", field="key")
        if key.state == KeyState.ACTIVE:
            return
        if key.state == KeyState.RETIRED:
            if role == Role.RECORD and link_height is not None and link_height < key.height:
                return
            if role == Role.DEVICE and time_ms <= key.since_ms + RETIRED_DEVICE_KEY_MS:
                return
        raise Untrusted(
            "platform.key_state", f"the platform's {role.name.lower()} key is {key.state.name.lower()}", field="key"
        )


class AliasLeaf(Message):
    """A label of another scheme that names this merchant."""

    merchant: bytes = item(1, ID)
    platform: bytes = item(2, ID)  # that bound it
    height: int = item(3, Uint())


def alias_key(guid: str, values: tuple[str, ...]) -> bytes:
    """Map key of an alias: a foreign template's GUID and the sub-objects that `scheme.assign` names, in its order."""
    return encode([guid, list(values)])


class EnclaveLeaf(Message):
    """One key service's word that it appraised an enclave: as what, on which evidence, until when. Keyed by
    `enclave_key`, so that no platform's word stands in the way of another's."""

    node_id: str = item(1, Text(64))
    kind: str = item(2, Text(16))  # software (simulated), tpm, sgx, tdx, snp
    measurement: bytes = item(3, Bytes(32, 64))
    evidence_hash: bytes = item(4, HASH)
    expires_ms: int = item(5, TIME_MS)


def enclave_key(query_key: bytes, platform: bytes) -> bytes:
    """Map key of what `platform`'s key service says of the enclave with this query key."""
    return query_key + platform
