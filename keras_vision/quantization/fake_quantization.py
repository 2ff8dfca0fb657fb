"""Quantization-aware training: a model that computes as its integer file will, and still learns.

Weights of convolutions and dense layers are symmetric 8-bit integers with a scale for each output channel; activations
are 8-bit integers with one scale and zero point a tensor, from a moving average of their ranges. Rounding passes
gradients straight through (Bengio et al. 2013, https://arxiv.org/abs/1308.3432; Jacob et al. 2018,
https://arxiv.org/abs/1712.05877).

A BatchNormalization stays a layer of its own after its convolution, because that is the same as folding it: scaling a
channel scales its largest weight, and so its step, alike. So its statistics can be learnt until they are frozen.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_vision.graph import read_graph
from keras_vision.quantization.lowering import Regroup, StackDepth
from keras_vision.quantization.ranges import (
    HIGHEST,
    LOWEST,
    NARROW,
    SOFTMAX_RANGE,
    TANH_RANGE,
    logits_range,
    parameters,
    weight_scales,
)
from keras_vision.recipe import InputError

PACKAGE = "keras_vision"
DROPOUT = (layers.Dropout, layers.SpatialDropout2D)
# Layers that move values and make no new ones: their output has their input's range.
SAME_RANGE = (
    layers.MaxPooling2D,
    layers.GlobalMaxPooling2D,
    layers.Flatten,
    layers.Reshape,
    layers.ZeroPadding2D,
    Regroup,
    StackDepth,
    *DROPOUT,
)
# Activations that need a range of their own before and after; those with a fixed range have it in LiteRT's kernels.
ACTIVATION_RANGES = {
    "sigmoid": SOFTMAX_RANGE,
    "softmax": SOFTMAX_RANGE,
    "tanh": TANH_RANGE,
    "elu": None,
    "gelu": None,
    "hard_silu": None,
    "leaky_relu": None,
    "silu": None,
}
ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax)
FUSED_ACTIVATIONS = ("linear", "relu", "relu6")
SUPPORTED = (
    "Conv2D, DepthwiseConv2D, SeparableConv2D, Dense, BatchNormalization, Rescaling, Normalization, Add, Multiply, "
    "Concatenate, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, Flatten, Reshape, "
    "ZeroPadding2D, Resizing, Dropout, SpatialDropout2D, ReLU, LeakyReLU, ELU, Softmax, and Activation with "
    + ", ".join((*FUSED_ACTIVATIONS, *ACTIVATION_RANGES))
)


def fake_quantize(values, scale, zero_point, lowest=LOWEST, highest=HIGHEST, *, halves="even"):
    """Rounds values to the reals that integers stand for; gradients pass where nothing was cut off.

    Args:
        values: Float tensor.
        scale: Size of a step; broadcasts against the values.
        zero_point: The integer that stands for 0.
        halves: Where the middle between two integers goes: to the even one; "away" from zero or "up" for averages of
            rounded values, as LiteRT's average pooling and XNNPACK's resizing make them.
    """
    inside = ops.clip(values, (lowest - zero_point) * scale, (highest - zero_point) * scale)
    if halves == "even":
        integers = ops.round(values / scale) + zero_point
    else:
        integers = _round_halves(values / scale + zero_point, halves)
    rounded = (ops.clip(integers, lowest, highest) - zero_point) * scale
    return inside + ops.stop_gradient(rounded - inside)


def _round_halves(values, halves):
    """Rounds with halves "away" from zero or "up": averages of integers often are halves, but for an error."""
    if halves == "up":
        return ops.floor(values + (0.5 + 1e-4))
    return ops.sign(values) * ops.floor(ops.abs(values) + (0.5 + 1e-4))


def fake_quantize_kernel(kernel):
    """A kernel as its integers have it: symmetric, a scale for each output channel, the last axis."""
    axes = tuple(range(len(kernel.shape) - 1))
    largest = ops.stop_gradient(ops.max(ops.abs(kernel), axis=axes, keepdims=True))
    scale = ops.maximum(largest, 1e-8) / NARROW
    return fake_quantize(kernel, scale, 0.0, -NARROW, NARROW)


@keras.saving.register_keras_serializable(PACKAGE)
class FakeQuantize(layers.Layer):
    """Rounds a tensor to 8 bits, in a range that follows a moving average of what it sees while training.

    Args:
        fixed_range: `(low, high)` that never moves, or None.
        momentum: Of the moving average.
        simulate: Whether to round; a model whose layers do not is the float model, tensor by tensor.
    """

    def __init__(self, fixed_range=None, momentum=0.99, simulate=True, **kwargs):
        super().__init__(**kwargs)
        self.fixed_range = tuple(fixed_range) if fixed_range else None
        self.momentum = momentum
        self.simulate = simulate

    def build(self, input_shape):
        low, high = self.fixed_range or (0.0, 0.0)
        start = {"shape": (), "trainable": False, "dtype": "float32"}
        self.low = self.add_weight(name="low", initializer=keras.initializers.Constant(low), **start)
        self.high = self.add_weight(name="high", initializer=keras.initializers.Constant(high), **start)

    def call(self, values, training=False, halves="even"):
        """Rounds values; those with other `halves` are averages of rounded ones, whose range is set already."""
        if not self.simulate:
            return values
        if training and halves == "even" and self.trainable and self.fixed_range is None:
            self._follow(ops.stop_gradient(values))
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        scale = ops.maximum((high - low) / (HIGHEST - LOWEST), 1e-8)
        zero_point = ops.clip(ops.round(LOWEST - low / scale), LOWEST, HIGHEST)
        return fake_quantize(values, scale, zero_point, halves=halves)

    def _follow(self, values):
        low, high = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
        # The first batch is the start: a mean with the zeros before it would cut off most of what follows.
        started = ops.cast(self.high - self.low > 0, "float32")
        rate = 1 - self.momentum * started
        self.low.assign(self.low + rate * (low - self.low))
        self.high.assign(self.high + rate * (high - self.high))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"fixed_range": self.fixed_range, "momentum": self.momentum, "simulate": self.simulate}
        return {**super().get_config(), **own}


class _WithQuantizedKernel:
    """A layer whose kernel is rounded at every call, an output channel on the last axis.

    Args:
        simulate: Whether to round.
        input_scale: Scale of the inputs, in a folded model that learns no more: kernel and bias are then the whole
            numbers that the file holds, the layer computes with them as LiteRT does, and `scales` has the kernel's.
    """

    def __init__(self, *arguments, simulate=True, input_scale=None, **kwargs):
        super().__init__(*arguments, **kwargs)
        self.simulate = simulate
        self.input_scale = input_scale

    def call(self, inputs, training=None):
        if self.input_scale is not None:
            return self._whole_numbers(inputs)
        kernel = self.flat_kernel()
        outputs = self.linear(inputs, fake_quantize_kernel(kernel) if self.simulate else kernel)
        return ops.add(outputs, self.bias) if self.use_bias else outputs

    def build(self, input_shape):
        super().build(input_shape)  # type: ignore[misc]
        if self.input_scale is not None:
            channels = self.flat_kernel().shape[-1]
            self.scales = self.add_weight(name="scales", shape=(channels,), initializer="ones", trainable=False)

    def flat_kernel(self):
        """The kernel with its output channels on the last axis."""
        return ops.convert_to_tensor(self.kernel)  # type: ignore[attr-defined]

    def _whole_numbers(self, inputs):
        accumulated = self.linear(ops.round(inputs / self.input_scale), self.flat_kernel()) + self.bias
        return accumulated * (ops.convert_to_tensor(self.scales) * self.input_scale)

    def get_config(self):
        own = {"simulate": self.simulate, "input_scale": self.input_scale}
        return {**super().get_config(), **own}  # type: ignore[misc]


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConv2D(_WithQuantizedKernel, layers.Conv2D):
    """Conv2D with an 8-bit kernel."""

    def linear(self, inputs, kernel):
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDepthwiseConv2D(_WithQuantizedKernel, layers.DepthwiseConv2D):
    """DepthwiseConv2D with an 8-bit kernel."""

    def flat_kernel(self):
        """Shape `(height, width, channels * multiplier)`."""
        height, width, channels, multiplier = self.kernel.shape
        return ops.reshape(self.kernel, (height, width, channels * multiplier))

    def linear(self, inputs, kernel):
        return ops.depthwise_conv(
            inputs,
            ops.reshape(kernel, self.kernel.shape),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDense(_WithQuantizedKernel, layers.Dense):
    """Dense with an 8-bit kernel."""

    def linear(self, inputs, kernel):
        return ops.matmul(inputs, kernel)


WEIGHTED = (QuantizedConv2D, QuantizedDepthwiseConv2D, QuantizedDense)


def stored_weights(layer):
    """What the file holds of a folded layer.

    Returns:
        `(scales, kernel, bias)`: float32, one an output channel; int8, output channels last; int32.
    """
    scales, kernel, bias = (ops.convert_to_numpy(part) for part in (layer.scales, layer.flat_kernel(), layer.bias))
    return scales, kernel.astype(np.int8), bias.astype(np.int32)


def with_fake_quantization(model, *, input_range=(0.0, 255.0), dropout=True, simulate=True):
    """A copy of a model that computes as its integer file will and trains on every backend.

    Args:
        model: A functional or built Sequential `keras.Model` with one image input; it stays as it is.
        input_range: `(low, high)` of the images that the model takes.
        dropout: False leaves Dropout layers out, for learning from a teacher that answers without them.
        simulate: False gives the same model without any rounding.

    Returns:
        A functional `keras.Model` of the same input and output. Its ranges are unset: `calibrate` sets them.

    Raises:
        InputError: If the model has a layer that cannot be quantized; the message names it.
    """
    return _Rewriting(model, input_range, dropout, simulate).model()


class _Value:
    """A tensor of the new model.

    Attributes:
        tensor: The tensor.
        quantizer: The layer that rounded it, or None while something may still be fused into what made it.
        fuses: Names of what may be fused: "normalization", "activation".
        name: Name of the layer that made it.
    """

    def __init__(self, tensor, name, quantizer=None, fuses=()):
        self.tensor, self.name, self.quantizer, self.fuses = tensor, name, quantizer, fuses


class _Rewriting:
    """Builds the new model step by step; a tensor is rounded only when somebody needs it whole."""

    def __init__(self, model, input_range, dropout, simulate):
        self.graph = read_graph(model)
        self.name = f"{model.name}_quantized" if simulate else f"{model.name}_float"
        self.input_range, self.dropout, self.simulate = input_range, dropout, simulate
        self.consumers = self.graph.consumers()
        self.values = {}

    def model(self):
        images = keras.Input(self.graph.input_shape, name="images")
        self.values[0] = _Value(images, "images")
        for step in self.graph.steps:
            if not isinstance(step.layer, layers.InputLayer):
                self.values[step.output] = self._take(step)
        return keras.Model(images, self._rounded(self.graph.output).tensor, name=self.name)

    def _take(self, step):
        layer, value = step.layer, self.values[step.inputs[0]]
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise self._refusal(layer, " with channels first")
        if isinstance(layer, layers.Rescaling) and step.inputs[0] == 0 and value.quantizer is None:
            return self._input_rescaling(layer)
        if isinstance(layer, (layers.Rescaling, layers.Normalization)):
            return self._affine(layer, step, *_scale_and_offset(layer))
        if isinstance(layer, layers.BatchNormalization):
            return self._normalization(layer, step)
        if isinstance(layer, layers.SeparableConv2D):
            return self._separable(layer, step)
        if type(layer) in (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense):
            return self._weighted(layer, step)
        if isinstance(layer, (layers.Add, layers.Multiply, layers.Concatenate)):
            return self._merge(layer, step)
        if isinstance(layer, layers.Resizing) and not _plainly_bilinear(layer):
            raise self._refusal(layer, " other than bilinear")
        if isinstance(layer, (layers.AveragePooling2D, layers.Resizing)):
            # LiteRT's average pooling and resizing keep their input's scale. XNNPACK resizes with weights that are
            # multiples of 1/2048: where the true ones are none, some values are a step away.
            rounded = self._rounded(step.inputs[0])
            halves = "up" if isinstance(layer, layers.Resizing) else "away"
            averages = self._copy(layer)(rounded.tensor)
            return _Value(rounded.quantizer(averages, halves=halves), layer.name, rounded.quantizer)
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return _Value(self._copy(layer)(self._rounded(step.inputs[0]).tensor), layer.name)
        if isinstance(layer, SAME_RANGE):
            rounded = self._rounded(step.inputs[0])
            if isinstance(layer, DROPOUT) and not self.dropout:
                return rounded
            return _Value(self._copy(layer)(rounded.tensor), layer.name, rounded.quantizer)
        if type(layer) not in ACTIVATIONS:
            raise self._refusal(layer)
        return self._activation(activation_of(layer), layer, step.inputs[0])

    def _refusal(self, layer, detail=""):
        return InputError(
            f"The layer {layer.name!r} ({type(layer).__name__}{detail}) cannot be quantized. Supported: {SUPPORTED}."
        )

    def _copy(self, layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    def _round(self, tensor, name, fixed_range=None):
        quantizer = FakeQuantize(fixed_range, simulate=self.simulate, name=f"{name}_range")
        return _Value(quantizer(tensor), name, quantizer)

    def _rounded(self, number):
        """A tensor with a range, rounded at its first use."""
        value = self.values[number]
        if value.quantizer is None:
            value = self._round(value.tensor, value.name, self.input_range if number == 0 else None)
            self.values[number] = value
        return value

    def _input_rescaling(self, layer):
        """Pixels are whole numbers, so a scale costs nothing, and an offset is rounded to a whole pixel value.

        Zero must be a whole number for padding to mean what it does in the float model.
        """
        low, high = self.input_range
        scale, offset = layer.scale, layer.offset
        if np.ndim(scale) or np.ndim(offset) or scale <= 0 or (low, high) != (0.0, 255.0):
            return self._affine(layer, None, scale, offset)
        zero = float(np.clip(np.round(-offset / scale), 0, 255))
        shifted = layers.Rescaling(scale, -zero * scale if self.simulate else offset, name=layer.name)
        return self._round(shifted(self.values[0].tensor), layer.name, (-zero * scale, (255 - zero) * scale))

    def _affine(self, layer, step, scale, offset):
        """A factor and an offset for each channel, as a 1 x 1 depthwise convolution."""
        value = self._rounded(step.inputs[0] if step else 0)
        channels = value.tensor.shape[-1]
        if len(value.tensor.shape) != 4:
            raise self._refusal(layer, " on vectors, without a Dense before it")
        convolution = QuantizedDepthwiseConv2D(kernel_size=1, simulate=self.simulate, name=layer.name)
        tensor = convolution(value.tensor)
        kernel = np.broadcast_to(np.reshape(scale, -1), channels).astype("float32")
        bias = np.broadcast_to(np.reshape(offset, -1), channels).astype("float32")
        convolution.set_weights([kernel.reshape(1, 1, channels, 1), bias])
        return _Value(tensor, layer.name, fuses=("normalization", "activation"))

    def _normalization(self, layer, step):
        value = self.values[step.inputs[0]]
        if layer.axis not in (-1, len(value.tensor.shape) - 1):
            raise self._refusal(layer, f" with axis {layer.axis}")
        if "normalization" not in value.fuses or self.consumers[step.inputs[0]] > 1:
            mean, factor, offset = _normalization_parts(layer)
            return self._affine(layer, step, factor, offset - mean * factor)
        copy = self._copy(layer)
        tensor = copy(value.tensor)
        copy.set_weights(layer.get_weights())
        return _Value(tensor, layer.name, fuses=value.fuses)

    def _weighted(self, layer, step):
        kinds = {layers.Conv2D: QuantizedConv2D, layers.DepthwiseConv2D: QuantizedDepthwiseConv2D}
        kind = kinds.get(type(layer), QuantizedDense)
        if getattr(layer, "groups", 1) != 1:
            raise self._refusal(layer, f" with {layer.groups} groups")
        value = self._rounded(step.inputs[0])
        if kind is QuantizedDense and len(value.tensor.shape) != 2:
            raise self._refusal(layer, f" on tensors of rank {len(value.tensor.shape)}")
        config = {**layer.get_config(), "activation": "linear", "dtype": "float32", "simulate": self.simulate}
        # A kernel that Keras itself quantizes has more weights than these.
        config.pop("quantization_config", None)
        copy = kind.from_config(config)
        tensor = copy(value.tensor)
        copy.set_weights(layer.get_weights())
        self.values[step.output] = _Value(tensor, layer.name, fuses=("normalization", "activation"))
        return self._activation(activation_of(layer), layer, step.output, inner=True)

    def _separable(self, layer, step):
        """A depthwise convolution and a 1 x 1 convolution."""
        shared = {"padding": layer.padding, "simulate": self.simulate}
        depthwise = QuantizedDepthwiseConv2D(
            kernel_size=layer.kernel_size,
            strides=layer.strides,
            dilation_rate=layer.dilation_rate,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            name=f"{layer.name}_depthwise",
            **shared,
        )
        value = self._rounded(step.inputs[0])
        middle = self._round(depthwise(value.tensor), depthwise.name)
        pointwise = QuantizedConv2D(layer.filters, 1, use_bias=layer.use_bias, name=layer.name, **shared)
        tensor = pointwise(middle.tensor)
        weights = layer.get_weights()
        depthwise.set_weights(weights[:1])
        pointwise.set_weights(weights[1:])
        self.values[step.output] = _Value(tensor, layer.name, fuses=("normalization", "activation"))
        return self._activation(activation_of(layer), layer, step.output, inner=True)

    def _merge(self, layer, step):
        parts = [self._rounded(number) for number in step.inputs]
        if isinstance(layer, layers.Concatenate):
            return _Value(self._copy(layer)([part.tensor for part in parts]), layer.name)
        total, *rest = parts
        for count, part in enumerate(rest, 1):
            last = count == len(rest)
            name = layer.name if last else f"{layer.name}_{count}"
            tensor = type(layer)(name=name)([total.tensor, part.tensor])
            total = _Value(tensor, name, fuses=("activation",)) if last else self._round(tensor, name)
        return total

    def _activation(self, activation, layer, number, *, inner=False):
        """Applies an activation to tensor `number`; `inner` when it is an argument of the layer that made it."""
        value = self.values[number]
        if activation == "linear":
            return value
        name = f"{layer.name}_{activation}" if inner else layer.name
        apply = _activation_layer(activation, layer, name)
        alone = inner or self.consumers[number] == 1
        if activation in FUSED_ACTIVATIONS and "activation" in value.fuses and alone:
            return _Value(apply(value.tensor), name)
        if activation not in (*FUSED_ACTIVATIONS, *ACTIVATION_RANGES):
            raise self._refusal(layer, "" if activation is None else f" with activation {activation}")
        rounded = self._rounded(number)
        # LiteRT has no operator for silu: values times their sigmoid. TensorFlow 2.21 cannot run what it makes of that
        # without the rounding in between, before a LeakyReLU.
        if activation == "silu" and self.simulate:
            gate = layers.Activation("sigmoid", name=f"{name}_gate")(rounded.tensor)
            gate = self._round(gate, f"{name}_gate", SOFTMAX_RANGE)
            return _Value(layers.Multiply(name=name)([rounded.tensor, gate.tensor]), name)
        fixed = ACTIVATION_RANGES.get(activation)
        tensor = apply(rounded.tensor)
        return self._round(tensor, name, fixed) if fixed else _Value(tensor, name)


def activation_of(layer):
    """Name of the activation that a layer is or ends in; None for a layer that is none of these."""
    if isinstance(layer, layers.ReLU):
        if layer.threshold:
            return "thresholded relu"
        if layer.negative_slope:
            return "leaky_relu" if layer.max_value is None else "capped leaky relu"
        return {None: "relu", 6: "relu6"}.get(layer.max_value, f"relu up to {layer.max_value}")
    simple = {layers.LeakyReLU: "leaky_relu", layers.ELU: "elu", layers.Softmax: "softmax"}
    if type(layer) in simple:
        return simple[type(layer)]
    function = getattr(layer, "activation", None)
    if function is None:
        return None
    name = keras.activations.serialize(function)
    name = name if isinstance(name, str) else type(function).__name__
    return {"swish": "silu", "hard_swish": "hard_silu"}.get(name, name)


def ends_in_scores(graph):
    """Whether a model ends in a softmax or a sigmoid, so that its scores are probabilities already."""
    return activation_of(_last(graph, (FakeQuantize, *SAME_RANGE))) in ("softmax", "sigmoid")


def output_range(quantized):
    """Scale and zero point of a fake-quantized model's output."""
    return range_of(_last(read_graph(quantized), SAME_RANGE))


