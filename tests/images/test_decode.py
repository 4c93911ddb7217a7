"""Every awkward image file decodes as a person would expect, or is refused with a code and a reason."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastdup_dagster.images import ImageError, decode
from fastdup_dagster.images.decode import upright
from fastdup_dagster.schemas import ERROR_CODES

# What decoding silences at its import, pytest lets through again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def picture(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth colours with one bright corner: no two orientations of it are alike."""
    patches = np.random.default_rng(seed).integers(0, 200, (4, 5, 3), dtype=np.uint8)
    pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels[: height // 4, : width // 4] = 255
    return pixels


def encoded(pixels: Any, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def code_of(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as raised:
        decode(data, **options)
    assert raised.value.code in ERROR_CODES
    assert str(raised.value)
    return raised.value.code


def distance(first: np.ndarray, second: np.ndarray) -> float:
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is width x height."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", head),
            png_chunk(b"IDAT", zlib.compress(b"")),
            png_chunk(b"IEND", b""),
        ]
    )


def tiff_of_numbers(values: np.ndarray, sample_format: int, photometric: int = 1, order: str = "<") -> bytes:
    """An uncompressed grey TIFF; format 1 unsigned, 2 signed, 3 float; photometric 0 means that white is 0."""
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    height, width = values.shape
    fields = ((256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, photometric), (273, 8), (277, 1))
    entries = [struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in (*fields, (278, height))]
    entries.append(struct.pack(f"{order}HHII", 279, 4, 1, len(data)))
    entries.append(struct.pack(f"{order}HHIHH", 339, 3, 1, sample_format, 0))
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return head + struct.pack(f"{order}I", 8 + len(data)) + data + directory + b"\0" * 4


def tiff_in_planes(pixels: np.ndarray, sample_format: int) -> bytes:
    """An uncompressed TIFF that keeps all red values first, then all green, then all blue."""
    height, width = pixels.shape[:2]
    planes = [np.ascontiguousarray(pixels[:, :, channel]).tobytes() for channel in range(3)]
    data, size = b"".join(planes), len(planes[0])
    after = 8 + len(data)  # the three values of a tag stand after the pixels
    lists = struct.pack("<4H", *[pixels.itemsize * 8] * 3, 0) + struct.pack("<3I", 8, 8 + size, 8 + 2 * size)
    lists += struct.pack("<3I", size, size, size) + struct.pack("<4H", *[sample_format] * 3, 0)
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 3, after + 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 3, after + 20), (284, 3, 1, 2)]
    entries += [(339, 3, 3, after + 32)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", after + len(lists)) + data + lists + directory + b"\0" * 4


LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS, ids=lambda v: str(v))
def test_a_lossless_file_gives_its_pixels_and_says_what_it_is(kind: str, options: dict[str, Any]) -> None:
    image = decode(encoded(picture(), kind, **options))
    assert np.array_equal(image.pixels, picture())
    assert (image.width, image.height, image.format) == (64, 48, kind.lower())
    assert not image.has_alpha
    assert not image.is_truncated


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_a_lossy_file_gives_almost_its_pixels(kind: str) -> None:
    try:
        data = encoded(picture(), kind, **({"quality": 95} if kind != "GIF" else {}))
    except (OSError, KeyError):
        pytest.skip(f"this Pillow cannot write {kind}")
    image = decode(data)
    assert distance(image.pixels, picture()) < 6
    assert image.format == kind.lower()


