"""Random Keras models, each converted to a full-integer file: is any file wrong?

Run:     python benchmarks/random_models.py [--quick] [--count 1000] [--first SEED] [--only SEED]
A seed decides a functional model of the layers, operators and functions that the 8-bit conversion supports, with shared
layers, nested models, custom layers, branches, odd names and layers that do nothing in inference; its weights and
statistics are random, and so are its images. Each goes through `quantization.convert`. A file is right if LiteRT gives
for every image what the fake-quantized model gives, and if that is the float model's answer but for rounding; and the
file of floats if it gives the model's own scores. All are judged here, apart from the checks of `convert`. A refusal
must be one sentence. Exit status 1 if a file is wrong, or anything but a sentence is raised.
"""

import argparse
import collections
import os
import sys
import time
import traceback

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import record
from keras import layers, ops

IMAGES = 12
# Names that users give, and that the parts of a file have, too.
ODD_NAMES = ("images", "scores", "conv", "conv_relu", "a", "a_range", "a_gate", "images_int8", "x y", "é", "1")
# Largest error (root mean square) of a file's scores, as a share of their spread over images or in steps.
SPREAD, STEPS = 0.5, 3
FLOAT_ERROR = 1e-3  # Largest difference of a score of the file of floats, as a share of the largest score.
SIMULATED_SPREAD = 0.1  # The same against the simulation, which rounds halves of steps another way at times.


