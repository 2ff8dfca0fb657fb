"""NIfTI volumes, read by `nibabel`: turned to one orientation, 8-bit, resampled to a cube.

Only the header's 348 or 540 bytes go to `nibabel`; extensions are skipped. The values are read after the size that the
header states has been checked.
"""

import gzip
import importlib
import io
import logging
import math
import zlib
from typing import TYPE_CHECKING, Any

from keras_vision.files import archives, image_kinds, pixel_values
from keras_vision.files.outside import UnreadableError

if TYPE_CHECKING:
    import numpy as np

# After decompression. A CT of 512 x 512 x 1,000 voxels of 16 bits has 524 MB.
MAX_BYTES = 2**30
MAX_SLICE = 2**24  # Voxels; each takes 36 bytes while its slice is resized.
DAMAGED = "a NIfTI file, truncated or damaged"
# This package reports what is wrong with a file, once and with its name.
_silent = logging.Logger("nifti")
_silent.addHandler(logging.NullHandler())


def with_remarks(
    content: bytes,
    image_shape: tuple[int, ...],
    resize: str = "stretch",
    intensity_range: tuple[float, float] | None = None,
    *,
    name: str = "",
) -> tuple["np.ndarray", str]:
    """A file's volume in a model's input shape, and a remark.

    Slices go from feet to head, with the front of the body at the top and its left side at the left: as
    `nibabel.as_closest_canonical` turns it to RAS+, with axes z, -y and x. Values are rescaled by the file's slope and
    intercept; then the intensity range, else the volume's least to its largest value, becomes 0 to 255.

    Args:
        content: Bytes of a file, compressed by gzip or not.
        image_shape: `(D, H, W, 1)`.
        resize: `crop` and `pad` keep proportions, by the size of a voxel: the cube in the middle, or black around the
            whole; `stretch` changes them.
        intensity_range: Rescaled values that become 0 and 255.
        name: The file's name, which says what was meant where the content is something else.

    Returns:
        uint8 array of that shape; and a few words about it, or an empty text.

    Raises:
        UnreadableError: If `nibabel` is not installed, or the file is no single volume, damaged or too large.
    """
    import numpy as np

    nibabel = _nibabel()
    try:
        with np.errstate(all="ignore"):
            values, voxel_sizes, scale = _read(content, nibabel)
            return _shown(values, scale, voxel_sizes, image_shape, resize, intensity_range)
    except UnreadableError:
        raise
    except (Exception, MemoryError) as error:  # Numbers that contradict each other raise all kinds.
        raise UnreadableError(DAMAGED) from error


def _nibabel() -> Any:
    try:
        return importlib.import_module("nibabel")
    except ImportError as error:
        raise UnreadableError(image_kinds.needs(image_kinds.NIFTI)) from error


def _read(content, nibabel):
    """The values as they are stored, turned; the size of a voxel along each axis; slope and intercept."""
    import numpy as np

    header, header_bytes = _header(_beginning(content, 540), nibabel)
    shape, dtype = _shape(header), header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise UnreadableError(
            f"a NIfTI file of {'colours' if dtype.names else dtype.name + ' numbers'}; save real ones"
        )
    start = int(header["vox_offset"])
    end = start + math.prod(shape) * dtype.itemsize
    if end > min(MAX_BYTES, max(archives.EXPANDS_FREELY, archives.MAX_EXPANSION * len(content))):
        raise UnreadableError(f"a NIfTI file of {len(content):,} bytes that states {end:,}; it is not read")
    if math.prod(sorted(shape)[-2:]) > MAX_SLICE:
        raise UnreadableError(f"a NIfTI file with a slice of more than {MAX_SLICE:,} voxels")
    whole = _beginning(content, end + 1)  # One more, so that the checksum at the end of a gzip file is read as well.
    if start < header_bytes or len(whole) < end:
        raise UnreadableError(DAMAGED)
    values = np.frombuffer(whole, dtype, math.prod(shape), start).reshape(shape, order="F")
    affine = header.get_best_affine()
    orientation, sizes = nibabel.io_orientation(affine), nibabel.affines.voxel_sizes(affine)
    if not (np.isfinite(orientation).all() and np.isfinite(sizes).all() and sizes.min() > 0):
        raise UnreadableError("a NIfTI file whose axes have no direction or no length")
    canonical = nibabel.apply_orientation(values, orientation)
    sizes = sizes[np.argsort(orientation[:, 0])]
    slope, intercept = header.get_slope_inter()
    scale = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    return canonical.transpose(2, 1, 0)[:, ::-1], sizes[::-1], scale


