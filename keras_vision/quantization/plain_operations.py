"""Operators and functions of keras.ops as plain layers."""

from typing import Any

import numpy as np
from keras import layers

from keras_vision.quantization.plain_calls import Call, array, snake
from keras_vision.quantization.plain_layers import Layers


class Operations(Layers):
    """A method for each kind of operation."""

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
        if rank != 4 or axes != {1, 2}:
            raise call.refusal(" along axes other than rows and columns")
        mean = type(call.layer).__name__ == "Mean"
        kind = layers.GlobalAveragePooling2D if mean else layers.GlobalMaxPooling2D
        return self.add(kind, call, call.one, keepdims=call.layer.keepdims)

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
        return self._one_by_one(call, tensor, np.eye(tensor.shape[3], dtype=np.float32)[:, list(channels)])

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
    "GetItem": Operations.item,
    "Negative": Operations.negative,
    "Pad": Operations.pad,
    "Resize": Operations.resize,
    "Square": Operations.square,
    "Swapaxes": Operations.swap,
    "Transpose": Operations.transpose,
}
