"""A wallet whose first node is run by a liar and whose second is honest, on a real network of four validators.

Powers are 10, 10, 5 and 5 of 30, so that exactly a third and exactly two thirds can be had. Every lie about headers
tells a whole false story under them, which ends with a thief's record or a withdrawn one: a check left out is a wallet
deceived.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from integration.edited_network import record_data
from integration.engine_network import BINARY, require_engine
from network.forger import THIEF, FalseState, Forger, powers, with_power
from network.liar import Bribed, Liar, Lie
from network.told import COLD, GHOST, GONE, LABEL, LIES, PAID, SHOP, TOTAL, WARM, Past, Stage, Told
from onecode.cli.main import cli
from onecode.code.emv import build_payload
from onecode.code.label import StaticLabel, build_static
from onecode.code.tlv import DataObject, join_objects
from onecode.errors import Declined, OnecodeError, Untrusted
from onecode.host.clock import now_ms
from onecode.host.keyring import load_key
from onecode.network.agreement import alias_body, build_agreement, hand_over
from onecode.network.aliases import choose_alias, fetch_aliases, hand_over_alias
from onecode.network.local import LocalNetwork, validators_plan
from onecode.network.merchant import CONSENT_MS, Merchant, create_merchant
from onecode.network.plan import NetworkPlan
from onecode.network.setup import load_role_key
from onecode.network.wallets import TRUST_FILE, enroll_wallet, open_wallet, profile_of
from onecode.proof.header import Validator, ValidatorSet, VoteFlag
from onecode.proof.leaves import EnclaveLeaf, Role
from onecode.query.messages import ClearQuery
from onecode.record.payment import SERVICE_PAY
from onecode.registry.transactions import EnclaveAttest, Kind, SignerKind, build_transaction
from onecode.schema import parse
from onecode.wallet.pay import build_order
from onecode.wallet.store import WalletStore
from onecode.wallet.sync import SyncWallet
from onecode.wire import SigningKey, sha256

pytestmark = pytest.mark.timeout(300)

POWERS = {"alder": 10, "birch": 10, "cedar": 5, "dogwood": 5}
OWN, PARTNER, WITNESS = "alder", "birch", "cedar"
SCHEME = "com.example.older"
STALE_MS = 6_000  # how old a header these wallets accept; 30 s in production
NAME = "Noodle House"
VALID_MS = 600_000
PAYERS = 4  # one alone would ask an enclave too often for what is not there


def plan() -> NetworkPlan:
    made = validators_plan(4, BINARY)
    nodes = tuple(dataclasses.replace(node, power=POWERS[node.slug]) for node in made.nodes)
    return dataclasses.replace(made, nodes=nodes, heartbeat_ms=1_000, governance_delay_ms=500)


@dataclasses.dataclass
class Scene:
    """The network, the liar before birch's node, and wallets of alder's that ask the liar, then birch's node."""

    network: LocalNetwork
    directory: Path
    liar: Liar
    stage: Stage
    codes: dict[str, str]
    rows: list[tuple[str, str, str, float]]
    turns: Iterator[int]

    def copied(self, start: str) -> Path:
        """The directory of a wallet that is used once: of the payer whose turn it is."""
        directory = self.directory / secrets.token_hex(4)
        shutil.copytree(self.network.places.wallet(f"{start}-{next(self.turns) % PAYERS}"), directory)
        return directory

    @property
    def honest(self) -> str:
        return self.network.plan.node(PARTNER).url

    @contextmanager
    def wallet(self, start: str = COLD, directory: Path | None = None, **changes: Any) -> Iterator[SyncWallet]:
        """A wallet in a directory of its own; `changes` are to its configuration."""
        directory = directory or self.copied(start)
        config: dict[str, Any] = {
            "node_urls": (self.liar.url, self.honest),
            "partners": (self.stage.partner,),
        }
        config |= changes
        with open_wallet(directory, lambda given: dataclasses.replace(given, **config)) as wallet:
            yield wallet

    @contextmanager
    def telling(self, lie: Lie) -> Iterator[None]:
        self.liar.lie, told = lie, self.liar.told
        try:
            yield
        finally:
            self.liar.lie = Lie()
        assert self.liar.told > told, "nobody asked the liar"
        assert not self.liar.mistakes, self.liar.mistakes.pop()

    def pay(self, wallet: SyncWallet, of: str = SHOP) -> str:
        """Resolve and pay a little; what came of it. Anything else than the true record fails."""
        found = wallet.resolve(wallet.read(self.codes[of]))
        record = found.target.record
        assert (record.display_name, record.platform) == (NAME, self.stage.bribed.platform)
        paid = wallet.pay(found.target, build_order(found, 1, "EUR")).receipt
        assert (paid.commitment, paid.state.name) == (found.target.link.commitment, "POSTED")
        return PAID

    def done(self, name: str, code: str, did: str, began: float) -> None:
        self.rows.append((name, code, did, (time.monotonic() - began) * 1_000))


