"""HEIC photos: small files of four coloured quadrants, decoded by whichever decoder is installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_vision.files import heif, image_files, pixel_values

# Drawn for these tests: red, green / blue, yellow, 32 x 48. `turned.heic` asks for a quarter turn by its own `irot` and
# repeats it in EXIF, as phones do; in `clear.heic` the upper left corner is transparent; `gray.heic` is the reds.
FOLDER = Path(__file__).parent
RED, GREEN, BLUE, YELLOW = (220, 30, 40), (30, 200, 60), (40, 60, 210), (230, 220, 60)


@pytest.fixture
def decoder():
    try:
        return heif.decoder()
    except image_files.UnreadableError:
        pytest.skip("needs pi_heif")


@pytest.fixture
def without_decoders(monkeypatch):
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)


def quadrants(image):
    height, width = (side // 4 for side in image.shape[:2])
    return [image[y, x].astype(int).tolist() for y in (height, 3 * height) for x in (width, 3 * width)]


def content(name):
    return (FOLDER / f"{name}.heic").read_bytes()


def test_a_turn_that_the_file_and_its_exif_ask_for_is_made_once(decoder):
    image = image_files.decode(content("turned"))
    assert image.shape == (48, 32, 3)
    np.testing.assert_allclose(quadrants(image), [BLUE, RED, YELLOW, GREEN], atol=3)


def test_transparent_regions_are_white(decoder):
    image = image_files.decode(content("clear"))
    np.testing.assert_allclose(image[2, 2], 255, atol=1)
    np.testing.assert_allclose(quadrants(image)[1:], [GREEN, BLUE, YELLOW], atol=3)


def test_gray_and_colour_become_what_is_asked_for(decoder):
    expected = [[color[0]] for color in (RED, GREEN, BLUE, YELLOW)]
    np.testing.assert_allclose(quadrants(image_files.decode(content("gray"), gray=True)), expected, atol=3)
    np.testing.assert_allclose(quadrants(image_files.decode(content("gray"))), np.tile(expected, 3), atol=3)
    assert image_files.decode(content("turned"), gray=True).shape == (48, 32, 1)


def test_an_intensity_range_scales_the_eight_bits(decoder):
    found = image_files.decode(content("gray"), gray=True, intensity_range=(30, 230))
    expected = pixel_values.to_8bit(image_files.decode(content("gray"), gray=True), 30, 230)
    np.testing.assert_array_equal(found, expected)


def test_an_image_does_not_lie_in_the_decoders_memory(decoder):
    owner = heif.decode(content("gray"))
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    assert isinstance(owner, np.ndarray)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(share, decoder):
    whole = content("turned")
    with pytest.raises(image_files.UnreadableError, match="a HEIC file, truncated or damaged"):
        image_files.decode(whole[: int(share * len(whole))])


def test_large_images_are_refused_before_they_are_decoded(decoder, monkeypatch):
    monkeypatch.setattr(pixel_values, "MAX_PIXELS", 1000)
    monkeypatch.setattr(decoder.HeifImage, "load", None)
    with pytest.raises(image_files.UnreadableError, match="more than 134,217,728 pixels"):
        image_files.decode(content("gray"))


def test_a_file_at_which_a_decoder_crashes_is_refused(decoder):
    """The type of the second part, the EXIF data, is no text: pi_heif 1.4.0 ends its process."""
    damaged = content("turned").replace(b"Exif\0\0\0\0\x0epitm", b"\xff\xff\xff\xff\0\0\0\0\x0epitm")
    assert damaged != content("turned")
    try:
        image_files.decode(damaged)  # Other decoders read it.
    except image_files.UnreadableError as error:
        assert str(error) == "a HEIC file, truncated or damaged"  # noqa: PT017
    assert image_files.decode(content("turned")).shape == (48, 32, 3)


def test_a_photo_called_jpg_is_read_and_mentioned(decoder):
    image, remark = image_files.with_remarks(content("turned"), (8, 8, 3), name="IMG_1.JPG")
    assert image.shape == (8, 8, 3)
    assert remark == "its content is HEIC"


def test_without_a_decoder_the_reason_says_how_to_get_one(without_decoders):
    with pytest.raises(image_files.UnreadableError, match=r"a HEIC file; pip install 'keras_vision\[heif\]' reads it"):
        image_files.decode(content("gray"))
    assert not {"pi_heif", "pillow_heif"} & set(image_files.decoders())
