"""What each scheme costs, compared with other converters: same trained networks, images and interpreter.

Run:     python benchmarks/quantization.py --data F.npz [--track fracture3d|cifar] [--seeds 3] [--threads N] [--quick]
Peers:   TensorFlow's converter (full-integer, uint8 ends), and ai-edge-quantizer's recipe static_wi8_ai8 where it is
         installed: pip install ai-edge-quantizer
The networks are those of the track's own benchmark, trained here if needed. TensorFlow converts the network unchanged,
with 3D operators for volumes; the column "audit" shows the result. The ranges of all files are set from the same
images of the training split; all are converted from the same weights and run by LiteRT on the test split, which served
for no choice.
"""

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # Before Keras is imported: TensorFlow's converter needs it.

import cifar
import keras
import numpy as np
import record
import trainings

from keras_vision import cli, data, evaluation, quantization
from keras_vision.pipeline import tflite_files, track
from keras_vision.recipe import override

DERMA = ["-m", "keras_vision.derma"]
BEST = ["--recipe", "best"]
NETWORKS = {
    "derma": {"baseline --augment": (DERMA, ["--augment"]), "best": (DERMA, BEST)},
    "fracture3d": {"best": (["-m", "keras_vision.fracture3d"], [*BEST, "--explain", "none"])},
    "cifar": {name: cifar.recipes()[name][:2] for name in ("`fast`, mixed_bfloat16", "`custom`")},
}
# One epoch of fine-tuning takes ten minutes for `custom`, and has seven times as many images as six epochs of derma.
QAT_EPOCHS = {"cifar": 1}
OURS = ("dynamic", "int8", "qat")
TF = "TensorFlow int8"
EDGE, EDGE_WIDEST = "ai-edge-quantizer int8", "ai-edge-quantizer int8, widest ranges"


