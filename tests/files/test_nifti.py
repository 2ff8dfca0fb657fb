"""NIfTI volumes that nibabel writes: turned as it turns them, scaled, resampled; damaged and hostile ones."""

import contextlib
import gzip
import itertools
import sys

import numpy as np
import pytest

from keras_vision.files import archives, image_files, nifti
from keras_vision.files.outside import UnreadableError


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel")


@pytest.fixture
def write(nibabel):
    """The bytes of a NIfTI file; keyword arguments are fields of its header."""

    def bytes_of(values, affine=None, kind="Nifti1Image", **fields):
        image = getattr(nibabel, kind)(values, np.eye(4) if affine is None else affine)
        for name, value in fields.items():
            image.header[name] = value
        return image.to_bytes()

    return bytes_of


def patched(content, place, value, dtype):
    """The same file with other bytes in its header."""
    part = np.array(value, dtype).tobytes()
    return content[:place] + part + content[place + len(part) :]


def read(content, shape, resize="stretch", intensity_range=None):
    return nifti.with_remarks(content, (*shape, 1), resize, intensity_range, name="a.nii.gz")


def values_of(shape, dtype=np.int16):
    return np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(dtype)


def test_axes_are_feet_to_head_front_to_back_and_left_to_right(write):
    values = np.zeros((3, 4, 5), np.uint8)  # x to the right, y to the front, z to the head.
    values[2, 3, 4] = 255  # Right, front, top.
    volume, remark = read(write(values), (5, 4, 3))
    assert np.argwhere(volume[..., 0]).tolist() == [[4, 0, 2]]
    assert (volume.dtype, remark) == (np.uint8, "")


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("signs", [*itertools.product((1, -1), repeat=3)])
def test_every_orientation_is_turned_as_nibabel_turns_it(nibabel, write, order, signs):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)] * np.array(signs) * [1.0, 2.0, 3.0] + 0.02
    values = values_of((3, 4, 5), np.uint8)
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine)).get_fdata()
    least, most = values.min(), values.max()
    expected = np.rint((expected - least) * (255 / (most - least))).transpose(2, 1, 0)[:, ::-1]
    found, _ = read(write(values, affine), expected.shape)
    np.testing.assert_array_equal(found[..., 0], expected)


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "f4", ">f8"])
def test_every_kind_of_number_compressed_or_not(write, kind, dtype):
    values = values_of((3, 3, 3)).astype(dtype)
    expected = np.rint(values.astype(float) * (255 / 26)).transpose(2, 1, 0)[:, ::-1]
    content = write(values, kind=kind)
    for file in (content, gzip.compress(content)):
        np.testing.assert_array_equal(read(file, (3, 3, 3))[0][..., 0], expected)


def test_slope_and_intercept_come_before_the_intensity_range(write):
    values = np.array([0, 1000, 2000, 3000], np.int16).reshape(1, 1, 4)
    content = write(values, scl_slope=2.0, scl_inter=-1000.0)  # -1000, 1000, 3000, 5000
    content = patched(patched(content, 112, 2.0, "<f4"), 116, -1000.0, "<f4")
    volume, _ = read(content, (4, 1, 1), intensity_range=(-1000, 4000))
    assert volume.ravel().tolist() == [0, 102, 204, 255]
    assert read(content, (4, 1, 1))[0].ravel().tolist() == [0, 85, 170, 255]
    falling = patched(content, 112, -2.0, "<f4")
    assert read(falling, (4, 1, 1))[0].ravel().tolist() == [255, 170, 85, 0]


def test_an_intensity_range_far_from_the_values_and_equal_values_are_pointed_out(write):
    content = write(np.array([0, 10], np.int16).reshape(1, 1, 2))
    assert "values from 0 to 10 only" in read(content, (2, 1, 1), intensity_range=(0, 1000))[1]
    volume, remark = read(write(np.full((2, 2, 2), 7, np.int16)), (2, 2, 2))
    assert (volume.max(), remark) == (0, "all values are 7")


