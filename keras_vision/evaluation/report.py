"""`report.json` and `report.html`: what ran, on what, how well, and where it fails."""

import base64
import html
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from keras_vision.evaluation import figures as draw
from keras_vision.evaluation.judge import Judgement, interval
from keras_vision.evaluation.operating_point import OperatingPoint

LONGEST_TABLE = 100  # Rows of what may be thousands.
HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "auc")


@dataclass(frozen=True)
class Report:
    """Everything that a person wants to know of a finished run.

    Attributes:
        title: One line, such as "derma, recipe baseline".
        recipe: The recipe as nested dicts.
        environment: Versions, backend, machine.
        data: `name`, `description`, `licence`, `files` of the source, and `counts`, `{split: images per class}`.
        class_names: Names of the classes.
        epochs: The training history, one dict an epoch.
        best_epoch: The epoch, counted from 1, whose weights were judged.
        train_seconds: Wall-clock seconds of the training.
        parameters: Number of the model's parameters.
        split: Name of the split that was judged.
        judgement: The figures.
        validation: The figures on the validation split, to choose between recipes by.
        training_accuracy: Accuracy of the finished model on training images as they are: what lies above the validation
            split's was learnt by heart.
        labels: Int array, shape `(N,)`, of the judged split.
        probabilities: Float array, shape `(N, K)`.
        images: uint8 images of the judged split, `(N, H, W, C)` or `(N, D, H, W, C)`.
        num_mistakes: How many of the surest mistakes to show.
        caution: What keeps the figures from meaning what they seem to, a sentence.
        operating_point: Of two classes, how well the one that is looked for is found.
        heatmaps: What the heatmaps are of, a sentence; None where there are none.
        heatmap_figures: `{name: matplotlib figure}`; one called `surest_mistakes` takes the place of the plain one.
        faithfulness: What is known of each method's heatmaps: `method`, `insertion`, `deletion` and more.
        data_report: What was found in the data: `files`, `set_aside` (`{name: reason}`), `remarks`, `leaks`,
            `dropped_from_train`; None where nobody looked.
        leak_pairs: The first leaks as pictures, uint8, shape `(P, 2, H, W, C)`.
        files: What is known of each .tflite file: `scheme`, `kind`, `bytes`, `figures` and more.
    """

    title: str
    recipe: dict
    environment: dict
    data: dict
    class_names: tuple[str, ...]
    epochs: tuple[dict, ...]
    best_epoch: int
    train_seconds: float
    parameters: int
    split: str
    judgement: Judgement
    validation: Judgement
    training_accuracy: float
    labels: np.ndarray
    probabilities: np.ndarray
    images: np.ndarray
    num_mistakes: int = 24
    caution: str | None = None
    operating_point: OperatingPoint | None = None
    heatmaps: str | None = None
    heatmap_figures: dict[str, Figure] = field(default_factory=dict)
    faithfulness: tuple[dict, ...] = ()
    files: tuple[dict, ...] = ()
    data_report: dict | None = None
    leak_pairs: np.ndarray | None = None

    def to_dict(self):
        """The report's figures as JSON-ready values; a figure is `{"value": ..., "low": ..., "high": ...}`."""
        calibration = self.judgement.calibration
        return {
            "title": self.title,
            "data": self.data,
            "caution": self.caution,
            "class_names": list(self.class_names),
            "split": self.split,
            "images": len(self.labels),
            "figures": {name: interval(values) for name, values in self.judgement.figures.items()},
            "validation_figures": {name: interval(values) for name, values in self.validation.figures.items()},
            "classes": [
                {
                    "name": name,
                    **{key: interval(part) if isinstance(part, tuple) else part for key, part in row.items()},
                }
                for name, row in zip(self.class_names, self.judgement.classes, strict=True)
            ],
            "confusion_matrix": self.judgement.confusion.tolist(),
            "operating_point": self._operating_point(),
            "reliability": {
                "confidence": calibration.confidence.tolist(),
                "accuracy": calibration.accuracy.tolist(),
                "count": calibration.count.tolist(),
            },
            "training": {
                "epochs": len(self.epochs),
                "best_epoch": self.best_epoch,
                "seconds": self.train_seconds,
                "parameters": self.parameters,
                "accuracy": self.training_accuracy,
            },
            "heatmaps": self.heatmaps,
            "faithfulness": list(self.faithfulness),
            "tflite": list(self.files),
            "data_report": self.data_report,
            "recipe": self.recipe,
            "environment": self.environment,
        }

    def _operating_point(self):
        point = self.operating_point
        return point and {
            "positive": self.class_names[point.positive],
            "threshold": point.threshold,
            "at_threshold": {name: interval(values) for name, values in point.chosen.items()},
            "at_one_half": {name: interval(values) for name, values in point.half.items()},
        }

    def surest_mistakes(self):
        """Rows of the judged split that are wrong, the most confident first."""
        confidence, predicted = self.probabilities.max(axis=1), self.probabilities.argmax(axis=1)
        wrong = np.flatnonzero(predicted != self.labels)
        return wrong[np.argsort(-confidence[wrong], kind="stable")][: self.num_mistakes]

    def summary(self):
        """The last lines of a run in the terminal."""
        lines = [f"{self.data['name']}, {self.split} split, {len(self.labels)} images (95 % intervals)"]
        lines += [self.caution] if self.caution else []
        for name in HEADLINE:
            lines.append(f"  {words(name):<18} {_shown(self.judgement.figures[name])}")
        if self.operating_point:
            found = self.operating_point
            lines.append(f"Finding {self.class_names[found.positive]!r}, threshold {found.threshold:.3f} by validation")
            lines += [f"  {name:<18} {_shown(values)}" for name, values in found.chosen.items()]
        if self.files:
            head, rows = files_table(self.files)
            lines += ["", "Files for phones, against the float model on the same images", text_table(head, rows)]
        return "\n".join(lines)

    def write(self, folder):
        """Writes `report.json`, `report.html` and `figures/*.png` into a folder."""
        folder = Path(folder)
        pictures = folder / "figures"
        pictures.mkdir(exist_ok=True)
        shown = {}
        for name, figure in self._figures().items():
            shown[name] = png(figure)
            (pictures / f"{name}.png").write_bytes(shown[name])
        (folder / "report.html").write_text(_page(self, shown), "utf-8")
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", "utf-8")

    def _figures(self):
        figures = {
            "learning_curves": draw.learning_curves({"": list(self.epochs)}),
            "confusion_matrix": draw.confusion(self.judgement.confusion, self.class_names),
            "reliability": draw.reliability_curve(self.judgement.calibration),
            "class_balance": draw.class_balance(self.data["counts"], self.class_names),
        }
        if self.operating_point:
            figures["roc_curve"] = draw.roc_curve(self.operating_point)
        rows = self.surest_mistakes()
        if len(rows):
            figures["surest_mistakes"] = draw.gallery(self.images[rows], [self._caption(row) for row in rows])
        if self.leak_pairs is not None and len(self.leak_pairs):
            captions = [_leak_caption(leak) for leak in (self.data_report or {})["leaks"]]
            figures["leaks"] = draw.pairs(self.leak_pairs, captions)
        return figures | self.heatmap_figures

    def _caption(self, row):
        predicted = int(self.probabilities[row].argmax())
        return (
            f"true: {draw.shorten(self.class_names[self.labels[row]], 20)}\n"
            f"said: {draw.shorten(self.class_names[predicted], 20)}\n"
            f"{100 * self.probabilities[row, predicted]:.0f} % sure"
        )


