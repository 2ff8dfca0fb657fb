"""What averaging over flips and turns gains and costs: the files of tflite_exports, on validation and test.

Run:     python benchmarks/averaging.py [--derma .data/ham10000_5984_28.npz] [--flowers .data/flower_photos]

Metrics with 95 % intervals, McNemar's p against the same file without averaging, and milliseconds per image.
"""

import argparse

import record
from selective import EXPORTS, splits_of

from keras_vision import evaluation
from keras_vision.classifier import Classifier
from keras_vision.pipeline import symmetries

NETWORKS = {
    "derma-best": ("derma", ("none", "flip", "flips", "turns", "all")),
    "derma-baseline-augment": ("derma", ("none", "flip", "all")),
    "plants-robust": ("flowers", ("none", "flip", "all")),
}
SCHEMES = ("float32", "int8")
METRICS = ("accuracy", "balanced_accuracy", "auc", "expected_calibration_error")
TIMED, REPEATS = 16, 10  # The machine may have other work: the best of so many.


def compared(part, tta, before, after):
    """The metrics of a file's averaged probabilities, and McNemar's p against its plain ones."""
    found = evaluation.agreement(part.labels, before, after)
    metrics = {name: found.judgement.metrics[name].to_dict() for name in METRICS}
    return {"tta": tta, "metrics": metrics, "changed": found.changed, "mcnemar_p": found.mcnemar_p}


def measured(network, scheme, splits):
    """Rows of one file."""
    plain = None
    for tta in NETWORKS[network][1]:
        model = Classifier.open(EXPORTS / network / f"{scheme}.tflite", tta=tta)
        found = [model.probabilities(part.images[:]) for part in (splits.val, splits.test)]  # Some are on disk.
        plain = plain or found
        row = {"network": network, "scheme": scheme, "versions": symmetries.words(model.versions)}
        row["milliseconds"] = min(model.milliseconds(splits.val.images[:TIMED])[1] for _ in range(REPEATS))
        for name, part, before, after in zip(("val", "test"), (splits.val, splits.test), plain, found, strict=True):
            row[name] = compared(part, tta, before, after)
        print(network, scheme, tta, f"{row['milliseconds']:.2f} ms", end="  ")
        for name in ("val", "test"):
            values = "  ".join(
                "{value:.3f} ({low:.3f} to {high:.3f})".format(**row[name]["metrics"][m]) for m in METRICS
            )
            print(f"{name}: {values}  p {row[name]['mcnemar_p']:.2g}", end="  ")
        print(flush=True)
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--derma", default=".data/ham10000_5984_28.npz")
    parser.add_argument("--flowers", default=".data/flower_photos")
    options = parser.parse_args()
    rows = []
    for network, (place, _) in NETWORKS.items():
        splits = splits_of(network, getattr(options, place))
        for scheme in SCHEMES:
            rows += measured(network, scheme, splits)
    gains = {
        f"{row['network']} {row['scheme']} {row['test']['tta']}": row["test"]["metrics"]["accuracy"]["value"]
        for row in rows
    }
    record.finish("averaging", gains, {"rows": rows})


if __name__ == "__main__":
    main()
