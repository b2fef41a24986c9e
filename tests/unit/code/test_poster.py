"""The poster: rendered it is read again, its text is text, and everything it needs is inside."""

from __future__ import annotations

import re

import pylopdf_fonts_zh_cn
import pypdfium2
import pytest

from onecode.code import image, poster
from onecode.code.label import OrderTerms, StaticLabel, build_dynamic, build_static
from onecode.code.poster import PHRASES, id_lines, poster_pdf
from onecode.errors import Malformed
from onecode.wire import SigningKey

DPI = 150
LABEL = StaticLabel(b"m" * 20, "ocs", "5812", "156", "CN", "Lanzhou Noodle House", "Shanghai")
STATIC = build_static(LABEL)
LONGEST = "馆" * 50


@pytest.fixture(scope="module")
def font() -> bytes:
    return pylopdf_fonts_zh_cn.sans_path().read_bytes()


def page(pdf: bytes) -> pypdfium2.PdfPage:
    document = pypdfium2.PdfDocument(pdf)
    assert len(document) == 1
    return document[0]


def text_of(pdf: bytes) -> str:
    return str(page(pdf).get_textpage().get_text_bounded())


def scanned(pdf: bytes) -> str:
    bitmap = page(pdf).render(scale=DPI / 72, grayscale=True)
    grey = bitmap.to_pil().convert("L")
    return image.read_one_frame(grey.tobytes(), grey.width, grey.height)


@pytest.mark.parametrize(
    "name", [None, "兰州拉面馆", "Café São João", "Лапшичная", "W" * 50, LONGEST, "a " + "馆" * 48]
)
def test_a_poster_is_read_from_its_page_and_holds_its_words(font: bytes, name: str | None) -> None:
    pdf = poster_pdf(STATIC, "ocs", font, name=name, languages=("en", "zh", "ja", "fr"))
    assert scanned(pdf) == STATIC
    words = re.sub(r"\s", "", text_of(pdf))
    assert re.sub(r"\s", "", name or LABEL.name) in words
    assert "ocs1" in words and "用任意钱包扫码付款" in words and "Scanwithanywallet" in words
    assert tuple(round(points / 72 * 25.4) for points in page(pdf).get_size()) == (105, 148)


def test_everything_on_the_page_is_inside_it_and_embedded(font: bytes) -> None:
    pdf = poster_pdf(STATIC, "ocs", font, name=LONGEST, languages=("fr", "de", "es", "ru"))
    width, height = page(pdf).get_size()
    textpage = page(pdf).get_textpage()
    for index in range(textpage.count_chars()):
        left, bottom, right, top = textpage.get_charbox(index)
        assert 0 <= left <= right <= width and 0 <= bottom <= top <= height
    assert pdf.count(b"/FontFile2") == len(re.findall(rb"/BaseFont", pdf)) > 0
    assert len(pdf) < 64 * 1024


def test_the_same_arguments_give_the_same_bytes(font: bytes) -> None:
    assert poster_pdf(STATIC, "ocs", font) == poster_pdf(STATIC, "ocs", font)


def test_every_phrase_is_in_the_font(font: bytes) -> None:
    for language, phrase in PHRASES.items():
        assert re.sub(r"\s", "", phrase) in re.sub(
            r"\s", "", text_of(poster_pdf(STATIC, "ocs", font, languages=[language]))
        )


def test_an_id_is_grouped_without_loss() -> None:
    text = "ocs1" + "".join(chr(ord("a") + number % 26) for number in range(38))
    lines = id_lines(text)
    assert "".join(lines).replace(" ", "") == text
    assert lines[0].split()[0] == "ocs1" and all(len(group) <= 4 for line in lines for group in line.split())


KEY = SigningKey.from_seed(b"k" * 32)
DYNAMIC = build_dynamic(LABEL, OrderTerms(100, "r", 1_700_000_000_000), KEY.sign_bytes, "solo-x")


@pytest.mark.parametrize(
    ("payload", "changes", "code"),
    [
        (DYNAMIC, {}, "code.poster_code"),
        ("000201010211021640000012345678905204581253031565802CN5901X6001Y63047F14", {}, "code.crc"),
        (STATIC, {"name": ""}, "code.poster_name"),
        (STATIC, {"name": "x" * 51}, "code.poster_name"),
        (STATIC, {"name": "a\nb"}, "code.poster_name"),
        (STATIC, {"name": "ร้าน"}, "code.poster_character"),
        (STATIC, {"languages": ("xx",)}, "code.poster_language"),
        (STATIC, {"languages": ()}, "code.poster_language"),
        (STATIC, {"languages": ("en", "zh", "ja", "fr", "de")}, "code.poster_language"),
    ],
)
def test_what_cannot_be_a_poster_is_refused(font: bytes, payload: str, changes: dict[str, object], code: str) -> None:
    with pytest.raises(Malformed) as refused:
        poster_pdf(payload, "ocs", font, **changes)  # type: ignore[arg-type]
    assert refused.value.code == code


def test_a_foreign_code_is_no_poster_of_ours(font: bytes) -> None:
    from onecode.code.emv import build_payload
    from onecode.code.tlv import DataObject, split_objects

    foreign = build_payload(
        DataObject("02", "4" * 16) if item.id == "26" else item for item in split_objects(STATIC)[:-1]
    )
    with pytest.raises(Malformed) as refused:
        poster_pdf(foreign, "ocs", font)
    assert refused.value.code == "code.poster_code"


def test_modules_drawn_are_those_of_the_symbol() -> None:
    rows = image.dark_modules(STATIC)
    runs = [list(poster._runs(row)) for row in rows]
    assert [sum(length for _, length in row) for row in runs] == [sum(row) for row in rows]
    assert runs[0][0] == (0, 7)  # the finder pattern
