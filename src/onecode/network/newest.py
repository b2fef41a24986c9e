"""What the operators of a network on one machine believe of its newest header, and write into their trust files.

An organisation of its own does this for itself, with the key ceremony's genesis: `docs/spec/engine.md`.
"""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.network.plan import NetworkPlan, Places, PlatformPlan
from onecode.platform.genesis import TRUST_FILE
from onecode.proof.header import header_hash, validators_hash
from onecode.proof.light import verify_commit, verify_header
from onecode.proof.trust import verify_trust_file
from onecode.query.messages import HeaderView
from onecode.registry.genesis import Genesis, parse_genesis

_BEGIN_AGAIN = ("header.trust_expired", "trust.anchor_expired")


def believe(places: Places, plan: NetworkPlan, platform: PlatformPlan, view: HeaderView, now_ms: int) -> None:
    """Raise `Untrusted` unless the platform's operator may believe the header: it verifies from the platform's trust
    file, or, where there is none or it has ended, it is signed by more than 2/3 of exactly the genesis' validators.

    Does not check how old the header is.
    """
    path = places.platform(platform.slug) / TRUST_FILE
    if path.exists():
        try:
            trust, _ = verify_trust_file(
                path.read_bytes(), bytes.fromhex(platform.root), plan.chain_id, now_ms, allow_solo=plan.allow_solo
            )
        except Untrusted as error:
            if error.code not in _BEGIN_AGAIN:
                raise
        else:
            verify_header(view.header, view.validators, trust, now_ms)
            return
    require_genesis_validators(parse_genesis(places.genesis.read_bytes()), view)


def require_genesis_validators(genesis: Genesis, view: HeaderView) -> None:
    signed, given = view.header, {(one.public_key, one.power) for one in view.validators.validators}
    if signed.header.chain_id != genesis.chain_id:
        raise Untrusted("header.chain_id", "the header is of another chain", field="header.chain_id")
    if given != {(one.key, one.power) for one in genesis.validators}:
        raise Untrusted(
            "network.validators", "the header's validators are not those of the genesis", field="validators"
        )
    if validators_hash(view.validators) != signed.header.validators_hash:
        raise Untrusted("header.validators", "the validators are not those of the header", field="validators")
    verify_commit(signed, header_hash(signed.header), view.validators)
