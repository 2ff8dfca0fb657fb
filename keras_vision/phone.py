"""The last stage of a run: .tflite files of its model, each audited, labelled and judged like the model itself."""

import dataclasses
import hashlib
import json

from keras_vision import __version__, cli, evaluation, quantization, reasons, training
from keras_vision.recipe import TrainingSpec

TRACED_IMAGES = 64  # For the errors tensor by tensor: a root mean square settles soon.


def write_files(folder, recipe, name, splits, model, train, val, judged, report):
    """Writes `tflite/SCHEME.tflite` with a card, `SCHEME.json`, for every scheme that the recipe asks for.

    Args:
        folder: The run's folder.
        name: Name of the model, for the files' metadata.
        splits: The data.
        model: The trained `keras.Model`.
        train, val, judged: Batches of the splits.
        report: The float model's `evaluation.Report`.

    Returns:
        A dict a file, JSON-ready, in the order of `quantization.SCHEMES`.
    """
    spec = recipe.quantization
    if len(splits.image_shape) == 4:
        model = quantization.lower_3d(model)
    representative = quantization.representative(
        splits.train.images, splits.train.labels, spec.representative_images, recipe.seed
    )
    contents, twins = {}, {}
    for scheme in quantization.SCHEMES:
        if scheme == "qat" and not spec.qat:
            continue
        print(f"Converting to {scheme}...", flush=True)
        if scheme == "int8":
            twins[scheme] = calibrated(recipe, model, representative)
        if scheme == "qat":
            twins[scheme] = fine_tuned(recipe, model, representative, train, val)
        if scheme in twins:
            content = quantization.convert(twins[scheme], "qat", io=spec.tflite_io, logits=spec.tflite_logits)
        else:
            content = quantization.convert(model, scheme, logits=spec.tflite_logits)
        contents[scheme] = quantization.add_metadata(content, _metadata(name, scheme, splits))
    print("Judging the files...", flush=True)
    with cli.native_noise_held():  # LiteRT says which kernels it takes when it runs first.
        speeds = {
            threads: quantization.latencies(contents, judged.split.images[0], threads=threads) for threads in (1, 2)
        }
    (folder / "tflite").mkdir()
    rows = []
    for scheme, content in contents.items():
        row = _row(recipe, scheme, content, len(contents["float32"]), judged, report, twins.get(scheme))
        row["milliseconds"] = {f"{threads} threads": by_file[scheme] for threads, by_file in speeds.items()}
        if scheme in twins:
            # A file that was trained for it is held against its own network without rounding, since its weights are no
            # longer the float model's.
            row["tensor_errors"] = _tensor_errors(content, twins[scheme] if scheme == "qat" else model, judged)
        row |= reasons.likeness(recipe, model, content, twins.get(scheme), judged.split.images)
        (folder / "tflite" / f"{scheme}.tflite").write_bytes(content)
        card = json.dumps(_card(recipe, name, splits, row, content, report), indent=2, ensure_ascii=False)
        (folder / "tflite" / f"{scheme}.json").write_text(card + "\n", "utf-8")
        rows.append(row)
    return rows


def calibrated(recipe, model, representative):
    """The model with fake quantization, its ranges taken from training images, and without dropout."""
    twin = quantization.with_fake_quantization(model, dropout=False)
    quantization.calibrate(twin, model, representative, logits=recipe.quantization.tflite_logits)
    return twin


def fine_tuned(recipe, model, representative, train, val):
    """The model with fake quantization, trained on to answer as the float model does.

    Learning from its answers instead of from labels keeps the file the model that was judged; labels would go on
    training it, by another recipe than the one that had made it good.
    """
    spec = recipe.quantization
    tuned = calibrated(recipe, model, representative)
    student = training.student_of(model, tuned)
    frozen = round(spec.qat_frozen_share * spec.qat_epochs)
    live = spec.qat_epochs - frozen
    rate = spec.qat_learning_rate
    if live:
        training.fit(student, train, val, _fine_tuning(recipe, live, rate))
    if frozen:
        quantization.freeze(tuned)
        # The first part's cosine has come down; the rest goes on low.
        training.fit(student, train, val, _fine_tuning(recipe, frozen, rate / 10 if live else rate))
    return tuned


def _fine_tuning(recipe, epochs, rate):
    return TrainingSpec(
        epochs=epochs,
        batch_size=recipe.training.batch_size,
        learning_rate=rate,
        schedule="cosine",
        patience=0,
    )


def _metadata(name, scheme, splits):
    description = f"{name}, {scheme}, {splits.num_classes} classes, trained on {splits.source.name}."
    return quantization.Metadata(name, description, __version__, splits.source.licence, splits.class_names)


def _row(recipe, scheme, content, float_bytes, judged, report, twin):
    """What the report says of one file; `twin` is the network that an integer file was written from."""
    found = quantization.Runner(content)(judged.split.images)
    logits = recipe.quantization.tflite_logits
    scores = evaluation.softmax(found) if logits else found
    agreement = evaluation.agreement(
        report.labels, report.probabilities, scores, resamples=recipe.evaluation.bootstrap, seed=recipe.seed
    )
    audit = quantization.audit(content)
    row = {
        "scheme": scheme,
        "file": f"tflite/{scheme}.tflite",
        "kind": audit.kind,
        "input": audit.input,
        "output": audit.output,
        "bytes": len(content),
        "bytes_ratio": len(content) / float_bytes,
        **agreement.to_dict(report.class_names),
    }
    if twin is not None:
        row["simulation"] = quantization.simulation_agreement(twin, judged.split.images, found, logits=logits)
    return row


def _tensor_errors(content, model, judged):
    """`[{"tensor", "relative_error"}]`, the worst first."""
    images = judged.split.images[:TRACED_IMAGES]
    errors = quantization.tensor_errors(content, images, quantization.float_tensors(model, images))
    return [{"tensor": name, "relative_error": error} for name, error in errors]


def _card(recipe, name, splits, row, content, report):
    """What lies beside a file: what it is, what it was made from, what it can do."""
    return {
        "name": name,
        **{key: value for key, value in row.items() if key != "tensor_errors"},
        "file": f"{row['scheme']}.tflite",
        "sha256": hashlib.sha256(content).hexdigest(),
        "pixels": f"{splits.image_shape[-1]} channels, 0 to 255, not normalized; RGB where there are three",
        "lowered": len(splits.image_shape) == 4,
        "labels": list(splits.class_names),
        "split": report.split,
        "images": len(report.labels),
        "float_figures": {name: evaluation.interval(values) for name, values in report.judgement.figures.items()},
        "data": dataclasses.asdict(splits.source),
        "recipe": dataclasses.asdict(recipe),
        "environment": report.environment,
    }
