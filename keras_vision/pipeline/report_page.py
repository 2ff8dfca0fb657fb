"""`report.html`: a stranger's questions in their order, then everything else."""

from pathlib import Path

from keras_vision.data.data_report import DataReport
from keras_vision.evaluation import confused_pairs
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import fonts, plots, unsure
from keras_vision.pipeline.exports import exports_table, refusals
from keras_vision.pipeline.html import contents, folded, page, picture, section, side_by_side, table, text
from keras_vision.pipeline.report import Report, likeness
from keras_vision.pipeline.tables import counted, duration, intervals, shown, transposed, words
from keras_vision.pipeline.tflite_files import files_table, measurably_lower, smallest_equal

LONGEST_TABLE = 100  # Rows of what may be thousands.
MOST_CLASSES = 40  # Rows of a table of classes.
MOST_PAIRS = 20  # Pairs of classes in the table of those that are confused most.


def write_report(report: Report, folder: Path) -> None:
    """Writes the plots, the page and last the JSON file into a run's folder."""
    (folder / run_folder.PLOTS).mkdir(exist_ok=True)
    pngs = {name: plots.png(figure) for name, figure in report.plots().items()} | report.heatmap_plots
    for name, png in pngs.items():
        run_folder.plot_file(folder, name).write_bytes(png)
    (folder / run_folder.PAGE).write_text(report_page(report, pngs), "utf-8")
    run_folder.write_json(folder / run_folder.REPORT, report.to_dict())


def report_page(report: Report, pngs: dict[str, bytes]) -> str:
    """The page of a report.

    Args:
        report: A `Report`.
        pngs: Its plots as PNG files, by name.

    Returns:
        HTML that needs no other file.
    """
    parts = [
        ("metrics", "Metrics", _metrics(report)),
        ("averaged", "Averaged over flips and turns", _averaged(report)),
        ("training", "Training and confusion", _training(report, pngs)),
        ("classes", "Classes", _classes(report)),
        ("detection", "Detection", _detection(report, pngs)),
        ("mistakes", "Most confident mistakes", _mistakes(report, pngs)),
        ("heatmaps", "Heatmaps", _heatmaps(report, pngs)),
        ("calibration", "Calibration", _calibration(report, pngs)),
        ("unsure", "Where it is unsure", _unsure(report)),
        ("files", "Files for phones", _files(report)),
        ("exports", "Files for other runtimes", _exports(report)),
        ("data", "Data", _data(report, pngs)),
        ("settings", "Recipe and environment", _settings(report)),
    ]
    parts = [part for part in parts if part[2]]
    entries = [(anchor, title) for anchor, title, _ in parts]
    sections = [section(anchor, title, body) for anchor, title, body in parts]
    return page(report.title, "\n".join([_first_screen(report), contents(entries), *sections]))


def _first_screen(report):
    """How good, on what, what the metrics say, what to do next."""
    name, share = report.majority
    found = report.judgement
    cards = [(words(metric), *_value_and_interval(found.metrics[metric])) for metric in found.headline]
    cards.append((f"{words(report.main)} of always predicting the same", f"{share:.3f}", name))
    shown_cards = "".join(
        f'<div class="card"><span>{text(title)}</span><b>{value}</b><span>{text(note)}</span></div>'
        for title, value, note in cards
    )
    findings = "".join(f"<li>{text(finding)}</li>" for finding in report.findings())
    advice = "".join(f"<li>{text(sentence)}</li>" for sentence in report.advice())
    made = (
        f"the mean of the probabilities of {', '.join(report.members)}"
        if report.members
        else f"{counted(len(report.epochs), 'epoch')} in {duration(report.train_seconds)} (weights of epoch "
        f"{report.best_epoch})"
    )
    return f"""<header>
<h1>{text(report.title)}</h1>
<p class="lead">{text(report.data["description"])}. Track {text(report.track)}: {report.parameters:,} parameters,
{text(made)},
{text(report.environment["backend"])}.</p>
<p>Evaluated on the {text(report.split)} split, {len(report.labels):,} images. The ranges are {_ranges(report)};
another training would vary as well.</p>
<div class="cards">{shown_cards}</div>
<ul class="findings">{findings}</ul>
<p><b>Next</b></p>
<ul class="findings">{advice}</ul>
</header>"""


