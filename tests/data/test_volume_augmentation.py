"""The reference for geometry is SciPy's `affine_transform`; turns and flips are worked out by hand."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from keras_vision.data import Batches, Split, augment, augmentation, volume_augmentation
from keras_vision.data.draws import uniforms
from keras_vision.data.volume_augmentation import CUBE_ROTATIONS, parameters, transform
from keras_vision.recipe import AugmentationSpec, InputError

GEOMETRY = {
    "rotation_range": 30,
    "width_shift_range": 0.2,
    "height_shift_range": 0.3,
    "depth_shift_range": 0.4,
    "zoom_range": 0.3,
}
FLIPS = {"horizontal_flip": True, "vertical_flip": True, "depth_flip": True}
INTENSITY = {"brightness_range": (0.7, 1.3), "channel_shift_range": 20, "noise": 8}
ALL = AugmentationSpec(**GEOMETRY, **FLIPS, **INTENSITY, rotate_cube=True)


def volumes(count, shape=(8, 8, 8, 1)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def counted(*shape):
    """One volume whose voxels are 0, 1, 2 and so on, from left to right, top to bottom, front to back."""
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(1, *shape, 1)


def ball(side, radius):
    grid = np.indices((side,) * 3) - (side - 1) / 2
    # The edge fades over two voxels, so that interpolation loses nothing at it.
    inside = np.clip((radius + 1 - np.sqrt(np.square(grid).sum(0))) / 2, 0, 1)
    return np.uint8(200 * inside)[np.newaxis, ..., np.newaxis]


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        ((True, False, False), [4, 5, 6, 7, 0, 1, 2, 3]),
        ((False, True, False), [2, 3, 0, 1, 6, 7, 4, 5]),
        ((False, False, True), [1, 0, 3, 2, 5, 4, 7, 6]),
        ((True, True, True), [7, 6, 5, 4, 3, 2, 1, 0]),
    ],
    ids=["depth", "vertical", "horizontal", "all"],
)
def test_flips_by_hand(flips, expected):
    assert transform(counted(2, 2, 2), {"flip": np.array([flips])}).ravel().tolist() == expected


@pytest.mark.parametrize(("flag", "axis"), [("depth_flip", 1), ("vertical_flip", 2), ("horizontal_flip", 3)])
def test_each_flag_flips_its_own_axis_half_the_time(flag, axis):
    images = np.repeat(counted(3, 4, 5), 400, axis=0)
    changed = augment(images, AugmentationSpec(**{flag: True}), uniforms(0, 0, 400))
    flipped = (changed != images).any((1, 2, 3, 4))
    assert np.array_equal(changed[flipped], np.flip(images[flipped], axis))
    assert 160 < flipped.sum() < 240


def test_turns_of_the_cube_are_its_24_rotations_and_no_mirror_image():
    cube = counted(2, 2, 2)
    turned = transform(np.repeat(cube, 24, axis=0), {"cube_rotation": np.arange(24)})
    assert np.array_equal(turned[0], cube[0])
    # Every rotation of the cube is some quarter turns about each axis in turn; NumPy's turns are rotations.
    rotations = set()
    for a, b, c in itertools.product(range(4), repeat=3):
        one = np.rot90(np.rot90(np.rot90(cube[0, ..., 0], a, (1, 2)), b, (0, 2)), c, (0, 1))
        rotations.add(tuple(one.ravel().tolist()))
    assert len(rotations) == 24
    assert {tuple(one.ravel().astype(int).tolist()) for one in turned} == rotations
    assert tuple(cube[0, ::-1].ravel().tolist()) not in rotations


def test_a_mask_stays_a_mask_of_about_its_size_and_a_gray_volume_gray():
    mask = np.where(ball(16, 5) > 100, np.uint8(255), np.uint8(0))
    spec = AugmentationSpec(rotation_range=45, depth_shift_range=0.1)
    changed = augment(np.repeat(mask, 40, axis=0), spec, uniforms(0, 0, 40))
    assert np.unique(changed).tolist() == [0, 255]
    assert (changed != mask).any((1, 2, 3, 4)).all()
    sizes = (changed == 255).sum((1, 2, 3, 4)) / (mask == 255).sum()
    np.testing.assert_allclose(sizes, 1, atol=0.06)
    gray = mask.copy()
    gray[0, 8, 8, 8] = 254
    assert len(np.unique(augment(gray, spec, uniforms(0, 0, 1)))) > 10


def test_turns_of_the_cube_are_equally_frequent():
    drawn = parameters(AugmentationSpec(rotate_cube=True), uniforms(0, 0, 24_000), (8, 8, 8))["cube_rotation"]
    counts = np.bincount(drawn, minlength=24)
    assert len(counts) == len(CUBE_ROTATIONS) == 24
    assert np.abs(counts - 1000).max() < 125  # Four standard deviations of a count.


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ((1, 0, 0), [9, 10, 11, 12, 13, 14, 15, 16, 17] + 2 * [18, 19, 20, 21, 22, 23, 24, 25, 26]),
        (
            (0, 1, 0),
            [3, 4, 5, 6, 7, 8, 6, 7, 8, 12, 13, 14, 15, 16, 17, 15, 16, 17, 21, 22, 23, 24, 25, 26, 24, 25, 26],
        ),
        ((0, 0, -1), [0, 0, 1, 3, 3, 4, 6, 6, 7, 9, 9, 10, 12, 12, 13, 15, 15, 16, 18, 18, 19, 21, 21, 22, 24, 24, 25]),
    ],
    ids=["depth", "height", "width"],
)
def test_shifts_by_whole_voxels_by_hand(shift, expected):
    # As for 2D images, a shift is added to where a voxel is read.
    assert transform(counted(3, 3, 3), {"shift": np.array([shift])}).ravel().tolist() == expected


def test_a_constant_fills_the_voxels_that_a_shift_uncovers():
    moved = transform(counted(3, 3, 3), {"shift": np.array([[1.0, 0, 0]])}, "constant", 77)
    assert moved.ravel().tolist() == [*range(9, 27), *([77] * 9)]


def test_half_a_voxel_is_the_mean_of_two_by_hand():
    column = np.array([0, 50, 100, 200], np.uint8).reshape(1, 4, 1, 1, 1)
    assert transform(column, {"shift": np.array([[0.5, 0, 0]])}).ravel().tolist() == [25, 75, 150, 200]


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("shape", [(8, 8, 8, 1), (5, 6, 7, 3), (65, 64, 64, 1)])
def test_no_rotation_no_shift_and_zoom_1_is_identity(shape, fill_mode):
    images = volumes(1, shape)
    drawn = {"rotation": np.zeros((1, 3)), "shift": np.zeros((1, 3)), "zoom": np.ones((1, 3))}
    assert np.array_equal(transform(images, drawn, fill_mode, 9), images)


@pytest.mark.parametrize(
    ("axis", "plane"), [(0, (2, 3)), (1, (1, 3)), (2, (1, 2))], ids=["about depth", "about height", "about width"]
)
def test_a_rotation_by_90_degrees_turns_about_its_own_axis(axis, plane):
    images = volumes(1, (6, 6, 6, 1))
    turned = transform(images, {"rotation": 90.0 * np.eye(3)[[axis]]})
    assert np.abs(turned - np.rot90(images, 1, plane)).max() < 0.05


def test_rotations_follow_one_another_about_depth_height_and_width():
    images = volumes(1, (6, 6, 6, 1))
    expected = np.rot90(np.rot90(np.rot90(images, 1, (2, 3)), -1, (1, 3)), 1, (1, 2))
    turned = transform(images, {"rotation": np.array([[90.0, -90, 90]])})
    assert np.abs(turned - expected).max() < 0.05


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
def test_within_its_planes_a_volume_moves_like_2d_images(fill_mode):
    images = volumes(6, (5, 12, 12, 1))
    rng = np.random.default_rng(1)
    theta, (ty, tx), (zy, zx) = rng.uniform(-90, 90, 6), rng.uniform(-3, 3, (2, 6)), rng.uniform(0.7, 1.3, (2, 6))
    zero, one = np.zeros(6), np.ones(6)
    drawn = {
        "rotation": np.stack([theta, zero, zero], axis=1),
        "shift": np.stack([zero, ty, tx], axis=1),
        "zoom": np.stack([one, zy, zx], axis=1),
    }
    changed = transform(images, drawn, fill_mode, 17.0)
    for plane in range(5):
        in_plane = {"theta": theta, "tx": tx, "ty": ty, "zx": zx, "zy": zy}
        expected = augmentation.transform(images[:, plane], in_plane, fill_mode, 17.0)
        assert np.abs(changed[:, plane] - expected).max() < 0.1


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("shape", [(28, 28, 28, 1), (9, 12, 15, 3)])
def test_geometry_is_that_of_scipy(fill_mode, shape):
    images = ndimage.uniform_filter(volumes(20, shape).astype(float), (0, 3, 3, 3, 0)).astype(np.uint8)
    draws = uniforms(1, 2, 20)
    drawn = parameters(AugmentationSpec(**GEOMETRY), draws, shape[:3])
    changed = transform(images, drawn, fill_mode, 17.0)
    linear, shift = volume_augmentation._affine(drawn, 20)
    centre = (np.array(shape[:3]) - 1) / 2
    for index, channel in itertools.product(range(20), range(shape[3])):
        start = centre + shift[index] - linear[index] @ centre
        expected = ndimage.affine_transform(
            images[index, ..., channel].astype(float), linear[index], start, order=1, mode=fill_mode, cval=17.0
        )
        assert np.abs(changed[index, ..., channel] - expected).max() < 0.05


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_volumes_of_many_rows_or_channels_are_as_exact(monkeypatch, channels):
    images, draws = volumes(4, (10, 10, 10, channels)), uniforms(0, 0, 4)
    spec = AugmentationSpec(**GEOMETRY)
    few = augment(images, spec, draws)
    assert np.abs(augment(images[..., :1], spec, draws) - few[..., :1]).max() < 0.05
    monkeypatch.setattr(volume_augmentation, "_MOST_ROWS", 50)
    assert np.abs(augment(images, spec, draws) - few).max() < 0.05


def test_rotation_keeps_a_ball_in_the_middle():
    image = np.repeat(ball(24, 7), 30, axis=0)
    turned = augment(image, AugmentationSpec(rotation_range=180), uniforms(0, 0, 30))
    assert np.abs(turned.sum((1, 2, 3, 4)) / image[0].sum() - 1).max() < 0.005
    assert np.abs(turned - image).max() < 25
    assert np.abs(turned - image).mean() < 1


def test_parameters_stay_in_their_ranges():
    drawn = parameters(ALL, uniforms(0, 0, 3000), (10, 20, 40))
    reaches = {"rotation": 30, "shift": np.array([4, 6, 8]), "zoom": 0.3}
    for name, reach in reaches.items():
        away = np.abs(drawn[name] - (name == "zoom")).max(0)
        assert (away <= reach).all()
        assert (away > 0.99 * reach).all()
    assert 0.7 <= drawn["brightness"].min() < 0.71
    assert 19.9 < drawn["offset"].max() <= 20


def test_isotropic_zoom_keeps_balls_round():
    drawn = parameters(AugmentationSpec(zoom_range=0.3, isotropic_zoom=True), uniforms(0, 0, 9), (8, 8, 8))
    assert drawn["zoom"].shape == (9, 3)
    assert (np.ptp(drawn["zoom"], axis=1) == 0).all()
    assert len(np.unique(drawn["zoom"])) == 9


def test_intensity_is_a_factor_and_an_offset_clipped_to_the_range_by_hand():
    image = np.array([0, 20, 100, 200], np.uint8).reshape(1, 4, 1, 1, 1)
    brighter = transform(image, {"brightness": np.array([1.5]), "offset": np.array([-30.5])})
    assert brighter.ravel().tolist() == [0, 0, 119.5, 255]


def test_noise_is_new_for_each_volume_and_repeatable_for_each_row():
    gray = np.full((30, 16, 16, 16, 1), 128, np.uint8)
    draws = uniforms(0, 0, 30)
    noise = augment(gray, AugmentationSpec(noise=10), draws) - gray
    assert abs(noise.std() - 10) < 0.08  # 122,880 draws: four standard errors.
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.07
    again = augment(gray[:1], AugmentationSpec(noise=10), draws[7:8]) - gray[:1]
    assert np.array_equal(again[0], noise[7])


def test_batch_size_and_order_change_no_volume():
    images = volumes(60)
    split = Split(images, np.arange(60) % 2)
    results = []
    for batch_size, shuffle in ((16, False), (7, True), (60, True), (1, False)):
        batches = Batches(split, 2, batch_size, augmentation=ALL, shuffle=shuffle, seed=9)
        batches.start_epoch(4)
        found = np.empty(images.shape, np.float32)
        for number in range(len(batches)):
            found[batches._order[number * batch_size : (number + 1) * batch_size]] = batches[number][0]
        results.append(found)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    batches.start_epoch(5)
    assert not np.array_equal(batches[0][0][0], results[0][0])


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
def test_a_volume_depends_only_on_its_row(fill_mode):
    images, draws = np.repeat(volumes(1), 20, axis=0), uniforms(3, 1, 20)
    spec = AugmentationSpec(**GEOMETRY, **FLIPS, **INTENSITY, rotate_cube=True, fill_mode=fill_mode)
    together = augment(images, spec, draws)
    for index in (19, 0, 8):
        assert np.array_equal(augment(images[:1], spec, draws[index : index + 1])[0], together[index])
        assert not np.array_equal(together[index], together[index - 1])


def test_the_result_is_float32_within_the_range_and_the_volumes_are_not_modified():
    images = volumes(10)
    before = images.copy()
    changed = augment(images, ALL, uniforms(0, 0, 10))
    assert changed.dtype == np.float32
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert np.array_equal(images, before)


def test_an_empty_spec_changes_nothing():
    images = volumes(3, (4, 5, 6, 1))
    assert np.array_equal(augment(images, AugmentationSpec(), uniforms(0, 0, 3)), images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shear_range": 5.0}, "--shear-range is only for 2D images"),
        ({"cutout": 0.3}, "--cutout is only for 2D images"),
        ({"random_crop": 1}, "--random-crop is only for 2D images"),
        ({"contrast": 0.1}, "--contrast is only for 2D images"),
        ({"saturation": 0.1}, "--saturation is only for 2D images"),
        ({"hue": 0.1}, "--hue is only for 2D images"),
        ({"random_erasing": 0.1}, "--random-erasing is only for 2D images"),
        ({"rotate90": True}, "--rotate90 is only for 2D images"),
        ({"rotate_cube": True}, "--rotate-cube needs volumes with three equal sides"),
    ],
)
def test_changes_of_2d_images_are_refused_by_name(change, message):
    images, spec = volumes(2, (4, 4, 5, 1)), AugmentationSpec(**change)
    with pytest.raises(InputError, match=message) as caught:
        augment(images, spec, uniforms(0, 0, 2))
    assert "Received: " in str(caught.value)
    with pytest.raises(InputError, match=message):
        Batches(Split(images, np.array([0, 1])), 2, 2, augmentation=spec)
