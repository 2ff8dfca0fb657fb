"""What a run is made of: frozen dataclasses, and nothing but the standard library.

A recipe is data. Its fields become the command line's flags (`cli.py`), a track runs it through the stages
(`track.py`), and `recipe.json` in the run's folder is its record. Field names are unique across the specs, so that
`override(recipe, epochs=3, data="synthetic")` and `--epochs 3 --data synthetic` mean the same.
"""

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Spelled out, because reading a flag must not import the methods; `explanation.METHODS` has the same names.
EXPLANATION_METHODS = ("grad-cam", "grad-cam++", "hires-cam", "layer-cam", "score-cam", "integrated-gradients")


class InputError(ValueError):
    """A user's mistake: a flag, a file, a data set or an image. The command line prints it alone and exits with 2."""


def first_line(error):
    """What an exception of a library says, as far as a person wants to read it; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def knob(
    default,
    help,
    *,
    type=None,
    choices=None,
    low=None,
    high=None,
    nargs=None,
    metavar=None,
):
    """A recipe's field: its default, one line of help, and the values that it takes.

    Args:
        low: Smallest value allowed, itself included.
        high: Largest value allowed, itself included.
        nargs: How many values the flag takes, for a field that holds a tuple.
    """
    kind = type if type is not None else default.__class__
    metadata = {
        "help": help,
        "type": kind,
        "choices": choices,
        "low": low,
        "high": high,
        "nargs": nargs,
        "metavar": metavar,
    }
    return field(default=default, metadata=metadata)


class _Checked:
    """Checks every field against its knob when a spec is made, from the command line or from code."""

    def __post_init__(self):
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if value is None or not item.metadata:
                continue
            for part in value if isinstance(value, tuple) else (value,):
                _check(item, part)


def _check(item, value):
    meta = item.metadata
    if meta["choices"] and value not in meta["choices"]:
        raise InputError(f"{flag(item.name)} takes one of {', '.join(map(str, meta['choices']))}. Received: {value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag(item.name)} takes a finite number. Received: {value!r}.")
    if meta["low"] is not None and value < meta["low"]:
        raise InputError(f"{flag(item.name)} takes a number of at least {meta['low']}. Received: {value!r}.")
    if meta["high"] is not None and value > meta["high"]:
        raise InputError(f"{flag(item.name)} takes a number of at most {meta['high']}. Received: {value!r}.")


def flag(name):
    """The command line's spelling of a field's name."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class DataSpec(_Checked):
    """Where the images come from."""

    data: str = knob(
        "dermamnist",
        "a MedMNIST name, cifar10, the path of an .npz in MedMNIST's or Keras's layout, a folder of class folders "
        "(with train, val and test above them or not), imagenette, fracatlas, flower_photos, or pictures drawn from a "
        "seed: synthetic, synthetic3d, synthetic-folders",
    )
    size: int = knob(
        28, "side of the images in pixels, for MedMNIST names, folders and synthetic data", low=8, high=512
    )
    color: str = knob("rgb", "channels that pictures of a folder get", choices=("rgb", "gray"))
    resize: str = knob(
        "crop",
        "how pictures of a folder are made square: cut at both ends, padded with black, or stretched",
        choices=("crop", "pad", "stretch"),
    )
    limit: int | None = knob(
        None,
        "keep about N images of each split, classes in proportion, at least one of each",
        type=int,
        low=1,
        metavar="N",
    )
    val_share: float = knob(
        0.1,
        "share of the training images kept for validation, for data without a validation split",
        low=0.001,
        high=0.9,
    )
    test_share: float = knob(
        0.2, "share of the images kept for the test, for folders without a test split", low=0.001, high=0.9
    )
    strict: bool = knob(False, "stop at the first file of a folder that gives no picture, instead of setting it aside")
    audit_leaks: bool | None = knob(
        None, "look for the same picture, or nearly the same, in two splits (default: in folders)", type=bool
    )
    drop_leaks: bool = knob(False, "take the pictures out of train that stand in val or test, too")
    data_description: str | None = knob(
        None, "what the data is, in a sentence, for the report and the files' cards", type=str, metavar="TEXT"
    )
    data_licence: str | None = knob(
        None, "licence of the data, for the report and the files' cards", type=str, metavar="TEXT"
    )

    @property
    def path(self):
        """The file or folder that `data` names, or None when it may be the name of a data set."""
        path = Path(os.path.expanduser(self.data))  # Path.expanduser raises where there is no such user.
        return path if path.suffix or len(path.parts) > 1 else None