def _ranges(report):
    """What the intervals are over."""
    if report.judgement.groups is None:
        return "95 % intervals over these images"
    return f"{intervals(report.judgement)}, because the images of a group are alike"


def _value_and_interval(values):
    value, _, interval = shown(values).partition("  ")
    return value, interval.strip("()") or "no interval"


def _metrics(report):
    rows = [
        (words(name), shown(values), shown(report.validation.metrics[name]))
        for name, values in report.judgement.metrics.items()
    ]
    heads = [
        f"{name}, {counted(found.images, 'image')}{_in_groups(found)} (95 % interval)"
        for name, found in ((report.split, report.judgement), ("validation", report.validation))
    ]
    absent = [report.absence(report.judgement, report.split)]
    if report.split != "val":
        absent.append(report.absence(report.validation, "validation"))
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in absent if note)
    intro = "<p>Choose between recipes by the validation split, and read the test split once.</p>"
    if report.judgement.groups is not None:
        notes += (
            '<p class="note">These intervals are resampled by group. The tests of differences between splits, and the '
            "intervals of sensitivity and specificity, count the images as the fewer independent ones that they are "
            "worth. McNemar's test takes every image as independent.</p>"
        )
    return intro + table(("metric", *heads), rows) + notes


def _averaged(report):
    """The metrics of averaged probabilities beside the plain ones, and what averaging costs."""
    found = report.averaged
    if found is None:
        return ""
    at = "the thresholds of the labels" if report.labels.ndim == 2 else "the confidence below which it is unsure"
    return f"""<p>{text(found.sentence(report.split, report.main))}</p>
{table(*found.table(report.judgement))}
<p class="note">Only here and in <code>predict --tta auto</code> the probabilities are averaged. Everything else in this
report is of the model without averaging, {at} included, and so are the files: a phone does not average. Times
are of this machine, in batches.</p>"""


def _in_groups(judgement):
    return "" if judgement.groups is None else f" in {counted(judgement.groups, 'group')}"


def _training(report, pngs):
    accuracy = report.validation.metrics[report.main].value
    statistics = (
        " Before each validation the normalizations' means and variances were re-estimated with dropout off."
        if report.true_statistics
        else ""
    )
    while_trained = (
        f"""{picture("learning_curves", pngs["learning_curves"])}
<p class="note">Training metrics are measured while the weights change, with augmentation and dropout where the recipe
has them. Without both, the """
        if report.epochs
        else '<p class="note">The '
    )
    curves = f"""{while_trained}finished model's {words(report.main)} is {report.training_accuracy:.3f} on training
images and {accuracy:.3f} on the validation split.{statistics}</p>"""
    if "labels" in pngs:
        return curves + _labels(report, pngs) + _interrupted(report) + _profile(report, pngs)
    few = len(report.class_names) <= plots.FEW_CLASSES
    confusion = _confusion(report, pngs)
    both = side_by_side(curves, confusion) if few else curves + confusion + _confused_pairs(report)
    return both + _interrupted(report) + _profile(report, pngs)


def _interrupted(report):
    resumption = report.resumption()
    return f"<p>{text(resumption)}</p>" if resumption else ""


def _labels(report, pngs):
    """How well each of several labels is told."""
    return f"""{picture("labels", pngs["labels"])}
<p class="note">AUC: how often an image with the label has a higher score than one without; guessing gives 0.5. Average
precision: mean precision over thresholds; guessing gives the label's share of the images.</p>"""


def _confusion(report, pngs):
    count = len(report.class_names)
    note = "Rows are true classes, columns predicted ones. Colours are shares of each row"
    note += ", numbers, where they fit, are images." if count <= plots.MOST_NUMBERS else "."
    if count > plots.MOST_NAMES:
        note += f" {run_folder.REPORT} has the whole matrix."
    if fonts.class_labels(report.class_names) != list(report.class_names):
        note += " Names that no installed font can draw are numbers in the plots; the tables have both."
    return f'{picture("confusion_matrix", pngs["confusion_matrix"])}<p class="note">{note}</p>'


