"""Runs that differ by their seed or fold alone: means with intervals over them, and settings compared pair by pair."""

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from keras_vision.evaluation import Interval, mcnemar, mean_interval, paired_difference
from keras_vision.pipeline.folder import FinishedRun
from keras_vision.pipeline.tables import Table, from_json, shown, words

VALIDATION, JUDGED = "validation_metrics", "metrics"
# Of these a table for people has those that the runs have; the files have all.
SHOWN = (
    *("accuracy", "balanced_accuracy", "macro_f1", "exact_match", "average_precision", "auc", "quadratic_kappa"),
    "expected_calibration_error",
)


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed alone, or by their fold.

    Attributes:
        name: What they have in common.
        runs: The runs by their seeds, or by the numbers of their folds.
    """

    name: str
    runs: dict[int, FinishedRun]

    def values(self, metric: str, part: str = JUDGED) -> dict[int, float]:
        """A metric of each run by its seed or fold; NaN where it is not defined."""
        return {seed: from_json(run.report[part].get(metric)).value for seed, run in self.runs.items()}

    def mean(self, metric: str, part: str = JUDGED) -> Interval:
        """Mean over seeds or folds with its t interval; NaN without a run."""
        values = [*self.values(metric, part).values()]
        return mean_interval(values) if values else Interval(math.nan, math.nan, math.nan)


def by_setting(runs: Sequence[FinishedRun]) -> list[Setting]:
    """Groups runs that differ by their seed alone; of several runs with the same seed the first is taken.

    Args:
        runs: Finished runs. Those of before a report had its recipe are groups of their own.
    """
    groups: dict[str, dict[int, FinishedRun]] = {}
    names: dict[str, str] = {}
    for number, run in enumerate(runs):
        key, seed = _without_seed(run) or (str(number), 0)
        groups.setdefault(key, {}).setdefault(seed, run)
        names.setdefault(key, re.sub(r"[-_]?seed[-_=]?\d+", "", run.name) or run.name)
    if len(set(names.values())) < len(names):
        names = {key: next(iter(members.values())).name for key, members in groups.items()}
    return [Setting(names[key], dict(sorted(members.items()))) for key, members in groups.items()]


def _without_seed(run):
    recipe, data = run.report.get("recipe"), run.report.get("data", {})
    if not isinstance(recipe, dict) or not isinstance(recipe.get("seed"), int):
        return None
    same = {name: value for name, value in recipe.items() if name != "seed"}
    backend = run.report.get("environment", {}).get("backend")
    return json.dumps([same, backend, data.get("name"), data.get("files"), run.report.get("split")]), recipe["seed"]


def mean_table(settings: Sequence[Setting], part: str = JUDGED, unit: str = "seeds") -> Table:
    """Head and rows: a row per setting, the number of its seeds, its minutes, and means with t intervals.

    Args:
        settings: With a run each, at least.
        part: Of a report: `metrics`, or `validation_metrics`.
        unit: What its runs differ by: `seeds` or `folds`.
    """
    known = {name for one in settings for run in one.runs.values() for name in run.report[part]}
    names = [name for name in SHOWN if name in known]
    rows = []
    for one in settings:
        minutes = [run.report["training"]["seconds"] / 60 for run in one.runs.values()]
        spent = f"{sum(minutes) / len(minutes):.1f}" if minutes else ""
        rows.append([one.name, len(one.runs), spent, *(shown(one.mean(name, part)) for name in names)])
    return ["setting", unit, "minutes", *map(words, names)], rows


def paired_table(
    first: Setting, others: Sequence[Setting], metric: str, part: str = JUDGED, folds: int | None = None
) -> Table:
    """Head and rows: one setting compared with each other one, on the seeds or folds that both have.

    Args:
        first: The setting.
        others: The others.
        metric: The metric whose difference is tested.
        part: See `mean_table`. McNemar's test is on the images of `predictions.csv`, whatever split that is of.
        folds: Number of folds of the data, whose images are tested together; None for seeds, tested one by one.
    """
    unit, tested = ("seeds", "McNemar's p by seed") if folds is None else ("folds", "McNemar's p, out of fold")
    head = ["first", "second", unit, f"{words(metric)}, first minus second", "p, paired t", tested]
    rows = []
    for other in others:
        seeds = [seed for seed in first.runs if seed in other.runs]
        if not seeds:
            rows.append([first.name, other.name, 0, f"no {unit[:-1]} in common", "", ""])
            continue
        pair = [one.values(metric, part) for one in (first, other)]
        difference, p = paired_difference(*([values[seed] for seed in seeds] for values in pair), folds=folds)
        answers = [[one.runs[seed].answers for seed in seeds] for one in (first, other)]
        if folds is not None:
            answers = [[dict(itertools.chain.from_iterable(map(dict.items, parts)))] for parts in answers]
        images = ", ".join(map(_mcnemar, *answers))
        rows.append([first.name, other.name, len(seeds), _signed(difference), "none" if math.isnan(p) else f"{p:.2g}"])
        rows[-1].append(images)
    return head, rows


def _mcnemar(first, second):
    import numpy as np

    shared = sorted(first.keys() & second.keys())
    if not shared:
        return "no image in common"
    return f"{mcnemar(*(np.array([answers[image] for image in shared]) for answers in (first, second)))[2]:.2g}"


def _signed(difference):
    value, low, high = difference
    if not math.isfinite(value):
        return "none"
    return f"{value:+.3f}  ({low:+.3f} to {high:+.3f})" if math.isfinite(low) else f"{value:+.3f}"
