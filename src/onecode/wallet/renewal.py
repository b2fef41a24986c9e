"""Renewing a wallet's trust: a newer trust file of its own platform takes the place of what the directory holds."""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.proof.light import Trust
from onecode.wallet.headers import (
    TrustSettings,
    own_trust,
    require_anchor,
    saved_header,
    trust_body,
    verify_first,
    verify_renewal,
)
from onecode.wallet.store import Stop, WalletStore


def renew(store: WalletStore, data: bytes, settings: TrustSettings, now_ms: int) -> Trust:
    """Verify a trust file against what the wallet holds (`verify_renewal`), keep its header, and begin from it.

    After a fork the own header may be of the false branch and counts no more: which branch is the chain is the word of
    the own platform, in a file that it issued after the fork was noticed, by an anchor key that was not taken back.
    Raises `Untrusted`; a file that forks from the own header is kept as evidence.
    """
    saved, stop = store.load_header(), store.load_stop()
    leaf = saved.own if saved is not None else None
    if stop is not None:
        trust = _verify_after_fork(data, settings, stop, now_ms)
        require_anchor(data, leaf, settings)
    elif saved is None:
        trust, _ = verify_first(data, settings, now_ms)
    else:
        try:
            trust = verify_renewal(own_trust(saved, settings), data, settings, now_ms, leaf)
        except Untrusted as error:
            if error.code == "trust.fork":
                store.keep_evidence(f"trust-fork-{now_ms}.cbor", data)
            raise
    store.begin_again(saved_header(trust, leaf))
    return trust


def _verify_after_fork(data: bytes, settings: TrustSettings, stop: Stop, now_ms: int) -> Trust:
    trust, header = verify_first(data, settings, now_ms)
    if trust_body(data).issued_ms <= stop.noticed_ms or header.header.height < stop.height:
        raise Untrusted(
            "trust.before_fork",
            f"the chain forked at height {stop.height}: take a trust file that your platform issued after it looked",
            field="issued_ms",
        )
    return trust
