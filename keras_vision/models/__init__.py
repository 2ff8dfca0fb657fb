"""Networks: one architecture a file, functional, one flat graph, logits out.

Every network takes images in `[0, 255]` and scales them itself, so that its `.keras` file needs nothing beside it.
"""

from keras_vision.models.basic_cnn import basic_cnn
from keras_vision.models.plain_cnn import plain_cnn
from keras_vision.models.plain_cnn_3d import plain_cnn_3d
from keras_vision.models.resnet import cifar_resnet, resnet18, torchvision_names
from keras_vision.models.small_resnet import small_resnet
from keras_vision.models.whitened_cnn import whiten, whitened_cnn

ARCHITECTURES = {
    "plain_cnn": plain_cnn,
    "plain_cnn_3d": plain_cnn_3d,
    "small_resnet": small_resnet,
    "cifar_resnet": cifar_resnet,
    "resnet18": resnet18,
    "whitened_cnn": whitened_cnn,
    "basic_cnn": basic_cnn,
}


def build(spec, image_shape, num_classes, images=None):
    """The untrained network that a `recipe.ModelSpec` names.

    Args:
        spec: A `recipe.ModelSpec`.
        image_shape: Shape of one image, `(H, W, C)`, or of one volume, `(D, H, W, C)`.
        num_classes: Number of logits.
        images: Training images, for a network that starts from their statistics; without them it starts at random.

    Returns:
        A functional `keras.Model` from images in `[0, 255]`, shape `(N, *image_shape)`, to logits, `(N, num_classes)`.

    Raises:
        InputError: If the network cannot take images of that shape.
    """
    model = ARCHITECTURES[spec.architecture](spec, image_shape, num_classes)
    if spec.architecture == "whitened_cnn" and images is not None:
        whiten(model, images)
    return model


__all__ = [
    "ARCHITECTURES",
    "basic_cnn",
    "build",
    "cifar_resnet",
    "plain_cnn",
    "plain_cnn_3d",
    "resnet18",
    "small_resnet",
    "torchvision_names",
    "whiten",
    "whitened_cnn",
]
