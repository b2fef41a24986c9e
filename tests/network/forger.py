"""Headers by validators' own keys, and a registry of the forger's making: what bribed validators can put together."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from typing import Any

from network.liar import THE_QUERYS, Bribed
from onecode.proof.governance import ENCLAVE_POLICY_KEY
from onecode.proof.header import (
    BlockId,
    Commit,
    CommitVote,
    Header,
    SignedHeader,
    Validator,
    ValidatorSet,
    VoteFlag,
    header_hash,
    validators_hash,
    vote_sign_bytes,
)
from onecode.proof.leaves import LinkList, MerchantEntry, PlatformLeaf, Role, enclave_key, links_hash
from onecode.proof.map import Section, app_hash
from onecode.query.messages import (
    Answer,
    ClearQuery,
    HeaderView,
    NetworkView,
    Opened,
    ProvenEnclave,
    ProvenMerchant,
    ProvenPlatform,
    Query,
    Result,
)
from onecode.record.envelope import RecordIds, SignedRecord, commitment, sign_record
from onecode.record.payment import SERVICE_PAY
from onecode.record.schema import parse_record
from onecode.registry.map import prove, section_roots, update
from onecode.registry.store import MemoryStore
from onecode.schema import parse
from onecode.wire import SigningKey

ABSENT = CommitVote(flag=VoteFlag.ABSENT)
THIEF = "A thief's shop"


def powers(members: ValidatorSet) -> dict[bytes, int]:
    return {one.public_key: one.power for one in members.validators}


class Forger:
    """Holds validators' keys and signs with them what it likes."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.keys = {key.public: key for key in keys}

    def vote(self, header: Header, commit: Commit, key: bytes, stamp_ns: int | None = None) -> CommitVote:
        stamp_ns = stamp_ns or time.time_ns()
        signature = self.keys[key].sign_bytes(vote_sign_bytes(header.chain_id, commit, stamp_ns))
        address = Validator(public_key=key, power=0).address
        return CommitVote(flag=VoteFlag.COMMIT, validator_address=address, timestamp_ns=stamp_ns, signature=signature)

    def sign(self, header: Header, members: ValidatorSet, signers: Collection[bytes]) -> HeaderView:
        """The header with a fresh vote of each signer."""
        block = BlockId(hash=header_hash(header), parts_total=1, parts_hash=bytes(32))
        commit = Commit(height=header.height, round=0, block_id=block, votes=())
        votes = tuple(
            self.vote(header, commit, one.public_key) if one.public_key in signers else ABSENT
            for one in members.validators
        )
        return HeaderView(
            header=SignedHeader(header=header, commit=dataclasses.replace(commit, votes=votes)), validators=members
        )

    def own_set(self, members: ValidatorSet, power: int) -> ValidatorSet:
        """The validators that hold together so much power, as if there were no others."""
        chosen = with_power(members, power)
        return ValidatorSet(validators=tuple(one for one in members.validators if one.public_key in chosen))

    def beside(self, real: HeaderView, members: ValidatorSet, signers: Collection[bytes], **changes: Any) -> HeaderView:
        """A rival of a real header: of these validators, signed by those."""
        hashed = validators_hash(members)
        header = dataclasses.replace(real.header.header, validators_hash=hashed, next_validators_hash=hashed, **changes)
        return self.sign(header, members, signers)


def with_power(members: ValidatorSet, power: int) -> tuple[bytes, ...]:
    """Keys of validators that have exactly this power together."""
    for count in range(1, len(members.validators) + 1):
        for some in combinations(members.validators, count):
            if sum(one.power for one in some) == power:
                return tuple(one.public_key for one in some)
    raise AssertionError(f"no validators have a power of {power} together")


def revote(view: NetworkView, change: Callable[[SignedHeader], Sequence[CommitVote]], **changes: Any) -> NetworkView:
    """The view with other votes under its header."""
    signed = view.header
    commit = dataclasses.replace(signed.commit, votes=tuple(change(signed)), **changes)
    return dataclasses.replace(view, header=dataclasses.replace(signed, commit=commit))