def _last(graph, passed):
    """The layer that made a model's output, with layers of some kinds passed over."""
    makers = {step.output: step for step in graph.steps}
    step = makers[graph.output]
    while isinstance(step.layer, passed):
        step = makers[step.inputs[0]]
    return step.layer


def _activation_layer(activation, layer, name):
    if type(layer) in (layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax):
        return type(layer).from_config({**layer.get_config(), "name": name, "dtype": "float32"})
    if activation == "relu":
        return layers.ReLU(name=name)
    if activation == "relu6":
        return layers.ReLU(6.0, name=name)
    return layers.Activation(layer.activation if activation is not None else None, name=name)


def _plainly_bilinear(layer):
    others = layer.antialias, layer.crop_to_aspect_ratio, layer.pad_to_aspect_ratio
    return layer.interpolation == "bilinear" and not any(others)


def _scale_and_offset(layer):
    if isinstance(layer, layers.Rescaling):
        return layer.scale, layer.offset
    mean, variance = (keras.ops.convert_to_numpy(part).reshape(-1) for part in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)


def quantizers(model):
    """The layers of a fake-quantized model that hold ranges, in order."""
    return [layer for layer in model.layers if isinstance(layer, FakeQuantize)]


def calibrate(quantized, model, images, *, logits=False, batch_size=32):
    """Sets every range of a fake-quantized model to what the float model shows on some images.

    Args:
        quantized: What `with_fake_quantization(model)` returned.
        model: The float model.
        images: Representative images, shape `(N, H, W, C)`.
        logits: Whether the model's logits themselves are wanted; else their range is the one that is best for the
            probabilities, and stays.
    """
    taps, names = _taps(model)
    last = quantized.output._keras_history.operation
    lows, highs, last_values = {}, {}, []
    for start in range(0, len(images), batch_size):
        found = taps.predict_on_batch(np.asarray(images[start : start + batch_size], "float32"))
        for name, values in zip(names, found, strict=True):
            lows[name] = min(lows.get(name, 0.0), float(np.min(values)))
            highs[name] = max(highs.get(name, 0.0), float(np.max(values)))
            if name == _tensor_name(last):
                last_values.append(np.asarray(values))
    for quantizer in quantizers(quantized):
        if quantizer.fixed_range is not None:
            continue
        low, high = lows[_tensor_name(quantizer)], highs[_tensor_name(quantizer)]
        if quantizer is last and not logits:
            low, high = logits_range(np.concatenate(last_values))
            quantizer.trainable = False
        quantizer.low.assign(low)
        quantizer.high.assign(high)