def _confused_pairs(report):
    """The pairs of classes that are confused most, which a matrix of many classes does not show at a glance."""
    matrix, names = report.judgement.confusion, _names(report)
    pairs = confused_pairs(matrix)
    if not len(pairs):
        return ""
    rows = [
        (names[true], names[predicted], matrix[true, predicted], f"{matrix[true, predicted] / matrix[true].sum():.1%}")
        for true, predicted in pairs[:MOST_PAIRS]
    ]
    return f"""<h3>Classes confused most</h3>
{table(("true class", "predicted class", "images", "share of the true class"), rows)}
{_left_out(len(pairs), len(rows), "pair")}"""


def _names(report):
    """The class names, with the numbers that plots show instead of some."""
    names = zip(report.class_names, fonts.class_labels(report.class_names), strict=True)
    return [name if name == drawn else f"{name} ({drawn})" for name, drawn in names]


def _left_out(count, rows, noun):
    """A line on what a table leaves out."""
    if count <= rows:
        return ""
    return f'<p class="note">The first {rows} of {counted(count, noun)}; {run_folder.REPORT} has all.</p>'


def _profile(report, pngs):
    if report.profile is None:
        return ""
    return f"""<h3>Where the time of an epoch goes</h3>
<p>{text(report.profile.summary())}</p>
{picture("profile", pngs["profile"])}
{table(*report.profile.table())}
<p class="note">Measured after the training, one step after the other.</p>"""


def _classes(report):
    """A row per class, the worst first."""
    if report.main != "accuracy":
        return _label_rows(report)
    rows, names = [], _names(report)
    for label in report.worst_first()[:MOST_CLASSES]:
        found = report.judgement.classes[label]
        parts = (found.precision, found.recall, found.f1, found.auc)
        rows.append([names[label], found.support, *(shown(part) if found.support else "none" for part in parts)])
    head = ("class", "images", "precision", "recall", "F1", "AUC")
    return f"""<p>By F1, the lowest first.</p>
{table(head, rows)}
{_left_out(len(report.class_names), len(rows), "class")}"""


def _label_rows(report):
    """A row per label where images can have several, the worst first."""
    rows, names = [], _names(report)
    for label in report.worst_first()[:MOST_CLASSES]:
        found = report.judgement.classes[label]
        parts = (found.f1, found.precision, found.recall, found.specificity, found.auc, found.average_precision)
        known = (shown(part) if found.support else "none" for part in parts)
        rows.append([names[label], found.support, f"{found.threshold:.3f}", *known])
    head = ("label", "images", "threshold", "F1", "precision", "sensitivity", "specificity", "AUC", "average precision")
    return f"""<p>By F1, the lowest first. A score of at least the threshold is a yes; each threshold has the highest F1
on the validation split, so metrics at it are a little too good there.</p>
{table(head, rows)}
{_left_out(len(report.class_names), len(rows), "label")}"""


def _detection(report, pngs):
    """The section about detecting one of two classes, if there are two."""
    point = report.operating_point
    if point is None:
        return ""
    name = text(report.class_names[point.positive])
    rows = [(rate, shown(values), shown(point.half[rate])) for rate, values in point.chosen.items()]
    head = ("", f"threshold {point.threshold:.3f} (95 % interval)", "threshold 0.5")
    return side_by_side(
        f"""<p>Sensitivity is the share of {name} that is detected, specificity the share of the other class that is
not. The threshold maximizes their sum on the validation split.</p>{table(head, rows)}""",
        picture("roc_curve", pngs["roc_curve"]),
    )


def _mistakes(report, pngs):
    wrong = len(report.labels) - report.judgement.correct
    what = "misclassified images" if report.main == "accuracy" else "images with a wrong label"
    count = len(report.surest_mistakes()) if "surest_mistakes" in pngs else 0
    if not count:
        return f"<p>{wrong} {what}.</p>"
    return f"<p>{count} of {wrong} {what}.</p>" + picture("surest_mistakes", pngs["surest_mistakes"])


def _heatmaps(report, pngs):
    if report.heatmaps is None:
        return ""
    plot = picture("heatmaps", pngs["heatmaps"]) if "heatmaps" in pngs else ""
    return f"<p>{text(report.heatmaps)}</p>{plot}{_faithfulness(report)}"


