"""Pictures from files, the same way for training and for prediction: decoded, turned, made 8-bit, brought to a size."""

import contextlib
import functools
import os
import stat
from pathlib import Path
from typing import Any

SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# First bytes of the kinds that people mix up, and the suffixes that go with each.
SIGNATURES = {
    b"\xff\xd8\xff": ("JPEG", {".jpg", ".jpeg"}),
    b"\x89PNG": ("PNG", {".png"}),
    b"GIF8": ("GIF", {".gif"}),
    b"BM": ("BMP", {".bmp"}),
    b"RIFF": ("WebP", {".webp"}),
    b"II*\0": ("TIFF", {".tif", ".tiff"}),
    b"MM\0*": ("TIFF", {".tif", ".tiff"}),
}
# A small file can unpack to gigabytes: this many are 400 MB as RGB.
MAX_PIXELS = 2**27
TOO_MANY_PIXELS = f"more than {MAX_PIXELS:,} pixels"
MAX_BYTES = 2**29
RESIZES = ("crop", "pad", "stretch")
# OpenCV's own limit is eight times as high. It is read when OpenCV is first imported, so `keras_vision` sets it first.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))


class UnreadableError(ValueError):
    """A file that gives no picture; the message is the reason, a few words."""


class NotReadError(UnreadableError):
    """A file whose bytes could not be had, which may be otherwise the next time."""


@functools.cache
def _opencv():
    import cv2

    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # What is wrong with a file is said by us, once and with its name.
    return cv2


def read_bytes(path):
    """A file's content.

    Raises:
        UnreadableError: If it is no regular file, empty, too large, or cannot be read.
    """
    try:
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableError("no regular file")
            if found.st_size > MAX_BYTES:
                raise UnreadableError(f"larger than {MAX_BYTES >> 20} MB")
            content = file.read()
    except OSError as error:
        raise NotReadError((error.strerror or str(error)).lower()) from error
    if not content:
        raise UnreadableError("empty file")
    return content


def _without_waiting(path, flags):
    # A named pipe would keep the reader waiting for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def kind(content):
    """Name and suffixes of a content's kind, such as `("PNG", {".png"})`; None for one that is not in `SIGNATURES`."""
    return next((found for signature, found in SIGNATURES.items() if content.startswith(signature)), None)


def decode(content, *, gray=False, at_least=None):
    """A picture in 8 bits, turned as its EXIF data says, transparent places white, the first frame of several.

    16-bit values lose their low byte. Palettes and CMYK become what they stand for.

    Args:
        content: Bytes of a file.
        gray: Whether to give one channel instead of RGB.
        at_least: `(height, width)` that the picture is brought to afterwards. A JPEG at least four times as large is
            then decoded in a half, a quarter or an eighth of its size: on 367 flower photos brought to 28, 32 and 40
            pixels the values change by .9 to 1.4 of 255 on average, on X-rays by .1, in up to half the time.

    Returns:
        uint8 array, shape `(H, W, 3)` or `(H, W, 1)`.

    Raises:
        UnreadableError: If the content is no whole picture, or one of more than `MAX_PIXELS`.
    """
    cv2 = _opencv()
    import numpy as np

    buffer = np.frombuffer(content, np.uint8)
    jpeg = content.startswith(b"\xff\xd8")
    size = _stated_size(content)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise UnreadableError(TOO_MANY_PIXELS)
    flags = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR_RGB
    if jpeg and size is not None and at_least is not None:
        flags |= {1: 0, 2: 16, 4: 32, 8: 64}[_reduction(size, at_least)]  # As OpenCV's IMREAD_REDUCED_* are coded.
    try:
        image = cv2.imdecode(buffer, flags)
        blended = None if jpeg or not _may_be_transparent(content) else _over_white(buffer)
    except cv2.error as error:
        too_large = "pixels" in str(error).lower()
        raise UnreadableError(TOO_MANY_PIXELS if too_large else _complaint(content)) from error
    if image is None:
        raise UnreadableError(_complaint(content))
    if image.shape[0] * image.shape[1] > MAX_PIXELS:  # Somebody imported OpenCV before us.
        raise UnreadableError(TOO_MANY_PIXELS)
    if blended is not None:
        image = cv2.cvtColor(blended, cv2.COLOR_RGB2GRAY) if gray else blended
    return image[..., np.newaxis] if image.ndim == 2 else image


def _complaint(content):
    found = kind(content)
    return "no picture of a kind that OpenCV reads" if found is None else f"a {found[0]} file, truncated or damaged"