def test_numbers_that_are_none_are_black(write):
    values = np.array([np.nan, -1, np.inf, 1], np.float32).reshape(1, 1, 4)
    assert read(write(values), (4, 1, 1))[0].ravel().tolist() == [0, 0, 255, 255]


def test_shrinking_takes_means_and_enlarging_interpolates(write):
    values = np.array([0, 100, 200, 255], np.uint8).reshape(1, 1, 4)
    assert read(write(values), (2, 1, 1))[0].ravel().tolist() == [50, 228]  # 227.5
    # Middles of the parts are at -1/4, 1/4, 3/4 and 5/4 of the voxels.
    assert read(write(values[..., [0, 3]]), (4, 1, 1))[0].ravel().tolist() == [0, 64, 191, 255]


def test_shrinking_by_whole_numbers_is_the_mean_of_blocks(write):
    values = np.random.default_rng(1).integers(0, 256, (8, 6, 4), np.uint8)
    values[0, 0, 0], values[0, 0, 1] = 0, 255
    turned = values.transpose(2, 1, 0)[:, ::-1].astype(float)
    expected = turned.reshape(2, 2, 3, 2, 4, 2).mean((1, 3, 5))
    np.testing.assert_allclose(read(write(values), (2, 3, 4))[0][..., 0], expected, atol=0.5)


def test_proportions_are_those_of_millimetres(write):
    values = np.full((6, 4, 2), 255, np.uint8)
    values[0] = 0
    content = write(values, np.diag([1, 2, 2, 1]))  # 6 x 8 x 4 mm
    cropped, _ = read(content, (4, 4, 4), "crop")
    assert cropped.min() == 255  # The outermost slices are beyond the 4 mm in the middle.
    padded, _ = read(content, (8, 8, 8), "pad")
    assert [
        np.flatnonzero(padded.any(axis=other))[[0, -1]].tolist() for other in ((1, 2, 3), (0, 2, 3), (0, 1, 3))
    ] == [
        [2, 5],
        [0, 7],
        [2, 6],
    ]
    assert read(content, (4, 4, 4), "stretch")[0].min() < 255


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_proportions_do_not_depend_on_how_the_axes_are_stored(write, resize):
    values, affine = values_of((6, 5, 4), np.uint8), np.diag([1.0, 2.0, 3.0, 1.0])
    expected, _ = read(write(values, affine), (6, 6, 6), resize)
    stored, _ = read(write(values.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]), (6, 6, 6), resize)
    np.testing.assert_array_equal(stored, expected)


def test_one_volume_in_four_dimensions_is_one_and_several_are_refused(write):
    values = values_of((3, 4, 5), np.uint8)
    assert np.array_equal(read(write(values[..., np.newaxis]), (5, 4, 3))[0], read(write(values), (5, 4, 3))[0])
    for shape, sides in (((3, 4, 5, 2), "3 x 4 x 5 x 2"), ((3, 4), "3 x 4"), ((3, 4, 5, 1, 3), "3 x 4 x 5 x 1 x 3")):
        with pytest.raises(UnreadableError, match=f"{sides} values, not of a single volume; save one volume a file"):
            read(write(np.zeros(shape, np.uint8)), (2, 2, 2))


def test_colours_and_complex_numbers_are_refused(write):
    with pytest.raises(UnreadableError, match="a NIfTI file of complex64 numbers"):
        read(write(np.zeros((2, 2, 2), np.complex64)), (2, 2, 2))
    with pytest.raises(UnreadableError, match="a NIfTI file of colours"):
        read(write(np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])), (2, 2, 2))


