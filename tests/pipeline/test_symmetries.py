"""Averaging over flips and turns: which there are, what they do to pixels, and the mean of known predictions."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision.classifier import Classifier
from keras_vision.pipeline import symmetries
from keras_vision.recipe import AugmentationSpec, InputError, from_dict

SHAPE = (3, 3, 1)
IMAGE = np.arange(9).reshape(1, *SHAPE)


def versions(tta, images=IMAGE):
    return [one(images)[0, ..., 0] for one in symmetries.named(tta, images.shape[1:])]


def test_the_versions_are_those_of_numpys_own_flips_and_turns():
    plain = IMAGE[0, ..., 0]
    turns = [np.rot90(plain, k) for k in range(4)]
    expected = {
        "flip": [plain, plain[:, ::-1]],
        "flips": [plain, plain[:, ::-1], plain[::-1], plain[::-1, ::-1]],
        "turns": turns,
        "all": [*turns, *(turn[:, ::-1] for turn in turns)],
    }
    assert expected.keys() == set(symmetries.NAMED)
    for tta, known in expected.items():
        found = versions(tta)
        assert np.array_equal(found[0], plain)
        assert {one.tobytes() for one in found} == {one.tobytes() for one in known}
        assert len(found) == len(known)
        assert all(one.flags.c_contiguous for one in found)  # torch takes no other.


@pytest.mark.parametrize("tta", symmetries.NAMED)
@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 6, 3), (4, 4, 6, 1), (3, 3, 3, 1)])
def test_they_are_a_group_that_keeps_the_shape(tta, shape):
    """What is done one after the other is among them: the mean is then the same for each version of an image."""
    every = symmetries.named(tta, shape)
    assert all(one.then(other) in every for one, other in itertools.product(every, repeat=2))
    images = np.random.default_rng(0).random((2, *shape))
    for one, other in itertools.islice(itertools.product(every, repeat=2), 300):
        assert one(images).shape == images.shape
        assert np.array_equal(other(one(images)), one.then(other)(images))


@pytest.mark.parametrize(
    ("shape", "counts"),
    [
        ((4, 4, 3), (2, 4, 4, 8)),
        ((4, 6, 3), (2, 4, 2, 4)),  # Of the turns, the half turn is left.
        ((4, 4, 4, 1), (2, 8, 24, 48)),
        ((4, 4, 6, 1), (2, 8, 8, 16)),
        ((3, 4, 5, 1), (2, 8, 4, 8)),
    ],
)
def test_how_many_there_are(shape, counts):
    assert tuple(len(symmetries.named(tta, shape)) for tta in ("flip", "flips", "turns", "all")) == counts


def test_turns_are_told_from_mirror_images():
    assert symmetries.words(symmetries.named("all", SHAPE)) == "8 versions of each image (itself, 3 turned, 4 mirrored)"
    assert symmetries.words(symmetries.named("flip", SHAPE)) == "2 versions of each image (itself, 1 mirrored)"
    assert symmetries.words(symmetries.named("all", (4, 4, 4, 1))).endswith("(itself, 23 turned, 24 mirrored)")


@pytest.mark.parametrize(
    ("augmentation", "shape", "tta"),
    [
        ({"horizontal_flip": True, "rotation_range": 15.0}, SHAPE, "flip"),
        ({"horizontal_flip": True, "vertical_flip": True}, SHAPE, "flips"),
        ({"rotation_range": 180.0}, SHAPE, "turns"),
        ({"rotate90": True}, SHAPE, "turns"),
        ({"rotate90": True, "horizontal_flip": True}, SHAPE, "all"),
        ({"horizontal_flip": True}, (4, 4, 4, 1), "flip"),
        ({"depth_flip": True, "vertical_flip": True, "horizontal_flip": True}, (4, 4, 4, 1), "flips"),
        ({"rotate_cube": True}, (4, 4, 4, 1), "turns"),
        ({"rotate_cube": True, "depth_flip": True}, (4, 4, 4, 1), "all"),
    ],
)
def test_auto_takes_those_of_the_augmentation(augmentation, shape, tta):
    found = symmetries.chosen("auto", AugmentationSpec(**augmentation), shape)
    assert set(found) == set(symmetries.named(tta, shape))


def test_auto_without_flips_and_turns_says_what_to_type():
    spec = AugmentationSpec(rotation_range=90.0, width_shift_range=0.1)
    with pytest.raises(InputError, match="which has none.* name them: --tta flip, flips, turns, all"):
        symmetries.chosen("auto", spec, SHAPE)
    assert len(symmetries.chosen("flip", spec, SHAPE)) == 2
    with pytest.raises(InputError, match="--tta takes one of none, auto, flip, flips, turns, all"):
        from_dict({"evaluation": {"tta": "sideways"}})


def test_the_mean_of_known_predictions():
    """A classifier that looks at one pixel sees each corner once in a turn, and two corners in a flip."""

    def top_left(images):
        share = images[:, 0, 0] / 10
        return np.concatenate([share, 1 - share], axis=1).astype(np.float32)

    for tta, corners in (("flip", (0, 2)), ("turns", (0, 2, 6, 8)), ("all", (0, 2, 6, 8))):
        found = symmetries.mean(top_left, IMAGE, symmetries.named(tta, SHAPE))
        assert found[0] == pytest.approx([np.mean(corners) / 10, 1 - np.mean(corners) / 10])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that sees where the light is: its own answers to an image and to a turned one differ."""
    keras.utils.set_random_seed(0)
    images = keras.Input((6, 6, 1))
    x = layers.Dense(3, activation="softmax")(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    file = tmp_path_factory.mktemp("model") / "model.keras"
    keras.Model(images, x).save(file)
    return file


@pytest.mark.backend
def test_a_classifier_averages_and_its_answer_does_not_change_with_the_image(model):
    images = np.random.default_rng(1).integers(0, 256, (5, 6, 6, 1), dtype=np.uint8)
    plain, averaging = Classifier.open(model), Classifier.open(model, tta="all")
    expected = np.mean([plain.probabilities(one(images)) for one in averaging.versions], axis=0)
    found = averaging.probabilities(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert np.abs(found - plain.probabilities(images)).max() > 0.01
    for turned in (np.rot90(images, axes=(1, 2)), images[:, ::-1]):
        np.testing.assert_allclose(averaging.probabilities(turned), found, atol=1e-6)
        assert np.abs(plain.probabilities(turned) - plain.probabilities(images)).max() > 0.01
    assert all(part > 0 for part in averaging.milliseconds(images))


@pytest.mark.backend
def test_a_network_that_sees_no_direction_is_not_changed(tmp_path):
    images = keras.Input((6, 4, 1))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 1)(layers.Rescaling(1 / 255)(images)))
    keras.Model(images, layers.Dense(2, activation="softmax")(x)).save(tmp_path / "model.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6, 4, 1), dtype=np.uint8)
    plain, averaging = (Classifier.open(tmp_path / "model.keras", tta=tta) for tta in ("none", "all"))
    assert len(averaging.versions) == 4
    np.testing.assert_allclose(averaging.probabilities(pixels), plain.probabilities(pixels), atol=1e-6)


def test_auto_needs_the_recipe_of_a_run(model):
    with pytest.raises(InputError, match="--tta auto asks a run's recipe, and .* has none beside it"):
        Classifier.open(model, tta="auto")
    with pytest.raises(InputError, match="--tta takes one of"):
        Classifier.open(model, tta="sideways")
