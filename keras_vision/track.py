"""How a track runs: one recipe through the stages, in order. The only module that knows them all."""

import csv
import dataclasses
import hashlib
import io
import json
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras

from keras_vision import cli, data, evaluation, models, phone, reasons, run_folder, training

PREDICT_BATCH = 256
# Training images that the finished model is asked about: enough for its accuracy to within a point.
TRAIN_JUDGED = 5000


@dataclass(frozen=True)
class TrackResult:
    """A finished run.

    Attributes:
        folder: Where its files lie.
        model: The trained model, with its best weights.
        history: What happened, epoch by epoch.
        report: Its figures.
    """

    folder: Path
    model: keras.Model
    history: training.History
    report: evaluation.Report


def run(recipe, out_dir, *, track="run", overwrite=False):
    """Runs a recipe and leaves its folder.

    Args:
        recipe: A `recipe.Recipe`.
        out_dir: Folder of the run; it appears when the run is finished.
        track: Name of the track, for the report's title.
        overwrite: Whether a finished run in `out_dir` may be replaced.

    Returns:
        A `TrackResult`.

    Raises:
        InputError: If the folder is taken, or the data cannot be used.
    """
    with run_folder.create(out_dir, overwrite=overwrite) as folder:
        with cli.native_noise_held():  # Keras seeds TensorFlow too, where it is installed, and imports it for that.
            keras.utils.set_random_seed(recipe.seed)
        splits = data.load_splits(recipe.data, recipe.seed)
        announce(splits)
        splits.positive_label(recipe.evaluation.positive_class)  # Refused now, not after the training.
        print(
            f"Recipe {recipe.name} on {keras.backend.backend()}, at most {recipe.training.epochs} epochs.", flush=True
        )
        train, val, judged = _batches(recipe, splits)
        model = network(recipe, splits)
        reasons.check(recipe, model)
        history = training.fit(model, train, val, recipe.training, log_dir=folder / "tensorboard")
        model = _in_float32(model)
        report = _report(recipe, track, splits, model, history, val, judged)
        # Before the heatmaps and files, which can take minutes: a training that was interrupted there is not lost.
        _write_training(folder, recipe, model, splits, history, report)
        report = reasons.explain(recipe, model, report)
        if recipe.quantization.tflite or recipe.quantization.qat:
            name = f"{track}-{recipe.name}"
            files = phone.write_files(folder, recipe, name, splits, model, train, val, judged, report)
            report = dataclasses.replace(report, files=tuple(files))
        report.write(folder)
    print(report.summary())
    print(f"{history.seconds / 60:.1f} minutes of training; weights of epoch {history.best_epoch}")
    print(f"Report: {Path(out_dir) / 'report.html'}")
    return TrackResult(Path(out_dir), model, history, report)


def network(recipe, splits):
    """The network of a recipe before training, computing in its precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.training.precision)
    try:
        return models.build(recipe.model, splits.image_shape, splits.num_classes, splits.train.images)
    finally:
        keras.config.set_dtype_policy(before)


def _in_float32(trained):
    """The same network with the same weights, computing in float32, for all that comes after the training."""
    if all(layer.compute_dtype == "float32" for layer in trained.layers):
        return trained

    def in_float32(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    model = keras.models.clone_model(trained, clone_function=in_float32)
    model.set_weights(trained.get_weights())
    return model


def announce(splits):
    """Says which data it is, and how many images of each class."""
    print(f"Data: {splits.source.name}. {splits.source.description}. Images of shape {splits.image_shape}.")
    print(f"{'class':<50}" + "".join(f"{name:>8}" for name in splits.named()))
    for label, name in enumerate(splits.class_names):
        print(f"{name[:49]:<50}" + "".join(f"{counts[label]:>8}" for counts in splits.counts().values()))
    if splits.report is not None:
        print(splits.report.summary())


def train_batches(recipe, splits):
    """The training split's batches, augmented where the recipe says so."""
    return data.Batches(
        splits.train,
        splits.num_classes,
        recipe.training.batch_size,
        augmentation=recipe.augmentation if recipe.augment else None,
        shuffle=True,
        seed=recipe.seed,
    )


def _batches(recipe, splits):
    train = train_batches(recipe, splits)
    val = data.Batches(splits.val, splits.num_classes, PREDICT_BATCH)
    judged = data.Batches(splits.named()[recipe.evaluation.judge_on], splits.num_classes, PREDICT_BATCH)
    return train, val, judged


