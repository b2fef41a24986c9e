"""How all known nodes of a network stand: each one's own word, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from onecode.errors import Malformed, OnecodeError, Unreachable, printable
from onecode.network.ceremony import VerifiedCeremony
from onecode.network.client import NodeClient
from onecode.proof.leaves import PlatformLeaf
from onecode.query.messages import HeaderView, NetworkView
from onecode.schema import parse

TIMEOUT_MS = 3_000
AT_ONCE = 16
NUMBER_MAX = (1 << 63) - 1
CELL_CHARS_MAX = 64


def known_nodes(ceremony: VerifiedCeremony | None, nodes: Iterable[NodeClient]) -> dict[str, str]:
    """Names by addresses: the nodes on chain, as the first of `nodes` that answers has them; else the ceremony's."""
    found: dict[str, str] = {}
    for node in nodes:
        try:
            view = parse(NetworkView, node.network(), path="network")
        except OnecodeError:
            continue
        for platform in view.platforms:
            leaf = parse(PlatformLeaf, platform.leaf)
            for number, url in enumerate(dict.fromkeys(one.url for one in leaf.nodes), start=1):
                found.setdefault(url.rstrip("/"), leaf.name if number == 1 else f"{leaf.name} {number}")
        return found
    for one in ceremony.organisations if ceremony is not None else ():
        found.setdefault(one.node.body.url.rstrip("/"), one.admission.name)
    return found


def fetch_standing(names: dict[str, str]) -> dict[str, Any]:
    """Each node's status, asked at once, and how far it is behind the highest. An unreachable one says why."""
    urls = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(_ask, urls))
    highest = max((one["height"] for one in answers if "height" in one), default=0)
    rows = []
    for url, answer in zip(urls, answers, strict=True):
        row: dict[str, Any] = {"name": names[url], "url": url, "up": "height" in answer, **answer}
        if row["up"]:
            row["lag"] = highest - row["height"]
        rows.append(row)
    voting = [row for row in rows if row.get("power")]
    return {"height": highest, "nodes": rows, "validators": len(voting), "power": sum(row["power"] for row in voting)}


def _ask(url: str) -> dict[str, Any]:
    node = NodeClient(url, TIMEOUT_MS)
    try:
        return _read_status(node.status())
    except Unreachable as error:
        return {"error": error.code}
    except OnecodeError:  # its operator keeps the status to himself, or it is none
        return _ask_header(node)


def _read_status(status: dict[str, Any]) -> dict[str, Any]:
    """What is shown of a stranger's status; `Malformed` where it is none."""
    engine, enclave = _Said(status.get("engine")), _Said(status.get("enclave"))
    said, leases = _Said(status), enclave.value.get("leases")
    return {
        "height": said.number("height"),
        "header_age_ms": said.number("header_age_ms"),
        "engine_up": engine.value.get("up") is True,
        "peers": engine.number("peers", 0),
        "power": engine.number("power", 0),
        "catching_up": engine.value.get("catching_up") is True,
        "enclave": _enclave(enclave),
        "leases": sorted({_Said(one).text("platform") for one in (leases if isinstance(leases, list) else [])}),
        "platforms": said.number("platforms", 0),
        "version": _Said(status.get("versions")).text("onecode"),
    }


class _Said:
    """An object in a stranger's JSON; anything else counts as an empty one."""

    def __init__(self, value: Any) -> None:
        self.value: dict[str, Any] = value if isinstance(value, dict) else {}

    def number(self, name: str, default: int | None = None) -> int:
        found = self.value.get(name)
        found = default if found is None else found
        if type(found) is not int or abs(found) > NUMBER_MAX:
            raise Malformed("http.json", f"the node's status has no number {name}", field=name)
        return found

    def text(self, name: str) -> str:
        return printable(str(self.value.get(name, "")))[:CELL_CHARS_MAX]


def _ask_header(node: NodeClient) -> dict[str, Any]:
    """What a node tells to everybody: its newest provable height."""
    try:
        return {"height": parse(HeaderView, node.newest_header(), path="header").header.header.height}
    except OnecodeError as error:
        return {"error": error.code}


def _enclave(enclave: _Said) -> str:
    if not enclave.value:
        return "none"
    if enclave.value.get("up") is not True:
        return "down"
    return "simulated" if enclave.value.get("simulated") else enclave.text("kind")


COLUMNS: Sequence[str] = ("node", "height", "lag", "header", "peers", "power", "enclave", "keys", "version")


def standing_cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    if not row["up"]:
        return [row["name"], f"no answer: {row['error']}", *[""] * (len(COLUMNS) - 2)]
    if "version" not in row:
        return [row["name"], str(row["height"]), str(row["lag"]), "status not public", *[""] * (len(COLUMNS) - 4)]
    lag = f"{row['lag']}{' catching up' if row['catching_up'] else ''}"
    power = "no vote" if not row["power"] else str(row["power"])
    peers = str(row["peers"]) if row["engine_up"] else "engine down"
    keys = f"{len(row['leases'])} of {row['platforms']}"
    age = f"{row['header_age_ms'] / 1000:.1f} s"
    return [row["name"], str(row["height"]), lag, age, peers, power, row["enclave"], keys, row["version"]]
