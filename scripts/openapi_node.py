"""Write docs/openapi/node.json: the node's OpenAPI document, from the routes in the source.

Usage: python scripts/openapi_node.py
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

from onecode.node.api import NodeApi
from onecode.node.config import NodeConfig
from onecode.node.link import Link, LinkLimits
from onecode.node.openapi import document
from onecode.node.operations import writer_down
from onecode.node.store import ReaderStore

PAGE = Path(__file__).resolve().parent.parent / "docs" / "openapi" / "node.json"


async def _document() -> dict[str, Any]:
    nowhere = Path("nowhere")
    config = NodeConfig(
        chain_id="solo-x", data_dir=nowhere, genesis=nowhere, validator_key=nowhere, node_id="node-1", workers=1
    )
    store = cast(ReaderStore, None)  # no route is called
    return document(NodeApi(config, store, [], Link(nowhere, LinkLimits(1, 1), writer_down)).router())


def page() -> str:
    """The text of the page."""
    return json.dumps(asyncio.run(_document()), indent=1) + "\n"


def main() -> int:
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
