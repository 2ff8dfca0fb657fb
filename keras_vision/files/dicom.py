"""DICOM images, decoded by `pydicom`: the first frame, with the file's own window of intensities."""

import io
import threading
import warnings
from typing import TYPE_CHECKING, Any

from keras_vision.files import image_kinds, pixel_values
from keras_vision.files.outside import UnreadableError

if TYPE_CHECKING:
    import numpy as np

# Elements are objects of some hundred bytes, so that a header of half a gigabyte would take many. A file with 100,000
# frames, each with its own position, needs a million reads.
MAX_READS = 2**21
# Sequences of a stated length are one read, and become objects when they are looked into.
MAX_SEQUENCE = 2**24
# Run lengths expand to 64 times as much, and pydicom counts only afterwards.
MAX_COMPRESSED = 2**26
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Everything else in a header is skipped, also segmented palettes, which expand without a limit.
ELEMENTS = [
    *PIXELS,
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept", "RescaleSlope"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "ModalityLUTSequence", "VOILUTSequence"),
    *(f"{color}PaletteColorLookupTable{part}" for color in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]
NO_IMAGE = "a DICOM file without an image"
# Filters of warnings belong to the process, and images are decoded in threads.
_quietly = threading.Lock()


def decode(content: bytes, intensity_range: tuple[float, float] | None = None) -> tuple["np.ndarray", str]:
    """The first image of a file, as it is meant to be shown, and a remark.

    Values are rescaled by the file's slope and intercept, or by its table. The intensity range, else the file's first
    window or table of intensities, else the range of its bits becomes 0 to 255. MONOCHROME1 is inverted.

    Args:
        content: Bytes of a file.
        intensity_range: Rescaled values that become 0 and 255.

    Returns:
        uint8 array, shape `(H, W, 1)` or `(H, W, 3)`; and a few words about it, or an empty text.

    Raises:
        UnreadableError: If `pydicom` or a decoder is not installed, there is no image, or it is damaged or too large.
    """
    try:
        import pydicom.pixels  # noqa: F401
    except ImportError as error:
        raise UnreadableError(image_kinds.needs(image_kinds.DICOM)) from error
    with _quietly, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of values that are unusual for their element.
        try:
            return _decoded(_read(content), intensity_range)
        except UnreadableError:
            raise
        except Exception as error:  # Numbers that contradict each other raise all kinds.
            raise UnreadableError(image_kinds.complaint(image_kinds.DICOM)) from error


class _FewReads(io.BytesIO):
    """A file of which only so many parts can be read: every element of the header takes one read or more."""

    left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise UnreadableError("a DICOM file with too many elements")
        return super().read(size)


def _read(content):
    """The elements of a file that its image needs, with its transfer syntax."""
    from pydicom import dcmread
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

    file = _FewReads(content)
    file.seek(132 if content[128:132] == b"DICM" else 0)
    meta: Any = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = UID(meta.get("TransferSyntaxUID", ""))
    if syntax == DeflatedExplicitVRLittleEndian:  # It would be inflated without a limit.
        raise UnreadableError("a deflated DICOM file; save it uncompressed")
    file.seek(0)
    dataset = dcmread(file, force=True, specific_tags=ELEMENTS)
    if not syntax:
        implicit, _ = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1")
    return dataset


def _decoded(dataset, intensity_range):
    import numpy as np
    from pydicom.pixels.processing import apply_color_lut

    if not any(name in dataset for name in PIXELS):
        raise UnreadableError(NO_IMAGE)
    if int(dataset.Rows) * int(dataset.Columns) > pixel_values.MAX_PIXELS:
        raise UnreadableError(pixel_values.TOO_MANY_PIXELS)
    frames = int(_first(dataset.get("NumberOfFrames")) or 1)
    values = _values(dataset, frames)
    _take_from_frame(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)[..., :3]
        ends = (0, np.iinfo(values.dtype).max) if intensity_range is None else intensity_range
        image, remark = pixel_values.to_8bit(values, *ends), ""
    elif values.ndim == 3:
        ends = _range_of_bits(dataset) if intensity_range is None else intensity_range
        image, remark = pixel_values.to_8bit(values, *ends), ""
    else:
        image, remark = _gray(dataset, values, intensity_range)
    more = f"the first of {frames:,} frames" if frames > 1 else ""
    return image if image.ndim == 3 else image[..., np.newaxis], "; ".join(filter(None, (more, remark)))


def _first(value):
    """A value, or the first of several; None for none."""
    from pydicom.multival import MultiValue

    if isinstance(value, MultiValue | list):
        return value[0] if len(value) else None
    return None if value == "" else value


def _values(dataset, frames):
    """The first frame's values as they are stored, colours as RGB."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return pixel_array(dataset, index=0)
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UnreadableError(f"a DICOM file compressed as {syntax.name}; pip install python-gdcm may read it")
    if len(get_frame(dataset.PixelData, 0, number_of_frames=frames)) > MAX_COMPRESSED:
        raise UnreadableError(f"a DICOM file with an image of more than {MAX_COMPRESSED >> 20} MB compressed")
    try:
        return pixel_array(dataset, index=0)
    except Exception as error:  # From whichever decoder is installed.
        raise UnreadableError(
            f"a DICOM file compressed as {syntax.name}, damaged, or pip install python-gdcm may read it"
        ) from error


def _item(dataset, name):
    """The first item of a sequence; None if there is none."""
    raw = getattr(dataset.get_item(name), "value", None) if name in dataset else None
    if isinstance(raw, bytes) and len(raw) > MAX_SEQUENCE:
        raise UnreadableError("a DICOM file with too many elements")
    items = dataset.get(name)
    return items[0] if items else None


def _take_from_frame(dataset):
    """Copies the first frame's window and scale to where files of one frame have them."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        frame = _item(dataset, groups)
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            inside = None if frame is None else _item(frame, name)
            if inside is not None:
                dataset.update({element.tag: element for element in inside if element.keyword in ELEMENTS})


def _gray(dataset, values, intensity_range):
    """The 8-bit image of one channel, and a remark."""
    import numpy as np
    from pydicom.pixels.processing import apply_modality_lut

    _item(dataset, "ModalityLUTSequence")  # Checks its size.
    is_float = values.dtype.kind == "f"
    values = apply_modality_lut(values, dataset)
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    remark = ""
    if intensity_range is not None:
        image = pixel_values.to_8bit(values, *intensity_range)
        remark = pixel_values.remark(values, *intensity_range)
    elif (table := _item(dataset, "VOILUTSequence")) is not None:
        image = _looked_up(np.rint(values).astype(np.int64), table)
    elif center is not None and width is not None and float(width) > 0:
        image = _windowed(values, float(center), float(width), str(dataset.get("VOILUTFunction", "LINEAR")))
    elif is_float:
        span = pixel_values.words(pixel_values.extent(values))
        raise UnreadableError(f"a DICOM file of floating-point numbers {span}; pass --intensity-range LOW HIGH")
    else:
        ends = _range_of_bits(dataset)
        image = pixel_values.to_8bit(values, *ends)
        remark = pixel_values.remark(values, *ends, bits=int(dataset.BitsStored))
    return 255 - image if dataset.PhotometricInterpretation == "MONOCHROME1" else image, remark


def _looked_up(values, table):
    """Values through a table of intensities, 8-bit. pydicom's own lookup wraps values above 255 in tables of bytes.

    Reference:
        DICOM PS3.3, C.11.2.1.1, https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    import numpy as np

    entries, first, bits = (int(number) for number in table.LUTDescriptor)
    entries, data = entries or 2**16, table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * entries else np.uint8)
    data = np.asarray(data)[:entries]
    return pixel_values.to_8bit(data[np.clip(values - first, 0, len(data) - 1)], 0, 2**bits - 1)


def _windowed(values, center, width, function):
    """Values in a window of intensities, 8-bit.

    Reference:
        DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html
    """
    import numpy as np

    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.rint(255 / (1 + np.exp(-4 * (values - center) / width))).astype(np.uint8)
    if function == "LINEAR_EXACT":
        return pixel_values.to_8bit(values, center - width / 2, center + width / 2)
    center, width = center - 0.5, max(width - 1, 1e-6)  # A window of width 1 is a threshold.
    return pixel_values.to_8bit(values, center - width / 2, center + width / 2)


def _range_of_bits(dataset):
    """The least and the largest value that a file's bits can hold, rescaled."""
    import numpy as np
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return 0, 2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = int(dataset.BitsStored)
    low = -(2 ** (bits - 1)) if dataset.get("PixelRepresentation") == 1 else 0
    ends = np.array([low, low + 2**bits - 1], np.int64)
    if int(dataset.SamplesPerPixel) == 1:
        ends = apply_modality_lut(ends, dataset)
    return float(ends.min()), float(ends.max())
