"""What a finished run reports: its metrics, and what they say."""

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_vision.data.data_report import DataReport
from keras_vision.data.splits import Fold
from keras_vision.evaluation import (
    Agreement,
    Gap,
    Judgement,
    OperatingPoint,
    Selective,
    Temperature,
    accuracy_gap,
    agreement,
)
from keras_vision.pipeline import fonts, plots, unsure
from keras_vision.pipeline.averaging import Averaged
from keras_vision.pipeline.exports import exports_table, refusals
from keras_vision.pipeline.heatmaps import MethodResult
from keras_vision.pipeline.progress import Interruption
from keras_vision.pipeline.tables import counted, duration, intervals, shown, text_table, words
from keras_vision.pipeline.tflite_files import FileResult, short_files_table
from keras_vision.quantization.exporting import Exported
from keras_vision.training import Profile

MOST_INTERRUPTIONS = 3  # Of those that the report names one by one.
NO_LABEL = "no label"
MOST_ABSENT = 5  # Of the classes without images that a sentence names.
# On 300 drawn data sets of six images a group, 95 % intervals that are resampled by group contain the true accuracy in
# 86 % with 5 groups, 88 % with 10, 91 % with 20 and 93 % with 40; those over images in 79 %.
FEW_GROUPS = 10
FEW_IMAGES = 100  # With fewer the 95 % interval of an accuracy is wider than 10 points either way.


