"""The files in tflite_exports are what their cards say, down to the accuracy where the data is there."""

import json
from pathlib import Path

import pytest

from keras_vision import audit as audit_command
from keras_vision import data, derma, evaluation, plants, quantization
from keras_vision.recipe import override

FOLDER = Path(__file__).parents[1] / "tflite_exports"
FILES = sorted(FOLDER.glob("*/*.tflite"))
INTEGER_SHARE = 0.27  # Of the float file's bytes.
LESIONS = (derma.RECIPES["best"], "ham10000_5984_28.npz", "CC BY-NC 4.0", "not DermaMNIST")
# Of each network the recipe whose data it takes, that data's place, licence, and what its description must say.
NETWORKS = {
    "derma-baseline-augment": LESIONS,
    "derma-best": LESIONS,
    "plants-robust": (plants.RECIPES["robust"], "flower_photos", "CC BY,", "flower_photos"),
}


def card_of(path):
    return json.loads(path.with_suffix(".json").read_text("utf-8"))


@pytest.fixture
def test_split(real_data, monkeypatch, tmp_path):
    """The test split of a network's data."""

    def load(network):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        recipe = NETWORKS[network][0]
        return data.load_splits(override(recipe, data=str(real_data(NETWORKS[network][1]))).data).test

    return load


def test_each_network_has_four_files():
    schemes = sorted(quantization.SCHEMES)
    assert [path.stem for path in FILES] == schemes * len(NETWORKS)
    assert {path.parent.name for path in FILES} == set(NETWORKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_what_its_card_says(path):
    content, card = path.read_bytes(), card_of(path)
    assert quantization.card_differences(content, card) == []
    assert (card["kind"] == "full-integer") == (path.stem in quantization.INTEGER_SCHEMES)
    found = quantization.read_metadata(content)
    licence, description = NETWORKS[path.parent.name][2:]
    assert licence in found.licence
    assert licence in card["data"]["licence"]
    assert description in card["data"]["description"]
    assert list(found.labels) == card["labels"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_integer_files_are_small(path):
    ratio = path.stat().st_size / path.with_stem("float32").stat().st_size
    assert ratio <= INTEGER_SHARE or path.stem == "float32"


@pytest.mark.real_data
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.slow
def test_a_file_is_as_accurate_as_its_card_says(path, test_split):
    content, card = path.read_bytes(), card_of(path)
    split = test_split(path.parent.name)
    scores = quantization.Runner(content)(split.images[:])
    found = evaluation.judge(split.labels, scores, resamples=10).metrics
    # Integer files answer the same on every processor; in float files the last digit may differ, and an image with it.
    allowed = 0 if path.stem in quantization.INTEGER_SCHEMES else 1.5 / len(split)
    assert found["accuracy"][0] == pytest.approx(card["metrics"]["accuracy"]["value"], abs=allowed + 1e-9)
    drop = 100 * (card["float_metrics"]["accuracy"]["value"] - found["accuracy"][0])
    assert drop <= {"float32": 0.1, "dynamic": 0.2, "int8": 0.5, "qat": 0.4}[path.stem]


@pytest.mark.real_data
@pytest.mark.parametrize("scheme", quantization.SCHEMES)
@pytest.mark.parametrize("network", ["derma-best", "plants-robust"])
@pytest.mark.slow
def test_phones_return_our_labels_on_a_hundred_images(network, scheme, test_split, phone_answers):
    content = (FOLDER / network / f"{scheme}.tflite").read_bytes()
    images = test_split(network).images[:100]
    labels, scores = quantization.read_metadata(content).labels, quantization.Runner(content)(images)
    answers = phone_answers(content, images)
    assert all(row[labels.index(name)] == row.max() for name, row in zip(answers, scores, strict=True))


def test_swapped_labels_are_noticed(tmp_path, capsys):
    path = FOLDER / "derma-best" / "int8.tflite"
    metadata = quantization.read_metadata(path.read_bytes())
    swapped = quantization.Metadata(
        metadata.name, metadata.description, metadata.version, metadata.licence, metadata.labels[::-1]
    )
    bare = tmp_path / "int8.tflite"
    bare.write_bytes(quantization.add_metadata(path.read_bytes(), swapped))
    bare.with_suffix(".json").write_bytes(path.with_suffix(".json").read_bytes())
    assert audit_command.main([str(bare)]) == 1
    assert "labels is" in capsys.readouterr().out


def test_the_folders_readme_names_licence_and_figures():
    text = (FOLDER / "README.md").read_text("utf-8")
    for _, _, licence, description in NETWORKS.values():
        assert licence in text
        assert description in text
    for path in FILES:
        accuracy = card_of(path)["metrics"]["accuracy"]["value"]
        line = next(line for line in text.splitlines() if path.parent.name in line and f"`{path.stem}.tflite`" in line)
        assert f"{accuracy:.4f}" in line
