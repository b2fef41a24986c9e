"""The platform as a process: `python -m onecode.platform CONFIG.json`. Prints one line of JSON when it serves."""

from __future__ import annotations

import json
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import uvicorn

from onecode.errors import Misconfigured, OnecodeError
from onecode.host.clock import now_ms
from onecode.platform.app import PlatformApp
from onecode.platform.chain import Chain
from onecode.platform.config import PlatformConfig, load_config
from onecode.platform.connections import bounded_protocol
from onecode.platform.context import Platform
from onecode.platform.countersign_requests import CheckpointKeeper
from onecode.platform.database import Database, open_database
from onecode.platform.epochs import load_epochs
from onecode.platform.keyring import load_keyring
from onecode.platform.links import LinkKeeper
from onecode.platform.nodes import NodesTransport
from onecode.platform.notices import NoticeSender
from onecode.platform.outbox import Sender
from onecode.platform.schema import LightHeader
from onecode.platform.trust import load_certificate, load_trust
from onecode.platform.webhooks import WebhookSender
from onecode.query.messages import HeaderView
from onecode.schema import parse

HEADER_SAVED_EVERY_MS = 60_000
LINKS_CHECKED_EVERY_MS = 5_000
SHUTDOWN_S = 2

log = logging.getLogger(__name__)


def load_header(database: Database) -> HeaderView | None:
    """The newest header that an earlier run verified."""
    with database.read() as session:
        row = session.get(LightHeader, 1)
        return None if row is None else parse(HeaderView, row.view, path="light_header")


def save_header(database: Database, view: HeaderView) -> None:
    """Keep a verified header, so that the next start does not depend on the trust file's age."""
    with database.write() as session:
        session.merge(LightHeader(id=1, view=view.encoded()))


def open_platform(
    config: PlatformConfig,
    clock_ms: Callable[[], int] = now_ms,
    entropy: Callable[[int], bytes] = secrets.token_bytes,
) -> Platform:
    """Keys, database and light client of a configured platform; asks its node for nothing yet."""
    keys = load_keyring(
        config.transaction_key_file,
        config.record_key_file,
        config.device_key_file,
        config.receipt_key_file,
        config.anchor_key_file,
    )
    certificate = load_certificate(config, keys)
    load_epochs(config.epoch_key_file)
    database = open_database(config.data_dir)
    try:
        trust = load_trust(config, load_header(database), clock_ms())
    except BaseException:
        database.close()
        raise
    client = httpx.Client(
        base_url=config.node_url,
        timeout=config.node_timeout_ms / 1000,
        follow_redirects=False,
        trust_env=False,
        transport=NodesTransport((config.node_url, *config.other_node_urls)),
    )
    chain = Chain(
        chain_id=config.chain_id,
        platform=config.platform,
        key=keys.transaction,
        trust=trust,
        client=client,
        clock_ms=clock_ms,
        header_age_ms_max=config.header_age_ms_max,
        leaf_age_ms_max=config.leaf_age_ms_max,
    )
    return Platform(config, keys, certificate, database, chain, clock_ms, entropy)


def _partner_client(platform: Platform) -> httpx.Client:
    timeout_s = platform.config.partner_timeout_ms / 1000
    return httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False)


def open_notices(platform: Platform) -> NoticeSender:
    """What sends notices to partners."""
    return NoticeSender(platform, _partner_client(platform))


def open_checkpoints(platform: Platform) -> CheckpointKeeper:
    """What makes checkpoints and has them countersigned."""
    return CheckpointKeeper(platform, _partner_client(platform))


class Background(threading.Thread):
    """Does one thing again and again, whatever becomes of it."""

    def __init__(self, name: str, action: Callable[[], None], pause_ms: int) -> None:
        super().__init__(name=name, daemon=True)
        self._action = action
        self._pause_ms = pause_ms
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._action()
            except OnecodeError as error:
                log.warning("the %s waits: %s", self.name, error)
            except Exception:
                log.exception("the %s failed", self.name)
            self._stopping.wait(self._pause_ms / 1000)

    def stop(self) -> None:
        """End the thread after what is at hand."""
        self._stopping.set()
        self.join(timeout=SHUTDOWN_S)


class HeaderKeeper:
    """Keeps the newest verified header, now and then."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._saved_ms = 0

    def keep(self) -> None:
        """Save the newest header if the last one was saved a minute ago."""
        view, time_ms = self._platform.chain.newest_view(), self._platform.clock_ms()
        if view is not None and time_ms - self._saved_ms >= HEADER_SAVED_EVERY_MS:
            save_header(self._platform.database, view)
            self._saved_ms = time_ms


def serve(config: PlatformConfig) -> None:
    """Serve until the process is told to end."""
    platform = open_platform(config)
    sender, notices, webhooks = Sender(platform), open_notices(platform), WebhookSender(platform)
    checkpoints = open_checkpoints(platform)
    try:
        listener = socket.create_server((config.host, config.port))
    except OSError as error:
        raise Misconfigured(
            "config.port", f"cannot listen on {config.host}:{config.port}: {error.strerror}", field="port"
        ) from None
    server = uvicorn.Server(
        uvicorn.Config(
            PlatformApp(platform, sender, notices).starlette(),
            http=bounded_protocol(config.request_timeout_ms),
            ws="none",
            h11_max_incomplete_event_size=config.header_bytes_max,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=2 * config.connections_max,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )

    def end(*_: object) -> None:  # uvicorn hands its signals on when it has ended; without this they would kill us
        server.should_exit = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    background = (
        Background("outbox", sender.drain, config.outbox_retry_ms),
        Background("notices", notices.drain, min(config.partner_retry_ms, config.outbox_retry_ms)),
        Background("webhooks", webhooks.drain, min(config.webhook_retry_ms, config.outbox_retry_ms)),
        Background("checkpoints", checkpoints.drain, config.checkpoint_retry_ms),
        Background("links", LinkKeeper(platform).check, LINKS_CHECKED_EVERY_MS),
        Background("header", HeaderKeeper(platform).keep, config.outbox_retry_ms),
    )
    for thread in background:
        thread.start()
    host, port = listener.getsockname()[:2]
    ready = {"ready": True, "url": f"http://{host}:{port}", "pid": os.getpid(), "platform": platform.id.hex()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    try:
        server.run(sockets=[listener])
    finally:
        for thread in background:
            thread.stop()
        notices.close()
        webhooks.close()
        checkpoints.close()
        platform.database.close()


def main(arguments: list[str]) -> int:
    """Exit code: 0, or that of the error's branch."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold every key
    try:
        if len(arguments) != 1:
            raise Misconfigured("config.usage", "usage: python -m onecode.platform CONFIG.json")
        serve(load_config(Path(arguments[0])))
    except OnecodeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
