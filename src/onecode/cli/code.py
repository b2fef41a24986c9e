"""`onecode code`: write codes, read them back, and say what deviates from the specification."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.code.currency import find_currency
from onecode.code.identity import merchant_text, parse_merchant_text
from onecode.code.image import png_bytes, read_one, read_one_frame, svg_text, terminal_text
from onecode.code.inspection import kind_of, read_any
from onecode.code.label import StaticLabel, add_identity, build_static
from onecode.code.reading import Code, ForeignCode
from onecode.code.tlv import split_objects
from onecode.errors import Malformed, Misconfigured

PREFIXES = ("oc", "ocs")  # the main networks' and the solo networks'
OUTPUTS = (".png", ".svg", ".pdf")
LANGUAGES = ("en", "zh")
FILE_BYTES_MAX = 64 << 20
_PAYLOAD = re.compile("[0-9]{4}")
_FRAME = re.compile("([0-9]{1,5})x([0-9]{1,5})")


@click.group(cls=OnecodeGroup)
def code() -> None:
    """Write, read and inspect the merchant's code."""


@code.command()
@click.option("--merchant", "merchant_given", help="Merchant id as text, e.g. ocs1...")
@click.option("--keys", type=click.Path(path_type=Path), help="Directory of `onecode merchant keys`, instead of an id.")
@click.option("--name", required=True, help="Shop name, up to 25 ASCII characters.")
@click.option("--city", required=True, help="City, up to 15 ASCII characters.")
@click.option("--mcc", required=True, help="Merchant category code, 4 digits (ISO 18245).")
@click.option("--currency", required=True, help="Currency, e.g. EUR or 978 (ISO 4217).")
@click.option("--country", required=True, help="Country, 2 letters (ISO 3166-1).")
@click.option("--postal-code", help="Up to 10 characters.")
@click.option("--store-label", help="Which branch, up to 25 characters.")
@click.option("--terminal-label", help="Which till or table, up to 25 characters.")
@click.option("--reference", help="Reference for every payment, up to 25 characters.")
@click.option("--tip", is_flag=True, help="Ask the payer for a tip.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write, .png, .svg or .pdf (a poster).")
def make(
    merchant_given: str | None, keys: Path | None, currency: str, tip: bool, out: Path | None, **words: Any
) -> None:
    """Make the static code of a merchant; without --out it is shown on the terminal."""
    prefix, merchant_id = _merchant(merchant_given, keys)
    label = StaticLabel(
        merchant_id=merchant_id, prefix=prefix, currency=find_currency(currency).numeric, tip_prompt=tip, **words
    )
    _put_out(build_static(label), prefix, out)


def _put_out(payload: str, prefix: str, out: Path | None, **more: Any) -> None:
    """Show the code, or write it to a file of the kind that its name says."""
    plain: dict[str, Any] = {"payload": payload, **more}
    if out is None:
        console().show(plain, [terminal_text(payload), *pairs(*plain.items())])
        return
    write_file(out, _drawn(payload, prefix, out.suffix.lower()))
    plain["file"] = str(out)
    console().show(plain, pairs(*plain.items()))


def _drawn(payload: str, prefix: str, kind: str) -> bytes:
    if kind == ".png":
        return png_bytes(payload)
    if kind == ".svg":
        return svg_text(payload).encode("utf-8")
    if kind == ".pdf":
        return _poster(payload, prefix, None, LANGUAGES)
    raise Malformed("cli.picture_kind", f"the file's name must end in {', '.join(OUTPUTS)}", field="out")


def _poster(payload: str, prefix: str, name: str | None, languages: Sequence[str]) -> bytes:
    import pylopdf_fonts_zh_cn

    from onecode.code.poster import poster_pdf

    font = read_file(pylopdf_fonts_zh_cn.sans_path())
    return poster_pdf(payload, prefix, font, name=name, languages=languages)


@code.command()
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, .pdf.")
@click.option("--name", help="The shop's name as it shall stand there, Chinese too; by default the code's.")
@click.option("--language", "languages", multiple=True, default=LANGUAGES, show_default=True, help="Up to 4 of them.")
def poster(source: str, out: Path, name: str | None, languages: tuple[str, ...]) -> None:
    """Set an A6 poster of a static code; SOURCE is its picture or its payload."""
    payload = payload_of(source)
    if out.suffix.lower() != ".pdf":
        raise Malformed("cli.poster_kind", "a poster is a .pdf", field="out")
    prefix, _ = read_any(payload, PREFIXES)
    write_file(out, _poster(payload, prefix, name, languages))
    console().show({"payload": payload, "file": str(out)}, pairs(("payload", payload), ("file", out)))


