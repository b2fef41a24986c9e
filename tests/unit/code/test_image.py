"""QR images: what is written is read again, the same bytes each time; each kind of bad picture has its error."""

from __future__ import annotations

import io
import re
import struct
import zlib

import pytest
import segno
import zxingcpp
from PIL import Image

from onecode.code import image
from onecode.errors import Malformed

TEXT = "00020101021126600011org.onecode0141oc10gmxunl64s9m0n2ycx45820usxj22aculm7ye95204581253039785802DE6304978B"


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("L")


def saved(picture: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def side_by_side(*texts: str) -> bytes:
    parts = [opened(image.png_bytes(text)) for text in texts]
    sheet = Image.new("L", (sum(part.width for part in parts), max(part.height for part in parts)), 255)
    at = 0
    for part in parts:
        sheet.paste(part, (at, 0))
        at += part.width
    return saved(sheet, "PNG")


def png_header_of(width: int, height: int) -> bytes:
    """A PNG whose header promises an image that the few bytes behind it do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("level", ["L", "M", "Q", "H"])
@pytest.mark.parametrize("text", [TEXT, "Café São João 最佳运输", "x" * 512])
def test_png_and_back(level: image.Level, text: str) -> None:
    picture = image.png_bytes(text, level=level)
    assert picture == image.png_bytes(text, level=level)
    assert image.read_one(picture) == text
    assert image.read_codes(picture) == [text]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_kinds_of_picture(kind: str) -> None:
    assert image.read_one(saved(opened(image.png_bytes(TEXT)), kind)) == TEXT


def test_the_asked_level_is_kept_and_the_mode_is_byte() -> None:
    # In alphanumeric mode 20 characters would fit version 1-M; in byte mode 14 do.
    assert opened(image.png_bytes("A" * 14, module_px=1)).width == 21 + 8
    assert opened(image.png_bytes("A" * 15, module_px=1)).width == 25 + 8
    (found,) = zxingcpp.read_barcodes(opened(image.png_bytes("A" * 9)))
    assert found.ec_level == "M"  # without a boost to Q, which it would fit


def test_eci_stands_only_where_a_character_needs_it() -> None:
    # Its 12 bits make 14 bytes too long for version 1-M.
    assert opened(image.png_bytes("é" * 7, module_px=1)).width == 25 + 8
    assert opened(image.png_bytes("é" * 6, module_px=1)).width == 21 + 8


def test_svg_draws_the_symbol_in_its_quiet_zone() -> None:
    svg = image.svg_text(TEXT, module_px=8)
    rows = image.dark_modules(TEXT)
    side = len(rows) + 2 * image.QUIET_ZONE_MODULES
    assert svg.startswith("<?xml") and 'fill="#fff"' in svg and f'width="{side * 8}"' in svg
    sheet = Image.new("L", (side, side), 255)
    x, y = 0.0, 0.0
    (lines,) = re.findall(r'<path [^>]*class="qrline"[^>]* d="([^"]*)"', svg)
    for command, numbers in re.findall(r"([Mmh])([^Mmh]*)", lines):
        steps = [float(number) for number in numbers.split()]
        if command == "h":  # a run of dark modules: a line one module thick
            sheet.paste(0, (int(x), int(y), int(x + steps[0]), int(y) + 1))
            x += steps[0]
        else:
            x, y = (steps[0], steps[1]) if command == "M" else (x + steps[0], y + steps[1])
    assert image.read_one(saved(sheet.resize((side * 8, side * 8), Image.Resampling.NEAREST), "PNG")) == TEXT


def test_the_terminal_shows_the_same_symbol() -> None:
    rows = image.terminal_text(TEXT).splitlines()
    pixels = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    width = len(rows[0])
    grey = b"".join(bytes(pixels[char][half] for char in row) for row in rows for half in (0, 1))
    sheet = Image.frombytes("L", (width, 2 * len(rows)), grey).resize(
        (width * 8, len(rows) * 16), Image.Resampling.NEAREST
    )
    assert image.read_one(saved(sheet, "PNG")) == TEXT


def test_a_payload_too_long_for_the_level_is_refused() -> None:
    with pytest.raises(Malformed) as refused:
        image.png_bytes("x" * 1274, level="H")
    assert refused.value.code == "code.too_large"


def test_a_code_on_clear_ground_is_read() -> None:
    grey = opened(image.png_bytes(TEXT))
    clear = Image.new("RGBA", grey.size, (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), mask=grey.point(lambda value: 255 - value))
    assert image.read_one(saved(clear, "PNG")) == TEXT


def test_turned_and_inverted_codes_are_read() -> None:
    grey = opened(image.png_bytes(TEXT))
    assert image.read_one(saved(grey.rotate(30, expand=True, fillcolor=255), "PNG")) == TEXT
    assert image.read_one(saved(grey.point(lambda value: 255 - value), "PNG")) == TEXT


def test_a_raw_frame_is_read() -> None:
    grey = opened(image.png_bytes(TEXT))
    assert image.read_one_frame(grey.tobytes(), grey.width, grey.height) == TEXT


@pytest.mark.parametrize(("size", "width", "height"), [(99, 10, 10), (101, 10, 10), (0, 0, 0), (100, -10, -10)])
def test_a_frame_of_another_size_is_refused(size: int, width: int, height: int) -> None:
    with pytest.raises(Malformed) as refused:
        image.read_one_frame(b"\xff" * size, width, height)
    assert refused.value.code == "code.image_unreadable"


def test_copies_count_as_one_and_different_codes_do_not() -> None:
    assert image.read_one(side_by_side(TEXT, TEXT)) == TEXT
    two = side_by_side(TEXT, "another")
    assert sorted(image.read_codes(two)) == sorted([TEXT, "another"])
    with pytest.raises(Malformed) as refused:
        image.read_one(two)
    assert refused.value.code == "code.image_several"


def test_an_empty_picture_has_no_code() -> None:
    blank = saved(Image.new("L", (200, 200), 255), "PNG")
    assert image.read_codes(blank) == []
    with pytest.raises(Malformed) as refused:
        image.read_one(blank)
    assert refused.value.code == "code.image_none"


def test_other_symbols_are_told_from_none() -> None:
    micro = io.BytesIO()
    segno.make_micro("12345").save(micro, kind="png", scale=8)
    assert image.read_codes(micro.getvalue()) == []
    with pytest.raises(Malformed) as refused:
        image.read_one(micro.getvalue())
    assert refused.value.code == "code.image_not_qr"


@pytest.mark.parametrize(
    "picture",
    [
        b"",
        b"not a picture",
        image.png_bytes(TEXT)[:300],
        b"GIF89a" + b"\0" * 50,
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"\xff\xd8\xff\xe0",
    ],
)
def test_what_is_no_picture_is_refused(picture: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        image.read_codes(picture)
    assert refused.value.code == "code.image_unreadable"


def test_gif_is_not_taken() -> None:
    with pytest.raises(Malformed) as refused:
        image.read_codes(saved(opened(image.png_bytes(TEXT)), "GIF"))
    assert refused.value.code == "code.image_unreadable"


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (100_000, 100_000), (2**31 - 1, 1)])
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(Malformed) as refused:
        image.read_codes(png_header_of(width, height))
    assert (refused.value.code, refused.value.status) == ("code.image_too_large", 413)


def test_a_file_over_the_limit_is_not_opened() -> None:
    with pytest.raises(Malformed) as refused:
        image.read_codes(image.png_bytes(TEXT) + b"\0" * image.FILE_BYTES_MAX)
    assert refused.value.code == "code.image_too_large"
