"""A Keras model as a list of steps in execution order, with nested models expanded."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras

from keras_vision.recipe import InputError

PYTHONS_LIMIT, CALLS_PER_STEP = 1000, 8


@dataclass(frozen=True)
class Place:
    """Placeholder for a tensor, by its number, in a call's arguments."""

    number: int


@dataclass(frozen=True)
class Step:
    """One call of a layer or of an operation of `keras.ops`.

    Attributes:
        layer: The layer or operation.
        inputs: Numbers of its input tensors.
        output: Number of its output tensor; the model's input is number 0.
        shape: Shape of the output, without the batch.
        positional: The call's positional arguments, a `Place` for each tensor.
        arguments: The call's keyword arguments, with the same placeholders.
        path: The layer's name, after those of the nested models around it: `backbone/block_16_project`.
    """

    layer: keras.Layer
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...]
    positional: tuple[Any, ...]
    arguments: dict[str, Any]
    path: str


@dataclass(frozen=True)
class Graph:
    """A model's steps.

    Attributes:
        input_shape: Shape of one image, without the batch.
        steps: In execution order.
        output: Number of the model's output tensor.
    """

    input_shape: tuple[int, ...]
    steps: tuple[Step, ...]
    output: int

    def consumers(self) -> dict[int, int]:
        """Number of steps that read each tensor, `{tensor: count}`; the model's caller counts as one."""
        counts = {self.output: 1}
        for step in self.steps:
            for tensor in step.inputs:
                counts[tensor] = counts.get(tensor, 0) + 1
        return counts

    def run(
        self,
        images: Any,
        change: Callable[[Step, Any], Any] | None = None,
        called: Callable[[Any], Callable] = lambda layer: layer,
    ) -> Any:
        """Runs the steps as the model does in inference.

        Args:
            images: Tensor, shape `(N, *input_shape)`.
            change: `change(step, output)` returns a replacement of the step's output.
            called: `called(layer)` returns what is called in place of a layer.

        Returns:
            The output tensor.
        """
        return self._walk(images, called, change)

    def shapes(self, image_shape: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Shape of every tensor for one image shape, without the batch: `{number: shape}`."""
        if tuple(image_shape) == self.input_shape:
            return {0: self.input_shape, **{step.output: step.shape for step in self.steps}}
        shapes = {0: tuple(image_shape)}

        def note(step, value):
            shapes[step.output] = tuple(value.shape[1:])
            return value

        self._walk(keras.KerasTensor((None, *image_shape)), lambda layer: layer.compute_output_spec, note)
        return shapes

    def _walk(self, images, function_of, change):
        values = {0: images}

        def tensor(part):
            return values[part.number] if isinstance(part, Place) else part

        for step in self.steps:
            call: Any = keras.tree.map_structure(tensor, (step.positional, step.arguments))
            arguments, keywords = call
            value = function_of(step.layer)(*arguments, **keywords)
            values[step.output] = value if change is None else change(step, value)
        return values[self.output]


def read_graph(model: keras.Model) -> Graph:
    """The steps of a functional or Sequential model with one input and one output.

    Raises:
        InputError: If the model is neither, has several inputs or outputs, or a layer has several outputs.
    """
    functional: Any = _functional(model)
    if len(functional.inputs) != 1 or len(functional.outputs) != 1:
        raise InputError(
            f"The model {functional.name!r} needs one input and one output. "
            f"Received: {len(functional.inputs)} inputs and {len(functional.outputs)} outputs."
        )
    reading = _Reading(functional.inputs)
    steps = reading.steps_of(functional)
    # Keras walks through a model from its end by recursion, and models that are made of this one are deeper.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), PYTHONS_LIMIT + CALLS_PER_STEP * len(steps)))
    return Graph(tuple(functional.inputs[0].shape[1:]), steps, reading.number(keras.tree.flatten(reading.output)[0]))


def read_steps(inputs: Sequence[Any], output: Any) -> tuple[tuple[Step, ...], int]:
    """The steps between symbolic tensors, such as those that a layer's `call` makes of `keras.Input`.

    Returns:
        The steps, in which the inputs have the numbers 0, 1, ..., and the number of the output.

    Raises:
        InputError: If the output is not one tensor that the inputs lead to, or a layer has several outputs.
    """
    try:
        functional = keras.Model(list(inputs), output)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError("The output is not one tensor that is made of the inputs.") from error
    if len(functional.outputs) != 1:
        raise InputError(f"One output is needed. Received: {len(functional.outputs)}.")
    reading = _Reading(inputs)
    steps = reading.steps_of(functional)
    return steps, reading.number(keras.tree.flatten(reading.output)[0])


class _Reading:
    """Walks a model and notes the steps."""

    def __init__(self, inputs):
        self.tensors = list(inputs)  # Kept alive, so that no two share an id.
        self.numbers = {id(tensor): number for number, tensor in enumerate(inputs)}
        self.steps: list[Step] = []
        self.around: list[str] = []  # Names of the nested models around the current layer.
        self.output: Any = None

    def number(self, tensor):
        return self.numbers[id(tensor)]

    def steps_of(self, functional) -> tuple[Step, ...]:
        # Keras has no public way to walk a model without adding calls to its layers, which would make their `output`
        # ambiguous. `clone_model` uses this method.
        self.output = functional._run_through_graph(
            functional.input, operation_fn=lambda operation: operation, call_fn=self._call
        )
        return tuple(self.steps)

    def _place(self, part):
        return Place(self.number(part)) if isinstance(part, keras.KerasTensor) else part

    def _call(self, layer, *arguments, **keywords):
        if is_graph(layer):
            inner = _functional(layer)
            self.around.append(layer.name)
            made = inner._run_through_graph(
                keras.tree.pack_sequence_as(inner._inputs_struct, keras.tree.flatten(arguments[0])),
                operation_fn=lambda operation: operation,
                call_fn=self._call,
            )
            self.around.pop()
            return made
        made = layer.compute_output_spec(*arguments, **keywords)
        if not isinstance(made, keras.KerasTensor):
            raise InputError(f"The layer {layer.name!r} ({type(layer).__name__}) has several outputs.")
        self.tensors.append(made)
        self.numbers[id(made)] = len(self.numbers)
        call_arguments: Any = keras.tree.map_structure(self._place, (arguments, keywords))
        positional, named = call_arguments
        inputs = tuple(part.number for part in keras.tree.flatten((positional, named)) if isinstance(part, Place))
        path = "/".join((*self.around, layer.name))
        self.steps.append(Step(layer, inputs, self.number(made), tuple(made.shape[1:]), positional, named, path))
        return made


def is_graph(layer: Any) -> bool:
    """Whether a layer is a functional or built Sequential model."""
    if isinstance(layer, keras.Sequential):
        return layer.built
    return isinstance(layer, keras.Model) and hasattr(layer, "_run_through_graph")


def _functional(model):
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not is_graph(model):
        raise InputError(
            f"The model {model.name!r} must be functional or a built Sequential. Received: {type(model).__name__}."
        )
    return model


def scoring_step(graph: Graph) -> Step | None:
    """The step whose softmax or sigmoid makes a model's outputs probabilities; None if the model returns logits.

    Reshaping and rounding may follow that step.
    """
    makers = {step.output: step for step in graph.steps}
    step = makers.get(graph.output)
    while step is not None and scoring_activation(step.layer) is None:
        before = makers.get(step.inputs[0])
        if len(step.inputs) > 1 or before is None or not _only_reshapes(step, before):
            return None
        step = before
    return step


def scoring_activation(layer: Any) -> Literal["softmax", "sigmoid"] | None:
    """`softmax` or `sigmoid` for a layer or operation of `keras.ops` that ends in it, else None."""
    for name in (type(layer).__name__.lower(), getattr(getattr(layer, "activation", None), "__name__", None)):
        if name == "softmax" or name == "sigmoid":
            return name
    return None


def ends_in_sigmoids(graph: Graph, outputs: int) -> bool:
    """Whether a model's outputs are several sigmoids: a yes or no for each label."""
    step = scoring_step(graph)
    return outputs > 1 and step is not None and scoring_activation(step.layer) == "sigmoid"


def _only_reshapes(step, before):
    kernels = any(len(variable.shape) > 1 for variable in getattr(step.layer, "variables", ()))
    sizes = {math.prod(part.shape) for part in (step, before) if None not in part.shape}
    return not kernels and len(sizes) == 1
