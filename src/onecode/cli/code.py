"""`onecode code`: write codes, read them back, and say what deviates from the specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onecode.cli.console import OnecodeGroup, console, pairs
from onecode.code.currency import find_currency
from onecode.code.emv import parse_payload
from onecode.code.identity import merchant_text, parse_merchant_text
from onecode.code.image import png_bytes, read_one, svg_text, terminal_text
from onecode.code.label import StaticLabel, build_static
from onecode.code.reading import Code, ForeignCode, parse_code
from onecode.errors import Malformed, Misconfigured

PREFIXES = ("oc", "ocs")  # the main networks' and the solo networks'
PICTURES = (".png", ".svg")


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
@click.option("--out", type=click.Path(path_type=Path), help="File to write, .png or .svg; without it: the terminal.")
def make(
    merchant_given: str | None, keys: Path | None, currency: str, tip: bool, out: Path | None, **words: Any
) -> None:
    """Make the static code of a merchant."""
    prefix, merchant_id = _merchant(merchant_given, keys)
    label = StaticLabel(
        merchant_id=merchant_id, prefix=prefix, currency=find_currency(currency).numeric, tip_prompt=tip, **words
    )
    payload = build_static(label)
    if out is None:
        console().show({"payload": payload}, [terminal_text(payload), payload])
        return
    if out.suffix.lower() not in PICTURES:
        raise Malformed("cli.picture_kind", "the file's name must end in .png or .svg", field="out")
    picture = png_bytes(payload) if out.suffix.lower() == ".png" else svg_text(payload).encode("utf-8")
    _write(out, picture)
    console().show({"payload": payload, "file": str(out)}, pairs(("payload", payload), ("file", out)))


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
    """A file's bytes; `Misconfigured` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured("cli.file", f"cannot read {path}: {error.strerror}", field="file") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Misconfigured("cli.file_write", f"cannot write {path}: {error.strerror}", field="out") from None


@code.command()
@click.argument("file", type=click.Path(path_type=Path))
def scan(file: Path) -> None:
    """Read the code in a picture (PNG, JPEG, WebP)."""
    payload = read_one(read_file(file))
    prefix, found = _read(payload)
    if isinstance(found, ForeignCode):
        schemes = [{"template": source.template, "guid": source.guid, "subs": source.subs} for source in found.sources]
        console().show(
            {"kind": "foreign", "payload": payload, "name": found.name, "schemes": schemes},
            [
                "a code of other schemes, without our identity",
                *pairs(*((source.guid, source.subs) for source in found.sources)),
            ],
        )
        return
    plain = {"kind": "dynamic" if found.order else "static", "payload": payload, **code_plain(found, prefix)}
    console().show(plain, pairs(*plain.items()))


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


def _read(payload: str) -> tuple[str, Code | ForeignCode]:
    """The code of either network: this command shows, it does not pay."""
    try:
        return PREFIXES[0], parse_code(payload, prefix=PREFIXES[0])
    except Malformed as error:
        if error.code != "code.id_prefix":
            raise
        return PREFIXES[1], parse_code(payload, prefix=PREFIXES[1])


@code.command()
@click.argument("source")
def inspect(source: str) -> None:
    """List the objects of a payload (text, or a picture's path) and what deviates from the specification."""
    path = Path(source)
    is_payload = source.startswith("0002") and not path.exists()
    payload = parse_payload(source if is_payload else read_one(read_file(path)), lenient=True)
    objects = [{"id": item.id, "value": item.value} for item in payload.objects]
    deviations = [{"code": d.code, "object": d.object, "message": d.message} for d in payload.deviations]
    lines = pairs(*((item["id"], item["value"]) for item in objects))
    lines += [f"deviates: object {d['object']}: {d['message']} [{d['code']}]" for d in deviations]
    console().show(
        {"payload": payload.text, "objects": objects, "deviations": deviations},
        lines if deviations else [*lines, "nothing deviates"],
    )