def _beginning(content, size):
    """The first bytes of a file, decompressed; all if there are no more."""
    if not content.startswith(b"\x1f\x8b"):
        return content[:size]
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError(DAMAGED) from error


def _header(beginning, nibabel):
    """The header, checked by nibabel, and its bytes.

    Source: NIfTI-1 and NIfTI-2, https://nifti.nimh.nih.gov: the magic string is at 344 or at 4.
    """
    if beginning[344:348] == b"n+1\0":
        header, size = nibabel.Nifti1Header(beginning[:348], check=False), 348
    elif beginning[4:8] == b"n+2\0":
        header, size = nibabel.Nifti2Header(beginning[:540], check=False), 540
    else:
        raise UnreadableError("not a NIfTI file with its values inside (.nii or .nii.gz)")
    header.check_fix(_silent)
    return header, size


def _shape(header):
    """The three sides of the volume."""
    shape = tuple(int(side) for side in header.get_data_shape())
    if not shape or min(shape) < 1:
        raise UnreadableError(DAMAGED)
    volume = shape[:3] if set(shape[3:]) <= {1} else shape
    if len(volume) != 3:
        sides = " x ".join(map(str, shape))
        raise UnreadableError(f"a NIfTI file of {sides} values, not of a single volume; save one volume a file")
    return volume


def _shown(values, scale, voxel_sizes, image_shape, resize, intensity_range):
    """The volume in 8 bits, resampled slice by slice, and a remark."""
    import numpy as np

    slope, intercept = scale
    ends = sorted(slope * end + intercept for end in pixel_values.extent(values))
    low, high = ends if intensity_range is None else intensity_range
    if not np.isfinite([low, high]).all():
        raise UnreadableError(DAMAGED)
    lengths = np.array(values.shape) * voxel_sizes
    side = {"crop": lengths.min(), "pad": lengths.max()}.get(resize)
    along = [
        _weights(count, count if side is None else side / size, number)
        for count, size, number in zip(values.shape, voxel_sizes, image_shape[:3], strict=True)
    ]
    if low == high:
        return np.zeros(image_shape, np.uint8), f"all values are {low:,.6g}"
    volume = np.zeros(image_shape[:3])
    for place, part in enumerate(along[0].T):
        wanted = np.flatnonzero(part)
        if len(wanted):
            eight_bit = pixel_values.to_8bit(slope * values[place].astype(np.float64) + intercept, low, high)
            volume[wanted] += part[wanted, np.newaxis, np.newaxis] * (along[1] @ eight_bit @ along[2].T)
    remark = "" if intensity_range is None else pixel_values.remark(np.array(ends), low, high)
    return np.rint(volume).astype(np.uint8)[..., np.newaxis], remark


def _weights(count, length, number):
    """How much each of `count` voxels counts in each of `number` parts of a length about their middle.

    Smaller parts are interpolated linearly, larger ones are means of what they cover.

    Args:
        length: In voxels; what is beyond them is black.

    Returns:
        Array, shape `(number, count)`.
    """
    import numpy as np

    edges = (count - length) / 2 + length * np.arange(number + 1) / number
    voxels = np.arange(count)
    if length >= number:
        covered = np.minimum(edges[1:, np.newaxis], voxels + 1) - np.maximum(edges[:-1, np.newaxis], voxels)
        return np.maximum(covered, 0) * (number / length)
    middles = (edges[1:] + edges[:-1]) / 2
    inside = (middles > 0) & (middles < count)
    places = np.clip(middles - 0.5, 0, count - 1)
    return np.maximum(0, 1 - np.abs(voxels - places[:, np.newaxis])) * inside[:, np.newaxis]
