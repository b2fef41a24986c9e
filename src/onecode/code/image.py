"""QR images of codes: writing with segno, reading with zxing-cpp, pictures decoded by Pillow.

Written symbols keep EMVCo MPM v1.1, section 4.12: byte mode, UTF-8, ECI 26 only where a character
needs it, no Micro QR.
"""

from __future__ import annotations

import io
from typing import Literal

import segno
import zxingcpp
from PIL import Image

from onecode.errors import Malformed

Level = Literal["L", "M", "Q", "H"]  # about 7, 15, 25, 30 % of the symbol may be damaged

FILE_BYTES_MAX = 16 << 20
PIXELS_MAX = 50_000_000
QUIET_ZONE_MODULES = 4
_PICTURES = ("PNG", "JPEG", "WEBP")

# --- writing ---------------------------------------------------------------------------------------------------------


def _symbol(payload: str, level: Level) -> segno.QRCode:
    try:
        return segno.make_qr(
            payload,
            error=level,
            mode="byte",
            encoding="utf-8",
            eci=not payload.isascii(),
            boost_error=False,
        )
    except segno.DataOverflowError:
        raise Malformed(
            "code.too_large", f"the payload does not fit a QR code of level {level}", field="payload", status=413
        ) from None


def dark_modules(payload: str, *, level: Level = "M") -> list[list[bool]]:
    """The symbol's rows of modules, dark as True, without the quiet zone: for who draws it by other means."""
    return [[value == 1 for value in row] for row in _symbol(payload, level).matrix]


def png_bytes(payload: str, *, level: Level = "M", module_px: int = 8) -> bytes:
    """A black and white PNG with the quiet zone; the same payload gives the same bytes every time."""
    out = io.BytesIO()
    _symbol(payload, level).save(out, kind="png", scale=module_px, border=QUIET_ZONE_MODULES)
    return out.getvalue()


def svg_text(payload: str, *, level: Level = "M", module_px: int = 8) -> str:
    """An SVG document with a white ground and the quiet zone."""
    out = io.BytesIO()
    _symbol(payload, level).save(out, kind="svg", scale=module_px, border=QUIET_ZONE_MODULES, light="#fff")
    return out.getvalue().decode("utf-8")


def terminal_text(payload: str, *, level: Level = "M") -> str:
    """Half blocks for a terminal with light text on a dark ground, one character a module and half its height."""
    out = io.StringIO()
    _symbol(payload, level).terminal(out, border=QUIET_ZONE_MODULES, compact=True)
    return out.getvalue()


# --- reading ---------------------------------------------------------------------------------------------------------


def _grey(picture: bytes) -> Image.Image:
    """The picture in 8-bit grey on white; size is checked from its header, before any pixel is decoded."""
    if len(picture) > FILE_BYTES_MAX:
        raise Malformed(
            "code.image_too_large", f"a picture has at most {FILE_BYTES_MAX} bytes", field="image", status=413
        )
    try:
        with Image.open(io.BytesIO(picture), formats=_PICTURES) as opened:
            if opened.width * opened.height > PIXELS_MAX:
                raise _too_many_pixels()
            if not opened.has_transparency_data:
                return opened.convert("L")
            colour = opened.convert("RGBA")  # clear pixels are often black underneath, as the code's own are
            return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("L")
    except Image.DecompressionBombError:
        raise _too_many_pixels() from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError):
        # What Pillow's decoders raise on damaged files of these formats is no smaller set than this.
        raise Malformed(
            "code.image_unreadable", "the file is no whole PNG, JPEG or WebP picture", field="image", status=415
        ) from None


def _too_many_pixels() -> Malformed:
    return Malformed("code.image_too_large", f"a picture has at most {PIXELS_MAX} pixels", field="image", status=413)


def _scan(grey: bytes, width: int, height: int, kinds: zxingcpp.BarcodeFormat) -> list[str]:
    view = memoryview(grey).cast("B", (height, width))
    formats = zxingcpp.BarcodeFormats(kinds)
    found = zxingcpp.read_barcodes(view, formats=formats, text_mode=zxingcpp.TextMode.Plain)
    return list(dict.fromkeys(barcode.text for barcode in found if barcode.valid))


def _one(grey: bytes, width: int, height: int) -> str:
    texts = _scan(grey, width, height, zxingcpp.BarcodeFormat.QRCodeModel2)
    if len(texts) > 1:
        raise Malformed(
            "code.image_several", f"{len(texts)} different QR codes are in view; show one alone", field="image"
        )
    if texts:
        return texts[0]
    if _scan(grey, width, height, zxingcpp.BarcodeFormat.AllReadable):
        raise Malformed(
            "code.image_not_qr", "the picture shows a barcode of another kind, not a QR code", field="image"
        )
    raise Malformed("code.image_none", "no QR code was found; come closer or add light", field="image")


def read_codes(picture: bytes) -> list[str]:
    """The texts of the QR codes in a PNG, JPEG or WebP file, each once; an empty list if there is none.

    Raises `Malformed` code.image_unreadable or code.image_too_large (16 MiB, 50 million pixels).
    """
    grey = _grey(picture)
    return _scan(grey.tobytes(), grey.width, grey.height, zxingcpp.BarcodeFormat.QRCodeModel2)


def read_one(picture: bytes) -> str:
    """The text of the one QR code in a picture file; copies of the same code count as one.

    Raises as `read_codes`, and `Malformed` code.image_none, code.image_several or code.image_not_qr.
    """
    grey = _grey(picture)
    return _one(grey.tobytes(), grey.width, grey.height)


def read_one_frame(grey: bytes, width: int, height: int) -> str:
    """The same for a raw camera frame: rows from the top, one byte of grey a pixel, no padding."""
    if width < 1 or height < 1 or len(grey) != width * height:
        raise Malformed("code.image_unreadable", "a frame has width times height bytes", field="frame", status=415)
    if len(grey) > PIXELS_MAX:
        raise _too_many_pixels()
    return _one(grey, width, height)