def settle(wallet: SyncWallet) -> None:
    """Let a comparison with a witness end that is under way."""
    wallet._runner.run(wallet._wallet.nodes.close())


def told(wallet: SyncWallet) -> list[tuple[str, str]]:
    return [(one.node_url, one.error.code) for one in wallet.failures]


# --- the scene --------------------------------------------------------------------------------------------------------


def found_merchant(network: LocalNetwork, name: str, *slugs: str) -> Merchant:
    merchant = create_merchant(network.places.merchant(name), network.plan.chain_id, secrets.token_bytes)
    for slug in slugs:
        handed = hand_over(merchant, network.identity(slug), SERVICE_PAY, now_ms(), CONSENT_MS)
        audience = [] if slug == OWN else [network.identity(OWN).hex()]
        network.operator(slug).sign(build_agreement(record_data(audience=audience), handed, now_ms()))
        assert network.operator(slug).publish(merchant.id.hex())["state"] == "live"
    return merchant


def printed(merchant: Merchant) -> str:
    return build_static(
        StaticLabel(
            merchant_id=merchant.id,
            prefix=merchant.prefix,
            mcc="5812",
            currency="978",
            country="DE",
            name=NAME,
            city="Berlin",
        )
    )


def bind_label(network: LocalNetwork, merchant: Merchant) -> str:
    """A label of an older scheme that stands for the merchant."""
    account = join_objects([DataObject("00", SCHEME), DataObject("01", "account-7")], within="27")
    tail = [("52", "5812"), ("53", "978"), ("58", "DE"), ("59", NAME), ("60", "Berlin")]
    label = build_payload(
        [
            DataObject("00", "01"),
            DataObject("01", "11"),
            DataObject("27", account),
            *(DataObject(name, value) for name, value in tail),
        ]
    )
    network.assign_scheme(SCHEME, OWN, ("01",))
    alias = choose_alias(fetch_aliases(network.node, label, merchant.prefix))
    handed = hand_over_alias(merchant, alias, now_ms())
    assert network.operator(OWN).bind_alias(*alias_body(dict(handed)))["state"] == "done"
    return label


def break_enclave(network: LocalNetwork, bribed: Bribed) -> None:
    """The own platform attests an enclave on chain whose query key the operator has."""
    view = bribed.network()
    own = next(one for one in view.enclaves if one.platform == bribed.platform)
    leaf, at_ms = parse(EnclaveLeaf, own.leaf), now_ms()
    payload = EnclaveAttest(
        query_key=bribed.query_key,
        node_id=leaf.node_id,
        kind=leaf.kind,
        measurement=leaf.measurement,
        evidence_hash=leaf.evidence_hash,
        expires_ms=at_ms + VALID_MS,
    )
    key = load_role_key(network.places, network.plan.platform(OWN), Role.KEY_SERVICE)
    transaction = build_transaction(
        network.plan.chain_id,
        Kind.ENCLAVE_ATTEST,
        payload,
        signer=bribed.platform,
        signer_kind=SignerKind.PLATFORM,
        key=key,
        nonce=at_ms,
        valid_until_ms=at_ms + VALID_MS,
    )
    submitted = network.client(PARTNER).submit(transaction)
    assert submitted.code == 0, submitted