def _report(recipe, track, splits, model, history, val, judged):
    spec = recipe.evaluation
    probabilities, judgement = _judge(recipe, model, judged)
    val_probabilities, validation = (probabilities, judgement) if spec.judge_on == "val" else _judge(recipe, model, val)
    point = None
    if splits.num_classes == 2:
        positive = splits.positive_label(spec.positive_class)
        point = evaluation.operating_point(
            judged.split.labels, probabilities, val.split.labels, val_probabilities, positive
        )
    return evaluation.Report(
        title=f"{track}, recipe {recipe.name}" + (", augmented" if recipe.augment else ""),
        recipe=dataclasses.asdict(recipe),
        environment=environment(),
        data=data_record(splits),
        class_names=splits.class_names,
        epochs=history.epochs,
        best_epoch=history.best_epoch,
        train_seconds=history.seconds,
        parameters=model.count_params(),
        split=spec.judge_on,
        judgement=judgement,
        validation=validation,
        training_accuracy=_training_accuracy(model, splits),
        labels=judged.split.labels,
        probabilities=probabilities,
        images=judged.split.images,
        num_mistakes=spec.misclassified,
        caution=recipe.model.caution,
        operating_point=point,
        data_report=None if splits.report is None else splits.report.to_dict(),
        leak_pairs=None if splits.report is None else splits.report.pairs,
    )


def _judge(recipe, model, batches):
    """Probabilities of a split's images, and the figures that they give."""
    probabilities = evaluation.softmax(model.predict(batches, verbose=0))
    resamples, seed = recipe.evaluation.bootstrap, recipe.seed
    return probabilities, evaluation.judge(batches.split.labels, probabilities, resamples=resamples, seed=seed)


def _training_accuracy(model, splits):
    """On training images as they are: the history's is taken while weights change, under augmentation and dropout."""
    some = splits.train.spread(TRAIN_JUDGED)
    logits = model.predict(data.Batches(some, splits.num_classes, PREDICT_BATCH), verbose=0)
    return float((logits.argmax(axis=1) == some.labels).mean())


def data_record(splits):
    """Where the data comes from and how much there is of it, JSON-ready."""
    return {**dataclasses.asdict(splits.source), "counts": splits.counts()}


def environment():
    """Versions and the machine's kind, by name."""
    packages = ("keras-vision", "keras", "numpy", "scikit-learn", "opencv-python-headless", keras.backend.backend())
    return {
        "backend": keras.backend.backend(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in packages},
    }


def _version(package):
    try:
        return version(package)
    except ModuleNotFoundError:
        return "unknown"  # A checkout that was put on the path instead of being installed.


def write_circumstances(folder, recipe, environment, data):
    """Writes `recipe.json` and `environment.json`: what ran, with which versions, on which data."""
    (folder / "recipe.json").write_text(recipe.to_json(), "utf-8")
    (folder / "environment.json").write_text(json.dumps({**environment, "data": data}, indent=2) + "\n", "utf-8")


def _write_training(folder, recipe, model, splits, history, report):
    write_circumstances(folder, recipe, report.environment, report.data)
    if report.data_report is not None:
        text = json.dumps(report.data_report, indent=2, ensure_ascii=False)
        (folder / "data_report.json").write_text(text + "\n", "utf-8")
    (folder / "labels.txt").write_text("\n".join(splits.class_names) + "\n", "utf-8")
    (folder / "history.csv").write_text(history.to_csv(), "utf-8")
    (folder / "predictions.csv").write_text(_predictions(report), "utf-8")
    # A new model of the same layers leaves out the optimizer, which is twice the weights' size.
    keras.Model(model.input, model.output, name=model.name).save(folder / "unfinished.keras")
    (folder / "unfinished.keras").rename(folder / run_folder.MODEL)


def _predictions(report):
    """Each judged image by the hash of its pixels, with its label and probabilities, as CSV text.

    Two runs can be compared image by image although their files differ in order.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"p_{label}" for label in range(report.probabilities.shape[1])]
    writer.writerow(["image_sha256", "label", "predicted", *names])
    for image, label, row in zip(report.images, report.labels, report.probabilities, strict=True):
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        writer.writerow([digest, label, row.argmax(), *(f"{value:.6g}" for value in row)])
    return text.getvalue()
