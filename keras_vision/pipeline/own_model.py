"""The command `convert`: from somebody's own Keras model and images to checked files for phones."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from scipy.stats import binomtest

from keras_vision import __version__, backend, data, evaluation, quantization, training
from keras_vision.data import npz
from keras_vision.files import image_files, pixel_values
from keras_vision.keras_internals.graph import ends_in_sigmoids, read_graph
from keras_vision.pipeline import exports, record, tables
from keras_vision.pipeline import folder as run_folder
from keras_vision.quantization import tflite
from keras_vision.quantization.plain_model import plain_model
from keras_vision.recipe import InputError, TrainingSpec

if TYPE_CHECKING:
    from keras_vision.classifier import Classifier

MOST_JUDGED = 1000
FEWEST = 8
FOLDER_LIMIT = 20_000
FINE_TUNING_RATE = 1e-4
MOST_NAMED = 10  # Classes that a line in the terminal names.


@dataclass(frozen=True)
class Pictures:
    """Images of the user, at the model's size.

    Attributes:
        images: Uint8, shape `(N, H, W, C)`.
        labels: Int array, shape `(N,)`, or 0 and 1 of shape `(N, K)` for several labels an image; None where nothing
            says the classes.
        class_names: Names of the classes; None where nothing names them.
    """

    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None

    def part(self, rows: np.ndarray) -> "Pictures":
        """Some of the images."""
        return Pictures(self.images[rows], None if self.labels is None else self.labels[rows], self.class_names)


def convert(
    options: Any, schemes: list[str], classifier: "Classifier", pictures: Pictures, progress: Callable[..., None]
) -> int:
    """Does what the command's flags say.

    Args:
        options: The flags.
        schemes: Which files to write.
        classifier: The model.
        pictures: Images to learn ranges from and to judge the files with.
        progress: Called with a count, a total and what is counted.

    Returns:
        The exit status: 1 if a scheme was refused.

    Raises:
        InputError: If a scheme that was asked for by name, or every one, is refused.
    """
    names = class_names(classifier, pictures)
    out = Path(options.out)
    if run_folder.has_other_labels(out, names) and not options.overwrite:
        raise InputError(
            f"{out / run_folder.LABELS} has other class names. Choose another folder with --out DIR, or pass "
            "--overwrite."
        )
    judged, rest = _split(pictures, options.seed)
    learned = rest.part(_rows(len(rest.images), options.representative_images, options.seed))
    print(
        f"{len(pictures.images)} images of {' x '.join(map(str, classifier.image_shape))}; "
        f"{len(learned.images)} set the ranges of integer files, {len(judged.images)} others judge the files.",
        flush=True,
    )
    if len(pictures.images) < 100:
        print("More images, 100 or more, would set better ranges and judge more certainly.", flush=True)
    pixels = of_two_classes(of_pixels(classifier))
    contents, refusals = _contents(options, schemes, classifier, pixels, rest, learned)
    expected = classifier.probabilities(judged.images)
    out.mkdir(parents=True, exist_ok=True)
    name = Path(os.path.expanduser(options.model)).resolve().stem
    cards = {}
    print("Running the files on the images that judge...", flush=True)
    for scheme, content in contents.items():
        metadata = _metadata(name, scheme, options, classifier, names)
        contents[scheme] = quantization.add_metadata(content, metadata)
        cards[scheme] = _card(options, scheme, contents[scheme], classifier, judged, expected, names, progress)
    with backend.native_noise_held():
        milliseconds = quantization.latencies(contents, judged.images[0], rounds=5, calls=10)
    for scheme, card in cards.items():
        card["milliseconds"] = milliseconds[scheme]
    for scheme, content in contents.items():
        _write(out / f"{scheme}.tflite", content)
        run_folder.write_json(out / f"{scheme}.json", cards[scheme])
    run_folder.write_labels(out, names)
    print(tables.text_table(*_table(cards)))
    if options.export:
        integer = contents.get("qat", contents.get("int8"))
        metadata = _metadata(name, "float32", options, classifier, names)
        made = [
            exports.export(kind, out, pixels, judged.images, metadata, integer)
            for kind in exports.ordered(options.export)
        ]
        run_folder.write_json(out / f"{run_folder.EXPORTS}.json", [one.to_dict() for one in made])
        print(tables.text_table(*exports.exports_table(made)))
        refusals |= {one.format: one.refusal for one in made if one.refusal is not None}
    if "qat" in cards and "int8" in cards:
        before, after = (cards[scheme]["same_class"]["value"] for scheme in ("int8", "qat"))
        print(f"Fine-tuning: {before:.1%} of the images get the model's class by int8, {after:.1%} by qat.")
    for scheme, reason in refusals.items():
        print(f"No {scheme} file: {reason}")
    best = "qat" if "qat" in cards else "int8" if "int8" in cards else next(iter(cards), None)
    if best is not None:
        print(f"Next: keras-vision predict {out / best}.tflite {options.images}")
    return 1 if refusals else 0


def _metadata(name, scheme, options, classifier, names):
    return quantization.Metadata(
        f"{name}, {scheme}",
        f"{name}, {scheme}, {len(names)} classes, converted from a Keras model"
        f"{pixel_values.scaling(classifier.intensity_range)}.",
        __version__,
        options.licence,
        names,
    )


# Images.


def read_pictures(
    classifier: "Classifier", path: Path, files: Sequence[Path], progress: Callable[..., None]
) -> Pictures:
    """The images of a folder or an .npz file, at a model's size.

    A folder with a folder for each class gives labels, if its names are the model's classes, or as many.

    Args:
        path: The folder or file.
        files: The folder's image files; empty for an .npz file.
        progress: Called with a count, a total and what is counted.

    Raises:
        InputError: If there are too few, or they are of another shape.
    """
    found = _from_folder(classifier, path, files, progress) if files else _from_npz(path)
    if found.labels is not None and not _fit(found.labels, classifier):
        print(f"{path}: its labels are not used, since they are not those of the model.", flush=True)
        found = Pictures(found.images, None, None)
    if found.images.shape[1:] != classifier.image_shape:
        raise InputError(
            f"{path} has images of shape {found.images.shape[1:]}, but the model takes {classifier.image_shape}."
        )
    if len(found.images) < FEWEST:
        raise InputError(f"{path} has {len(found.images)} images that can be read; at least {FEWEST} are needed.")
    return found


def _fit(labels, classifier):
    """Whether labels can be those of a model: one of its classes an image, or a 0 or 1 for each."""
    count = len(classifier.class_names)
    if classifier.thresholds is not None:
        return labels.ndim == 2 and labels.shape[1] == count
    return labels.ndim == 1 and labels.max(initial=0) < count


def _from_npz(path):
    splits = npz.read(path)
    parts = [splits.train, splits.val, splits.test]
    images = np.concatenate([np.asarray(part.images) for part in parts])
    return Pictures(images, np.concatenate([part.labels for part in parts]), splits.class_names)


def _from_folder(classifier, path, files, progress):
    if len(files) > FOLDER_LIMIT:
        print(f"{path} has {len(files)} images; {FOLDER_LIMIT} of them are used, evenly spaced.", flush=True)
        files = [files[row] for row in np.linspace(0, len(files) - 1, FOLDER_LIMIT).astype(int)]
    folders = sorted({file.relative_to(path).parts[0] for file in files if len(file.relative_to(path).parts) == 2})
    classes = _classes(classifier, files, path, folders)
    images, labels, unread = [], [], []
    for count, file in enumerate(files, 1):
        image = classifier.read(file)
        if image is None:
            unread.append(file)
            continue
        images.append(image)
        if classes is not None:
            labels.append(classes.index(file.parent.name))
        progress(count, len(files), "images read")
    for file in unread:
        print(f"{file} was skipped: {image_files.why_unread(file, classifier.intensity_range)}.", flush=True)
    stacked = np.stack(images) if images else np.zeros((0, *classifier.image_shape), np.uint8)
    return Pictures(stacked, np.array(labels) if classes is not None else None, classes)


def _classes(classifier, files, path, folders):
    """The classes that a folder's folders stand for; None where they stand for none."""
    if len(folders) < 2 or any(len(file.relative_to(path).parts) != 2 for file in files):
        return None
    known = classifier.class_names
    if classifier.has_names:
        if set(folders) <= set(known):
            return known
        print(f"{path} has folders that are no class of the model ({', '.join(folders[:5])}): no labels.", flush=True)
        return None
    return tuple(folders) if len(folders) == len(known) else None


