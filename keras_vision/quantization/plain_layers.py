"""Keras's layers and activations as plain layers."""

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.pixels import scale_and_offset
from keras_vision.quantization.lowering import Regroup, StackDepth
from keras_vision.quantization.plain_calls import Adding, Call, Function, MatMul, array, arrays, gelu_tanh, per_channel

DROPOUT = (layers.Dropout, layers.SpatialDropout2D)
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
# Below this, the epsilon of a LayerNormalization is less than 8 bits can show.
SMALL_EPSILON = 1e-5
ACTIVATIONS = {"swish": "silu", "hard_swish": "hard_silu"}
SIMPLE_ACTIVATIONS = ("sigmoid", "tanh", "silu", "hard_silu", "softmax")


class Layers(Adding):
    """A method for each kind of layer: from a call to the output tensor of the plain layers in its place."""

    def take(self, call: Call) -> Any:
        """The output of any call; `plain_model` defines it."""
        raise NotImplementedError

    def open(self, call: Call) -> Any:
        """The output of a layer or function of an unknown class; `plain_model` defines it."""
        raise NotImplementedError

    # Layers with weights. Keras gives `activation` to all of them.

    def convolution(self, call: Call) -> Any:
        layer = call.layer
        weights = arrays(layer.weights)
        if layer.groups != 1:
            # A group of one channel each is another operator, with as many times fewer weights and multiplications.
            if weights[0].shape[2] == 1 and len(set(layer.strides)) == 1:
                return self._as_depthwise(call, *weights)
            weights[0] = _dense_kernel(weights[0], layer.groups)
        return self._weighted(call, weights, filters=layer.filters, **_window(layer))

    def _as_depthwise(self, call, kernel, *bias):
        layer = call.layer
        multiplier = layer.filters // layer.groups
        made = self.add(
            layers.DepthwiseConv2D,
            call,
            call.one,
            depth_multiplier=multiplier,
            weights=[kernel.reshape(*kernel.shape[:2], layer.groups, multiplier), *bias],
            **_window(layer),
        )
        return self._activated(call, made)

    def depthwise(self, call: Call) -> Any:
        layer = call.layer
        return self._weighted(call, depth_multiplier=layer.depth_multiplier, **_window(layer))

    def _weighted(self, call, weights=None, **config):
        """Adds a layer of the same class, without its activation and regularizers, and then the activation."""
        layer = call.layer
        weights = arrays(layer.weights) if weights is None else weights
        if len(weights) != 1 + layer.use_bias:
            raise call.refusal(f" with {len(weights)} weights")  # Such as a kernel that Keras itself quantized.
        return self._activated(call, self.add(type(layer), call, call.one, weights=weights, **config))

    def transposed(self, call: Call) -> Any:
        layer = call.layer
        if layer.output_padding is not None or set(layer.dilation_rate) != {1}:
            raise call.refusal(" with output padding or dilation")
        return self._weighted(call, filters=layer.filters, **_window(layer))

    def separable(self, call: Call) -> Any:
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
        kernel, *bias = pointwise
        return self._activated(call, self._one_by_one(call, middle, kernel[0, 0], *bias))

    def dense(self, call: Call) -> Any:
        layer, shape = call.layer, call.one.shape[1:]
        if len(shape) == 1:
            return self._weighted(call, units=layer.units, use_bias=layer.use_bias)
        kernel, *bias = arrays(layer.weights)
        # The same at each place: a 1 x 1 convolution.
        grid = self.reshaped(call, call.one, (math.prod(shape[:-1]), 1, shape[-1]) if len(shape) != 3 else shape, "_in")
        made = self._one_by_one(call, grid, kernel, *bias)
        return self._activated(call, self.reshaped(call, made, call.shape, "_out"))

    def batch_normalization(self, call: Call) -> Any:
        self._require_channels(call)
        return self.copy(call, call.one, axis=-1, gamma_regularizer=None, beta_regularizer=None)

    def _require_channels(self, call):
        """Refuses a normalization that is not over the last axis alone."""
        axis = call.layer.axis
        axes = [axis] if isinstance(axis, int) else axis
        if [part % len(call.one.shape) for part in axes] != [len(call.one.shape) - 1]:
            raise call.refusal(f" with axis {axis}")

    def layer_normalization(self, call: Call) -> Any:
        """Centred by a 1 x 1 convolution, divided by its length, for which LiteRT has an operator, and scaled."""
        layer, tensor = call.layer, call.one
        shape = tuple(tensor.shape[1:])
        self._require_channels(call)
        if getattr(layer, "rms_scaling", False):
            raise call.refusal(" with rms_scaling")
        if not self.integers:
            return self.copy(call, tensor, axis=-1, gamma_regularizer=None, beta_regularizer=None)
        channels = shape[-1]
        gamma = array(layer.gamma) if layer.scale else np.ones(channels)
        beta = array(layer.beta) if layer.center else np.zeros(channels)
        kernel, bias = np.eye(channels) - 1 / channels, np.zeros(channels)
        small = layer.epsilon < SMALL_EPSILON
        if not small:  # One more channel with a constant makes the length that of the variance with epsilon.
            kernel = np.pad(kernel, ((0, 0), (0, 1)))
            bias = np.append(bias, math.sqrt(channels * layer.epsilon))
        grid = tensor if len(shape) == 3 else self.reshaped(call, tensor, (math.prod(shape[:-1]), 1, channels), "_in")
        centred = self._one_by_one(call, grid, kernel, bias, ending="_centred")
        unit = self.add(layers.UnitNormalization, call, centred, ending="_unit", axis=-1)
        scale = gamma * math.sqrt(channels)
        if small:
            made = self.affine(call, unit, scale, beta)
        else:
            made = self._one_by_one(call, unit, np.pad(np.diag(scale), ((0, 1), (0, 0))), beta)
        return self.reshaped(call, made, shape, "_out")

    def pooled(self, call: Call, kind: type, axis: int, *, keepdims: bool) -> Any:
        """The mean or maximum over rows, axis 1, or columns, axis 2; tokens count as rows of one column."""
        shape = list(call.one.shape[1:])
        grid = self.reshaped(call, call.one, shape if len(shape) == 3 else (shape[0], 1, shape[1]), "_in")
        window = (grid.shape[1], 1) if axis == 1 else (1, grid.shape[2])
        made = self.add(kind, call, grid, pool_size=window, strides=window)
        shape[axis - 1 : axis] = [1] if keepdims else []
        return self.reshaped(call, made, shape, "_out")

    def mean_of_tokens(self, call: Call) -> Any:
        return self._of_tokens(call, layers.AveragePooling2D)

    def largest_of_tokens(self, call: Call) -> Any:
        return self._of_tokens(call, layers.MaxPooling2D)

    def _of_tokens(self, call, kind):
        if call.layer.data_format == "channels_first":
            raise call.refusal(" with channels first")
        return self.pooled(call, kind, 1, keepdims=call.layer.keepdims)

    def unit_normalization(self, call: Call) -> Any:
        self._require_channels(call)
        return self.add(layers.UnitNormalization, call, call.one, axis=-1)

    def product(self, call: Call) -> Any:
        return self.add(MatMul, call, *call.tensors)

    def attention(self, call: Call) -> Any:
        """Heads of attention over rows of tokens: projections as 1 x 1 convolutions, and products of matrices."""
        layer = call.layer
        names = ("query", "value", "key")
        given = dict(zip(names, call.positional, strict=False)) | {
            name: part for name, part in call.named.items() if part is not None and part is not False
        }
        given.pop("training", None)
        if not set(given) <= set(names) or any(len(part.shape) != 3 for part in given.values()):
            raise call.refusal(" with masks, or over more than one axis")
        if layer.get_config().get("use_gate"):
            raise call.refusal(" with a gate")
        given.setdefault("key", given["value"])
        heads, depth = layer.query_dense.kernel.shape[1:]
        parts = {}
        for name, order, scale in (
            ("query", (2, 1, 3), depth**-0.5),
            ("key", (2, 3, 1), 1.0),
            ("value", (2, 1, 3), 1.0),
        ):
            kernel, bias = _projection(getattr(layer, f"{name}_dense"), 1)
            made = self._tokens(call, given[name], kernel * scale, bias * scale, f"_{name}")
            split = self.reshaped(call, made, (made.shape[1], heads, made.shape[-1] // heads), f"_{name}_heads")
            parts[name] = self.add(layers.Permute, call, split, ending=f"_{name}_rows", dims=order)
        likeness = self.add(MatMul, call, parts["query"], parts["key"], ending="_likeness")
        shares = self.add(layers.Activation, call, likeness, ending="_shares", activation="softmax")
        joined = self.add(MatMul, call, shares, parts["value"], ending="_joined")
        tokens = self.add(layers.Permute, call, joined, ending="_tokens", dims=(2, 1, 3))
        rows = self.reshaped(call, tokens, (tokens.shape[1], tokens.shape[2] * tokens.shape[3]), "_flat")
        return self._tokens(call, rows, *_projection(layer.output_dense, 2), "")

    def _tokens(self, call, tensor, kernel, bias, ending):
        """A dense layer over tokens, shape `(N, T, C)`."""
        grid = self.reshaped(call, tensor, (tensor.shape[1], 1, tensor.shape[2]), f"{ending}_in")
        made = self._one_by_one(call, grid, kernel, bias, ending=ending)
        return self.reshaped(call, made, (tensor.shape[1], kernel.shape[1]), f"{ending}_out")

    def _one_by_one(self, call, tensor, kernel, *bias, ending=""):
        """Adds a 1 x 1 convolution with a matrix of shape `(channels, filters)`, with or without a bias."""
        config = {"filters": kernel.shape[1], "kernel_size": 1, "use_bias": bool(bias)}
        weights = [kernel[np.newaxis, np.newaxis], *bias]
        return self.add(layers.Conv2D, call, tensor, ending=ending, weights=weights, **config)

    def normalization(self, call: Call) -> Any:
        scale, offset = scale_and_offset(call.layer)
        if scale.size > 1:
            self._require_channels(call)
        return self.affine(call, call.one, np.ravel(scale), np.ravel(offset))

    def rescaling(self, call: Call) -> Any:
        return self.affine(call, call.one, *scale_and_offset(call.layer))

    # Layers without weights.

    def copied(self, call: Call) -> Any:
        return self.copy(call, call.one)

    def averaging(self, call: Call) -> Any:
        self._require_even(call, call.layer)
        return self.copy(call, call.one)

    def _require_even(self, call, layer):
        if _repeats_the_border(layer, call.one.shape[1:3]):
            raise call.refusal(
                " with uneven padding, which Keras on torch averages in another way than LiteRT; another backend or "
                "padding='valid' would do"
            )

    def reshape(self, call: Call) -> Any:
        """Whatever only reorders nothing: the shape says it all."""
        if math.prod(call.one.shape[1:]) != math.prod(call.shape):
            raise call.refusal(f" from shape {tuple(call.one.shape[1:])} to {call.shape}")
        return self.add(layers.Reshape, call, call.one, target_shape=call.shape)

    def flatten(self, call: Call) -> Any:
        return self.add(layers.Flatten, call, call.one)

    def permute(self, call: Call) -> Any:
        return self._permuted(call, call.layer.dims)

    def _permuted(self, call, dims):
        return self.add(layers.Permute, call, call.one, dims=tuple(dims))

    def upsampling(self, call: Call) -> Any:
        layer = call.layer
        if layer.interpolation == "nearest":
            return self.copy(call, call.one)
        if layer.interpolation != "bilinear":
            raise call.refusal(f" with interpolation {layer.interpolation}")
        return self.add(layers.Resizing, call, call.one, height=call.shape[0], width=call.shape[1])

    def resizing(self, call: Call) -> Any:
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

    def merge(self, call: Call) -> Any:
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

    def activation_layer(self, call: Call) -> Any:
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

    def prelu(self, call: Call) -> Any:
        """`max(x, 0) - alpha max(-x, 0)`, by operators that have 8 bits everywhere."""
        layer, tensor = call.layer, call.one
        alpha = per_channel(array(layer.alpha), tensor.shape)
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
            return self.take(call.inside(function, tensor))
        name, options = _known_activation(function)
        if name is not None:
            return self.activation(call, tensor, name, inner=inner, **options)
        return self.open(call.inside(Function(function), tensor))

    def activation(
        self,
        call: Call,
        tensor: Any,
        name: str,
        *,
        inner: bool = False,
        slope: Any = None,
        alpha: float = 1.0,
        axis: int = -1,
        approximate: bool = False,
    ) -> Any:
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


def _dense_kernel(kernel, groups):
    """The kernel of a grouped convolution as one over all channels, with zeros between the groups."""
    height, width, inputs, filters = kernel.shape
    dense = np.zeros((height, width, inputs * groups, filters), kernel.dtype)
    share = filters // groups
    for group in range(groups):
        outputs = slice(group * share, (group + 1) * share)
        dense[:, :, group * inputs : (group + 1) * inputs, outputs] = kernel[..., outputs]
    return dense


def _projection(layer, inputs):
    """Matrix and bias of an EinsumDense whose kernel's first `inputs` axes are its inputs' channels."""
    kernel = array(layer.kernel)
    rows = math.prod(kernel.shape[:inputs])
    bias = np.zeros(kernel.size // rows) if layer.bias is None else array(layer.bias).reshape(-1)
    return kernel.reshape(rows, -1), bias


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


# By the exact class, because a subclass may compute something else.
LAYERS: dict[type, Any] = {
    layers.Conv2D: Layers.convolution,
    layers.DepthwiseConv2D: Layers.depthwise,
    layers.Conv2DTranspose: Layers.transposed,
    layers.SeparableConv2D: Layers.separable,
    layers.Dense: Layers.dense,
    layers.BatchNormalization: Layers.batch_normalization,
    layers.MultiHeadAttention: Layers.attention,
    layers.LayerNormalization: Layers.layer_normalization,
    layers.UnitNormalization: Layers.unit_normalization,
    layers.GlobalAveragePooling1D: Layers.mean_of_tokens,
    layers.GlobalMaxPooling1D: Layers.largest_of_tokens,
    MatMul: Layers.product,
    layers.Normalization: Layers.normalization,
    layers.Rescaling: Layers.rescaling,
    layers.Flatten: Layers.flatten,
    layers.Reshape: Layers.reshape,
    layers.Permute: Layers.permute,
    layers.UpSampling2D: Layers.upsampling,
    layers.Resizing: Layers.resizing,
    layers.PReLU: Layers.prelu,
    **dict.fromkeys(COPIED, Layers.copied),
    layers.AveragePooling2D: Layers.averaging,
    **dict.fromkeys(MERGES, Layers.merge),
    **dict.fromkeys(
        (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax), Layers.activation_layer
    ),
}
