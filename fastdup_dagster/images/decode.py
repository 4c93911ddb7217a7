"""Bytes to RGB pixels. The content decides, not the extension; what cannot be decoded gets a code and a reason.

EXIF orientation is applied. Alpha is dropped, never composited. 16-bit pixels are scaled by their bit depth,
not stretched. CMYK and palettes are converted. Of several frames or pages the first is taken. A JPEG that
ends early is decoded as far as it goes.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

MIN_SIDE = 10
MAX_PIXELS = 178_956_970
_ORIENTATION_TAG = 0x0112
_START_OF_SCAN = 0xDA
_WIDTH_TAG, _HEIGHT_TAG = 256, 257
_BITS_PER_SAMPLE_TAG = 258
_SAMPLE_FORMAT_TAG = 339
_PHOTOMETRIC_TAG = 262
_PLANAR_TAG = 284
# Formats that Pillow hands to an interpreter (Ghostscript) to draw: never on somebody else's files.
_PROGRAMS = ("EPS", "PS")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1")

# What is wrong with a file stands in its row; lines on stderr for every broken file would only repeat it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class ImageError(ValueError):
    """An image that cannot be used.

    Attributes:
        code: one of `schemas.ERROR_CODES`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: H x W x 3, uint8, RGB, upright; a JPEG may come at a smaller scale than its true size.
        width: true width in pixels, after orientation.
        height: true height in pixels, after orientation.
        format: what the content says, lower case.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    has_alpha: bool = False
    is_truncated: bool = False


