"""Networks for volumes as networks of 2D operators, with the same weights and the same outputs.

LiteRT has no integer 3D convolution and no 3D pooling. But a volume's slices can stand in a batch: then a 3D
convolution is one 2D convolution of each slice with its neighbours stacked behind its channels, and a 3D pooling is a
pooling of slices and then one along the depth.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_vision.keras_internals.graph import read_graph
from keras_vision.recipe import InputError

PACKAGE = "keras_vision"
KEPT = (  # Layers that do the same to slices as to volumes.
    layers.Activation,
    layers.BatchNormalization,
    layers.Dropout,
    layers.ELU,
    layers.LeakyReLU,
    layers.ReLU,
    layers.Rescaling,
    layers.Softmax,
)
MERGES = (layers.Add, layers.Concatenate, layers.Multiply)
POOLS = {layers.MaxPooling3D: layers.MaxPooling2D, layers.AveragePooling3D: layers.AveragePooling2D}
GLOBAL_POOLS = {
    layers.GlobalMaxPooling3D: layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling3D: layers.GlobalAveragePooling2D,
}
SUPPORTED = ", ".join(
    kind.__name__
    for kind in (
        layers.Conv3D,
        *POOLS,
        *GLOBAL_POOLS,
        layers.ZeroPadding3D,
        layers.SpatialDropout3D,
        layers.Flatten,
        layers.Dense,
        *KEPT,
        *MERGES,
    )
)


@keras.saving.register_keras_serializable(PACKAGE)
class Regroup(layers.Layer):
    """Reshapes and lets the batch take up what is left: the slices of volumes become a batch, or volumes again.

    Args:
        target_shape: Shape without the batch.
    """

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)

    def call(self, values):
        return ops.reshape(values, (-1, *self.target_shape))

    def compute_output_shape(self, input_shape):
        return (None, *self.target_shape)

    def get_config(self):
        return {**super().get_config(), "target_shape": self.target_shape}


@keras.saving.register_keras_serializable(PACKAGE)
class StackDepth(layers.Layer):
    """Slices with their neighbours behind their channels: what one place of a kernel's depth sees.

    Input of shape `(N * depth, H, W, C)`, output `(N * depth_out, H, W, size * C)`.

    Args:
        depth: Slices of a volume.
        size: Depth of the kernel.
        strides: Step along the depth.
        padding: Slices of zeros before and after a volume.
    """

    def __init__(self, depth, size, strides=1, padding=(0, 0), **kwargs):
        super().__init__(**kwargs)
        self.depth, self.size, self.strides, self.padding = depth, size, strides, tuple(padding)

    @property
    def depth_out(self):
        """Slices of a volume in the output."""
        return (self.depth + sum(self.padding) - self.size) // self.strides + 1

    def starts_and_ends(self):
        """For each place of the kernel's depth, the first slice that it sees and the one after the last."""
        reach = self.strides * (self.depth_out - 1) + 1
        return [(first, first + reach) for first in range(self.size)]

    def call(self, slices):
        shape = slices.shape[1:]
        volumes = ops.reshape(slices, (-1, self.depth, *shape))
        volumes = ops.pad(volumes, ((0, 0), self.padding, (0, 0), (0, 0), (0, 0)))
        parts = [volumes[:, first : end : self.strides] for first, end in self.starts_and_ends()]
        stacked = ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return ops.reshape(stacked, (-1, *shape[:-1], self.size * shape[-1]))

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[1:-1], self.size * input_shape[-1])

    def get_config(self):
        own = {"depth": self.depth, "size": self.size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **own}


def lower_3d(model):
    """The same network in 2D operators: equal outputs, equal weights, for training on and for .tflite files.

    Args:
        model: A functional or Sequential `keras.Model` of one volume input, shape `(N, D, H, W, C)`.

    Returns:
        A functional `keras.Model` of the same input and output. A model without volumes is rebuilt as it is.

    Raises:
        InputError: If a layer cannot be lowered; the message names it.
    """
    return _Lowering(model).model()