def class_names(classifier: "Classifier", pictures: Pictures) -> tuple[str, ...]:
    """Names of the classes: those of the model, else those of the images' folders."""
    if classifier.has_names or pictures.class_names is None:
        return classifier.class_names
    if len(pictures.class_names) != len(classifier.class_names):
        return classifier.class_names
    named = ", ".join(pictures.class_names[:MOST_NAMED]) + (", ..." if len(pictures.class_names) > MOST_NAMED else "")
    print(
        f"The classes are named after the images' folders, in this order: {named}. If the model's outputs are in "
        "another order, pass --labels FILE.",
        flush=True,
    )
    return pictures.class_names


def _split(pictures, seed):
    """The images that judge the files, and the others."""
    rows = np.random.Generator(np.random.Philox(seed)).permutation(len(pictures.images))
    count = min(MOST_JUDGED, len(rows) // 3)
    return pictures.part(np.sort(rows[:count])), pictures.part(np.sort(rows[count:]))


def _rows(total, count, seed):
    rows = np.random.Generator(np.random.Philox(seed + 1)).permutation(total)
    return np.sort(rows[:count])


# The model.


def of_pixels(classifier: "Classifier") -> keras.Model:
    """A classifier's model as one that takes pixels from 0 to 255, as its files shall."""
    model = classifier.model
    low, high = (np.asarray(end, np.float64) for end in classifier.input_range)
    if np.all(low == 0) and np.all(high == 255):
        return model
    images = keras.Input(classifier.image_shape, name="images")
    scale, offset = (part.tolist() for part in ((high - low) / 255, low))
    return keras.Model(images, model(keras.layers.Rescaling(scale, offset, name="scaled")(images)), name=model.name)


def of_two_classes(model: keras.Model) -> keras.Model:
    """A model of one sigmoid or logit as one of two logits, since phones' libraries want a score for each class.

    The first class's logit is 0. A model that cannot be opened keeps its one output.
    """
    if model.output_shape[-1] > 1:
        return model
    try:
        logits, _ = _logits(model)
    except InputError:
        return model
    both = keras.layers.Dense(2, use_bias=False, trainable=False, name="both_classes")
    made = keras.Model(logits.input, both(logits.output), name=model.name)
    both.set_weights([np.array([[0.0, 1.0]])])
    return made


def _logits(model):
    """A model up to its logits, by plain layers, and whether its scores are several sigmoids."""
    plain = plain_model(model)
    several = ends_in_sigmoids(read_graph(plain), plain.output_shape[-1])
    return plain if several else quantization.up_to_logits(plain), several


def _contents(options, schemes, classifier, model, rest, learned):
    """The bytes of each file, and why there is none of a scheme."""
    contents, refusals = {}, {}
    for scheme in schemes:
        print(f"Converting to {scheme}...", flush=True)
        try:
            with backend.native_noise_held():
                contents[scheme] = _content(options, scheme, classifier, model, rest, learned)
        except InputError as error:
            # Without TensorFlow there can still be integer files.
            must = scheme not in quantization.INTEGER_SCHEMES and tflite.is_installed()
            if must or scheme in (options.schemes or ()):
                raise
            refusals[scheme] = str(error)
    if not contents:
        raise InputError(" ".join(dict.fromkeys(refusals.values())))
    return contents, refusals


def _content(options, scheme, classifier, model, rest, learned):
    if scheme == "qat":
        return _fine_tuned(options, classifier, model, rest, learned)
    return quantization.convert(model, scheme, learned.images, options.io)


def _fine_tuned(options, classifier, model, rest, learned):
    """The bytes of a file whose network learned, with rounding, to answer as the float model does."""
    whole, several = _logits(model)
    tuned = quantization.with_fake_quantization(whole, dropout=False)
    quantization.set_ranges(tuned, whole, learned.images)
    teacher, pupil = (quantization.up_to_logits(one) if several else one for one in (whole, tuned))
    training_part, val_part = np.array_split(np.arange(len(rest.images)), [round(0.9 * len(rest.images))])
    # Labels only serve the metrics that the training prints: how often it answers as the float model does.
    answers = classifier.answers(classifier.probabilities(rest.images))
    splits = [data.Split(rest.images[rows], answers[rows]) for rows in (training_part, val_part)]
    train, val = (
        data.Batches(split, teacher.output_shape[-1], 32, shuffle=first, seed=options.seed)
        for split, first in zip(splits, (True, False), strict=True)
    )
    student = training.student_of(teacher, pupil, several_labels=several)
    quantization.freeze(tuned)
    spec = TrainingSpec(
        epochs=options.epochs, batch_size=32, learning_rate=FINE_TUNING_RATE, schedule="cosine", patience=0
    )
    training.fit(student, train, val, spec)
    return quantization.convert(tuned, "qat", learned.images, options.io)


# What was measured.


def _card(options, scheme, content, classifier, judged, expected, names, progress):
    """What is next to a file: what it is, what it was made from, how it agrees with the model."""
    scaled = pixel_values.scaling(classifier.intensity_range)
    audit = quantization.audit(content)
    with backend.native_noise_held():
        runner = quantization.Runner(content)
        found = []
        for count, image in enumerate(judged.images, 1):
            found.append(runner.probabilities(image[np.newaxis])[0])
            progress(count, len(judged.images), f"images with {scheme}")
    found = np.array(found)
    equal: Any = classifier.answers(expected) == classifier.answers(found)
    same = equal.reshape(len(found), -1).all(axis=1)
    interval = binomtest(int(same.sum()), len(same)).proportion_ci(method="wilson")
    card = {
        "name": f"{Path(options.model).stem}-{scheme}",
        "scheme": scheme,
        "file": f"{scheme}.tflite",
        "kind": audit.kind,
        "input": audit.input,
        "output": audit.output,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "pixels": "0 to 255, not normalized; RGB where there are three channels" + scaled,
        "data": {"resize": classifier.resize, "intensity_range": classifier.intensity_range},
        "labels": list(names),
        "images": len(judged.images),
        "same_class": evaluation.Interval(float(same.mean()), float(interval.low), float(interval.high)).to_dict(),
        "largest_difference": float(np.abs(expected - found).max()),
        "mean_difference": float(np.abs(expected - found).mean()),
        "environment": record.environment(),
    }
    if classifier.thresholds is not None:
        card["thresholds"] = dict(zip(names, classifier.thresholds.tolist(), strict=True))
    if judged.labels is not None:
        if classifier.thresholds is None:
            compared = evaluation.agreement(judged.labels, expected, found)
            float_judgement = evaluation.judge(judged.labels, expected)
        else:  # Correct is an image with every label right.
            compared = evaluation.labels_agreement(judged.labels, expected, found, classifier.thresholds)
            float_judgement = evaluation.judge_labels(judged.labels, expected, classifier.thresholds)
        card["accuracy"] = compared.judgement.metrics[float_judgement.main].to_dict()
        card["float_accuracy"] = float_judgement.metrics[float_judgement.main].to_dict()
        card["accuracy_drop_points"], card["mcnemar_p"] = compared.accuracy_drop, compared.mcnemar_p
    return card


def _table(cards):
    head = ["file", "kind", "same class as the model", "largest difference", "bytes", "ms"]
    rows = []
    for card in cards.values():
        same = tables.from_json(card["same_class"])
        row = [card["file"], card["kind"], f"{same.value:.1%} ({same.low:.1%} to {same.high:.1%})"]
        row += [f"{card['largest_difference']:.3f}", f"{card['bytes']:,}", f"{card['milliseconds']:.2f}"]
        if "accuracy" in card:
            row.append(tables.shown(tables.from_json(card["accuracy"])))
        rows.append(row)
    first = next(iter(cards.values()), {})
    if "accuracy" in first:
        head.append(f"accuracy (the model's: {tables.shown(tables.from_json(first['float_accuracy']))})")
    return head, rows


def _write(path, content):
    """Writes a file under a temporary name first."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"Cannot write {path}: {error.strerror}.") from error
