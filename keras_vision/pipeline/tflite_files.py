"""The last stage of a run: .tflite files of its model, each audited, labelled and compared with the model."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_vision import __version__, backend, data, evaluation, explanation, quantization, training
from keras_vision.files import pixel_values
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import heatmaps, unsure
from keras_vision.pipeline.progress import Progress
from keras_vision.pipeline.tables import Table, shown, words
from keras_vision.quantization import tflite
from keras_vision.quantization.auditing import Audit
from keras_vision.recipe import InputError, Recipe, TrainingSpec

TRACED_IMAGES = 64  # For the errors tensor by tensor: a root mean square needs no more.
THREADS = (1, 2)


@dataclass(frozen=True)
class FileResult:
    """What is known of one .tflite file.

    Attributes:
        scheme: One of `quantization.SCHEMES`.
        audit: What the file itself says.
        agreement: How its predictions compare with the float model's.
        float_bytes: Size of the float32 file; None where there is none.
        milliseconds: Time for one image by number of threads.
        simulation: For integer files, whether it computes what its network with fake quantization does.
        heatmaps: How similar its heatmaps are to the float model's, by method.
        tensor_errors: For integer files, how far each tensor is from the float model's.
        selective: Where it is unsure; None where the recipe asks for no threshold.
    """

    scheme: str
    audit: Audit
    agreement: evaluation.Agreement
    float_bytes: int | None
    milliseconds: dict[int, float]
    simulation: quantization.SimulationAgreement | None = None
    heatmaps: dict[str, explanation.Similarity] = field(default_factory=dict)
    tensor_errors: tuple[quantization.TensorError, ...] = ()
    selective: evaluation.Selective | None = None

    @property
    def bytes_ratio(self) -> float | None:
        """Its size as a share of the float32 file's; None where there is none."""
        return None if self.float_bytes is None else self.audit.bytes / self.float_bytes

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """JSON-ready values; what is not known of this scheme is left out."""
        row = {
            "scheme": self.scheme,
            "file": run_folder.tflite_names(self.scheme)[0],
            "kind": self.audit.kind,
            "input": self.audit.input,
            "output": self.audit.output,
            "bytes": self.audit.bytes,
            "bytes_ratio": self.bytes_ratio,
            **self.agreement.to_dict(class_names),
            "milliseconds": {f"{threads} threads": value for threads, value in self.milliseconds.items()},
        }
        if self.simulation is not None:
            row["simulation"] = dataclasses.asdict(self.simulation)
        if self.heatmaps:
            row["heatmaps"] = {name: dataclasses.asdict(found) for name, found in self.heatmaps.items()}
        if self.tensor_errors:
            row["tensor_errors"] = [dataclasses.asdict(error) for error in self.tensor_errors]
        if self.selective is not None:
            row["unsure"] = self.selective.to_dict()
        return row


def write_files(
    folder: Path,
    recipe: Recipe,
    splits: data.Splits,
    model: Any,
    train: data.Batches,
    val: data.Batches,
    judged: data.Batches,
    report: Any,
    progress: Progress,
) -> tuple[FileResult, ...]:
    """Writes a .tflite file with a card for every scheme that the recipe asks for and this installation can write.

    Each file, and what is measured of it, is made once, however often the run is interrupted.

    Args:
        folder: The run's folder.
        recipe: A `Recipe`.
        splits: The data.
        model: The trained `keras.Model`.
        train, val, judged: Batches of the splits.
        report: The float model's `Report`.
        progress: What is done already.

    Returns:
        What is known of each file, in the order of `quantization.SCHEMES`.
    """
    spec = recipe.quantization
    if len(splits.image_shape) == 4:
        model = quantization.lower_3d(model)
    representative = quantization.representative(
        splits.train.images, splits.train.strata, spec.representative_images, recipe.seed
    )
    name = f"{recipe.track}-{recipe.name}"

    @functools.cache
    def twin(scheme):
        """The network with fake quantization that an integer file is written from."""
        if scheme == "int8":
            return with_ranges(recipe, model, representative)
        return fine_tuned(recipe, model, representative, train, val, progress) if scheme == "qat" else None

    def convert(scheme):
        """The bytes of a file."""
        print(f"Converting to {scheme}...", flush=True)
        source = twin(scheme) or model
        with backend.native_noise_held():  # The finished file is run, and LiteRT reports its kernels the first time.
            if scheme in quantization.INTEGER_SCHEMES:
                content = quantization.convert(source, "qat", io=spec.tflite_io, logits=spec.tflite_logits)
            else:
                content = quantization.convert(source, scheme, logits=spec.tflite_logits)
        return quantization.add_metadata(content, metadata(recipe, scheme, splits))

    def speeds():
        """Milliseconds an image by threads and scheme."""
        print("Evaluating the files...", flush=True)
        with backend.native_noise_held():  # LiteRT reports its kernels when it runs for the first time.
            image = judged.split.images[0]
            return {threads: quantization.latencies(contents, image, threads=threads) for threads in THREADS}

    schemes = [scheme for scheme in quantization.SCHEMES if scheme != "qat" or spec.qat]
    contents = {}
    for scheme in schemes:
        try:
            contents[scheme] = progress.once(f"converting to {scheme}", bytes, functools.partial(convert, scheme))
        except InputError as error:
            # Integer files need no more than this package.
            if scheme in quantization.INTEGER_SCHEMES or tflite.is_installed():
                raise
            print(f"No {scheme} file: {error}", flush=True)
    times = progress.once("timing the files", dict[int, dict[str, float]], speeds)
    (folder / run_folder.TFLITE).mkdir(exist_ok=True)
    results = []
    for scheme, content in contents.items():

        def evaluate(scheme=scheme, content=content):
            """What is known of this file."""
            milliseconds = {threads: by_file[scheme] for threads, by_file in times.items()}
            float_bytes = len(contents["float32"]) if "float32" in contents else None
            return _result(
                recipe, splits, scheme, content, float_bytes, milliseconds, judged, report, model, twin(scheme)
            )

        result = progress.once(f"evaluating {scheme}", FileResult, evaluate)
        file, card = (folder / place for place in run_folder.tflite_names(scheme))
        file.write_bytes(content)
        run_folder.write_json(card, _card(recipe, name, splits, result, content, report))
        results.append(result)
    return tuple(results)


