"""Models as users write them become right integer files; part M of the faults, a test for each kind."""

import functools
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_vision import quantization
from keras_vision.quantization.float_file import write_float_file
from keras_vision.quantization.plain_calls import Names
from keras_vision.quantization.plain_model import plain_model, with_size
from keras_vision.recipe import InputError

SHAPE = (16, 16, 3)
RIGHT = 0.15  # Root mean square of the error, as a share of the scores' spread over images.


def pictures(count=24, shape=SHAPE):
    """Smooth, uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, shape[0] // 4, shape[1] // 4, shape[2]))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype("uint8")


@keras.saving.register_keras_serializable("test_plain_model")
class Block(layers.Layer):
    """Somebody's own residual block, with a normalization and a scale."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(6, 3, padding="same")
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build(shape)
        self.scale = self.add_weight(shape=(6,), initializer="ones")
        super().build(shape)

    def call(self, values, training=False):
        return values + ops.relu(self.norm(self.conv(values), training=training)) * self.scale


class DropPath(layers.Layer):
    """Somebody's own regularization."""

    def call(self, values, training=False):
        return values * 0.5 if training else values


def nested(name):
    """A model whose layers have the same names as another's."""
    inside = keras.Input((14, 14, 6))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(inside)
    return keras.Model(inside, layers.Add(name="add")([x, inside]), name=name)


def shared_convolution(x):
    conv = layers.Conv2D(6, 3, padding="same")
    return conv(layers.ReLU()(conv(x)))


def shared_activation(x):
    act, pool, drop = layers.ReLU(), layers.MaxPooling2D(), layers.Dropout(0.2)
    return drop(pool(act(layers.Conv2D(6, 3, padding="same")(drop(pool(act(x)))))))


def attention_gate(x):
    gate = layers.Dense(6, activation="hard_sigmoid")(ops.mean(x, axis=(1, 2), keepdims=True))
    return x * gate


def two_nested(x):
    first, second = nested("first"), nested("second")
    return second(first(first(x)))