def remember(bribed: Bribed, merchant: Merchant) -> Past:
    """What proves the ghost's record now, under a header that the first three validators have signed."""
    clear = ClearQuery(
        protocol=1, chain_id=bribed.chain_id, merchant=merchant.id, service=SERVICE_PAY, query_key=bytes(32)
    )
    until = time.monotonic() + 60
    while True:
        assert time.monotonic() < until, "no header of which answer and view speak"
        time.sleep(0.25)  # a quiet machine would else ask more often than a node answers one address
        view = bribed.broken_network()
        answer, result = bribed.opened(clear)
        votes = view.header.commit.votes[:3]
        if answer.header == view.header and all(one.flag is VoteFlag.COMMIT for one in votes):
            return Past(view, answer, dataclasses.replace(result, query_id=bytes(16)))


def build_stage(network: LocalNetwork, bribed: Bribed, shop: Merchant, past: Past) -> Stage:
    keys = [load_key(network.places.validator_key(node.slug)) for node in network.plan.nodes]
    strangers = [SigningKey.from_seed(os.urandom(32)) for _ in range(3)]
    members = past.view.validators
    assert sorted(powers(members).values()) == sorted(POWERS.values())
    return Stage(
        bribed=bribed,
        forger=Forger([*keys, *strangers]),
        false=FalseState(bribed, shop.id),
        past=past,
        partner=network.identity(PARTNER),
        record_key=load_role_key(network.places, network.plan.platform(OWN), Role.RECORD),
        members=members,
        strangers=ValidatorSet(validators=tuple(Validator(public_key=one.public, power=10) for one in strangers)),
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A shop of two platforms, a ghost whose record was withdrawn since, an old label, wallets to copy."""
    require_engine()
    directory = tmp_path_factory.mktemp("liars")
    with LocalNetwork(directory / "network", plan) as network:
        network.start()
        for name in ("operator", *(f"{COLD}-{number}" for number in range(PAYERS))):
            enroll_wallet(network.places.wallet(name), network.profile(OWN))
        shop = found_merchant(network, SHOP, OWN, PARTNER)
        ghost = found_merchant(network, GHOST, OWN)
        operators = WalletStore(network.places.wallet("operator"))
        url = network.plan.node(PARTNER).url
        bribed = Bribed(network.plan.chain_id, url, network.identity(OWN), operators)
        break_enclave(network, bribed)
        past = remember(bribed, ghost)
        network.operator(OWN).withdraw(ghost.id.hex())
        codes = {SHOP: printed(shop), GHOST: printed(ghost), LABEL: bind_label(network, shop)}
        with Liar(bribed) as liar:
            stage = build_stage(network, bribed, shop, past)
            scene = Scene(network, directory, liar, stage, codes, [], count())
            for number in range(PAYERS):
                warm = network.places.wallet(f"{WARM}-{number}")
                scene.copied(COLD).rename(warm)
                with scene.wallet(directory=warm) as wallet:
                    scene.pay(wallet)
            time.sleep(max(0.0, (past.signed_ms + STALE_MS - now_ms()) / 1_000))
            yield scene
        network.require_running()
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print_table(scene.rows)


def print_table(rows: list[tuple[str, str, str, float]]) -> None:
    table = Table(
        "the liar's node", "is named", "the wallet", "ms", title="What a wallet does whose first node is run by a liar"
    )
    for name, code, did, took_ms in rows:
        table.add_row(name, code, did, f"{took_ms:.0f}")
    Console(width=150).print()
    Console(width=150).print(table)


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [SHOP, LABEL])
@pytest.mark.parametrize("start", [COLD, WARM])
def test_an_honest_proxy_is_believed(scene: Scene, start: str, of: str) -> None:
    began = time.monotonic()
    with scene.telling(Lie()), scene.wallet(start) as wallet:
        scene.pay(wallet, of)
        assert told(wallet) == []
    scene.done(f"says the truth ({start}, {of})", "-", "paid", began)


def test_the_broken_enclave_is_believed_where_it_is_honest(scene: Scene) -> None:
    """So what is refused of it below is refused for what it says."""
    with scene.telling(scene.stage.through_enclave(lambda result: result)), scene.wallet() as wallet:
        scene.pay(wallet)
        assert told(wallet) == []


def test_the_story_of_the_past_is_believed_within_the_freshness_bound(scene: Scene) -> None:
    """So the lies about old headers below are refused for their age, or for how they hide it."""
    lie = scene.stage.again(scene.stage.past.view)
    age_ms = now_ms() - scene.stage.past.signed_ms
    with scene.telling(lie), scene.wallet(header_age_ms_max=age_ms + 60_000) as wallet:
        found = wallet.resolve(wallet.read(scene.codes[GHOST]))
        assert found.header_age_ms >= STALE_MS and told(wallet) == []
        with pytest.raises(Declined) as refused:  # the own platform knows better
            wallet.pay(found.target, build_order(found, 1, "EUR"))
        assert refused.value.code == "payment.link"


@pytest.mark.parametrize("case", LIES, ids=[one.name.replace(" ", "-") for one in LIES])
def test_a_lie_is_named_and_the_next_node_asked(scene: Scene, case: Told) -> None:
    config = case.config | ({"header_age_ms_max": STALE_MS} if case.of == GHOST else {})
    began = time.monotonic()
    lie = case.tell(scene.stage)
    with scene.telling(lie), scene.wallet(case.start, **config) as wallet:
        if case.then == PAID:
            scene.pay(wallet, case.of)
        else:
            with pytest.raises(Declined) as refused:
                wallet.resolve(wallet.read(scene.codes[case.of]))
            assert refused.value.code == case.then
        assert told(wallet) == [(scene.liar.url, case.code)], wallet.failures
        assert type(wallet.failures[0].error) is case.branch
        assert wallet.store.load_stop() is None
        scene.done(case.name, case.code, case.then if case.then == PAID else f"refused: {case.then}", began)
        settle(wallet)
        assert wallet.store.load_stop() is None  # nor does the liar halt it as a witness


# --- two thirds and more ----------------------------------------------------------------------------------------------

GUILTY = TOTAL - 5  # just more than two thirds can be had of powers of 5 and 10


def run(*words: str | Path) -> dict[str, Any]:
    """A command's answer; it must succeed."""
    result = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(OnecodeError) as caught:
        call()
    return caught.value.code


def height_above(scene: Scene, wallet: SyncWallet) -> int:
    """A height that the wallet has not verified yet, and that the witness has."""
    saved = wallet.store.load_header()
    assert saved is not None
    scene.network.wait_height(saved.header.height)
    return saved.header.height + 1


def test_a_fork_by_more_than_two_thirds_halts_the_wallet_and_names_the_guilty(scene: Scene) -> None:
    stage, directory = scene.stage, scene.copied(COLD)
    config: dict[str, Any] = {
        "directory": directory,
        "witness_urls": (scene.network.plan.node(WITNESS).url,),
        "witness_interval_ms": 1,
    }
    with scene.wallet(**config) as wallet:
        scene.pay(wallet)  # and the witness says the same
        settle(wallet)
        height, paid = height_above(scene, wallet), len(wallet.store.load_payments())
        compared = wallet.store.load_compared()
        assert compared is not None and compared.named is not None
    rival, began = stage.rival(GUILTY, height), time.monotonic()
    with scene.telling(stage.under(rival)), scene.wallet(**config) as wallet:
        try:  # the witness is asked meanwhile: it may be heard before the answer is there, or after
            found = wallet.resolve(wallet.read(scene.codes[SHOP]))
        except Untrusted as error:
            assert error.code == "header.fork"
        else:
            assert found.target.record.display_name == THIEF
            settle(wallet)
            assert refusal(lambda: wallet.pay(found.target, build_order(found, 1, "EUR"))) == "header.fork"
        scene.done("fork signed by more than two thirds", "header.fork", "stops; the witness showed it", began)
        assert refusal(lambda: wallet.resolve(wallet.read(scene.codes[SHOP]))) == "header.fork"
        assert [one.error.code for one in wallet.witness_failures] == ["header.fork"]
        assert len(wallet.store.load_payments()) == paid
    with scene.wallet(directory=directory, node_urls=(scene.honest,)) as wallet:  # the directory remembers
        assert refusal(lambda: scene.pay(wallet)) == "header.fork"
    proven = evidence_of(scene, directory)
    operators = {
        load_key(scene.network.places.validator_key(node.slug)).public: scene.network.identity(node.platform).hex()
        for node in scene.network.plan.nodes
    }
    forgers = {sha256(key)[:20].hex(): key for key in with_power(stage.members, GUILTY)}
    named = {one["validator"]: one["platform_by_file"] for one in proven["guilty"]}
    assert set(named) <= set(forgers)  # not all of them need be in the true commit, and nobody else is named
    assert 3 * sum(powers(stage.members)[forgers[one]] for one in named) > TOTAL
    assert named == {one: operators[forgers[one]] for one in named}
    run("wallet", "trust", directory, "--renew")  # the own platform has looked: its chain goes on
    with scene.wallet(directory=directory, node_urls=(scene.honest,)) as wallet:
        scene.pay(wallet)


def evidence_of(scene: Scene, directory: Path) -> dict[str, Any]:
    """What the commands say of the fork that the wallet kept; both must say the same."""
    listed = run("wallet", "evidence", directory)
    assert [one["name"] for one in listed["evidence"]] == [listed["halted_by"]]
    shown = run("wallet", "evidence", directory, listed["halted_by"])
    root = profile_of(directory).platform_root
    proven = run("verify", "fork", shown["file"], "--trust", directory / TRUST_FILE, "--root", root)
    assert (proven["guilty"], proven["header_hashes"]) == (shown["guilty"], shown["header_hashes"])
    assert (shown["kind"], proven["checked_from"]) == ("made up", "the trust file")
    assert run("wallet", "trust", directory)["fork"]
    return proven


def test_where_no_witness_is_left_the_own_platform_takes_no_payment_to_the_thief(scene: Scene) -> None:
    """The limit of what a wallet sees by itself; its platform has a node of its own."""
    began = time.monotonic()
    with (
        scene.telling(scene.stage.signed_by(GUILTY)),
        scene.wallet(node_urls=(scene.liar.url,), header_age_ms_max=30_000) as wallet,
    ):
        found = wallet.resolve(wallet.read(scene.codes[SHOP]))
        assert found.target.record.display_name == THIEF
        assert refusal(lambda: wallet.pay(found.target, build_order(found, 1, "EUR"))) == "payment.commitment"
        assert [one.receipt for one in wallet.store.load_payments()] == [None]
    scene.done("the same, and every node is the liar's", "-", "the platform refuses: payment.commitment", began)


def test_where_half_date_their_votes_anew_no_wallet_goes_behind_what_it_knows(scene: Scene) -> None:
    """The limit of the freshness bound: it rests on less than a third of the power lying about the time."""
    stage, began = scene.stage, time.monotonic()
    lie = stage.votes(
        lambda signed: (
            stage.fresh(signed, 0),
            signed.commit.votes[1],
            stage.fresh(signed, 2),
            signed.commit.votes[3],
        )
    )
    with scene.telling(lie), scene.wallet(header_age_ms_max=STALE_MS, node_urls=(scene.liar.url,)) as wallet:
        found = wallet.resolve(wallet.read(scene.codes[GHOST]))
        assert refusal(lambda: wallet.pay(found.target, build_order(found, 1, "EUR"))) == "payment.link"
    scene.done("half of the power date votes anew (cold)", "-", "the platform refuses: payment.link", began)
    began = time.monotonic()
    with scene.telling(lie), scene.wallet(WARM, header_age_ms_max=STALE_MS) as wallet:
        assert refusal(lambda: wallet.resolve(wallet.read(scene.codes[GHOST]))) == GONE
        assert told(wallet) == [(scene.liar.url, "node.behind")]
    scene.done("half of the power date votes anew (warm)", "node.behind", f"refused: {GONE}", began)


@pytest.mark.parametrize(("power", "code"), [(2 * TOTAL // 3, "header.power"), (GUILTY, "header.fork")])
def test_a_second_header_of_the_wallets_own_height(scene: Scene, power: int, code: str) -> None:
    with scene.telling(Lie()), scene.wallet() as wallet:
        scene.pay(wallet)
        settle(wallet)
        saved = wallet.store.load_header()
        assert saved is not None
        lie = scene.stage.under(scene.stage.rival(power, saved.header.height))
        began, resolve = time.monotonic(), lambda: wallet.resolve(wallet.read(scene.codes[SHOP]))
        with scene.telling(lie):
            if code == "header.fork":
                assert refusal(resolve) == refusal(resolve) == code
                assert wallet.store.load_stop() is not None and len(wallet.store.list_evidence()) == 1
            else:
                assert resolve().target.record.display_name == NAME
                assert told(wallet) == [(scene.liar.url, code)]
                assert wallet.store.load_stop() is None
    did = "stops; it has both" if code == "header.fork" else PAID
    scene.done(f"second header of one height, {power} of {TOTAL}", code, did, began)


# --- a liar as the witness --------------------------------------------------------------------------------------------


def of_a_set(scene: Scene, power: int) -> Lie:
    return scene.stage.of_a_set(scene.stage.forger.own_set(scene.stage.members, power), between="made up")


WITNESSES: list[tuple[str, Callable[[Scene], Lie], str, int]] = [
    (
        "exactly two thirds signed",
        lambda scene: Lie(header=lambda name: scene.stage.rival(2 * TOTAL // 3, name)),
        "header.power",
        0,
    ),
    ("exactly a third alone", lambda scene: of_a_set(scene, TOTAL // 3), "header.next_validators", 0),
    ("half alone", lambda scene: of_a_set(scene, TOTAL // 2), "witness.forged", 1),
]


@pytest.mark.parametrize(("name", "lie", "code", "kept"), WITNESSES, ids=[one[0] for one in WITNESSES])
def test_a_lying_witness_is_named_and_halts_nothing(
    scene: Scene, name: str, lie: Callable[[Scene], Lie], code: str, kept: int
) -> None:
    """What more than a third have signed and must not is kept as evidence."""
    began, urls = time.monotonic(), (scene.honest, scene.liar.url)
    with scene.telling(lie(scene)), scene.wallet(WARM, node_urls=urls, witness_interval_ms=1) as wallet:
        scene.network.wait_height(height_above(scene, wallet))
        scene.pay(wallet)
        settle(wallet)
        assert [(one.node_url, one.error.code) for one in wallet.witness_failures][:1] == [(scene.liar.url, code)]
        scene.pay(wallet)
        assert (wallet.store.load_stop(), told(wallet)) == (None, [])
        settle(wallet)
        assert bool(wallet.store.list_evidence()) == bool(kept)
    scene.done(f"as a witness: {name}", code, "paid, goes on", began)
