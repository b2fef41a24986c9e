"""A history that holds every kind of transaction, from fixed seeds. Run as a module it prints its last app hash."""

from __future__ import annotations

import dataclasses
import hashlib

from onecode.code.identity import recovery_hash
from onecode.proof.governance import DAY_MS, ProposalKind, ValidatorLeaf
from onecode.proof.leaves import PlatformNode, Role
from onecode.registry.results import Result
from onecode.registry.transactions import (
    Kind,
    MerchantFreeze,
    MerchantOrderkeys,
    MerchantRecover,
    MerchantRecoverCancel,
    MerchantRecoverykey,
    MerchantRotate,
    MerchantUnlink,
    PlatformEndpoints,
    PlatformEpoch,
    PlatformKeys,
    PlatformNodes,
    PlatformRoot,
    PlatformSuspend,
)
from unit.registry.codes_admission import key
from unit.registry.codes_merchants import assign, attest_call, bind_call, release_call, revoke_call
from unit.registry.world import PAY, Platform, World, signing_key


def governed(world: World) -> None:
    """Governance, platforms' own transactions, enclaves."""
    one, two, three, four = world.platforms
    admission = dataclasses.replace(Platform("newcomer").admission(), nodes=(PlatformNode(node_id="n", url="u"),))
    validator = ValidatorLeaf(key=signing_key("validator").public, power=3, platform=two.id)
    for kind, fields in (
        (ProposalKind.PLATFORM_ADMIT, {"admission": admission}),
        (ProposalKind.VALIDATOR_SET, {"validators": (validator,)}),
        (ProposalKind.SERVICE_SET, {"service": "übersee"}),
        (ProposalKind.SERVICE_SET, {"service": "food", "service_remove": True}),
        (ProposalKind.PLATFORM_SUSPEND, {"platform": four.id}),
    ):
        assert world.govern(kind, voters=(one, two, three), **fields) == Result.OK
    new_root = signing_key("root of two")
    calls = (
        (one, Kind.PLATFORM_KEYS, PlatformKeys(keys=(key(Role.DEVICE, "device"), key(Role.RECORD, "record")))),
        (one, Kind.PLATFORM_ENDPOINTS, PlatformEndpoints(url="https://one.example")),
        (one, Kind.PLATFORM_NODES, PlatformNodes(nodes=(PlatformNode(node_id="n", url="u"),))),
        (one, Kind.PLATFORM_EPOCH, PlatformEpoch(epoch_min=1)),
        (two, Kind.PLATFORM_ROOT, PlatformRoot(root=new_root.public, possession=world.possession(two.id, new_root))),
        (three, Kind.PLATFORM_SUSPEND, PlatformSuspend()),
    )
    for platform, kind, payload in calls:
        assert world.run(world.platform_call(platform, kind, payload)) == Result.OK
    for platform in (one, two):
        assert world.run(attest_call(world, platform)) == Result.OK
    assert world.run(revoke_call(world, one)) == Result.OK


def traded(world: World) -> None:
    """Merchants, records, aliases."""
    one, two, *_ = world.platforms
    merchant, other, rotated, recovered = world.merchants
    for person in world.merchants:
        for platform in (one, two):
            world.link(person, platform)
    items = [world.publication(person, 2) for person in world.merchants]
    assert world.run(world.publish(one, *items, world.publication(merchant, 99))) == Result.OK
    assert world.run(world.withdraw(two, other, 1)) == Result.OK
    assign(world)
    assert world.run(bind_call(world, merchant), bind_call(world, merchant, ("ladén", "2"))) == Result.OK
    assert world.run(release_call(world, merchant)) == Result.OK
    unlink = MerchantUnlink(platform=two.id, service=PAY)
    assert world.run(world.merchant_call(merchant, Kind.MERCHANT_UNLINK, unlink)) == Result.OK
    keys = tuple(sorted(signing_key(name).public for name in ("till 1", "till 2")))
    payload = MerchantOrderkeys(order_keys=keys)
    assert world.run(world.merchant_call(other, Kind.MERCHANT_ORDERKEYS, payload)) == Result.OK
    new = signing_key("rotated")
    rotate = MerchantRotate(controller=new.public, possession=world.possession(rotated.id, new))
    assert world.run(world.merchant_call(rotated, Kind.MERCHANT_ROTATE, rotate)) == Result.OK
    recover = MerchantRecover(controller=new.public, possession=world.possession(recovered.id, new))
    cancel = MerchantRecoverCancel()
    for kind, recovery_payload in (
        (Kind.MERCHANT_RECOVER, recover),
        (Kind.MERCHANT_RECOVER_CANCEL, cancel),
        (Kind.MERCHANT_RECOVER, recover),
    ):
        assert world.run(world.merchant_call(recovered, kind, recovery_payload, recovery=True)) == Result.OK
    hashed = MerchantRecoverykey(recovery_hash=recovery_hash(signing_key("new recovery").public))
    assert world.run(world.both_keys_call(other, Kind.MERCHANT_RECOVERYKEY, hashed)) == Result.OK
    for platform in (one, two):
        call = world.platform_call(platform, Kind.MERCHANT_FREEZE, MerchantFreeze(merchant=other.id))
        assert world.run(call) == Result.OK


def long_history() -> World:
    world = World(platforms=4)
    traded(world)
    governed(world)
    world.block(seconds=2 * DAY_MS / 1000)
    return world


def digest(world: World) -> str:
    """One hash over the app hash and everything in the store."""
    hashed = hashlib.sha256(world.app_hash)
    for table, rows in world.store.tables.items():
        for row, value in sorted(rows.items()):
            hashed.update(bytes((table,)) + len(row).to_bytes(4, "big") + row + len(value).to_bytes(4, "big") + value)
    return hashed.hexdigest()


if __name__ == "__main__":
    print(digest(long_history()))