def _leak_caption(leak):
    names = "\n".join(f"{split}: {draw.shorten(name, 34)}" for split, name in leak["pictures"].items())
    return f"{names}\n{_likeness(leak)}"


def _likeness(leak):
    return "the same pixels" if leak["exact"] else f"likeness {leak['likeness']:.2f}"


def words(name):
    """A figure's name as a person writes it."""
    known = {"auc": "AUC", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}
    return known[name] if name in known else name.replace("_", " ")


def _shown(values):
    value, low, high = values
    if value is None or not math.isfinite(value):
        return "none"
    if low is None or not math.isfinite(low):
        return f"{value:.3f}"
    return f"{value:.3f}  ({low:.3f} to {high:.3f})"


def files_table(files):
    """Head and rows: a row a file, its cost in accuracy, bytes and time."""
    head = ["scheme", "kind", "accuracy", "drop", *map(words, HEADLINE[1:])]
    head += ["changed", "McNemar's p", "as simulated", "same reasons", "bytes", "ratio", "ms, 1 and 2 threads"]
    rows = []
    for file in files:
        figures = [_shown(tuple(file["figures"][name].values())) for name in HEADLINE]
        milliseconds = " and ".join(f"{value:.3f}" for value in file["milliseconds"].values())
        rows.append(
            [
                file["scheme"],
                file["kind"],
                figures[0],
                f"{file['accuracy_drop_points']:+.2f} points",
                *figures[1:],
                f"{100 * file['changed']:.2f} %",
                f"{file['mcnemar_p']:.2g}",
                _simulated(file.get("simulation")),
                _reasons(file.get("heatmaps")),
                f"{file['bytes']:,}",
                f"{file['bytes_ratio']:.3f}",
                milliseconds,
            ]
        )
    return head, rows


def _simulated(found):
    if found is None:
        return "-"
    return f"{100 * found['same_class']:.2f} % of classes, {100 * found['within_a_step']:.2f} % of scores"


