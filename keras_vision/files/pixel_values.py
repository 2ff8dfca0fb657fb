"""Pixel values of image files: brought to 8 bits, put over white."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# A small file can decompress to gigabytes; this many pixels are 400 MB as RGB.
MAX_PIXELS = 2**27
TOO_MANY_PIXELS = f"more than {MAX_PIXELS:,} pixels"


def to_8bit(values: "np.ndarray", low: float, high: float) -> "np.ndarray":
    """Values scaled so that `low` becomes 0 and `high` 255; those beyond are clipped, and NaN becomes 0.

    Args:
        values: Numbers, any shape.

    Returns:
        uint8 array of the same shape.
    """
    import numpy as np

    if values.dtype in (np.uint8, np.uint16):  # A table is faster and takes less memory.
        return to_8bit(np.arange(2 ** (8 * values.dtype.itemsize), dtype=np.float64), low, high)[values]
    with np.errstate(all="ignore"):
        scaled = (values.astype(np.promote_types(values.dtype, np.float32)) - low) * (255 / (high - low))
        return np.rint(np.nan_to_num(np.clip(scaled, 0, 255), nan=0)).astype(np.uint8)


def extent(values: "np.ndarray") -> tuple[float, float]:
    """The least and the largest finite value; zeros if there is none."""
    import numpy as np

    finite = values if values.dtype.kind in "biu" else values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def words(values: tuple[float, float]) -> str:
    """Two numbers in a sentence: `from 3 to 4,095`."""
    return f"from {values[0]:,.6g} to {values[1]:,.6g}"


def scaling(intensity_range: tuple[float, float] | None) -> str:
    """The end of a sentence about images: which values of their files became black and white; empty for None."""
    if intensity_range is None:
        return ""
    return "; the files' values {:,.6g} to {:,.6g} are 0 to 255 in the images".format(*intensity_range)


def remark(values: "np.ndarray", low: float, high: float, *, bits: int | None = None) -> str:
    """A few words if an image's values are a small part of what becomes black to white; else empty.

    That is less than a quarter of the range of the file's bits, since twelve bits in sixteen come out nearly black and
    fourteen dark; and less than a sixteenth of a range that somebody chose, such as 8 bits in one for 12.

    Args:
        values: Numbers, any shape.
        low: Value that becomes 0.
        high: Value that becomes 255.
        bits: The bits of which `low` to `high` is the range; None if it was chosen.
    """
    least, most = extent(values)
    narrow = min(most, high) - max(least, low) < (high - low) / (16 if bits is None else 4)
    kind = "" if bits is None else f"{bits}-bit "
    return f"{kind}values {words((least, most))} only; see --intensity-range" if narrow else ""


def over_white(image: "np.ndarray", alpha: "np.ndarray", *, premultiplied: bool = False) -> "np.ndarray":
    """An image with transparent regions over white.

    Args:
        image: uint8 array, shape `(H, W, C)`.
        alpha: uint8 array, shape `(H, W, 1)`.
        premultiplied: Whether the image is multiplied by alpha already.

    Returns:
        uint8 array, shape `(H, W, C)`.
    """
    import numpy as np

    if premultiplied:
        return np.minimum(image.astype(np.uint16) + (255 - alpha), 255).astype(np.uint8)
    alpha = alpha.astype(np.uint16)
    return ((image * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