def with_ranges(recipe: Recipe, model: Any, representative: Any) -> Any:
    """The model with fake quantization, its ranges set from training images, and without dropout."""
    twin = quantization.with_fake_quantization(model, dropout=False)
    quantization.set_ranges(twin, model, representative, logits=recipe.quantization.tflite_logits)
    return twin


def fine_tuned(
    recipe: Recipe,
    model: Any,
    representative: Any,
    train: data.Batches,
    val: data.Batches,
    progress: Progress | None = None,
) -> Any:
    """The model with fake quantization, trained further to predict what the float model predicts.

    Learning from its predictions instead of labels keeps the file equal to the model that was evaluated; labels would
    continue the training, with another recipe than the one that made it good.
    """
    spec = recipe.quantization
    tuned = with_ranges(recipe, model, representative)
    several = train.split.labels.ndim == 2
    # Of several labels the model ends in scores, and both learn by what is before them.
    teacher, pupil = (quantization.up_to_logits(one) if several else one for one in (model, tuned))
    student = training.student_of(teacher, pupil, several_labels=several)
    frozen = round(spec.qat_frozen_share * spec.qat_epochs)
    live = spec.qat_epochs - frozen
    rate = spec.qat_learning_rate
    if live:
        checkpoints = progress and progress.checkpoints("fine-tuning")
        training.fit(student, train, val, _fine_tuning(recipe, live, rate), checkpoints=checkpoints)
    if frozen:
        quantization.freeze(tuned)
        # The first part's cosine has come down; the rest stays low.
        last = _fine_tuning(recipe, frozen, rate / 10 if live else rate)
        checkpoints = progress and progress.checkpoints("fine-tuning with fixed ranges")
        training.fit(student, train, val, last, checkpoints=checkpoints)
    return tuned


def _fine_tuning(recipe, epochs, rate):
    return TrainingSpec(
        epochs=epochs,
        batch_size=recipe.training.batch_size,
        learning_rate=rate,
        schedule="cosine",
        patience=0,
        native_operations=recipe.training.native_operations,
    )


def metadata(recipe: Recipe, scheme: str, splits: data.Splits) -> quantization.Metadata:
    """What a file of a run says of itself."""
    name = f"{recipe.track}-{recipe.name}"
    description = f"{name}, {scheme}, {splits.num_classes} classes, trained on {splits.source.name}"
    description += f"{pixel_values.scaling(splits.source.intensity_range)}."
    return quantization.Metadata(name, description, __version__, splits.source.licence, splits.class_names)


