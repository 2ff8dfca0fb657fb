"""Where a classifier is unsure: whether the error among its answers is what was promised, and how many it answers.

Run:     python benchmarks/selective.py [--derma .data/ham10000_5984_28.npz] [--flowers .data/flower_photos] [--quick]
Files of tflite_exports are run on the validation and test images of their data.

- as split: the threshold from validation, what it does on test
- redrawn: validation splits of the same size, drawn with replacement from both together, of which the error above each
  threshold is known. A promise is broken where it is above the target; 5 % of the splits may.
- by the float file's threshold: the same for the files with 8-bit weights
- calibrated: a temperature is fitted first, on the same images as the threshold
- first test on the fewest images: instead of on a fifth of them, with 600 validation images
- drawn classifiers: error falling with confidence; half wrong among the most confident 2 %, and a sixth among the most
  confident fifth, both of which the guarantee excludes; groups of ten images that are right or wrong together
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import record

from keras_vision import data, evaluation
from keras_vision.evaluation import selective
from keras_vision.quantization import Runner
from keras_vision.recipe import SCHEMES, DataSpec

EXPORTS = Path(__file__).parents[1] / "tflite_exports"
NETWORKS = {"derma-baseline-augment": "derma", "derma-best": "derma", "plants-robust": "flowers"}
TARGETS = (0.02, 0.05, 0.1)
KINDS = ("error falls with confidence", "mistakes in the top 2 %", "mistakes in the top fifth", "groups")


def splits_of(network, place):
    """The data of a network's card, from another place."""
    recorded = json.loads((EXPORTS / network / "float32.json").read_text("utf-8"))["recipe"]
    known = {item.name for item in dataclasses.fields(DataSpec)}
    values = {name: value for name, value in recorded["data"].items() if name in known}
    return data.load_splits(DataSpec(**(values | {"data": str(place), "audit_leaks": False})), recorded["seed"])


def scores_of(network, place):
    """Labels and each file's probabilities of validation and test: `{scheme: [(labels, probabilities), ...]}`."""
    splits = splits_of(network, place)
    found = {}
    for scheme in SCHEMES:
        runner = Runner((EXPORTS / network / f"{scheme}.tflite").read_bytes())
        found[scheme] = [(part.labels, runner.probabilities(part.images)) for part in (splits.val, splits.test)]
    return found


def as_split(val, test, target):
    """The threshold from validation and what it does on test."""
    return evaluation.judge_selective(evaluation.choose_answer_threshold(*val, target), *test).to_dict()


def redrawn(pool, count, target, draws, *, used=None, calibrated=False, groups=None):
    """Shares of the splits without a threshold and with a broken promise, and the mean share of answered images.

    Args:
        pool: Labels and probabilities, all that there is.
        count: Images, or groups, of a validation split.
        used: Probabilities of the classifier that then uses the threshold; by default the same.
        calibrated: Whether a temperature is fitted first.
        groups: Group of each image, numbered from 0; whole groups are drawn.
    """
    labels, probabilities = pool
    rng = np.random.default_rng(0)
    logits = np.log(np.maximum(probabilities, 1e-12))
    none = broken = answered = 0
    for _ in range(draws):
        if groups is None:
            rows, names = rng.integers(0, len(labels), count), None
        else:
            chosen = rng.integers(0, groups.max() + 1, count)
            size = len(labels) // (groups.max() + 1)  # All groups are of one size, one after the other.
            rows = (chosen[:, np.newaxis] * size + np.arange(size)).ravel()
            names = np.repeat(np.arange(count), size)
        scores = probabilities
        if calibrated:
            scores = evaluation.softmax(logits / evaluation.fit_temperature(labels[rows], logits[rows]))
        threshold = evaluation.choose_answer_threshold(labels[rows], scores[rows], target, groups=names)
        if threshold.value is None:
            none += 1
            continue
        judged = scores if used is None else used
        above = judged.max(axis=1) >= threshold.value
        answered += above.mean()
        broken += (judged.argmax(axis=1) != labels)[above].mean() > target if above.any() else 0
    return {"broken": broken / draws, "none": none / draws, "answered": answered / draws}