@keras.saving.register_keras_serializable("random_models")
class Residual(layers.Layer):
    """A custom layer with layers and a weight of its own: `x + scale * relu(norm(conv(x)))`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.conv = layers.Conv2D(shape[-1], 3, padding="same")
        self.conv.build(shape)
        self.norm.build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        super().build(shape)

    def call(self, values, training=False):
        return values + ops.relu(self.norm(self.conv(values), training=training)) * self.scale


@keras.saving.register_keras_serializable("random_models")
class Noise(layers.Layer):
    """A custom layer that does nothing in inference."""

    def call(self, values, training=False):
        return values + keras.random.normal(ops.shape(values)) if training else values


class Drawing:
    """Draws one model."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.shared = []  # (layer, shape of its input)
        self.depth = 0
        self.used = set()
        self.kinds = collections.Counter()

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def chance(self, share):
        return self.random.random() < share

    def named(self):
        """Keyword arguments with an odd name, seldom; the names of a model's own layers must differ."""
        name = self.pick(*ODD_NAMES)
        if self.depth or name in self.used or not self.chance(0.25):
            return {}
        self.used.add(name)
        return {"name": name}

    def model(self):
        height, width = self.random.integers(6, 17, 2)
        images = keras.Input((int(height), int(width), int(self.pick(1, 3, 3))))
        x, self.input_range = self.beginning(images)
        x = self.body(x, self.random.integers(2, 8))
        model = keras.Model(images, self.head(x), name="random")
        self.randomize(model)
        return model

    def beginning(self, images):
        """Augmentation and scaling; the range of pixels that the model takes."""
        x = images
        for _ in range(self.random.integers(0, 3)):
            x = self.pick(layers.RandomFlip(), layers.RandomRotation(0.1), layers.GaussianNoise(0.1), Noise())(x)
        channels = images.shape[-1]
        kind = self.pick("rescaling", "offset", "normalization", "operator", "unit", "symmetric", "two branches")
        self.kinds[kind] += 1
        if kind == "rescaling":
            return layers.Rescaling(1 / 255, **self.named())(x), (0.0, 255.0)
        if kind == "offset":
            return layers.Rescaling(1 / 127.5, offset=-1)(x), (0.0, 255.0)
        if kind == "normalization":
            mean, variance = self.random.uniform(90, 160, channels), self.random.uniform(900, 4000, channels)
            return layers.Normalization(mean=tuple(mean), variance=tuple(variance))(x), (0.0, 255.0)
        if kind == "operator":
            return self.pick(lambda: x / 255.0, lambda: x / 127.5 - 1.0, lambda: (x - 127.5) * 0.01)(), (0.0, 255.0)
        if kind == "two branches":
            first, second = layers.Rescaling(1 / 255)(x), layers.Rescaling(1 / 127.5, offset=-1)(x)
            return layers.Concatenate()([first, second]), (0.0, 255.0)
        return x, (0.0, 1.0) if kind == "unit" else (-1.0, 1.0)

    def body(self, x, count):
        tensors = [x]
        for _ in range(count):
            source = tensors[-1] if self.chance(0.8) else self.pick(*tensors)
            tensors.append(self.step(source, tensors))
        return tensors[-1]

    def step(self, x, tensors):
        """One more tensor."""
        steps = [self.convolution] * 4 + [self.normalized, self.activated, self.activated, self.arithmetic, self.moved]
        steps += [self.pooled, self.grown, self.merged, self.merged, self.gated, self.idle, self.custom]
        if self.depth < 2:
            steps += [self.nested, self.nested]
        step = self.pick(*steps)
        self.kinds[step.__name__] += 1
        return step(x, tensors)

    def apply(self, layer, x):
        """Applies a layer, or one that was used before on such a tensor."""
        known = [other for other, shape in self.shared if shape == tuple(x.shape) and type(other) is type(layer)]
        if known and self.chance(0.4):
            self.kinds["shared"] += 1
            return self.pick(*known)(x)
        self.shared.append((layer, tuple(x.shape)))
        return layer(x)

    def activation(self):
        return self.pick(
            *(None, None, "relu", "relu", "relu6", "silu", "gelu", "tanh", "sigmoid", "elu", "hard_silu", "leaky_relu"),
            *("hard_sigmoid", layers.LeakyReLU(0.1), layers.ReLU(2.0), lambda t: ops.relu(t) * 0.5, ops.softmax),
        )

    def window(self, x):
        """A kernel's size that fits."""
        return int(min(self.pick(1, 2, 3, 3, 5), *x.shape[1:3]))

    def convolution(self, x, tensors):
        size, padding = self.window(x), self.pick("same", "valid")
        filters = int(self.random.integers(1, 9))
        common = {"padding": padding, "activation": self.activation(), "use_bias": self.chance(0.7), **self.named()}
        strides = int(self.pick(1, 1, 2))
        kind = self.pick(
            "plain", "plain", "plain", "depthwise", "separable", "dilated", "grouped", "transposed", "dense"
        )
        self.kinds[kind] += 1
        if kind == "depthwise":
            layer = layers.DepthwiseConv2D(size, strides=strides, depth_multiplier=int(self.pick(1, 1, 2)), **common)
        elif kind == "separable":
            layer = layers.SeparableConv2D(filters, size, strides=strides, **common)
        elif kind == "dilated" and min(x.shape[1:3]) > 4:
            layer = layers.Conv2D(filters, 2, dilation_rate=2, **common)
        elif kind == "grouped":
            groups = int(x.shape[-1])
            layer = layers.Conv2D(groups * int(self.pick(1, 2)), size, groups=groups, **common)
        elif kind == "transposed" and max(x.shape[1:3]) <= 12:
            layer = layers.Conv2DTranspose(filters, size, strides=min(strides, size), **common)
        elif kind == "dense":
            layer = layers.Dense(filters, activation=common["activation"], use_bias=common["use_bias"])
        else:
            layer = layers.Conv2D(filters, size, strides=strides, **common)
        return self.apply(layer, x)

    def normalized(self, x, tensors):
        if self.chance(0.2):
            return self.apply(layers.LayerNormalization(epsilon=float(self.pick(1e-3, 1e-6))), x)
        return self.apply(layers.BatchNormalization(scale=self.chance(0.7), center=self.chance(0.7)), x)

    def activated(self, x, tensors):
        kinds = [layers.ReLU(), layers.ReLU(6.0), layers.ReLU(negative_slope=0.2), layers.LeakyReLU(), layers.ELU()]
        kinds += [layers.PReLU(shared_axes=[1, 2]), layers.Softmax(), layers.Activation(self.activation() or "relu")]
        functions = [ops.relu, ops.sigmoid, ops.tanh, ops.silu, ops.relu6, ops.gelu, ops.leaky_relu, ops.elu]
        functions += [ops.hard_sigmoid, ops.hard_silu, lambda t: ops.clip(t, 0.0, 3.0), lambda t: ops.gelu(t, False)]
        return self.apply(self.pick(*kinds), x) if self.chance(0.6) else self.pick(*functions)(x)

    def arithmetic(self, x, tensors):
        constant = self.random.normal(0, 1, x.shape[-1]).astype("float32")
        return self.pick(
            lambda: x * 0.7,
            lambda: 1.0 - x,
            lambda: x + constant,
            lambda: x * constant,
            lambda: x / 3.0,
            lambda: -x,
            lambda: x * x,
            lambda: x + x,
            lambda: layers.Rescaling(0.5, offset=0.1)(x),
        )()

    def moved(self, x, tensors):
        height, width, channels = x.shape[1:]
        choices = [
            lambda: layers.ZeroPadding2D(((1, 0), (0, 2)))(x),
            lambda: layers.Reshape((width, height, channels))(x),
            lambda: layers.Permute((2, 1, 3))(x),
            lambda: layers.Permute((3, 1, 2))(x),
            lambda: ops.transpose(x, (0, 2, 1, 3)),
            lambda: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
            lambda: ops.reshape(x, (-1, height * width, 1, channels)),
            lambda: x[..., : max(1, channels // 2)],
        ]
        if min(height, width) > 3:
            choices += [lambda: layers.Cropping2D(((1, 0), (1, 1)))(x), lambda: x[:, 1:, :-1]]
        return self.pick(*choices)()

    def pooled(self, x, tensors):
        size = int(min(self.pick(2, 3), *x.shape[1:3]))
        kind = self.pick(layers.MaxPooling2D, layers.AveragePooling2D)
        return kind(size, strides=int(self.pick(1, 2)), padding=self.pick("same", "valid"))(x)

    def grown(self, x, tensors):
        if max(x.shape[1:3]) > 12:
            return layers.MaxPooling2D(padding="same")(x)
        height, width = x.shape[1:3]
        return self.pick(
            layers.UpSampling2D(),
            layers.UpSampling2D((1, 2), interpolation="bilinear"),
            layers.Resizing(height + 3, width * 2),
            layers.Resizing(height * 2, width, interpolation="nearest"),
        )(x)

    def merged(self, x, tensors):
        """Merges with an earlier tensor of the same rows and columns."""
        others = [other for other in tensors if other.shape[1:3] == x.shape[1:3]]
        other = self.pick(*others)
        if self.chance(0.4):
            parts = [x, other] if self.chance(0.7) else [x, other, x]
            return layers.Concatenate()(parts) if self.chance(0.7) else ops.concatenate(parts, axis=-1)
        if other.shape[-1] != x.shape[-1]:
            other = layers.Conv2D(x.shape[-1], 1)(other)
        return self.pick(
            lambda: layers.Add()([x, other, x]),
            lambda: layers.Multiply()([x, other]),
            lambda: layers.Subtract()([x, other]),
            lambda: layers.Average()([x, other]),
            lambda: x + other,
            lambda: x - other,
            lambda: x * other,
        )()

    def gated(self, x, tensors):
        """Squeeze and excitation."""
        pooled = layers.GlobalAveragePooling2D(keepdims=True)(x) if self.chance(0.5) else ops.mean(x, (1, 2), True)
        gate = layers.Conv2D(x.shape[-1], 1, activation=self.pick("sigmoid", "hard_sigmoid"))(pooled)
        return layers.Multiply()([x, gate]) if self.chance(0.5) else x * gate

    def idle(self, x, tensors):
        return self.pick(
            layers.Dropout(0.2), layers.SpatialDropout2D(0.2), layers.GaussianNoise(0.2), layers.Identity(), Noise()
        )(x)

    def custom(self, x, tensors):
        return self.apply(Residual(), x)

    def nested(self, x, tensors):
        """A model of its own, sometimes applied twice."""
        self.depth += 1
        kept, self.shared = self.shared, []
        inside = keras.Input(x.shape[1:])
        made = self.body(inside, self.random.integers(1, 4))
        self.depth, self.shared = self.depth - 1, kept
        if made is inside:
            return x
        model = keras.Model(inside, made)
        made = model(x)
        return model(made) if made.shape == x.shape and self.chance(0.5) else made

    def head(self, x):
        classes = int(self.random.integers(1, 6))
        x = self.pick(
            layers.GlobalAveragePooling2D(),
            layers.GlobalMaxPooling2D(),
            layers.Flatten(),
            lambda t: ops.mean(t, axis=(1, 2)),
        )(x)
        for _ in range(self.random.integers(0, 3)):
            step = self.pick("dense", "norm", "dropout", "activation", "scale")
            self.kinds[f"vector {step}"] += 1
            if step == "dense":
                x = layers.Dense(int(self.random.integers(2, 9)), activation=self.activation())(x)
            elif step == "scale":
                x = x * 0.5 + 0.1
            else:
                kinds = {
                    "norm": layers.BatchNormalization(),
                    "dropout": layers.Dropout(0.3),
                    "activation": layers.ReLU(),
                }
                x = kinds[step](x)
        ending = self.pick(None, None, "softmax" if classes > 1 else "sigmoid")
        return layers.Dense(classes, activation=ending)(x)

    def randomize(self, model):
        """Statistics, offsets and slopes other than their initial ones."""
        seen = set()
        for variable in model.variables:
            if id(variable) in seen or not variable.dtype.startswith("float") or variable.name in ("mean", "variance"):
                continue
            seen.add(id(variable))
            values = keras.ops.convert_to_numpy(variable)
            if variable.name == "moving_variance":
                variable.assign(self.random.uniform(0.3, 2, values.shape))
            elif len(values.shape) == 1:
                variable.assign(values + self.random.normal(0, 0.2, values.shape))

    def images(self, shape):
        """Smooth patterns, in the range that the model takes."""
        low, high = self.input_range
        coarse = self.random.integers(0, 256, (IMAGES, -(-shape[0] // 3), -(-shape[1] // 3), shape[2]))
        pixels = np.repeat(np.repeat(coarse, 3, axis=1), 3, axis=2)[:, : shape[0], : shape[1]]
        return pixels.astype("uint8") if high > 1 else (low + pixels * ((high - low) / 255)).astype("float32")


def judge(seed):
    """`(outcome, reason, model's kinds)` of one seed: right, refused or wrong."""
    from keras_vision import quantization
    from keras_vision.quantization.float_file import write_float_file
    from keras_vision.recipe import InputError

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed % 2**32)
    drawing = Drawing(seed)
    model = drawing.model()
    images = drawing.images(model.input_shape[1:])
    logits = drawing.chance(0.5)
    io = drawing.pick("uint8", "uint8", "int8", "float32")
    try:
        content = quantization.convert(model, "int8", images, io, logits=logits)
    except InputError as error:
        return "refused", str(error), drawing.kinds
    low, high = drawing.input_range
    pixels = images if high > 1 else np.round((images - low) * (255 / (high - low))).astype("uint8")
    taken = drawing.input_range if io == "float32" else None
    found = quantization.Runner(content, input_range=taken)(pixels)
    twin = quantization.with_fake_quantization(model, input_range=drawing.input_range)
    quantization.set_ranges(twin, model, images, logits=logits)
    simulated = quantization.fold(twin).predict(np.asarray(images, "float32"), verbose=0)
    expected = model.predict(np.asarray(images, "float32"), verbose=0)
    probabilities = model.layers[-1].activation.__name__ in ("softmax", "sigmoid")
    if not logits and not probabilities:
        expected, simulated = scores(expected), scores(simulated)
    error, from_simulation = (np.sqrt(np.mean((found - other) ** 2)) for other in (expected, simulated))
    spread = np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2))
    step = 1 / 256 if not logits or probabilities else np.ptp(np.append(expected, 0)) / 255
    reasons = []
    if from_simulation > max(SIMULATED_SPREAD * spread, STEPS * step):
        reasons.append(f"{from_simulation:.3g} from the simulation")
    if error > max(SPREAD * spread, STEPS * step):
        reasons.append(f"{error:.3g} from the model")
    if reasons:
        reasons.append(f"spread {spread:.3g}, step {step:.3g}")
    floats = write_float_file(model, adds_scores=not logits and not probabilities)
    off = np.abs(quantization.Runner(floats)(np.asarray(images, "float32")) - expected).max()
    if not off <= FLOAT_ERROR * max(np.abs(expected).max(), 1e-6):
        reasons.append(f"the file of floats is off by {off:.3g}")
    return ("wrong" if reasons else "right"), "; ".join(reasons), drawing.kinds


def scores(logits):
    """Probabilities of logits, by a way of its own."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True) if logits.shape[-1] > 1 else 1 / (1 + np.exp(-logits))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 models")
    parser.add_argument("--count", type=int, default=1000, help="how many models (default: 1000)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (default: 0)")
    parser.add_argument("--only", type=int, default=None, metavar="SEED", help="one model, with its layers")
    options = parser.parse_args()
    if options.only is not None:
        Drawing(options.only).model().summary(expand_nested=True)
        print(*judge(options.only))
        return 0
    count = 60 if options.quick else options.count
    outcomes: collections.Counter = collections.Counter()
    refusals: dict[str, list[int]] = collections.defaultdict(list)
    kinds: collections.Counter = collections.Counter()
    failures, started = [], time.perf_counter()
    for seed in range(options.first, options.first + count):
        try:
            outcome, reason, drawn = judge(seed)
        except Exception:  # Whatever is raised here is a fault.
            outcome, reason, drawn = "crashed", traceback.format_exc(), {}
        outcomes[outcome] += 1
        kinds.update(drawn)
        if outcome == "refused":
            refusals[kind_of(reason)].append(seed)
        if outcome in ("wrong", "crashed"):
            failures.append({"seed": seed, "outcome": outcome, "reason": reason})
            print(f"{seed}: {outcome}: {reason}", flush=True)
        done = seed - options.first + 1
        if done % 20 == 0:
            print(f"{done}/{count} models, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    for reason, seeds in sorted(refusals.items(), key=lambda item: -len(item[1])):
        print(f"refused {len(seeds)}: {reason} (seeds {', '.join(map(str, seeds[:5]))})")
    headline = {"models": count, **{name: outcomes[name] for name in ("right", "refused", "wrong", "crashed")}}
    details = {"refusals": dict(refusals), "parts": dict(kinds), "failures": failures, "first": options.first}
    record.finish("random_models", headline, {**details, "backend": keras.backend.backend()})
    return 1 if failures else 0


def kind_of(reason):
    """A refusal without names and numbers."""
    for sentence in (
        "was copied wrongly",
        "computes something else",
        "scores are off by",
        "cannot be quantized",
    ):
        if sentence in reason:
            kind = reason.partition("(")[2].partition(")")[0] if sentence == "cannot be quantized" else ""
            return f"{sentence} {kind}".strip()
    return reason[:80]


if __name__ == "__main__":
    sys.exit(main())
