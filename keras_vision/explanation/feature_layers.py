"""Resolves layer names, or no name, to the steps of a model that output feature maps."""

import difflib
import math
from collections.abc import Mapping, Sequence

from keras import layers as keras_layers

from keras_vision.keras_internals.graph import Graph, Step
from keras_vision.recipe import InputError

CONVOLUTIONS = (
    *(getattr(keras_layers, f"Conv{axes}D{kind}") for axes in (1, 2, 3) for kind in ("", "Transpose")),
    keras_layers.DepthwiseConv1D,
    keras_layers.DepthwiseConv2D,
    keras_layers.SeparableConv1D,
    keras_layers.SeparableConv2D,
)


def find_steps(graph: Graph, shapes: Mapping[int, tuple[int, ...]], names: str | Sequence[str] | None) -> list[Step]:
    """The steps that output the feature maps of the named layers.

    Args:
        shapes: `{tensor number: shape}`.
        names: Layer name, list of layer names, or None for the last layer with feature maps.

    Returns:
        One step per name; for a layer that is called several times, its last call.

    Raises:
        InputError: If a layer does not exist, its name is ambiguous, or it does not output feature maps.
    """
    if names is None:
        return [last_feature_step(graph, shapes)]
    return [_named(graph, shapes, name) for name in ([names] if isinstance(names, str) else names)]


def last_feature_step(graph: Graph, shapes: Mapping[int, tuple[int, ...]]) -> Step:
    """The last step whose feature maps have the size of the last convolution's.

    So the convolution's normalization and activation count, and so does the sum that ends a residual block, like
    `layer4[-1]` of torchvision's ResNets. Feature maps of one pixel, as after global pooling, are ignored. In a network
    without convolutions, it is the last step with feature maps.

    Raises:
        InputError: If no step outputs feature maps of more than one pixel.
    """
    steps = [step for step in graph.steps if _has_maps(shapes, step)]
    return steps[last_feature_map([(shapes[step.output], isinstance(step.layer, CONVOLUTIONS)) for step in steps])]


def last_feature_map(tensors: Sequence[tuple[tuple[int, ...], bool]]) -> int:
    """Index of the last feature maps among tensors in execution order; see `last_feature_step`.

    Args:
        tensors: `(shape without the batch, whether a convolution outputs it)` of each tensor.

    Raises:
        InputError: If none has more than one pixel.
    """
    spatial = [index for index, (shape, _) in enumerate(tensors) if math.prod(shape[:-1]) > 1]
    if not spatial:
        raise InputError("The model has no layer with feature maps, such as a convolution, so there is no heatmap.")
    convolutions = [index for index in spatial if tensors[index][1]]
    size = tensors[(convolutions or spatial)[-1]][0][:-1]
    return [index for index in spatial if tensors[index][0][:-1] == size][-1]


def _named(graph, shapes, name):
    matches = {step.path: step for step in graph.steps if step.path == name or step.path.endswith(f"/{name}")}
    if name in matches:
        step = matches[name]
    elif len(matches) > 1:
        raise InputError(f"Several layers are called {name!r}. Use the full path of one: {', '.join(matches)}.")
    elif not matches:
        raise InputError(_unknown_layer(graph, name))
    else:
        (step,) = matches.values()
    if not _has_maps(shapes, step):
        raise InputError(
            f"A heatmap needs feature maps with {len(shapes[0]) - 1} spatial axes, like the images, and channels. "
            f"Received: layers={name!r}, whose output has shape {shapes[step.output]}."
        )
    return step


def _unknown_layer(graph, name):
    names = {part for step in graph.steps for part in (step.path, step.layer.name)}
    near = difflib.get_close_matches(str(name), sorted(names), n=5, cutoff=0.4)
    hint = f"Near it: {', '.join(near)}." if near else f"The last ones: {', '.join(s.path for s in graph.steps[-5:])}."
    return f"The model has no layer {name!r}. {hint}"


def _has_maps(shapes, step):
    return len(shapes[step.output]) == len(shapes[0])