def float_tensors(model, images):
    """What a model without rounding has where its file has integers.

    Args:
        model: A float model, or a fake-quantized one, whose rounding is then left out.
        images: Shape `(N, H, W, C)`.

    Returns:
        `{name of the tensor: values, shape (N, ...)}`.
    """
    taps, names = _taps(model)
    found = taps.predict_on_batch(np.asarray(images, "float32"))
    return {name: np.asarray(values) for name, values in zip(names, found, strict=True)}


def _taps(model):
    """A model without rounding whose outputs are all tensors that are rounded elsewhere, and these tensors' names."""
    twin = _without_rounding(model) if quantizers(model) else with_fake_quantization(model, simulate=False)
    marks = quantizers(twin)
    # A layer's first call is the one that the file's tensor is named after; average pooling calls it again.
    taps = keras.Model(twin.input, [mark._inbound_nodes[0].outputs[0] for mark in marks])
    return taps, [_tensor_name(mark) for mark in marks]


def _without_rounding(quantized):
    def copied(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "simulate": False} if "simulate" in config else config)

    twin = keras.models.clone_model(quantized, clone_function=copied)
    twin.set_weights(quantized.get_weights())
    return twin


def _tensor_name(quantizer):
    return quantizer.name.removesuffix("_range")


def without_last_rounding(quantized):
    """The model up to the rounding of its logits: one that was cut off there has no gradient, and so no heatmap."""
    last = quantized.output._keras_history.operation
    if not isinstance(last, FakeQuantize):
        return quantized
    return keras.Model(quantized.input, last._inbound_nodes[0].input_tensors[0], name=quantized.name)


