"""Operators and functions of keras.ops as plain layers."""

from typing import Any

import numpy as np
from keras import layers

from keras_vision.quantization.plain_calls import Call, array, snake
from keras_vision.quantization.plain_layers import Layers


class Operations(Layers):
    """A method for each kind of operation.

    Attributes:
        channels: By the id of what indexing made: that tensor, the one whose channels it took, and which.
    """

    def __init__(self, *, integers: bool = True) -> None:
        super().__init__(integers=integers)
        self.channels: dict[int, tuple[Any, Any, list[int]]] = {}

    def named_operation(self, call: Call) -> Any:
        """An activation of keras.ops."""
        layer = call.layer
        name = snake(type(layer).__name__)
        return self.activation(
            call,
            call.one,
            name,
            slope=getattr(layer, "negative_slope", None),
            alpha=getattr(layer, "alpha", 1.0),
            axis=getattr(layer, "axis", -1),
            approximate=getattr(layer, "approximate", False),
        )

    def arithmetic(self, call: Call) -> Any:
        """`+`, `-`, `*` and `/` of tensors and constants."""
        first, second = call.operands()
        name = type(call.layer).__name__
        if call.is_tensor(first) and call.is_tensor(second):
            kind = {"Add": layers.Add, "Subtract": layers.Subtract, "Multiply": layers.Multiply}.get(name)
            if kind is None or len(first.shape) != len(second.shape):
                raise call.refusal(" of two tensors" + (" of different rank" if kind else ""))
            return self._merged(call, kind, [first, second])
        tensor, constant = (first, second) if call.is_tensor(first) else (second, first)
        constant = array(constant)
        if name == "Add":
            return self.affine(call, tensor, 1.0, constant)
        if name == "Multiply":
            return self.affine(call, tensor, constant, 0.0)
        if name == "Subtract":
            return self.affine(call, tensor, *((1.0, -constant) if tensor is first else (-1.0, constant)))
        if tensor is second or np.any(constant == 0):
            raise call.refusal(" by a tensor or by zero")
        return self.affine(call, tensor, 1 / constant, 0.0)

    def negative(self, call: Call) -> Any:
        return self.affine(call, call.one, -1.0, 0.0)

    def square(self, call: Call) -> Any:
        return self.add(layers.Multiply, call, call.one, call.one)

    def clip(self, call: Call) -> Any:
        low, high = (float(array(getattr(call.layer, name))) for name in ("x_min", "x_max"))
        if low != 0:
            raise call.refusal(f" from {low:g}")
        return self._relu(call, call.one, high)

    def mean_or_max(self, call: Call) -> Any:
        axes, rank = call.layer.axis, len(call.one.shape)
        axes = {axis % rank for axis in ((axes,) if isinstance(axes, int) else axes or range(rank))}
        mean, keepdims = type(call.layer).__name__ == "Mean", call.layer.keepdims
        if rank == 4 and axes == {1, 2}:
            kind = layers.GlobalAveragePooling2D if mean else layers.GlobalMaxPooling2D
            return self.add(kind, call, call.one, keepdims=keepdims)
        if (rank, axes) not in ((3, {1}), (4, {1}), (4, {2})):
            raise call.refusal(" along axes other than rows and columns")
        return self.pooled(call, layers.AveragePooling2D if mean else layers.MaxPooling2D, *axes, keepdims=keepdims)

    def transpose(self, call: Call) -> Any:
        axes = call.layer.axes or range(len(call.one.shape))[::-1]
        if axes[0] != 0:
            raise call.refusal(" of the batch")
        return self._permuted(call, axes[1:])

    def swap(self, call: Call) -> Any:
        axes = list(range(len(call.one.shape)))
        first, second = call.layer.axis1, call.layer.axis2
        axes[first], axes[second] = axes[second], axes[first]
        if axes[0] != 0:
            raise call.refusal(" of the batch")
        return self._permuted(call, axes[1:])

    def concatenate(self, call: Call) -> Any:
        return self._joined(call, call.layer.axis)

    def pad(self, call: Call) -> Any:
        layer = call.layer
        value = [part for part in (*call.positional, *call.named.values()) if not call.is_tensor(part)]
        width = layer.pad_width
        width = ((width, width),) * len(call.one.shape) if isinstance(width, int) else width
        width: Any = [tuple(part) if np.ndim(part) else (part, part) for part in width]
        around = len(width) == 4 and width[0] == width[3] == (0, 0) and min(min(width[1]), min(width[2])) >= 0
        if not around or layer.mode != "constant" or any(np.any(array(part)) for part in value if part is not None):
            raise call.refusal(" other than rows and columns of zeros")
        return self.add(layers.ZeroPadding2D, call, call.one, padding=(width[1], width[2]))

    def item(self, call: Call) -> Any:
        """Indexing: rows and columns are cropped or skipped, channels are picked by a 1 x 1 convolution."""
        tensor, shape = call.one, tuple(call.one.shape[1:])
        picked = self._picked(call, shape)
        # Vectors and rows of tokens are images of one row or column.
        sides = (*shape[:-1], *(1,) * (3 - len(shape)), shape[-1])
        rows, columns, channels = (*picked[:-1], *(range(1),) * (3 - len(shape)), picked[-1])
        crops = tuple((part[0], side - 1 - part[-1]) for part, side in zip((rows, columns), sides, strict=False))
        steps = rows.step, columns.step
        if min(steps) < 1:
            raise call.refusal(" that turns rows or columns around")
        made = self.reshaped(call, tensor, sides, "_in")
        if any(map(any, crops)):
            made = self.add(layers.Cropping2D, call, made, ending="_crop", cropping=crops)
        if max(steps) > 1:
            made = self.add(layers.MaxPooling2D, call, made, ending="_skip", pool_size=1, strides=steps)
        source, chosen = made, list(channels)
        if chosen != list(range(sides[-1])):
            made = self._channels(call, made, chosen)
        made = self.reshaped(call, made, call.shape, "_out")
        self.channels[id(made)] = made, source, chosen
        return made

    def _picked(self, call, shape):
        """The places that an index picks along each axis but that of the batch, as ranges."""
        key = next(part for part in (*call.positional, *call.named.values()) if part is not call.one)
        key = [part for part in (key if isinstance(key, (tuple, list)) else [key]) if part is not None]
        missing = len(shape) + 1 - sum(part is not Ellipsis for part in key)
        at = next((place for place, part in enumerate(key) if part is Ellipsis), len(key))
        batch, *rest = [*key[:at], *[slice(None)] * missing, *key[at + 1 :]]
        if batch != slice(None) or len(shape) > 3:
            raise call.refusal(" of the batch, or of more than rows, columns and channels")
        picked = []
        for part, side in zip(rest, shape, strict=True):
            if isinstance(part, slice):
                places = range(*part.indices(side))
                picked.append(places and range(places[0], places[-1] + places.step // abs(places.step), places.step))
            elif isinstance(part, (int, np.integer)) and -side <= part < side:
                picked.append(range(part % side, part % side + 1))
            else:
                raise call.refusal(" by something else than numbers and slices")
        if not all(picked):
            raise call.refusal(" that leaves nothing")
        return picked

    def _channels(self, call, tensor, chosen):
        return self._one_by_one(call, tensor, np.eye(tensor.shape[-1], dtype=np.float32)[:, chosen])

    def stack(self, call: Call) -> Any:
        """Tensors along a new axis; channels of one tensor, as `preprocess_input` stacks them, by one convolution."""
        axis = call.layer.axis % (len(call.shape) + 1)
        if axis == 0:
            raise call.refusal(" along the batch")
        known = [self.channels[id(tensor)] for tensor in call.tensors if id(tensor) in self.channels]
        sources = {id(source) for made, source, chosen in known if len(chosen) == 1 and len(made.shape) == 3}
        if axis == len(call.shape) == 3 and len(known) == len(call.tensors) and len(sources) == 1:
            return self._channels(call, known[0][1], [chosen[0] for _, _, chosen in known])
        shape = (*call.shape[: axis - 1], 1, *call.shape[axis:])
        parts = [self.reshaped(call, part, shape, f"_in_{count}") for count, part in enumerate(call.tensors)]
        return self.add(layers.Concatenate, call, *parts, axis=axis) if len(parts) > 1 else parts[0]

    def flip(self, call: Call) -> Any:
        """The channels in the other order; rows and columns have no such operator."""
        axis, rank = call.layer.axis, len(call.one.shape)
        axes = {part % rank for part in ((axis,) if isinstance(axis, int) else axis or range(rank))}
        if axes != {3} or rank != 4:
            raise call.refusal(" of rows or columns")
        return self._channels(call, call.one, list(range(call.one.shape[-1]))[::-1])

    def move_axes(self, call: Call) -> Any:
        rank = len(call.one.shape)
        # Each side is its axis's number.
        order = np.moveaxis(np.empty(range(rank)), call.layer.source, call.layer.destination).shape
        if order[0] != 0:
            raise call.refusal(" of the batch")
        return self._permuted(call, order[1:])

    def pool(self, call: Call) -> Any:
        layer = call.layer
        kind = layers.MaxPooling2D if type(layer).__name__ == "MaxPool" else layers.AveragePooling2D
        if len(call.one.shape) != 4:
            raise call.refusal(f" on tensors of rank {len(call.one.shape)}")
        if kind is layers.AveragePooling2D:
            self._require_even(call, kind(layer.pool_size, strides=layer.strides, padding=layer.padding))
        return self.add(kind, call, call.one, pool_size=layer.pool_size, strides=layer.strides, padding=layer.padding)

    def resize(self, call: Call) -> Any:
        layer = call.layer
        if layer.antialias or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
            raise call.refusal(" with antialiasing, cropping or padding")
        return self._resized(call, layer.interpolation)

    def cast(self, call: Call) -> Any:
        """Casting pixels to floats changes nothing; casting to integers would round."""
        if not str(call.layer.dtype).startswith(("float", "bfloat")):
            raise call.refusal(f" to {call.layer.dtype}")
        return call.one

    def same(self, call: Call) -> Any:
        return call.one


# By the name of the class in keras.ops, whose modules are private.
OPERATIONS: dict[str, Any] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Divide", "TrueDivide"), Operations.arithmetic),
    **dict.fromkeys(
        ("Relu", "Relu6", "LeakyRelu", "Elu", "Gelu", "Silu", "HardSilu", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"),
        Operations.named_operation,
    ),
    **dict.fromkeys(("Mean", "Max", "Amax"), Operations.mean_or_max),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Ravel"), Operations.reshape),
    **dict.fromkeys(("MaxPool", "AveragePool"), Operations.pool),
    **dict.fromkeys(("Identity", "Copy", "StopGradient"), Operations.same),
    "Cast": Operations.cast,
    "Clip": Operations.clip,
    "Concatenate": Operations.concatenate,
    "Flip": Operations.flip,
    "GetItem": Operations.item,
    "Moveaxis": Operations.move_axes,
    "Negative": Operations.negative,
    "Pad": Operations.pad,
    "Resize": Operations.resize,
    "Square": Operations.square,
    "Stack": Operations.stack,
    "Swapaxes": Operations.swap,
    "Transpose": Operations.transpose,
}
