"""What a plain model is made of: the calls that are rewritten, names, and layers that are added in their place."""

import inspect
import itertools
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import Step
from keras_vision.quantization.lowering import PACKAGE
from keras_vision.recipe import InputError

SUPPORTED = (
    "Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D, Dense, MultiHeadAttention, BatchNormalization, "
    "LayerNormalization, UnitNormalization, Rescaling, Normalization, Add, Subtract, Multiply, Average, "
    "Concatenate, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, the last two for tokens "
    "(1D), Flatten, Reshape, Permute, ZeroPadding2D, Cropping2D, UpSampling2D, Resizing, ReLU, LeakyReLU, PReLU, ELU, "
    "Softmax, Activation with relu, relu6, leaky_relu, sigmoid, hard_sigmoid, softmax, tanh, elu, gelu, silu or "
    "hard_silu, the same as operators or as functions of keras.ops, and layers that do nothing in inference"
)


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_tanh(values: Any) -> Any:
    """GELU by its approximation with tanh."""
    return keras.activations.gelu(values, approximate=True)


@keras.saving.register_keras_serializable(PACKAGE)
class MatMul(layers.Layer):
    """Products of two stacks of matrices, shapes `(N, H, A, B)` and `(N, H, B, C)`."""

    def call(self, values: Any) -> Any:
        first, second = values
        return keras.ops.matmul(first, second)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        first, second = input_shape
        return (*first[:-1], second[-1])


def refusal(path: str, kind: str, detail: str = "") -> InputError:
    """The error for a layer that has no 8-bit operator."""
    return InputError(
        f"The layer {path!r} ({kind}{detail}) cannot be quantized. Supported: {SUPPORTED}. "
        "The schemes float32 and dynamic can still express the model."
    )


class Names:
    """Names for layers, none of which equals another, or another with the endings that rewriting adds."""

    def __init__(self) -> None:
        self.taken = {"images", "images_range"}

    def unique(self, *wanted: str) -> str:
        """The first wanted name that is free, or the last one with a number."""
        # Torch's names of parts have no dots, and TensorFlow's no spaces.
        wanted = tuple(re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in wanted)
        numbered = (f"{wanted[-1]}_{count}" for count in itertools.count(2))
        free = next(name for name in itertools.chain(wanted, numbered) if not {name, f"{name}_range"} & self.taken)
        self.taken |= {free, f"{free}_range"}
        return free


class Adding:
    """Adds layers to a plain model in place of a call.

    Args:
        integers: Whether each plain layer shall have an operator of integers; else a LayerNormalization stays one.

    Attributes:
        names: The names that are taken.
        made: Number, path and new output tensor of each step of the model's own graph.
    """

    def __init__(self, *, integers: bool = True) -> None:
        self.integers = integers
        self.names = Names()
        self.made: list[tuple[int, str, Any]] = []

    def add(self, kind: Any, call: "Call", *tensors: Any, ending: str = "", weights: Any = None, **config: Any) -> Any:
        """Adds a layer under a name that the step's path gives, and returns its output."""
        name = call.name + ending
        if weights is not None:  # For fine-tuning: what is frozen stays frozen.
            config["trainable"] = getattr(call.layer, "trainable", True)
        layer = kind(**config, name=self.names.unique(name, call.long_name + ending), dtype="float32")
        output = layer(tensors[0] if len(tensors) == 1 else list(tensors))
        if weights is not None:
            layer.set_weights(weights)
        return output

    def copy(self, call: "Call", *tensors: Any, **changes: Any) -> Any:
        """Adds a copy of the step's layer."""
        name = self.names.unique(call.name, call.long_name)
        config = {**call.layer.get_config(), **changes, "name": name, "dtype": "float32"}
        layer = type(call.layer).from_config(config)
        output = layer(tensors[0] if len(tensors) == 1 else list(tensors))
        if layer.weights:
            layer.set_weights(arrays(call.layer.weights))
        return output

    def reshaped(self, call: "Call", tensor: Any, shape: Sequence[int], ending: str) -> Any:
        """Adds a Reshape where the shape is another."""
        if tuple(tensor.shape[1:]) == tuple(shape):
            return tensor
        return self.add(layers.Reshape, call, tensor, ending=ending, target_shape=tuple(shape))

    def affine(self, call: "Call", tensor: Any, scale: Any, offset: Any, ending: str = "") -> Any:
        """Adds a factor and an offset for each channel."""
        scale, offset = (per_channel(part, tensor.shape) for part in (scale, offset))
        if scale is None or offset is None:
            raise call.refusal(" with a constant that is not one number or one for each channel")
        return self.add(layers.Rescaling, call, tensor, ending=ending, scale=scale, offset=offset)


