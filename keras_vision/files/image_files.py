"""Images from files, the same way for training and prediction: decoded, rotated by EXIF, 8-bit, resized."""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_vision.files import dicom, heif, image_kinds
from keras_vision.files.image_kinds import meant_as_image
from keras_vision.files.outside import NotReadError, UnreadableError, read_regular
from keras_vision.files.pixel_values import MAX_PIXELS, TOO_MANY_PIXELS, extent, over_white, remark, to_8bit, words

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MAX_PIXELS", "NotReadError", "UnreadableError", "meant_as_image"]
MAX_BYTES = 2**29
RESIZES = ("crop", "pad", "stretch")
# OpenCV's own limit is eight times as high. It is read when OpenCV is first imported, so `keras_vision` sets it first.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))


@functools.cache
def _opencv():
    import cv2

    # This package reports what is wrong with a file, once and with its name.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A file's content.

    Raises:
        UnreadableError: If it is not a regular file, empty, too large, or cannot be read.
    """
    return read_regular(path, MAX_BYTES)


def decoders() -> list[str]:
    """Modules that are installed beside OpenCV and read further formats."""
    modules = [name for kind in image_kinds.KINDS if kind.extra is not None for name in kind.extra[1]]
    return [name for name in modules if importlib.util.find_spec(name) is not None]


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file is meant as an image by its name, or is a DICOM file, which often has a number as its name."""
    if meant_as_image(path):
        return True
    try:
        return image_kinds.by_content(read_regular(path, MAX_BYTES, 132)) is image_kinds.DICOM
    except UnreadableError:
        return False


def decode(
    content: bytes,
    *,
    gray: bool = False,
    at_least: tuple[int, int] | None = None,
    intensity_range: tuple[float, float] | None = None,
    name: str = "",
) -> "np.ndarray":
    """An image in 8 bits, rotated by its EXIF data, transparent regions white, the first frame of several.

    16-bit values lose their low byte. Palettes and CMYK are converted.

    Args:
        content: Bytes of a file.
        gray: Whether to return one channel instead of RGB.
        at_least: `(height, width)` that the image is resized to afterwards. A JPEG at least four times as large is then
            decoded at a half, a quarter or an eighth of its size: on 367 flower photos resized to 28, 32 and 40 pixels
            the values change by .9 to 1.4 of 255 on average, on X-rays by .1, in as little as half the time.
        intensity_range: Values of the file that become 0 and 255; the file's own values, of whatever depth, and in a
            DICOM file the rescaled ones. By default the range of its bits, or a DICOM file's window.
        name: The file's name: it distinguishes camera raw files from TIFFs.

    Returns:
        uint8 array, shape `(H, W, 3)` or `(H, W, 1)`.

    Raises:
        UnreadableError: If the content is not a complete image, has more than `MAX_PIXELS`, needs a package that is
            not installed, or holds numbers that only an intensity range makes an image.
    """
    return _decoded(content, gray, at_least, intensity_range, name)[0]


def _decoded(content, gray, at_least, intensity_range, name):
    """The image, and a remark on its values or frames."""
    kind = image_kinds.of(content, name)
    if kind is not None and kind.way_out:
        raise UnreadableError(image_kinds.complaint(kind))
    if kind is image_kinds.DICOM:
        image, note = dicom.decode(content, intensity_range)
        return _in_channels(image, gray), note
    if kind is image_kinds.HEIC:
        image, note = _ranged(heif.decode(content), intensity_range)
        return _in_channels(image, gray), note
    return _by_opencv(content, gray, at_least, intensity_range)


def _ranged(image, intensity_range):
    """An 8-bit image with its intensity range applied, and a remark."""
    if intensity_range is None:
        return image, ""
    return to_8bit(image, *intensity_range), remark(image, *intensity_range)


def _in_channels(image, gray):
    """An image of one channel or RGB as one of the wanted channels."""
    import numpy as np

    cv2 = _opencv()
    if gray:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[-1] == 3 else image
        return image.reshape(*image.shape[:2], 1)
    return image if image.shape[-1] == 3 else np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=-1)


