"""Which layer a name, or no name, selects; independent of the backend."""

import keras
import pytest
from keras import layers

from keras_vision import models
from keras_vision.explanation.feature_layers import find_steps, last_feature_map, last_feature_step
from keras_vision.keras_internals.graph import read_graph
from keras_vision.recipe import InputError, ModelSpec

CONV, OTHER = True, False  # Whether a convolution outputs the tensor.


def last_layer(model):
    graph = read_graph(model)
    return last_feature_step(graph, graph.shapes(graph.input_shape)).path


def test_the_last_layer_is_found_inside_a_nested_backbone(nested):
    bigger = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(64, 64, 3), include_top=False)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((64, 64, 3)), bigger, *head])
    assert last_layer(model).endswith("/out_relu")
    # At 32 pixels the backbone ends in maps of one pixel, so the last larger ones are used.
    assert last_layer(nested).endswith("block_13_expand_relu")


@pytest.mark.parametrize(
    ("architecture", "name"), [("plain_cnn", "block4_relu"), ("small_resnet", None), ("efficientnet_lite0", "relu1")]
)
def test_the_last_layer_of_the_packages_networks_is_the_one_before_pooling(architecture, name):
    side = 64 if architecture == "efficientnet_lite0" else 28  # It divides its input by 32.
    model = models.build(ModelSpec(architecture=architecture, width=4), (side, side, 3), 7)
    graph = read_graph(model)
    step = last_feature_step(graph, graph.shapes(graph.input_shape))
    if name is not None:
        assert step.path == name
    consumers = [other.layer for other in graph.steps if step.output in other.inputs]
    assert all("pool" in type(layer).__name__.lower() for layer in consumers)


def small(name):
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3, name="maps")], name=name)


def test_a_name_that_two_backbones_share_needs_its_full_path():
    images = keras.Input((6, 6, 1))
    both = keras.Model(images, layers.Add()([small("left")(images), small("right")(images)]))
    graph = read_graph(both)
    with pytest.raises(InputError, match="Several layers are called 'maps'.*left/maps, right/maps"):
        find_steps(graph, graph.shapes((6, 6, 1)), "maps")
    assert find_steps(graph, graph.shapes((6, 6, 1)), "right/maps")[0].path == "right/maps"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ([((8, 8, 4), CONV)], 0),
        # Normalization and activation after the last convolution count, the pooling does not.
        ([((8, 8, 4), CONV), ((8, 8, 4), OTHER), ((8, 8, 4), OTHER), ((4, 4, 4), OTHER), ((4,), OTHER)], 2),
        # The last convolution, although the first has larger maps.
        ([((8, 8, 4), CONV), ((4, 4, 4), OTHER), ((4, 4, 8), CONV), ((2, 2, 8), OTHER)], 2),
        # The number of channels may change: a concatenation after the convolution counts.
        ([((8, 8, 4), CONV), ((8, 8, 12), OTHER), ((12,), OTHER)], 1),
        # The side branch of another size comes last, but the last convolution decides.
        ([((8, 8, 4), OTHER), ((4, 4, 8), CONV), ((8, 8, 1), OTHER)], 1),
        # A convolution on pooled maps of one pixel, as in squeeze-and-excitation or a 1 x 1 head, is ignored.
        ([((6, 6, 4), CONV), ((1, 1, 4), OTHER), ((1, 1, 2), CONV)], 0),
        # Squeeze-and-excitation: the product after the convolutions of one pixel has the full size again.
        ([((6, 6, 4), CONV), ((1, 1, 4), OTHER), ((1, 1, 4), CONV), ((6, 6, 4), OTHER), ((4,), OTHER)], 3),
        # Larger maps again after the last convolution, as by upsampling, are of another size.
        ([((4, 4, 8), CONV), ((8, 8, 8), OTHER)], 0),
        # Same number of pixels, other shape.
        ([((4, 6, 8), CONV), ((6, 4, 8), OTHER)], 0),
        # Without convolutions: the last tensor with more than one pixel.
        ([((8, 8, 4), OTHER), ((4, 4, 4), OTHER), ((1, 1, 4), OTHER), ((4,), OTHER)], 1),
        # Volumes.
        ([((8, 8, 8, 2), CONV), ((8, 8, 8, 2), OTHER), ((4, 4, 4, 2), OTHER)], 1),
        # A strip: one axis of one pixel is still more than one pixel.
        ([((1, 9, 2), CONV), ((1, 1, 2), OTHER)], 0),
    ],
)
def test_the_last_feature_map_has_the_size_of_the_last_convolution(tensors, expected):
    assert last_feature_map(tensors) == expected


@pytest.mark.parametrize("tensors", [[], [((5,), OTHER)], [((1, 1, 5), CONV), ((5,), OTHER)]])
def test_without_maps_of_more_than_one_pixel_there_is_no_heatmap(tensors):
    with pytest.raises(InputError, match="no layer with feature maps"):
        last_feature_map(tensors)