class Function:
    """A function as something that can be opened like a layer: it has a name and a `call`."""

    def __init__(self, function: Any):
        self.call, self.name = function, getattr(function, "__name__", None) or type(function).__name__


class Call:
    """One call of a layer or operation, with the tensors of the plain model.

    Args:
        step: The step of the model's own graph; None for an activation, which is an argument of another layer.
        path: The layer's name after those of the models and layers around it.
        positional, named: The arguments.
        layer, shape: Where there is no step, the layer or function, and the shape of its output.
    """

    def __init__(self, step: Step | None, path: str, positional: Any, named: Any, layer: Any = None, shape: Any = None):
        self.layer = step.layer if step is not None else layer
        self.shape = tuple(step.shape) if step is not None else shape
        self.path, self.positional, self.named = path, positional, named
        self.tensors = [part for part in keras.tree.flatten((positional, named)) if self.is_tensor(part)]
        if not self.tensors:
            raise self.refusal(" without an input")

    @property
    def name(self) -> str:
        """What the plain layers are named after. Keras numbers operations anew whenever a function is followed."""
        return self.layer.name if isinstance(self.layer, keras.Layer) else snake(type(self.layer).__name__)

    @property
    def long_name(self) -> str:
        """The name after those of the models and layers around it."""
        return "_".join((*self.path.split("/")[:-1], self.name))

    def is_tensor(self, part: Any) -> bool:
        """Whether a part of the arguments is a tensor of the model, and not a constant."""
        return isinstance(part, keras.KerasTensor)

    @property
    def one(self) -> Any:
        """The only input tensor."""
        if len(self.tensors) != 1:
            raise self.refusal(f" of {len(self.tensors)} tensors")
        return self.tensors[0]

    def operands(self) -> list[Any]:
        """The two operands of an operator, in order."""
        parts = [*self.positional, *self.named.values()]
        if len(parts) != 2:
            raise self.refusal(f" of {len(parts)} operands")
        return parts

    @property
    def inference(self) -> dict[str, bool]:
        """The argument `training`, for a layer whose `call` has it."""
        return {"training": False} if "training" in inspect.signature(self.layer.call).parameters else {}

    def inside(self, layer: Any, tensor: Any) -> "Call":
        """The call of an activation that is an argument of this layer."""
        return Call(None, f"{self.path}/{layer.name}", (tensor,), {}, layer, tuple(tensor.shape[1:]))

    def refusal(self, detail: str = "") -> InputError:
        """The error for this call."""
        return refusal(self.path, type(self.layer).__name__.lstrip("_"), detail)


def snake(name: str) -> str:
    """`LeakyRelu` as `leaky_relu`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")


def array(part: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(part))


def arrays(weights: Sequence[Any]) -> list[np.ndarray]:
    """Values of weights, as float32 arrays."""
    return [array(weight).astype("float32") for weight in weights]


def per_channel(values: Any, shape: Sequence[int]) -> Any:
    """A constant as a number, or as a list with a number for each channel; None where it is neither."""
    values = np.asarray(array(values), np.float64)
    if values.size == 1:
        return float(values.reshape(()))
    # Broadcasting aligns the last axes.
    if values.shape[-1] == shape[-1] == values.size and values.ndim <= len(shape):
        return values.reshape(-1).tolist()
    return None
