"""DICOM files, written by pydicom: what is shown of each is calculated by hand, and hostile headers are refused."""

import io
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vision.files import dicom, image_files, pixel_values

RAMP = np.array([[0, 1000], [2000, 4095]], np.uint16)


@pytest.fixture(scope="module")
def write():
    """Writes a file: values, and elements by their keywords."""
    pydicom = pytest.importorskip("pydicom", reason="needs pydicom")
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def bytes_of(values=RAMP, *, syntax=ExplicitVRLittleEndian, preamble=True, **elements):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        if values is not None:
            if values.ndim == 3 and values.shape[-1] == 3:
                dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
                dataset.PhotometricInterpretation = "RGB"
            elif values.ndim == 3:
                dataset.NumberOfFrames = len(values)
            dataset.Rows, dataset.Columns = values.shape[-2:] if dataset.SamplesPerPixel == 1 else values.shape[:2]
            dataset.BitsAllocated = 8 * values.dtype.itemsize
            dataset.BitsStored = 12 if values.dtype == np.uint16 else dataset.BitsAllocated
            dataset.HighBit = dataset.BitsStored - 1
            dataset.PixelRepresentation = int(values.dtype.kind == "i")
            if values.dtype.kind == "f":
                dataset.FloatPixelData = values.tobytes()
            else:
                dataset.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
                dataset["PixelData"].VR = "OW" if values.dtype.itemsize == 2 else "OB"
        for name, value in elements.items():
            setattr(dataset, name, value)
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=preamble)
        return file.getvalue()

    return bytes_of


def shown(content, **options):
    return image_files.decode(content, gray=True, **options)[..., 0].tolist()


def test_without_a_window_the_range_of_the_bits_is_shown(write):
    # 1000 / 4095 * 255 = 62.3, 2000 / 4095 * 255 = 124.5.
    assert shown(write()) == [[0, 62], [125, 255]]
    assert image_files.decode(write()).shape == (2, 2, 3)


def test_monochrome1_is_inverted_with_and_without_an_intensity_range(write):
    content = write(PhotometricInterpretation="MONOCHROME1")
    assert shown(content) == [[255, 193], [130, 0]]
    assert shown(content, intensity_range=(0, 2000)) == [[255, 127], [0, 0]]


