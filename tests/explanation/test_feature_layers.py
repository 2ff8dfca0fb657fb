"""Which layer a name means, and which one none; the same on every backend."""

import keras
import pytest
from keras import layers

from keras_vision import models
from keras_vision.explanation.feature_layers import find_steps, last_feature_step
from keras_vision.keras_internals.graph import read_graph
from keras_vision.recipe import InputError, ModelSpec


def chosen(model):
    graph = read_graph(model)
    return last_feature_step(graph, graph.shapes(graph.input_shape)).path


def test_the_last_layer_is_found_inside_a_nested_backbone(nested):
    bigger = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(64, 64, 3), include_top=False)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((64, 64, 3)), bigger, *head])
    assert chosen(model).endswith("/out_relu")
    # At 32 pixels the backbone ends in maps of one pixel, which say nothing; the last larger ones are taken.
    assert chosen(nested).endswith("block_13_expand_relu")


@pytest.mark.parametrize(("architecture", "name"), [("plain_cnn", "block4_relu"), ("small_resnet", None)])
def test_the_last_layer_of_the_packages_networks_is_the_one_before_pooling(architecture, name):
    model = models.build(ModelSpec(architecture=architecture, width=4), (28, 28, 3), 7)
    graph = read_graph(model)
    step = last_feature_step(graph, graph.shapes(graph.input_shape))
    if name is not None:
        assert step.path == name
    users = [other.layer for other in graph.steps if step.output in other.inputs]
    assert all("pool" in type(layer).__name__.lower() for layer in users)


def small(name):
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3, name="maps")], name=name)


def test_a_name_that_two_backbones_share_has_to_be_given_in_full():
    images = keras.Input((6, 6, 1))
    both = keras.Model(images, layers.Add()([small("left")(images), small("right")(images)]))
    graph = read_graph(both)
    with pytest.raises(InputError, match="Several layers are called 'maps'.*left/maps, right/maps"):
        find_steps(graph, graph.shapes((6, 6, 1)), "maps")
    assert find_steps(graph, graph.shapes((6, 6, 1)), "right/maps")[0].path == "right/maps"