conv = functools.partial(layers.Conv2D, 6, 3)
# From feature maps of 14 x 14 x 6 to feature maps.
MIDDLES = {
    "shared activation, pooling and dropout": shared_activation,
    "shared convolution": shared_convolution,
    "nested models, one of them twice": two_nested,
    "names that parts of a file have": lambda x: layers.Conv2D(6, 3, name="images", activation="relu")(
        layers.ReLU(name="images_relu")(x)
    ),
    "operators": lambda x: (x + conv(padding="same")(x)) * 0.5 - x / 3.0,
    "product": lambda x: x * conv(padding="same", activation="sigmoid")(x),
    "functions": lambda x: ops.silu(ops.leaky_relu(ops.relu(x) - 0.1)),
    "a tensor joined with itself": lambda x: layers.Concatenate()([x, conv(padding="same")(x), x]),
    "average": lambda x: layers.Average()([x, conv(padding="same")(x), x]),
    "constants for each channel": lambda x: x * np.linspace(-1, 1, 6).astype("float32") + 0.5,
    "two normalizations": lambda x: layers.BatchNormalization(moving_mean_initializer="ones")(
        layers.BatchNormalization(moving_variance_initializer=keras.initializers.Constant(4.0))(conv()(x))
    ),
    "leaky as a layer": lambda x: conv(activation=layers.LeakyReLU(0.3))(x),
    "leaky as a partial": lambda x: conv(
        activation=functools.partial(keras.activations.leaky_relu, negative_slope=0.4)
    )(x),
    "a lambda": lambda x: conv(activation=lambda t: ops.relu(t) * ops.sigmoid(t))(x),
    "both gelus": lambda x: ops.gelu(conv(activation="gelu")(x), approximate=True),
    "relu up to 2": lambda x: layers.ReLU(2.0)(x),
    "prelu": lambda x: layers.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal")(x),
    "transposed": lambda x: layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu")(x),
    "transposed with a normalization": lambda x: layers.BatchNormalization(gamma_initializer="random_normal")(
        layers.Conv2DTranspose(5, 4, strides=3)(x)
    ),
    "grouped": lambda x: layers.Conv2D(8, 3, groups=2)(layers.Conv2D(12, 3, groups=6, activation="relu")(x)),
    "upsampling": lambda x: conv()(layers.UpSampling2D()(x)),
    "bilinear upsampling": lambda x: conv()(layers.UpSampling2D(interpolation="bilinear")(x)),
    "cropping": lambda x: layers.Cropping2D(((1, 2), (3, 0)))(x),
    "slices": lambda x: x[:, 1:, :-2, ::2],
    "rows and columns that are skipped": lambda x: conv(padding="same")(x)[:, 1::2, ::3, 1:],
    "one row": lambda x: ops.expand_dims(x[:, -2], 1),
    "one token": lambda x: layers.Reshape((14, 14, 6))(
        (lambda tokens: tokens + tokens[:, :1] + ops.stack([tokens[:, 3]] * 196, axis=1))(layers.Reshape((196, 6))(x))
    ),
    "channels that are stacked": lambda x: conv()(ops.stack([x[..., 4], x[..., -1], x[..., 0]], axis=-1)),
    "rows that are stacked": lambda x: conv(padding="same")(ops.stack([x[:, 2], x[:, 0], x[:, -1]], axis=1)),
    "channels the other way round": lambda x: ops.flip(x, axis=-1),
    "moved axes": lambda x: conv()(ops.moveaxis(x, (1, -1), (2, 1))),
    "permuted": lambda x: conv()(layers.Permute((2, 1, 3))(ops.transpose(x, (0, 3, 1, 2)))),
    "a dense layer at each place": lambda x: layers.Dense(4, activation="relu")(x),
    "a gate": attention_gate,
    "a layer normalization": lambda x: layers.LayerNormalization(gamma_initializer="random_normal")(x),
    "attention": lambda x: layers.Reshape((14, 14, 6))(
        (lambda tokens: layers.MultiHeadAttention(2, 4)(tokens, tokens) + tokens)(layers.Reshape((196, 6))(x))
    ),
    "means over rows, columns and tokens": lambda x: (
        x
        + ops.mean(x, axis=1, keepdims=True)
        + ops.max(x, axis=2, keepdims=True)
        + layers.Reshape((1, 14, 6))(ops.mean(x, axis=-3))
        + layers.Reshape((1, 1, 6))(layers.GlobalMaxPooling1D()(layers.Reshape((196, 6))(x)))
    ),
    "a layer normalization of tokens": lambda x: layers.Reshape((14, 14, 6))(
        layers.LayerNormalization(epsilon=1e-6)(layers.Reshape((196, 6))(x))
    ),
    "a custom layer": lambda x: Block()(Block()(x)),
    "a custom layer that does nothing": lambda x: DropPath()(layers.GaussianNoise(0.5)(layers.Identity()(x))),
}
# From feature maps to vectors of 6.
ENDS = {
    "a normalization of vectors": lambda x: layers.Dropout(0.3)(
        layers.BatchNormalization(moving_mean_initializer="ones")(layers.GlobalAveragePooling2D()(x))
    ),
    "a mean of tokens": lambda x: layers.GlobalAveragePooling1D()(layers.Reshape((196, 6))(x)),
    "some values of vectors": lambda x: layers.GlobalAveragePooling2D()(x)[:, ::2],
    "one row of one column": lambda x: x[:, 3, -1],
    "a normalization of many values": lambda x: layers.BatchNormalization(beta_initializer="ones")(layers.Flatten()(x)),
    "a normalization after relu": lambda x: layers.BatchNormalization(beta_initializer="ones")(
        layers.Dense(8, activation="relu")(ops.mean(x, axis=(1, 2)))
    ),
    "arithmetic of vectors": lambda x: 1.0 - layers.GlobalMaxPooling2D()(x) / 2.0,
}


def built(middle, end=lambda x: layers.GlobalAveragePooling2D()(x), start=None):
    """A model of pixels, or of what `start` makes of its input."""
    keras.utils.set_random_seed(1)
    images = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images) if start is None else start(images)
    return keras.Model(images, layers.Dense(4)(end(middle(layers.Conv2D(6, 3)(x)))))


