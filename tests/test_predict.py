"""The predict command: which files of a folder it takes, what it says of the others, how it scales their values."""

import json
import sys
import types

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import explain, predict, quantization
from keras_vision.files import image_files
from keras_vision.recipe import InputError

JPEG = np.full((8, 8, 3), 90, np.uint8)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder as a phone and a camera leave it, where nothing reads HEIC."""
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.jpg"), JPEG)
    cv2.imwrite(str(folder / "more" / "b.JPEG"), JPEG)
    (folder / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "DSC_1.nef").write_bytes(b"II*\0")
    (folder / "1.2.840").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "notes.txt").write_text("cats")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def test_everything_that_is_meant_as_an_image_is_taken_and_the_rest_is_named(pictures, capsys):
    found = [path.relative_to(pictures).as_posix() for path in predict.find_images([str(pictures)])]
    assert sorted(found) == ["1.2.840", "DSC_1.nef", "a.jpg", "more/b.JPEG", "photo.HEIC"]
    assert capsys.readouterr().err == f"{pictures}: 1 file is no image and left out: notes.txt\n"
    for number in range(5):
        (pictures / f"z{number}.csv").write_text("")
    predict.find_images([str(pictures)])
    assert capsys.readouterr().err == (
        f"{pictures}: 6 files are no images and left out: notes.txt, z0.csv, z1.csv, ...\n"
    )


def test_a_folder_without_images_is_refused_and_says_what_it_has(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(InputError, match="has no image files"):
        predict.find_images([str(tmp_path)])
    assert "labels.csv" in capsys.readouterr().err


def test_what_is_not_read_is_named_with_the_reason(pictures, capsys):
    paths = predict.find_images([str(pictures)])
    unread = [path for path in paths if image_files.why_unread(path, fallback="")]
    model = types.SimpleNamespace(remarks={}, intensity_range=None)
    assert predict.name_unread(model, unread) == 1
    error = capsys.readouterr().err
    assert "photo.HEIC was skipped: a HEIC file; pip install 'keras_vision[heif]' reads it." in error
    assert "DSC_1.nef was skipped: a camera raw file; convert it to JPEG." in error
    assert "a.jpg" not in error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose network knows light from dark pictures, and its .tflite file with a card."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 1, name="conv", activation="relu")(layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    model.get_layer("conv").set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])])
    model.layers[-1].set_weights([np.array([[0.0, 8.0], [8.0, 0.0]]), np.zeros(2)])
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("dark\nlight\n")
    data = {"resize": "crop", "intensity_range": [0.0, 4095.0]}
    (folder / "environment.json").write_text(json.dumps({"data": data}))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    content = quantization.convert(model, "int8", pixels)
    metadata = quantization.Metadata("light", "Two.", "1", "CC0", ("dark", "light"))
    (folder / "int8.tflite").write_bytes(quantization.add_metadata(content, metadata))
    (folder / "int8.json").write_text(json.dumps({"sha256": "", "data": data}))
    (folder / "alone.tflite").write_bytes((folder / "int8.tflite").read_bytes())
    (folder / "scans").mkdir()
    cv2.imwrite(str(folder / "scans" / "scan.png"), np.full((8, 8), 3900, np.uint16))
    return folder


def label(capsys, *arguments):
    assert predict.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)[0]["label"]


@pytest.mark.backend
def test_files_are_scaled_as_in_the_training_of_a_run_a_keras_file_or_a_tflite_file(run, capsys):
    scans = run / "scans"
    for model in (run, run / "model.keras", run / "int8.tflite"):
        assert label(capsys, model, scans) == "light"
        assert label(capsys, model, scans / "scan.png") == "light"
        assert label(capsys, model, scans, "--intensity-range", 0, 65535) == "dark"
    # Nothing beside it says the range, so it is typed.
    assert label(capsys, run / "alone.tflite", scans) == "dark"
    assert label(capsys, run / "alone.tflite", scans, "--intensity-range", 0, 4095) == "light"


@pytest.mark.backend
def test_a_class_below_the_recorded_confidence_is_unsure(run, tmp_path, capsys):
    card = json.loads((run / "int8.json").read_text())
    path = tmp_path / "int8.tflite"
    path.write_bytes((run / "int8.tflite").read_bytes())
    for level, pixel in (("dark", 0), ("gray", 120)):
        cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((8, 8), 16 * pixel, np.uint16))
    images = [str(tmp_path / name) for name in ("dark.png", "gray.png")]

    def answers(*arguments):
        assert predict.main([str(path), *images, *arguments]) == 0
        return capsys.readouterr().out

    (tmp_path / "int8.json").write_text(json.dumps(card | {"unsure": {"threshold": None}}))
    assert "unsure" not in answers() + answers("--csv") + answers("--json")
    (tmp_path / "int8.json").write_text(json.dumps(card | {"unsure": {"threshold": 0.9}}))
    assert [line.split()[1] for line in answers().splitlines()] == ["dark", "unsure,"]
    assert [row.split(",")[1:3] for row in answers("--csv").splitlines()] == [
        ["label", "unsure"],
        ["dark", "no"],
        ["dark", "yes"],
    ]
    assert [(row["label"], row["unsure"]) for row in json.loads(answers("--json"))] == [("dark", False), ("dark", True)]
    # The same beside a run's model.
    (run / "unsure.json").write_text(json.dumps({"threshold": 0.9}))
    path = run
    assert [line.split()[1] for line in answers().splitlines()] == ["dark", "unsure,"]
    (run / "unsure.json").unlink()


@pytest.mark.backend
def test_an_unusual_file_is_mentioned(run, capsys):
    assert predict.main([str(run / "alone.tflite"), str(run / "scans")]) == 0
    error = capsys.readouterr().err
    assert error.endswith("scan.png: 16-bit values from 3,900 to 3,900 only; see --intensity-range\n")
    assert error.startswith("note: ")


@pytest.mark.backend
def test_explain_shows_what_the_model_saw(run, tmp_path, capsys):
    assert explain.main([str(run), str(run / "scans"), "--out", str(tmp_path / "out")]) == 0
    assert " light " in capsys.readouterr().out
    shown = cv2.imread(str(tmp_path / "out" / "scan.png"))
    assert (shown[:, : shown.shape[1] // 2] == 243).all()  # 3900 / 4095 * 255


@pytest.mark.backend
def test_an_intensity_range_the_wrong_way_round_is_refused(run, capsys):
    assert predict.main([str(run), str(run / "scans"), "--intensity-range", "9", "3"]) == 2
    assert "--intensity-range takes the lower value first. Received: 9 3" in capsys.readouterr().err
