"""What an organisation believes of its own node's chain when it starts.

It goes from its trust file, a member's, or the genesis. The header that it believes goes into its own trust file, from
which its enclave, key service, platform and wallets start.
"""

from __future__ import annotations

from onecode.errors import Untrusted
from onecode.host.files import load_private, save_private
from onecode.host.keyring import load_key
from onecode.network.ceremony import VerifiedCeremony
from onecode.network.client import NodeClient
from onecode.network.newest import require_genesis_validators
from onecode.network.organisation import Organisation, OrganisationPlaces
from onecode.platform.genesis import ANCHOR_CERTIFICATE_FILE
from onecode.platform.trust import TRUSTING_PERIOD_MS, build_trust_file
from onecode.proof.leaves import Role
from onecode.proof.light import Trust, require_fresh, trusted_state, verify_header
from onecode.proof.trust import AnchorCertificate, TrustFile, verify_trust_file
from onecode.query.bridge import Bridge
from onecode.query.messages import HeaderView
from onecode.schema import parse

_ENDED = ("header.trust_expired", "trust.anchor_expired")


def newest_view(node: NodeClient) -> HeaderView:
    """The node's newest provable header, unverified; `Unreachable` while it has none."""
    return parse(HeaderView, node.newest_header(), path="header")


def believe_newest(
    places: OrganisationPlaces,
    organisation: Organisation,
    ceremony: VerifiedCeremony,
    given: bytes | None,
    now_ms: int,
    node: NodeClient,
) -> HeaderView:
    """The node's newest header, established.

    It starts from 1. the organisation's own trust file; 2. where there is none or it has ended, from `given`, a
    trust file by the root of any organisation of the ceremony; 3. without one, from the genesis' validators, within a
    trusting period of the genesis' time. From there it verifies forward, with headers between where it must.
    4. It is fresh.
    """
    view = newest_view(node)
    trust = own_trust(places, organisation, now_ms)  # 1
    if trust is None and given is not None:
        trust = given_trust(ceremony, given, now_ms)  # 2
    if trust is None:
        trust = _genesis_trust(ceremony, view, node, now_ms)  # 3
    _require_follows(trust, view, node, now_ms)
    require_fresh(verify_header(view.header, view.validators, _at(view, trust), now_ms), now_ms)  # 4
    return view


def write_trust(places: OrganisationPlaces, view: HeaderView, now_ms: int) -> None:
    """The organisation's trust file for a header that it believes, signed by its anchor key."""
    raw = load_private(places.keys / ANCHOR_CERTIFICATE_FILE)
    certificate = parse(AnchorCertificate, raw, path="anchor_certificate")
    file = build_trust_file(view, certificate, load_key(places.role_key(Role.ANCHOR)), now_ms)
    save_private(places.trust, file.encoded(), replace=True)


def _require_follows(trust: Trust, view: HeaderView, node: NodeClient, now_ms: int) -> None:
    """Raise unless the header of `view` is the trusted one or verifies from it, by headers between where it must."""
    if view.header.header.height == trust.state.header.height:
        verify_header(view.header, view.validators, trust, now_ms)
        return
    way = Bridge(trust, view, now_ms)
    while way.needed is not None:
        way.take(parse(HeaderView, node.header(way.needed), path="header"))


def _at(view: HeaderView, trust: Trust) -> Trust:
    return Trust(trusted_state(view.header.header, view.validators), trust.trusting_period_ms)


def own_trust(places: OrganisationPlaces, organisation: Organisation, now_ms: int) -> Trust | None:
    """What the organisation's own trust file establishes; None where there is none, or it has ended."""
    if not places.trust.exists():
        return None
    try:
        root = bytes.fromhex(organisation.root)
        return verify_trust_file(places.trust.read_bytes(), root, organisation.chain_id, now_ms, allow_solo=False)[0]
    except Untrusted as error:
        if error.code not in _ENDED:
            raise
        return None


def given_trust(ceremony: VerifiedCeremony, given: bytes, now_ms: int) -> Trust:
    """What a trust file establishes that is signed under the root of any organisation of the ceremony."""
    root = parse(TrustFile, given, path="trust_file").root
    if all(root != one.admission.root for one in ceremony.organisations):
        raise Untrusted(
            "organisation.trust_root", "the trust file is by none of the ceremony's organisations", field="root"
        )
    return verify_trust_file(given, root, ceremony.genesis.chain_id, now_ms, allow_solo=False)[0]


def _genesis_trust(ceremony: VerifiedCeremony, view: HeaderView, node: NodeClient, now_ms: int) -> Trust:
    genesis = ceremony.genesis
    if now_ms > genesis.time_ms + TRUSTING_PERIOD_MS:
        raise Untrusted(
            "organisation.trust_needed",
            "the genesis is past the trusting period: give a member's trust file (--trust), from GET /v1/trust-file of "
            "its platform",
            field="trust",
        )
    try:
        require_genesis_validators(genesis, view)
    except Untrusted as error:
        if error.code != "network.validators":
            raise
        view = parse(HeaderView, node.header(1), path="header")
        require_genesis_validators(genesis, view)
    return Trust(trusted_state(view.header.header, view.validators))
