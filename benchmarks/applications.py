"""Every network of keras.applications as a full-integer file, by ours and by two other converters.

Run:     python benchmarks/applications.py [--data FOLDER|FILE.npz] [--names MobileNetV2 ...] [--size 96] [--quick]
Peers:   TensorFlow's converter (full-integer, uint8 ends), and ai-edge-quantizer's recipe static_wi8_ai8 where it is
         installed: pip install ai-edge-quantizer
Weights are random, since the trained ones cannot be had here, and the statistics of the normalizations are those of the
images, so that activations are of a usual size. All three set ranges from the same images and are judged on others:
the root mean square of the error of the probabilities, as a share of their spread over images. Random networks make
nearly the same of every image, so this share is large for all three, and `convert` would refuse many of these files
for it: here the ranges are set and the file is written step by step, with every other check. `agrees` is the share of
scores in which a file is within a step of its simulation. A network is converted in a process of its own, so that one
that needs too much memory stops nothing. Results that exist are kept; --again measures anew.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # Before Keras is imported: TensorFlow's converter needs it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import record

from keras_vision import data, quantization
from keras_vision.quantization import tflite
from keras_vision.recipe import DataSpec, InputError

OURS = "keras_vision"
RANGES, JUDGED = 64, 32
SECONDS = 3600  # Of processor time, so that a busy machine changes nothing.
QUICK = ("MobileNetV2", "ConvNeXtTiny")


def names():
    """Every network of keras.applications, smallest first."""
    found = [name for name in dir(keras.applications) if name[0].isupper()]
    return sorted(found, key=lambda name: (name.endswith(("Large", "XLarge", "Base", "B5", "B6", "B7")), name))


def network(name, size, images):
    """A network with random weights, from pixels to probabilities, whose normalizations know the images."""
    keras.utils.set_random_seed(0)
    function = getattr(keras.applications, name)
    family = getattr(keras.applications, function.__module__.rpartition(".")[2])
    core = function(weights=None, input_shape=(size, size, 3), classes=10)
    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, core(family.preprocess_input(inputs)), name=name)
    norms = [layer for layer in core._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images[:RANGES].astype("float32"), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def measure(name, options):
    """What each converter makes of one network: `{converter: {name: value}}`."""
    import quantization as peers  # The benchmark of that name.

    splits = data.load_splits(DataSpec(options.data, size=options.size), 0)
    images = np.asarray(splits.train.images[: RANGES + JUDGED])
    ranges, judged = images[:RANGES], images[RANGES:]
    model = network(name, options.size, ranges)
    expected = model.predict(judged.astype("float32"), verbose=0)
    spread = float(np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2)))
    float_file = tflite.convert_float(model)  # What ai-edge-quantizer is made for.
    files, rows, agrees = {}, {}, 0.0
    try:
        quantized = quantization.with_fake_quantization(model, input_range=(0.0, 255.0))
        quantization.set_ranges(quantized, model, ranges)
        files[OURS] = quantization.convert(quantized, "qat", ranges)
        scores = quantization.Runner(files[OURS])(judged)
        agrees = quantization.simulation_agreement(quantized, judged, scores).within_a_step
    except InputError as error:
        rows[OURS] = {"refused": str(error).partition(" Supported:")[0]}
    if options.ours:
        rows["peers' errors"] = ["not tried: their calibration needs more memory than there was"]
    for convert in (
        ()
        if options.ours
        else (
            lambda: peers.tensorflow_int8(model, ranges),
            lambda: peers.edge_int8(float_file, ranges),
        )
    ):
        try:
            files |= convert()
        except Exception as error:  # Whatever the peers raise.
            rows.setdefault("peers' errors", []).append(f"{type(error).__name__}: {error}"[:200])
    for converter, content in list(files.items()):
        try:
            found = quantization.Runner(content)(judged)
        except InputError as error:
            rows[converter] = {"not run": str(error)}
            del files[converter]
            continue
        rows[converter] = {
            "kind": quantization.audit(content).kind,
            "error": float(np.sqrt(np.mean((found - expected) ** 2))) / spread,
            "bytes": len(content),
        }
    for converter, milliseconds in quantization.latencies(files, judged[0], rounds=5, calls=3).items():
        rows[converter]["milliseconds"] = milliseconds
    if OURS in files:
        rows[OURS]["agrees"] = agrees
    return {**rows, "float32": {"bytes": len(float_file), "parameters": model.count_params()}}


def limit_time():
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic-folders", help="images (default: drawn ones)")
    parser.add_argument("--names", nargs="+", default=None, help="networks (default: all)")
    parser.add_argument("--size", type=int, default=96, help="side of the images (default: 96)")
    parser.add_argument("--quick", action="store_true", help=f"only {' and '.join(QUICK)}")
    parser.add_argument("--again", action="store_true", help="measure again what is known")
    parser.add_argument("--ours", action="store_true", help="without the peers, for a network too large for them here")
    parser.add_argument("--table", action="store_true", help="measure nothing; print what is known as Markdown")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return 0
    place = record.RESULTS / "applications.json"
    before = json.loads(place.read_text("utf-8")) if place.is_file() and not options.again else {}
    if options.table:
        print("\n".join(table(before["details"]["networks"])))
        return 0
    rows = (
        before.get("details", {}).get("networks", {}) if before.get("details", {}).get("data") == options.data else {}
    )
    for name in options.names or (QUICK if options.quick else names()):
        if name in rows:
            continue
        command = [sys.executable, __file__, "--one", name, "--data", options.data, "--size", str(options.size)]
        command += ["--ours"] if options.ours else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_time, check=True)
            rows[name] = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or [f"status {error.returncode}"])[-1]
            if error.returncode == -signal.SIGXCPU:
                last = f"it took longer than {SECONDS} seconds of one core"
            rows[name] = {"failed": last[:300]}
        print(name, json.dumps(rows[name]), flush=True)
        record.finish("applications", summary(rows), {"networks": rows, "data": options.data, "size": options.size})
    return 0


CONVERTERS = (OURS, "TensorFlow int8", "ai-edge-quantizer int8", "ai-edge-quantizer int8, widest ranges")


def table(rows):
    """Lines of a Markdown table: of each file its error, and whether it is not full-integer; of ours size and time."""
    yield "| network | parameters | ours | TensorFlow | ai-edge-quantizer | the same, widest ranges | MB | ms |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in sorted(rows):
        row = rows[name]
        cells = [_cell(row.get(converter, {})) for converter in CONVERTERS]
        ours = row[OURS]
        yield (
            f"| {name} | {row['float32']['parameters'] / 1e6:.1f} M | {' | '.join(cells)} | "
            f"{ours['bytes'] / 1e6:.1f} | {ours['milliseconds']:.1f} |"
        )


def _cell(values):
    if "error" not in values:
        return "refused" if "refused" in values else "does not run" if "not run" in values else "not tried"
    return f"{values['error']:.2f}" + ("" if values["kind"] == "full-integer" else f" {values['kind']}")


def summary(rows):
    """How many networks each converter makes full-integer, and the median of its errors on them."""
    found = {}
    for row in rows.values():
        for converter, values in row.items():
            if isinstance(values, dict) and values.get("kind") == "full-integer":
                found.setdefault(converter, []).append(values["error"])
    counts = {
        name: {"full_integer": len(errors), "median_error": float(np.median(errors))} for name, errors in found.items()
    }
    return {"networks": len(rows), **counts}


if __name__ == "__main__":
    sys.exit(main())
