"""The measured state is a true one: its parts parse, fit each other, and its records are signed by their platforms."""

from __future__ import annotations

import pytest
from bench.world import CHAIN_ID, PLATFORMS, Rows, identity, platforms_of
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from onecode.host.clock import now_ms
from onecode.proof.leaves import LinkList, MerchantEntry, links_hash
from onecode.record.envelope import RecordIds, open_envelope, verify_commitment, verify_signed_record
from onecode.record.payment import parse_terms
from onecode.schema import parse
from onecode.wire import sha256

pytestmark = pytest.mark.clock

DAY_MS = 86_400_000


def test_a_merchants_rows_fit_each_other() -> None:
    rows = Rows(7, now_ms() // DAY_MS * DAY_MS)
    entry, links = parse(MerchantEntry, rows.entry), parse(LinkList, rows.links)
    assert rows.merchant == identity(7)
    assert entry.services[0].links_hash == links_hash(CHAIN_ID, rows.merchant, "pay", links)
    own = {platform.id: platform for platform in PLATFORMS}
    assert [link.platform for link in links.links] == [platform.id for platform in platforms_of(7)]
    for link, (platform, envelope, plain) in zip(links.links, rows.sealed, strict=True):
        assert link.platform == platform
        assert link.envelope_hash == sha256(envelope)
        ids = RecordIds(merchant=rows.merchant, platform=platform, service="pay", version=1, epoch=link.epoch)
        opened = open_envelope(CHAIN_ID, ids, envelope, AESGCMSIV(own[platform].epoch_key))
        record = verify_signed_record(CHAIN_ID, ids, verify_commitment(CHAIN_ID, ids, opened, link.commitment))
        assert record.encoded() == plain
        assert record.audience == link.audience
        parse_terms(record.terms)
