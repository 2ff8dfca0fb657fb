"""Images from files: every unusual file is converted correctly or refused with a reason."""

import io
import os
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_vision.files import image_files, image_kinds


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


def written(suffix, values):
    """Bytes of a file that OpenCV writes; colours are BGR."""
    return cv2.imencode(suffix, values)[1].tobytes()


def test_an_intensity_range_by_hand():
    values = np.array([[0, 1000, 2000, 4095, 65535]], np.uint16)
    for suffix in (".png", ".tiff", ".pgm"):
        found = image_files.decode(written(suffix, values), gray=True, intensity_range=(1000, 3000))
        # (2000 - 1000) / 2000 * 255 = 127.5, to the even number.
        assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert image_files.decode(written(".png", values)).shape == (1, 5, 3)
    eight = np.array([[0, 40, 100, 255]], np.uint8)
    found = image_files.decode(written(".png", eight), intensity_range=(40, 140))
    assert found[0, :, 1].tolist() == [0, 0, 153, 255]


def test_values_that_use_little_of_sixteen_bits_are_mentioned():
    shape = (1, 3, 1)
    values = np.array([[3, 900, 4095]], np.uint16)
    for suffix in (".png", ".tiff", ".pgm"):
        _, remark = image_files.with_remarks(written(suffix, values), shape)
        assert remark == "16-bit values from 3 to 4,095 only; see --intensity-range"
        assert image_files.with_remarks(written(suffix, values), shape, "stretch", (0, 4095))[1] == ""
        assert image_files.with_remarks(written(suffix, values * 16), shape)[1] == ""
    _, remark = image_files.with_remarks(written(".png", (values >> 4).astype(np.uint8)), shape, "stretch", (0, 4095))
    assert remark == "values from 0 to 255 only; see --intensity-range"
    assert image_files.with_remarks(written(".png", values), shape, "stretch", (0, 40_000))[1] == ""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "floating-point"),
        (np.float64, "floating-point"),
        (np.int16, "signed 16-bit"),
        (np.int32, "signed 32-bit"),
        (np.uint32, "32-bit"),
    ],
)
def test_a_tiff_of_numbers_is_read_with_an_intensity_range_only(dtype, name, channels, image):
    scale = 255 if np.dtype(dtype).kind in "iu" else 0.98
    values = (image[..., :channels] / 255 * scale).astype(dtype)
    content = written(".tiff", values[..., ::-1])
    most = f"{values.max():.6g}"
    with pytest.raises(image_files.UnreadableError, match=f"a TIFF of {name} numbers from .* to {most}; pass --inten"):
        image_files.decode(content)
    found = image_files.decode(content, gray=channels == 1, intensity_range=(0, scale))
    np.testing.assert_allclose(found.astype(int), image[..., :channels], atol=1)


def test_numbers_that_are_not_finite_are_black_or_white():
    content = written(".tiff", np.array([[np.nan, -np.inf, 0.5, np.inf]], np.float32))
    with pytest.raises(image_files.UnreadableError, match="numbers from 0.5 to 0.5"):
        image_files.decode(content)
    assert image_files.decode(content, gray=True, intensity_range=(0, 1)).ravel().tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("intensity_range", [None, (0, 65535)])
def test_sixteen_bits_with_transparency_are_rotated_and_put_on_white(intensity_range, turn, image):
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:7, :9] = 0
    both = np.concatenate([image, alpha], axis=-1)
    exif = Image.Exif()
    exif[0x112] = turn
    expected = image_files.decode(encoded(both, "PNG", exif=exif))
    deep = written(".png", both[..., [2, 1, 0, 3]].astype(np.uint16) * 257)
    # The chunk eXIf, PNG's third edition, 11.3.3.5: EXIF without its JPEG mark, before the image data.
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    place = deep.index(b"IDAT") - 4
    found = image_files.decode(deep[:place] + chunk + deep[place:], intensity_range=intensity_range)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_an_avif_of_more_bits_is_as_bright_as_one_of_eight(bits, image):
    values = (image[..., ::-1].astype(int) * (2**bits - 1) // 255).astype(np.uint8 if bits == 8 else np.uint16)
    try:
        content = cv2.imencode(".avif", values, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 95])[1]
    except cv2.error:
        pytest.skip("needs an OpenCV that writes AVIF")
    assert np.abs(image_files.decode(content.tobytes()) - image.astype(int)).mean() < 8


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


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.NEF", "tiff", "a camera raw file; convert it to JPEG"),
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\0crx isom", "a camera raw file; convert it to JPEG"),
        ("a.jpg", b"FUJIFILMCCD-RAW 0201", "a camera raw file; convert it to JPEG"),
        ("slide.svs", "tiff", "a microscope's file; export it as TIFF or PNG"),
        ("a.svg", b"<svg></svg>", "an SVG file; export it as PNG"),
        ("a.psd", b"8BPS", "a Photoshop file; export it as PNG"),
        ("a.jxl", b"\xff\x0a", "a JPEG XL file; convert it to JPEG or PNG"),
        ("a.exr", b"v/1\x01", "an OpenEXR file; convert it to TIFF"),
        ("head.nii.gz", b"\x1f\x8b", f"a NIfTI file; {image_kinds.NIFTI.way_out}"),
        ("a.tga", b"\0\0\2", "a Targa file; convert it to PNG"),
        ("a.heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF file, truncated or damaged"),
        ("a.dcm", b"not one", "not an image format that OpenCV reads"),
    ],
)
def test_formats_that_are_not_read_are_named_with_the_way_out(name, content, reason, image):
    content = encoded(image, "TIFF") if content == "tiff" else content
    assert image_files.meant_as_image(name)
    with pytest.raises(image_files.UnreadableError) as caught:
        image_files.decode(content, name=f"folder/{name}")
    assert str(caught.value) == reason


def test_a_jpeg_called_raw_is_read_by_its_content(image):
    content = encoded(image, "JPEG")
    assert image_files.decode(content, name="a.nef").shape == image.shape
    assert image_files.remarks(content, "a.nef") == "its content is JPEG"


@pytest.mark.parametrize("name", ["A.HEIC", "b.Jpeg", "c.jpe", "d.jfif", "e.dcm", "f.ppm", "g.hdr", "x.tar.nii.gz"])
def test_names_of_images_are_known_in_any_case(name):
    assert image_files.meant_as_image(name)


@pytest.mark.parametrize("name", ["notes.txt", "labels.csv", "jpg", "a.jpg.txt", "archive.gz", "Thumbs.db", "1.2.840"])
def test_other_names_are_no_images(name):
    assert not image_files.meant_as_image(name)


def test_a_wrong_suffix_is_reported():
    assert image_files.remarks(b"\x89PNG...", "scan.jpg") == "its content is PNG"
    assert image_files.remarks(b"\xff\xd8\xff...", "scan.JPEG") == ""
    assert image_files.remarks(b"unknown", "scan.jpg") == ""


def test_symmetries_are_the_eight_of_a_square(image):
    square = image[:48, :48]
    found = {image_files.symmetry(square, turn).tobytes() for turn in range(8)}
    turned = {np.rot90(flipped, count).tobytes() for flipped in (square, square[::-1]) for count in range(4)}
    assert found == turned