def assert_right(model, images=None, float_error=1e-4, **options):
    """The integer file's logits are the model's but for rounding, and those of a file of floats are the model's."""
    images = pictures() if images is None else images
    content = quantization.convert(model, "int8", images, logits=True, **options)
    assert quantization.audit(content).kind == "full-integer"
    pixels = images if images.dtype == np.uint8 else np.round((images - images.min()) * 255 / np.ptp(images))
    found = quantization.Runner(content)(pixels)
    expected = model.predict(np.asarray(images, "float32"), verbose=0)
    error = np.sqrt(np.mean((found - expected) ** 2)) / np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2))
    assert error < RIGHT
    floats = write_float_file(with_size(model, images.shape[1:]))
    exact = quantization.Runner(floats)(np.asarray(images, "float32"))
    assert np.abs(exact - expected).max() < float_error * np.abs(expected).max()
    return content


def test_a_small_vision_transformer():
    keras.utils.set_random_seed(1)
    images = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 4, strides=4)(layers.Rescaling(1 / 127.5, offset=-1)(images)))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 4)(y, y)
        x = x + layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = keras.Model(images, layers.Dense(4)(x))
    assert_right(model, np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", MIDDLES)
def test_layers_as_users_write_them(name):
    assert_right(built(MIDDLES[name]))


def test_groups_of_one_channel_are_a_depthwise_convolution():
    model = built(lambda x: layers.Conv2D(12, 3, strides=2, groups=6, use_bias=False)(x))
    audit = quantization.audit(assert_right(model))
    found = [item.weights for item in audit.operators if item.name == "DEPTHWISE_CONV_2D"]
    assert len(found) == 1
    assert len([item for item in audit.operators if item.name == "CONV_2D"]) == 1


@pytest.mark.parametrize("name", ENDS)
def test_vectors(name):
    assert_right(built(lambda x: x, ENDS[name]))


STARTS = {
    "augmentation": lambda x: layers.Rescaling(1 / 255)(layers.RandomZoom(0.2)(layers.RandomFlip()(x))),
    "an operator": lambda x: x / 127.5 - 1.0,
    "two branches": lambda x: layers.Concatenate()([layers.Rescaling(1 / 255)(x), x / 127.5 - 1.0]),
    "preprocessing of keras.applications, caffe": keras.applications.resnet.preprocess_input,
    "preprocessing of keras.applications, torch": keras.applications.densenet.preprocess_input,
    "preprocessing of keras.applications, tf": keras.applications.mobilenet.preprocess_input,
    "the mean of each channel": lambda x: x - np.array([103.9, 116.8, 123.7], "float32"),
    "a normalization": layers.Normalization(mean=(120.0, 110.0, 100.0), variance=(3000.0, 2500.0, 2000.0)),
}


@pytest.mark.parametrize("name", STARTS)
def test_models_that_scale_pixels_in_their_own_way(name):
    assert_right(built(lambda x: x, start=STARTS[name]))


def plain(x):
    return x


def test_a_model_of_scaled_images_takes_their_range_from_the_images():
    model = built(plain, start=plain)
    assert_right(model, (pictures() / 255).astype("float32"))
    assert_right(model, (pictures() / 127.5 - 1).astype("float32"))


def test_a_range_that_nothing_says_is_asked_for():
    with pytest.raises(InputError, match=r"pass input_range=\(LOW, HIGH\)"):
        quantization.convert(built(plain, start=plain), "int8", pictures())
    assert_right(built(plain, start=plain), pictures(), input_range=(0, 255))


@pytest.mark.parametrize(
    ("images", "stated", "message"),
    [
        (pictures() / 255, None, "scales pixels from 0 to 255 itself. Received: representative images with values"),
        (pictures(), (0, 1), "values from 0 to 25[0-9], outside of the input range 0 to 1"),
        (pictures() / 255, (0, 1), "scales pixels from 0 to 255 itself, which the input range 0 to 1 contradicts"),
        (pictures(), (255, 0), "lowest, highest"),
        (pictures(shape=(8, 8, 3)), None, r"takes images of shape \(16, 16, 3\). Received: representative images of"),
        (pictures()[0], None, r"have shape \(N, H, W, C\)"),
        (pictures()[:0], None, "Received: none"),
        ([1, "x"], None, "or a generator of such images"),
        (np.full((2, *SHAPE), np.nan), None, "not finite"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, stated, message):
    with pytest.raises(InputError, match=message):
        quantization.convert(built(plain), "int8", images, input_range=stated)


def test_a_generator_of_images_is_welcome():
    model, images = built(plain), pictures()
    whole = quantization.convert(model, "int8", images)
    batches = ([image[np.newaxis].astype("float32")] for image in images)
    assert quantization.convert(model, "int8", batches) == whole
    assert quantization.convert(model, "int8", lambda: iter(images)) == whole


@pytest.mark.parametrize("scheme", ["float32", "dynamic", "int8"])
def test_images_give_the_size_of_a_model_that_takes_any(scheme):
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    assert quantization.Runner(quantization.convert(model, scheme, pictures())).image_shape == SHAPE
    with pytest.raises(InputError, match="of any size|needs representative images"):
        quantization.convert(model, scheme)
    with pytest.raises(InputError, match="takes images of shape"):
        quantization.convert(model, scheme, pictures(shape=(16, 16, 1)))


def test_a_subclassed_model_is_followed():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale, self.conv = layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu")
            self.pool, self.dense = layers.GlobalAveragePooling2D(), layers.Dense(3)

        def call(self, images, training=False):
            return self.dense(self.pool(self.conv(self.scale(images))))

    assert_right(Subclassed())


def test_one_sigmoid_neuron_and_a_softmax_by_another_name_are_probabilities():
    for classes, ending in ((1, "sigmoid"), (3, layers.Softmax()), (3, lambda x: ops.softmax(x))):
        images = keras.Input(SHAPE)
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(images)))
        model = keras.Model(images, layers.Dense(classes, activation=ending)(x))
        expected = model.predict(pictures(), verbose=0)
        found = quantization.Runner(quantization.convert(model, "int8", pictures()))(pictures())
        np.testing.assert_allclose(found, expected, atol=0.03)


def test_a_layer_inside_a_nested_model_is_named_by_its_path():
    inside = keras.Input(SHAPE)
    backbone = keras.Model(inside, layers.GroupNormalization(1, name="norm")(inside), name="backbone")
    with pytest.raises(InputError, match="'backbone/norm' .GroupNormalization. cannot be quantized.*float32 and dyn"):
        plain_model(keras.Sequential([keras.Input(SHAPE), backbone, layers.Flatten()]))


def test_a_function_that_cannot_be_followed_is_refused_by_the_name_of_its_layer():
    class Own(layers.Layer):
        def call(self, values):
            return ops.convert_to_tensor(np.ones((1, *SHAPE), "float32"))

    model = keras.Sequential([keras.Input(SHAPE), Own(name="mine"), layers.Flatten()])
    with pytest.raises(InputError, match="'mine' .Own"):
        plain_model(model)


def test_the_users_model_is_not_changed():
    model = built(MIDDLES["nested models, one of them twice"])
    before, names = [weight.copy() for weight in model.get_weights()], [layer.name for layer in model.layers]
    quantization.convert(model, "int8", pictures())
    assert [layer.name for layer in model.layers] == names
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.layers[-1].output is not None


def test_what_is_frozen_stays_frozen():
    """Also where plain layers of another class take a layer's place."""
    images = keras.Input((4, 4, 3))
    x = layers.SeparableConv2D(6, 3, padding="same", trainable=False)(images)
    x = layers.Conv2D(6, 1, trainable=False)(layers.Dense(6, trainable=False)(x))
    model = keras.Model(images, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)))
    trained = {weight.path.partition("/")[0] for weight in plain_model(model).trainable_weights}
    assert trained == {"head"}


def test_one_layer_in_half_precision_is_no_mistake_of_a_copy():
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, activation="relu", dtype="mixed_bfloat16")(layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    assert_right(model, float_error=0.02)


def test_names_are_never_given_twice():
    names = Names()
    given = [
        names.unique(*wanted) for wanted in [("a",), ("a", "x_a"), ("a", "x_a"), ("a_range",), ("é b",), ("images",)]
    ]
    assert len(set(given)) == len(given)
    assert not {f"{name}_range" for name in given} & set(given)
    assert all(name.isascii() and " " not in name for name in given)


@pytest.fixture(scope="module")
def random_models():
    """The benchmark that draws models and judges their files."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import random_models  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.remove(folder)
    return random_models


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31))
def test_random_models_become_right_files_or_one_sentence(random_models, seed):
    outcome, reason, _ = random_models.judge(seed)
    assert outcome in ("right", "refused"), reason
