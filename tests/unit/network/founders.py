"""Organisations that found a network, from fixed seeds: what each would send to the others."""

from __future__ import annotations

import dataclasses
from typing import Any

from onecode.network.ceremony import (
    Ceremony,
    GenesisSignature,
    JoinBody,
    JoinRequest,
    NodeBody,
    NodeRequest,
    VerifiedCeremony,
    collect,
    node_id_of,
    sign_genesis,
    sign_join,
    sign_node,
)
from onecode.proof.governance import DEFAULT_PARAMETERS, Measurement
from onecode.proof.leaves import PlatformNode, Role
from onecode.wire import SigningKey
from unit.registry.world import BUILD, PAY, START_MS, Platform, signing_key

CHAIN_ID = "onecode-founded"
TERMS = Ceremony(
    chain_id=CHAIN_ID,
    time_ms=START_MS,
    parameters=DEFAULT_PARAMETERS,
    power=10,
    services=(PAY,),
    measurements=(Measurement(kind="software", measurement=BUILD, effective_ms=0),),
    requests=(),
)


class Founder(Platform):
    """One organisation: its platform's keys, its validator's and its engine's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.validator, self.node = signing_key(f"{name}/validator"), signing_key(f"{name}/engine")
        self.vendor = signing_key(f"{name}/vendor")
        self.url = f"https://node.{name}.example"

    @property
    def node_id(self) -> str:
        return node_id_of(self.node.public)

    def node_body(self, **changes: Any) -> NodeBody:
        body = NodeBody(
            chain_id=CHAIN_ID,
            platform=self.id,
            validator=self.validator.public,
            node=self.node.public,
            peers=(f"{self.node_id}@{self.name}.example:26656",),
            url=self.url,
            simulated_vendor=self.vendor.public,
        )
        return dataclasses.replace(body, **changes)

    def node_request(self, **changes: Any) -> NodeRequest:
        return sign_node(self.node_body(**changes), self.validator, self.node)

    def join_body(self, node: NodeRequest | None = None, **changes: Any) -> JoinBody:
        """`changes` are the admission's."""
        admission = self.admission(
            nodes=(PlatformNode(node_id=self.node_id, url=self.url),),
            url=f"https://pay.{self.name}.example",
            key_service_url=f"https://keys.{self.name}.example",
        )
        admission = dataclasses.replace(admission, **changes)
        return JoinBody(chain_id=CHAIN_ID, admission=admission, node=node or self.node_request())

    def request(self, node: NodeRequest | None = None, **changes: Any) -> JoinRequest:
        return sign_join(self.join_body(node, **changes), self.root)

    def word(self, ceremony: VerifiedCeremony, key: SigningKey | None = None) -> GenesisSignature:
        return sign_genesis(ceremony, self.id, key or self.keys[Role.GOVERNANCE])


FOUR = tuple(Founder(name) for name in ("alder", "birch", "cedar", "dogwood"))


def named(founders: tuple[Founder, ...] = FOUR) -> list[tuple[str, JoinRequest]]:
    """Their requests with the names of the files that they came in."""
    return [(f"{one.name}.join", one.request()) for one in founders]


def founded() -> Ceremony:
    """The ceremony of the four."""
    return collect(named(), TERMS)
