"""The registry's own application on the network of one validator: quotas, proofs, restart, replay from the blocks."""

from __future__ import annotations

from pathlib import Path

from onecode.code.identity import platform_id
from onecode.node.blocks import load_block, load_proven, load_state, stored_result
from onecode.node.solo import Solo, SoloConfig
from onecode.node.store import StoreConfig, WriterStore, open_writer
from onecode.proof.governance import DAY_MS, DEFAULT_PARAMETERS, Admission, Parameters, ValidatorLeaf
from onecode.proof.leaves import KeyState, PlatformKey, PlatformLeaf, Role
from onecode.proof.light import Trust, trusted_state, verify_header
from onecode.proof.map import Section, verify_presence, verify_roots
from onecode.registry.application import Application
from onecode.registry.genesis import Genesis
from onecode.registry.map import load, prove, section_roots
from onecode.registry.results import Result
from onecode.registry.store import MemoryStore, Table
from onecode.registry.transactions import Kind, PlatformEpoch, SignerKind, build_transaction
from onecode.schema import parse
from onecode.wire import SigningKey

CHAIN_ID = "solo-registry"
NOW_MS = 1_800_000_000_000
A_BLOCK = 3
ROOT, VALIDATOR = SigningKey.from_seed(b"r" * 32), SigningKey.from_seed(b"v" * 32)
KEYS = {role: SigningKey.from_seed(bytes((role,)) * 32) for role in Role}
PLATFORM = platform_id(ROOT.public)


def genesis() -> Genesis:
    keys = tuple(
        PlatformKey(
            role=role,
            key=key.public,
            state=KeyState.ACTIVE,
            height=0,
            since_ms=0,
            not_after_ms=NOW_MS + 80 * DAY_MS if role == Role.ANCHOR else None,
        )
        for role, key in KEYS.items()
    )
    numbers = {spec.name: getattr(DEFAULT_PARAMETERS, spec.name) for spec in Parameters.FIELDS}
    return Genesis(
        chain_id=CHAIN_ID,
        time_ms=NOW_MS,
        parameters=Parameters(**{**numbers, "transactions_a_block": A_BLOCK}),
        platforms=(Admission(root=ROOT.public, name="First", keys=keys, nodes=()),),
        validators=(ValidatorLeaf(key=VALIDATOR.public, power=10, platform=PLATFORM),),
        services=("payment",),
        measurements=(),
    )


def epoch_transaction(number: int) -> bytes:
    return build_transaction(
        CHAIN_ID,
        Kind.PLATFORM_EPOCH,
        PlatformEpoch(epoch_min=number),
        signer=PLATFORM,
        signer_kind=SignerKind.PLATFORM,
        key=KEYS[Role.TRANSACTION],
        nonce=number,
        valid_until_ms=NOW_MS + 1_000_000,
    )


def started(directory: Path) -> tuple[WriterStore, Solo]:
    store = open_writer(directory, StoreConfig(map_bytes=64 << 20))
    solo = Solo(
        store=store,
        application=Application(store, CHAIN_ID),
        key=VALIDATOR,
        chain_id=CHAIN_ID,
        genesis=genesis(),
        clock_ms=lambda: NOW_MS,
        config=SoloConfig(heartbeat_ms=3_600_000),
    )
    solo.start()
    return store, solo


def test_registry_on_solo(tmp_path: Path) -> None:
    store, solo = started(tmp_path)
    futures = [solo.enqueue(epoch_transaction(number)) for number in range(1, 11)]
    included = [future.result(20) for future in futures]
    assert [each.result.code for each in included] == [Result.OK] * 10
    heights = [each.height or 0 for each in included]
    assert heights == sorted(heights)
    assert max(heights.count(height) for height in heights) <= A_BLOCK  # the quota made the others wait, in order
    replayed_again = solo.enqueue(epoch_transaction(3)).result(20)
    assert (replayed_again.height, replayed_again.result.code) == (None, Result.NONCE)
    assert solo.enqueue(b"\xa0").result(20).result.code == Result.MALFORMED
    solo.stop()

    store, solo = started(tmp_path)
    assert solo.enqueue(epoch_transaction(10)).result(20).result.code == Result.NONCE
    assert solo.enqueue(epoch_transaction(11)).result(20).result.code == Result.OK
    replayed = MemoryStore()
    application = Application(replayed, CHAIN_ID)
    app_hash = application.init_chain(genesis())
    with store.snapshot() as view:
        for height in range(1, load_state(view).height + 1):
            block = load_block(view, height)
            assert block is not None
            outcome = application.execute(height, block.time_ms, block.transactions)
            assert tuple(map(stored_result, outcome.results)) == block.results
            app_hash = outcome.app_hash
            assert app_hash == block.app_hash
        for table in (Table.NODES, Table.VALUES):
            assert dict(view.scan(table)) == replayed.tables[table]
        proven, roots = load_proven(view), section_roots(view)
        leaf, proof = load(view, Section.PLATFORMS, PLATFORM), prove(view, Section.PLATFORMS, PLATFORM)
    assert proven is not None and leaf is not None
    verified = verify_header(
        proven.signed, proven.validators, Trust(trusted_state(proven.signed.header, proven.validators)), NOW_MS
    )
    verify_roots(roots, verified.header.app_hash)
    verify_presence(roots, Section.PLATFORMS, PLATFORM, leaf, proof)
    assert parse(PlatformLeaf, leaf).epoch_min == 11
    solo.stop()