def test_the_first_window_is_applied_to_the_rescaled_values(write):
    # Values - 1000: -1000, 0, 1000, 3095. A window of width 2001 about 0.5 goes from -1000 to 1000.
    content = write(RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=[0.5, 9], WindowWidth=[2001, 9])
    assert shown(content) == [[0, 128], [255, 255]]
    assert shown(content, intensity_range=(0, 3095)) == [[0, 0], [82, 255]]
    exact = write(WindowCenter=1000, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT")
    assert shown(exact) == [[0, 128], [255, 255]]
    # 255 / (1 + exp(-4 (x - 1000) / 2000)): exp(2) = 7.389, exp(-2) = .1353, exp(-6.19) = .002.
    sigmoid = write(WindowCenter=1000, WindowWidth=2000, VOILUTFunction="SIGMOID")
    assert shown(sigmoid) == [[30, 128], [225, 254]]


def test_signed_values_and_a_negative_slope(write):
    signed = write(np.array([[-32768, 0], [0, 32767]], np.int16))
    assert shown(signed) == [[0, 128], [128, 255]]
    assert shown(write(RescaleSlope=-1, RescaleIntercept=0)) == [[255, 193], [130, 0]]


def table(entries, first, bits, data):
    from pydicom.dataset import Dataset

    item = Dataset()
    item.LUTDescriptor, item.LUTData = [entries, first, bits], data
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return [item]


def test_tables_of_intensities_come_before_windows(write):
    content = write(VOILUTSequence=table(3, 999, 12, [0, 4095, 2048]), WindowCenter=1, WindowWidth=2)
    # Below the table its first entry, above its last; 1000 is the second: 2048 / 4095 * 255 = 127.5.
    assert shown(content) == [[0, 255], [128, 128]]
    bytes_only = write(VOILUTSequence=table(2048, 0, 8, [number // 8 for number in range(2048)]))
    assert shown(bytes_only) == [[0, 125], [250, 255]]


def test_colours_and_palettes(write, scene):
    from pydicom.pixels import convert_color_space

    image = scene(5)[:8, :10]
    np.testing.assert_array_equal(image_files.decode(write(image)), image)
    full = write(convert_color_space(image, "RGB", "YBR_FULL"), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(image_files.decode(full), image, atol=3)
    palette = {
        f"{name}PaletteColorLookupTable{part}": value
        for name, data in (("Red", [0, 65535, 0]), ("Green", [0, 0, 32768]), ("Blue", [65535, 0, 0]))
        for part, value in (("Descriptor", [3, 0, 16]), ("Data", np.array(data, "<u2").tobytes()))
    }
    numbers = write(np.array([[0, 1], [2, 2]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **palette)
    assert image_files.decode(numbers).tolist() == [[[0, 0, 255], [255, 0, 0]], [[0, 128, 0], [0, 128, 0]]]


def test_the_first_of_several_frames_is_read_and_mentioned(write):
    image, remark = image_files.with_remarks(write(np.stack([RAMP, RAMP[::-1]])), (2, 2, 1), name="scan.dcm")
    assert image[..., 0].tolist() == [[0, 62], [125, 255]]
    assert remark == "the first of 2 frames"


def test_a_window_of_a_frame_is_found(write):
    from pydicom.dataset import Dataset

    window, scale, frame = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 0.5, 2001
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1000, "HU"
    frame.FrameVOILUTSequence, frame.PixelValueTransformationSequence = [window], [scale]
    content = write(np.stack([RAMP, RAMP]), SharedFunctionalGroupsSequence=[frame])
    assert shown(content) == [[0, 128], [255, 255]]


def test_values_that_use_little_of_their_bits_are_mentioned(write):
    values = np.array([[3, 4095]], np.uint16)
    _, remark = image_files.with_remarks(write(values, BitsStored=16, HighBit=15), (1, 2, 1), name="1.2.840")
    assert remark == "16-bit values from 3 to 4,095 only; see --intensity-range"
    assert image_files.with_remarks(write(values), (1, 2, 1))[1] == ""


def test_floating_point_numbers_need_a_range(write):
    values = np.array([[0.25, 0.5], [0.75, 1]], np.float32)
    with pytest.raises(image_files.UnreadableError, match="floating-point numbers from 0.25 to 1; pass --int"):
        image_files.decode(write(values))
    assert shown(write(values), intensity_range=(0.25, 0.75)) == [[0, 128], [255, 255]]


def test_run_lengths_are_decoded_and_other_compressions_named(write):
    from pydicom.encaps import encapsulate
    from pydicom.uid import HTJ2K, MPEG2MPML, RLELossless

    # A segment of one literal run for the high bytes and one for the low ones, PS3.5 annex G.
    high, low = (bytes([3]) + bytes(int(value) >> shift & 255 for value in RAMP.ravel()) + b"\0" for shift in (8, 0))
    header = np.array([2, 64, 64 + len(high), *[0] * 13], "<u4").tobytes()
    content = write(syntax=RLELossless, PixelData=encapsulate([header + high + low]))
    assert shown(content) == [[0, 62], [125, 255]]
    for syntax, name in ((HTJ2K, "High-Throughput JPEG 2000"), (MPEG2MPML, "MPEG2")):
        with pytest.raises(image_files.UnreadableError, match=f"a DICOM file compressed as {name}.*python-gdcm"):
            image_files.decode(write(syntax=syntax, PixelData=encapsulate([b"1234"])))


def test_a_deflated_file_is_refused_without_inflating_it(write, monkeypatch):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    content = write(syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr(zlib, "decompress", None)
    with pytest.raises(image_files.UnreadableError, match="a deflated DICOM file; save it uncompressed"):
        image_files.decode(content)


def test_files_without_an_image_and_too_large_ones_are_refused(write):
    with pytest.raises(image_files.UnreadableError, match="a DICOM file without an image"):
        image_files.decode(write(None))
    with pytest.raises(image_files.UnreadableError, match="more than 134,217,728 pixels"):
        image_files.decode(write(Rows=60_000, Columns=60_000))
    with pytest.raises(image_files.UnreadableError, match="a DICOM file, truncated or damaged"):
        image_files.decode(write(Rows=600))


def test_a_header_of_too_many_elements_is_refused(write, monkeypatch):
    from pydicom.dataset import Dataset

    items = [Dataset() for _ in range(400)]
    stated = write(SharedFunctionalGroupsSequence=items)
    monkeypatch.setattr(dicom, "MAX_SEQUENCE", 400 * 8 - 1)
    with pytest.raises(image_files.UnreadableError, match="too many elements"):
        image_files.decode(stated)
    # Undefined lengths: the sequence's tag and VR, then items of a length, and the delimiter.
    group = b"\x00\x52\x29\x92SQ\0\0\xff\xff\xff\xff" + 400 * b"\xfe\xff\x00\xe0\0\0\0\0"
    place = write().index(b"\xe0\x7f\x10\x00")
    content = write()[:place] + group + b"\xfe\xff\xdd\xe0\0\0\0\0" + write()[place:]
    assert shown(content)
    monkeypatch.setattr(dicom._FewReads, "left", 300)
    with pytest.raises(image_files.UnreadableError, match="too many elements"):
        image_files.decode(content)
    assert shown(write())


def test_a_file_is_known_by_its_mark_and_without_one_by_its_name(write, tmp_path):
    (tmp_path / "1.2.840.7").write_bytes(write())
    (tmp_path / "notes").write_text("a" * 200)
    assert image_files.is_image(tmp_path / "1.2.840.7")
    assert not image_files.is_image(tmp_path / "notes")
    bare = write()[132:]
    assert shown(bare, name="old.dcm") == [[0, 62], [125, 255]]
    with pytest.raises(image_files.UnreadableError, match="not an image format"):
        image_files.decode(bare, name="old")


def test_without_pydicom_the_reason_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(image_files.UnreadableError, match=r"a DICOM file; pip install 'keras_vision\[dicom\]'"):
        image_files.decode(b"\0" * 128 + b"DICM")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(damage=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6), data=st.data())
def test_damaged_files_are_decoded_or_refused(write, damage, data):
    content = bytearray(write(WindowCenter=5, WindowWidth=7, RescaleSlope=2, RescaleIntercept=1))
    for place, byte in damage:
        content[place % len(content)] = byte
    content = bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        image = image_files.decode(content, name="scan.dcm")
    except image_files.UnreadableError:
        return
    assert image.dtype == np.uint8
    assert image.size <= 3 * pixel_values.MAX_PIXELS
