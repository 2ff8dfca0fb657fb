"""How a recipe runs: through the stages, in order. The page of prose to read first."""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision import backend, data, evaluation, models, training
from keras_vision.data import split_file
from keras_vision.files import export_packages
from keras_vision.keras_internals import names
from keras_vision.pipeline import (
    averaging,
    exports,
    features,
    heatmaps,
    members,
    predictions,
    record,
    symmetries,
    tflite_files,
    trackers,
    unfinished,
    unsure,
)
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline.card import write_card
from keras_vision.pipeline.labels_report import LabelsReport
from keras_vision.pipeline.progress import SECONDS, Progress, is_exact
from keras_vision.pipeline.report import Report
from keras_vision.pipeline.report_page import write_report
from keras_vision.pipeline.tables import count_range, counted, duration, padded
from keras_vision.recipe import InputError, Recipe, override, unread
from keras_vision.training import torch_state

# Training images on which the finished model is evaluated: enough for its accuracy to within a point.
TRAIN_EVALUATED = 5000
MOST_ANNOUNCED = 40  # Classes that the terminal lists one by one.


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: The run's folder.
        model: The trained model, with its best weights.
        history: The metrics of each epoch.
        report: The metrics of the finished model.
    """

    folder: Path
    model: keras.Model
    history: training.History
    report: Report


def run(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    overwrite: bool = False,
    restart: bool = False,
    checkpoint_seconds: float = SECONDS,
    made: Callable[[data.Splits], keras.Model] | None = None,
    member_names: tuple[str, ...] = (),
) -> RunResult:
    """Runs a recipe and leaves its folder.

    A run that was interrupted, however that happened, goes on when it is started again with the same arguments: its
    state is in the folder `OUT.partial`.

    Args:
        recipe: A `Recipe`.
        out: Folder of the run; it appears when the run is finished.
        overwrite: Whether a finished run in `out` may be replaced.
        restart: Whether to delete the state of an interrupted run and begin anew.
        checkpoint_seconds: Least time between two checkpoints, which are written at the end of epochs.
        made: Function from the data to a finished network, which is judged instead of training one.
        member_names: Names of the runs that it is made of, for the report.

    Returns:
        A `RunResult`.

    Raises:
        InputError: If the folder is taken, the data cannot be used, or the interrupted run had another recipe, data,
            backend or versions.
        Interrupted: After Ctrl-C or SIGTERM, a `KeyboardInterrupt`; the training is saved up to its last step.
    """
    names.require()
    export_packages.require(recipe.quantization.export or (), keras.backend.backend())
    torch_state.flush_denormals()  # Before the first computation.
    started = time.perf_counter()
    with (
        unfinished.create(out, record.identity(recipe), overwrite=overwrite, restart=restart) as folder,
        Progress(folder, checkpoint_seconds) as progress,
        trackers.tracking(recipe, out, folder, record.environment()) as tracker,
    ):
        seed_everything(recipe.seed)
        splits = data.load_splits(recipe.data, recipe.seed)
        unfinished.require_same(folder, "data", record.data_identity(splits))
        _require_same_everywhere(recipe, splits)
        announce(splits)
        recipe = _without_lost_class(recipe, splits)
        # Refused now, not after the training.
        splits.positive_label(recipe.evaluation.positive_class)
        if recipe.evaluation.tta != "none":
            symmetries.chosen(recipe.evaluation.tta, recipe.augmentation, splits.image_shape)
        augmented = ", augmented" if recipe.augment else ""
        train, val, judged = _batches(recipe, splits)
        if made is None:
            epochs = counted(recipe.training.epochs, "epoch")
            print(f"Recipe {recipe.name}{augmented} on {keras.backend.backend()}, at most {epochs}.", flush=True)
        model = network(recipe, splits) if made is None else made(splits)
        learner = model if made is not None else _learner(recipe, splits, model)
        heatmaps.check(recipe, model)
        if splits.several_labels and recipe.quantization.tflite_logits:
            raise InputError("--tflite-logits is for one class an image; here a file needs a score for each label.")
        divided = training.devices.current()
        if divided.count > 1:
            print(f"Divided among {divided}.", flush=True)
        history = training.History((), 0, 0.0)
        if made is None:
            history = _learn(recipe, splits, learner, train, val, folder, progress, tracker)
        training.devices.end()
        profile = None
        if recipe.training.profile:
            profile = progress.once("profile", training.Profile, lambda: _profile(recipe, learner, train, val))
        model = _in_float32(_finished(model, learner))
        temperature = _calibrate(recipe, splits, model, val)
        if splits.several_labels:
            model = models.with_scores(model)
        report = dataclasses.replace(_report(recipe, splits, model, history, val, judged, temperature), profile=profile)
        report = dataclasses.replace(report, members=member_names)
        if divided.count > 1:
            report = dataclasses.replace(report, environment={**report.environment, "devices": str(divided)})
        if recipe.evaluation.tta != "none":
            report = dataclasses.replace(report, averaged=_averaged(recipe, splits, model, judged, report))
        # Before the heatmaps and files, which can take minutes: a training that is interrupted there is not lost.
        _write_training(folder, recipe, model, splits, history, report)
        shown = progress.once("heatmaps", heatmaps.Heatmaps, lambda: heatmaps.explain(recipe, model, report, progress))
        report = dataclasses.replace(
            report, heatmaps=shown.caption, heatmap_plots=shown.plots, faithfulness=shown.faithfulness
        )
        if recipe.quantization.tflite or recipe.quantization.qat:
            files = tflite_files.write_files(folder, recipe, splits, model, train, val, judged, report, progress)
            report = dataclasses.replace(report, files=files)
        if recipe.quantization.export:
            metadata = tflite_files.metadata(recipe, "float32", splits)
            exported = exports.write_exports(folder, recipe, splits, model, judged, metadata, progress)
            report = dataclasses.replace(report, exports=exported)
        report = dataclasses.replace(
            report, interruptions=progress.interruptions, checkpoints=progress.cost(), exact=is_exact(model)
        )
        write_card(report, folder)
        write_report(report, folder)
        tracker.finish(folder, report.to_dict())
        linked = predictions.link_mistakes(folder, report) if recipe.evaluation.link_mistakes else None
    print(report.summary())
    if linked:
        print(linked)
    total = duration(time.perf_counter() - started + progress.earlier_seconds)
    trained = f", {duration(history.seconds)} of it training; weights of epoch {history.best_epoch}"
    print(total + (trained if made is None else ""))
    print(f"Report: {Path(out) / run_folder.PAGE}")
    return RunResult(Path(out), model, history, report)


def take_part(recipe: Recipe) -> None:
    """Takes part in the training of a `run` whose process 0 is another; leaves nothing.

    Args:
        recipe: The same recipe.

    Raises:
        InputError: If process 0 has another recipe, data or version.
        Interrupted: If any of the processes was told to stop, or has ended.
    """
    names.require()
    devices = training.devices.current()
    print(f"Process {devices.process}: trains with {devices}; process 0 writes the run.", flush=True)
    seed_everything(recipe.seed)
    splits = data.load_splits(recipe.data, recipe.seed)
    _require_same_everywhere(recipe, splits)
    recipe = _without_lost_class(recipe, splits)
    train, val, _ = _batches(recipe, splits)
    _learn(recipe, splits, _learner(recipe, splits, network(recipe, splits)), train, val, None, None)
    print(f"Process {devices.process}: the training is finished.", flush=True)


def _require_same_everywhere(recipe, splits):
    if training.devices.current().processes == 1:
        return
    same = {"recipe": record.identity(recipe), "data": record.data_identity(splits)}
    # Each host has its own paths, which do not matter.
    same["recipe"]["recipe"]["data"].pop("data")
    for name, part in (("the recipe or a version", same["recipe"]), ("the data", same["data"])):
        training.devices.require_same(name, hashlib.sha256(json.dumps(part, sort_keys=True).encode()).digest())


def _learn(recipe, splits, model, train, val, folder, progress, tracker=None):
    """The training: the head first, or alone, on features that are computed once, where the recipe says so."""
    spec = recipe.training
    log_dir = None if folder is None else folder / run_folder.TENSORBOARD
    learner = model
    if spec.teachers is not None:
        if features.are_enough(recipe):
            raise InputError("--teachers is for networks that learn more than their head. Received: --unfreeze none.")
        teacher = members.network(spec.teachers, recipe, splits)
        learner = training.student_of(teacher, model, share=spec.teacher_share)
    if features.are_enough(recipe):
        rate = spec.learning_rate
        history = features.fit_head(recipe, splits, model, progress, epochs=spec.epochs, rate=rate, log_dir=log_dir)
        if spec.profile:  # Of a training as it would be without that.
            labels = splits.train.labels if splits.several_labels else None
            training.compile_model(model, spec, steps_per_epoch=len(train), labels=labels)
        if tracker is not None:
            tracker.epochs(history.epochs)
        return history
    first = None
    if spec.head_epochs:
        epochs, rate = spec.head_epochs, spec.head_learning_rate
        head = override(
            recipe,
            schedule="cosine",
            warmup_epochs=0.0,
            optimizer="adam",
            patience=0,
            logit_adjustment=0.0,
            ema_momentum=0.0,
        )
        head = override(head, tensorboard=False)  # Its epochs would be those of the others.
        first = features.fit_head(head, splits, model, progress, epochs=epochs, rate=rate)
    checkpoints = progress and progress.checkpoints("training")
    before = () if first is None else first.epochs
    callbacks = [] if tracker is None else tracker.callbacks(len(before))
    if tracker is not None:
        tracker.epochs(before)
    history = training.fit(learner, train, val, spec, log_dir=log_dir, checkpoints=checkpoints, callbacks=callbacks)
    return history if first is None else history.after(first)


def _learner(recipe, splits, model):
    """The network that is trained: the model, or one with its weights that resizes images by `train_scale`.

    Random windows show objects larger than whole images do, so a network that sees whole images at a larger size than
    it was trained at is better than one of the same size: Touvron et al. 2019, https://arxiv.org/abs/1906.06423.
    """
    if recipe.training.train_scale == 1 or "train_scale" in unread(recipe):
        return model
    side = recipe.model.input_size or splits.image_shape[0]
    if not recipe.model.input_size and len(set(splits.image_shape[:-1])) > 1:
        shape = " x ".join(map(str, splits.image_shape[:-1]))
        raise InputError(f"--train-scale needs square images, or --input-size. Received: {shape}.")
    with contextlib.redirect_stdout(None):  # The model has said where its weights come from.
        learner = network(override(recipe, input_size=recipe.training.trained_at(side)), splits)
    learner.set_weights(model.get_weights())
    return learner


def _finished(model, learner):
    """The model with what the learner has learned."""
    if learner is not model:
        model.set_weights(learner.get_weights())
    return model


def _calibrate(recipe, splits, model, val):
    """The temperature that suits the validation split, by which the model's logits are then divided, in place.

    None where the recipe wants none, or where each label has a threshold of its own.
    """
    if not recipe.training.calibrate:
        return None
    if splits.several_labels:
        print("Scores are as trained: --calibrate is for one class an image; here each label has its threshold.")
        return None
    temperature = evaluation.fit_temperature(val.split.labels, _outputs(model, val).astype(np.float64))
    models.divide_logits(model, temperature)
    return temperature


def train(recipe: Recipe, splits: data.Splits) -> tuple[keras.Model, training.History]:
    """Only the training of a recipe, on splits in memory: no folder, no evaluation.

    Returns:
        The model, with the weights that `run` would keep, and its history.
    """
    torch_state.flush_denormals()
    seed_everything(recipe.seed)
    train, val, _ = _batches(recipe, splits)
    model = network(recipe, splits)
    learner = _learner(recipe, splits, model)
    history = _learn(recipe, splits, learner, train, val, None, None)
    model = _finished(model, learner)
    _calibrate(recipe, splits, model, val)
    return model, history


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and the backend."""
    with backend.native_noise_held():  # Keras seeds TensorFlow too, where it is installed, and imports it for that.
        keras.utils.set_random_seed(seed)