HEADERS = {
    "huge sides": (42, [32767] * 3, "<i2", "that states"),
    "a side below zero": (42, [4, -4, 4], "<i2", "truncated or damaged"),
    "no side": (42, [0, 4, 4], "<i2", "truncated or damaged"),
    "too many dimensions": (40, 700, "<i2", "truncated or damaged"),
    "an unknown type": (70, 12345, "<i2", "truncated or damaged"),
    "values that begin at infinity": (108, np.inf, "<f4", "truncated or damaged"),
    "values that begin nowhere": (108, np.nan, "<f4", "truncated or damaged"),
    "values that begin before the file": (108, -1e9, "<f4", "truncated or damaged"),
    "values that begin far beyond the file": (108, 3e9, "<f4", "that states"),
    "values that begin with the header": (108, 0.0, "<f4", "truncated or damaged"),
    "values that begin in the header": (108, 16.0, "<f4", "truncated or damaged"),
    "values that begin beyond the file": (108, 400.0, "<f4", "truncated or damaged"),
    "axes without a direction": (280, [np.nan] * 12, "<f4", "no direction or no length|truncated or damaged"),
    "axes without a length": (280, [0.0] * 12, "<f4", "no direction or no length"),
    "a slope beyond all numbers": (112, 3e38, "<f4", None),
    "another kind of file": (344, list(b"ni1\0"), "u1", "not a NIfTI file with its values inside"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_contradicts_itself_is_one_sentence(write, name, compressed):
    place, value, dtype, message = HEADERS[name]
    content = patched(write(values_of((4, 4, 4))), place, value, dtype)
    content = gzip.compress(content) if compressed else content
    if message is None:
        read(content, (2, 2, 2))
        return
    with pytest.raises(UnreadableError, match=message) as error:
        read(content, (2, 2, 2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_that_ends_early_or_is_changed_is_one_sentence(write, compressed):
    content = write(values_of((6, 6, 6)))
    content = gzip.compress(content) if compressed else content
    for end in (*range(0, len(content), 7), len(content) - 1):
        with pytest.raises(UnreadableError, match="truncated or damaged|not a NIfTI file"):
            read(content[:end], (2, 2, 2))
    random = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(content)
        for place in random.integers(0, 400, 3):
            broken[place % len(broken)] = random.integers(256)
        with contextlib.suppress(UnreadableError):
            assert read(bytes(broken), (2, 2, 2))[0].shape == (2, 2, 2, 1)


def test_a_changed_byte_of_a_compressed_file_is_detected(write):
    content = bytearray(gzip.compress(write(values_of((6, 6, 6))), mtime=0))
    content[-5] ^= 1  # The checksum.
    with pytest.raises(UnreadableError, match="truncated or damaged"):
        read(bytes(content), (2, 2, 2))


def test_a_small_file_that_expands_is_not_expanded(write, monkeypatch):
    content = patched(write(np.zeros((4, 4, 4), np.uint8)), 42, [600, 600, 600], "<i2") + bytes(600**3 // 8)
    small = gzip.compress(content)
    monkeypatch.setattr(archives, "EXPANDS_FREELY", 2**20)
    largest = []
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: largest.append(size) or content[:size])
    with pytest.raises(UnreadableError, match=f"of {len(small):,} bytes that states 216,000,352; it is not read"):
        read(small, (2, 2, 2))
    assert largest == [540]


def test_other_files_are_not_volumes(nibabel):
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(600), b"text", gzip.compress(b"text")):
        with pytest.raises(UnreadableError, match="not a NIfTI file with its values inside"):
            read(content, (2, 2, 2))


def test_without_nibabel_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UnreadableError, match=r"a NIfTI file; pip install 'keras_vision\[nifti\]' reads it"):
        read(b"n", (2, 2, 2))


def test_as_a_picture_it_is_refused_with_the_way_to_volumes():
    for content in (b"\x1f\x8b", b"\x5c\x01\0\0"):
        with pytest.raises(
            UnreadableError, match="a NIfTI file; a folder of volumes is read by keras-vision fracture3d"
        ):
            image_files.decode(content, name="a.nii.gz")
