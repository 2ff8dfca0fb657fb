"""A Keras model as a plain list of steps: nested models opened, in the order in which they run."""

import math
from dataclasses import dataclass

import keras

from keras_vision.recipe import InputError


@dataclass(frozen=True)
class Place:
    """Stands for a tensor, by its number, among a call's arguments."""

    number: int


@dataclass(frozen=True)
class Step:
    """One call of one layer, or of one of `keras.ops`.

    Attributes:
        layer: The layer.
        inputs: Numbers of the tensors that it takes.
        output: Number of the tensor that it makes; the model's input is number 0.
        shape: Shape of that tensor, without the batch.
        positional: The call's positional arguments, a `Place` for each tensor.
        arguments: The call's other arguments, likewise.
        path: The layer's name, with those of the nested models around it in front: `backbone/block_16_project`.
    """

    layer: keras.Layer
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...]
    positional: tuple
    arguments: dict
    path: str


@dataclass(frozen=True)
class Graph:
    """A model's steps.

    Attributes:
        input_shape: Shape of one image, without the batch.
        steps: In the order in which they run.
        output: Number of the tensor that the model returns.
    """

    input_shape: tuple[int, ...]
    steps: tuple[Step, ...]
    output: int

    def consumers(self):
        """How many steps take each tensor; the model's caller counts as one."""
        counts = {self.output: 1}
        for step in self.steps:
            for tensor in step.inputs:
                counts[tensor] = counts.get(tensor, 0) + 1
        return counts

    def run(self, images, change=None):
        """Runs the steps as the model does, in inference.

        Args:
            images: Tensor, shape `(N, *input_shape)`.
            change: `change(step, value)` returns what takes the place of a step's output, or None.

        Returns:
            The output tensor.
        """
        return self._walk(images, lambda layer: layer, change)

    def shapes(self, image_shape):
        """Shape of every tensor for one shape of image, batches left out: `{number: shape}`."""
        if tuple(image_shape) == self.input_shape:
            return {0: self.input_shape, **{step.output: step.shape for step in self.steps}}
        found = {0: tuple(image_shape)}

        def note(step, value):
            found[step.output] = tuple(value.shape[1:])
            return value

        self._walk(keras.KerasTensor((None, *image_shape)), lambda layer: layer.compute_output_spec, note)
        return found

    def _walk(self, images, function_of, change):
        values = {0: images}

        def tensor(part):
            return values[part.number] if isinstance(part, Place) else part

        for step in self.steps:
            arguments, keywords = keras.tree.map_structure(tensor, (step.positional, step.arguments))
            value = function_of(step.layer)(*arguments, **keywords)
            values[step.output] = value if change is None else change(step, value)
        return values[self.output]


def read_graph(model):
    """The steps of a functional or Sequential model with one input and one output.

    Raises:
        InputError: If the model is neither, or has several inputs or outputs.
    """
    model = _functional(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"The model {model.name!r} needs one input and one output. "
            f"Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs."
        )
    numbers, steps = {id(model.inputs[0]): 0}, []
    tensors = [model.inputs[0]]  # Kept alive, so that no two share an id.
    around = []  # Names of the nested models that are open.

    def place(part):
        return Place(numbers[id(part)]) if isinstance(part, keras.KerasTensor) else part

    def call(layer, *arguments, **keywords):
        if isinstance(layer, keras.Model):
            inner = _functional(layer)
            around.append(layer.name)
            made = inner._run_through_graph(
                keras.tree.pack_sequence_as(inner._inputs_struct, keras.tree.flatten(arguments[0])),
                operation_fn=lambda operation: operation,
                call_fn=call,
            )
            around.pop()
            return made
        made = layer.compute_output_spec(*arguments, **keywords)
        if not isinstance(made, keras.KerasTensor):
            raise InputError(f"The layer {layer.name!r} ({type(layer).__name__}) has several outputs.")
        tensors.append(made)
        numbers[id(made)] = len(numbers)
        positional, named = keras.tree.map_structure(place, (arguments, keywords))
        inputs = tuple(part.number for part in keras.tree.flatten((positional, named)) if isinstance(part, Place))
        path = "/".join((*around, layer.name))
        steps.append(Step(layer, inputs, numbers[id(made)], tuple(made.shape[1:]), positional, named, path))
        return made

    # Keras offers no public way to walk a model without adding calls to its layers, which would make their `output`
    # ambiguous; cloning uses this one.
    output = model._run_through_graph(model.input, operation_fn=lambda operation: operation, call_fn=call)
    return Graph(tuple(model.inputs[0].shape[1:]), tuple(steps), numbers[id(keras.tree.flatten(output)[0])])


def _functional(model):
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(model, "_run_through_graph"):
        raise InputError(
            f"The model {model.name!r} must be functional or a built Sequential. Received: {type(model).__name__}."
        )
    return model


def scoring_step(graph):
    """The step whose softmax or sigmoid makes a model's outputs probabilities; None where it returns logits.

    Reshaping and rounding may follow that step.
    """
    makers = {step.output: step for step in graph.steps}
    step = makers.get(graph.output)
    while step is not None and scoring_activation(step.layer) is None:
        before = makers.get(step.inputs[0])
        if len(step.inputs) > 1 or before is None or not _only_passes_on(step, before):
            return None
        step = before
    return step


def scoring_activation(layer):
    """`softmax` or `sigmoid` for a layer, an `Activation` layer or an operation of `keras.ops` that ends in it."""
    name = type(layer).__name__.lower()
    found = name if name in ("softmax", "sigmoid") else getattr(getattr(layer, "activation", None), "__name__", None)
    return found if found in ("softmax", "sigmoid") else None


def _only_passes_on(step, before):
    kernels = any(len(variable.shape) > 1 for variable in getattr(step.layer, "variables", ()))
    sizes = {math.prod(part.shape) for part in (step, before) if None not in part.shape}
    return not kernels and len(sizes) == 1
