"""The wallet: scan, resolve, pay. Nodes are not trusted: one that lies or is down is passed over for the next."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from onecode.code.identity import prefix_of
from onecode.code.image import read_one
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.errors import Declined, Misconfigured, Untrusted
from onecode.host.clock import now_ms
from onecode.proof.governance import SchemeLeaf, scheme_key
from onecode.proof.leaves import ALIASES_MAX
from onecode.proof.map import Section
from onecode.query.messages import Alias, Answer, HeaderView, LeafView, MatchMode
from onecode.query.verify import VerifiedRecord
from onecode.record.payment import parse_terms
from onecode.record.receipt import Order
from onecode.schema import parse
from onecode.wallet.config import WalletConfig
from onecode.wallet.nodes import Failure, Nodes
from onecode.wallet.own_platform import OwnPlatform
from onecode.wallet.pay import VerifiedReceipt, build_payment, parse_receipt, verify_order_terms, verify_payment
from onecode.wallet.refunds import VerifiedRefund, verify_refunds
from onecode.wallet.resolve import QUERY_ENTROPY_BYTES, Payer, Resolution, build_pending, resolve_answer
from onecode.wallet.store import KeptPayment, WalletStore


@dataclass(frozen=True, slots=True)
class Scan:
    """What was read from an image: the payload and what it says."""

    text: str
    code: Code | ForeignCode


class Wallet:
    """One payer's wallet over one directory. Use it as an async context manager."""

    def __init__(
        self,
        config: WalletConfig,
        directory: Path,
        *,
        http: httpx.AsyncClient | None = None,
        now: Callable[[], int] = now_ms,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not config.node_urls:
            raise Misconfigured("wallet.nodes", "name at least one node, the own platform's first", field="node_urls")
        self.config = config
        self.store = WalletStore(directory)
        self._now, self._random = now, random_bytes
        self._http = http or httpx.AsyncClient(trust_env=False)  # no proxy that the environment names
        self._device = self.store.load_device(random_bytes(32))
        self._platform = OwnPlatform(config, self.store, self._device, self._http, now)
        self.nodes = Nodes(config, self.store, self._http, now)
        self._schemes: dict[str, tuple[str, ...]] = {}

    async def __aenter__(self) -> Wallet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, after a comparison with a witness that is under way has ended or run out of time."""
        await self.nodes.close()
        await self._http.aclose()

    @property
    def failures(self) -> list[Failure]:
        """Nodes that were passed over, and why."""
        return self.nodes.failures

    @property
    def witness_failures(self) -> list[Failure]:
        """Nodes that headers could not be compared with, and why; a fork among them halts the wallet."""
        return self.nodes.witness_failures

    def renew_trust(self, trust_file: bytes) -> None:
        """Start from a newer trust file; raises `Untrusted` for one that is not good (`wallet.renewal.renew`)."""
        self.nodes.renew_trust(trust_file)

    async def fetch_trust(self) -> None:
        """Fetch a trust file from the own platform and start from it."""
        self.renew_trust(await self._platform.fetch_trust_file())

    # --- scan, resolve, pay -------------------------------------------------------------------------------------------

    async def enroll(self) -> bytes:
        """Enrol this device with the own platform; returns the account's name."""
        return await self._platform.enroll()

    def scan(self, image: bytes) -> Scan:
        """The code in a picture (PNG, JPEG or WebP)."""
        return self.read(read_one(image))

    def read(self, text: str) -> Scan:
        """The code of a payload that was read elsewhere."""
        return Scan(text, parse_code(text, prefix=prefix_of(self.config.chain_id)))

    async def resolve(self, scan: Scan | Code | ForeignCode, mode: MatchMode = MatchMode.NODE) -> Resolution:
        """The record to pay for a scanned code, verified.

        Asks node after node until one answer verifies; those passed over are in `failures`. Raises `Declined` where the
        chain proves that there is nothing to pay, else the last node's error.
        """
        code = scan.code if isinstance(scan, Scan) else scan
        credential = await self._platform.credential()
        config = self.config
        payer = Payer(config.chain_id, config.platform, credential, self._device, config.partners)

        async def ask(node: str) -> Resolution:
            network = self.nodes.usable_network(node) or await self.nodes.fetch_network(node)
            subject = code.merchant_id if isinstance(code, Code) else await self._aliases(node, code)
            entropy, newest = self._random(QUERY_ENTROPY_BYTES), self.nodes.headers.newest or network.header
            pending = build_pending(subject, payer, network, newest, mode, entropy, self._now(), code=code)
            answer = await self.nodes.fetch("POST", node, "/v1/query", pending.query.encoded())
            age_ms_max = config.header_age_ms_max
            return await self.nodes.verified(
                node,
                lambda: _header_of(answer),
                lambda: resolve_answer(pending, answer, self.nodes.headers, self._now(), age_ms_max),
            )

        return await self.nodes.ask(ask)

    async def _aliases(self, node: str, code: ForeignCode) -> tuple[Alias, ...]:
        """The aliases that a label of other schemes stands for: those whose scheme is assigned on chain."""
        found = []
        for source in code.sources[:ALIASES_MAX]:
            subs = self._schemes.get(source.guid) or await self._sub_objects(node, source.guid)
            if subs and set(subs) <= set(source.subs):
                found.append(Alias(guid=source.guid, values=tuple(source.subs[sub] for sub in subs)))
        if not found:
            raise Declined("alias.unassigned", "proven: no platform speaks for a scheme on this label", field="code")
        return tuple(found)

    async def _sub_objects(self, node: str, guid: str) -> tuple[str, ...]:
        """Which sub-objects make a scheme's alias, proven; none where no platform was ever assigned to it.

        The registry never lets them change, so they are asked for once. Whether the platform that now speaks for the
        scheme has begun to is its own affair: what is bound stays bound, what is not is proven absent.
        """
        key = scheme_key(guid)
        raw = await self.nodes.fetch("GET", node, f"/v1/leaves/governance/{key.hex()}")
        view = parse(LeafView, raw, path="leaf")
        leaf = await self.nodes.verified(
            node,
            lambda: HeaderView(header=view.header, validators=view.validators),
            lambda: self.nodes.headers.verify_leaf(view, Section.GOVERNANCE, key, self._now()),
        )
        if leaf is None:
            return ()
        self._schemes[guid] = parse(SchemeLeaf, leaf, path="scheme").sub_objects
        return self._schemes[guid]

    async def pay(self, target: VerifiedRecord, order: Order, *, idempotency_key: str | None = None) -> VerifiedReceipt:
        """Pay a verified record at the own platform; the receipt is checked and kept.

        The intent is on disk before it is sent. `Unreachable` is tried again with the same key; if it persists, the
        payment may have been taken: call again with the same key (`store.load_payments` has it), never with a new one.
        """
        self.nodes.require_trust()
        verify_order_terms(parse_terms(target.record.terms), order)
        credential = await self._platform.credential()
        key = idempotency_key or self._random(16).hex()
        body = build_payment(target, order).encoded()
        self.store.save_payment(KeptPayment(key, body, None))
        signed = parse_receipt(await self._platform.post_payment(credential, body, key))
        try:
            own = (await self.nodes.any_network()).own
            receipt = verify_payment(self.config.chain_id, signed, target, order, credential, own, key, self._now())
        except Untrusted as error:
            if error.code != "platform.key_unknown":
                raise
            self.nodes.forget()  # the platform may have a new receipt key
            own = (await self.nodes.any_network()).own
            receipt = verify_payment(self.config.chain_id, signed, target, order, credential, own, key, self._now())
        self.store.save_payment(KeptPayment(key, body, signed.encoded()))
        return receipt

    async def refunds(self, paid: VerifiedReceipt) -> tuple[VerifiedRefund, ...]:
        """What the own platform gave back of a payment, verified (`verify_refunds`)."""
        raw = await self._platform.fetch_refunds(await self._platform.credential(), paid.receipt.payment_id)
        own = (await self.nodes.any_network()).own
        return verify_refunds(self.config.chain_id, raw, paid, own, self._now())


def _header_of(answer: bytes) -> HeaderView:
    """The header of an answer that did not verify because of it."""
    parsed = parse(Answer, answer, path="answer")
    if parsed.header is None or parsed.validators is None:
        raise Untrusted("answer.header_withheld", "the answer lacks a header that the wallet does not have")
    return HeaderView(header=parsed.header, validators=parsed.validators)