def _result(recipe, splits, scheme, content, float_bytes, milliseconds, judged, report, model, twin):
    """What is known of one file; `twin` is the network that an integer file was written from, else None."""
    images = judged.split.images
    runner, logits = quantization.Runner(content), recipe.quantization.tflite_logits
    found = runner(images)
    scores = evaluation.softmax(found) if logits else found
    selective = None
    if report.selective is not None:  # By its own scores, which are not the float model's.
        selective = unsure.judged(recipe, splits, runner.probabilities(splits.val.images), scores)
    simulation, errors = None, ()
    if twin is not None:
        simulation = quantization.simulation_agreement(twin, images, found, logits=logits)
        # A file that was fine-tuned is compared with its own network without rounding, since its weights are no longer
        # the float model's.
        errors = _tensor_errors(content, twin if scheme == "qat" else model, images[:TRACED_IMAGES])
    return FileResult(
        scheme=scheme,
        audit=quantization.audit(content),
        agreement=report.agreement(scores, resamples=recipe.evaluation.bootstrap, seed=recipe.seed),
        float_bytes=float_bytes,
        milliseconds=milliseconds,
        simulation=simulation,
        heatmaps=heatmaps.likeness(recipe, model, content, twin, images),
        tensor_errors=errors,
        selective=selective,
    )


def _tensor_errors(content, model, images):
    return tuple(quantization.tensor_errors(content, images, quantization.float_tensors(model, images)))


def _card(recipe, name, splits, result, content, report):
    """What is next to a file: what it is, what it was made from, what it can do."""
    row = result.to_dict(splits.class_names)
    return {
        "name": name,
        **{key: value for key, value in row.items() if key != "tensor_errors"},
        "file": Path(row["file"]).name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "pixels": f"{splits.image_shape[-1]} channels, 0 to 255, not normalized; RGB where there are three"
        f"{pixel_values.scaling(splits.source.intensity_range)}",
        "lowered": len(splits.image_shape) == 4,
        "labels": list(splits.class_names),
        **({"thresholds": report.thresholds} if splits.several_labels else {}),
        "split": report.split,
        "images": len(report.labels),
        "groups": report.judgement.groups,
        "float_metrics": report.judgement.to_dict(),
        "data": dataclasses.asdict(splits.source),
        "recipe": dataclasses.asdict(recipe),
        "environment": report.environment,
    }


def files_table(files: Sequence[FileResult]) -> Table:
    """Head and rows: a row per file, its cost in accuracy, bytes and time."""
    headline = files[0].agreement.judgement.headline
    head = ["scheme", "kind", words(headline[0]), "lost", *map(words, headline[1:])]
    head += ["changed", "McNemar's p", "as simulated", "heatmaps", "bytes", "ratio"]
    head += [f"ms, {threads} thread{'s' if threads > 1 else ''}" for threads in THREADS]
    rows = []
    for file in files:
        accuracy, *others = (shown(file.agreement.judgement.metrics[name]) for name in headline)
        row = [file.scheme, file.audit.kind, accuracy, f"{file.agreement.accuracy_drop:+.2f} points", *others]
        row += [f"{file.agreement.changed:.2%}", f"{file.agreement.mcnemar_p:.2g}"]
        row += [_simulated(file.simulation), _similar(file.heatmaps)]
        row += [f"{file.audit.bytes:,}", f"{'-' if file.bytes_ratio is None else f'{file.bytes_ratio:.3f}'}"]
        row += [f"{file.milliseconds[threads]:.3f}" for threads in THREADS]
        rows.append(row)
    return head, rows


def short_files_table(files: Sequence[FileResult]) -> Table:
    """The columns of `files_table` that fit on a terminal."""
    head, rows = files_table(files)
    kept = [0, 1, 2, 3, *(head.index(name) for name in ("changed", "bytes", "ms, 1 thread"))]
    return [head[column] for column in kept], [[row[column] for column in kept] for row in rows]


def smallest_equal(files: Sequence[FileResult]) -> FileResult:
    """The smallest file whose accuracy is not measurably below the float model's; of equals the one that changes least.

    Where every file is measurably worse, it is the one that loses least.
    """
    equal = [file for file in files if not measurably_lower(file)]
    if not equal:
        return min(files, key=lambda file: file.agreement.accuracy_drop)
    # Files of one size but for some names and numbers are equally small.
    largest = max(file.audit.bytes for file in files)
    return min(equal, key=lambda file: (round(file.audit.bytes / largest, 2), file.agreement.changed))


def measurably_lower(file: FileResult) -> bool:
    """Whether a file's accuracy is below the float model's by more than chance explains."""
    return file.agreement.accuracy_drop > 0 and file.agreement.mcnemar_p < 0.05


def _simulated(found):
    if found is None:
        return "-"
    return f"{found.same_class:.2%} of classes, {found.within_a_step:.2%} of scores"


def _similar(found):
    return "; ".join(f"{name} {row.cosine:.3f}, {row.top_overlap:.3f}" for name, row in found.items()) or "-"
