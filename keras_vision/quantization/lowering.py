"""Networks for volumes as networks of 2D operators, with the same weights and the same outputs.

LiteRT has no integer 3D convolution and no 3D pooling. With a volume's slices as a batch, a 3D convolution is one 2D
convolution of each slice with its neighbours stacked behind its channels, and a 3D pooling is a pooling of slices and
then one along the depth.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_vision.keras_internals.graph import read_graph
from keras_vision.recipe import InputError

PACKAGE = "keras_vision"
KEPT = (  # Layers that compute the same on slices as on volumes.
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
    """Reshapes images and lets the batch size follow: volumes become a batch of slices, or slices volumes.

    Args:
        target_shape: Shape without the batch.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)

    def call(self, values: Any) -> Any:
        return ops.reshape(values, (-1, *self.target_shape))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (None, *self.target_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": self.target_shape}


@keras.saving.register_keras_serializable(PACKAGE)
class StackDepth(layers.Layer):
    """Stacks the slices that a kernel sees at once behind each other's channels.

    Input of shape `(N * depth, H, W, C)`, output `(N * depth_out, H, W, size * C)`.

    Args:
        depth: Slices of a volume.
        size: Depth of the kernel.
        strides: Step along the depth.
        padding: Slices of zeros before and after a volume.
    """

    def __init__(self, depth: int, size: int, strides: int = 1, padding: Sequence[int] = (0, 0), **kwargs: Any):
        super().__init__(**kwargs)
        self.depth, self.size, self.strides, self.padding = depth, size, strides, tuple(padding)

    @property
    def depth_out(self) -> int:
        """Slices of a volume in the output."""
        return (self.depth + sum(self.padding) - self.size) // self.strides + 1

    def starts_and_ends(self) -> list[tuple[int, int]]:
        """For each position along the kernel's depth, its first slice and the one after its last."""
        reach = self.strides * (self.depth_out - 1) + 1
        return [(first, first + reach) for first in range(self.size)]

    def call(self, slices: Any) -> Any:
        shape = slices.shape[1:]
        volumes: Any = ops.reshape(slices, (-1, self.depth, *shape))
        volumes = ops.pad(volumes, ((0, 0), self.padding, (0, 0), (0, 0), (0, 0)))
        parts = [volumes[:, first : end : self.strides] for first, end in self.starts_and_ends()]
        stacked = ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return ops.reshape(stacked, (-1, *shape[:-1], self.size * shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (None, *input_shape[1:-1], self.size * input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        own = {"depth": self.depth, "size": self.size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **own}


def lower_3d(model: keras.Model) -> keras.Model:
    """The same network in 2D operators, with equal outputs and weights, for further training and .tflite files.

    Args:
        model: A functional or Sequential model of one volume input, shape `(N, D, H, W, C)`.

    Returns:
        A functional model of the same input and output. A model without volumes is copied.

    Raises:
        InputError: If a layer cannot be lowered; the message names it.
    """
    return _Lowering(model).model()


class _Lowering:
    """Builds the new model step by step; a volume is a tensor of slices, and `depths` has its depth by number."""

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
        """A tensor; a volume as a batch of slices."""
        tensor = self.tensors[number]
        if len(tensor.shape) == 5:
            tensor = self.tensors[number] = Regroup(tensor.shape[2:], name=f"{tensor.name}_slices")(tensor)
        return tensor

    def _take(self, step):
        """The output tensor of a step, and its depth, which is None unless it is a volume."""
        layer, number = step.layer, step.inputs[0]
        if isinstance(layer, layers.Rescaling) and number == 0:
            # Applied to the input itself, where it costs nothing in an integer file.
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
            # Drops channels of a slice, not of the whole volume.
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
        output = copy(tensor)
        copy.set_weights(layer.get_weights())
        return output

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
        # A kernel of one slice with a step of one needs no stacking.
        output = convolution(tensor if (size, step) == (1, 1) else stack(tensor))
        kernel, *bias = layer.get_weights()
        depth_size, height, width, channels, filters = kernel.shape
        flat = np.moveaxis(kernel, 0, 2).reshape(height, width, depth_size * channels, filters)
        convolution.set_weights([flat, *bias])
        return output, stack.depth_out

    def _pooling(self, layer, tensor, depth):
        kind = POOLS[type(layer)]
        size, *window = layer.pool_size
        step, *strides = layer.strides
        output = kind(window, strides=strides, padding=layer.padding, name=layer.name)(tensor)
        if (size, step) == (1, 1):
            return output, depth
        height, width, channels = output.shape[1:]
        rows = Regroup((depth, height * width, channels), name=f"{layer.name}_rows")(output)
        pooled = kind((size, 1), strides=(step, 1), padding=layer.padding, name=f"{layer.name}_depth")(rows)
        return Regroup((height, width, channels), name=f"{layer.name}_slices")(pooled), pooled.shape[1]

    def _global_pooling(self, layer, tensor, depth):
        height, width, channels = tensor.shape[1:]
        rows = Regroup((depth * height, width, channels), name=f"{layer.name}_rows")(tensor)
        kind = GLOBAL_POOLS[type(layer)]
        pooled = kind(keepdims=layer.keepdims, name=layer.name)(rows)
        return pooled, 1 if layer.keepdims else None


def _padding(padding, depth, size, step):
    """Slices of zeros before and after a volume, as in Keras's padding `same`."""
    if padding == "valid":
        return 0, 0
    total = max((-(-depth // step) - 1) * step + size - depth, 0)
    return total // 2, total - total // 2


def _refusal(layer, detail=""):
    return InputError(
        f"The layer {layer.name!r} ({type(layer).__name__}{detail}) cannot be lowered to 2D. Supported on volumes: "
        f"{SUPPORTED}."
    )
