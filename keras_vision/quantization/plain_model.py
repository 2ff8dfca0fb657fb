"""Anybody's Keras model as a model of few kinds of layers, each called once, under names of their own.

Nested models are opened, shared layers become one layer for each call, operators and functions of `keras.ops` become
layers, activations that are arguments become layers of their own, and layers that do nothing in inference are left out.
A layer of an unknown class is opened, too: its `call` is followed symbolically. `rewriting` reads the result.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import Place, Step, is_graph, read_graph, read_steps
from keras_vision.keras_internals.pixels import scales_pixels
from keras_vision.quantization.lowering import PACKAGE, Regroup, StackDepth
from keras_vision.recipe import InputError, first_line

DROPOUT = (layers.Dropout, layers.SpatialDropout2D)
SUPPORTED = (
    "Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D, Dense, BatchNormalization, Rescaling, Normalization, "
    "Add, Subtract, Multiply, Average, Concatenate, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, "
    "GlobalMaxPooling2D, Flatten, Reshape, Permute, ZeroPadding2D, Cropping2D, UpSampling2D, Resizing, ReLU, "
    "LeakyReLU, PReLU, ELU, Softmax, Activation with relu, relu6, leaky_relu, sigmoid, hard_sigmoid, softmax, tanh, "
    "elu, gelu, silu or hard_silu, the same as operators or as functions of keras.ops, and layers that do nothing in "
    "inference"
)
# Layers that are copied as they are, when they have one input.
COPIED = (
    layers.MaxPooling2D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling2D,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    Regroup,
    StackDepth,
    *DROPOUT,
)
MERGES = (layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Concatenate)
RESHAPES = (layers.Flatten, layers.Reshape)
# Tried on values of these sizes, a layer that does nothing in inference returns what it is given.
SIZES = (1e-3, 1.0, 300.0, 1e6)
ACTIVATIONS = {"swish": "silu", "hard_swish": "hard_silu", "Silu": "silu", "HardSilu": "hard_silu"}
SIMPLE_ACTIVATIONS = ("sigmoid", "tanh", "silu", "hard_silu", "softmax")


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_tanh(values: Any) -> Any:
    """GELU by its approximation with tanh."""
    return keras.activations.gelu(values, approximate=True)


def refusal(path: str, kind: str, detail: str = "") -> InputError:
    """The error for a layer that has no 8-bit operator."""
    return InputError(
        f"The layer {path!r} ({kind}{detail}) cannot be quantized. Supported: {SUPPORTED}. "
        "The schemes float32 and dynamic can still express the model."
    )


def with_size(model: keras.Model, image_shape: Sequence[int]) -> keras.Model:
    """A model for images of one size, with the same weights; a functional model that has one size is returned.

    Args:
        model: Functional, Sequential or subclassed.
        image_shape: Shape of one image.

    Raises:
        InputError: If the model does not take such images.
    """
    taken = tuple(model.input_shape[1:]) if is_graph(model) and len(model.inputs) == 1 else None
    if is_graph(model) and (taken is None or None not in taken):
        return model
    if taken is not None and (
        len(taken) != len(image_shape)
        or any(side not in (None, given) for side, given in zip(taken, image_shape, strict=True))
    ):
        raise InputError(f"The model {model.name!r} takes images of shape {taken}. Received: {tuple(image_shape)}.")
    images = keras.Input(tuple(image_shape), name="images")
    try:
        return keras.Model(images, model(images, training=False), name=model.name)
    except Exception as error:  # Whatever somebody's own `call` raises.
        raise InputError(
            f"The model {model.name!r} cannot be applied to images of shape {tuple(image_shape)}: {first_line(error)}"
        ) from error


def takes_pixels(model: keras.Model) -> bool:
    """Whether a model scales pixels from 0 to 255 by itself, perhaps after layers that do nothing in inference."""
    if scales_pixels(model):
        return True
    try:
        return scales_pixels(plain_model(model))
    except Exception:  # A layer without an 8-bit operator, or one of a damaged file, whose numbers may be none.
        return False


def plain_model(model: keras.Model) -> keras.Model:
    """The same function of images by plain layers with copies of the weights.

    Args:
        model: A functional or built Sequential model with one image input and one output; it is not changed.

    Raises:
        InputError: If a layer cannot be quantized; the message names it.
    """
    return traced_plain_model(model)[0]


def traced_plain_model(model: keras.Model) -> tuple[keras.Model, list[tuple[int, str, keras.KerasTensor]]]:
    """The plain model, and the number, the path and the new output tensor of each step of `read_graph(model)`."""
    graph = read_graph(model)
    if None in graph.input_shape:
        raise InputError(
            f"The model {model.name!r} takes images of any size, {graph.input_shape}. Pass images of the size that the "
            "file shall take, or build the model with one size."
        )
    images = keras.Input(graph.input_shape, name="images")
    plain = _Plain()
    output = plain.run(graph.steps, {0: images}, graph.output, "")
    if output is images:
        raise InputError(f"The model {model.name!r} has no layer that computes anything.")
    return keras.Model(images, output, name=model.name), plain.made


class Names:
    """Names for layers, none of which equals another, or another with the endings that rewriting adds."""

    def __init__(self) -> None:
        self.taken = {"images", "images_range"}

    def unique(self, *wanted: str) -> str:
        """The first wanted name that is free, or the last one with a number."""
        # Torch's names of parts have no dots, and TensorFlow's no spaces.
        wanted = tuple(re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in wanted)
        numbered = (f"{wanted[-1]}_{count}" for count in range(2, 100_000))
        for candidate in (*wanted, *numbered):
            both = {candidate, f"{candidate}_range"}
            if not both & self.taken:
                self.taken |= both
                return candidate
        raise ValueError(f"No free name for {wanted}.")


class _Plain:
    """Adds the plain layers of each step."""

    def __init__(self):
        self.names = Names()
        self.made: list[tuple[int, str, Any]] = []

    def run(self, steps, values, output, around):
        """The output tensor of some steps; `around` is the path of the layer that they are inside of."""

        def tensor(part):
            return values[part.number] if isinstance(part, Place) else part

        for step in steps:
            if isinstance(step.layer, layers.InputLayer):
                continue
            call: Any = keras.tree.map_structure(tensor, (step.positional, step.arguments))
            path = f"{around}/{step.path}" if around else step.path
            values[step.output] = self._take(_Call(step, path, *call))
            if not around:
                self.made.append((step.output, path, values[step.output]))
        return values[output]

    def _take(self, call):
        """The output of one step."""
        layer = call.layer
        if getattr(layer, "data_format", None) == "channels_first":
            raise call.refusal(" with channels first")
        for shape in (*(tensor.shape[1:] for tensor in call.tensors), call.shape):
            if None in shape:
                raise call.refusal(f" with tensors of shape {shape}")
        handler = LAYERS.get(type(layer)) if isinstance(layer, keras.Layer) else OPERATIONS.get(type(layer).__name__)
        if isinstance(layer, keras.Layer):
            if handler is None and self._idle(call):
                return call.tensors[0]
        elif not type(layer).__module__.startswith("keras."):
            handler = None
        made = self._open(call) if handler is None else handler(self, call)
        if tuple(made.shape[1:]) != call.shape:
            raise call.refusal(f" with outputs of shape {call.shape}")
        return made

    def _idle(self, call):
        """Whether a layer returns what it is given, in inference."""
        layer, first = call.layer, call.tensors[0]
        kernels = any(len(variable.shape) > 0 for variable in layer.trainable_variables)
        if len(call.tensors) != 1 or tuple(first.shape[1:]) != call.shape or kernels:
            return False
        random = np.random.default_rng(0)
        for size in SIZES:
            values = (size * random.standard_normal((2, *call.shape))).astype("float32")
            try:
                made = layer(keras.ops.convert_to_tensor(values), **call.training(False))
                same = np.array_equal(_array(made), values)
            except Exception:  # Whatever a layer raises: it does more than nothing.
                return False
            if not same:
                return False
        return True

    def _open(self, call):
        """The output of a layer or function of an unknown class, by what its `call` computes."""
        inputs = [keras.Input(tensor.shape[1:]) for tensor in call.tensors]
        replaced = dict(zip(map(id, call.tensors), inputs, strict=True))
        arguments: Any = keras.tree.map_structure(
            lambda part: replaced.get(id(part), part), (call.positional, call.named)
        )
        positional, named = arguments
        try:
            output = call.layer.call(*positional, **{**named, **call.training(False)})
            steps, end = read_steps(inputs, output)
        except Exception as error:  # Whatever a layer of an unknown class raises.
            raise call.refusal() from error
        values = dict(enumerate(call.tensors))
        if any(step.layer is call.layer for step in steps):
            raise call.refusal()
        try:
            return self.run(steps, values, end, call.path)
        except InputError as error:
            own = type(call.layer).__module__.startswith("keras.") and not isinstance(call.layer, layers.Lambda)
            if own:
                raise call.refusal() from error  # Its parts say nothing to a user.
            raise

    # Adding layers.

    def add(self, kind, call, *tensors, ending="", weights=None, **config):
        """Adds a layer under a name that the step's path gives, and returns its output."""
        name = call.name + ending
        layer = kind(**config, name=self.names.unique(name, call.long_name + ending), dtype="float32")
        output = layer(tensors[0] if len(tensors) == 1 else list(tensors))
        if weights is not None:
            layer.set_weights(weights)
        return output

    def copy(self, call, *tensors, **changes):
        """Adds a copy of the step's layer."""
        name = self.names.unique(call.name, call.long_name)
        config = {**call.layer.get_config(), **changes, "name": name, "dtype": "float32"}
        layer = type(call.layer).from_config(config)
        output = layer(tensors[0] if len(tensors) == 1 else list(tensors))
        if layer.weights:
            layer.set_weights(arrays(call.layer.weights))
        return output

    def reshaped(self, call, tensor, shape, ending):
        """Adds a Reshape where the shape is another."""
        if tuple(tensor.shape[1:]) == tuple(shape):
            return tensor
        return self.add(layers.Reshape, call, tensor, ending=ending, target_shape=tuple(shape))

    def affine(self, call, tensor, scale, offset, ending=""):
        """Adds a factor and an offset for each channel."""
        scale, offset = (_per_channel(part, tensor.shape) for part in (scale, offset))
        if scale is None or offset is None:
            raise call.refusal(" with a constant that is not one number or one for each channel")
        return self.add(layers.Rescaling, call, tensor, ending=ending, scale=scale, offset=offset)

    # Layers with weights. Keras gives `activation` to all of them.

    def convolution(self, call):
        layer = call.layer
        weights = arrays(layer.weights)
        if layer.groups != 1:
            weights[0] = _dense_kernel(weights[0], layer.groups)
        return self._weighted(call, weights, filters=layer.filters, **_window(layer))

    def depthwise(self, call):
        layer = call.layer
        return self._weighted(call, depth_multiplier=layer.depth_multiplier, **_window(layer))

    def _weighted(self, call, weights=None, **config):
        """Adds a layer of the same class, without its activation and regularizers, and then the activation."""
        layer = call.layer
        weights = arrays(layer.weights) if weights is None else weights
        if len(weights) != 1 + layer.use_bias:
            raise call.refusal(f" with {len(weights)} weights")  # Such as a kernel that Keras itself quantized.
        config["trainable"] = layer.trainable  # For fine-tuning: what is frozen stays frozen.
        return self._activated(call, self.add(type(layer), call, call.one, weights=weights, **config))

    def transposed(self, call):
        layer = call.layer
        if layer.output_padding is not None or set(layer.dilation_rate) != {1}:
            raise call.refusal(" with output padding or dilation")
        return self._weighted(call, filters=layer.filters, **_window(layer))

    def separable(self, call):
        layer = call.layer
        kernel, *pointwise = arrays(layer.weights)
        shared = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
        middle = self.add(
            layers.DepthwiseConv2D,
            call,
            call.one,
            ending="_depthwise",
            kernel_size=layer.kernel_size,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            weights=[kernel],
            **shared,
        )
        made = self.add(
            layers.Conv2D,
            call,
            middle,
            filters=layer.filters,
            kernel_size=1,
            use_bias=layer.use_bias,
            weights=pointwise,
        )
        return self._activated(call, made)

    def dense(self, call):
        layer, shape = call.layer, call.one.shape[1:]
        if len(shape) == 1:
            return self._weighted(call, units=layer.units, use_bias=layer.use_bias)
        kernel, *bias = arrays(layer.weights)
        # The same at each place: a 1 x 1 convolution.
        grid = self.reshaped(call, call.one, (math.prod(shape[:-1]), 1, shape[-1]) if len(shape) != 3 else shape, "_in")
        made = self.add(
            layers.Conv2D,
            call,
            grid,
            filters=layer.units,
            kernel_size=1,
            use_bias=layer.use_bias,
            weights=[kernel[np.newaxis, np.newaxis], *bias],
        )
        return self._activated(call, self.reshaped(call, made, call.shape, "_out"))

    def normalization(self, call):
        layer, rank = call.layer, len(call.one.shape)
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[-1] if len(layer.axis) == 1 else None
        if axis not in (-1, rank - 1):
            raise call.refusal(f" with axis {layer.axis}")
        if isinstance(layer, layers.BatchNormalization):
            return self.copy(call, call.one, axis=-1, gamma_regularizer=None, beta_regularizer=None)
        mean, variance = (np.ravel(_array(part)) for part in (layer.mean, layer.variance))
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
        return self.affine(call, call.one, scale, offset)

    def unit_statistics(self, call):
        """A Normalization over no axis has one mean for all; over the last one a mean for each channel."""
        layer = call.layer
        if np.size(_array(layer.mean)) == 1:
            mean, variance = (float(np.ravel(_array(part))[0]) for part in (layer.mean, layer.variance))
            deviation = max(math.sqrt(variance), keras.config.epsilon())
            scale, offset = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
            return self.affine(call, call.one, scale, offset)
        return self.normalization(call)

    def rescaling(self, call):
        return self.affine(call, call.one, call.layer.scale, call.layer.offset)

    # Layers without weights.

    def copied(self, call):
        return self.copy(call, call.one)

    def averaging(self, call):
        self._require_even(call, call.layer)
        return self.copy(call, call.one)

    def _require_even(self, call, layer):
        if _repeats_the_border(layer, call.one.shape[1:3]):
            raise call.refusal(
                " with uneven padding, which Keras on torch averages in another way than LiteRT; another backend or "
                "padding='valid' would do"
            )

    def reshape(self, call):
        """Whatever only reorders nothing: the shape says it all."""
        if math.prod(call.one.shape[1:]) != math.prod(call.shape):
            raise call.refusal(f" from shape {tuple(call.one.shape[1:])} to {call.shape}")
        return self.add(layers.Reshape, call, call.one, target_shape=call.shape)

    def flatten(self, call):
        return self.add(layers.Flatten, call, call.one)

    def permute(self, call):
        return self._permuted(call, call.layer.dims)

    def _permuted(self, call, dims):
        return self.add(layers.Permute, call, call.one, dims=tuple(dims))

    def upsampling(self, call):
        layer = call.layer
        if layer.interpolation == "nearest":
            return self.copy(call, call.one)
        if layer.interpolation != "bilinear":
            raise call.refusal(f" with interpolation {layer.interpolation}")
        return self.add(layers.Resizing, call, call.one, height=call.shape[0], width=call.shape[1])

    def resizing(self, call):
        layer = call.layer
        if layer.antialias or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
            raise call.refusal(" with antialiasing, cropping or padding")
        return self._resized(call, layer.interpolation)

    def _resized(self, call, interpolation):
        (height, width, _), (new_height, new_width, _) = call.one.shape[1:], call.shape
        if (height, width) == (new_height, new_width):
            return call.one
        if interpolation == "bilinear":
            return self.add(layers.Resizing, call, call.one, height=new_height, width=new_width)
        if interpolation == "nearest" and new_height % height == 0 and new_width % width == 0:
            return self.add(layers.UpSampling2D, call, call.one, size=(new_height // height, new_width // width))
        raise call.refusal(f" with interpolation {interpolation}")

    def merge(self, call):
        tensors = call.tensors
        if len({len(tensor.shape) for tensor in tensors}) > 1:
            raise call.refusal(" of tensors of different rank")
        if isinstance(call.layer, layers.Concatenate):
            return self._joined(call, call.layer.axis)
        return self._merged(call, type(call.layer), tensors)

    def _joined(self, call, axis):
        axis %= len(call.shape) + 1
        if axis == 0:
            raise call.refusal(" along the batch")
        return self.add(layers.Concatenate, call, *call.tensors, axis=axis) if len(call.tensors) > 1 else call.one

    def _merged(self, call, kind, tensors):
        """Adds a merging layer of two inputs for each input but the first."""
        total, *rest = tensors
        if kind is layers.Average:
            return self.affine(call, self._merged(call, layers.Add, tensors), 1 / len(tensors), 0.0, "_share")
        for count, part in enumerate(rest, 1):
            total = self.add(kind, call, total, part, ending="" if count == len(rest) else f"_{count}")
        return total

    # Activations.

    def activation_layer(self, call):
        layer = call.layer
        if isinstance(layer, layers.ReLU):
            return self._relu(call, call.one, layer.max_value, layer.negative_slope, layer.threshold)
        if isinstance(layer, layers.LeakyReLU):
            return self.activation(call, call.one, "leaky_relu", slope=layer.negative_slope)
        if isinstance(layer, layers.ELU):
            return self.activation(call, call.one, "elu", alpha=layer.alpha)
        if isinstance(layer, layers.Softmax):
            if len(call.tensors) > 1:
                raise call.refusal(" with a mask")
            return self.activation(call, call.one, "softmax", axis=layer.axis)
        return self._activated(call, call.one, inner=False)

    def prelu(self, call):
        """`max(x, 0) - alpha max(-x, 0)`, by operators that have 8 bits everywhere."""
        layer, tensor = call.layer, call.one
        alpha = _per_channel(_array(layer.alpha), tensor.shape)
        if alpha is None:
            raise call.refusal(" with parameters that are not shared over rows and columns")
        above = self.add(layers.ReLU, call, tensor, ending="_above")
        below = self.add(layers.ReLU, call, self.affine(call, tensor, -1.0, 0.0, "_negated"), ending="_below")
        return self.add(layers.Subtract, call, above, self.affine(call, below, alpha, 0.0, "_slope"))

    def _activated(self, call, tensor, *, inner=True):
        """Applies the activation of a layer; `inner` when it is an argument of a layer that does something else."""
        function = getattr(call.layer, "activation", None)
        if function is None or function is keras.activations.linear:
            return tensor
        if isinstance(function, keras.Layer):
            return self._take(call.inside(function, tensor))
        name, options = _known_activation(function)
        if name is not None:
            return self.activation(call, tensor, name, inner=inner, **options)
        return self._open(call.inside(_Function(function), tensor))

    def activation(self, call, tensor, name, *, inner=False, slope=None, alpha=1.0, axis=-1, approximate=False):
        """Applies an activation by its name.

        Args:
            inner: Whether it is an argument of a layer that does something else.
        """
        name = ACTIVATIONS.get(name, name)
        ending = f"_{name}" if inner else ""
        if name == "linear":
            return tensor
        if name in ("relu", "relu6"):
            return self.add(layers.ReLU, call, tensor, ending=ending, max_value=6.0 if name == "relu6" else None)
        if name == "leaky_relu":
            slope = 0.2 if slope is None else float(slope)
            if not slope >= 0:
                raise call.refusal(f" with slope {slope:g}")
            return self.add(layers.LeakyReLU, call, tensor, ending=ending, negative_slope=slope)
        if name == "elu" and alpha == 1:
            return self.add(layers.ELU, call, tensor, ending=ending)
        if name == "gelu":
            function = gelu_tanh if approximate else "gelu"
            return self.add(layers.Activation, call, tensor, ending=ending, activation=function)
        if name == "hard_sigmoid":
            # relu6(x + 3) / 6
            shifted = self.affine(call, tensor, 1.0, 3.0, f"{ending}_shift")
            return self.affine(call, self._relu(call, shifted, 6.0, ending=f"{ending}_relu"), 1 / 6, 0.0, ending)
        if name == "softmax" and axis not in (-1, len(tensor.shape) - 1):
            raise call.refusal(f" along axis {axis}")
        if name in SIMPLE_ACTIVATIONS:
            return self.add(layers.Activation, call, tensor, ending=ending, activation=name)
        raise call.refusal(f" with activation {name}" + (f" and alpha {alpha:g}" if name == "elu" else ""))

    def _relu(self, call, tensor, max_value=None, slope: Any = 0.0, threshold: Any = 0.0, ending=""):
        if threshold:
            raise call.refusal(f" with threshold {threshold:g}")
        if slope and max_value is not None:
            raise call.refusal(" with a slope and a largest value")
        if slope:
            return self.add(layers.LeakyReLU, call, tensor, ending=ending, negative_slope=float(slope))
        if max_value is None or max_value == 6:
            return self.add(layers.ReLU, call, tensor, ending=ending, max_value=max_value)
        if max_value <= 0:
            raise call.refusal(f" up to {max_value:g}")
        # 8-bit operators end at 6 or nowhere.
        up = self.affine(call, tensor, 6 / max_value, 0.0, f"{ending}_up")
        return self.affine(
            call, self.add(layers.ReLU, call, up, ending=f"{ending}_relu6", max_value=6.0), max_value / 6, 0.0, ending
        )

    # Operators and functions of keras.ops.

    def named_operation(self, call):
        """An activation of keras.ops."""
        layer = call.layer
        name = _snake(type(layer).__name__)
        return self.activation(
            call,
            call.one,
            name,
            slope=getattr(layer, "negative_slope", None),
            alpha=getattr(layer, "alpha", 1.0),
            axis=getattr(layer, "axis", -1),
            approximate=getattr(layer, "approximate", False),
        )

    def arithmetic(self, call):
        """`+`, `-`, `*` and `/` of tensors and constants."""
        first, second = call.operands()
        name = type(call.layer).__name__
        if call.is_tensor(first) and call.is_tensor(second):
            kind = {"Add": layers.Add, "Subtract": layers.Subtract, "Multiply": layers.Multiply}.get(name)
            if kind is None or len(first.shape) != len(second.shape):
                raise call.refusal(" of two tensors" + (" of different rank" if kind else ""))
            return self._merged(call, kind, [first, second])
        tensor, constant = (first, second) if call.is_tensor(first) else (second, first)
        constant = _array(constant)
        if name == "Add":
            return self.affine(call, tensor, 1.0, constant)
        if name == "Multiply":
            return self.affine(call, tensor, constant, 0.0)
        if name == "Subtract":
            return self.affine(call, tensor, *((1.0, -constant) if tensor is first else (-1.0, constant)))
        if tensor is second or np.any(constant == 0):
            raise call.refusal(" by a tensor or by zero")
        return self.affine(call, tensor, 1 / constant, 0.0)

    def negative(self, call):
        return self.affine(call, call.one, -1.0, 0.0)

    def square(self, call):
        return self.add(layers.Multiply, call, call.one, call.one)

    def clip(self, call):
        low, high = (float(_array(getattr(call.layer, name))) for name in ("x_min", "x_max"))
        if low != 0:
            raise call.refusal(f" from {low:g}")
        return self._relu(call, call.one, high)

    def mean_or_max(self, call):
        axes, rank = call.layer.axis, len(call.one.shape)
        axes = {axis % rank for axis in ((axes,) if isinstance(axes, int) else axes or range(rank))}
        if rank != 4 or axes != {1, 2}:
            raise call.refusal(" along axes other than rows and columns")
        mean = type(call.layer).__name__ == "Mean"
        kind = layers.GlobalAveragePooling2D if mean else layers.GlobalMaxPooling2D
        return self.add(kind, call, call.one, keepdims=call.layer.keepdims)

    def transpose(self, call):
        axes = call.layer.axes or range(len(call.one.shape))[::-1]
        if axes[0] != 0:
            raise call.refusal(" of the batch")
        return self._permuted(call, axes[1:])

    def swap(self, call):
        axes = list(range(len(call.one.shape)))
        first, second = call.layer.axis1, call.layer.axis2
        axes[first], axes[second] = axes[second], axes[first]
        if axes[0] != 0:
            raise call.refusal(" of the batch")
        return self._permuted(call, axes[1:])

    def concatenate(self, call):
        return self._joined(call, call.layer.axis)

    def pad(self, call):
        layer = call.layer
        value = [part for part in (*call.positional, *call.named.values()) if not call.is_tensor(part)]
        width = layer.pad_width
        width = ((width, width),) * len(call.one.shape) if isinstance(width, int) else width
        width: Any = [tuple(part) if np.ndim(part) else (part, part) for part in width]
        around = len(width) == 4 and width[0] == width[3] == (0, 0) and min(min(width[1]), min(width[2])) >= 0
        if not around or layer.mode != "constant" or any(np.any(_array(part)) for part in value if part is not None):
            raise call.refusal(" other than rows and columns of zeros")
        return self.add(layers.ZeroPadding2D, call, call.one, padding=(width[1], width[2]))

    def item(self, call):
        """A slice: rows and columns are cropped, channels are picked by a 1 x 1 convolution."""
        tensor, key = call.one, next(part for part in (*call.positional, *call.named.values()) if part is not call.one)
        key = list(key) if isinstance(key, (tuple, list)) else [key]
        rank = len(tensor.shape)
        if Ellipsis in key:
            at = key.index(Ellipsis)
            key[at : at + 1] = [slice(None)] * (rank - len(key) + 1)
        key += [slice(None)] * (rank - len(key))
        plain = len(key) == rank == 4 and all(isinstance(part, slice) for part in key) and key[0] == slice(None)
        if not plain:
            raise call.refusal(" other than rows, columns and channels of images")
        rows, columns, channels = (
            range(*part.indices(side)) for part, side in zip(key[1:], tensor.shape[1:], strict=True)
        )
        if rows.step != 1 or columns.step != 1 or not all(map(len, (rows, columns, channels))):
            raise call.refusal(" that skips rows or columns")
        crops = [(part.start, side - part.stop) for part, side in zip((rows, columns), tensor.shape[1:3], strict=True)]
        if any(map(any, crops)):
            whole = len(channels) == tensor.shape[3] and channels.step == 1
            tensor = self.add(layers.Cropping2D, call, tensor, ending="" if whole else "_crop", cropping=tuple(crops))
        if list(channels) == list(range(tensor.shape[3])):
            return tensor
        kernel = np.zeros((1, 1, tensor.shape[3], len(channels)), np.float32)
        kernel[0, 0, list(channels), range(len(channels))] = 1
        return self.add(
            layers.Conv2D,
            call,
            tensor,
            filters=len(channels),
            kernel_size=1,
            use_bias=False,
            weights=[kernel],
        )

    def pool(self, call):
        layer = call.layer
        kind = layers.MaxPooling2D if type(layer).__name__ == "MaxPool" else layers.AveragePooling2D
        if len(call.one.shape) != 4:
            raise call.refusal(f" on tensors of rank {len(call.one.shape)}")
        if kind is layers.AveragePooling2D:
            self._require_even(call, kind(layer.pool_size, strides=layer.strides, padding=layer.padding))
        return self.add(kind, call, call.one, pool_size=layer.pool_size, strides=layer.strides, padding=layer.padding)

    def resize(self, call):
        layer = call.layer
        if layer.antialias or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
            raise call.refusal(" with antialiasing, cropping or padding")
        return self._resized(call, layer.interpolation)

    def cast(self, call):
        """Casting pixels to floats changes nothing; casting to integers would round."""
        if not str(call.layer.dtype).startswith(("float", "bfloat")):
            raise call.refusal(f" to {call.layer.dtype}")
        return call.one

    def same(self, call):
        return call.one


class _Function:
    """A function as something that `_Plain` can open: it has a name and a `call`."""

    def __init__(self, function):
        self.call, self.name = function, getattr(function, "__name__", None) or type(function).__name__


class _Call:
    """One call of a layer or operation, with the tensors of the plain model."""

    def __init__(self, step: Step | None, path: str, positional: Any, named: Any, layer: Any = None, shape: Any = None):
        self.layer = step.layer if step is not None else layer
        self.shape = tuple(step.shape) if step is not None else shape
        self.path, self.positional, self.named = path, positional, named
        self.tensors = [part for part in keras.tree.flatten((positional, named)) if self.is_tensor(part)]
        if not self.tensors:
            raise self.refusal(" without an input")

    @property
    def name(self):
        """What the plain layers are named after. Keras numbers operations anew whenever a function is followed."""
        return self.layer.name if isinstance(self.layer, keras.Layer) else _snake(type(self.layer).__name__)

    @property
    def long_name(self):
        """The name after those of the models and layers around it."""
        return "_".join((*self.path.split("/")[:-1], self.name))

    def is_tensor(self, part):
        """Whether a part of the arguments is a tensor of the model, and not a constant."""
        return isinstance(part, keras.KerasTensor)

    @property
    def one(self):
        """The only input tensor."""
        if len(self.tensors) != 1:
            raise self.refusal(f" of {len(self.tensors)} tensors")
        return self.tensors[0]

    def operands(self):
        """The two operands of an operator, in order."""
        parts = [*self.positional, *self.named.values()]
        if len(parts) != 2:
            raise self.refusal(f" of {len(parts)} operands")
        return parts

    def training(self, value):
        """The argument `training`, for a layer whose `call` has it."""
        return {"training": value} if "training" in inspect.signature(self.layer.call).parameters else {}

    def inside(self, layer, tensor):
        """The call of an activation that is an argument of this layer."""
        return _Call(None, f"{self.path}/{layer.name}", (tensor,), {}, layer, tuple(tensor.shape[1:]))

    def refusal(self, detail=""):
        """The error for this call."""
        return refusal(self.path, type(self.layer).__name__.lstrip("_"), detail)


def _known_activation(function):
    """`(name, options)` of one of Keras's activations, also with some arguments given beforehand; else `(None, {})`."""
    options: dict[str, Any] = {}
    if isinstance(function, functools.partial):
        if function.args:
            return None, {}
        options, function = dict(function.keywords), function.func
    name = getattr(function, "__name__", "")
    own = getattr(keras.activations, name, None) is function or (name == "gelu_tanh" and function is gelu_tanh)
    if not own:
        return None, {}
    if name == "gelu_tanh":
        return "gelu", {"approximate": True}
    known = {"negative_slope": "slope", "alpha": "alpha", "axis": "axis", "approximate": "approximate"}
    if (name in ("relu", "celu") and options) or not set(options) <= set(known):
        return None, {}
    return name, {known[key]: value for key, value in options.items()}


def _snake(name):
    """`LeakyRelu` as `leaky_relu`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")


def _array(part) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(part))


def arrays(weights: Sequence[Any]) -> list[np.ndarray]:
    """Values of weights, as float32 arrays."""
    return [_array(weight).astype("float32") for weight in weights]


def _per_channel(values, shape):
    """A constant as a number, or as a list with a number for each channel; None where it is neither."""
    values = np.asarray(_array(values), np.float64)
    if values.size == 1:
        return float(values.reshape(()))
    # Broadcasting aligns the last axes.
    if values.shape[-1] == shape[-1] == values.size and values.ndim <= len(shape):
        return values.reshape(-1).tolist()
    return None


def _dense_kernel(kernel, groups):
    """The kernel of a grouped convolution as one over all channels, with zeros between the groups."""
    height, width, inputs, filters = kernel.shape
    dense = np.zeros((height, width, inputs * groups, filters), kernel.dtype)
    share = filters // groups
    for group in range(groups):
        outputs = slice(group * share, (group + 1) * share)
        dense[:, :, group * inputs : (group + 1) * inputs, outputs] = kernel[..., outputs]
    return dense


def _repeats_the_border(layer, sides):
    """Whether Keras repeats an image's last row or column before it averages: on torch, where padding is uneven."""
    if keras.backend.backend() != "torch" or layer.padding != "same":
        return False
    for side, window, stride in zip(sides, layer.pool_size, layer.strides, strict=True):
        padding = max((-(-side // stride) - 1) * stride + window - side, 0)
        if padding % 2 and window > 2:
            return True
    return False


def _window(layer):
    shared = {"kernel_size": layer.kernel_size, "strides": layer.strides, "padding": layer.padding}
    return {**shared, "dilation_rate": layer.dilation_rate, "use_bias": layer.use_bias}


Handler = Callable[[_Plain, Any], Any]
# By the exact class, because a subclass may compute something else.
LAYERS: dict[type, Handler] = {
    layers.Conv2D: _Plain.convolution,
    layers.DepthwiseConv2D: _Plain.depthwise,
    layers.Conv2DTranspose: _Plain.transposed,
    layers.SeparableConv2D: _Plain.separable,
    layers.Dense: _Plain.dense,
    layers.BatchNormalization: _Plain.normalization,
    layers.Normalization: _Plain.unit_statistics,
    layers.Rescaling: _Plain.rescaling,
    layers.Flatten: _Plain.flatten,
    layers.Reshape: _Plain.reshape,
    layers.Permute: _Plain.permute,
    layers.UpSampling2D: _Plain.upsampling,
    layers.Resizing: _Plain.resizing,
    layers.PReLU: _Plain.prelu,
    **dict.fromkeys(COPIED, _Plain.copied),
    layers.AveragePooling2D: _Plain.averaging,
    **dict.fromkeys(MERGES, _Plain.merge),
    **dict.fromkeys(
        (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax), _Plain.activation_layer
    ),
}
# By the name of the class in keras.ops, whose modules are private.
OPERATIONS: dict[str, Handler] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Divide", "TrueDivide"), _Plain.arithmetic),
    **dict.fromkeys(
        ("Relu", "Relu6", "LeakyRelu", "Elu", "Gelu", "Silu", "HardSilu", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"),
        _Plain.named_operation,
    ),
    **dict.fromkeys(("Mean", "Max", "Amax"), _Plain.mean_or_max),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Ravel"), _Plain.reshape),
    **dict.fromkeys(("MaxPool", "AveragePool"), _Plain.pool),
    **dict.fromkeys(("Identity", "Copy", "StopGradient"), _Plain.same),
    "Cast": _Plain.cast,
    "Clip": _Plain.clip,
    "Concatenate": _Plain.concatenate,
    "GetItem": _Plain.item,
    "Negative": _Plain.negative,
    "Pad": _Plain.pad,
    "Resize": _Plain.resize,
    "Square": _Plain.square,
    "Swapaxes": _Plain.swap,
    "Transpose": _Plain.transpose,
}
