"""Damaged pictures: each is read or refused with an error of ours; whatever a decoder does, nothing else comes out."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onecode.code import image
from onecode.errors import Malformed

TEXT = "00020101021126"


def pictures() -> list[bytes]:
    png = image.png_bytes(TEXT, module_px=3)
    found = [png]
    for kind, mode in (
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
    ):
        out = io.BytesIO()
        Image.open(io.BytesIO(png)).convert(mode).save(out, kind)
        found.append(out.getvalue())
    return found


PICTURES = pictures()
EDIT = st.tuples(st.integers(0, 4000), st.integers(0, 3), st.binary(max_size=4))


@pytest.mark.filterwarnings("ignore")  # Pillow's own about the damage
@settings(max_examples=300)
@given(st.sampled_from(PICTURES), st.lists(EDIT, min_size=1, max_size=6))
def test_a_damaged_picture_is_read_or_refused(picture: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, drop, put in edits:
        place = at % (len(picture) + 1)
        picture = picture[:place] + put + picture[place + drop :]
    try:
        texts = image.read_codes(picture)
    except Malformed as refused:
        assert refused.code in ("code.image_unreadable", "code.image_too_large")
        return
    assert texts in ([], [TEXT])  # the symbol's own error correction stands behind what is still read


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        image.read_codes(data)
