"""Which of a model's layers make feature maps, and which of them a name, or no name, means."""

import difflib
import math

from keras import layers as keras_layers

from keras_vision.recipe import InputError

CONVOLUTIONS = (
    *(getattr(keras_layers, f"Conv{axes}D{kind}") for axes in (1, 2, 3) for kind in ("", "Transpose")),
    keras_layers.DepthwiseConv1D,
    keras_layers.DepthwiseConv2D,
    keras_layers.SeparableConv1D,
    keras_layers.SeparableConv2D,
)


def find_steps(graph, shapes, names):
    """The steps that make the feature maps of some layers.

    Args:
        graph: A `Graph`.
        shapes: `{number of a tensor: shape}`.
        names: A layer's name, several, or None for the last layer with feature maps.

    Returns:
        A list of steps. Of a layer that is called several times, the last call.

    Raises:
        InputError: If a layer is not there, its name means several, or it has no feature maps.
    """
    if names is None:
        return [last_feature_step(graph, shapes)]
    return [_named(graph, shapes, name) for name in ([names] if isinstance(names, str) else names)]


def last_feature_step(graph, shapes):
    """The last step before the feature maps of the last convolution are pooled or flattened away.

    That is the last one whose maps are as large as the convolution's: its normalization and activation count, and so
    does the sum that ends a residual block, as when users of torch name `layer4[-1]` of a ResNet. Convolutions after
    the pooling, whose maps are one pixel, do not count. A network without convolutions gives its last feature maps.
    """
    steps = [step for step in graph.steps if _has_maps(shapes, step)]
    return steps[last_feature_map([(shapes[step.output], isinstance(step.layer, CONVOLUTIONS)) for step in steps])]


def last_feature_map(tensors):
    """Which of some tensors, in the order in which they are made, has the last feature maps; see `last_feature_step`.

    Args:
        tensors: `(shape without the batch, whether a convolution makes it)` of each.

    Returns:
        Its index.
    """
    spatial = [index for index, (shape, _) in enumerate(tensors) if math.prod(shape[:-1]) > 1]
    if not spatial:
        raise InputError("The model has no layer with feature maps, as a convolution makes them; there is no heatmap.")
    convolutions = [index for index in spatial if tensors[index][1]]
    size = tensors[(convolutions or spatial)[-1]][0][:-1]
    return [index for index in spatial if tensors[index][0][:-1] == size][-1]


def _named(graph, shapes, name):
    found = {step.path: step for step in graph.steps if step.path == name or step.path.endswith(f"/{name}")}
    if name in found:
        step = found[name]
    elif len(found) > 1:
        raise InputError(f"Several layers are called {name!r}. Name one of them in full: {', '.join(found)}.")
    elif not found:
        raise InputError(_not_there(graph, name))
    else:
        (step,) = found.values()
    if not _has_maps(shapes, step):
        raise InputError(
            f"A heatmap needs feature maps with the {len(shapes[0]) - 1} axes of the images, and channels. "
            f"Received: layers={name!r}, whose output has shape {shapes[step.output]}."
        )
    return step


def _not_there(graph, name):
    names = {part for step in graph.steps for part in (step.path, step.layer.name)}
    near = difflib.get_close_matches(str(name), sorted(names), n=5, cutoff=0.4)
    hint = f"Near it: {', '.join(near)}." if near else f"The last ones: {', '.join(s.path for s in graph.steps[-5:])}."
    return f"The model has no layer {name!r}. {hint}"


def _has_maps(shapes, step):
    return len(shapes[step.output]) == len(shapes[0])