def _by_opencv(content, gray, at_least, intensity_range):
    cv2 = _opencv()
    import numpy as np

    buffer = np.frombuffer(content, np.uint8)
    jpeg = content.startswith(b"\xff\xd8")
    size = stated_size(content)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise UnreadableError(TOO_MANY_PIXELS)
    flags = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR_RGB
    if jpeg and size is not None and at_least is not None:
        flags |= {1: 0, 2: 16, 4: 32, 8: 64}[_reduction(size, at_least)]  # As OpenCV's IMREAD_REDUCED_* are coded.
    try:
        raw: Any = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if _may_be_unusual(content) else None
        if raw is not None and raw.shape[0] * raw.shape[1] > MAX_PIXELS:
            raise UnreadableError(TOO_MANY_PIXELS)
        if raw is not None and raw.dtype != np.uint8:
            image, note = _of_many_bits(content, buffer, raw, intensity_range)
            return _in_channels(image, gray), note
        image: Any = cv2.imdecode(buffer, flags)
        if image is None:
            raise UnreadableError(image_kinds.complaint(image_kinds.by_content(content)))
        if image.shape[0] * image.shape[1] > MAX_PIXELS:  # OpenCV was imported before this module set its limit.
            raise UnreadableError(TOO_MANY_PIXELS)
        image, note = _ranged(image, intensity_range)
        alpha = _alpha(raw)
        if alpha is not None:
            assert raw is not None
            colors, _ = _ranged(raw[..., 2::-1], intensity_range)
            turned, _ = _ranged(cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB), intensity_range)
            image = _in_channels(_blended(colors, alpha, turned), gray)
    except cv2.error as error:
        too_large = "pixels" in str(error).lower()
        reason = TOO_MANY_PIXELS if too_large else image_kinds.complaint(image_kinds.by_content(content))
        raise UnreadableError(reason) from error
    return image[..., np.newaxis] if image.ndim == 2 else image, note


def _of_many_bits(content, buffer, raw, intensity_range):
    """An image whose values are not bytes as one of one channel or RGB, 8-bit, and a remark.

    Args:
        raw: The values as they are in the file, not rotated.
    """
    cv2 = _opencv()
    import numpy as np

    # With IMREAD_COLOR, OpenCV 5 returns other values of 16-bit TIFFs and refuses floats.
    values: Any = cv2.imdecode(buffer, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if values is None or (intensity_range is None and raw.dtype != np.uint16):
        kind = image_kinds.by_content(content)
        numbers = {"f": "floating-point", "i": f"signed {8 * raw.dtype.itemsize}-bit"}.get(
            raw.dtype.kind, f"{8 * raw.dtype.itemsize}-bit"
        )
        raise UnreadableError(
            f"{'an image' if kind is None else f'a {kind.name}'} of {numbers} numbers {words(extent(raw))}; "
            "pass --intensity-range LOW HIGH"
        )
    bits = _bits(content)
    low, high = intensity_range or (0, 2**bits - 1)
    note = remark(values, low, high, bits=None if intensity_range else bits)
    image = _as_bytes(values, intensity_range, bits)
    image = image[..., np.newaxis] if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    alpha = _alpha(raw, bits)
    if alpha is not None:
        image = _blended(_as_bytes(raw[..., 2::-1], intensity_range, bits), alpha, _in_channels(image, False))
    return image, note


def _bits(content):
    """Bits of a value of more than 8: an AVIF's, or a whole word of another file.

    Source: AV1 Codec ISO Media File Format Binding, 2.3.3: high_bitdepth and twelve_bit in the third byte of `av1C`.
    """
    place = content.find(b"av1C") + 6
    if image_kinds.by_content(content) is not image_kinds.AVIF or place < 6 or place >= len(content):
        return 16
    return 12 if content[place] & 0x20 else 10


def _as_bytes(values, intensity_range, bits):
    import numpy as np

    return (values >> bits - 8).astype(np.uint8) if intensity_range is None else to_8bit(values, *intensity_range)


def _reduction(size, at_least):
    """The largest of 1, 2, 4 and 8 that divides a JPEG's sides to no less than twice the size needed."""
    return next((part for part in (8, 4, 2) if min(size) >= 2 * part * max(at_least)), 1)


def stated_size(content: bytes) -> tuple[int, int] | None:
    """Height and width in a PNG's or JPEG's header, before EXIF rotation; None if there are none.

    Source: ITU-T T.81, annex B: segments of a marker, a length and content; SOF0 to SOF15 contain the size.
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


def _may_be_unusual(content):
    """Whether to decode a file as it is, for alpha or more than 8 bits: all except JPEGs, BMPs and ordinary PNGs."""
    if content.startswith(b"\x89PNG"):
        return content[24:25] == b"\x10" or content[25:26] in (b"\x04", b"\x06") or b"tRNS" in content
    return not content.startswith((b"\xff\xd8", b"BM"))


def _alpha(raw, bits=16):
    """The alpha channel of an image as it is in its file, uint8, shape `(H, W, 1)`; None if nothing is transparent."""
    import numpy as np

    if raw is None or raw.ndim != 3 or raw.shape[2] != 4 or raw.dtype not in (np.uint8, np.uint16):
        return None
    alpha = _as_bytes(raw[..., 3:], None, bits) if raw.dtype == np.uint16 else raw[..., 3:]
    return None if alpha.min() == 255 else alpha


def _blended(colors, alpha, turned):
    """The image with transparent regions over white, RGB.

    Args:
        colors: The colours as they are in the file.
        alpha: Their alpha channel.
        turned: The colours as OpenCV rotates them.
    """
    import numpy as np

    blended = over_white(colors, alpha)
    # IMREAD_UNCHANGED also ignores EXIF; the image decoded without alpha shows the right orientation.
    for turn in range(8):
        if np.array_equal(symmetry(colors, turn), turned):
            return np.ascontiguousarray(symmetry(blended, turn))
    return blended


def symmetry(image: "np.ndarray", turn: int) -> "np.ndarray":
    """One of the 8 symmetries of a square, 0 to 7, applied to an image: flips of columns and rows, transposition."""
    image = image.swapaxes(0, 1) if turn & 4 else image
    return image[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def fit(image: "np.ndarray", height: int, width: int, resize: str = "stretch") -> "np.ndarray":
    """An image resized.

    Args:
        image: uint8 array, shape `(H, W, C)`.
        resize: `crop` crops the longer side about the centre and keeps proportions; `pad` keeps the whole image and
            adds black bars; `stretch` changes proportions.

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
    # Area averaging is right for shrinking. Up to a factor of two, bilinear interpolation uses every pixel as well and
    # is three times as fast.
    smaller = max(image.shape[0] / height, image.shape[1] / width) > 2
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method).reshape(height, width, image.shape[2])