class FalseState:
    """The chain's registry but for one thing: the shop's record is a thief's, and all of it proves so.

    Whoever believes a header over it pays the thief.
    """

    def __init__(self, bribed: Bribed, merchant: bytes) -> None:
        self.bribed, self.merchant, self.store = bribed, merchant, MemoryStore()
        clear = ClearQuery(
            protocol=1, chain_id=bribed.chain_id, merchant=merchant, service=SERVICE_PAY, query_key=bytes(32)
        )
        told, opened = bribed.opened(clear)
        self.view = bribed.broken_network()
        thief = SigningKey.from_seed(os.urandom(32))
        self._write_record(told, opened, thief)
        self.platforms = {one.platform: one.leaf for one in self.view.platforms}
        leaf = parse(PlatformLeaf, self.platforms[bribed.platform])
        keys = tuple(
            dataclasses.replace(one, key=thief.public) if one.role == Role.RECORD else one for one in leaf.keys
        )
        self.platforms[bribed.platform] = dataclasses.replace(leaf, keys=keys).encoded()
        update(self.store, Section.PLATFORMS, dict(self.platforms))
        update(self.store, Section.GOVERNANCE, {ENCLAVE_POLICY_KEY: self.view.policy})
        self._enclave = enclave_key(bribed.query_key, bribed.platform)
        update(self.store, Section.ENCLAVES, {self._enclave: self.view.enclaves[0].leaf})
        self.roots = section_roots(self.store)
        self.app_hash = app_hash(self.roots)

    def _write_record(self, told: Answer, opened: Result, thief: SigningKey) -> None:
        assert told.merchant is not None and told.merchant.entry is not None
        chain_id, own = self.bribed.chain_id, self.bribed.platform
        links = parse(LinkList, told.merchant.links or b"").links
        link = next(one for one in links if one.platform == own)
        true = parse(SignedRecord, next(one.signed_record for one in opened.opened if one.platform == own))
        record = dataclasses.replace(parse_record(true.record), display_name=THIEF)
        self.signed = sign_record(chain_id, record, true.salt, thief)
        ids = RecordIds(
            merchant=self.merchant, platform=own, service=SERVICE_PAY, version=link.version, epoch=link.epoch
        )
        false = dataclasses.replace(link, commitment=commitment(chain_id, ids, true.salt, self.signed.record))
        self.links = LinkList(links=tuple(false if one is link else one for one in links))
        entry = parse(MerchantEntry, told.merchant.entry)
        services = tuple(
            dataclasses.replace(one, links_hash=links_hash(chain_id, self.merchant, SERVICE_PAY, self.links))
            if one.service == SERVICE_PAY
            else one
            for one in entry.services
        )
        self.entry = dataclasses.replace(entry, services=services).encoded()
        update(self.store, Section.MERCHANTS, {self.merchant: self.entry})

    def network(self, head: HeaderView) -> NetworkView:
        """The view of a node of this registry, under a header of the forger's."""
        broken = self.view.enclaves[0]
        return dataclasses.replace(
            self.view,
            header=head.header,
            validators=head.validators,
            roots=self.roots,
            enclaves=(
                ProvenEnclave(
                    query_key=broken.query_key,
                    platform=broken.platform,
                    leaf=broken.leaf,
                    proof=prove(self.store, Section.ENCLAVES, self._enclave),
                ),
            ),
            platforms=self._platforms(),
            policy_proof=prove(self.store, Section.GOVERNANCE, ENCLAVE_POLICY_KEY),
        )

    def _platforms(self) -> tuple[ProvenPlatform, ...]:
        return tuple(
            ProvenPlatform(platform=one, leaf=leaf, proof=prove(self.store, Section.PLATFORMS, one))
            for one, leaf in self.platforms.items()
        )

    def answer(self, head: HeaderView, query: Query) -> Answer:
        """Its answer: the thief's record, sealed by the broken enclave."""
        result = Result(
            query_id=THE_QUERYS, opened=(Opened(platform=self.bribed.platform, signed_record=self.signed.encoded()),)
        )
        return Answer(
            height=head.header.header.height,
            header=head.header,
            validators=head.validators,
            roots=self.roots,
            merchant=ProvenMerchant(
                merchant=self.merchant,
                entry=self.entry,
                proof=prove(self.store, Section.MERCHANTS, self.merchant),
                links=self.links.encoded(),
            ),
            platforms=self._platforms(),
            sealed=self.bribed.seal(query, result),
        )
