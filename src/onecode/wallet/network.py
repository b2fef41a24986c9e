"""What a wallet believes of a node's network view: header, platforms, and the enclave that its platform attested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onecode.errors import Declined, Unreachable, Untrusted
from onecode.proof.leaves import PlatformLeaf
from onecode.proof.light import VerifiedHeader
from onecode.proof.map import Section, verify_roots
from onecode.query.follow import Follower
from onecode.query.messages import NetworkView
from onecode.query.verify import find_query_key, verify_platforms


@dataclass(frozen=True, slots=True)
class VerifiedNetwork:
    """One node's enclave key, and all that is proven under `header`.

    query_key: X25519 public key of an enclave that the wallet's own platform attested and the policy allows.
    platforms: leaves proven under `platforms_root`; own: the leaf of the wallet's own platform, active.
    """

    header: VerifiedHeader
    query_key: bytes
    platforms: Mapping[bytes, PlatformLeaf]
    platforms_root: bytes
    own: PlatformLeaf


def verify_network(view: NetworkView, headers: Follower, own_platform: bytes, now_ms: int) -> VerifiedNetwork:
    """The view of one node, established.

    1. The header verifies from the newest one and is fresh (verification.md, "Header", steps 1 to 12). 2. The section
    roots are under it. 3. Every platform leaf is proven. 4. The wallet's own platform is among them and active (proven
    suspension is `Declined`). 5. One of the node's enclaves is proven, attested by the own platform now, and of a build
    that the network's enclave policy, proven too, allows at the header's time.
    Does not check that all platforms are listed: a link whose platform is not proven is refused later (step 18).
    """
    header = headers.verify_next(view.header, view.validators, now_ms)  # 1
    verify_roots(view.roots, header.header.app_hash)  # 2
    platforms = verify_platforms(view.platforms, view.roots, {})  # 3
    own = platforms.get(own_platform)
    if own is None:  # 4
        raise Untrusted("network.own_missing", "the node does not prove the wallet's own platform", field="platforms")
    if not own.active_at(header.signed_ms):
        raise Declined("network.own_suspended", "proven: the wallet's own platform is not active", field="platforms")
    query_key = find_query_key(view, own_platform, header.signed_ms, now_ms)  # 5
    if query_key is None:
        raise Unreachable("enclave.none", "this node has no enclave that the wallet may ask now; ask another node")
    return VerifiedNetwork(header, query_key, platforms, view.roots.root(Section.PLATFORMS), own)