@code.command()
@click.argument("source")
@click.option("--merchant", "merchant_given", help="Merchant id as text, e.g. ocs1...")
@click.option("--keys", type=click.Path(path_type=Path), help="Directory of `onecode merchant keys`, instead of an id.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write, .png, .svg or .pdf (a poster).")
def add(source: str, merchant_given: str | None, keys: Path | None, out: Path | None) -> None:
    """Add the merchant's identity to a label of other schemes; SOURCE is its picture or its payload.

    What is printed for the other schemes stays byte for byte; only the CRC is made anew.
    """
    prefix, merchant_id = _merchant(merchant_given, keys)
    old = payload_of(source)
    payload = add_identity(old, merchant_id, prefix)
    (added,) = {item.id for item in split_objects(payload)} - {item.id for item in split_objects(old)}
    _put_out(payload, prefix, out, added_template=added)


def _merchant(given: str | None, keys: Path | None) -> tuple[str, bytes]:
    """Prefix and merchant id from exactly one of the two options."""
    from onecode.network.merchant import load_merchant

    if (given is None) == (keys is None):
        raise Malformed("cli.merchant", "give either --merchant or --keys", field="merchant")
    if keys is not None:
        loaded = load_merchant(keys)
        return loaded.prefix, loaded.id
    text = given or ""
    prefix = text.lower().rpartition("1")[0]
    if prefix not in PREFIXES:
        raise Malformed("cli.merchant_prefix", f"a merchant id begins with {' or '.join(PREFIXES)}", field="merchant")
    return prefix, parse_merchant_text(text, prefix)


def read_file(path: Path) -> bytes:
    """A file's bytes; `Misconfigured` if it cannot be read, or is larger than any that a command takes."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Misconfigured("cli.file", f"cannot read {path}: {error.strerror}", field="file") from None
    if len(data) > FILE_BYTES_MAX:
        raise Misconfigured("cli.file_size", f"{path} is larger than {FILE_BYTES_MAX} bytes", field="file")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a file; `Misconfigured` if it cannot be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Misconfigured("cli.file_write", f"cannot write {path}: {error.strerror}", field="out") from None


def payload_of(source: str) -> str:
    """The payload that is meant: the one code in a picture, or the text itself."""
    if not os.path.exists(source) and _PAYLOAD.match(source):  # Path.exists raises on a long payload
        return source
    return read_one(read_file(Path(source)))


@code.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--frame", help="FILE is a raw camera frame of this size, e.g. 640x480: one byte of grey a pixel.")
def scan(file: Path, frame: str | None) -> None:
    """Read the code in a picture (PNG, JPEG, WebP)."""
    payload = read_one(read_file(file)) if frame is None else _read_frame(read_file(file), frame)
    prefix, found = read_any(payload, PREFIXES)
    if isinstance(found, ForeignCode):
        lines = pairs(*((source.guid, source.subs) for source in found.sources))
        plain = {"payload": payload, **foreign_plain(found)}
        console().show(plain, ["a code of other schemes, without our identity", *lines])
        return
    plain = {"kind": kind_of(found), "payload": payload, **code_plain(found, prefix)}
    console().show(plain, pairs(*plain.items()))


def _read_frame(grey: bytes, size: str) -> str:
    match = _FRAME.fullmatch(size)
    if match is None:
        raise Malformed("cli.frame", "a frame's size is width and height in pixels, e.g. 640x480", field="frame")
    return read_one_frame(grey, int(match[1]), int(match[2]))


def foreign_plain(found: ForeignCode) -> dict[str, Any]:
    """What a code of other schemes says, for output: what could be an alias."""
    schemes = [{"template": source.template, "guid": source.guid, "subs": source.subs} for source in found.sources]
    return {"kind": kind_of(found), "name": found.name, "schemes": schemes}


def code_plain(found: Code, prefix: str) -> dict[str, Any]:
    """What a code says, for output. What is printed beside the identity is information, not the record."""
    order = found.order
    return {
        "merchant": merchant_text(found.merchant_id, prefix),
        "name": found.name,
        "city": found.city,
        "mcc": found.mcc,
        "country": found.country,
        "currency": found.currency,
        "store_label": found.store_label,
        "terminal_label": found.terminal_label,
        "reference": found.reference,
        "tip_prompt": found.tip_prompt,
        "amount": f"{order.amount_text} {order.currency.alpha}" if order else None,
        "deviations": len(found.deviations),
    }