def _faithfulness(report):
    if not report.faithfulness:
        return ""
    head = ("method", "insertion (higher is better)", "deletion (lower)", "ROAD (higher)", "shuffled weights (lower)")
    rows = [
        (
            row.method,
            *(f"{value:.3f}" for value in (row.scores.insertion, row.scores.deletion, row.scores.road)),
            "-" if row.scores.after_shuffling is None else f"{row.scores.after_shuffling:.3f}",
        )
        for row in report.faithfulness
    ]
    return f"""<h3>Can the heatmaps be trusted?</h3>
<p>Measured on {report.faithfulness[0].images} images. Insertion and deletion: mean probability of the predicted class
while the hottest pixels are added to a blurred image, or removed from the image. ROAD: how much more the probability
falls when the hottest pixels are imputed than when the coldest are. Shuffled weights: rank correlation with the
heatmaps of the same network after its weights were shuffled. A method is useful where it is better than random
heatmaps.</p>{table(head, rows)}"""


def _calibration(report, pngs):
    error = shown(report.judgement.metrics["expected_calibration_error"])
    return side_by_side(
        picture("reliability", pngs["reliability"]),
        "<p>Of the images with a confidence of 80 %, 80 % should be classified correctly: a point below the diagonal "
        "means that the model is too confident. The expected calibration error is the mean distance from the "
        f"diagonal, here {error}.</p>" + _temperature(report),
    )


def _temperature(report):
    """What the temperature did."""
    found = report.temperature
    if found is None:
        return ""
    rows = [(words(name), shown(found.before[name]), shown(found.after[name])) for name in found.before]
    own = " These are the images that it was chosen on." if report.split == "val" else ""
    return (
        f"<p>The logits were divided by {found.value:.2f}, the temperature with which the scores suit the "
        f"{counted(found.images, 'image')} of the validation split best. No answer changes.{own}</p>"
        + table((f"{report.split} split (95 % interval)", "as trained", "divided"), rows)
    )


def _unsure(report):
    """The confidence below which the model and each file do not answer, what is promised, and what was measured."""
    found = report.selective
    if found is None and report.labels.ndim == 2:
        return "<p>Images can have several labels, each with its threshold: no image is called unsure.</p>"
    if found is None:
        return ""
    start = f"<p>{text(unsure.sentence(found, report.split))}</p>"
    rows = [("the model", found), *((f"{file.scheme}.tflite", file.selective) for file in report.files)]
    rows = [row for row in rows if row[1] is not None]
    if all(row.threshold.value is None for _, row in rows):
        return start
    used = "The epoch was chosen" if report.temperature is None else "Epoch and temperature were chosen"
    notes = " These are the images that it was chosen on." if report.split == "val" else ""
    if report.groups is not None:
        notes += (
            " Images of a group count as the fewer independent ones that they are worth, which is approximate, too."
        )
    return f"""{start}{table(*unsure.comparison(rows, report.split))}
<p class="note">Below it predict and page say "unsure". The promise is of the answers together, not of each class, for
images like those of validation; its certainty is over the draw of these {found.threshold.images:,} images. {used} on
the same images, which makes it approximate; the {text(report.split)} split shows what came of it.{notes}
Each file has a threshold for its own scores.</p>"""


def _files(report):
    if not report.files:
        return ""
    head, rows = transposed(*files_table(report.files))
    changed = [max(sum(file.agreement.classes[k]) for file in report.files) for k in range(len(report.class_names))]
    order = sorted(range(len(changed)), key=lambda label: -changed[label])[:MOST_CLASSES]
    names = _names(report)
    classes = [(names[label], *(_lost_and_won(file, label) for file in report.files)) for label in order]
    schemes = [file.scheme for file in report.files]
    traced = [_tensor_errors(file) for file in report.files if file.tensor_errors]
    best = smallest_equal(report.files)
    main = words(report.main)
    reason = f"It is the smallest file whose {main} is not measurably lower."
    if measurably_lower(best):
        reason = f"The {main} of every file is measurably lower; this one loses least."
    size = f"{best.bytes_ratio:.2f} of the float file's bytes" if best.bytes_ratio else f"{best.audit.bytes:,} bytes"
    return f"""<p><b>Take {text(best.scheme)}.tflite</b>: {size}, {main}
{best.agreement.judgement.metrics[report.main].value:.3f}, another answer for {best.agreement.changed:.2%} of the
images. {reason}</p>
<p>LiteRT ran each file in <code>tflite/</code> on the {len(report.labels):,} images of the
{text(report.split)} split; the float model classified the same images. "As simulated": the integer file gives the
class, and within one step of 1/256 the scores, of its network with fake quantization. "Heatmaps": cosine of the float
model's heatmaps and the file's, and the share of the hottest fifth that both have; Score-CAM runs the file itself,
Grad-CAM its network with fake quantization. Times are of this machine, one image per call.</p>
{table(head, rows)}
<h3>Images lost (-) and won (+), by class, the most changed first</h3>
{table(("class", *schemes), classes)}
{_left_out(len(report.class_names), len(classes), "class")}
{"".join(traced)}"""


