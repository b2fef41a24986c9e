"""What a wallet is set up with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WalletConfig:
    """One wallet. Ids are 20 bytes, keys 32.

    chain_id: of the registry. platform: id of the wallet's own platform; platform_root: that platform's public root
    key, pinned; platform_url: its API. node_urls: the own platform's node first. trust_file: encoded TrustFile, where
    trust begins. partners: further platforms whose records are accepted, in order of preference. allow_solo: accept a
    chain of one validator. timeout_ms: of one request. header_age_ms_max: how old the chain's word may be.
    witness_urls: nodes of other organisations that headers are compared with; empty: the other ones of `node_urls`.
    witness_interval_ms: how often at most. payment_attempts: sendings of one payment in one call; retry_pause_ms:
    before the second, doubled at each further.
    """

    chain_id: str
    platform: bytes
    platform_root: bytes
    platform_url: str
    node_urls: tuple[str, ...]
    trust_file: bytes
    partners: tuple[bytes, ...] = ()
    allow_solo: bool = False
    timeout_ms: int = 5_000
    header_age_ms_max: int = 30_000
    witness_urls: tuple[str, ...] = ()
    witness_interval_ms: int = 60_000
    payment_attempts: int = 4
    retry_pause_ms: int = 250