def _reasons(found):
    if not found:
        return "-"
    return "; ".join(f"{name} {row['cosine']:.3f}, {row['top_overlap']:.3f}" for name, row in found.items())


def text_table(head, rows):
    """A table for the terminal."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=draw.DOTS_PER_INCH)
    return buffer.getvalue()


def page(title, body):
    """A self-contained HTML page: no script, no font and no picture from elsewhere."""
    return _TEMPLATE.format(title=html.escape(title), body=body)


def picture(name, png):
    """An image element that carries its PNG bytes."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(words(name))}" src="data:image/png;base64,{data}">'


def table(head, rows):
    """An HTML table; cells are text, the first column is left-aligned."""
    cells = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
    lines = ["<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _page(report, pictures):
    data, judgement = report.data, report.judgement
    figures = [
        (words(name), _shown(values), _shown(report.validation.figures[name]))
        for name, values in judgement.figures.items()
    ]
    classes = [
        (name, row["support"], *(_shown(row[key]) for key in ("precision", "recall", "f1", "auc")))
        for name, row in zip(report.class_names, judgement.classes, strict=True)
    ]
    knobs = [
        (group, name, value)
        for group, values in report.recipe.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    ]
    files = (
        "; ".join(f"{name} (SHA-256 {digest})" for name, digest in data["files"].items()) or "none: drawn from a seed"
    )
    wrong = int(np.sum(report.probabilities.argmax(axis=1) != report.labels))
    mistakes = f"<p>{wrong} images were misclassified.</p>"
    if "surest_mistakes" in pictures:
        shown = len(report.surest_mistakes())
        mistakes = f"<p>{shown} of {wrong} misclassified images, the most confident first.</p>" + picture(
            "surest_mistakes", pictures["surest_mistakes"]
        )
    minutes = report.train_seconds / 60
    body = f"""
<h1>{html.escape(report.title)}</h1>
<p class="lead">Data: <b>{html.escape(data["name"])}</b>. {html.escape(data["description"])}.
{report.parameters:,} parameters, {len(report.epochs)} epochs in {minutes:.1f} minutes
(weights of epoch {report.best_epoch}), backend {html.escape(str(report.environment["backend"]))}.</p>
{f"<p><b>{html.escape(report.caution)}</b></p>" if report.caution else ""}
<h2>Figures on the {html.escape(report.split)} split</h2>
<p>{len(report.labels)} images; 95 % bootstrap intervals over these images. Beside them the validation split, which is
there to choose by.</p>
{table(("figure", f"{report.split} (95 % interval)", "validation"), figures)}
<h2>Learning curves</h2>
{picture("learning_curves", pictures["learning_curves"])}
<p>The finished model's accuracy on training images as they are is {report.training_accuracy:.3f}, on the validation
split {report.validation.figures["accuracy"][0]:.3f}: the difference was learnt by heart. The training's curve is
taken while the weights change, on augmented images and under dropout where the recipe has them.</p>
<h2>Confusion matrix</h2>
{picture("confusion_matrix", pictures["confusion_matrix"])}
<h2>Each class</h2>
{table(("class", "images", "precision", "recall", "F1", "AUC"), classes)}
{_detector(report, pictures)}
<h2>Surest mistakes</h2>
{mistakes}
{_heatmaps(report, pictures)}
<h2>Are the probabilities to be believed?</h2>
<p>Of the images that the model is 80 % sure of, 80 % should be right. The expected calibration error is the mean
distance from that.</p>
{picture("reliability", pictures["reliability"])}
{_files(report)}
<h2>Data</h2>
<p>Licence: {html.escape(data["licence"])}. Files: {html.escape(files)}.</p>
{picture("class_balance", pictures["class_balance"])}
{_data(report.data_report, pictures)}
<h2>Recipe</h2>
{table(("part", "knob", "value"), knobs)}
<h2>Environment</h2>
{table(("what", "version"), report.environment.items())}
"""
    return page(report.title, body)


def _detector(report, pictures):
    """The section about finding one of two classes, if there are two."""
    point = report.operating_point
    if point is None:
        return ""
    name = html.escape(report.class_names[point.positive])
    rows = [(rate, _shown(values), _shown(point.half[rate])) for rate, values in point.chosen.items()]
    head = ("", f"from a probability of {point.threshold:.3f} (95 % interval)", "from one half")
    return f"""<h2>How well is {name} found?</h2>
<p>Sensitivity: the share of {name} that is found. Specificity: the share of the others that is left alone. The
threshold has the largest sum of both on the validation split.</p>
{table(head, rows)}
{picture("roc_curve", pictures["roc_curve"])}"""


def _data(found, pictures):
    """What was found in the files and between the splits, if anybody looked."""
    if found is None:
        return ""
    parts = [
        _files_table("Files set aside", f"{len(found['set_aside'])} of {found['files']} files.", found["set_aside"]),
        _files_table("Files taken otherwise than they say", "", found["remarks"]),
    ]
    if found["leaks"] is not None:
        parts.append(_leaks(found, pictures))
    return "\n".join(parts)


def _files_table(title, text, named):
    if not named:
        return ""
    rows = list(named.items())[:LONGEST_TABLE]
    more = f" The first {len(rows)}; data_report.json has all." if len(named) > len(rows) else ""
    return f"<h3>{title}</h3><p>{text}{more}</p>{table(('file', 'reason'), rows)}"


def _leaks(found, pictures):
    leaks = found["leaks"]
    if not leaks:
        return "<h3>Leaks</h3><p>No picture, turned or mirrored, was found in two splits.</p>"
    rows = [
        (
            " and ".join(leak["pictures"]),
            *leak["pictures"].values(),
            _likeness(leak),
            "same" if leak["same_class"] else "differ",
        )
        for leak in leaks[:LONGEST_TABLE]
    ]
    exact = sum(leak["exact"] for leak in leaks)
    return f"""<h3>Leaks</h3>
<p>{exact} exact and {len(leaks) - exact} near duplicates stand in two splits, turned or mirrored or not; figures on
the second split are the better for each. {found["dropped_from_train"]} pictures were dropped from train for it.
Likeness: correlation of the details of both; the likest first, at most {LONGEST_TABLE}.</p>
{picture("leaks", pictures["leaks"])}
{table(("splits", "first", "second", "likeness", "classes"), rows)}"""


def _heatmaps(report, pictures):
    """The section about heatmaps, if there are any."""
    if report.heatmaps is None:
        return ""
    shown = picture("heatmaps", pictures["heatmaps"]) if "heatmaps" in pictures else ""
    judged = ""
    if report.faithfulness:
        head = ("heatmaps", "insertion, more is better", "deletion, less", "ROAD, more", "after shuffling, less")
        rows = [
            (
                row["method"],
                *(f"{row[key]:.3f}" for key in ("insertion", "deletion", "road")),
                "-" if row["after_shuffling"] is None else f"{row['after_shuffling']:.3f}",
            )
            for row in report.faithfulness
        ]
        judged = f"""<h3>Are the heatmaps to be believed?</h3>
<p>{report.faithfulness[0]["images"]} images were changed where the heatmaps say, and the model was asked again.
Insertion and deletion: the predicted class's mean probability while the hottest pixels come to a blurred picture, or
leave the picture. ROAD: its loss when the hottest pixels are imputed, less the loss for the coldest. After shuffling:
rank correlation with the heatmaps of the same network with shuffled weights. A method is worth what it is better than
random heatmaps.</p>
{table(head, rows)}"""
    return f"""<h2>Why? Heatmaps</h2>
<p>{html.escape(report.heatmaps)}</p>
{shown}
{judged}"""


def _files(report):
    """The section about .tflite files, if there are any."""
    if not report.files:
        return ""
    head, rows = files_table(report.files)
    columns = list(zip(head, *rows, strict=True))  # Many figures and few files read better side by side.
    classes = [
        (name, *(f"-{file['classes'][label]['lost']} +{file['classes'][label]['won']}" for file in report.files))
        for label, name in enumerate(report.class_names)
    ]
    traced = [
        f"<h3>{html.escape(file['scheme'])}: where the integers leave the floats</h3>"
        + table(
            ("tensor, worst first", "relative error"),
            [(row["tensor"], f"{row['relative_error']:.4f}") for row in file["tensor_errors"]],
        )
        for file in report.files
        if "tensor_errors" in file
    ]
    schemes = [file["scheme"] for file in report.files]
    return f"""<h2>Files for phones</h2>
<p>Each file in <code>tflite/</code> was run by LiteRT on the {len(report.labels)} images of the
{html.escape(report.split)} split and held against the float model. "As simulated": an integer file gives
the class, and within one step of 1/256 the scores, that its network with fake quantization gives.
"Same reasons": cosine of the float model's heatmaps and the file's, and the share of the hottest fifth that both
have; Score-CAM asks the file itself, Grad-CAM its network with fake quantization.
Times are of this machine, one image a call.</p>
{table(columns[0], columns[1:])}
<h3>Images lost (-) and won (+), by class</h3>
{table(("class", *schemes), classes)}
{"".join(traced)}
<p>Relative error: the root mean square of the difference, over that of the float values. Logits that are nothing as
probabilities are cut off on purpose, so that the steps are finer where they count: their error includes that.</p>"""


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em; }}
h1 {{ margin-bottom: 0.2em; }}
h2 {{ margin-top: 1.8em; border-bottom: 1px solid #ddd; }}
.lead {{ color: #444; }}
img {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid #eee; }}
td {{ font-variant-numeric: tabular-nums; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
