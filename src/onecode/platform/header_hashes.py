"""The hashes of the chain's headers, kept without a gap: a checkpoint commits to them, a countersigner compares them.

One header is verified; each names the one before it by its hash, so all below it are established by hashing alone. The
node's word is needed for nothing, and any number of headers costs no signature.
"""

from __future__ import annotations

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from onecode.errors import Unreachable, Untrusted
from onecode.platform.context import Platform
from onecode.platform.schema import HeaderHash
from onecode.proof.header import Header, header_hash
from onecode.query.messages import HeaderView


def follow_headers(platform: Platform, view: HeaderView, low: int | None = None) -> None:
    """Keep the hashes of all headers up to a verified one; where `low` is given, down to that height.

    view: as `Chain.fetch_newest` gave it. Without `low` the first one kept is the view's own. Raises `Untrusted` where
    what was verified before is not below it: that is a fork of the chain.
    """
    newest = view.header.header
    with platform.database.read() as session:
        bottom, top = session.execute(select(func.min(HeaderHash.height), func.max(HeaderHash.height))).one()
        kept = session.scalar(select(HeaderHash.hash).where(HeaderHash.height == min(newest.height, top or 0)))
    if top is None or newest.height > top:
        stop = newest.height if top is None else top + 1
        hashes, lowest = _walk(platform, newest, stop)
        if top is not None and lowest.last_block_id.hash != kept:
            raise Untrusted("header.fork", "another header was verified at this height; keep both as evidence")
        _keep(platform, hashes)
        bottom = stop if bottom is None else bottom
    elif header_hash(newest) != kept:
        raise Untrusted("header.fork", "another header was verified at this height; keep both as evidence")
    if low is not None and low < bottom:
        with platform.database.read() as session:
            hashed = session.get_one(HeaderHash, bottom).hash
        hashes, _ = _walk(platform, _named(platform, bottom, hashed), low)
        _keep(platform, hashes)


def _walk(platform: Platform, header: Header, stop: int) -> tuple[dict[int, bytes], Header]:
    """The hashes from a header that is established down to the height `stop`, and the header there."""
    hashes = {header.height: header_hash(header)}
    while header.height > stop:
        header = _named(platform, header.height - 1, header.last_block_id.hash)
        hashes[header.height] = header_hash(header)
    return hashes, header


def _named(platform: Platform, height: int, hashed: bytes) -> Header:
    """The header of a height that has this hash."""
    header = platform.chain.fetch_header(height)
    if header.height != height or header_hash(header) != hashed:
        raise Unreachable("chain.other_header", f"the node's header {height} is not the one that the next one names")
    return header


def _keep(platform: Platform, hashes: dict[int, bytes]) -> None:
    rows = [{"height": height, "hash": hashed} for height, hashed in hashes.items()]
    with platform.database.write() as session:
        session.execute(insert(HeaderHash).prefix_with("OR IGNORE"), rows)


def load_header_hashes(session: Session, first: int, last: int) -> list[bytes] | None:
    """The hashes from one height to another; None where not all of them are kept."""
    query = select(HeaderHash.hash).where(HeaderHash.height.between(first, last)).order_by(HeaderHash.height)
    found = list(session.scalars(query))
    return found if len(found) == last - first + 1 else None
