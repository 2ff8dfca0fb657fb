"""What a run is made of: frozen dataclasses, and nothing but the standard library.

A recipe is data. Its fields become the command line's flags (`cli.py`), the pipeline runs it through the stages
(`pipeline/track.py`), and `recipe.json` in the run's folder records it. Field names are unique across the specs, so
`override(recipe, epochs=3, data="synthetic")` and `--epochs 3 --data synthetic` mean the same.
"""

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Repeated here because reading a flag must not import the methods; `explanation.METHODS` has the same names.
EXPLANATION_METHODS = ("grad-cam", "grad-cam++", "hires-cam", "layer-cam", "score-cam", "integrated-gradients")


# A trial (`smoke`) uses at most so many images of each split, and so many values of images.
TRIAL_IMAGES = 140
TRIAL_VALUES = 1_500_000
TRIAL_WIDTH = 8


MAX_LINE = 400  # Characters; Keras quotes whole configurations.


# The .tflite files of a model, and the types of input and output of the two integer ones.
SCHEMES = ("float32", "dynamic", "int8", "qat")
IO_TYPES = ("uint8", "int8", "float32")
# Formats for other runtimes than LiteRT, and the files of each; the first is the one that is opened.
EXPORTS = {
    "onnx": ("model.onnx",),
    "onnx_int8": ("model_int8.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "torch": ("model.pt2",),
    "saved_model": ("saved_model",),
    "c_array": ("model.h", "model.c"),
}
# Those that are made of an integer .tflite file.
INTEGER_EXPORTS = ("onnx_int8", "c_array")

# What probabilities are averaged over: nothing; what the recipe's augmentation has; an image and its mirror image;
# flips of every axis; quarter turns, of volumes about each axis; flips and turns.
TTA = ("none", "auto", "flip", "flips", "turns", "all")


# Suffixes of tables with labels.
TABLES = (".csv", ".tsv")


class InputError(ValueError):
    """A user's mistake: a flag, a file, a data set or an image. The command line prints it alone and exits with 2."""

    def __str__(self) -> str:
        """The sentence; what cannot be printed in one line is replaced, because names in files may hold anything."""
        return printable(super().__str__())


def first_line(error: BaseException) -> str:
    """The beginning of an exception's first line, or its type where the message is empty."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:MAX_LINE]
    return printable(line)


def printable(text: str) -> str:
    """Text without control characters, some of which a terminal obeys."""
    return "".join(character if character.isprintable() else "?" for character in text)


def knob(
    default: Any,
    help: str,
    *,
    type: Any = None,
    choices: tuple | None = None,
    low: float | None = None,
    high: float | None = None,
    nargs: int | str | None = None,
    metavar: str | tuple[str, ...] | None = None,
    common: bool = False,
) -> Any:
    """A recipe's field: its default, one line of help, and the values that it takes.

    Args:
        low: Smallest value allowed, itself included.
        high: Largest value allowed, itself included.
        nargs: How many values the flag takes, for a field that holds a tuple.
        common: Whether `--help` shows it; `--help-all` shows all.
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
        "common": common,
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


def flag(name: str) -> str:
    """A field's name as the command line spells it."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class DataSpec(_Checked):
    """Where the images come from."""

    data: str = knob(
        "dermamnist",
        "folder of class folders, .npz file, or name of a data set; synthetic needs no data",
        metavar="PATH|NAME",
        common=True,
    )
    labels_csv: str | None = knob(
        None,
        "table with file name, label and perhaps split of each image in the folder --data",
        type=str,
        metavar="FILE.csv",
        common=True,
    )
    file_column: str | None = knob(None, "the table's column of file names (default: found)", type=str, metavar="NAME")
    label_column: tuple[str, ...] | None = knob(
        None,
        "the table's column of labels, or several, one for each class, with 1 for yes (default: found)",
        type=str,
        nargs="+",
        metavar="NAME",
    )
    label_separator: str | None = knob(
        None,
        "what stands between the labels of an image with several, such as '|'; '' where a cell is one label (default: "
        "found)",
        type=str,
        metavar="TEXT",
    )
    split_column: str | None = knob(None, "the table's column of splits (default: found)", type=str, metavar="NAME")
    classes_at: str | None = knob(
        None,
        "path in --data of the folder whose subfolders are the classes, such as train/images; . is --data itself, "
        "'*' is every folder (default: found)",
        type=str,
        metavar="PATH",
    )
    group_by: str | None = knob(
        None,
        "keep a patient's images, say, in one split: a column of the table, or a pattern on file names, '(P[0-9]+)_'",
        type=str,
        metavar="COLUMN|PATTERN",
        common=True,
    )
    splits: str | None = knob(
        None, "take each image's split from the splits.csv of another run", type=str, metavar="FILE.csv"
    )
    ordered_classes: tuple[str, ...] | None = knob(
        None,
        "for classes that are grades: their names from the lowest to the highest; the report then has quadratic kappa",
        type=str,
        nargs="+",
        metavar="NAME",
    )
    size: int = knob(
        28, "side of the images in pixels (not for .npz files)", low=8, high=512, metavar="PIXELS", common=True
    )
    color: str = knob("rgb", "channels of the images of a folder", choices=("rgb", "gray"))
    resize: str = knob(
        "crop",
        "how images of a folder are made square: cropped at both ends, padded with black, or stretched",
        choices=("crop", "pad", "stretch"),
    )
    intensity_range: tuple[float, float] | None = knob(
        None,
        "values in the files of a folder that become black and white, for images of 12 or 16 bits, numbers, DICOM and "
        "NIfTI (default: the range of the files' bits, a DICOM file's window, a NIfTI volume's least and largest)",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
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
        "share of the training images used for validation, for data without a validation split",
        low=0.001,
        high=0.9,
    )
    test_share: float = knob(
        0.2, "share of the images used for the test, for folders without a test split", low=0.001, high=0.9
    )
    fold: str | None = knob(
        None,
        "cross-validation: hold out part I of K, such as 1/5, of the images that are not of a test split, and use it "
        "as the test split; sweep --folds K does all of them",
        type=str,
        metavar="I/K",
    )
    strict: bool = knob(False, "stop at the first file of a folder that cannot be read, instead of leaving it out")
    audit_leaks: bool | None = knob(
        None, "look for images that appear, exactly or nearly, in two splits (default: for folders only)", type=bool
    )
    drop_leaks: bool = knob(False, "remove from train every image that also appears in val or test")
    data_description: str | None = knob(
        None, "one sentence about the data, for the report and the files' cards", type=str, metavar="TEXT"
    )
    data_licence: str | None = knob(
        None, "licence of the data, for the report and the files' cards", type=str, metavar="TEXT"
    )
    # Set by `smoke`: few images, and drawn ones in place of a named data set that would have to be downloaded.
    trial: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.intensity_range is not None and self.intensity_range[0] >= self.intensity_range[1]:
            raise InputError(f"--intensity-range takes the lower value first. Received: {self.intensity_range}.")
        if self.fold is not None:
            number, count = self.fold_of or (0, 0)
            if not 1 <= number <= count or count < 2:
                raise InputError(f"--fold takes a part and the number of parts, such as 1/5. Received: {self.fold!r}.")

    @property
    def fold_of(self) -> tuple[int, int] | None:
        """Number, from 1, and count of `fold`; None without one."""
        match = re.fullmatch(r"([1-9]\d{0,4})/([1-9]\d{0,4})", self.fold or "", re.ASCII)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def path(self) -> Path | None:
        """The file or folder that `data` names, or None when it may be the name of a data set."""
        path = Path(os.path.expanduser(self.data))  # Path.expanduser raises where there is no such user.
        return path if path.suffix or len(path.parts) > 1 else None

    @property
    def labels_path(self) -> Path | None:
        """The file that `labels_csv` names."""
        return None if self.labels_csv is None else Path(os.path.expanduser(self.labels_csv))

    @property
    def splits_path(self) -> Path | None:
        """The file that `splits` names."""
        return None if self.splits is None else Path(os.path.expanduser(self.splits))

    @property
    def kind(self) -> str:
        """`folder`, `npz`, `cifar10`, `synthetic` or `medmnist`; `unknown` for a name that is none of these."""
        if self.data in ("imagenette", "fracatlas", "flower_photos", "synthetic-folders"):
            return "folder"
        if self.data in ("synthetic", "synthetic3d", "cifar10"):
            return self.data.removesuffix("3d")
        if os.path.isdir(self.path or self.data):
            return "folder"
        if self.path:
            return {".npz": "npz", **dict.fromkeys(TABLES, "folder")}.get(self.path.suffix.lower(), "unknown")
        return "medmnist" if self.data.removesuffix("3d").endswith("mnist") else "unknown"

    def images_at_most(self, values: int) -> int | None:
        """How many images of each split are kept, None for all.

        Args:
            values: Numbers in one image: height times width times channels.
        """
        if self.limit is None and self.trial:
            return max(1, min(TRIAL_IMAGES, TRIAL_VALUES // values))
        return self.limit


ARCHITECTURES = (
    "plain_cnn",
    "plain_cnn_3d",
    "small_resnet",
    "cifar_resnet",
    "resnet18",
    "whitened_cnn",
    "basic_cnn",
    "application",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
)
RESNETS = ("resnet18", "cifar_resnet")
LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
# Networks that can start from weights of other packages.
PRETRAINED = (*RESNETS, "application", *LITES)


@dataclass(frozen=True)
class ModelSpec(_Checked):
    """Which network."""

    architecture: str = knob("plain_cnn", "network", choices=ARCHITECTURES)
    width: int = knob(32, "filters of the first block; the later blocks have multiples of it", low=1, high=1024)
    dropout_scale: float = knob(1.0, "factor on the network's dropout rates", low=0.0, high=1.5)
    stem: str = knob(
        "cifar",
        "first layers of resnet18 and cifar_resnet: 3 x 3 for small images, or 7 x 7 and pooling to a quarter",
        choices=("cifar", "imagenet"),
    )
    backbone: str = knob(
        "MobileNetV2",
        "which network of keras.applications the architecture application takes; efficientnet_lite0 to 2 are "
        "architectures of their own",
        metavar="NAME",
    )
    cut_layer: str | None = knob(
        None, "last layer of the backbone that application keeps (default: all but its head)", type=str, metavar="NAME"
    )
    input_size: int = knob(
        0,
        "side in pixels to which resnet18, cifar_resnet, application and efficientnet_lite0 to 2 resize images "
        "themselves; 0 does not resize",
        low=0,
        high=1024,
        metavar="PIXELS",
    )
    head_units: int = knob(
        0,
        "units of a dense layer with ReLU before the last one of resnet18, cifar_resnet, whitened_cnn, application "
        "and efficientnet_lite0 to 2",
        low=0,
        high=65_536,
    )
    head_dropout: float = knob(0.0, "dropout before the last layer of the same networks", low=0.0, high=0.9)
    weights: str = knob(
        "none",
        "initial weights: imagenet, or a file of torchvision for resnet18 (.pth), of efficientnet-lite-pytorch for "
        "efficientnet_lite0 to 2 (.pth), of keras.applications without its head for application (.h5); none means "
        "random",
        metavar="imagenet|none|PATH",
    )
    init_from: str | None = knob(
        None,
        "start from another run's network (its folder, or a .keras file): every layer of the same name and shape",
        type=str,
        metavar="RUN",
    )
    unfreeze: str = knob(
        "all",
        "which layers train: all; none but the head; or those from this layer, or group of layers, on, such as layer4",
        metavar="all|none|LAYER",
    )

    keep_statistics: bool = knob(
        False, "normalizations keep the means and variances that their weights came with, and are not trained"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.weights != "none" and self.architecture not in PRETRAINED:
            raise InputError(
                f"--weights goes with --architecture {', '.join(PRETRAINED)}. "
                f"Received: --architecture {self.architecture} --weights {self.weights}."
            )
        if self.weights != "none" and self.init_from is not None:
            raise InputError("A network takes its initial weights from --weights or from --init-from. Received: both.")

    @property
    def weights_path(self) -> Path | None:
        """The file that `weights` names, or None when it is a word."""
        return None if self.weights in ("imagenet", "none") else Path(os.path.expanduser(self.weights))

    @property
    def caution(self) -> str | None:
        """What to say beside every metric of a network whose frozen layers are random; None for all others."""
        if self.unfreeze == "all" or self.weights != "none" or self.init_from is not None:
            return None
        return (
            "The frozen layers have random weights, so the metrics are meaningless. "
            "Use this only to check that the track runs."
        )

    def dropout(self, rate: float) -> float:
        """A network's own dropout rate, scaled."""
        return min(0.9, rate * self.dropout_scale)


IMAGES_ONLY = (
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
    """Random changes of the training images, as in Keras's ImageDataGenerator; each flag implies --augment.

    A range is symmetric about the unchanged image, as there; 0 is off. Only brightness is given as
    `(darkest, brightest)` factors. Contrast, saturation and hue are those of torchvision's ColorJitter. Volumes have
    axes depth, height and width; `check_shape` checks which changes suit 2D images and which volumes.
    """

    rotation_range: float = knob(
        0.0, "rotate by up to this many degrees either way, a volume about each axis", low=0, high=180
    )
    width_shift_range: float = knob(0.0, "shift sideways by up to this share of the width", low=0, high=1)
    height_shift_range: float = knob(0.0, "shift up or down by up to this share of the height", low=0, high=1)
    depth_shift_range: float = knob(
        0.0, "shift a volume along its first axis by up to this share of the depth", low=0, high=1
    )
    shear_range: float = knob(0.0, "shear an image by up to this many degrees", low=0, high=89)
    zoom_range: float = knob(0.0, "zoom each axis by a factor between 1 - Z and 1 + Z", low=0, high=0.95)
    isotropic_zoom: bool = knob(False, "zoom all axes by the same factor (ImageDataGenerator draws two)")
    random_crop: int = knob(
        0,
        "pad an image by this many pixels on each side, as --fill-mode says, and crop the old size at a random place",
        low=0,
        metavar="PIXELS",
    )
    random_resized_crop: float = knob(
        0.0,
        "crop a window of at least this share of an image's area, aspect up to 4:3, and resize it to the image's size",
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
    contrast: float = knob(0.0, "multiply the contrast by a factor between 1 - C and 1 + C", low=0, high=1)
    saturation: float = knob(
        0.0, "multiply a colour image's saturation by a factor between 1 - S and 1 + S", low=0, high=1
    )
    hue: float = knob(
        0.0, "rotate a colour image's hues by up to this share of the colour circle either way", low=0, high=0.5
    )
    noise: float = knob(0.0, "add Gaussian noise of this standard deviation, of 255", low=0, high=255)
    horizontal_flip: bool = knob(False, "mirror left and right, half the time")
    alternate_flips: bool = knob(
        False, "with --horizontal-flip: every second epoch mirrors exactly the images that the previous one did not"
    )
    vertical_flip: bool = knob(False, "mirror top and bottom, half the time")
    depth_flip: bool = knob(False, "mirror a volume front and back, half the time")
    rotate90: bool = knob(False, "rotate an image by 0, 90, 180 or 270 degrees")
    rotate_cube: bool = knob(False, "rotate a volume by one of the 24 rotations of the cube")
    random_erasing: float = knob(
        0.0, "probability of blanking a rectangle of 2 to 33 %% of an image, at a random place", low=0, high=1
    )
    cutout: float = knob(0.0, "blank a square of this share of an image's side, at a random place", low=0, high=1)
    mixup: float = knob(
        0.0,
        "mix each image and its label with another's, with weights from Beta(M, M); the training accuracy then counts "
        "only the class with the larger weight, so it reads low",
        low=0,
        high=100,
    )
    fill_mode: str = knob(
        "nearest",
        "how areas that a shift or a rotation uncovers are filled",
        choices=("nearest", "constant", "reflect", "wrap"),
    )
    cval: float = knob(0.0, "pixel value for --fill-mode constant", low=0, high=255)

    def __post_init__(self):
        super().__post_init__()
        if self.brightness_range is not None and self.brightness_range[0] > self.brightness_range[1]:
            raise InputError(f"--brightness-range takes the darkest factor first. Received: {self.brightness_range}.")
        if self.alternate_flips and not self.horizontal_flip:
            raise InputError("--alternate-flips goes with --horizontal-flip. Received: --no-horizontal-flip.")

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Checks that every change in this spec is possible for images of a shape.

        Args:
            shape: `(N, H, W, C)`, or `(N, D, H, W, C)` for volumes.

        Raises:
            InputError: If the shape is neither, if a change is for the other kind or needs colours, if quarter turns
                meet unequal sides, or if a random crop could miss the image.
        """
        if len(shape) not in (4, 5):
            raise InputError(
                "Augmentation takes images of shape (N, H, W, C) or volumes of shape (N, D, H, W, C). "
                f"Received: shape {shape}."
            )
        others, kind = (VOLUMES_ONLY, "volumes") if len(shape) == 4 else (IMAGES_ONLY, "2D images")
        for name in others:
            if getattr(self, name):
                raise InputError(f"{flag(name)} is only for {kind}. Received: images of shape {shape}.")
        for name in COLOURS_ONLY:
            if getattr(self, name) and shape[-1] != 3:
                raise InputError(f"{flag(name)} needs images with three channels. Received: shape {shape}.")
        if self.random_crop >= min(shape[1:3]):
            raise InputError(
                f"--random-crop takes less than the sides of the images, {shape[1]} and {shape[2]} pixels. "
                f"Received: {self.random_crop}."
            )
        if self.rotate90 and shape[1] != shape[2]:
            raise InputError(f"--rotate90 needs square images. Received: shape {shape}.")
        if self.rotate_cube and len(set(shape[1:4])) > 1:
            raise InputError(f"--rotate-cube needs volumes with three equal sides. Received: shape {shape}.")


TRAINED_STEP, TRAINED_LEAST = 8, 32  # Of the side of images while a network trains, in pixels.


@dataclass(frozen=True)
class TrainingSpec(_Checked):
    """How the network learns."""

    epochs: int = knob(150, "passes over the training images", low=1, common=True)
    batch_size: int = knob(64, "images per step", low=1, common=True)
    optimizer: str = knob("adam", "optimizer", choices=("adam", "adamw", "sgd"))
    momentum: float = knob(0.9, "momentum, for sgd", low=0.0, high=0.9999)
    nesterov: bool = knob(False, "Nesterov's momentum, for sgd")
    learning_rate: float = knob(0.001, "initial learning rate", low=1e-9, common=True)
    weight_decay: float = knob(0.0, "decoupled weight decay, for adamw and sgd", low=0.0)
    schedule: str = knob(
        "plateau",
        "how the learning rate changes: reduced when the validation loss stalls, or every few epochs; lowered along a "
        "cosine or a line; or constant",
        choices=("plateau", "step", "cosine", "linear", "constant"),
    )
    plateau_patience: int = knob(5, "epochs without a better validation loss before the rate is reduced", low=1)
    step_epochs: int = knob(5, "epochs between the reductions of the schedule step", low=1)
    cut_factor: float = knob(0.5, "factor of each reduction of the rate", low=0.01, high=0.99)
    warmup_epochs: float = knob(0.0, "epochs over which a cosine or linear schedule rises to its rate", low=0.0)
    patience: int = knob(
        15,
        "stop after this many epochs without a better validation loss; 0 never stops early",
        low=0,
    )
    head_epochs: int = knob(
        0, "epochs before the others in which only the head learns, on features that are computed once", low=0
    )
    head_learning_rate: float = knob(0.003, "initial learning rate of these epochs", low=1e-9)
    feature_copies: int = knob(
        0,
        "augmented copies of each training image whose features are computed once; 0: without augmentation one, with "
        "it every layer is computed in every epoch, but for --head-epochs",
        low=0,
        high=1000,
    )
    train_scale: float = knob(
        1.0,
        "share of an image's side to which the network resizes images while it trains; the finished one does not, as "
        "it has seen objects enlarged by random crops; 1 is off",
        low=0.25,
        high=1.0,
    )
    class_weight: str = knob(
        "none",
        "balanced, none, or a power of balanced from 0 to 1",
        metavar="WEIGHT",
        common=True,
    )
    label_smoothing: float = knob(0.0, "share of each label spread over all classes", low=0.0, high=0.99)
    logit_adjustment: float = knob(
        0.0,
        "after training, subtract the classes' log frequencies times this from the logits, which favours rare classes",
        low=0.0,
        high=2.0,
    )
    calibrate: bool = knob(
        False,
        "after training, divide the logits by the temperature that suits the validation split, in the last layer's "
        "weights: the scores then say how often they are right, and no answer changes",
    )
    teachers: tuple[str, ...] | None = knob(
        None,
        "learn what these finished runs say of each image, the mean of their probabilities, beside the labels",
        type=str,
        nargs="+",
        metavar="RUN",
    )
    teacher_share: float = knob(0.5, "share of the teachers in what is learned", low=0.01, high=1.0)
    ema_momentum: float = knob(
        0.0,
        "momentum of an exponential moving average of the weights, which is kept; 0 is off",
        low=0.0,
        high=0.99999,
    )
    true_statistics: bool | None = knob(
        None,
        "before each validation, re-estimate the normalizations' means and variances with dropout off (default: where "
        "a network has dropout before a normalization)",
        type=bool,
    )
    precision: str = knob(
        "float32",
        "number format of the training; mixed_bfloat16 is faster on processors and accelerators that support it; "
        "logits and the finished model are float32 in any case",
        choices=("float32", "mixed_bfloat16"),
    )
    native_operations: bool = knob(
        True, "use faster equivalents of some Keras operations from TensorFlow or torch during training"
    )
    tensorboard: bool = knob(False, "write TensorBoard logs into the run's folder")
    tracker: str = knob(
        "none",
        "mlflow or wandb: also log parameters, metrics, plots and files there; by default to files beside the run",
        choices=("none", "mlflow", "wandb"),
    )
    profile: bool = knob(False, "measure where an epoch's time goes, for the report")

    def __post_init__(self):
        super().__post_init__()
        class_weight_power(self.class_weight)

    def trained_at(self, side: int) -> int:
        """The side in pixels of images while a network trains that is finished for images of a side."""
        scaled = round(side * self.train_scale / TRAINED_STEP) * TRAINED_STEP
        return min(side, max(TRAINED_LEAST, scaled)) if self.train_scale < 1 else side


def class_weight_power(text: str) -> float:
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
    """How the finished model is evaluated."""

    judge_on: str = knob(
        "test",
        "split that the report is about; choose between recipes on val and read test once",
        choices=("test", "val"),
    )
    bootstrap: int = knob(1000, "bootstrap resamples for the 95 %% intervals", low=10, high=100_000)
    positive_class: str | None = knob(
        None,
        "for two classes: the class whose sensitivity and specificity are reported (default: the rarer in train)",
        type=str,
        metavar="NAME",
    )
    # On by default: it needs no training, changes no score, and a run that has none would have to be trained again.
    target_error: float = knob(
        0.05,
        "largest share of wrong answers among those that are given: validation sets the confidence below which predict "
        "says unsure; 0 is off",
        low=0.0,
        high=0.5,
        metavar="SHARE",
    )
    tta: str = knob(
        "none",
        "test-time augmentation: a section on the mean of the probabilities of an image and of its flip (left and "
        "right), flips (of every axis), turns (quarters) or all these; auto: those of the augmentation",
        choices=TTA,
    )
    link_mistakes: bool = knob(
        False, "also write mistakes/, links to the misclassified files of a folder by true and predicted class"
    )
    misclassified: int = knob(25, "misclassified images shown in the report, the most confident first", low=0, high=200)


@dataclass(frozen=True)
class ExplanationSpec(_Checked):
    """Heatmaps of the report: which parts of an image raise the predicted class."""

    explain: str = knob(
        "grad-cam", "method of the report's heatmaps, or none", choices=(*EXPLANATION_METHODS, "none"), metavar="METHOD"
    )
    explained_layer: tuple[str, ...] | None = knob(
        None,
        "layers whose feature maps are weighted, one heatmap for each (default: the last convolution's)",
        type=str,
        nargs="+",
        metavar="NAME",
    )
    explained_per_class: int = knob(2, "images of each class shown with their heatmap", low=0, high=50)
    faithfulness_images: int = knob(32, "images on which every method's heatmaps are tested; 0 skips the test", low=0)

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.explained_layer, str):
            object.__setattr__(self, "explained_layer", (self.explained_layer,))
        if self.explain == "integrated-gradients" and self.explained_layer is not None:
            raise InputError(
                "--explained-layer goes with methods that weight feature maps; integrated-gradients explains pixels. "
                f"Received: {' '.join(self.explained_layer)}."
            )


@dataclass(frozen=True)
class QuantizationSpec(_Checked):
    """Which .tflite files a run leaves, and how they are made."""

    tflite: bool = knob(False, "write float32, dynamic and integer .tflite files", common=True)
    qat: bool = knob(
        False,
        "the same and one of quantization-aware training",
        common=True,
    )
    qat_epochs: int = knob(6, "epochs of quantization-aware fine-tuning", low=1)
    qat_frozen_share: float = knob(
        1.0, "share of that fine-tuning, at its end, in which batch statistics and ranges are frozen", low=0.0, high=1.0
    )
    qat_learning_rate: float = knob(1e-4, "initial learning rate of that fine-tuning", low=1e-9)
    representative_images: int = knob(256, "training images that set the ranges of integer files", low=1)
    tflite_io: str = knob("uint8", "type of input and output of the integer files", choices=IO_TYPES)
    tflite_logits: bool = knob(False, "write files that return logits instead of probabilities")
    export: tuple[str, ...] | None = knob(
        None,
        f"also write the model for other runtimes, in these formats: {', '.join(EXPORTS)}; "
        f"{' and '.join(INTEGER_EXPORTS)} are made of the integer file that --tflite or --qat writes",
        type=str,
        choices=tuple(EXPORTS),
        nargs="+",
        metavar="NAME",
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.export, str):
            object.__setattr__(self, "export", (self.export,))
        made_of_integers = [name for name in self.export or () if name in INTEGER_EXPORTS]
        if made_of_integers and not (self.tflite or self.qat):
            raise InputError(
                f"--export {' '.join(made_of_integers)} is made of the integer .tflite file: add --tflite or --qat."
            )


@dataclass(frozen=True)
class Recipe(_Checked):
    """Everything that decides a run's metrics, apart from the machine."""

    track: str = "run"
    name: str = "baseline"
    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    explanation: ExplanationSpec = ExplanationSpec()
    quantization: QuantizationSpec = QuantizationSpec()
    augment: bool = knob(False, "random changes of the training images; see --help-all", common=True)
    seed: int = knob(0, "of weights, order, augmentation, synthetic data", low=0, high=2**32 - 1, common=True)

    def __post_init__(self):
        super().__post_init__()
        # Metrics on images that the weights were trained on would look like a success.
        if self.model.weights == "imagenet" and "imagenette" in (self.track, self.data.data):
            raise InputError(
                "The ImageNet weights were trained on Imagenette's images, so no metric on these would count. "
                "Use --weights none, or photos of your own with another track."
            )

    def to_json(self) -> str:
        """The recipe as JSON text, one key per field."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def from_dict(values: dict[str, Any]) -> Recipe:
    """The recipe that a run's `recipe.json` holds.

    Raises:
        InputError: If it is none of this version's.
    """
    try:
        plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
        parts = {name: value for name, value in values.items() if isinstance(value, dict)}
        kinds = {name: type(spec) for name, spec in specs(Recipe()).items()}
        return Recipe(**plain, **{name: kinds[name](**_with_tuples(part)) for name, part in parts.items()})
    except (TypeError, LookupError, AttributeError) as error:
        raise InputError(f"The recipe is not one of this version: {first_line(error)}.") from error


def _with_tuples(values):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def specs(recipe: Recipe) -> dict[str, Any]:
    """The recipe's specs by their field names: data, model, augmentation, training, evaluation and so on."""
    parts = {item.name: getattr(recipe, item.name) for item in dataclasses.fields(recipe)}
    return {name: part for name, part in parts.items() if dataclasses.is_dataclass(part)}


def override(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with some values changed, whichever spec each belongs to.

        override(recipe("derma"), epochs=3, data="photos/", augment=True)

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


def smoke(recipe: Recipe) -> Recipe:
    """The whole recipe in seconds: few images, a narrow network, two epochs, no download.

    Its metrics mean nothing; it shows that everything runs. A named data set that is not on disk is replaced by drawn
    images, ImageNet weights by random ones.
    """
    network = {}
    if recipe.model.weights == "imagenet":
        network["weights"] = "none"
    if recipe.model.weights in ("imagenet", "none") and recipe.model.init_from is None:
        network["width"] = min(TRIAL_WIDTH, recipe.model.width)
    return override(
        recipe,
        trial=True,
        epochs=2,
        batch_size=32,
        bootstrap=50,
        warmup_epochs=recipe.training.warmup_epochs * 2 / recipe.training.epochs,
        explained_per_class=1,
        faithfulness_images=0,
        qat_epochs=2,
        representative_images=32,
        **network,
    )


# Networks that resize images themselves, and those whose head has knobs.
RESIZING = (*RESNETS, "application", *LITES)
WITH_HEAD = (*RESNETS, "whitened_cnn", "application", *LITES)
MOVES_PIXELS = (
    *("rotation_range", "width_shift_range", "height_shift_range", "depth_shift_range"),
    *("shear_range", "zoom_range", "random_crop"),
)


def unread(recipe: Recipe) -> dict[str, str]:
    """The fields that nothing reads in a run of this recipe: `{field: what reads it}`."""
    data, model, training, files = recipe.data, recipe.model, recipe.training, recipe.quantization
    moved = any(getattr(recipe.augmentation, name) for name in MOVES_PIXELS)
    has_table = data.labels_csv is not None or Path(data.data).suffix.lower() in TABLES
    has_dropout = model.architecture not in WITH_HEAD or model.head_dropout > 0
    rules = [
        # Fields, whether something reads them, and what does.
        (
            "color resize intensity_range strict group_by splits labels_csv link_mistakes",
            data.kind in ("folder", "unknown"),
            "--data FOLDER",
        ),
        ("classes_at", data.kind in ("folder", "unknown") and not has_table, "--data FOLDER without a table of labels"),
        ("file_column label_column label_separator split_column", has_table, "--labels-csv, or a table as --data"),
        (
            "val_share",
            data.kind not in ("medmnist", "synthetic") or data.fold is not None,
            "--data with a folder, an .npz or cifar10, and with --fold",
        ),
        (
            "test_share",
            data.kind in ("folder", "unknown") and data.fold is None,
            "--data FOLDER without --fold, which divides all its images",
        ),
        ("size", data.kind not in ("npz", "cifar10"), "--data with a folder, a MedMNIST name or synthetic images"),
        (
            "width",
            model.architecture not in ("application", *LITES),
            f"every --architecture but application and {', '.join(LITES)}",
        ),
        ("backbone cut_layer", model.architecture == "application", "--architecture application"),
        ("stem", model.architecture in RESNETS, f"--architecture {' or '.join(RESNETS)}"),
        ("input_size", model.architecture in RESIZING, f"--architecture {' or '.join(RESIZING)}"),
        ("head_units head_dropout", model.architecture in WITH_HEAD, f"--architecture {' or '.join(WITH_HEAD)}"),
        ("dropout_scale", has_dropout, "a network with dropout, such as one with --head-dropout"),
        ("momentum nesterov", training.optimizer == "sgd", "--optimizer sgd"),
        ("weight_decay", training.optimizer != "adam", "--optimizer adamw or sgd"),
        ("plateau_patience", training.schedule == "plateau", "--schedule plateau"),
        ("step_epochs", training.schedule == "step", "--schedule step"),
        ("cut_factor", training.schedule in ("plateau", "step"), "--schedule plateau or step"),
        ("warmup_epochs", training.schedule in ("cosine", "linear"), "--schedule cosine or linear"),
        ("teacher_share", training.teachers is not None, "--teachers"),
        ("keep_statistics", model.weights != "none" or model.init_from is not None, "--weights or --init-from"),
        (
            "train_scale",
            model.architecture in RESIZING and model.unfreeze != "none",
            f"--architecture {' or '.join(RESIZING)}, and --unfreeze all or a layer",
        ),
        ("head_epochs", model.unfreeze != "none", "--unfreeze all, or a layer: with none only the head learns anyway"),
        ("head_learning_rate", training.head_epochs > 0, "--head-epochs"),
        (
            "feature_copies",
            recipe.augment and (training.head_epochs > 0 or model.unfreeze == "none"),
            "--augment and --head-epochs, or --augment and --unfreeze none",
        ),
        ("isotropic_zoom", recipe.augmentation.zoom_range > 0, "--zoom-range"),
        ("fill_mode", moved, "an augmentation that moves pixels, such as --rotation-range"),
        ("cval", moved and recipe.augmentation.fill_mode == "constant", "--fill-mode constant"),
        (
            "explained_layer explained_per_class faithfulness_images",
            recipe.explanation.explain != "none",
            "--explain with a method",
        ),
        ("qat_epochs qat_frozen_share qat_learning_rate", files.qat, "--qat"),
        ("representative_images tflite_io", files.tflite or files.qat, "--tflite or --qat"),
        ("tflite_logits", files.tflite or files.qat or files.export, "--tflite, --qat or --export"),
    ]
    return {name: reader for names, is_read, reader in rules if not is_read for name in names.split()}