def read(
    path: str | os.PathLike[str],
    image_shape: tuple[int, ...],
    resize: str = "stretch",
    intensity_range: tuple[float, float] | None = None,
) -> "np.ndarray":
    """A file's image in a model's input shape.

    Args:
        image_shape: `(H, W, C)`, one channel or three.
        resize: See `fit`.
        intensity_range: See `decode`.

    Returns:
        uint8 array of that shape.

    Raises:
        UnreadableError: With the reason.
    """
    return from_bytes(read_bytes(path), image_shape, resize, intensity_range, name=os.fspath(path))


def from_bytes(
    content: bytes,
    image_shape: tuple[int, ...],
    resize: str = "stretch",
    intensity_range: tuple[float, float] | None = None,
    *,
    name: str = "",
) -> "np.ndarray":
    """Like `read`, from the bytes of a file, and perhaps its name."""
    return with_remarks(content, image_shape, resize, intensity_range, name=name)[0]


def with_remarks(
    content: bytes,
    image_shape: tuple[int, ...],
    resize: str = "stretch",
    intensity_range: tuple[float, float] | None = None,
    *,
    name: str = "",
) -> tuple["np.ndarray", str]:
    """Like `from_bytes`, and what is unusual about the file in a few words; an empty text where nothing is."""
    height, width, channels = image_shape
    image, note = _decoded(content, channels == 1, (height, width), intensity_range, name)
    return fit(image, height, width, resize), "; ".join(filter(None, (remarks(content, name), note)))


def why_unread(
    path: str | os.PathLike[str], intensity_range: tuple[float, float] | None = None, fallback: str = "not readable"
) -> str:
    """The reason why a file is not read as an image, in a few words."""
    try:
        read(path, (8, 8, 3), intensity_range=intensity_range)
    except UnreadableError as error:
        return str(error)
    return fallback


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Limits OpenCV to one thread per image, for callers that decode several at a time."""
    cv2 = _opencv()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def remarks(content: bytes, path: str | os.PathLike[str]) -> str:
    """The format of a file whose content does not match its extension, in a few words; else empty."""
    kind, named = image_kinds.by_content(content), image_kinds.by_name(path)
    # DICOM files are often called 1.2.840.
    as_named = kind is named or (kind is image_kinds.DICOM and named is None)
    return "" if kind is None or as_named or not Path(path).suffix else f"its content is {kind.name}"