def test_heic_is_read() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    try:
        pillow_heif.from_pillow(Image.fromarray(picture())).save(buffer, quality=95)
    except (RuntimeError, ValueError, OSError):
        pytest.skip("this pillow-heif has no HEVC encoder")
    image = decode(buffer.getvalue())
    assert distance(image.pixels, picture()) < 8
    assert image.format == "heif"


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer shows: EXIF says where the first row and the first column of the file belong."""
    place = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, 1),
    }
    return place[orientation](pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}
    try:
        data = encoded(picture(), kind, exif=_exif(orientation), **options.get(kind, {}))
    except (OSError, KeyError):
        pytest.skip(f"this Pillow cannot write {kind}")
    image = decode(data)
    assert distance(image.pixels, turned(picture(), orientation)) < 6
    assert (image.height, image.width) == image.pixels.shape[:2]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_heic_orientation_is_applied_once(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    try:
        pillow_heif.from_pillow(Image.fromarray(picture())).save(buffer, quality=95, exif=_exif(orientation).tobytes())
    except (RuntimeError, ValueError, OSError):
        pytest.skip("this pillow-heif has no HEVC encoder")
    assert distance(decode(buffer.getvalue()).pixels, turned(picture(), orientation)) < 8


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_true_size_is_the_upright_one_also_at_a_smaller_scale(orientation: int) -> None:
    data = encoded(picture(1200, 900), "JPEG", exif=_exif(orientation))
    image = decode(data, min_side=224)
    assert (image.width, image.height) == (900, 1200)
    assert 224 <= image.pixels.shape[1] < 900
    assert image.pixels.shape[0] > image.pixels.shape[1]


def test_broken_metadata_do_not_lose_good_pixels() -> None:
    data = bytearray(encoded(picture(), "JPEG", exif=_exif(6)))
    start = data.find(b"Exif\0\0") + 6
    for junk in (b"\xff" * 20, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"):
        data[start : start + len(junk)] = junk
        assert decode(bytes(data)).pixels.shape in ((48, 64, 3), (64, 48, 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_its_depth_so_that_dark_stays_dark(kind: str) -> None:
    levels = {0: 0, 255: 0, 300: 1, 2_560: 10, 32_768: 128, 65_535: 255}
    for value, expected in levels.items():
        image = decode(encoded(np.full((20, 30), value, np.uint16), kind))
        assert np.array_equal(image.pixels, np.full((20, 30, 3), expected)), value


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_keeps_its_colours(extension: str, channels: int) -> None:
    pixels = picture()
    wide = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA if channels == 4 else cv2.COLOR_RGB2BGR).astype(np.uint16) * 257
    done, data = cv2.imencode(extension, wide)
    assert done
    image = decode(data.tobytes())
    assert distance(image.pixels, pixels) <= 1
    assert image.has_alpha == (channels == 4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_is_read_in_either_byte_order_and_where_white_is_zero(order: str) -> None:
    values = np.full((12, 14), 60_000, np.uint16)
    assert np.unique(decode(tiff_of_numbers(values, 1, 1, order)).pixels).tolist() == [234]
    assert np.unique(decode(tiff_of_numbers(values, 1, 0, order)).pixels).tolist() == [21]
    assert np.unique(decode(tiff_of_numbers(np.full((12, 14), 250, np.uint8), 1, 0, order)).pixels).tolist() == [5]


def test_32_bit_numbers_are_scaled_by_their_depth() -> None:
    for value, expected in {0: 0, 2**24: 1, 2**30: 64, 2**31: 128, 2**32 - 1: 255}.items():
        data = tiff_of_numbers(np.full((12, 14), value, np.uint32), 1)
        assert np.unique(decode(data).pixels).tolist() == [expected], value
    assert np.unique(decode(tiff_of_numbers(np.full((12, 14), 2**30, np.int32), 2)).pixels).tolist() == [64]


def test_floats_count_as_shares_of_white_or_as_levels_and_nothing_else() -> None:
    def grey(value: float) -> bytes:
        return tiff_of_numbers(np.full((12, 14), value, np.float32), 3)

    assert decode(grey(0.5)).pixels[0, 0].tolist() == [128] * 3
    assert decode(grey(200.0)).pixels[0, 0].tolist() == [200] * 3
    for value in (-1.0, 1e6, float("nan"), float("inf")):
        assert code_of(grey(value)) == "UNSUPPORTED_FORMAT"


def test_float_colour_is_read() -> None:
    done, data = cv2.imencode(".tiff", cv2.cvtColor((picture() / 255).astype(np.float32), cv2.COLOR_RGB2BGR))
    assert done
    assert distance(decode(data.tobytes()).pixels, picture()) <= 1


def test_a_tiff_in_planes_is_read_where_that_is_right_and_refused_where_it_would_be_noise() -> None:
    assert np.array_equal(decode(tiff_in_planes(picture(), 1)).pixels, picture())
    for pixels, sample_format in ((picture().astype(np.uint16) * 257, 1), ((picture() / 255).astype(np.float32), 3)):
        assert code_of(tiff_in_planes(pixels, sample_format)) == "UNSUPPORTED_FORMAT"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped_and_reported_never_composited(kind: str) -> None:
    alpha = np.zeros((48, 64, 1), np.uint8)
    alpha[10:20, 10:20] = 100
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = decode(encoded(np.concatenate([picture(), alpha], axis=2), kind, **options))
    assert np.array_equal(image.pixels, picture())
    assert image.has_alpha


def test_grey_with_alpha_keeps_its_grey_under_transparent_pixels() -> None:
    grey = picture()[:, :, 0]
    image = decode(encoded(Image.merge("LA", [Image.fromarray(grey), Image.new("L", (64, 48), 0)]), "PNG"))
    assert np.array_equal(image.pixels, np.repeat(grey[:, :, None], 3, axis=2))
    assert image.has_alpha


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_is_looked_up_and_its_transparency_is_reported(transparent: bool) -> None:
    indexed = Image.fromarray(picture()).quantize(16)
    options = {"transparency": 0} if transparent else {}
    image = decode(encoded(indexed, "PNG", **options))
    assert np.array_equal(image.pixels, np.asarray(indexed.convert("RGB")))
    assert image.has_alpha == transparent


def test_one_bit_is_black_and_white() -> None:
    bits = picture()[:, :, 0] > 100
    for kind in ("PNG", "TIFF", "BMP"):
        image = decode(encoded(Image.fromarray(bits), kind))
        assert np.array_equal(image.pixels, np.repeat(bits[:, :, None] * np.uint8(255), 3, axis=2)), kind


def test_cmyk_jpeg_has_the_colours_that_it_was_made_from() -> None:
    data = encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95)
    image = decode(data)
    assert distance(image.pixels, picture()) < 3
    assert not image.is_truncated
    half = decode(data[: len(data) * 2 // 3])
    assert half.is_truncated
    assert distance(half.pixels[:16], picture()[:16]) < 3


def test_a_cmyk_jpeg_is_turned_and_scaled_like_any_other() -> None:
    data = encoded(Image.fromarray(picture(1200, 900)).convert("CMYK"), "JPEG", quality=95, exif=_exif(6))
    image = decode(data, min_side=224)
    assert (image.width, image.height) == (900, 1200)
    assert image.pixels.shape[0] < 900
    assert distance(image.pixels, cv2.resize(turned(picture(1200, 900), 6), image.pixels.shape[1::-1])) < 4


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    image = decode(encoded(Image.fromarray(picture()).convert("L"), "JPEG"))
    assert image.pixels.shape == (48, 64, 3)
    assert np.array_equal(image.pixels[:, :, 0], image.pixels[:, :, 2])


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3
    assert distance(decode(data).pixels, picture(seed=0)) < 6


def test_half_a_jpeg_is_kept_and_flagged_as_truncated() -> None:
    data = encoded(picture(300, 200), "JPEG", quality=95)
    for options in ({}, {"progressive": True}):
        data = encoded(picture(300, 200), "JPEG", quality=95, **options)
        image = decode(data[: len(data) // 2])
        assert image.is_truncated
        assert image.format == "jpeg"
        assert (image.width, image.height) == (300, 200)
        assert distance(image.pixels[:50], picture(300, 200)[:50]) < 12
    assert not decode(data).is_truncated


def test_a_damaged_progressive_jpeg_never_shows_what_lay_in_memory() -> None:
    data = encoded(picture(300, 200), "JPEG", progressive=True)
    second_scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    broken = data[:second_scan] + b"\xff\xc0" + data[second_scan + 2 :]  # a second start of frame: libjpeg gives up
    for _ in range(3):
        decode(encoded(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8), "JPEG"))
        assert code_of(broken) == "CORRUPT_IMAGE"


def test_a_jpeg_without_its_last_bytes_is_flagged_as_truncated() -> None:
    assert decode(encoded(picture(300, 200), "JPEG")[:-20]).is_truncated


def test_bytes_after_the_end_of_a_jpeg_do_not_matter() -> None:
    data = encoded(picture(), "JPEG")
    image = decode(data + b"appended by a camera" * 100)
    assert np.array_equal(image.pixels, decode(data).pixels)
    assert not image.is_truncated


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_other_formats_cut_short_are_corrupt(kind: str, share: float) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8), kind)
    assert code_of(data[: int(len(data) * share)]) == "CORRUPT_IMAGE"


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is text\n" * 20,
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0" + b"\0" * 200,
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x24\0\0\0WEBP",
        b"BM",
        b"II*\0",
        b"\0" * 64,
        b"<svg/>",
        b"%PDF-1.7",
        b"\0\0\0\x1cftypheic\0\0\0\0",
        b"P6\n",
    ],
    ids=lambda data: repr(data[:8]),
)
def test_what_is_no_image_is_corrupt(data: bytes) -> None:
    assert code_of(data) == "CORRUPT_IMAGE"


def test_no_bytes_are_a_case_of_their_own() -> None:
    assert code_of(b"") == "ZERO_SIZE_FILE"


@pytest.mark.parametrize(
    ("width", "height", "good"), [(5, 5, False), (9, 200, False), (200, 9, False), (10, 10, True), (9000, 20, True)]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_under_ten_pixels_on_a_side_is_too_small(kind: str, width: int, height: int, good: bool) -> None:
    data = encoded(picture(max(width, 4), max(height, 4)), kind)
    if not good:
        assert code_of(data) == "IMAGE_TOO_SMALL"
        return
    image = decode(data, min_side=448)
    assert (image.width, image.height) == (width, height)
    assert min(image.pixels.shape[:2]) >= 10


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    script = "\n".join(
        [
            "import resource, sys",
            "from fastdup_dagster.images import ImageError, decode",
            "data = sys.stdin.buffer.read()",
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss",
            "try:",
            "    decode(data)",
            "except ImageError as error:",
            "    print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)",
        ]
    )
    for size in (60_000, 13_400):
        found = subprocess.run([sys.executable, "-c", script], input=png_header(size, size), capture_output=True)
        code, grown_kib = found.stdout.split()
        assert code == b"IMAGE_TOO_LARGE"
        assert int(grown_kib) < 50_000


def test_a_jpeg_bomb_is_refused_by_its_header() -> None:
    data = bytearray(encoded(picture(), "JPEG"))
    frame = data.find(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    assert code_of(bytes(data)) == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
def test_the_limit_of_pixels_is_that_of_the_settings(kind: str) -> None:
    data = encoded(picture(64, 48), kind)
    assert decode(data, max_pixels=64 * 48).width == 64
    assert code_of(data, max_pixels=64 * 48 - 1) == "IMAGE_TOO_LARGE"


def test_a_postscript_file_is_refused_and_never_handed_to_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **_: started.append(args))
    assert code_of(encoded(picture(), "EPS")) == "UNSUPPORTED_FORMAT"
    assert started == []


def test_broken_files_print_nothing() -> None:
    broken = []
    for kind in ("TIFF", "GIF", "JPEG", "BMP", "JPEG2000", "PNG"):
        data = encoded(picture(), kind, **({"exif": _exif(6)} if kind == "JPEG" else {}))
        broken += [data[: len(data) // 2], data[:20] + b"\xff" * 30 + data[50:], data[:-40]]
    script = "\n".join(
        [
            "import sys",
            "from fastdup_dagster.images import ImageError, decode",
            "for line in sys.stdin:",
            "    try:",
            "        decode(bytes.fromhex(line))",
            "    except ImageError:",
            "        pass",
        ]
    )
    lines = "\n".join(data.hex() for data in broken)
    ended = subprocess.run([sys.executable, "-c", script], input=lines, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("min_side", [16, 100, 224, 448])
def test_a_jpeg_at_a_smaller_scale_keeps_both_sides_long_enough_and_its_true_size(min_side: int) -> None:
    data = encoded(picture(2000, 1100), "JPEG", quality=95)
    image = decode(data, min_side=min_side)
    assert min(image.pixels.shape[:2]) >= min_side
    assert (image.width, image.height) == (2000, 1100)
    small = cv2.resize(picture(2000, 1100), image.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert distance(image.pixels, small) < 4


def test_a_small_jpeg_is_never_enlarged_or_shrunk() -> None:
    data = encoded(picture(640, 480), "JPEG")
    assert np.array_equal(decode(data, min_side=448).pixels, decode(data).pixels)


@given(st.integers(-3, 12), st.integers(1, 5), st.integers(1, 5))
def test_turning_upright_gives_a_rearrangement_of_the_same_pixels(orientation: int, height: int, width: int) -> None:
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    found = upright(pixels, orientation)
    expected = turned(pixels, orientation) if 1 <= orientation <= 8 else pixels
    assert np.array_equal(found, expected)
    assert found.flags.c_contiguous or orientation == 1


def test_a_png_with_a_good_header_and_no_pixels_is_corrupt() -> None:
    assert code_of(png_header(64, 48)) == "CORRUPT_IMAGE"


def test_a_broken_length_in_a_png_costs_no_memory() -> None:
    head, data = png_header(64, 48), zlib.compress(picture().tobytes())
    broken = head[:33] + b"\x7f\xff\xff\xf0PLTE" + data
    started = time.perf_counter()
    assert code_of(broken) == "CORRUPT_IMAGE"
    assert time.perf_counter() - started < 1


def test_a_tiff_bomb_of_floats_is_refused_by_its_header() -> None:
    done, data = cv2.imencode(".tiff", np.zeros((20, 20, 3), np.float32))
    assert done
    assert code_of(data.tobytes(), max_pixels=399) == "IMAGE_TOO_LARGE"
    assert decode(data.tobytes(), max_pixels=400).format == "tiff"
