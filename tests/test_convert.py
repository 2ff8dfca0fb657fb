"""The command `convert`: somebody's own model and pictures become checked files, or one sentence says why not."""

import json
import re
import sys
import warnings
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import convert, explain, predict, quantization
from keras_vision.quantization import auditing, c_array, conversion, exporting, tflite
from keras_vision.recipe import InputError

SHAPE = (20, 20, 3)
COLOURS = {"blue": (200, 40, 40), "green": (40, 200, 40), "red": (40, 40, 200)}


@pytest.fixture
def photos(tmp_path):
    """A folder for each class, 12 pictures in each."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(12):
            noise = random.integers(-30, 31, (24, 30, 3))
            cv2.imwrite(str(folder / f"{number}.png"), np.clip(np.array(colour) + noise, 0, 255).astype("uint8"))
    return tmp_path / "photos"


def saved(path, *, scale=1.0, middle=None, classes=3, shape=SHAPE, ending=None):
    """A model that knows the colours: the mean of each channel decides."""
    keras.utils.set_random_seed(0)
    images = keras.Input(shape)
    x = images if scale == 1 else layers.Rescaling(scale)(images)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = middle(x) if middle else x
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalAveragePooling2D()(images)])
    model = keras.Model(images, layers.Dense(classes, activation=ending, name="scores")(x))
    kernel = 0.01 * np.ones((7, classes))
    kernel[4:, :] = (np.eye(3)[::-1] * (1 if scale == 1 else 1 / 255) * 8)[:, :classes]
    model.layers[-1].set_weights([kernel, np.full(classes, -4.0 if classes == 1 else 0.0)])
    model.save(path)
    return model


def run(capsys, *arguments):
    """Exit status, standard output and standard error."""
    status = convert.main([str(part) for part in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.backend
def test_one_command_gives_four_files_that_take_pixels(tmp_path, photos, capsys):
    model = saved(tmp_path / "my.keras", ending="softmax")
    out = tmp_path / "out"
    status, text, _ = run(
        *(
            capsys,
            tmp_path / "my.keras",
            "--images",
            photos,
            "--input-range",
            0,
            1,
            "--qat",
            "--epochs",
            1,
            "--out",
            out,
        )
    )
    assert status == 0
    assert "accuracy (the model's: " in text
    assert "Fine-tuning: " in text
    pixels = np.random.default_rng(1).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    expected = model.predict(pixels.astype("float32") / 255, verbose=0)
    for scheme in quantization.SCHEMES:
        content = (out / f"{scheme}.tflite").read_bytes()
        card = json.loads((out / f"{scheme}.json").read_text())
        assert auditing.card_differences(content, card) == []
        assert card["labels"] == list(COLOURS)
        assert card["images"] == 12
        assert card["same_class"]["low"] <= card["same_class"]["value"] <= card["same_class"]["high"]
        np.testing.assert_allclose(quantization.Runner(content)(pixels), expected, atol=0.05)
    assert predict.main([str(out / "int8.tflite"), str(photos / "red" / "0.png")]) == 0
    assert "red" in capsys.readouterr().out


def test_a_folder_without_classes_compares_with_the_model_alone(tmp_path, photos, capsys):
    saved(tmp_path / "my.keras", scale=1 / 255)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(photos.rglob("*.png")):
        file.rename(flat / f"{number}.png")
    (flat / "notes.txt").write_text("mine")
    (flat / "raw.nef").write_bytes(b"II*\0")
    flags = ["--schemes", "int8", "--resize", "pad", "--intensity-range", 0, 250, "--out", tmp_path / "out"]
    status, text, error = run(capsys, tmp_path / "my.keras", "--images", flat, *flags)
    assert status == 0
    assert "accuracy" not in text
    assert "1 file is no image and left out: notes.txt" in error
    assert "raw.nef was skipped: a camera raw file; convert it to JPEG." in text
    card = json.loads((tmp_path / "out" / "int8.json").read_text())
    assert card["data"] == {"resize": "pad", "intensity_range": [0, 250]}
    assert card["pixels"].endswith("; the files' values 0 to 250 are 0 to 255 in the images")
    assert card["labels"] == ["class 0", "class 1", "class 2"]
    assert "accuracy" not in card


def test_a_layer_without_an_integer_operator_leaves_the_float_files(tmp_path, photos, capsys):
    saved(tmp_path / "my.keras", scale=1 / 255, middle=layers.GroupNormalization(2, name="odd"))
    status, text, _ = run(capsys, tmp_path / "my.keras", "--images", photos, "--out", tmp_path / "out")
    assert status == 1
    assert "No int8 file: The layer 'odd' (GroupNormalization) cannot be quantized" in text
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tflite")) == ["dynamic.tflite", "float32.tflite"]
    status, _, error = run(
        *(capsys, tmp_path / "my.keras", "--images", photos, "--schemes", "int8", "--out", tmp_path / "other")
    )
    assert status == 2
    assert error.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_one_sigmoid_has_two_classes(tmp_path, photos, capsys, phone_answers):
    saved(tmp_path / "my.keras", scale=1 / 255, classes=1, ending="sigmoid")
    for file in (photos / "green").iterdir():
        file.unlink()
    (photos / "green").rmdir()
    arguments = ("--schemes", "int8", "qat", "--epochs", 1, "--out", tmp_path / "out")
    status, _, _ = run(capsys, tmp_path / "my.keras", "--images", photos, *arguments)
    assert status == 0
    for scheme in ("int8", "qat"):
        card = json.loads((tmp_path / "out" / f"{scheme}.json").read_text())
        assert card["labels"] == ["blue", "red"]
        assert card["output"] == "uint8 (1, 2)"  # Phones' libraries want a score for each class.
        assert card["same_class"]["value"] > 0.9
    files = sorted(photos.rglob("*.png"))
    pixels = np.stack([cv2.resize(cv2.imread(str(file))[..., ::-1], SHAPE[1::-1]) for file in files])
    content = (tmp_path / "out" / "int8.tflite").read_bytes()
    answers = [("blue", "red")[row.argmax()] for row in quantization.Runner(content)(pixels)]
    assert set(answers) == {"blue", "red"}
    assert phone_answers(content, pixels) == answers


def test_a_size_and_an_output_can_be_chosen(tmp_path, photos, capsys):
    images = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(images))
    heads = {"kind": layers.Dense(3, name="kind")(x), "age": layers.Dense(2, name="age")(x)}
    keras.Model(images, heads).save(tmp_path / "my.keras")
    common = (tmp_path / "my.keras", "--images", photos, "--schemes", "int8", "--out", tmp_path / "out")
    for more, message in (
        ((), "has 2 outputs: kind, age. Choose one with --output NAME"),
        (("--output", "colour"), "no output called 'colour'. Its outputs: kind, age"),
        (("--output", "kind"), "of any size, (None, None, 3). Choose one with --size N"),
        (("--output", "kind", "--size", "9x9x9"), "--size takes a side or HEIGHTxWIDTH"),
    ):
        status, _, error = run(capsys, *common, *more)
        assert (status, message in error, error.count("\n")) == (2, True, 1), error
    status, text, _ = run(capsys, *common, "--output", "kind", "--size", "16x12")
    assert status == 0
    assert "16 x 12 x 3" in text
    assert json.loads((tmp_path / "out" / "int8.json").read_text())["input"] == "uint8 (1, 16, 12, 3)"
    # `predict` and `explain` take the same flags.
    flags = [str(tmp_path / "my.keras"), str(photos / "red" / "0.png"), "--output", "kind", "--size", "16x12"]
    assert predict.main(flags) == 0
    assert explain.main([*flags, "--method", "integrated-gradients", "--out", str(tmp_path / "explained")]) == 0


def test_a_custom_layer_is_imported(tmp_path, photos, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('theirs')\n"
        "class Doubled(keras.layers.Layer):\n"
        "    def call(self, values):\n"
        "        return keras.ops.relu(values) * 2.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import their_layers  # pyright: ignore[reportMissingImports]

    saved(tmp_path / "my.keras", scale=1 / 255, middle=their_layers.Doubled())
    keras.saving.get_custom_objects().clear()
    del sys.modules["their_layers"]
    common = ("my.keras", "--images", photos, "--schemes", "float32", "int8", "--out", "out")
    status, _, error = run(capsys, *common)
    assert (status, error.count("\n")) == (2, 1)
    assert "the class 'Doubled', which Keras does not know. Pass --import MODULE" in error
    status, _, error = run(capsys, *common, "--import", "no_such_module")
    assert status == 2
    assert "--import no_such_module cannot be imported" in error
    assert run(capsys, *common, "--import", "their_layers")[0] == 0


def test_mistakes_are_one_sentence_and_nothing_is_written(tmp_path, photos, capsys):
    saved(tmp_path / "my.keras")
    few = tmp_path / "few"
    few.mkdir()
    next(photos.rglob("*.png")).rename(few / "0.png")
    (tmp_path / "file").write_text("")
    made = tmp_path / "made"
    made.mkdir()
    (made / "int8.tflite").write_bytes(b"mine")
    model = tmp_path / "my.keras"
    for arguments, message in (
        ((model, "--images", photos), "its input range is not known. Pass --input-range 0 1"),
        ((model, "--images", few, "--input-range", 0, 1), "has 1 images that can be read; at least 8 are needed"),
        ((model, "--images", tmp_path / "none", "--input-range", 0, 1), "does not exist"),
        ((made / "int8.tflite", "--images", photos), "convert takes a .keras file or a run's folder"),
        ((model, "--images", photos, "--out", tmp_path / "file"), "--out needs a folder"),
        ((model, "--images", photos, "--out", made), "int8.tflite exists"),
        ((model, "--images", photos, "--epochs", 0), "a number of at least 1"),
    ):
        place = () if "--out" in arguments else ("--out", tmp_path / "out")
        status, _, error = run(capsys, *arguments, *place)
        assert (status, message in error, error.count("\n")) == (2, True, 1), error
    assert not (tmp_path / "out").exists()
    assert (made / "int8.tflite").read_bytes() == b"mine"


@pytest.mark.parametrize(("name", "message"), [("int8.json", "int8.json exists"), ("labels.txt", "other class names")])
def test_a_file_of_the_users_is_not_replaced(tmp_path, photos, capsys, name, message):
    saved(tmp_path / "my.keras", scale=1 / 255)
    mine = tmp_path / "mine" / name
    mine.parent.mkdir()
    mine.write_text("mine\n")
    flags = ("--images", photos, "--schemes", "int8", "--out", mine.parent)
    status, _, error = run(capsys, tmp_path / "my.keras", *flags)
    assert (status, message in error, error.count("\n")) == (2, True, 1), error
    assert [path.name for path in mine.parent.iterdir()] == [name]
    assert mine.read_text() == "mine\n"
    assert run(capsys, tmp_path / "my.keras", *flags, "--overwrite")[0] == 0


def test_an_npz_file_has_images_and_labels(tmp_path, capsys):
    saved(tmp_path / "my.keras", scale=1 / 255)
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 20), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(0, 3, (count, 1))
    np.savez(tmp_path / "data.npz", **arrays)
    common = (tmp_path / "my.keras", "--schemes", "int8", "--out", tmp_path / "out", "--images")
    status, text, _ = run(capsys, *common, tmp_path / "data.npz")
    assert status == 0
    assert "30 images of 20 x 20 x 3" in text
    np.savez(tmp_path / "small.npz", **{name: part[:, :9] if part.ndim == 4 else part for name, part in arrays.items()})
    status, _, error = run(capsys, *common, tmp_path / "small.npz", "--overwrite")
    assert status == 2
    assert "images of shape (9, 20, 3), but the model takes (20, 20, 3)" in error


def test_several_sigmoids_are_fine_tuned_to_their_own_answers(tmp_path, photos, capsys):
    saved(tmp_path / "my.keras", scale=1 / 255, ending="sigmoid")
    arguments = ("--schemes", "int8", "--qat", "--out", tmp_path / "out")
    status, text, _ = run(capsys, tmp_path / "my.keras", "--images", photos, *arguments)
    assert status == 0
    assert "its labels are not used, since they are not those of the model" in text
    card = json.loads((tmp_path / "out" / "qat.json").read_text("utf-8"))
    assert card["same_class"]["value"] > 0.8
    assert set(card["thresholds"].values()) == {0.5}
    assert "accuracy" not in card


def test_the_python_code_of_the_guide_runs(tmp_path, photos, capsys, monkeypatch):
    saved(tmp_path / "my.keras", scale=1 / 255)
    assert (
        run(capsys, tmp_path / "my.keras", "--images", photos, "--schemes", "int8", "--out", tmp_path / "out")[0] == 0
    )
    (photos / "green" / "0.png").rename(tmp_path / "out" / "photo.png")
    monkeypatch.chdir(tmp_path / "out")
    guide = (Path(__file__).parents[1] / "docs" / "your-own-model.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(import numpy.*?)```", guide, re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # A short example closes no files.
        exec(compile(code, "your-own-model.md", "exec"), {})
    assert capsys.readouterr().out.startswith("green 0.")


@pytest.mark.parametrize(("typed", "status"), [([], 1), (["--schemes", "dynamic"], 2)])
def test_without_tensorflow_there_are_integer_files_or_one_sentence(
    tmp_path, photos, capsys, monkeypatch, typed, status
):
    def unknown(*given, **named):
        raise InputError("No operator.")

    monkeypatch.setattr(tflite, "is_installed", lambda: False)
    monkeypatch.setattr(conversion, "write_float_file", unknown)
    saved(tmp_path / "my.keras", ending="softmax")
    flags = ["--images", photos, "--input-range", 0, 1, "--out", tmp_path / "out", *typed]
    found, output, error = run(capsys, tmp_path / "my.keras", *flags)
    assert found == status, error
    assert "and it is not installed: pip install tensorflow." in (error if typed else output)
    assert (tmp_path / "out" / "int8.tflite").exists() != bool(typed)
    assert not (tmp_path / "out" / "float32.tflite").exists()


@pytest.mark.slow
def test_exports_are_of_the_model_that_takes_pixels(tmp_path, photos, capsys):
    import onnxruntime

    model = saved(tmp_path / "my.keras", ending="softmax")
    out = tmp_path / "out"
    common = (tmp_path / "my.keras", "--images", photos, "--input-range", 0, 1, "--schemes", "int8", "--out", out)
    status, text, _ = run(capsys, *common, "--export", "c_array", "onnx")
    assert status == 0
    assert re.search(r"onnx +model.onnx +onnxruntime [\d.]+ +12 +100.00%", text)
    pixels = np.random.default_rng(1).integers(0, 256, (4, *SHAPE)).astype("float32")
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    expected = model.predict(pixels / 255, verbose=0)
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], expected, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == list(COLOURS)
    assert c_array.bytes_of((out / "model.c").read_text()) == (out / "int8.tflite").read_bytes()
    rows = json.loads((out / "exports.json").read_text())
    assert [row["format"] for row in rows] == ["onnx", "c_array"]
    status, _, error = run(capsys, *common[:-1], tmp_path, "--schemes", "float32", "--export", "c_array")
    assert (status, "they need int8 or qat in --schemes" in error) == (2, True)
    (out / "int8.tflite").unlink()
    (out / "int8.json").unlink()
    status, _, error = run(capsys, *common, "--export", "c_array")
    assert (status, "model.h exists. Choose another folder" in error) == (2, True)


def test_a_format_that_is_refused_leaves_the_others(tmp_path, photos, capsys, monkeypatch):
    def refused(*args, **kwargs):
        raise InputError("It computes something else.")

    monkeypatch.setattr(exporting, "export", refused)
    saved(tmp_path / "my.keras", scale=1 / 255)
    out = tmp_path / "out"
    flags = ("--schemes", "int8", "--export", "onnx", "c_array", "--out", out)
    status, text, _ = run(capsys, tmp_path / "my.keras", "--images", photos, *flags)
    assert status == 1
    assert "No onnx file: It computes something else." in text
    assert {path.name for path in out.iterdir()} >= {"int8.tflite", "model.c", "model.h"}
    assert not (out / "model.onnx").exists()
