"""The reference for geometry is Keras's legacy `apply_transform`, which ImageDataGenerator used."""

import keras
import numpy as np
import pytest
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from keras_vision import derma
from keras_vision.data import Batches, Split, augmentation
from keras_vision.data.augmentation import augment, transform
from keras_vision.data.draws import uniforms
from keras_vision.recipe import AugmentationSpec, InputError

STRONG = {
    "rotation_range": 180,
    "width_shift_range": 0.5,
    "height_shift_range": 0.5,
    "shear_range": 40,
    "zoom_range": 0.5,
    "horizontal_flip": True,
    "vertical_flip": True,
}
JITTER = {"contrast": 0.5, "saturation": 0.5, "hue": 0.2}
COLOURED = {**STRONG, "rotation_range": 20, "channel_shift_range": 40, "brightness_range": (0.4, 1.7)}


def smooth_images(count, channels=3):
    """Smooth images, like photographs, with one hard edge each."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 7, 7, channels)).repeat(4, 1).repeat(4, 2)
    return (coarse * 0.7 + rng.integers(0, 76, (count, 28, 28, channels))).astype(np.uint8)


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("ranges", [STRONG, COLOURED], ids=["geometry", "colour"])
@pytest.mark.parametrize("channels", [1, 3])
def test_500_random_transforms_match_keras(fill_mode, ranges, channels):
    generator = ImageDataGenerator(fill_mode=fill_mode, cval=17.0, **ranges)
    images = smooth_images(500, channels)
    drawn = [generator.get_random_transform(images.shape[1:], seed=seed) for seed in range(500)]
    expected = np.stack(
        [generator.apply_transform(image.astype(np.float32), one) for image, one in zip(images, drawn, strict=True)]
    )
    batched = {key: np.array([one[key] for one in drawn]) for key in drawn[0] if drawn[0][key] is not None}
    error = np.abs(transform(images, batched, fill_mode, 17.0) - expected)
    assert error.max() <= 2
    assert error.mean() < 0.01


def test_the_reference_notebooks_recipe_stays_within_its_ranges():
    draws = uniforms(0, 0, 2000)
    drawn = augmentation.parameters(derma.AUGMENTATION, draws, (28, 28))
    assert drawn.keys() == {"theta", "tx", "ty", "zx", "zy", "flip_horizontal"}
    for name, reach, middle in (("theta", 15, 0), ("tx", 2.8, 0), ("ty", 2.8, 0), ("zx", 0.2, 1), ("zy", 0.2, 1)):
        assert reach * 0.99 < np.abs(drawn[name] - middle).max() <= reach
    assert 0.45 < drawn["flip_horizontal"].mean() < 0.55


def collect(batches):
    """Every image of an epoch by its index in the split."""
    images = np.empty((len(batches.split), 28, 28, 3), np.float32)
    for number in range(len(batches)):
        rows = batches._order[number * batches.batch_size : (number + 1) * batches.batch_size]
        images[rows] = batches[number][0]
    return images


@pytest.mark.parametrize(
    "spec",
    [
        AugmentationSpec(**COLOURED, **JITTER, rotate90=True, cutout=0.3, noise=5, random_crop=4, random_erasing=0.5),
        AugmentationSpec(**JITTER, horizontal_flip=True, rotate90=True, random_crop=4, random_erasing=0.5),
        AugmentationSpec(random_crop=4, vertical_flip=True, fill_mode="constant"),
        AugmentationSpec(random_resized_crop=0.2, rotation_range=10, horizontal_flip=True),
    ],
    ids=["all", "whole pixels", "crop", "resized crop"],
)
def test_batch_size_order_and_threads_change_no_image(spec, monkeypatch):
    split = Split(smooth_images(150), np.arange(150) % 2)
    kinds = [(64, False), (7, True), (150, True), (1, False)]
    results = []
    for batch_size, shuffle in kinds:
        batches = Batches(split, 2, batch_size, augmentation=spec, shuffle=shuffle, seed=9)
        batches.start_epoch(4)
        results.append(collect(batches))
    monkeypatch.setattr(augmentation, "THREADED_PIXELS", 0)
    batches.batch_size = 150
    results.append(collect(batches))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_workers_change_no_image():
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    split = Split(smooth_images(60), np.arange(60) % 2)
    results = []
    for workers in (1, 3):
        batches = Batches(split, 2, 16, augmentation=AugmentationSpec(**STRONG), shuffle=True, seed=1)
        batches.workers = workers
        adapter = PyDatasetAdapter(batches)
        adapter.on_epoch_begin()
        results.append([np.asarray(batch[0]) for _, batch in zip(range(4), adapter.get_numpy_iterator(), strict=False)])
        adapter.on_epoch_end()
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_epochs_differ_and_can_be_replayed():
    batches = Batches(Split(smooth_images(40), np.arange(40) % 2), 2, 40, augmentation=AugmentationSpec(**STRONG))
    first = batches[0][0]
    batches.start_epoch(1)
    assert not np.array_equal(batches[0][0], first)
    batches.start_epoch(0)
    assert np.array_equal(batches[0][0], first)


def test_a_shift_to_the_right_moves_the_image_left_by_hand():
    # tx is added to where a pixel is read: column 1 of the result is column 2 of the image.
    row = np.array([0, 50, 100, 200], np.uint8).reshape(1, 1, 4, 1)
    moved = transform(row, {"tx": np.array([1.0])})
    assert moved.ravel().tolist() == [50, 100, 200, 200]


def test_half_a_pixel_is_the_mean_of_two_by_hand():
    row = np.array([0, 50, 100, 200], np.uint8).reshape(1, 1, 4, 1)
    assert transform(row, {"tx": np.array([0.5])}).ravel().tolist() == [25, 75, 150, 200]


@pytest.mark.parametrize("shape", [(64, 64, 3), (224, 224, 3), (224, 224, 1), (40, 300, 3), (2500, 30, 1)])
def test_any_size_matches_keras(shape):
    image = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    drawn = {"theta": np.array([20.0, -170.0]), "zx": np.array([0.8, 1.1]), "zy": np.array([1.2, 1.0])}
    changed = transform(image, drawn)
    if shape[0] == shape[1]:  # Keras rotates other images about a point next to their centre.
        generator = ImageDataGenerator()
        for index in range(2):
            one = {key: values[index] for key, values in drawn.items()}
            expected = generator.apply_transform(image[index].astype(np.float32), one)
            assert np.abs(changed[index] - expected).max() < 0.2
    assert changed.shape == image.shape
    assert np.array_equal(transform(image[1:], {key: values[1:] for key, values in drawn.items()}), changed[1:])


def test_alternate_flips_show_each_image_both_ways_in_two_epochs():
    images = np.arange(2 * 200, dtype=np.uint8).reshape(1, 1, 400, 1)[:, :, :2] + np.zeros((200, 1, 1, 1), np.uint8)
    spec = AugmentationSpec(horizontal_flip=True, alternate_flips=True)
    batches = Batches(Split(images, np.zeros(200, int)), 2, 200, augmentation=spec)
    flipped = []
    for epoch in range(4):
        batches.start_epoch(epoch)
        flipped.append(batches[0][0][:, 0, 0, 0] == 1)
    assert np.array_equal(flipped[0], ~flipped[1])
    assert np.array_equal(flipped[2], ~flipped[3])
    assert 60 < (flipped[0] != flipped[2]).sum() < 140
    assert 60 < flipped[0].sum() < 140


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_are_exact(turns):
    images = smooth_images(3)
    turned = transform(images, {"quarter_turns": np.full(3, turns)})
    assert np.array_equal(turned, np.rot90(images, turns, (1, 2)))


@pytest.mark.parametrize(("flag", "axis"), [("flip_horizontal", 2), ("flip_vertical", 1)])
def test_flips_are_exact(flag, axis):
    images = smooth_images(4)
    flipped = transform(images, {flag: np.array([True, False, True, False])})
    assert np.array_equal(flipped[::2], np.flip(images[::2], axis))
    assert np.array_equal(flipped[1::2], images[1::2])


def test_ranges_move_images_in_the_direction_of_their_names():
    column = np.zeros((64, 28, 28, 1), np.uint8)
    column[:, :, 14] = 255
    moved = augment(column, AugmentationSpec(height_shift_range=0.3), uniforms(0, 0, 64))
    assert np.array_equal(moved, column)
    moved = augment(column, AugmentationSpec(width_shift_range=0.3), uniforms(0, 0, 64))
    assert len(np.unique(moved.argmax(axis=2)[:, 0])) > 8


def test_isotropic_zoom_keeps_circles_round():
    drawn = augmentation.parameters(AugmentationSpec(zoom_range=0.3, isotropic_zoom=True), uniforms(0, 0, 9), (8, 8))
    assert np.array_equal(drawn["zx"], drawn["zy"])


def test_a_rotation_turns_a_wide_image_about_its_centre():
    image = np.zeros((1, 9, 21, 1), np.uint8)
    image[0, 4, 10] = 255
    turned = transform(image, {"theta": np.array([90.0])})
    assert np.argwhere(turned[0, :, :, 0] > 200).tolist() == [[4, 10]]


def test_how_an_array_lies_in_memory_changes_no_colour():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 7), dtype=np.uint8).transpose(0, 2, 3, 1)[..., :3]
    spec, draws = AugmentationSpec(**JITTER), uniforms(0, 0, 3)
    changed = augment(images, spec, draws)
    assert np.abs(changed - images).max() > 5
    np.testing.assert_array_equal(changed, augment(np.ascontiguousarray(images), spec, draws))


def test_alternate_flips_without_flips_are_refused():
    with pytest.raises(InputError, match="--alternate-flips goes with --horizontal-flip"):
        AugmentationSpec(alternate_flips=True)


def test_cutout_blanks_a_square_with_the_mean_colour():
    images = smooth_images(200)
    changed = augment(images, AugmentationSpec(cutout=0.5), uniforms(0, 0, 200))
    different = (changed != images).any(-1)
    areas = different.sum((1, 2))
    assert areas.max() <= 15 * 15
    assert areas.min() >= 6 * 6
    first = np.flatnonzero(different[0].any(1))
    inside = changed[0][different[0]]
    assert np.allclose(inside, images[0].mean((0, 1)), atol=1e-3)
    assert np.array_equal(first, np.arange(first[0], first[-1] + 1))


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"depth_shift_range": 0.1}, "--depth-shift-range"),
        ({"depth_flip": True}, "--depth-flip"),
        ({"rotate_cube": True}, "--rotate-cube"),
    ],
)
def test_changes_of_volumes_are_refused_by_name(change, flag):
    with pytest.raises(InputError, match=f"{flag} is only for volumes"):
        augment(smooth_images(2), AugmentationSpec(**change), uniforms(0, 0, 2))


def test_noise_has_the_requested_standard_deviation():
    gray = np.full((50, 28, 28, 3), 128, np.uint8)
    noise = augment(gray, AugmentationSpec(noise=10), uniforms(0, 0, 50)) - gray
    # 117,600 draws: four standard errors are 0.12 for the mean and 0.08 for the spread.
    assert abs(noise.mean()) < 0.12
    assert abs(noise.std() - 10) < 0.08
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    assert augment(smooth_images(50), AugmentationSpec(noise=80), uniforms(0, 0, 50)).max() == 255


def test_an_empty_spec_changes_nothing():
    images = smooth_images(5)
    assert np.array_equal(augment(images, AugmentationSpec(), uniforms(0, 0, 5)), images)


def test_the_images_are_not_modified():
    images = smooth_images(20)
    before = images.copy()
    augment(images, AugmentationSpec(**COLOURED, **JITTER, cutout=0.4, random_erasing=1.0), uniforms(0, 0, 20))
    augment(images, AugmentationSpec(**JITTER, random_crop=3), uniforms(0, 0, 20))
    assert np.array_equal(images, before)


def test_arrays_of_other_shapes_and_uneven_quarter_turns_are_refused():
    with pytest.raises(InputError, match="takes images of shape"):
        augment(np.zeros((4, 4, 1), np.uint8), AugmentationSpec(), uniforms(0, 0, 4))
    with pytest.raises(InputError, match="square"):
        augment(np.zeros((2, 4, 6, 1), np.uint8), AugmentationSpec(rotate90=True), uniforms(0, 0, 2))


def test_batches_are_float_images_and_one_hot_labels():
    batches = Batches(Split(smooth_images(10), np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])), 3, 4)
    assert len(batches) == 3
    images, labels = batches[2]
    assert images.dtype == np.float32
    assert images.shape == (2, 28, 28, 3)
    assert labels.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert isinstance(batches, keras.utils.PyDataset)


def test_shuffling_shows_every_image_once():
    batches = Batches(Split(smooth_images(50), np.arange(50)), 50, 8, shuffle=True, seed=2)
    seen = np.concatenate([batches[number][1].argmax(1) for number in range(len(batches))])
    assert sorted(seen) == list(range(50))
    assert seen.tolist() != list(range(50))