def _exports(report):
    if not report.exports:
        return ""
    reasons = "".join(f"<p>{text(sentence)}</p>" for sentence in refusals(report.exports))
    return f"""<p>Each file in <code>exports/</code> was run by a program that is not Keras, on images of the
{text(report.split)} split beside the model. A file whose scores differ by more than 0.0001 is not kept. It takes pixels
from 0 to 255 as float32, and has the class names in it.</p>
{table(*exports_table(report.exports))}{reasons}"""


def _lost_and_won(file, label):
    lost, won = file.agreement.classes[label]
    return f"-{lost} +{won}" if lost or won else "same"


def _tensor_errors(file):
    rows = [(error.tensor, f"{error.relative_error:.4f}") for error in file.tensor_errors]
    return folded(
        f"{file.scheme}: where integers differ from floats",
        "<p>Relative error: root mean square of the difference, divided by that of the float values. Logits that are "
        "negligible as probabilities are clipped on purpose, which makes the steps finer where they matter; their "
        f"error includes that.</p>{table(('tensor, worst first', 'relative error'), rows)}",
    )


def _data(report, pngs):
    data = report.data
    files = "; ".join(f"{name} (SHA-256 {digest})" for name, digest in data["files"].items())
    found = [] if report.data_report is None else _found(report.data_report, pngs)
    return "\n".join(
        [
            f"<p>{text(data['description'])}. Licence: {text(data['licence'])}. "
            f"Files: {text(files or 'none, drawn from a seed')}.</p>",
            picture("class_balance", pngs["class_balance"]),
            _counts_note(report),
            *found,
        ]
    )


def _counts_note(report):
    if len(report.class_names) <= plots.MOST_NAMES:
        return ""
    return f'<p class="note">How many classes have how many images; {run_folder.REPORT} has the number of each.</p>'


def _found(found: DataReport, pngs):
    """What was found in the files and between the splits."""
    yield from (f"<p>{text(note)}</p>" for note in found.notes)
    yield _listed("Files set aside", f"{len(found.set_aside)} of {found.files} files.", found.set_aside)
    yield _listed("Files with a remark", "", found.remarks)
    if found.leaks is not None:
        yield _leaks(found, pngs)


def _listed(title, introduction, named):
    if not named:
        return ""
    rows = list(named.items())[:LONGEST_TABLE]
    more = f" The first {len(rows)}; data_report.json has all." if len(named) > len(rows) else ""
    return f"<h3>{title}</h3><p>{introduction}{more}</p>{table(('file', 'reason'), rows)}"


def _leaks(found, pngs):
    if not found.leaks:
        return "<h3>Leaks</h3><p>No image, rotated or mirrored, was found in two splits.</p>"
    rows = [
        (" and ".join(leak.splits), *leak.names, likeness(leak), "same" if leak.same_class else "differ")
        for leak in found.leaks[:LONGEST_TABLE]
    ]
    near = len(found.leaks) - found.exact_leaks
    return f"""<h3>Leaks</h3>
<p>{found.exact_leaks} exact and {near} near duplicates across splits, rotated or mirrored ones included; they make
metrics on val and test too good. {counted(found.dropped, "image")} removed from train.
Likeness is the correlation of the details of both images. The most similar first, at most {LONGEST_TABLE}.</p>
{picture("leaks", pngs["leaks"])}
{table(("splits", "first", "second", "likeness", "classes"), rows)}"""


def _settings(report):
    knobs = [
        (group, name, value)
        for group, values in report.recipe.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    ]
    return folded("Recipe", table(("part", "setting", "value"), knobs)) + folded(
        "Environment", table(("what", "version"), report.environment.items())
    )