@dataclass(frozen=True)
class Report:
    """Everything that a person wants to know of a finished run.

    Attributes:
        track: Name of the track and its recipe, such as "derma, recipe baseline, augmented".
        recipe: The recipe as nested dicts.
        environment: Versions, backend, machine.
        data: `name`, `description`, `licence`, `files` of the source, and `counts`, `{split: images per class}`.
        class_names: Names of the classes.
        epochs: The training history, one dict an epoch.
        best_epoch: The epoch, counted from 1, whose weights were kept.
        train_seconds: Wall-clock seconds of the training.
        parameters: Number of the model's parameters.
        split: Name of the evaluated split.
        judgement: The metrics.
        validation: The metrics on the validation split, for choosing between recipes.
        training_correct: How many of `training_images` the finished model classifies correctly without augmentation.
        training_images: How many training images it was asked about.
        labels: Int array, shape `(N,)`, of the evaluated split.
        probabilities: Float array, shape `(N, K)`.
        images: uint8 images of the evaluated split, `(N, H, W, C)` or `(N, D, H, W, C)`.
        num_mistakes: How many misclassified images to show.
        caution: One sentence on why the metrics do not mean what they seem to; None where they do.
        operating_point: For two classes, sensitivity and specificity.
        temperature: What dividing the logits by a temperature did to the scores; None where they are as trained.
        selective: Where the model is unsure; None where nobody asked, or images can have several labels.
        averaged: The model with probabilities averaged over flips and turns; None where nobody asked.
        heatmaps: What the heatmaps show, a sentence; None where there are none.
        heatmap_plots: `{name: PNG file}`; one called `surest_mistakes` replaces the plain one.
        faithfulness: How far each method's heatmaps can be trusted.
        data_report: What was found in the data; None where nobody looked.
        files: The .tflite files and how they compare with the model.
        exports: The files for other runtimes, and how they compare with the model.
        profile: Where the time of an epoch goes; None where it was not measured.
        interruptions: Where the run was interrupted.
        checkpoints: How many checkpoints the last session wrote, and the seconds that this took.
        exact: Whether an interrupted training has the numbers of an uninterrupted one on this backend.
        true_statistics: Whether the normalizations' statistics were re-estimated before each validation.
        fold: The part of cross-validation that is the test split; None where that is the data's.
        members: Names of the runs that it is an ensemble of; empty for a network that was trained.
    """

    track: str
    recipe: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    class_names: tuple[str, ...]
    epochs: tuple[dict[str, float], ...]
    best_epoch: int
    train_seconds: float
    parameters: int
    split: str
    judgement: Any  # A `Judgement`, or in a `LabelsReport` a `LabelsJudgement`.
    validation: Any
    training_correct: int
    training_images: int
    labels: np.ndarray
    probabilities: np.ndarray
    images: Any
    num_mistakes: int = 24
    caution: str | None = None
    operating_point: OperatingPoint | None = None
    temperature: Temperature | None = None
    selective: Selective | None = None
    averaged: Averaged | None = None
    heatmaps: str | None = None
    heatmap_plots: dict[str, bytes] = field(default_factory=dict)
    faithfulness: tuple[MethodResult, ...] = ()
    files: tuple[FileResult, ...] = ()
    exports: tuple[Exported, ...] = ()
    data_report: DataReport | None = None
    profile: Profile | None = None
    interruptions: tuple[Interruption, ...] = ()
    checkpoints: tuple[int, float] = (0, 0.0)
    exact: bool = True
    true_statistics: bool = False
    fold: Fold | None = None
    members: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The report's title: the name of the data."""
        return str(self.data["name"])

    @property
    def names(self) -> np.ndarray | None:
        """Names of the evaluated images' files; None where images have none."""
        return self.data_report.names.get(self.split) if self.data_report else None

    @property
    def main(self) -> str:
        """The metric that says how often the model is right: `accuracy`."""
        return self.judgement.main

    @property
    def groups(self) -> np.ndarray | None:
        """The groups of the evaluated images; None where none are known."""
        return self.data_report.groups.get(self.split) if self.data_report else None

    @property
    def training_accuracy(self) -> float:
        """Accuracy of the finished model on training images without augmentation."""
        return self.training_correct / self.training_images

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent answer in the evaluated split, and how often it is right."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return self.class_names[int(counts.argmax())], float(counts.max() / counts.sum())

    @property
    def overfitting(self) -> Gap:
        """Accuracy on training images minus accuracy on the validation split."""
        return accuracy_gap(
            self.training_correct,
            self.training_images,
            self.validation.correct,
            self.validation.images,
            effective_second=self.validation.effective,
        )

    @property
    def shift(self) -> Gap | None:
        """Accuracy on the validation split minus accuracy on the test split; None where only one was evaluated."""
        if self.split == "val":
            return None
        return accuracy_gap(
            self.validation.correct,
            self.validation.images,
            self.judgement.correct,
            self.judgement.images,
            effective_first=self.validation.effective,
            effective_second=self.judgement.effective,
        )

    @property
    def absent_classes(self) -> list[str]:
        """Names of the classes that have no image in the evaluated split."""
        return [name for name, row in self.named_classes() if not row.support]

    def absence(self, judgement: Judgement, split: str) -> str | None:
        """Which classes a split has no image of, and what the averages are then, in a sentence; None if it has all."""
        absent = [name for name, row in zip(self.class_names, judgement.classes, strict=True) if not row.support]
        if not absent:
            return None
        classes, others = len(self.class_names), len(self.class_names) - len(absent)
        named = ", ".join(absent[:MOST_ABSENT])
        more = f" and {len(absent) - MOST_ABSENT:,} more" if len(absent) > MOST_ABSENT else ""
        return (
            f"{len(absent):,} of {classes:,} classes {'has' if len(absent) == 1 else 'have'} no image in the {split} "
            f"split ({named}{more}): balanced accuracy, the macro averages and AUC there are means over the other "
            f"{others:,}."
        )

    def findings(self) -> list[str]:
        """What the metrics say, a sentence or two each; differences are named only where a test shows them."""
        return [text for text in self._findings() if text]

    def _findings(self):
        yield self.caution
        yield self.fold and self.fold.sentence()
        name, share = self.majority
        accuracy, count, called = self.judgement.metrics[self.main], len(self.labels), words(self.main)
        yield self._few_groups()
        if count < FEW_IMAGES and math.isfinite(accuracy.low):
            yield (
                f"{counted(count, 'image')} in the {self.split} split are too few for exact metrics: the {called} "
                f"could as well be {accuracy.low:.2f} or {accuracy.high:.2f}."
            )
        if accuracy.low <= share:
            word = "below" if accuracy.value < share else "not clearly above"
            yield f"The {called}, {accuracy.value:.3f}, is {word} the {share:.3f} of always predicting {name}."
        yield self.absence(self.judgement, self.split)
        gap = self.overfitting
        if gap.significant and gap.difference > 0:
            yield (
                f"Overfitting: {called} is {gap.first:.3f} on training images and {gap.second:.3f} on the validation "
                f"split, a gap of {gap.difference:.3f} (95 % interval {gap.low:.3f} to {gap.high:.3f})."
            )
        if (gap := self.shift) and gap.significant:
            word = "harder" if gap.difference > 0 else "easier"
            yield (
                f"The {self.split} split is {word} than the validation split: {called} {gap.second:.3f} against "
                f"{gap.first:.3f}, a difference of {abs(gap.difference):.3f} that chance does not explain. The splits "
                "may differ in their sources, or many choices were made on the validation split."
            )
        yield self._weakest()
        yield self._broken_promise()
        yield self._leaks()

    def _few_groups(self):
        """That intervals from few groups are too narrow, or that one group has none."""
        groups = self.judgement.groups
        if groups is None or groups >= FEW_GROUPS:
            return None
        if groups == 1:
            return (
                f"All images of the {self.split} split are of one group, so there are no intervals: nothing shows how "
                "the metrics would be for another group."
            )
        return (
            f"The {self.split} split has only {counted(groups, 'group')} of images. The intervals are resampled by "
            "group, and from so few they are too narrow."
        )

    def _weakest(self):
        """The class whose images are missed most, and what they are taken for."""
        present = [(row.recall.value, label) for label, row in enumerate(self.judgement.classes) if row.support]
        recall, label = min(present)
        if recall == 1:
            return None
        missed = np.array(self.judgement.confusion[label])
        missed[label] = 0
        other = int(missed.argmax())
        same = sum(value == recall for value, _ in present) - 1
        others = f" (as for {counted(same, 'other class')})" if same else ""
        support = counted(self.judgement.classes[label].support, "image")
        return (
            f"Weakest class: {self.class_names[label]}, of which {recall:.0%} of {support} are found{others}; most "
            f"often it is classified as {self.class_names[other]} ({counted(missed[other], 'image')})."
        )

    def _broken_promise(self):
        """That the answers are wrong more often than validation promised."""
        if self.selective is None or not self.selective.is_broken:
            return None
        error, target = self.selective.error, self.selective.threshold.target_error
        return (
            f"Where the model is sure enough to answer, {error.value:.3f} of its answers are wrong on the {self.split} "
            f"split (95 % interval {error.low:.3f} to {error.high:.3f}), more than the {target:.3g} that validation "
            "promised: do not rely on where it is unsure."
        )

    def _leaks(self):
        found = self.data_report
        # Images that were removed from train are still listed.
        dropped = found is not None and found.dropped
        left = [leak for leak in (found.leaks or () if found else ()) if not (dropped and leak.splits[0] == "train")]
        if not left:
            return None
        removable = any(leak.splits[0] == "train" for leak in left)
        return (
            f"{counted(len(left), 'pair')} of equal or nearly equal images in two splits: the metrics are too good. "
            + ("--drop-leaks removes them from train." if removable else "Remove one image of each pair.")
        )

    def advice(self) -> list[str]:
        """What to try next, a sentence each."""
        return list(self._advice())

    def _advice(self):
        gap, recipe = self.overfitting, self.recipe
        if len(self.labels) < FEW_IMAGES:
            yield "Add images before anything else: with more test images the metrics become exact enough to compare."
        if gap.significant and gap.difference > 0:
            augment = "" if recipe["augment"] else "--augment, "
            yield f"Against overfitting: {augment}more images, or a smaller network (--width)."
        elif self.judgement.metrics[self.main].low <= self.majority[1] and not self.caution:
            yield "The network has learned little: train longer (--epochs), or try --find-learning-rate."
        if recipe["training"]["class_weight"] == "none" and self._misses_rare_classes():
            yield "Rare classes are missed more often than frequent ones: try --class-weight balanced, or 0.3."
        yield (
            "Metrics vary between seeds: repeat the run with --seed 1 and --seed 2 before comparing recipes, and "
            "choose between recipes with --judge-on val."
        )
        if not self.files:
            yield "--qat also writes .tflite files for phones and compares each with this model."

    def _misses_rare_classes(self):
        balanced, accuracy = (self.judgement.metrics[name].value for name in ("balanced_accuracy", "accuracy"))
        return accuracy - balanced > 0.1

    def agreement(self, probabilities: np.ndarray, *, resamples: int, seed: int) -> Agreement:
        """How a file's probabilities of the evaluated images compare with the model's."""
        ordered = self.judgement.ordered
        how = {"groups": self.groups, "ordered": ordered, "resamples": resamples, "seed": seed}
        return agreement(self.labels, self.probabilities, probabilities, **how)

    def decisions(self, row: int) -> tuple[list[int], list[int]]:
        """True and predicted labels of an image of the evaluated split."""
        return [int(self.labels[row])], [int(self.probabilities[row].argmax())]

    def named(self, labels: Iterable[int]) -> str:
        """Names of an image's labels, such as `cat, dog`."""
        return ", ".join(self.class_names[label] for label in labels) or NO_LABEL

    @property
    def wrong(self) -> np.ndarray:
        """Rows of the evaluated split that are misclassified."""
        return np.flatnonzero(self.probabilities.argmax(axis=1) != self.labels)

    @property
    def confidence(self) -> np.ndarray:
        """How sure the model is of its answer to each image, shape `(N,)`."""
        return self.probabilities.max(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values; a metric is `{"value": ..., "low": ..., "high": ...}`."""
        calibration, (majority_class, majority_share) = self.judgement.calibration, self.majority
        return {
            "title": self.title,
            "track": self.track,
            "data": self.data,
            "caution": self.caution,
            "findings": self.findings(),
            "class_names": list(self.class_names),
            "split": self.split,
            "fold": self.fold and self.fold.to_dict(),
            "images": len(self.labels),
            "main_metric": self.main,
            "groups": self.judgement.groups,
            "metrics": self.judgement.to_dict(),
            "majority_class": {"name": majority_class, "accuracy": majority_share},
            "validation_metrics": self.validation.to_dict(),
            "classes": [
                {"name": name, **row.to_dict()}
                for name, row in zip(self.class_names, self.judgement.classes, strict=True)
            ],
            "absent_classes": self.absent_classes,
            **self._class_details(),
            "operating_point": self.operating_point and self.operating_point.to_dict(self.class_names),
            "temperature": self.temperature and self.temperature.to_dict(),
            "unsure": self.selective and self.selective.to_dict(),
            "averaged": self.averaged and self.averaged.to_dict(self.class_names),
            "reliability": {
                "confidence": calibration.confidence.tolist(),
                "accuracy": calibration.accuracy.tolist(),
                "count": calibration.count.tolist(),
            },
            "training": {
                "epochs": len(self.epochs),
                "best_epoch": self.best_epoch,
                "seconds": self.train_seconds,
                "true_statistics": self.true_statistics,
                "parameters": self.parameters,
                "checkpoints": dict(zip(("written", "seconds"), self.checkpoints, strict=True)),
                "accuracy": self.training_accuracy,
            },
            "members": list(self.members),
            "interruptions": [asdict(one) for one in self.interruptions],
            "profile": self.profile and self.profile.to_dict(),
            "heatmaps": self.heatmaps,
            "faithfulness": [row.to_dict() for row in self.faithfulness],
            "tflite": [row.to_dict(self.class_names) for row in self.files],
            "exports": [row.to_dict() for row in self.exports],
            "data_report": None if self.data_report is None else self.data_report.to_dict(),
            "recipe": self.recipe,
            "environment": self.environment,
        }

    def _class_details(self):
        return {"confusion_matrix": self.judgement.confusion.tolist()}

    def surest_mistakes(self) -> np.ndarray:
        """Rows of the evaluated split that are misclassified, the most confident first."""
        wrong = self.wrong
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][: self.num_mistakes]

    def named_classes(self) -> list[tuple[str, Any]]:
        """The metrics of each class beside its name."""
        return list(zip(self.class_names, self.judgement.classes, strict=True))

    def worst_first(self) -> list[int]:
        """Labels of the classes by F1, the lowest first; those without images are last."""
        rows = self.judgement.classes
        return sorted(range(len(rows)), key=lambda label: (not rows[label].support, rows[label].f1.value))

    def summary(self) -> str:
        """The last lines of a run in the terminal."""
        name, share = self.majority
        found = self.judgement
        lines = [f"{self.title}, {self.split} split, {len(self.labels)} images ({intervals(found)})"]
        lines += [f"  {words(metric):<18} {shown(found.metrics[metric])}" for metric in found.headline]
        lines.append(f"  always predicting {name} would give {words(self.main)} {share:.3f}")
        if point := self.operating_point:
            lines.append(
                f"Detecting {self.class_names[point.positive]!r}, threshold {point.threshold:.3f} from validation"
            )
            lines += [f"  {rate:<18} {shown(values)}" for rate, values in point.chosen.items()]
        if self.selective and self.selective.threshold.value is not None:
            lines.append(unsure.sentence(self.selective, self.split))
        if self.averaged:
            lines.append(f"{self.averaged.sentence(self.split, self.main)} The other metrics are without averaging.")
        lines += self.findings()
        if resumption := self.resumption():
            lines.append(resumption)
        if self.profile:
            lines.append(self.profile.summary())
        if self.files:
            lines += ["", "Files for phones, compared with the float model on the same images"]
            lines.append(text_table(*short_files_table(self.files)))
        if self.exports:
            lines += ["", "Files for other runtimes, compared with the model on the same images"]
            lines += [text_table(*exports_table(self.exports)), *refusals(self.exports)]
        return "\n".join(lines)

    def plots(self) -> dict[str, Figure]:
        """Its plots by name, without those of the heatmaps."""
        drawn = {
            **({"learning_curves": plots.learning_curves({"": list(self.epochs)})} if self.epochs else {}),
            **self._class_plots(),
            "reliability": plots.reliability_curve(self.judgement.calibration),
            "class_balance": plots.class_balance(self.data["counts"], self.class_names),
        }
        if self.operating_point:
            drawn["roc_curve"] = plots.roc_curve(self.operating_point)
        if self.profile:
            drawn["profile"] = self.profile.plot()
        rows = self.surest_mistakes()
        if len(rows):
            names = fonts.class_labels(self.class_names)
            drawn["surest_mistakes"] = plots.gallery(self.images[rows], [self._caption(row, names) for row in rows])
        found = self.data_report
        if found is not None and found.leaks and found.pairs is not None:
            drawn["leaks"] = plots.pairs(found.pairs, [_leak_caption(leak) for leak in found.leaks])
        return {name: figure for name, figure in drawn.items() if name not in self.heatmap_plots}

    def _class_plots(self):
        return {"confusion_matrix": plots.confusion(self.judgement.confusion, self.class_names)}

    def resumption(self) -> str | None:
        """Where the run was interrupted and what that cost, in two sentences; None where it was not."""
        if not self.interruptions:
            return None
        places = [f"during {one.stage}" + (f" (saved: {one.saved})" if one.saved else "") for one in self.interruptions]
        shown_places = "; ".join(places[:MOST_INTERRUPTIONS]) + ("; ..." if len(places) > MOST_INTERRUPTIONS else "")
        lost = duration(sum(one.lost_seconds for one in self.interruptions))
        result = (
            "The numbers are those of an uninterrupted run."
            if self.exact
            else "Two runs differ in the last digits on this backend, so this run may differ from an uninterrupted one."
        )
        return f"Interrupted {counted(len(places), 'time')}: {shown_places}. Work done again: {lost}. {result}"

    def _caption(self, row, names):
        predicted = int(self.probabilities[row].argmax())
        file = "" if self.names is None else f"{plots.shorten(os.path.basename(str(self.names[row])), 24)}\n"
        return (
            f"{file}true: {plots.shorten(names[self.labels[row]], 20)}\n"
            f"predicted: {plots.shorten(names[predicted], 16)}\n"
            f"confidence {self.probabilities[row, predicted]:.0%}"
        )


def _leak_caption(leak):
    sides = zip(leak.splits, leak.names, strict=True)
    names = "\n".join(f"{split}: {plots.shorten(name, 34)}" for split, name in sides)
    return f"{names}\n{likeness(leak)}"


def likeness(leak: Any) -> str:
    """How similar the two images of a `LeakRecord` are, in words."""
    return "same pixels" if leak.exact else f"likeness {leak.likeness:.2f}"
