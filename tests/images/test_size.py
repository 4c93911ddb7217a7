"""The size that a header says is the size that decoding gives, whatever the format and the orientation."""

from __future__ import annotations

import io
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from fastdup_dagster.images import ImageError, decode, image_size
from fastdup_dagster.sources import to_uri

FORMATS = ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "HEIF", "AVIF"]


def picture(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    with_exif = {} if kind in ("BMP", "GIF", "JPEG2000") else {"exif": exif}
    Image.effect_noise((60, 40), 50).convert("RGB").save(buffer, kind, **with_exif)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_it_is_that_of_the_decoded_image(kind: str, orientation: int, tmp_path: Path) -> None:
    data = picture(kind, orientation)
    path = tmp_path / "a"
    path.write_bytes(data)
    decoded = decode(data)
    assert image_size(to_uri(str(path).encode())) == (decoded.width, decoded.height)


def test_a_jpeg_is_sized_by_its_head_and_one_with_a_long_head_too(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((60, 40), 50).save(buffer, "JPEG")
    good = buffer.getvalue()
    long = good[:2] + (b"\xff\xe2\xff\xff" + b"x" * 65_533) * 6 + good[2:]
    for name, data in (("cut", good[:700]), ("long", long)):
        (tmp_path / name).write_bytes(data)
        assert image_size(to_uri(str(tmp_path / name).encode())) == (60, 40)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("text", b"text"), ("jpeg", b"\xff\xd8\xff rest")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError):
            image_size(to_uri(str(tmp_path / name).encode()))
    with pytest.raises(ImageError):
        image_size(to_uri(str(tmp_path / "gone").encode()))