ARCHITECTURES = (
    "plain_cnn",
    "plain_cnn_3d",
    "small_resnet",
    "cifar_resnet",
    "resnet18",
    "whitened_cnn",
    "basic_cnn",
    "application",
)
# Networks that can start from weights in a file of somebody else's.
PRETRAINED = ("resnet18", "cifar_resnet", "application")


@dataclass(frozen=True)
class ModelSpec(_Checked):
    """Which network; `models.ARCHITECTURES` lists them."""

    architecture: str = knob("plain_cnn", "network", choices=ARCHITECTURES)
    width: int = knob(32, "filters of the first block; the later blocks have multiples of it", low=1, high=1024)
    dropout_scale: float = knob(1.0, "factor on the network's dropout rates", low=0.0, high=1.5)
    stem: str = knob(
        "cifar",
        "first layers of resnet18 and cifar_resnet: 3 x 3 for small pictures, or 7 x 7 and pooling, a quarter the side",
        choices=("cifar", "imagenet"),
    )
    backbone: str = knob(
        "MobileNetV2", "which network of keras.applications the architecture application takes", metavar="NAME"
    )
    cut_layer: str | None = knob(
        None, "last layer that application takes of its backbone (default: all but its head)", type=str, metavar="NAME"
    )
    input_size: int = knob(
        0,
        "resnet18, cifar_resnet and application resize pictures to this many pixels a side themselves; 0 does not",
        low=0,
        high=1024,
        metavar="PIXELS",
    )
    head_units: int = knob(
        0,
        "units of a dense layer with ReLU before the last one of resnet18, cifar_resnet, whitened_cnn and application",
        low=0,
        high=65_536,
    )
    head_dropout: float = knob(0.0, "dropout before the last layer of the same networks", low=0.0, high=0.9)
    weights: str = knob(
        "none",
        "first weights of resnet18 (imagenet, or torchvision's state dict in a .pth) or application (imagenet, or "
        "keras.applications' .h5 without its head); none is random ones",
        metavar="imagenet|none|PATH",
    )
    init_from: str | None = knob(
        None,
        "start from another run's network (its folder, or a .keras file): all layers that have their place here",
        type=str,
        metavar="RUN",
    )
    unfreeze: str = knob(
        "all",
        "what learns: all layers; none but the head; or those from this layer, or group of layers, on, such as layer4",
        metavar="all|none|LAYER",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.weights != "none" and self.architecture not in PRETRAINED:
            raise InputError(
                f"--weights goes with --architecture {', '.join(PRETRAINED)}. "
                f"Received: --architecture {self.architecture} --weights {self.weights}."
            )
        if self.weights != "none" and self.init_from is not None:
            raise InputError("A network starts from --weights or from --init-from. Received: both.")

    @property
    def weights_path(self):
        """The file that `weights` names, or None when it is a word."""
        return None if self.weights in ("imagenet", "none") else Path(os.path.expanduser(self.weights))

    @property
    def caution(self):
        """What is to be said of every figure of a network that keeps layers as they were drawn; None of all others."""
        if self.unfreeze == "all" or self.weights != "none" or self.init_from is not None:
            return None
        return "The frozen layers keep random weights: that tries the track out, and its figures say nothing."

    def dropout(self, rate):
        """A network's own dropout rate, scaled."""
        return min(0.9, rate * self.dropout_scale)


PICTURES_ONLY = (
    "shear_range",
    "random_crop",
    "random_resized_crop",
    "contrast",
    "saturation",
    "hue",
    "rotate90",
    "random_erasing",
    "cutout",
)
COLOURS_ONLY = ("saturation", "hue")
VOLUMES_ONLY = ("depth_shift_range", "depth_flip", "rotate_cube")


@dataclass(frozen=True)
class AugmentationSpec(_Checked):
    """Random changes of the training images, in the words and the meaning of Keras's ImageDataGenerator.

    A range is symmetric about the unchanged picture, as there; 0 is off. Brightness alone is given as
    `(darkest, brightest)` factors. Contrast, saturation and hue are those of torchvision's ColorJitter. Volumes have
    axes depth, height and width; `check_shape` says which changes are for pictures or volumes alone.
    """

    rotation_range: float = knob(
        0.0, "rotate by up to this many degrees either way, a volume about each axis", low=0, high=180
    )
    width_shift_range: float = knob(0.0, "shift sideways by up to this share of the width", low=0, high=1)
    height_shift_range: float = knob(0.0, "shift up or down by up to this share of the height", low=0, high=1)
    depth_shift_range: float = knob(
        0.0, "shift a volume along its first axis by up to this share of the depth", low=0, high=1
    )
    shear_range: float = knob(0.0, "shear a picture by up to this many degrees", low=0, high=89)
    zoom_range: float = knob(0.0, "zoom each axis by a factor between 1 - Z and 1 + Z", low=0, high=0.95)
    isotropic_zoom: bool = knob(False, "zoom all axes by the same factor (ImageDataGenerator draws two)")
    random_crop: int = knob(
        0,
        "pad a picture by this many pixels on each side, as --fill-mode says, and cut the old size out at random",
        low=0,
        metavar="PIXELS",
    )
    random_resized_crop: float = knob(
        0.0,
        "cut out a window of at least this share of a picture's area, up to 4:3 in aspect, and enlarge it to the size",
        low=0,
        high=1,
        metavar="SHARE",
    )
    channel_shift_range: float = knob(0.0, "add up to this much to all channels, of 255", low=0, high=255)
    brightness_range: tuple[float, float] | None = knob(
        None,
        "multiply the brightness by a factor between these two",
        type=float,
        nargs=2,
        low=0,
        high=10,
        metavar=("DARKEST", "BRIGHTEST"),
    )
    contrast: float = knob(0.0, "multiply a picture's contrast by a factor between 1 - C and 1 + C", low=0, high=1)
    saturation: float = knob(
        0.0, "multiply a colour picture's saturation by a factor between 1 - S and 1 + S", low=0, high=1
    )
    hue: float = knob(
        0.0, "turn a colour picture's hues by up to this share of their circle either way", low=0, high=0.5
    )
    noise: float = knob(0.0, "add Gaussian noise of this standard deviation, of 255", low=0, high=255)
    horizontal_flip: bool = knob(False, "mirror left and right, half the time")
    alternate_flips: bool = knob(
        False, "with --horizontal-flip: each second epoch mirror just the images that the one before did not"
    )
    vertical_flip: bool = knob(False, "mirror top and bottom, half the time")
    depth_flip: bool = knob(False, "mirror a volume front and back, half the time")
    rotate90: bool = knob(False, "turn a picture by 0, 90, 180 or 270 degrees")
    rotate_cube: bool = knob(False, "turn a volume by one of the 24 rotations of the cube")
    random_erasing: float = knob(
        0.0, "probability of blanking a rectangle of 2 to 33 %% of a picture, at a random place", low=0, high=1
    )
    cutout: float = knob(0.0, "blank a square of this share of a picture's side, at a random place", low=0, high=1)
    mixup: float = knob(
        0.0,
        "mix each image and its label with another one's, in shares from Beta(M, M); the training accuracy then counts "
        "the larger share's class alone, so it reads low",
        low=0,
        high=100,
    )
    fill_mode: str = knob(
        "nearest",
        "what fills the places that a shift or a rotation uncovers",
        choices=("nearest", "constant", "reflect", "wrap"),
    )
    cval: float = knob(0.0, "the value for --fill-mode constant", low=0, high=255)

    def __post_init__(self):
        super().__post_init__()
        if self.brightness_range is not None and self.brightness_range[0] > self.brightness_range[1]:
            raise InputError(f"--brightness-range takes the darkest factor first. Received: {self.brightness_range}.")
        if self.alternate_flips and not self.horizontal_flip:
            raise InputError("--alternate-flips goes with --horizontal-flip. Received: --no-horizontal-flip.")

    def check_shape(self, shape):
        """Checks that every change asked for means something for images of a shape.

        Args:
            shape: `(N, H, W, C)` of pictures or `(N, D, H, W, C)` of volumes.

        Raises:
            InputError: If it is the shape of neither, if a change is for the other kind or for colours alone, if
                quarter turns meet sides that differ, or if a crop may miss the picture.
        """
        if len(shape) not in (4, 5):
            raise InputError(
                "Augmentation takes pictures of shape (N, H, W, C) or volumes of shape (N, D, H, W, C). "
                f"Received: shape {shape}."
            )
        others, kind = (VOLUMES_ONLY, "volumes") if len(shape) == 4 else (PICTURES_ONLY, "pictures")
        for name in others:
            if getattr(self, name):
                raise InputError(f"{flag(name)} is for {kind} alone. Received: images of shape {shape}.")
        for name in COLOURS_ONLY:
            if getattr(self, name) and shape[-1] != 3:
                raise InputError(f"{flag(name)} needs pictures of three channels. Received: shape {shape}.")
        if self.random_crop >= min(shape[1:3]):
            raise InputError(
                f"--random-crop takes less than the sides of the pictures, {shape[1]} and {shape[2]} pixels. "
                f"Received: {self.random_crop}."
            )
        if self.rotate90 and shape[1] != shape[2]:
            raise InputError(f"--rotate90 needs square pictures. Received: shape {shape}.")
        if self.rotate_cube and len(set(shape[1:4])) > 1:
            raise InputError(f"--rotate-cube needs volumes with three equal sides. Received: shape {shape}.")


@dataclass(frozen=True)
class TrainingSpec(_Checked):
    """How the network learns."""

    epochs: int = knob(150, "passes over the training split, at most", low=1)
    batch_size: int = knob(64, "images per step", low=1)
    optimizer: str = knob("adam", "optimizer", choices=("adam", "adamw", "sgd"))
    momentum: float = knob(0.9, "momentum, for sgd", low=0.0, high=0.9999)
    nesterov: bool = knob(False, "Nesterov's momentum, for sgd")
    learning_rate: float = knob(0.001, "learning rate, before the schedule", low=1e-9)
    weight_decay: float = knob(0.0, "decoupled weight decay, for adamw and sgd", low=0.0)
    schedule: str = knob(
        "plateau",
        "learning rate: cut it when the validation loss stalls, or every few epochs, lower it along a cosine or a "
        "line, or keep it",
        choices=("plateau", "step", "cosine", "linear", "constant"),
    )
    plateau_patience: int = knob(5, "epochs without a better validation loss before the rate is cut", low=1)
    step_epochs: int = knob(5, "epochs between the cuts of the schedule step", low=1)
    cut_factor: float = knob(0.5, "what a cut multiplies the rate by", low=0.01, high=0.99)
    warmup_epochs: float = knob(0.0, "epochs over which a cosine or linear schedule rises to its rate", low=0.0)
    patience: int = knob(
        15,
        "stop after this many epochs without a better validation loss; 0 never stops early",
        low=0,
    )
    class_weight: str = knob(
        "none",
        "weights that even out the classes: balanced, none, or a power 0..1 of the balanced ones",
        metavar="balanced|none|POWER",
    )
    label_smoothing: float = knob(0.0, "share of each label spread over all classes", low=0.0, high=0.99)
    logit_adjustment: float = knob(
        0.0,
        "after training, take the classes' log frequencies times this off the logits, in favour of rare classes",
        low=0.0,
        high=2.0,
    )
    ema_momentum: float = knob(
        0.0,
        "average the weights over steps with this momentum and keep the average; 0 is off",
        low=0.0,
        high=0.99999,
    )
    precision: str = knob(
        "float32",
        "numbers that the training computes with; mixed_bfloat16 is quicker on processors and accelerators that have "
        "it; logits and the finished model are float32 all the same",
        choices=("float32", "mixed_bfloat16"),
    )
    tensorboard: bool = knob(False, "write TensorBoard logs into the run's folder")

    def __post_init__(self):
        super().__post_init__()
        class_weight_power(self.class_weight)


def class_weight_power(text):
    """The power that `--class-weight` stands for, 0 (none) to 1 (balanced).

    Raises:
        InputError: If the text is neither a word that it takes nor a number from 0 to 1.
    """
    words = {"balanced": 1.0, "none": 0.0}
    try:
        power = words[text] if text in words else float(text)
    except ValueError:
        power = None
    if power is None or not 0.0 <= power <= 1.0:
        raise InputError(f"--class-weight takes balanced, none or a number from 0 to 1. Received: {text!r}.")
    return power


@dataclass(frozen=True)
class EvaluationSpec(_Checked):
    """How the finished model is judged."""

    judge_on: str = knob(
        "test",
        "split that the report is about; choose between recipes on val, and read test once",
        choices=("test", "val"),
    )
    bootstrap: int = knob(1000, "resamples of the test images for the 95 %% intervals", low=10, high=100_000)
    positive_class: str | None = knob(
        None,
        "of two classes, the one to find: sensitivity and specificity are its (default: the rarer in train)",
        type=str,
        metavar="NAME",
    )
    misclassified: int = knob(25, "surest misclassified images shown in the report", low=0, high=200)


@dataclass(frozen=True)
class ExplanationSpec(_Checked):
    """How the report shows why the model answers as it does."""

    explain: str = knob(
        "grad-cam", "method of the report's heatmaps, or none", choices=(*EXPLANATION_METHODS, "none"), metavar="METHOD"
    )
    explained_layer: tuple[str, ...] | None = knob(
        None,
        "layers whose feature maps are weighed, a heatmap for each (default: the last convolution's)",
        type=str,
        nargs="+",
        metavar="NAME",
    )
    explained_per_class: int = knob(2, "images of each class shown with their heatmap", low=0, high=50)
    faithfulness_images: int = knob(
        32, "judged images on which every method's heatmaps are put to the test; 0 leaves that out", low=0
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.explained_layer, str):
            object.__setattr__(self, "explained_layer", (self.explained_layer,))
        if self.explain == "integrated-gradients" and self.explained_layer is not None:
            raise InputError(
                "--explained-layer goes with methods that weigh feature maps; integrated-gradients explains pixels. "
                f"Received: {' '.join(self.explained_layer)}."
            )


@dataclass(frozen=True)
class QuantizationSpec(_Checked):
    """Which .tflite files a run leaves, and how they are made."""

    tflite: bool = knob(False, "write float32, dynamic-range and full-integer .tflite files, and judge each")
    qat: bool = knob(
        False,
        "fine-tune with fake quantization until it answers as the float model does, and write that file too; "
        "implies --tflite",
    )
    qat_epochs: int = knob(6, "epochs of that fine-tuning", low=1)
    qat_frozen_share: float = knob(
        1.0, "last part of that fine-tuning, in which batch statistics and ranges stay as they are", low=0.0, high=1.0
    )
    qat_learning_rate: float = knob(1e-4, "learning rate of that fine-tuning, before its cosine", low=1e-9)
    representative_images: int = knob(256, "training images that ranges are taken from", low=1)
    tflite_io: str = knob(
        "uint8", "type of input and output of the integer files", choices=("uint8", "int8", "float32")
    )
    tflite_logits: bool = knob(False, "let the files end in logits instead of probabilities")


@dataclass(frozen=True)
class Recipe(_Checked):
    """Everything that decides a run's figures, but for the machine."""

    name: str = "baseline"
    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    explanation: ExplanationSpec = ExplanationSpec()
    quantization: QuantizationSpec = QuantizationSpec()
    augment: bool = knob(False, "augment the training images as the recipe says; any flag of that group implies it")
    seed: int = knob(0, "seed of weights, order, augmentation and synthetic data", low=0, high=2**32 - 1)

    def to_json(self):
        """The recipe as JSON text, one key a field."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def specs(recipe) -> dict[str, Any]:
    """The recipe's specs by their field names: data, model, augmentation, training, evaluation and so on."""
    parts = {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}
    return {name: part for name, part in parts.items() if dataclasses.is_dataclass(part)}


def override(recipe, **values):
    """The recipe with some knobs turned, whichever spec each belongs to.

    Raises:
        InputError: If a value is outside its knob's range.
        TypeError: If no spec has a field of that name.
    """
    changed = {}
    for name, spec in specs(recipe).items():
        mine = {item.name: values.pop(item.name) for item in dataclasses.fields(spec) if item.name in values}
        if mine:
            changed[name] = dataclasses.replace(spec, **mine)
    return dataclasses.replace(recipe, **changed, **values)


def smoke(recipe):
    """The whole recipe in seconds: few images, two epochs. Its figures mean nothing; that it runs does."""
    warmup = recipe.training.warmup_epochs * 2 / recipe.training.epochs
    return override(
        recipe,
        limit=140,
        epochs=2,
        batch_size=32,
        bootstrap=50,
        warmup_epochs=warmup,
        explained_per_class=1,
        faithfulness_images=0,
        qat_epochs=2,
        representative_images=32,
    )
