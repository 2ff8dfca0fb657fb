"""Private names of Keras: the installed version has them, the package uses no others, and nothing stays changed."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_vision.keras_internals
from keras_vision.keras_internals import names, nodes, trainer
from keras_vision.recipe import InputError

FILES = sorted(Path(keras_vision.keras_internals.__file__).parent.glob("*.py"))


@pytest.mark.backend
def test_the_installed_keras_has_every_private_name():
    assert names.missing() == []
    names.require()


def test_a_missing_name_is_reported_with_the_versions_to_install(monkeypatch):
    monkeypatch.setitem(names.PRIVATE, "layer", ("_inbound_nodes", "_no_such_name"))
    assert names.missing() == ["layer._no_such_name"]
    with pytest.raises(InputError, match=r'lacks layer\._no_such_name, which .* pip install "keras>=3\.15,<3\.16"'):
        names.require()


def private_names(code):
    """Attributes with one leading underscore, except those of `self` and `cls`; also by `getattr` and the like."""
    for node in ast.walk(ast.parse(code)):
        name, owner = "", None
        if isinstance(node, ast.Attribute):
            name, owner = node.attr, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            owner, constant = node.args[:2]
            name = str(getattr(constant, "value", ""))
        own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
        if name.startswith("_") and not name.startswith("__") and not own:
            yield name


def test_private_names_are_found_in_code():
    code = "model._a.b; self._c; cls._d; model.__class__; getattr(model, '_e', None); hasattr(f(), '_g'); h()._i()"
    assert sorted(private_names(code)) == ["_a", "_e", "_g", "_i"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_private_name_in_use_is_listed(file):
    listed = {name for group in names.PRIVATE.values() for name in group} | {*trainer.STATE, *trainer.EXCLUSIONS}
    assert set(private_names(file.read_text("utf-8"))) <= listed


def test_every_listed_name_is_in_use():
    used = {name for file in FILES for name in private_names(file.read_text("utf-8"))} | {*trainer.EXCLUSIONS}
    assert {name for group in names.PRIVATE.values() for name in group} == used


@pytest.fixture
def trained():
    """A compiled model after one step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    step(model)
    return model


def step(model):
    model.train_on_batch(np.ones((4, 3), "float32"), np.zeros((4, 2), "float32"))


def optimizer_for(model):
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    return optimizer


def values(optimizer):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in optimizer.variables]


@pytest.mark.backend
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_another_optimizer_trains_a_model_until_the_block_ends(trained, error):
    optimizer, function, other = trained.optimizer, trained.train_function, optimizer_for(trained)
    attributes, before = dict(vars(trained)), values(optimizer)

    def block():
        with trainer.other_optimizer(trained, other):
            assert trained.optimizer is other
            assert trained.train_function is None
            weights = trained.get_weights()[0].copy()
            step(trained)
            assert (trained.get_weights()[0] != weights).any()
            trained._jax_state = "of the other optimizer"
            if error:
                raise error

    if error:
        with pytest.raises(error):
            block()
    else:
        block()
    assert trained.optimizer is optimizer
    assert trained.train_function is function
    state = {name: attributes[name] for name in trainer.STATE if name in attributes}
    assert {name: vars(trained)[name] for name in trainer.STATE if name in vars(trained)} == state
    assert int(keras.ops.convert_to_numpy(other.iterations)) == 1
    for actual, expected in zip(values(optimizer), before, strict=True):
        np.testing.assert_array_equal(actual, expected)
    step(trained)
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 2


def test_weight_decay_exclusions_are_copied():
    first, twin = keras.optimizers.AdamW(weight_decay=0.1), keras.optimizers.AdamW(weight_decay=0.1)
    first.exclude_from_weight_decay(var_names=["bias"])
    trainer.copy_weight_decay_exclusions(first, twin)
    kernel, bias = (keras.Variable(np.zeros(2), name=name) for name in ("kernel", "bias"))
    for optimizer in (first, twin):
        optimizer.build([kernel, bias])
        assert [optimizer._use_weight_decay(variable) for variable in (kernel, bias)] == [True, False]


@pytest.fixture(scope="module")
def nested():
    """Dense twice, an operation, and a model that has an attention layer."""
    inner_input = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    inner = keras.Model(inner_input, attention(inner_input, inner_input), name="inner")
    images = keras.Input((5, 4))
    dense = layers.Dense(4, name="dense")
    first = dense(images)
    second = dense(keras.ops.tanh(first))
    return keras.Model(images, inner(second)), first, second


def test_the_maker_of_a_tensor_is_its_layer_or_operation(nested):
    model, first, second = nested
    assert nodes.maker(first) is nodes.maker(second) is model.get_layer("dense")
    assert nodes.maker(model.output) is model.get_layer("inner")
    assert nodes.maker(model.input) is model.layers[0]
    (tanh,) = (layer for layer in model.operations if type(layer).__name__ == "Tanh")
    assert nodes.maker(nodes.first_output(tanh)) is tanh


def test_the_first_call_of_a_reused_layer(nested):
    model, first, second = nested
    dense, inner = model.get_layer("dense"), model.get_layer("inner")
    assert nodes.first_output(dense) is first
    assert nodes.first_input(dense) is model.input
    assert nodes.first_input(inner) is second
    assert nodes.first_output(model.layers[0]) is model.input


def test_all_layers_include_those_of_nested_models_and_of_attention(nested):
    model = nested[0]
    attention = model.get_layer("inner").get_layer("attention")
    everything = nodes.all_layers(model)
    for layer in (model, *model.layers, *model.get_layer("inner").layers, *attention._flatten_layers()):
        assert any(layer is other for other in everything)
    assert sum(type(layer) is layers.EinsumDense for layer in everything) == 4  # Query, key, value, output.
    assert nodes.all_layers(model.get_layer("dense")) == [model.get_layer("dense")]
