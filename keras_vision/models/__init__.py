"""Networks: one architecture a file, functional, one flat graph, logits out.

Every network takes images in `[0, 255]` and scales them itself, so that its `.keras` file needs nothing beside it.
"""

from keras_vision.models.application import application
from keras_vision.models.basic_cnn import basic_cnn
from keras_vision.models.freezing import freeze
from keras_vision.models.init_from import init_from
from keras_vision.models.plain_cnn import plain_cnn
from keras_vision.models.plain_cnn_3d import plain_cnn_3d
from keras_vision.models.resnet import cifar_resnet, resnet18, torchvision_names
from keras_vision.models.small_resnet import small_resnet
from keras_vision.models.state_dict import imagenet_file, load_state_dict, save_state_dict
from keras_vision.models.whitened_cnn import whiten, whitened_cnn
from keras_vision.recipe import InputError

ARCHITECTURES = {
    "plain_cnn": plain_cnn,
    "plain_cnn_3d": plain_cnn_3d,
    "small_resnet": small_resnet,
    "cifar_resnet": cifar_resnet,
    "resnet18": resnet18,
    "whitened_cnn": whitened_cnn,
    "basic_cnn": basic_cnn,
    "application": application,
}


def build(spec, image_shape, num_classes, images=None):
    """The network that a `recipe.ModelSpec` names, with its first weights, and frozen where it is not to learn.

    Args:
        spec: A `recipe.ModelSpec`.
        image_shape: Shape of one image, `(H, W, C)`, or of one volume, `(D, H, W, C)`.
        num_classes: Number of logits.
        images: Training images, for a network that starts from their statistics; without them it starts at random.

    Returns:
        A functional `keras.Model` from images in `[0, 255]`, shape `(N, *image_shape)`, to logits, `(N, num_classes)`.

    Raises:
        InputError: If the network cannot take images of that shape, its weights cannot be had or do not fit, or there
            is no layer of the name that learning is to begin with.
    """
    model = ARCHITECTURES[spec.architecture](spec, image_shape, num_classes)
    if spec.architecture == "whitened_cnn" and images is not None:
        whiten(model, images)
    if spec.weights != "none" and spec.architecture != "application":  # Which reads its own, before it is cut.
        load_state_dict(model, spec.weights_path or _imagenet_file(spec))
    drawn = _without_source(model, spec)
    freeze(model, spec.unfreeze)
    # A layer that another run did not give must learn, or all that comes after it sees noise.
    random = [name for name in drawn if not model.get_layer(name).trainable]
    if random:
        raise InputError(
            f"--init-from gives nothing for {', '.join(random[:5])}, which --unfreeze {spec.unfreeze} would keep as "
            f"drawn at random. Let the learning begin there, with --unfreeze {random[0]}, or use --unfreeze all."
        )
    if spec.caution:
        print(spec.caution)
    return model


def _without_source(model, spec):
    """Takes what `--init-from` names, and gives the names of the layers that it leaves at random."""
    if spec.init_from is None:
        return []
    refused = init_from(model, spec.init_from)
    return [name for name in refused if spec.weights == "none" and model.get_layer(name).trainable]


def _imagenet_file(spec):
    """Said before 45 MB are fetched for a network that they do not fit."""
    if (spec.architecture, spec.stem, spec.width) != ("resnet18", "imagenet", 64):
        raise InputError(
            "--weights imagenet is torchvision's ResNet18: --architecture resnet18 --stem imagenet --width 64. "
            f"Received: {spec.architecture}, stem {spec.stem}, width {spec.width}."
        )
    return imagenet_file()


__all__ = [
    "ARCHITECTURES",
    "application",
    "basic_cnn",
    "build",
    "cifar_resnet",
    "freeze",
    "init_from",
    "load_state_dict",
    "plain_cnn",
    "plain_cnn_3d",
    "resnet18",
    "save_state_dict",
    "small_resnet",
    "torchvision_names",
    "whiten",
    "whitened_cnn",
]
