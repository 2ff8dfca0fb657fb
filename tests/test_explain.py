"""The explain command: what it writes, and what it says when it cannot."""

import json

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import explain, quantization
from keras_vision.pipeline import folder as run_folder

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder as a run leaves it, with a tiny network, a .tflite file of it, and image files."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("cat\ndog\n")
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    content = quantization.convert(model, "int8", images)
    metadata = quantization.Metadata("pets", "Two.", "1", "CC0", ("cat", "dog"))
    (folder / "int8.tflite").write_bytes(quantization.add_metadata(content, metadata))
    (folder / "pictures").mkdir()
    cv2.imwrite(str(folder / "pictures" / "one.png"), cv2.resize(images[0], (40, 20)))
    (folder / "pictures" / "broken.png").write_bytes(b"no picture")
    return folder


def test_each_picture_gets_a_png_and_what_cannot_be_read_is_named(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert explain.main([str(run), str(run / "pictures"), "--out", str(out)]) == 1
    caught = capsys.readouterr()
    assert "broken.png was skipped: not an image format that OpenCV reads." in caught.err
    assert "cat" in caught.out or "dog" in caught.out
    assert [path.name for path in out.iterdir()] == ["one.png"]
    # The picture, its longer side enlarged to 512 pixels, beside the same with its heatmap.
    drawn = cv2.imread(str(out / "one.png"))
    assert drawn.shape == (256, 1024, 3)
    assert np.abs(drawn[:, :512].astype(int) - drawn[:, 512:]).mean() > 5


def test_a_png_that_is_there_is_kept(run, tmp_path, capsys):
    (tmp_path / "one.png").write_bytes(b"mine")
    assert explain.main([str(run), str(run / "pictures" / "one.png"), "--out", str(tmp_path)]) == 2
    assert "exists. Choose another folder" in capsys.readouterr().err
    assert (tmp_path / "one.png").read_bytes() == b"mine"


def test_a_tflite_file_is_explained_by_score_cam(run, tmp_path, capsys):
    arguments = [str(run / "int8.tflite"), str(run / "pictures" / "one.png"), "--class", "dog", "--out", str(tmp_path)]
    assert explain.main(arguments) == 0
    assert " dog 0." in capsys.readouterr().out
    assert explain.main([*arguments, "--overwrite", "--method", "grad-cam"]) == 2
    assert "no gradients: only score-cam explains it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layer", "cnov"], "no layer 'cnov'. Near it: conv"),
        (["--class", "horse"], "--class takes a name or a number from 0 to 1: cat, dog. Received: 'horse'"),
        (["--colormap", "grey-ish"], "Colormaps are those of matplotlib"),
        (["--opacity", "2"], "--opacity takes a number from 0 to 1"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(run, tmp_path, capsys, flags, message):
    out = tmp_path / "out"
    assert explain.main([str(run), str(run / "pictures" / "one.png"), "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not out.exists()


def test_what_is_no_model_is_refused(run, tmp_path, capsys):
    damaged = tmp_path / "model.keras"
    damaged.write_bytes(b"no archive")
    picture = str(run / "pictures" / "one.png")
    for model, message in ((damaged, "cannot be read as a Keras model"), (tmp_path / "none", "is not a run's folder")):
        assert explain.main([str(model), picture, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


def resize_of(path):
    return run_folder.data_of(path).get("resize", "stretch")


def test_models_say_how_their_images_were_brought_to_size(tmp_path):
    run, file = tmp_path / "run", tmp_path / "qat.tflite"
    run.mkdir()
    assert resize_of(run) == "stretch"
    (run / "environment.json").write_text(json.dumps({"data": {"resize": "pad"}}))
    assert resize_of(run) == resize_of(run / "model.keras") == "pad"
    assert resize_of(file) == "stretch"
    file.with_suffix(".json").write_text(json.dumps({"sha256": "", "data": {"resize": "crop"}}))
    assert resize_of(file) == "crop"


def test_what_is_shown_below_a_heatmap_is_what_the_model_sees(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), picture)
    shown = {way: explain._full_image(tmp_path / "wide.png", (16, 16, 3), way) for way in ("crop", "pad", "stretch")}
    assert shown["crop"].shape == shown["pad"].shape == (512, 512, 3)
    assert shown["crop"].min() == 255
    assert shown["pad"][:120].max() == 0
    assert shown["stretch"].shape == (256, 512, 3)