def _reduction(size, at_least):
    """What a JPEG's sides can be divided by, 1, 2, 4 or 8, and still be twice what is asked for."""
    return next((part for part in (8, 4, 2) if min(size) >= 2 * part * max(at_least)), 1)


def _stated_size(content):
    """Height and width as a PNG's or JPEG's header has them, before any turning; None where it has none.

    Source: ITU-T T.81, annex B: segments of a marker, a length and what they hold; SOF0 to SOF15 hold the size.
    """
    if content.startswith(b"\x89PNG"):
        return int.from_bytes(content[20:24]), int.from_bytes(content[16:20])
    if not content.startswith(b"\xff\xd8"):
        return None
    place = 2
    while place + 9 < len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = content[place + 5 : place + 7], content[place + 7 : place + 9]
            return int.from_bytes(height), int.from_bytes(width)
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return None


def _may_be_transparent(content):
    """Whether a file has to be decoded once more, to see its alpha channel: all but BMPs and PNGs that have none."""
    if content.startswith(b"\x89PNG"):
        return content[25:26] in (b"\x04", b"\x06") or b"tRNS" in content
    return not content.startswith(b"BM")


def _over_white(buffer):
    """The picture of a file with transparent places over white, RGB; None where there are none."""
    cv2 = _opencv()
    import numpy as np

    raw: Any = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4 or raw.dtype not in (np.uint8, np.uint16):
        return None
    raw = raw if raw.dtype == np.uint8 else (raw >> 8).astype(np.uint8)
    alpha = raw[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return None
    blended = ((raw[..., 2::-1] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    # Unchanged means not turned, either; the same picture without its alpha channel shows how it has to be.
    turned: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    for turn in range(8):
        if np.array_equal(symmetry(raw[..., 2::-1], turn), turned):
            return np.ascontiguousarray(symmetry(blended, turn))
    return blended


def symmetry(image, turn):
    """One of the 8 symmetries of a square, 0 to 7, applied to a picture: flips of columns and rows, transposition."""
    image = image.swapaxes(0, 1) if turn & 4 else image
    return image[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def fit(image, height, width, resize="stretch"):
    """A picture brought to a size.

    Args:
        image: uint8 array, shape `(H, W, C)`.
        resize: `crop` cuts what is too long off both ends and keeps proportions; `pad` keeps all of it with black
            bars; `stretch` changes proportions.

    Returns:
        uint8 array, shape `(height, width, C)`.
    """
    import numpy as np

    if resize == "crop":
        scale = min(image.shape[0] / height, image.shape[1] / width)
        image = _middle(image, max(1, round(scale * height)), max(1, round(scale * width)))
    if resize != "pad":
        return _stretched(image, height, width)
    scale = min(height / image.shape[0], width / image.shape[1])
    inside = _stretched(image, *(max(1, round(scale * side)) for side in image.shape[:2]))
    padded = np.zeros((height, width, image.shape[2]), np.uint8)
    _middle(padded, *inside.shape[:2])[...] = inside
    return padded


def _middle(image, height, width):
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _stretched(image, height, width):
    cv2 = _opencv()
    if image.shape[:2] == (height, width):
        return image
    # Averaging over areas is right for making smaller. Up to a factor of two bilinear takes in every pixel, too, and is
    # three times as quick.
    smaller = max(image.shape[0] / height, image.shape[1] / width) > 2
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method).reshape(height, width, image.shape[2])


def read(path, image_shape, resize="stretch"):
    """A file's picture as a model takes it.

    Args:
        image_shape: `(H, W, C)`, one channel or three.
        resize: See `fit`.

    Returns:
        uint8 array of that shape.

    Raises:
        UnreadableError: With the reason.
    """
    return from_bytes(read_bytes(path), image_shape, resize)


def from_bytes(content, image_shape, resize="stretch"):
    """As `read`, from the bytes of a file."""
    height, width, channels = image_shape
    return fit(decode(content, gray=channels == 1, at_least=(height, width)), height, width, resize)


@contextlib.contextmanager
def one_thread_each():
    """Keeps OpenCV from splitting up single pictures, for callers that decode several at a time."""
    cv2 = _opencv()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def remarks(content, path):
    """What a person may want to know of how a file was taken, a few words; empty for most files."""
    found, suffix = kind(content), Path(path).suffix.lower()
    wrong = found is not None and suffix not in found[1]
    return f"its content is {found[0]}" if found is not None and wrong else ""
