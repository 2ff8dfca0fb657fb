import numpy as np
import pytest

from keras_vision import explanation
from keras_vision.recipe import InputError

RAMP = np.stack([np.arange(256)] * 3, axis=-1)


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 1), (2, 2, 3)])
def test_an_overlay_is_the_mean_of_image_and_colours(shape):
    heat = np.array([[0, 1], [0.2, 0.4]])
    blended = explanation.overlay(np.full(shape, 100), heat, colormap=RAMP, opacity=0.5)
    assert blended.dtype == np.uint8
    np.testing.assert_allclose(blended, np.stack([50 + 255 * heat / 2] * 3, axis=-1), atol=0.6)


def test_opacity_0_shows_the_image_and_opacity_1_the_colours():
    image, heat = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8), np.zeros((4, 5))
    np.testing.assert_array_equal(explanation.overlay(image, heat, opacity=0), image)
    np.testing.assert_array_equal(explanation.overlay(image, heat, colormap="gray", opacity=1), np.zeros((4, 5, 3)))
    assert (explanation.overlay(image, heat) != explanation.overlay(image, heat, colormap="viridis")).any()


def test_a_montage_has_the_slices_in_rows():
    volume = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.full((6, 2, 3, 1), 10, np.uint8)
    volume[:, 1, 2] = 255
    montage = explanation.montage(volume, np.zeros((6, 2, 3)), opacity=0, slices=3, columns=2)
    assert montage.shape == (4, 6, 3)
    # Of slices 0 to 5 the centres of three parts: 1, 3 and 5; the last tile is black.
    assert [montage[0, 0, 0], montage[0, 3, 0], montage[2, 0, 0], montage[2, 3, 0]] == [10, 30, 50, 0]


def test_a_montage_of_few_slices_has_all_of_them():
    volume = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 1), np.uint8)
    montage = explanation.montage(volume, np.zeros((3, 2, 2)), opacity=0)
    assert montage[0, ::2, 0].tolist() == [0, 1, 2]


def test_a_montage_leaves_out_constant_slices_at_the_ends():
    volume = np.zeros((20, 2, 2, 1), np.uint8)
    volume[[3, 6], 0, 0, 0] = 5, 9
    montage = explanation.montage(volume, np.zeros((20, 2, 2)), opacity=0, slices=4)
    assert montage[0, ::2, 0].tolist() == [5, 0, 0, 9]


def test_panels_show_each_image_next_to_its_heatmap_with_its_caption():
    images, heat = np.zeros((3, 4, 6, 1), np.uint8), np.ones((3, 4, 6))
    text = explanation.caption(np.array([0.25, 0.75]), ["nevus", "melanoma"], 0)
    assert text == "true: nevus 0.25\npredicted: melanoma 0.75"
    figure = explanation.panels(images, heat, [text] * 3, columns=2)
    used = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in used] == [text] * 3
    panel = used[0].images[0].get_array()
    assert panel.shape == (4, 12, 3)
    assert not panel[:, :6].any()
    assert panel[:, 6:].any()


def test_panels_of_several_layers_show_and_name_each():
    images = np.zeros((5, 4, 6, 3), np.uint8)
    heat = [np.zeros((5, 4, 6)), np.ones((5, 4, 6)), np.zeros((5, 4, 6))]
    figure = explanation.panels(images, heat, ["x"] * 5, layers=["early", "middle", "late"], colormap=RAMP, opacity=1)
    assert figure.get_suptitle() == "image | early | middle | late"
    panel = figure.axes[0].images[0].get_array()
    assert panel.shape == (4, 24, 3)
    assert [panel[0, column, 0] for column in (0, 6, 12, 18)] == [0, 0, 255, 0]
    # Rows of eight images, as with one layer.
    assert figure.axes[0].get_gridspec().ncols == 2
    assert explanation.panels(images, heat[0], ["x"] * 5).axes[0].get_gridspec().ncols == 4


def test_panels_of_volumes_have_a_row_of_slices_for_each_layer():
    volumes, heat = np.zeros((1, 8, 4, 5, 1), np.uint8), np.ones((1, 8, 4, 5))
    figure = explanation.panels(volumes, [0 * heat, heat], ["x"], layers=["a", "b"], colormap=RAMP, opacity=1)
    panel = figure.axes[0].images[0].get_array()
    assert panel.shape == (12, 40, 3)
    assert [panel[row, 0, 0] for row in (0, 4, 8)] == [0, 0, 255]


def test_panels_of_volumes_show_slices_above_their_overlays():
    volumes, heat = np.zeros((3, 16, 4, 5, 1), np.uint8), np.zeros((3, 16, 4, 5))
    volumes[:, :, 0, 4] = 3
    volumes[0, 7], heat[0, 7] = 77, 1
    figure = explanation.panels(volumes, heat, ["x", "y", "z"])
    panel = figure.axes[0].images[0].get_array()
    assert panel.shape == (8, 40, 3)
    # Slices 1, 3, 5, 7 and so on: slice 7 is the fourth.
    assert (panel[:4, 15:20] == 77).all()
    assert not panel[1:4, :15].any()
    assert (panel[4:, 15:20] != panel[4:, 10:15]).any(axis=-1).all()


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((np.zeros((4, 4, 1)), np.zeros((2, 2))), {}, "its image's size. Received: \\(2, 2\\)"),
        ((np.zeros((4, 4, 2)), np.zeros((4, 4))), {}, "1 or 3 channels"),
        ((np.zeros((4, 4, 1)), np.zeros((4, 4))), {"colormap": "hot stuff"}, "those of matplotlib"),
        ((np.zeros((4, 4, 1)), np.zeros((4, 4))), {"colormap": np.zeros((3, 3))}, r"shape \(256, 3\)"),
    ],
)
def test_wrong_shapes_and_colormaps_are_refused(arguments, keywords, message):
    with pytest.raises(InputError, match=message):
        explanation.overlay(*arguments, **keywords)


def test_a_montage_of_an_image_is_refused():
    with pytest.raises(InputError, match="A montage needs a volume"):
        explanation.montage(np.zeros((4, 4, 1)), np.zeros((4, 4)))