def tensorflow_int8(model, representative):
    """TensorFlow's own integer file, with the same softmax and ends as ours: `{file: bytes}`.

    3D convolutions stay float in it; a network with 3D pooling cannot be converted.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    images = keras.Input(batch_shape=(1, *model.input_shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras.Model(images, keras.layers.Softmax()(model(images, training=False)))
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis].astype("float32")] for image in representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return {TF: converter.convert()}
    except ConverterError:
        return {}


def edge_int8(float_file, representative):
    """ai-edge-quantizer's static recipe, `{file: bytes}`; empty where it is not installed.

    By default it averages ranges over images, which clips values that only a few images reach. A second file therefore
    has the widest ranges over all images, as with the other converters.
    """
    try:
        from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils
    except ImportError:
        return {}
    work = quantizer.Quantizer(float_file, recipe.static_wi8_ai8())
    name = quantization.Runner(float_file).interpreter.get_signature_list()["serving_default"]["inputs"][0]
    samples = {"serving_default": [{name: image[np.newaxis].astype("float32")} for image in representative]}
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    widest = calibrator.Calibrator(float_file, qsv_update_func=qsv_utils.min_max_update)
    widest.calibrate(samples, manager)
    ranges = {EDGE: work.calibrate(samples), EDGE_WIDEST: widest.get_model_qsvs()}
    return {
        file: bytes(work.quantize(values, enable_progress_report=False).quantized_model)
        for file, values in ranges.items()
    }


def measure(name, command, flags, seed, options):
    """Measurements of every file of one trained network: `{file: {name: value}}`."""
    trainings.train(command, name, flags, seed, options)
    folder = trainings.folder(options, name, seed)
    kept = folder / ("quantization_quick.json" if options.quick else "quantization.json")
    if kept.is_file():
        return json.loads(kept.read_text("utf-8"))
    recipes = importlib.import_module(f"keras_vision.{options.track}").RECIPES
    typed = [*flags, "--data", options.data, "--seed", str(seed)]
    recipe = cli.parse(options.track, recipes, "", typed)[1]
    qat_epochs = 1 if options.quick else QAT_EPOCHS.get(options.track, recipe.quantization.qat_epochs)
    recipe = override(recipe, qat_epochs=qat_epochs)
    splits = data.load_splits(recipe.data, seed)
    train = track.train_batches(recipe, splits)
    val, test = (data.Batches(part, splits.num_classes, 256) for part in (splits.val, splits.test))
    trained = keras.saving.load_model(folder / "model.keras")
    model = quantization.lower_3d(trained) if len(splits.image_shape) == 4 else trained
    representative = quantization.representative(
        splits.train.images, splits.train.labels, recipe.quantization.representative_images, seed
    )
    twins = {"int8": tflite_files.with_ranges(recipe, model, representative)}
    twins["qat"] = tflite_files.fine_tuned(recipe, model, representative, train, val)
    files = {scheme: quantization.convert(model, scheme) for scheme in ("float32", "dynamic")}
    files |= {scheme: quantization.convert(twin, "qat") for scheme, twin in twins.items()}
    files |= tensorflow_int8(trained, representative)
    files |= edge_int8(files["float32"], representative)

    expected = evaluation.softmax(trained.predict(test, verbose=0))
    milliseconds = quantization.latencies(files, splits.test.images[0])
    rows = {}
    for scheme, content in files.items():
        scores = quantization.Runner(content)(splits.test.images)
        agreement = evaluation.agreement(splits.test.labels, expected, scores, resamples=10)
        metrics, audit = agreement.judgement.metrics, quantization.audit(content)
        rows[scheme] = {
            "accuracy": metrics["accuracy"].value,
            "balanced_accuracy": metrics["balanced_accuracy"].value,
            "auc": metrics["auc"].value,
            "drop": agreement.accuracy_drop,
            "changed": 100 * agreement.changed,
            "bytes": len(content),
            "ratio": len(content) / len(files["float32"]),
            "kind": audit.kind,
            "operators": len(audit.operators),
            "milliseconds": milliseconds[scheme],
        }
        if scheme in twins:
            agreement = quantization.simulation_agreement(twins[scheme], splits.test.images, scores)
            rows[scheme] |= dataclasses.asdict(agreement)
    kept.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return rows


def mean(rows, scheme, column):
    return float(np.mean([row[scheme][column] for row in rows]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--track", choices=tuple(NETWORKS), default="derma")
    options = trainings.complete(parser.parse_args())
    seeds = range(options.seeds)
    networks = {name: run for name, run in NETWORKS[options.track].items() if not options.only or name in options.only}
    measured = {name: [measure(name, *run, seed, options) for seed in seeds] for name, run in networks.items()}

    print(f"{Path(options.data).stem}, test split, mean over {len(seeds)} seeds (smallest to largest drop)")
    print("| network | file | audit | accuracy | drop, points | changed, % | bytes | of float | ms, 1 thread |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rows in measured.items():
        for scheme in rows[0]:
            drops = [row[scheme]["drop"] for row in rows]
            accuracy, drop, changed, size, ratio, milliseconds = (
                mean(rows, scheme, column)
                for column in ("accuracy", "drop", "changed", "bytes", "ratio", "milliseconds")
            )
            kind = rows[0][scheme]["kind"]
            print(
                f"| {name} | {scheme} | {kind} | {accuracy:.4f} | "
                f"{drop:+.2f} ({min(drops):+.2f} to {max(drops):+.2f}) | "
                f"{changed:.2f} | {size:,.0f} | {ratio:.3f} | {milliseconds:.3f} |"
            )
    every = [row for rows in measured.values() for row in rows]
    peers = [scheme for scheme in (TF, EDGE, EDGE_WIDEST) if all(scheme in row for row in every)]
    headline = {
        "accuracy_drop_points": {scheme: round(mean(every, scheme, "drop"), 3) for scheme in OURS},
        "qat_agreement": round(mean(every, "qat", "same_class"), 5),
        "int8_bytes_ratio": round(mean(every, "int8", "ratio"), 4),
        "peers": {scheme: round(mean(every, scheme, "drop"), 3) for scheme in peers},
    }
    if options.only:  # A partial table must not replace the complete one.
        print(json.dumps(headline))
        return
    name = "quantization" if options.track == "derma" else f"quantization_{options.track}"
    record.finish(name + ("_quick" if options.quick else ""), headline, measured)


if __name__ == "__main__":
    main()
