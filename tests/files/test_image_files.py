"""Images from files: every unusual file is converted correctly or refused with a reason."""

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_vision.files import image_files


def encoded(image, kind, **options):
    """Bytes of a file that Pillow writes from an array or a Pillow image."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_pillow_reads(content):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")).astype(int)


@pytest.fixture
def image(scene):
    return scene(1)[:48]


def test_a_white_over_black_gradient_by_hand():
    image = np.array([[[0, 0, 0], [100, 150, 200]]], np.uint8)
    alpha = np.array([[[0], [51]]], np.uint8)
    found = image_files.decode(encoded(np.concatenate([image, alpha], axis=-1), "PNG"))
    # 51 / 255 is a fifth: 100 / 5 + 255 * 4 / 5 = 224.
    assert found.tolist() == [[[255, 255, 255], [224, 234, 244]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_regions_are_white(kind, image):
    alpha = np.zeros((*image.shape[:2], 1), np.uint8)
    alpha[:, :30] = 255
    options = {"lossless": True} if kind == "WEBP" else {}
    found = image_files.decode(encoded(np.concatenate([image, alpha], axis=-1), kind, **options))
    np.testing.assert_array_equal(found[:, :30], image[:, :30])
    assert (found[:, 30:] == 255).all()


def test_gray_with_transparency_and_a_transparent_colour_of_a_palette_are_white(image):
    both = np.dstack([image[..., 0], np.zeros(image.shape[:2], np.uint8)])
    assert (image_files.decode(encoded(Image.fromarray(both, "LA"), "PNG"), gray=True) == 255).all()
    palette = Image.fromarray(image).convert("P")
    clear = palette.getpixel((0, 0))
    found = image_files.decode(encoded(palette, "PNG", transparency=clear))
    assert (found[np.asarray(palette) == clear] == 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_rotated_by_exif(kind, turn, image):
    exif = Image.Exif()
    exif[0x112] = turn
    content = encoded(image, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    np.testing.assert_allclose(image_files.decode(content), as_pillow_reads(content), atol=2)


@pytest.mark.parametrize("turn", range(1, 9))
def test_transparent_images_are_rotated_too(turn, image):
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:7, :9] = 0
    exif = Image.Exif()
    exif[0x112] = turn
    content = encoded(np.concatenate([image, alpha], axis=-1), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    white = Image.new("RGBA", expected.size, "white")
    np.testing.assert_array_equal(
        image_files.decode(content), np.asarray(Image.alpha_composite(white, expected))[..., :3]
    )


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind, image):
    content = encoded(Image.fromarray(image).convert("CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert np.abs(image_files.decode(content) - as_pillow_reads(content)).mean() < 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(suffix, image):
    content = cv2.imencode(suffix, image[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(image_files.decode(content), image)
    gray = cv2.imencode(suffix, image[..., 0].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(image_files.decode(gray, gray=True), image[..., :1])


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "P"), ("GIF", "P"), ("PNG", "1"), ("BMP", "RGB"), ("TIFF", "L")])
def test_palettes_and_few_bits_become_rgb(kind, mode, image):
    content = encoded(Image.fromarray(image).convert(mode), kind)
    np.testing.assert_array_equal(image_files.decode(content), as_pillow_reads(content))


def test_the_first_frame_of_an_animation_is_used(image):
    frames = [Image.fromarray(part).convert("P") for part in (image, 255 - image)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(image_files.decode(content), as_pillow_reads(content))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_refused(kind, share, scene):
    content = encoded(scene(2, 600), kind)
    with pytest.raises(image_files.UnreadableError, match="truncated or damaged"):
        image_files.decode(content[: int(share * len(content))])


@pytest.mark.parametrize("at_least", [None, (16, 16)])
def test_a_jpeg_without_its_last_bytes_is_refused_in_any_size(at_least, scene):
    content = encoded(scene(2, 600), "JPEG")
    with pytest.raises(image_files.UnreadableError, match="a JPEG file, truncated or damaged"):
        image_files.decode(content[:-2], at_least=at_least)


def test_files_that_are_not_images_are_refused(tmp_path):
    with pytest.raises(image_files.UnreadableError, match="not an image format"):
        image_files.decode(b"name,label\nscan,1\n")
    empty, pipe = tmp_path / "empty.jpg", tmp_path / "pipe.jpg"
    empty.touch()
    with pytest.raises(image_files.UnreadableError, match="empty file"):
        image_files.read_bytes(empty)
    os.mkfifo(pipe)
    with pytest.raises(image_files.UnreadableError, match="not a regular file"):
        image_files.read_bytes(pipe)
    with pytest.raises(image_files.UnreadableError, match="no such file"):
        image_files.read_bytes(tmp_path / "none.jpg")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(image_files.UnreadableError, match="symbolic links"):
        image_files.read_bytes(tmp_path / "loop")


def test_files_too_large_for_memory_are_not_read(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(image_files.MAX_BYTES + 1)
    with pytest.raises(image_files.UnreadableError, match="larger than 512 MB"):
        image_files.read_bytes(tmp_path / "large.png")


def test_a_decompression_bomb_is_refused():
    black = Image.new("1", (14_000, 14_000))
    with pytest.raises(image_files.UnreadableError, match="more than 134,217,728 pixels"):
        image_files.decode(encoded(black, "PNG"))


def test_every_resizing_returns_the_requested_shape():
    image = np.arange(6 * 10, dtype=np.uint8).reshape(6, 10, 1)
    cropped = image_files.fit(image, 6, 6, "crop")
    np.testing.assert_array_equal(cropped, image[:, 2:8])
    padded = image_files.fit(image, 10, 10, "pad")
    np.testing.assert_array_equal(padded[2:8], image)
    assert not padded[:2].any()
    assert not padded[8:].any()
    np.testing.assert_array_equal(
        image_files.fit(image, 3, 10, "stretch")[..., 0], image[..., 0].reshape(3, 2, 10).mean(1)
    )
    for resize in image_files.RESIZES:
        assert image_files.fit(np.zeros((1, 500, 3), np.uint8), 8, 8, resize).shape == (8, 8, 3)


def test_large_jpegs_decoded_at_a_fraction_of_their_size_keep_their_values(scene):
    content = encoded(scene(3, 720), "JPEG", quality=95)
    assert image_files.decode(content, at_least=(64, 64)).shape == (180, 180, 3)
    assert image_files.decode(content, at_least=(181, 64)).shape == (720, 720, 3)
    assert image_files.decode(content, gray=True, at_least=(20, 20)).shape == (90, 90, 1)
    whole, reduced = (image_files.fit(image_files.decode(content, at_least=size), 64, 64) for size in (None, (64, 64)))
    assert np.abs(whole.astype(int) - reduced).mean() < 1


def test_a_wrong_suffix_is_reported():
    assert image_files.remarks(b"\x89PNG...", "scan.jpg") == "its content is PNG"
    assert image_files.remarks(b"\xff\xd8\xff...", "scan.JPEG") == ""
    assert image_files.remarks(b"unknown", "scan.jpg") == ""


def test_symmetries_are_the_eight_of_a_square(image):
    square = image[:48, :48]
    found = {image_files.symmetry(square, turn).tobytes() for turn in range(8)}
    turned = {np.rot90(flipped, count).tobytes() for flipped in (square, square[::-1]) for count in range(4)}
    assert found == turned
