"""Write docs/openapi/platform.json: the platform's API, from the table that its routes are made of.

Usage: python scripts/openapi_platform.py
"""

from __future__ import annotations

import json
from pathlib import Path

from onecode.platform.openapi import document

PAGE = Path(__file__).resolve().parent.parent / "docs" / "openapi" / "platform.json"


def page() -> str:
    """The document's text."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
