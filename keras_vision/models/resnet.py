"""Residual networks of basic blocks: ResNet18 with a stem for ImageNet or CIFAR images, and a smaller one for CIFAR-10.

Layers have torchvision's names with `_` for `.`, such as `layer1_0_conv1`, except the last: `logits` for `fc`.
Padding is symmetric as in torch: Keras's "same" pads a convolution with stride 2 only at the bottom and right.
"""

import keras
import numpy as np
from keras import layers

from keras_vision.models.ends import resized, resized_shape, scaled, with_head
from keras_vision.models.shapes import require_pictures
from keras_vision.models.torch_names import head_names, weight_names
from keras_vision.recipe import ModelSpec

# torch's values, so that its weights give the same outputs; its momentum 0.1 is 0.9 in Keras.
NORM_EPSILON, NORM_MOMENTUM = 1e-5, 0.9
# Of ImageNet's pixels in [0, 1], red, green, blue: torchvision's weights expect images normalized with them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cifar_resnet(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """The reference CIFAR notebook's network: sections of 3 blocks with 1, 2 and 4 times the width, 1.1 M parameters.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the first section's filters, 32 in the notebook.
        image_shape: `(H, W, C)`, at least 8 x 8; 32 x 32 with the ImageNet stem.
        num_classes: Number of logits.
    """
    return _resnet("cifar_resnet", (3, 3, 3), spec, image_shape, num_classes)


def resnet18(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """ResNet18: sections of 2 blocks with 1, 2, 4 and 8 times the width, 11.2 M parameters at width 64.

    Args:
        spec: A `recipe.ModelSpec`; with `stem` "imagenet" it is torchvision's network, layer by layer.
        image_shape: `(H, W, C)`, at least 8 x 8; 32 x 32 with the ImageNet stem.
        num_classes: Number of logits.
    """
    return _resnet("resnet18", (2, 2, 2, 2), spec, image_shape, num_classes)


def _resnet(name, sections, spec, image_shape, num_classes):
    """Stem, sections of blocks, global average pooling, head.

    Args:
        sections: Number of blocks of each; every section except the first halves the image and doubles the filters.

    Reference:
        He et al. 2016, https://arxiv.org/abs/1512.03385, section 3.3, shortcuts of kind B.
    """
    require_pictures(name, resized_shape(spec, image_shape), at_least=8 if spec.stem == "cifar" else 32)
    images = keras.Input(image_shape, name="images")
    x = _stem(resized(_rescaled(images, spec.stem), spec), spec)
    for section, blocks in enumerate(sections):
        for block in range(blocks):
            stride = 2 if section and not block else 1
            x = _block(x, spec.width * 2**section, stride, f"layer{section + 1}_{block}")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return with_head(name, images, x, spec, num_classes)


def _rescaled(images, stem):
    """Pixels in the stem's range: -1 to 1, or normalized with ImageNet's mean and standard deviation."""
    if stem == "cifar":
        return scaled(images, 1 / 127.5, -1)
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    if images.shape[-1] == 1:
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    return scaled(images, (1 / (255 * std)).tolist(), (-mean / std).tolist())


def _stem(x, spec):
    if spec.stem == "cifar":
        return layers.ReLU(name="relu")(_convolution(x, spec.width, 3, 1, "conv1", "bn1"))
    x = layers.ReLU(name="relu")(_convolution(x, spec.width, 7, 2, "conv1", "bn1"))
    # torch pads with -inf, which is equivalent to 0 after a ReLU.
    return layers.MaxPooling2D(3, strides=2, name="maxpool")(layers.ZeroPadding2D(1, name="maxpool_pad")(x))


def _block(x, filters, stride, name):
    """Two convolutions, added to the block's input, or to its projection if the shape changes."""
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _convolution(x, filters, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1")
    x = _convolution(x, filters, 3, stride, f"{name}_conv1", f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _convolution(x, filters, 3, 1, f"{name}_conv2", f"{name}_bn2")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))


def _convolution(x, filters, kernel, stride, name, norm):
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=norm)(x)


def torchvision_names(model: keras.Model) -> dict[str, tuple[str, str]]:
    """The layer and variable of each of torchvision's weights in a network of this module.

    Kernels are `(out, in, height, width)` in torchvision and `(height, width, in, out)` here; those of dense layers
    `(out, in)` and `(in, out)`. torchvision's `num_batches_tracked` have no counterpart.

    Args:
        model: From `resnet18`, or `cifar_resnet` for a torch network of such blocks.

    Returns:
        `{torchvision's name: (layer, variable)}`, such as `{"layer1.0.conv1.weight": ("layer1_0_conv1", "kernel")}`.
    """
    heads = head_names(model, "fc")
    return weight_names(model, lambda layer: heads.get(layer) or layer.replace("_", "."))