def drawn_classifier(kind, count=20_000):
    """Labels, probabilities and groups of a classifier of two classes with a known error at each confidence."""
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, count)
    error, groups = 4 * (1 - confidence) ** 3, None
    if kind == "mistakes in the top 2 %":
        error = np.where(confidence > 0.99, 0.5, error)
    if kind == "mistakes in the top fifth":
        error = np.where(confidence > 0.9, 1 / 6, error)
    wrong = rng.random(count) < error
    if kind == "groups":
        groups = np.repeat(np.arange(count // 10), 10)
        confidence, wrong = confidence[groups * 10] - 1e-3 * rng.random(count), wrong[groups * 10]
    return (wrong.astype(int), np.stack([confidence, 1 - confidence], axis=1)), groups


def shown(name, row):
    rates = "  ".join(f"{part} {row[part]:6.1%}" for part in ("broken", "none", "answered"))
    print(f"  {name:<52} {rates}", flush=True)


def of_network(network, place, draws):
    """Every measurement of one network's files."""
    found = scores_of(network, place)
    pools = {scheme: [np.concatenate(parts) for parts in zip(*both, strict=True)] for scheme, both in found.items()}
    count = len(found["float32"][0][0])
    results = {"val": count, "test": len(found["float32"][1][0]), "as split": {}, "redrawn": {}}
    print(f"{network}: {count} validation images, {results['test']} test images")
    for scheme, (val, test) in found.items():
        for target in TARGETS:
            name = f"{scheme}, {target:g}"
            row = results["as split"][name] = as_split(val, test, target)
            if row["threshold"] is None:
                print(f"  {name:<52} {row['reason']}")
                continue
            rates = ", ".join(
                f"{part} {row[part]['value']:.3f} ({row[part]['low']:.3f} to {row[part]['high']:.3f})"
                for part in ("answered", "error")
            )
            print(f"  {name:<52} threshold {row['threshold']:.3f}: {rates}")
        for target in TARGETS:
            name = f"{scheme}, {target:g}"
            results["redrawn"][name] = redrawn(pools[scheme], count, target, draws)
            shown(f"{name}, redrawn", results["redrawn"][name])
    for scheme in SCHEMES[1:]:
        name = f"{scheme}, 0.05, by the float file's threshold"
        results["redrawn"][name] = redrawn(pools["float32"], count, 0.05, draws, used=pools[scheme][1])
        shown(name, results["redrawn"][name])
    name = "float32, 0.05, calibrated"
    results["redrawn"][name] = redrawn(pools["float32"], count, 0.05, draws // 4, calibrated=True)
    shown(name, results["redrawn"][name])
    for first in (selective.FIRST_SHARE, 0.0):
        before, selective.FIRST_SHARE = selective.FIRST_SHARE, first
        name = f"float32, 0.05, 600 images, first test on {'a fifth' if first else 'the fewest'}"
        results["redrawn"][name] = redrawn(pools["float32"], 600, 0.05, draws)
        selective.FIRST_SHARE = before
        shown(name, results["redrawn"][name])
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--derma", default=".data/ham10000_5984_28.npz")
    parser.add_argument("--flowers", default=".data/flower_photos")
    parser.add_argument("--quick", action="store_true", help="50 draws, one network")
    options = parser.parse_args()
    draws = 50 if options.quick else 2000
    networks = list(NETWORKS)[: 1 if options.quick else None]
    results = {network: of_network(network, getattr(options, NETWORKS[network]), draws) for network in networks}
    print("drawn classifiers, 500 validation images or 100 groups, target 0.1")
    results["drawn"] = {}
    for kind in KINDS:
        pool, groups = drawn_classifier(kind)
        count, number = (500, draws) if groups is None else (100, draws // 4)
        results["drawn"][kind] = redrawn(pool, count, 0.1, number, groups=groups)
        shown(kind, results["drawn"][kind])
    headline = {
        f"{network}, {scheme}": {
            "answered": results[network]["as split"][f"{scheme}, 0.05"]["answered"]["value"],
            "error": results[network]["as split"][f"{scheme}, 0.05"]["error"]["value"],
            "broken": results[network]["redrawn"][f"{scheme}, 0.05"]["broken"],
        }
        for network in networks
        for scheme in SCHEMES
    }
    record.finish("selective_quick" if options.quick else "selective", headline, results)


if __name__ == "__main__":
    main()