def freeze(quantized):
    """Stops the statistics of a fake-quantized model's normalizations and its ranges; its weights go on learning.

    Compile the model again afterwards.
    """
    for layer in quantized.layers:
        if isinstance(layer, (layers.BatchNormalization, FakeQuantize)):
            layer.trainable = False


def range_of(quantizer):
    """Scale and zero point of a `FakeQuantize` layer."""
    return parameters(*(float(ops.convert_to_numpy(end)) for end in (quantizer.low, quantizer.high)))


def fold(quantized):
    """The fake-quantized model that its file is written from: normalizations folded, whole numbers in every layer.

    It predicts what the file does and cannot be trained.

    Args:
        quantized: A model from `with_fake_quantization`, calibrated or trained.

    Returns:
        A functional `keras.Model`.

    Reference:
        Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
    """
    graph = read_graph(quantized)
    normalization = {
        step.inputs[0]: step.layer for step in graph.steps if isinstance(step.layer, layers.BatchNormalization)
    }
    images = keras.Input(graph.input_shape, name="images")
    tensors, scales, copies = {0: images}, {}, {}
    for step in graph.steps:
        layer, given = step.layer, [tensors[number] for number in step.inputs]
        if isinstance(layer, layers.InputLayer):
            continue
        if isinstance(layer, layers.BatchNormalization):
            made = given[0]
        elif isinstance(layer, WEIGHTED):
            made = _folded_layer(layer, normalization.get(step.output), scales[step.inputs[0]], given[0])
        else:
            if layer not in copies:
                copies[layer] = type(layer).from_config(layer.get_config())
            made = copies[layer](given[0] if len(given) == 1 else given, **step.arguments)
            copies[layer].set_weights(layer.get_weights())
        tensors[step.output] = made
        if isinstance(layer, FakeQuantize):
            scales[step.output] = float(range_of(layer)[0])
        elif step.inputs and step.inputs[0] in scales:
            scales[step.output] = scales[step.inputs[0]]
    return keras.Model(images, tensors[graph.output], name=f"{quantized.name}_folded")


