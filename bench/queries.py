"""Queries made before they are sent: a file of bodies, and the way to check the answer to any of them.

Query n of a run is a function of the run's seed and n (but for HPKE's own entropy), so that whoever knows the number
can open the answer. A file is a sequence of length (4 bytes, big-endian) and body.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import Pool
from pathlib import Path

from bench.world import CHAIN_ID, PLATFORMS, identity, platforms_of
from onecode.host.clock import now_ms
from onecode.node.view import Head
from onecode.proof.governance import HOUR_MS
from onecode.proof.leaves import PlatformLeaf, Role
from onecode.proof.light import Trust, VerifiedHeader, trusted_state, verify_header
from onecode.query.credential import sign_credential
from onecode.query.follow import Follower
from onecode.query.messages import Credential, MatchMode, Query
from onecode.record.payment import SERVICE_PAY
from onecode.schema import parse
from onecode.wallet.network import VerifiedNetwork
from onecode.wallet.resolve import Payer, Pending, Resolution, build_pending, resolve_answer
from onecode.wire import SigningKey, encode, sha256


@dataclass(frozen=True, slots=True)
class Run:
    """What the queries of one round have in common.

    devices: how many wallets ask in turn; 0 means that every query comes from a new one with a new credential.
    ids: of the merchants by their numbers, where they are not those of `bench.world`.
    """

    seed: bytes
    merchants: int
    query_key: bytes
    mode: MatchMode
    devices: int
    made_ms: int
    header: VerifiedHeader
    platforms_root: bytes
    leaves: dict[bytes, PlatformLeaf]
    chain_id: str = CHAIN_ID
    ids: tuple[bytes, ...] = ()

    def again(self, seed: bytes) -> Run:
        """The same for a new round."""
        return dataclasses.replace(self, seed=seed, made_ms=now_ms())

    def merchant(self, number: int) -> bytes:
        """The id of the merchant with this number."""
        return self.ids[number] if self.ids else identity(number)

    def network(self, own: bytes) -> VerifiedNetwork:
        """What a wallet of `own` knows of the node; the attestation of its enclave is taken as verified."""
        return VerifiedNetwork(self.header, self.query_key, self.leaves, self.platforms_root, self.leaves[own])


def run_of(head: Head, merchants: int, query_key: bytes, mode: MatchMode, devices: int, seed: bytes) -> Run:
    """What all queries to one enclave have in common; the header is verified from itself."""
    trust = Trust(trusted_state(head.signed.header, head.validator_set))
    return Run(
        seed=seed,
        merchants=merchants,
        query_key=query_key,
        mode=mode,
        devices=devices,
        made_ms=now_ms(),
        header=verify_header(head.signed, head.validator_set, trust, now_ms()),
        platforms_root=head.platforms_root,
        leaves=head.leaves,
    )


def draw(run: Run, number: int) -> int:
    """The merchant that query `number` is about."""
    return int.from_bytes(sha256(b"%s merchant %d" % (run.seed, number))[:8], "big") % run.merchants


@cache
def _device(label: bytes) -> SigningKey:
    return SigningKey.from_seed(sha256(label))


@cache
def _known_credential(chain_id: str, platform: int, device: bytes, from_ms: int) -> bytes:
    return make_credential(chain_id, platform, device, from_ms)


def make_credential(chain_id: str, platform: int, device: bytes, from_ms: int) -> bytes:
    """A device's credential for twelve hours, issued by the platform at this place."""
    issuer = PLATFORMS[platform]
    body = Credential(
        platform=issuer.id,
        device=device,
        account=device[:16],
        valid_from_ms=from_ms,
        valid_until_ms=from_ms + 12 * HOUR_MS,
    )
    return sign_credential(chain_id, body, issuer.key(Role.DEVICE))


def pending(run: Run, number: int) -> Pending:
    """Query `number`, sealed and signed."""
    merchant = draw(run, number)
    own, partner = platforms_of(merchant)[:: 1 if number & 1 else -1]
    place = PLATFORMS.index(own)
    if run.devices:
        device = _device(b"device %d" % (number % run.devices))
        from_ms = run.made_ms // HOUR_MS * HOUR_MS
        credential = _known_credential(run.chain_id, place, device.public, from_ms)
    else:
        device = SigningKey.from_seed(sha256(b"%s device %d" % (run.seed, number)))
        credential = make_credential(run.chain_id, place, device.public, run.made_ms - HOUR_MS)
    payer = Payer(run.chain_id, own.id, credential, device, (partner.id,))
    entropy = (sha256(b"%s id %d" % (run.seed, number)) + sha256(b"%s reply %d" % (run.seed, number)))[:48]
    network = run.network(own.id)
    return build_pending(run.merchant(merchant), payer, network, run.header, run.mode, entropy, run.made_ms)


def check_answer(run: Run, number: int, sent: bytes, answer: bytes) -> Resolution:
    """All that a wallet checks of the answer to query `number`; raises what it would raise."""
    return verify_answer(dataclasses.replace(pending(run, number), query=parse(Query, sent)), answer)


def verify_answer(asked: Pending, answer: bytes) -> Resolution:
    """The same where the query is at hand."""
    return resolve_answer(asked, answer, Follower(Trust(asked.newest), HOUR_MS), now_ms(), HOUR_MS)


def _bodies(given: tuple[Run, int, int]) -> bytes:
    run, first, last = given
    return frames([pending(run, number).query.encoded() for number in range(first, last)])


def frames(bodies: list[bytes]) -> bytes:
    """Bodies as they lie in a file."""
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def write_queries(path: Path, run: Run, count: int, pool: Pool, chunk: int = 500) -> None:
    """Write queries 0 to `count` - 1."""
    parts = [(run, first, min(first + chunk, count)) for first in range(0, count, chunk)]
    with path.open("wb") as file:
        for bodies in pool.imap(_bodies, parts):
            file.write(bodies)


def write_lookups(path: Path, run: Run, count: int) -> None:
    """The same merchants as in `write_queries`, asked of a directory: merchant and service in CBOR."""
    bodies = [encode([run.merchant(draw(run, number)), SERVICE_PAY]) for number in range(count)]
    path.write_bytes(frames(bodies))
