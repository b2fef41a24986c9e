"""A poster of a merchant's code, A6 as PDF: name, code, how to scan, and the id for reading aloud.

The symbol is drawn as vectors; every character that stands on the page is embedded, so it prints anywhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont as FontFile
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from onecode.code.identity import merchant_text
from onecode.code.image import QUIET_ZONE_MODULES, Level, dark_modules
from onecode.code.reading import Code, parse_code
from onecode.errors import Malformed
from onecode.wire import sha256

PHRASES = {
    "de": "Mit jeder Wallet scannen",
    "en": "Scan with any wallet",
    "es": "Escanee con cualquier billetera",
    "fr": "Scannez avec n'importe quel portefeuille",
    "id": "Pindai dengan dompet apa pun",
    "it": "Inquadra con qualsiasi wallet",
    "ja": "どのウォレットでも読み取れます",
    "ms": "Imbas dengan mana-mana dompet",
    "pt": "Escaneie com qualquer carteira",
    "ru": "Сканируйте любым кошельком",
    "zh": "用任意钱包扫码付款",
}
LANGUAGES_MAX = 4
NAME_CHARS_MAX = 50

WIDTH, HEIGHT = 105 * mm, 148 * mm  # ISO 216 A6
_MARGIN = 8 * mm
_SYMBOL = 78 * mm  # with the quiet zone, which may reach into the margin of the text
_NAME_TOP, _NAME_ROOM = HEIGHT - 10 * mm, 18 * mm
_NAME_POINTS, _NAME_POINTS_MIN = 26.0, 8.0
_SYMBOL_TOP = HEIGHT - 30 * mm
_PHRASE_POINTS, _ID_POINTS = 12.0, 9.0
_LEADING = 1.35
_GROUP_CHARS, _GROUPS_A_LINE = 4, 5
_OUTLINE_ERROR_EM = 0.001  # of the em: how far a converted outline may lie off


def poster_pdf(
    payload: str,
    prefix: str,
    font: bytes,
    *,
    name: str | None = None,
    languages: Sequence[str] = ("en", "zh"),
    level: Level = "M",
) -> bytes:
    """The poster of a static code with our identity; the same arguments give the same bytes.

    font: an OpenType or TrueType file that may be embedded; name: of the shop, up to 50 characters, by default the one
    in the code; languages: up to 4 keys of `PHRASES`. Raises `Malformed`: as `parse_code`, code.poster_code for a code
    that is not to hang on a wall, code.poster_name, code.poster_language, code.poster_character.
    """
    code = parse_code(payload, prefix=prefix)
    if not isinstance(code, Code) or code.order is not None:
        raise Malformed("code.poster_code", "a poster shows a static code with a merchant id of ours", field="payload")
    title = name if name is not None else code.name or ""
    if not 1 <= len(title.strip()) <= NAME_CHARS_MAX or not title.isprintable():
        raise Malformed("code.poster_name", f"give a name of 1 to {NAME_CHARS_MAX} printable characters", field="name")
    if not 1 <= len(languages) <= LANGUAGES_MAX or not set(languages) <= set(PHRASES):
        known = ", ".join(PHRASES)
        raise Malformed("code.poster_language", f"name 1 to {LANGUAGES_MAX} of {known}", field="languages")
    phrases = [PHRASES[language] for language in dict.fromkeys(languages)]
    rows = id_lines(merchant_text(code.merchant_id, prefix))
    face = _embed(font, "".join((title, *phrases, *rows)))
    out = io.BytesIO()
    canvas = Canvas(out, (WIDTH, HEIGHT), invariant=1, pageCompression=1, lang=languages[0], initialFontName=face)
    canvas.setTitle(title)
    _draw_name(canvas, face, title.strip())
    _draw_symbol(canvas, dark_modules(payload, level=level))
    _draw_lines(canvas, face, phrases, rows)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


def id_lines(text: str) -> list[str]:
    """An id in groups for reading aloud: prefix with its "1", then four characters a group, five groups a line."""
    prefix, mark, rest = text.rpartition("1")
    groups = [rest[at : at + _GROUP_CHARS] for at in range(0, len(rest), _GROUP_CHARS)]
    lines = [" ".join(groups[at : at + _GROUPS_A_LINE]) for at in range(0, len(groups), _GROUPS_A_LINE)]
    return [f"{prefix}{mark} {lines[0]}", *lines[1:]]


# --- the page --------------------------------------------------------------------------------------------------------


def _width(face: str, text: str, points: float) -> float:
    return float(pdfmetrics.stringWidth(text, face, points))


def _wrapped(face: str, title: str, points: float, *, anywhere: bool = False) -> list[str] | None:
    """The name in one or two lines that fit; broken at a space or, where there is none, between any two characters."""
    room = WIDTH - 2 * _MARGIN
    if _width(face, title, points) <= room:
        return [title]
    spaces = [at for at, char in enumerate(title) if char == " "]
    pairs = [(title[:at].strip(), title[at:].strip()) for at in (range(1, len(title)) if anywhere else spaces)]
    if not pairs:
        return None if anywhere else _wrapped(face, title, points, anywhere=True)
    lines = min(pairs, key=lambda pair: max(_width(face, line, points) for line in pair))
    return list(lines) if all(_width(face, line, points) <= room for line in lines) else None


def _draw_name(canvas: Canvas, face: str, title: str) -> None:
    points = _NAME_POINTS
    lines = _wrapped(face, title, points)
    while (lines is None or len(lines) * points * _LEADING > _NAME_ROOM) and points > _NAME_POINTS_MIN:
        points -= 0.5
        lines = _wrapped(face, title, points)
    lines = lines or _wrapped(face, title, points, anywhere=True) or [title]
    points *= min(1.0, (WIDTH - 2 * _MARGIN) / max(_width(face, line, points) for line in lines))
    canvas.setFont(face, points)
    height = len(lines) * points * _LEADING
    at = _NAME_TOP - (_NAME_ROOM - height) / 2 - points
    for line in lines:
        canvas.drawCentredString(WIDTH / 2, at, line)
        at -= points * _LEADING


def _draw_symbol(canvas: Canvas, rows: Sequence[Sequence[bool]]) -> None:
    """Every dark run of modules as a rectangle of one path, so that no renderer leaves seams between them."""
    module = _SYMBOL / (len(rows) + 2 * QUIET_ZONE_MODULES)
    left, top = (WIDTH - _SYMBOL) / 2 + QUIET_ZONE_MODULES * module, _SYMBOL_TOP - QUIET_ZONE_MODULES * module
    path = canvas.beginPath()
    for y, row in enumerate(rows):
        for start, length in _runs(row):
            path.rect(left + start * module, top - (y + 1) * module, length * module, module)
    canvas.drawPath(path, stroke=0, fill=1)


def _runs(row: Sequence[bool]) -> Iterable[tuple[int, int]]:
    start = None
    for x, dark in enumerate((*row, False)):
        if dark and start is None:
            start = x
        elif not dark and start is not None:
            yield start, x - start
            start = None


def _draw_lines(canvas: Canvas, face: str, phrases: Sequence[str], rows: Sequence[str]) -> None:
    at = _SYMBOL_TOP - _SYMBOL - _PHRASE_POINTS / 2
    for phrase in phrases:
        points = min(_PHRASE_POINTS, _PHRASE_POINTS * (WIDTH - 2 * _MARGIN) / _width(face, phrase, _PHRASE_POINTS))
        canvas.setFont(face, points)
        canvas.drawCentredString(WIDTH / 2, at, phrase)
        at -= _PHRASE_POINTS * _LEADING
    canvas.setFont(face, _ID_POINTS)
    for number, row in enumerate(reversed(rows)):
        canvas.drawCentredString(WIDTH / 2, 6 * mm + number * _ID_POINTS * _LEADING, row)


# --- the font --------------------------------------------------------------------------------------------------------


def _embed(font: bytes, text: str) -> str:
    """Register a font of just these characters for embedding; returns the name it is set by.

    PDF writing takes TrueType outlines, fonts of Chinese have PostScript ones, so the few that are used are converted.
    """
    source = FontFile(io.BytesIO(font), lazy=True)
    table, glyphs = source.getBestCmap(), source.getGlyphSet()
    characters = {ord(char): table.get(ord(char)) for char in sorted({" ", *text})}
    for number, glyph in characters.items():
        if glyph is None:
            raise Malformed(
                "code.poster_character", f"the poster's font has no character {chr(number)!r}", field="name"
            )
    names = [".notdef", *dict.fromkeys(glyph for glyph in characters.values() if glyph is not None)]
    em = source["head"].unitsPerEm
    outlines = {}
    for name in names:
        pen = TTGlyphPen(None)
        glyphs[name].draw(Cu2QuPen(pen, em * _OUTLINE_ERROR_EM, reverse_direction="CFF " in source))
        outlines[name] = pen.glyph()
    face = f"Onecode-{sha256(font + text.encode('utf-8')).hex()[:12]}"
    builder = FontBuilder(em, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(characters)
    builder.setupGlyf(outlines)  # finds each outline's bounds, which the side bearings below need
    builder.setupHorizontalMetrics(
        {name: (round(glyphs[name].width), getattr(outlines[name], "xMin", 0)) for name in names}
    )
    builder.setupHorizontalHeader(ascent=source["hhea"].ascent, descent=source["hhea"].descent)
    builder.setupNameTable({"familyName": face, "styleName": "Regular", "psName": face})
    builder.setupOS2()
    builder.setupPost()
    built = io.BytesIO()
    builder.save(built)
    built.seek(0)
    pdfmetrics.registerFont(TTFont(face, built))
    return face