class _Lowering:
    """Builds the new model step by step; a volume is a tensor of slices, whose depth is kept beside it."""

    def __init__(self, model):
        self.graph, self.name = read_graph(model), f"{model.name}_2d"
        self.tensors, self.depths = {}, {}

    def model(self):
        images = keras.Input(self.graph.input_shape, name="images")
        self.tensors[0] = images
        if len(self.graph.input_shape) == 4:
            self.depths[0] = self.graph.input_shape[0]
        for step in self.graph.steps:
            if not isinstance(step.layer, layers.InputLayer):
                self.tensors[step.output], depth = self._take(step)
                if depth is not None:
                    self.depths[step.output] = depth
        output = self._slices(self.graph.output)
        if self.graph.output in self.depths:
            output = Regroup((self.depths[self.graph.output], *output.shape[1:]), name="volumes")(output)
        return keras.Model(images, output, name=self.name)

    def _slices(self, number):
        """A tensor, a volume's slices in its batch."""
        tensor = self.tensors[number]
        if len(tensor.shape) == 5:
            tensor = self.tensors[number] = Regroup(tensor.shape[2:], name=f"{tensor.name}_slices")(tensor)
        return tensor

    def _take(self, step):
        """The tensor that a step makes, and its depth; None for what is no volume."""
        layer, number = step.layer, step.inputs[0]
        if isinstance(layer, layers.Rescaling) and number == 0:
            # Of the input itself, so that it costs nothing in an integer file.
            return self._copied(layer, self.tensors[0]), self.depths.get(0)
        tensor, depth = self._slices(number), self.depths.get(number)
        if isinstance(layer, MERGES):
            return self._merge(layer, step)
        if depth is None:
            return self._copied(layer, tensor), None
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise _refusal(layer, " with channels first")
        if type(layer) is layers.Conv3D:
            return self._convolution(layer, tensor, depth)
        if type(layer) in POOLS:
            return self._pooling(layer, tensor, depth)
        if type(layer) in GLOBAL_POOLS:
            return self._global_pooling(layer, tensor, depth)
        if isinstance(layer, layers.Flatten):
            return Regroup((depth * int(np.prod(tensor.shape[1:])),), name=layer.name)(tensor), None
        if isinstance(layer, layers.ZeroPadding3D):
            front, *around = layer.padding
            tensor = layers.ZeroPadding2D(around, name=layer.name)(tensor)
            stack = StackDepth(depth, 1, padding=front, name=f"{layer.name}_depth")
            return stack(tensor), stack.depth_out
        if isinstance(layer, layers.SpatialDropout3D):
            # Of a slice, not of the whole volume: one channel is as good as another.
            return layers.SpatialDropout2D(layer.rate, seed=layer.seed, name=layer.name)(tensor), depth
        if isinstance(layer, layers.BatchNormalization) and layer.axis not in (-1, 4):
            raise _refusal(layer, f" with axis {layer.axis}")
        if isinstance(layer, layers.Softmax) or type(layer) not in KEPT:
            raise _refusal(layer)
        return self._copied(layer, tensor), depth

    def _copied(self, layer, tensor):
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            config["axis"] = -1
        copy = type(layer).from_config(config)
        made = copy(tensor)
        copy.set_weights(layer.get_weights())
        return made

    def _merge(self, layer, step):
        parts = [self._slices(number) for number in step.inputs]
        depths = {self.depths.get(number) for number in step.inputs}
        if len(depths) > 1:
            raise _refusal(layer, " of volumes of different depth")
        (depth,) = depths
        config = layer.get_config()
        if isinstance(layer, layers.Concatenate) and depth is not None:
            if layer.axis not in (-1, 4):
                raise _refusal(layer, f" along axis {layer.axis}")
            config["axis"] = -1
        return type(layer).from_config(config)(parts), depth

    def _convolution(self, layer, tensor, depth):
        if layer.groups != 1 or set(layer.dilation_rate) != {1}:
            raise _refusal(layer, " with groups or dilation")
        size, *window = layer.kernel_size
        step, *strides = layer.strides
        stack = StackDepth(depth, size, step, _padding(layer.padding, depth, size, step), name=f"{layer.name}_slices")
        convolution = layers.Conv2D(
            layer.filters,
            window,
            strides=strides,
            padding=layer.padding,
            activation=layer.activation,
            use_bias=layer.use_bias,
            name=layer.name,
        )
        # A kernel of one slice and step needs no stacking.
        made = convolution(tensor if (size, step) == (1, 1) else stack(tensor))
        kernel, *bias = layer.get_weights()
        depth_size, height, width, channels, filters = kernel.shape
        flat = np.moveaxis(kernel, 0, 2).reshape(height, width, depth_size * channels, filters)
        convolution.set_weights([flat, *bias])
        return made, stack.depth_out

    def _pooling(self, layer, tensor, depth):
        kind = POOLS[type(layer)]
        size, *window = layer.pool_size
        step, *strides = layer.strides
        made = kind(window, strides=strides, padding=layer.padding, name=layer.name)(tensor)
        if (size, step) == (1, 1):
            return made, depth
        height, width, channels = made.shape[1:]
        rows = Regroup((depth, height * width, channels), name=f"{layer.name}_rows")(made)
        pooled = kind((size, 1), strides=(step, 1), padding=layer.padding, name=f"{layer.name}_depth")(rows)
        return Regroup((height, width, channels), name=f"{layer.name}_slices")(pooled), pooled.shape[1]

    def _global_pooling(self, layer, tensor, depth):
        height, width, channels = tensor.shape[1:]
        rows = Regroup((depth * height, width, channels), name=f"{layer.name}_rows")(tensor)
        kind = GLOBAL_POOLS[type(layer)]
        pooled = kind(keepdims=layer.keepdims, name=layer.name)(rows)
        return pooled, 1 if layer.keepdims else None


def _padding(padding, depth, size, step):
    """Slices of zeros before and after a volume, as Keras pads for `same`."""
    if padding == "valid":
        return 0, 0
    total = max((-(-depth // step) - 1) * step + size - depth, 0)
    return total // 2, total - total // 2


def _refusal(layer, detail=""):
    return InputError(
        f"The layer {layer.name!r} ({type(layer).__name__}{detail}) cannot be lowered to 2D. Supported on volumes: "
        f"{SUPPORTED}."
    )
