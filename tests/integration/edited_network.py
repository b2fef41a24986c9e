"""A local network whose configuration files a test may edit before the processes that read them start."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from integration.node_network import alive, wait_until
from onecode.host.clock import now_ms
from onecode.network.agreement import build_agreement, hand_over
from onecode.network.local import LocalNetwork
from onecode.network.merchant import CONSENT_MS, Merchant
from onecode.network.plan import NODE, NetworkPlan
from onecode.network.processes import Child
from onecode.record.payment import SERVICE_PAY

Edit = Callable[[dict[str, Any]], None]
START_S = 30


class EditedNetwork(LocalNetwork):
    """`edits` by the file's name ("node.json", "enclave.json", "platform.json", "key-service.json")."""

    def __init__(self, directory: Path, plan: Callable[[], NetworkPlan], edits: dict[str, Edit]) -> None:
        super().__init__(directory, plan)
        self.edits = edits
        self.commands: dict[str, tuple[str, Path]] = {}

    def _start(self, name: str, module: str, config: Path) -> Child:
        self.commands[name] = (module, config)
        for file in (config, config.parent / "enclave.json"):
            if (edit := self.edits.get(file.name)) and file.exists():
                options = json.loads(file.read_bytes())
                edit(options)
                file.write_text(json.dumps(options))
        return super()._start(name, module, config)

    def start_again(self, name: str) -> None:
        """Start a process that ended, as it was started before; returns when it is ready."""
        module, config = self.commands[name]
        LocalNetwork._start(self, name, module, config).wait_ready(time.monotonic() + START_S)

    def kill(self, name: str) -> None:
        """kill -9 of one of the network's own children; returns when it and what ends with it are gone."""
        pid = self.children[name].pid
        pids = [pid, *(descendants(pid) if name == NODE else ())]
        os.kill(pid, signal.SIGKILL)
        self.children.pop(name).wait_stopped(time.monotonic() + START_S)
        wait_until(lambda: not any(map(alive, pids)))

    def node_pids(self) -> dict[str, Any]:
        """Process ids of the running node's parts: writer, workers (a list), enclave; None for one that is not up."""
        return dict(json.loads((self.places.node / "running.json").read_bytes())["pids"])

    @property
    def supervisor(self) -> int:
        """Process id of the node."""
        return self.children[NODE].pid

    def sign_shop(self, shop: Merchant, slug: str, record: dict[str, Any]) -> dict[str, Any]:
        """A platform signs a merchant up, with the merchant's consent; nothing is published yet."""
        handed = hand_over(shop, self.identity(slug), SERVICE_PAY, now_ms(), CONSENT_MS)
        return self.operator(slug).sign(build_agreement(record, handed, now_ms()))


def descendants(pid: int) -> list[int]:
    """All processes that this one has started, and they in turn."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def record_data(**changes: Any) -> dict[str, Any]:
    """What an operator types in for a shop."""
    return {
        "legal_name": "Noodle House Ltd (made up)",
        "display_name": "Noodle House",
        "mcc": "5812",
        "country": "DE",
        "city": "Berlin",
        "time_zone": "Europe/Berlin",
        "terms": {
            "accounts": [
                {"merchant_number": "m-1", "settlement_reference": "s-1", "currency": "EUR", "store_labels": []}
            ],
            "tip_mode": "none",
        },
    } | changes