def _folded_layer(layer, normalization, input_scale, tensor):
    kernel = np.float64(ops.convert_to_numpy(layer.flat_kernel()))
    bias = np.float64(ops.convert_to_numpy(layer.bias)) if layer.use_bias else np.zeros(kernel.shape[-1])
    if normalization is not None:
        mean, factor, offset = _normalization_parts(normalization)
        kernel, bias = kernel * factor, (bias - mean) * factor + offset
    scales = weight_scales(kernel, bias, input_scale)
    copy = type(layer).from_config({**layer.get_config(), "use_bias": True, "input_scale": input_scale})
    made = copy(tensor)
    copy.kernel.assign(np.clip(np.round(kernel / scales), -NARROW, NARROW).reshape(copy.kernel.shape))
    copy.bias.assign(np.round(bias / (np.float32(input_scale) * scales)))
    copy.scales.assign(scales)
    return made


def _normalization_parts(layer):
    """Mean, factor and offset of each channel, float64, of a BatchNormalization in inference."""
    mean, variance = (np.float64(ops.convert_to_numpy(part)) for part in (layer.moving_mean, layer.moving_variance))
    factor = (ops.convert_to_numpy(layer.gamma) if layer.scale else 1) / np.sqrt(variance + layer.epsilon)
    return mean, factor, ops.convert_to_numpy(layer.beta) if layer.center else 0.0


def is_unset(quantizer):
    """Whether a range has seen nothing yet."""
    return not np.any([ops.convert_to_numpy(quantizer.low), ops.convert_to_numpy(quantizer.high)])