def decode(data: bytes, min_side: int = 0, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decodes an image.

    Args:
        data: the file's bytes.
        min_side: a JPEG may be decoded at a smaller DCT scale that keeps both sides at least this long;
            0 decodes at full size.
        max_pixels: an image of more pixels is refused before it is decoded.

    Raises:
        ImageError: with code ZERO_SIZE_FILE, CORRUPT_IMAGE, IMAGE_TOO_SMALL, IMAGE_TOO_LARGE or
            UNSUPPORTED_FORMAT.
    """
    if not data:
        raise ImageError("ZERO_SIZE_FILE", "the file is empty")
    if data[:3] == b"\xff\xd8\xff":
        return _decode_jpeg(data, min_side, max_pixels)
    return _decode_other(data, max_pixels)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError("IMAGE_TOO_SMALL", f"{width} x {height} pixels: under {MIN_SIDE} on a side")
    if width * height > max_pixels:
        raise ImageError("IMAGE_TOO_LARGE", f"{width} x {height} pixels: over max_pixels={max_pixels}")


def _decode_jpeg(data: bytes, min_side: int, max_pixels: int) -> Decoded:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError) as error:  # KeyError: a colour space that libjpeg does not know either
        raise ImageError("CORRUPT_IMAGE", f"JPEG header: {error}") from error
    _check_size(width, height, max_pixels)
    is_cmyk = colorspace in ("CMYK", "YCCK")
    options: dict[str, Any] = {"colorspace": "CMYK" if is_cmyk else "RGB"}
    if min_side:
        # Scales between 1 and 1.5 cost more in the inverse DCT than they save (measured).
        options |= {"min_height": min_side, "min_width": min_side, "min_factor": 1.5}
    is_truncated = False
    try:
        pixels = simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        is_truncated = "premature end" in str(error).lower()
        pixels = _salvaged(data, options, str(error))
    if is_cmyk:
        pixels = _rgb_of_cmyk(pixels)
    orientation = jpeg_orientation(data)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return Decoded(upright(pixels, orientation), width, height, "jpeg", False, is_truncated)


def _salvaged(data: bytes, options: dict[str, Any], damage: str) -> NDArray[np.uint8]:
    """The pixels of a damaged JPEG, if libjpeg gets to its end.

    Where it gives up, the rest of the buffer holds whatever lay in memory, another image for one. A second pass over
    the inverse of the first tells: what was not written differs.
    """
    try:
        pixels = simplejpeg.decode_jpeg(data, strict=False, **options)
        again = simplejpeg.decode_jpeg(data, strict=False, buffer=np.invert(pixels).reshape(-1), **options)
    except ValueError as error:
        raise ImageError("CORRUPT_IMAGE", f"JPEG: {error}") from error
    if not np.array_equal(pixels, again):
        raise ImageError("CORRUPT_IMAGE", f"JPEG: {damage}")
    return pixels


def _rgb_of_cmyk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H x W x 4 ink values as JPEG files hold them, inverted as Adobe does, to H x W x 3 RGB."""
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(Image.frombytes("CMYK", size, pixels.tobytes(), "raw", "CMYK;I").convert("RGB"))


def jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 where it has none; its header is enough."""
    start = data.find(b"Exif\x00\x00", 0, _jpeg_header_end(data))
    if start < 0:
        return 1
    exif = Image.Exif()
    try:
        exif.load(data[start : start + 65_536])
        return int(exif.get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - Pillow's readers raise struct.error and others on broken metadata, good pixels
        return 1


def _jpeg_header_end(data: bytes) -> int:
    """Where the scan of a JPEG begins: metadata lie before it, however large a colour profile among them."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data) and data[at + 1] != _START_OF_SCAN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Applies an EXIF orientation (1 to 8; anything else is taken as 1) to H x W x C pixels."""
    if orientation in (2, 5, 7):
        pixels = pixels[:, ::-1]
    if orientation == 4:
        pixels = pixels[::-1]
    turns = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns or orientation in (2, 4) else pixels


def _decode_other(data: bytes, max_pixels: int) -> Decoded:
    try:
        return _decode_pillow(data, max_pixels)
    except ImageError:
        raise
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("IMAGE_TOO_LARGE", str(error)) from error
    except UnidentifiedImageError:
        reason = "not an image that any decoder here knows"
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise many kinds on broken input
        reason = f"{type(error).__name__}: {error}"
    if data[:4] not in _TIFF_MAGIC:
        raise ImageError("CORRUPT_IMAGE", reason)
    return _decode_tiff(data, max_pixels, reason)


def _decode_pillow(data: bytes, max_pixels: int) -> Decoded:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        _register_heif()
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        # Pillow's limit is one for the process, and refuses twice of it: who asks for more here means it.
        Image.MAX_IMAGE_PIXELS = max_pixels
    with Image.open(io.BytesIO(data)) as image:
        if image.format in _PROGRAMS:
            raise ImageError("UNSUPPORTED_FORMAT", f"{image.format} is a program that draws, not pixels")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_planes(image.tag_v2)
        return from_pillow(image, max_pixels)


def from_pillow(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The pixels of a Pillow image of any mode, turned upright.

    Raises:
        ImageError: IMAGE_TOO_SMALL, IMAGE_TOO_LARGE or UNSUPPORTED_FORMAT.
    """
    _check_size(*image.size, max_pixels)
    kind = (image.format or "unknown").lower()
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    pixels = _rgb(image)
    # Asked only after the pixels are read: Pillow turns a TIFF upright as it reads it, and then says 1.
    pixels = upright(pixels, _orientation(image))
    return Decoded(pixels, pixels.shape[1], pixels.shape[0], kind, has_alpha)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - broken metadata must not lose good pixels
        return 1


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """H x W x 3 uint8 of a Pillow image of any mode."""
    if image.mode.startswith("I"):
        bits, values = 16, np.asarray(image)
        if image.format == "TIFF":
            tags = image.tag_v2  # type: ignore[attr-defined]
            declared, kind = tags.get(_BITS_PER_SAMPLE_TAG, 16), tags.get(_SAMPLE_FORMAT_TAG, 1)
            bits = int(declared[0] if isinstance(declared, tuple) else declared)
            if bits == 32 and kind in (1, (1,)):  # Pillow has no unsigned mode: the upper half would turn negative
                values = values.view(np.uint32)
            if tags.get(_PHOTOMETRIC_TAG) == 0 and values.dtype.kind == "u":  # white is 0
                values = 2**bits - 1 - values
        return _eight_bits(values, bits)
    if image.mode == "F":
        return _eight_bits(np.asarray(image), 32)
    return np.asarray(image.convert("RGB"))


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """H x W or H x W x C numbers of a bit depth to H x W x 3 uint8: the top eight bits, not a stretch.

    Floats have no depth: up to 1 they count as shares of white, up to 255 as they are.
    """
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(np.min(values)), float(np.max(values))
        if not (low >= 0 and high <= 255):
            raise ImageError(
                "UNSUPPORTED_FORMAT", f"float pixels from {low:g} to {high:g}; expected 0 to 1 or 0 to 255"
            )
        small = values * 255 if high <= 1 else values
        grey = np.rint(small).astype(np.uint8)
    else:
        grey = np.clip(values >> max(bits - 8, 0), 0, 255).astype(np.uint8)
    if grey.ndim == 2:
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.ascontiguousarray(grey[:, :, :3])


def _decode_tiff(data: bytes, max_pixels: int, reason: str) -> Decoded:
    """TIFF files of pixel types that Pillow refuses, such as floats in colour.

    OpenCV gets nothing else: at a broken length in a PNG it allocates what the length says, gigabytes.
    """
    try:
        tags = _tiff_tags(data)
        _check_planes(tags)
        _check_size(int(tags[_WIDTH_TAG]), int(tags[_HEIGHT_TAG]), max_pixels)
        orientation = int(tags.get(_ORIENTATION_TAG, 1))
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except ImageError:
        raise
    except Exception as error:  # Pillow's tag reader raises many kinds on broken input
        raise ImageError("CORRUPT_IMAGE", reason) from error
    if pixels is None:
        raise ImageError("CORRUPT_IMAGE", reason)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if channels >= 3:
        pixels = pixels[:, :, [2, 1, 0]]
    if tags.get(_PHOTOMETRIC_TAG) == 0 and pixels.dtype == np.uint16:  # white is 0
        pixels = 2**16 - 1 - pixels
    rgb = upright(_eight_bits(pixels, pixels.dtype.itemsize * 8), orientation)
    return Decoded(rgb, rgb.shape[1], rgb.shape[0], "tiff", channels in (2, 4))


def _check_planes(tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Refuses what Pillow reads wrongly, and OpenCV not at all: it then hands out whatever lay in memory."""
    bits = tags.get(_BITS_PER_SAMPLE_TAG, 1)
    if tags.get(_PLANAR_TAG) == 2 and max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        raise ImageError("UNSUPPORTED_FORMAT", "TIFF with channels of more than 8 bits in planes of their own")


def _tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The first directory of a TIFF file."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    return directory


_heif_lock = threading.Lock()


def _register_heif() -> None:
    """Loads the HEIF reader on first use: most data sets have no HEIF, and the library is large."""
    with _heif_lock:
        import pillow_heif

        pillow_heif.register_heif_opener()
