"""Trust files: certified by the pinned root, signed by its anchor key, for this chain and time."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from onecode.errors import Untrusted
from onecode.proof.trust import (
    ANCHOR_MS_MAX,
    TrustBody,
    TrustFile,
    certify_anchor,
    sign_trust_file,
    trust_anchor_hash,
    verify_trust_file,
)
from onecode.wire import SigningKey
from vectors.proof_chain import CHAIN_ID, MEMBERS, NOW_MS, SIX, TRUSTED, signed_by

ROOT, ANCHOR, OTHER = (SigningKey.from_seed(bytes((number,)) * 32) for number in (1, 2, 3))
BODY = TrustBody(
    chain_id=CHAIN_ID,
    header=signed_by(TRUSTED, SIX),
    validators=MEMBERS,
    trusting_period_ms=86_400_000,
    issued_ms=NOW_MS,
)


def file(root: SigningKey = ROOT, anchor: SigningKey = ANCHOR, days_ms: int = 1_000, **changes: Any) -> TrustFile:
    certificate = certify_anchor(CHAIN_ID, root, anchor.public, NOW_MS + days_ms)
    return dataclasses.replace(sign_trust_file(BODY, certificate, anchor), **changes)


def verify(made: TrustFile, *, chain_id: str = CHAIN_ID, now_ms: int = NOW_MS) -> Any:
    return verify_trust_file(made.encoded(), ROOT.public, chain_id, now_ms, allow_solo=False)


def test_a_good_file_gives_what_to_verify_from() -> None:
    trust, header = verify(file(days_ms=ANCHOR_MS_MAX))
    assert trust.state.header == TRUSTED
    assert trust.trusting_period_ms == BODY.trusting_period_ms
    assert trust_anchor_hash(trust) == header.header_hash


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (file(root=OTHER), "trust.root"),
        (file(days_ms=0), "trust.anchor_expired"),
        (file(days_ms=ANCHOR_MS_MAX + 1), "trust.anchor_expired"),
        (file(anchor=OTHER, signature=bytes(64)), "signature.bad"),
        (file(certificate=bytes(64)), "signature.bad"),
        (file(anchor_not_after_ms=NOW_MS + 2_000), "signature.bad"),
        (dataclasses.replace(file(), anchor=OTHER.public), "signature.bad"),
        (file(body=dataclasses.replace(BODY, issued_ms=1).encoded()), "signature.bad"),
    ],
)
def test_a_file_that_its_root_and_anchor_did_not_make_is_refused(made: TrustFile, code: str) -> None:
    with pytest.raises(Untrusted) as caught:
        verify(made)
    assert caught.value.code == code


def test_a_file_for_another_chain_or_too_old_is_refused() -> None:
    with pytest.raises(Untrusted, match=r"trust\.chain"):
        verify(file(), chain_id="other")
    with pytest.raises(Untrusted, match=r"header\.trust_expired"):
        verify(file(days_ms=ANCHOR_MS_MAX), now_ms=NOW_MS + 2 * 86_400_000)
