"""The page's JavaScript outside of a browser: its own unit tests, and its pixels beside the package's reader."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from keras_vision.files import image_files
from keras_vision.pipeline import browser_page

FOLDER = Path(__file__).parents[2] / "page"
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def node():
    """Runs node in the page's folder: a function of its arguments and its standard input."""
    if NODE is None:
        pytest.skip("needs node")

    def run(*arguments, text=""):
        return subprocess.run(
            [NODE, *arguments], cwd=FOLDER, input=text, capture_output=True, text=True, check=False, timeout=300
        )

    return run


@pytest.fixture
def assert_same_pixels(node):
    """Asserts that the page makes of PNG files what the package's reader makes: `(content, shape, resize, range)`."""

    def check(tasks):
        sent = [
            {
                "png": base64.b64encode(content).decode(),
                "gray": shape[2] == 1,
                "range": intensities,
                "height": shape[0],
                "width": shape[1],
                "resize": resize,
            }
            for content, shape, resize, intensities in tasks
        ]
        done = node("compare.mjs", text=json.dumps(sent))
        assert done.returncode == 0, done.stderr
        for (content, shape, resize, intensities), found in zip(tasks, json.loads(done.stdout), strict=True):
            expected = image_files.from_bytes(content, shape, resize, intensities)
            made = np.frombuffer(base64.b64decode(found), np.uint8).reshape(shape)
            np.testing.assert_array_equal(made, expected, err_msg=f"{shape} {resize} {intensities}")

    return check


@pytest.mark.slow
def test_the_unit_tests_of_the_modules_pass(node):
    done = node("--test", "tests/")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_hundred_odd_sizes_are_resized_as_by_the_packages_reader(assert_same_pixels):
    random, tasks = np.random.default_rng(0), []
    for number in range(120):
        height, width = (int(side) for side in random.integers(1, 100, 2))
        # Every way of OpenCV's: enlarged, shrunk on one side only, by 2, by whole numbers, by fractions.
        factors = [random.uniform(0.2, 5, 2), (2, 2), random.integers(2, 6, 2), random.uniform(1, 9, 2)][number % 4]
        size = [max(1, round(side * factor)) for side, factor in zip((height, width), factors, strict=True)]
        channels = int(random.choice([1, 3]))
        image = random.integers(0, 256, (*size, channels), dtype=np.uint8)
        resize = image_files.RESIZES[number % 3]
        tasks.append((png(image), (height, width, channels), resize, None))
    assert_same_pixels(tasks)


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


def pillow(tmp_path, image, **options):
    path = tmp_path / "image.png"
    image.save(path, **options)
    return path.read_bytes()


def test_every_kind_of_png_is_decoded_as_by_the_packages_reader(assert_same_pixels, tmp_path):
    random = np.random.default_rng(1)
    colors = random.integers(0, 256, (21, 34, 3), dtype=np.uint8)
    alpha = random.integers(0, 256, (21, 34), dtype=np.uint8)
    image = Image.fromarray(colors)
    contents = [
        png(colors),
        png(np.dstack([colors, alpha])),
        png(np.dstack([colors, np.full_like(alpha, 255)])),
        png(random.integers(0, 2**16, (21, 34), dtype=np.uint16)),
        png(random.integers(0, 2**16, (21, 34, 3), dtype=np.uint16)),
        png(random.integers(0, 2**16, (21, 34, 4), dtype=np.uint16)),
        pillow(tmp_path, Image.fromarray(np.dstack([alpha, colors[..., 0]]), "LA")),
        pillow(tmp_path, image.quantize(200)),
        pillow(tmp_path, image.quantize(9)),
        pillow(tmp_path, image.quantize(20), transparency=3),
        pillow(tmp_path, Image.fromarray(colors // 128 * 255), transparency=(255, 0, 255)),
        pillow(tmp_path, Image.fromarray(alpha // 64 * 64), transparency=64),
        pillow(tmp_path, Image.fromarray(alpha > 99)),
    ]
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        contents.append(pillow(tmp_path, image, exif=exif))
    ranges = (None, (20, 150), (300, 30_000))
    assert_same_pixels(
        [
            (content, (16, 16, channels), "stretch", intensities)
            for content in contents
            for channels in (1, 3)
            for intensities in ranges
        ]
    )


def test_the_modules_become_one_that_is_valid(node):
    text = browser_page.bundle()
    assert "\nimport " not in text
    assert "\nexport " not in text
    done = node("--check", "--input-type=module", "-", text=text)
    assert done.returncode == 0, done.stderr
