"""One training, finished for images of several sizes: how much larger than in the training should they be?

Run:     keras-vision train --data FOLDER --size 224 --val-share 0.25 --judge-on val --explain none --out RUN
         python benchmarks/train_scale.py RUN [RUN ...] [--sizes 160 176 192 208 224 240 256]
Judged on the validation split of each run, so test images play no part. Loss: the mean negative log-likelihood after a
temperature, which is fitted on the same images for every size alike.
"""

import argparse
import json
import sys
from pathlib import Path

import keras
import numpy as np
import record
from scipy.special import log_softmax

from keras_vision import data, evaluation, models, training
from keras_vision.recipe import from_dict, override


def measure(run, sizes):
    recipe = from_dict(json.loads((run / "recipe.json").read_text("utf-8")))
    trained = keras.saving.load_model(run / "model.keras", compile=False)
    rows = {}
    for size in sizes:
        made = override(recipe, size=size)
        splits = data.load_splits(made.data, made.seed)
        model = models.build(override(made, weights="none").model, splits.image_shape, splits.num_classes)
        model.set_weights(trained.get_weights())
        with training.native_operations(model):
            logits = model.predict(data.Batches(splits.val, splits.num_classes, 32), verbose=0).astype(float)
        labels = splits.val.labels
        scores = log_softmax(logits / evaluation.fit_temperature(labels, logits), axis=1)
        rows[str(size)] = {
            "accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
            "loss": float(-np.mean(scores[np.arange(len(labels)), labels])),
        }
        print(f"{run.name}, {size}: {json.dumps(rows[str(size)])}", flush=True)
    name = f"seed {recipe.seed}, trained at {recipe.training.trained_at(recipe.data.size)}"
    return name, {"validation images": len(labels), **rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 176, 192, 208, 224, 240, 256])
    options = parser.parse_args()
    record.finish("train_scale", dict(measure(run, options.sizes) for run in options.runs), {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