def _without_lost_class(recipe, splits):
    """The recipe without a class to detect that drawn images, which replace a data set in a trial, do not have."""
    name = recipe.evaluation.positive_class
    if not recipe.data.trial or name in splits.class_names or splits.source.files:
        return recipe
    return override(recipe, positive_class=None)


def network(recipe: Recipe, splits: data.Splits) -> keras.Model:
    """The network of a recipe before training, computing in its precision."""
    spec = recipe.model
    if spec.init_from is not None:
        spec = dataclasses.replace(spec, init_from=str(run_folder.model_file(spec.init_from)))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.training.precision)
    try:
        return models.build(spec, splits.image_shape, splits.num_classes, splits.train.images)
    finally:
        keras.config.set_dtype_policy(before)


def _in_float32(trained):
    """The same network with the same weights, computing in float32, for everything after the training."""
    if all(layer.compute_dtype == "float32" for layer in trained.layers):
        return trained

    def in_float32(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    model: Any = keras.models.clone_model(trained, clone_function=in_float32)
    model.set_weights(trained.get_weights())
    return model


def announce(splits: data.Splits) -> None:
    """Prints which data it is, and how many images each class has."""
    print(f"Data: {splits.source.name}. {splits.source.description}. Images of shape {splits.image_shape}.")
    if splits.several_labels:
        print("Images can have several labels, or none: each is a yes or no of its own.")
    if splits.num_classes > MOST_ANNOUNCED:
        ranges = [f"{name} {count_range(counts)}" for name, counts in splits.counts().items()]
        print(f"{splits.num_classes:,} classes. Images of a class: {'; '.join(ranges)}.")
    else:
        print(f"{'class':<50}" + "".join(f"{name:>8}" for name in splits.named()))
        for label, name in enumerate(splits.class_names):
            print(padded(name[:49], 50) + "".join(f"{counts[label]:>8}" for counts in splits.counts().values()))
    if splits.report is not None:
        print(splits.report.summary())


def train_batches(recipe: Recipe, splits: data.Splits) -> data.Batches:
    """The training split's batches, augmented if the recipe says so."""
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
    size = features.predict_batch(splits.image_shape)
    val = data.Batches(splits.val, splits.num_classes, size)
    judged = data.Batches(splits.named()[recipe.evaluation.judge_on], splits.num_classes, size)
    return train, val, judged


def _profile(recipe, model, train, val):
    """Where an epoch's time goes."""
    return training.profile(model, train, val=val, native=recipe.training.native_operations)


def _report(recipe, splits, model, history, val, judged, temperature):
    spec = recipe.evaluation
    thresholds, calibration = None, None
    groups = splits.report.groups.get(spec.judge_on) if splits.report else None
    if splits.several_labels:
        thresholds = evaluation.choose_thresholds(val.split.labels, _probabilities(model, val))
    found = judge(recipe, splits, model, judged, spec.judge_on, thresholds)
    probabilities, judgement = found
    val_probabilities, validation = (
        found if spec.judge_on == "val" else judge(recipe, splits, model, val, "val", thresholds)
    )
    point = None
    if splits.num_classes == 2 and thresholds is None:
        positive = splits.positive_label(spec.positive_class)
        point = evaluation.operating_point(
            judged.split.labels,
            probabilities,
            val.split.labels,
            val_probabilities,
            positive,
            groups=groups,
        )
    if temperature is not None:
        calibration = evaluation.judge_temperature(
            temperature,
            len(val.split),
            judged.split.labels,
            temperature * np.log(np.maximum(probabilities, np.finfo(float).tiny)),
            groups=groups,
            resamples=spec.bootstrap,
            seed=recipe.seed,
        )
    known = splits.train.spread(TRAIN_EVALUATED)
    return (Report if thresholds is None else LabelsReport)(
        track=f"{recipe.track}, recipe {recipe.name}" + (", augmented" if recipe.augment else ""),
        recipe=dataclasses.asdict(recipe),
        environment=record.environment(),
        data=record.data_record(splits),
        class_names=splits.class_names,
        epochs=history.epochs,
        best_epoch=history.best_epoch,
        train_seconds=history.seconds,
        true_statistics=training.reestimates_statistics(model, recipe.training),
        parameters=model.count_params(),
        split=spec.judge_on,
        judgement=judgement,
        validation=validation,
        training_correct=_correct(model, known, splits.num_classes, thresholds),
        training_images=len(known),
        labels=judged.split.labels,
        probabilities=probabilities,
        images=judged.split.images,
        num_mistakes=spec.misclassified,
        caution=recipe.model.caution,
        operating_point=point,
        temperature=calibration,
        selective=unsure.judged(recipe, splits, val_probabilities, probabilities),
        data_report=splits.report,
        fold=splits.fold,
    )


def _probabilities(model, batches):
    """Probabilities of a split's images; of several labels the network's own scores."""
    found = _outputs(model, batches)
    return found.astype(np.float64) if batches.split.labels.ndim == 2 else evaluation.softmax(found)


def _outputs(model, batches):
    with training.native_operations(model):
        return model.predict(batches, verbose=0)


def judge(
    recipe: Recipe, splits: data.Splits, model: keras.Model, batches: data.Batches, name: str, thresholds: Any
) -> tuple[np.ndarray, Any]:
    """Probabilities of a split's images, and the metrics that they give.

    Args:
        batches: The split's images, in order.
        name: The split's name.
        thresholds: Of each label, where images can have several; else None.
    """
    probabilities = _probabilities(model, batches)
    return probabilities, _judgement(recipe, splits, batches.split.labels, probabilities, name, thresholds)


def judge_averaged(
    recipe: Recipe, splits: data.Splits, model: keras.Model, batches: data.Batches, name: str, thresholds: Any
) -> Any:
    """The metrics of probabilities averaged over the versions of an image that the recipe's `tta` names; see `judge`.

    Args:
        thresholds: Those of the plain probabilities.
    """
    every = symmetries.chosen(recipe.evaluation.tta, recipe.augmentation, splits.image_shape)
    found, _, _ = averaging.probabilities(lambda part: _probabilities(model, part), batches, splits.num_classes, every)
    return _judgement(recipe, splits, batches.split.labels, found, name, thresholds)


def _averaged(recipe, splits, model, judged, report):
    """The same for a report, beside the plain predictions, with the cost."""
    spec = recipe.evaluation
    every = symmetries.chosen(spec.tta, recipe.augmentation, splits.image_shape)
    kinds = symmetries.words(every)
    print(f"Averaging over {kinds}.", flush=True)
    found, *cost = averaging.probabilities(lambda part: _probabilities(model, part), judged, splits.num_classes, every)
    compared = report.agreement(found, resamples=spec.bootstrap, seed=recipe.seed)
    return averaging.Averaged(spec.tta, len(every), kinds, compared, *cost)


def _judgement(recipe, splits, labels, probabilities, name, thresholds):
    how = {
        "groups": splits.report.groups.get(name) if splits.report else None,
        "resamples": recipe.evaluation.bootstrap,
        "seed": recipe.seed,
    }
    if thresholds is None:
        return evaluation.judge(labels, probabilities, ordered=splits.ordered, **how)
    return evaluation.judge_labels(labels, probabilities, thresholds, **how)


def _correct(model, split, num_classes, thresholds):
    """How many images the finished model classifies correctly, without augmentation and dropout."""
    probabilities = _probabilities(
        model, data.Batches(split, num_classes, features.predict_batch(split.images.shape[1:]))
    )
    if thresholds is not None:
        return int(np.sum(((probabilities >= thresholds) == split.labels).all(axis=1)))
    return int(np.sum(probabilities.argmax(axis=1) == split.labels))


def _write_training(folder, recipe, model, splits, history, report):
    record.write_circumstances(folder, recipe, report.environment, report.data)
    if report.data_report is not None:
        run_folder.write_json(folder / run_folder.DATA_REPORT, report.data_report.to_dict())
    run_folder.write_labels(folder, splits.class_names)
    if isinstance(report, LabelsReport):
        run_folder.write_json(folder / run_folder.THRESHOLDS, report.thresholds)
    if report.selective is not None:
        run_folder.write_json(folder / run_folder.UNSURE, report.selective.to_dict())
    (folder / run_folder.HISTORY).write_text(history.to_csv(), "utf-8")
    with (folder / run_folder.PREDICTIONS).open("w", encoding="utf-8", newline="") as file:
        predictions.write(report, file)
    if listed := split_file.text_of(splits):
        (folder / run_folder.SPLITS).write_text(listed, "utf-8")
    # A new model of the same layers leaves out the optimizer, which is twice the weights' size.
    unfinished = folder / f"unfinished-{run_folder.MODEL}"
    keras.Model(model.input, model.output, name=model.name).save(unfinished)
    unfinished.rename(folder / run_folder.MODEL)
