"""What a sweep found: settings compared on validation, the best one there, and its test split or folds, if any."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_vision.evaluation import Interval, mean_interval
from keras_vision.files import outside, state_file
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import html, out_of_fold, plots, seeds, sweep_folder
from keras_vision.pipeline.folder import FinishedRun
from keras_vision.pipeline.out_of_fold import OutOfFold
from keras_vision.pipeline.seeds import VALIDATION, Setting
from keras_vision.pipeline.tables import Table, counted, from_json, shown, text_table, words
from keras_vision.recipe import InputError

MOST_CURVES = 6  # Settings whose learning curves can be told apart.
CHOICE = (
    "The metrics are means over seeds on the validation split, with 95 % t intervals over the seeds. The setting that "
    "is best there looks a little better than it is, because it was chosen there."
)
FOLDS_CHOICE = (
    "The metrics are means over folds, with 95 % t intervals, on the validation images of each fold's run, which are a "
    "part of the other folds. The epoch whose weights are kept is chosen by them, and so is the setting."
)


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes:
        name: Name of its folder.
        setting: All that it was done with but the seed.
        seed: The seed.
        state: `finished`, or what it is instead.
        run: What it left; None if it is not finished.
        tested: Metrics of its test split, if that was read.
        fold: Number of the fold that it holds out; None without folds.
    """

    name: str
    setting: str
    seed: int
    state: str
    run: FinishedRun | None = None
    tested: dict[str, Any] | None = None
    fold: int | None = None

    @property
    def number(self) -> int:
        """What it differs by from the other runs of its setting: its fold, or else its seed."""
        return self.seed if self.fold is None else self.fold


def read(out: Path, names: Sequence[tuple[str, str, int, int | None]], states: dict[str, str]) -> list[SweepRun]:
    """The runs of a sweep, as their folders have them now.

    Args:
        out: The sweep's folder.
        names: Name, setting, seed and fold of each run.
        states: Of those that are not finished, by name.

    Raises:
        InputError: If the files of a finished run are damaged.
    """
    rows = []
    for name, setting, seed, fold in names:
        folder, tested = out / sweep_folder.RUNS / name, tested_file(out, name)
        finished = (folder / run_folder.REPORT).is_file()
        rows.append(
            SweepRun(
                name,
                setting,
                seed,
                "finished" if finished else states.get(name, "not begun"),
                run_folder.read_run(folder) if finished else None,
                outside.read_json(tested) if finished and tested.is_file() else None,
                fold,
            )
        )
    return rows


def tested_file(out: Path, name: str) -> Path:
    """Where the metrics of a run's test split are."""
    return out / sweep_folder.TESTED / f"{name}.json"


class Sweep:
    """The runs of a sweep by setting, and the choice between settings.

    Args:
        title: What it is of.
        runs: Its runs.
        by: Name of the metric that the choice is by; None for the main one.
        joined: Of cross-validation, the out-of-fold predictions of the settings that have all their folds, by name.

    Raises:
        InputError: If the runs have no such metric.
    """

    def __init__(
        self,
        title: str,
        runs: Sequence[SweepRun],
        by: str | None = None,
        joined: Mapping[str, OutOfFold] | None = None,
    ) -> None:
        self.title, self.runs, self.joined = title, runs, joined or {}
        self.folds = sum(row.setting == runs[0].setting for row in runs) if runs and runs[0].fold else None
        self.unit = "seeds" if self.folds is None else "folds"
        members: dict[str, dict[int, FinishedRun]] = {}
        for row in runs:
            members.setdefault(row.setting, {}).update({row.number: row.run} if row.run else {})
        self.settings = [Setting(name, found) for name, found in members.items()]
        self.begun = [one for one in self.settings if one.runs]
        reports = [row.run.report for row in runs if row.run]
        self.by = by or (reports[0].get("main_metric", "accuracy") if reports else "accuracy")
        if any(self.by not in report[VALIDATION] for report in reports):
            names = ", ".join(reports[0][VALIDATION])
            raise InputError(f"--by takes a metric of the runs: {names}. Received: {self.by}.")

    @property
    def best(self) -> Setting | None:
        """The setting with the best mean on validation among those that have all their seeds; None without one."""
        lacking = {row.setting for row in self.runs if row.run is None}
        known = [(one.mean(self.by, VALIDATION).value, one) for one in self.settings if one.name not in lacking]
        return max((pair for pair in known if math.isfinite(pair[0])), key=lambda pair: pair[0], default=(0, None))[1]

    @property
    def missing(self) -> list[SweepRun]:
        """The runs that are not finished."""
        return [row for row in self.runs if row.run is None]

    def tested(self) -> dict[str, Interval]:
        """Test metrics of the best setting, means over seeds; empty unless each of its runs was tested."""
        rows = [row for row in self.runs if self.best and row.setting == self.best.name]
        if not rows or any(row.tested is None for row in rows):
            return {}
        found = [row.tested["metrics"] for row in rows if row.tested]
        return {name: mean_interval([from_json(run[name]).value for run in found]) for name in found[0]}

    def choice(self) -> str:
        """Which setting is best on validation, and what is not known yet, in sentences."""
        total, lacking = len(self.runs), len(self.missing)
        rest = f" {lacking} of {total} runs are not finished." if lacking else ""
        if self.best is None:
            return f"No setting has all its {self.unit} yet.{rest}"
        value = shown(self.best.mean(self.by, VALIDATION))
        if len(self.settings) == 1:
            return f"{self.best.name}: {words(self.by)} {value} on validation.{self._out_of_fold()}{rest}"
        among = f" The choice is among the settings that have all their {self.unit}." if lacking else ""
        return f"Best {words(self.by)} on validation: {self.best.name}, {value}.{self._out_of_fold()}{rest}{among}"

    def _out_of_fold(self):
        """What the predictions of the best setting's folds give, a sentence; empty without folds."""
        joined = self.joined.get(self.best.name) if self.best else None
        if joined is None:
            return ""
        found = joined.judgement
        return f" Out of fold, {counted(found.images, 'image')}: {shown(found.metrics[self.by])}."

    def difference(self) -> Table | None:
        """The best setting compared with the others, seed by seed; None where there is nothing to compare."""
        others = [one for one in self.begun if self.best and one.name != self.best.name]
        if not self.best or not others:
            return None
        return seeds.paired_table(self.best, others, self.by, VALIDATION, self.folds)

    def note(self) -> str:
        """How to read `difference`."""
        text = (
            "Paired t test over the seeds that both settings have, and McNemar's test for each of these seeds on the "
            f"images that both runs were judged on, {self._split()}."
        )
        if self.folds is not None:
            text = (
                "Paired t test over the folds that both settings have, on validation, corrected for the training "
                "images that the folds share (Nadeau and Bengio 2003); McNemar's test on the out-of-fold predictions."
            )
        count = len(self.begun) - 1
        if count < 2:
            return text
        return (
            f"{text} Each p-value is of one comparison. With {count} comparisons, one below {0.05 / count:.2g} shows a "
            "difference at 5 % (Bonferroni)."
        )

    def _split(self):
        split = next(row.run.report["split"] for row in self.runs if row.run)
        return f"those of the {'validation' if split == 'val' else split} split"

    def judged_elsewhere(self) -> str | None:
        """The split that the runs were judged on, if that is neither validation nor a fold."""
        if self.folds is not None:
            return None
        return next(
            (row.run.report["split"] for row in self.runs if row.run and row.run.report["split"] != "val"), None
        )

    def cautions(self) -> Iterator[str]:
        """What makes runs hard to compare, in sentences."""
        for what, values in (
            ("backend", {row.run.report["environment"]["backend"] for row in self.runs if row.run}),
            ("version of Keras", {row.run.report["environment"]["keras"] for row in self.runs if row.run}),
        ):
            if len(values) > 1:
                yield f"The runs have more than one {what}: {', '.join(sorted(map(str, values)))}."
        by_seed: dict[int, set[str]] = {}
        for row in self.runs:
            if row.run:
                by_seed.setdefault(row.number, set()).add(json.dumps(row.run.report["data"].get("files")))
        if any(len(files) > 1 for files in by_seed.values()):
            yield f"Runs of the same {self.unit[:-1]} were trained on files that differ."


def summary(sweep: Sweep) -> str:
    """What the terminal shows at the end."""
    parts = [f"{sweep.title}, validation split"]
    if sweep.begun:
        parts.append(text_table(*seeds.mean_table(sweep.begun, VALIDATION, sweep.unit)))
    if (difference := sweep.difference()) is not None:
        parts += ["", text_table(*difference)]
    parts += ["", sweep.choice()]
    if sweep.joined:
        parts += ["", "Out-of-fold predictions, each image by the model that did not see it"]
        parts.append(text_table(*out_of_fold.table(sweep.joined)))
    if split := sweep.judged_elsewhere():
        parts += ["", f"{split} split", text_table(*seeds.mean_table(sweep.begun))]
    if tested := sweep.tested():
        parts.append(f"Its test split: {', '.join(f'{words(name)} {shown(tested[name])}' for name in _named(tested))}.")
    parts += [f"{row.name}: {row.state}" for row in sweep.missing]
    return "\n".join([*parts, *sweep.cautions()])


def _named(metrics):
    return [name for name in seeds.SHOWN if name in metrics]


def write(sweep: Sweep, out: Path) -> None:
    """Writes the table of runs, the summary and the page; safe beside others who do the same.

    Raises:
        InputError: If they cannot be written.
    """
    try:
        with sweep_folder.held(out, "tables"):
            for joined in sweep.joined.values():
                (out / joined.file).parent.mkdir(exist_ok=True)
                state_file.write_bytes(out / joined.file, joined.to_csv().encode())
            state_file.write_bytes(out / sweep_folder.TABLE, _csv(sweep).encode())
            state_file.write_bytes(out / sweep_folder.SUMMARY, _json(sweep).encode())
            state_file.write_bytes(out / sweep_folder.PAGE, _page(sweep).encode())
    except OSError as error:
        raise InputError(f"Cannot write to {error.filename or out}: {error.strerror}.") from error


def _csv(sweep):
    """A row for each run, for a spreadsheet or pandas."""
    names = list(dict.fromkeys(name for row in sweep.runs if row.run for name in row.run.report[VALIDATION]))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    folds = sweep.folds is not None
    parts = [("val", VALIDATION), *[("fold", seeds.JUDGED)] * folds]
    head = ["run", "setting", "seed", *["fold"] * folds, "state", "epochs", "seconds"]
    head += [f"{short}_{name}" for short, _ in parts for name in names]
    writer.writerow(head)
    for row in sweep.runs:
        cells: list[Any] = [row.name, row.setting, row.seed, *[row.fold] * folds, row.state]
        if row.run:
            fit, report = row.run.report["training"], row.run.report
            cells += [fit["epochs"], f"{fit['seconds']:.1f}"]
            cells += [report[part].get(name, {}).get("value") for _, part in parts for name in names]
        writer.writerow([*cells, *[""] * (len(head) - len(cells))])
    return file.getvalue()


def _json(sweep):
    best, tested = sweep.best, sweep.tested()
    content = {
        "title": sweep.title,
        "by": sweep.by,
        "best": best and best.name,
        "settings": [
            {
                "setting": one.name,
                sweep.unit: list(one.runs),
                "validation_metrics": {
                    name: one.mean(name, VALIDATION).to_dict()
                    for name in next(iter(one.runs.values())).report[VALIDATION]
                },
            }
            for one in sweep.begun
        ],
        "test_metrics": {name: values.to_dict() for name, values in tested.items()} or None,
        "out_of_fold": {name: joined.to_dict() for name, joined in sweep.joined.items()} or None,
        "runs": [
            {
                "run": row.name,
                "setting": row.setting,
                "seed": row.seed,
                "fold": row.fold,
                "state": row.state,
                "test": row.tested,
            }
            for row in sweep.runs
        ],
        "cautions": list(sweep.cautions()),
    }
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _page(sweep):
    parts = [f"<h1>{html.text(sweep.title)}</h1>", f'<p class="lead">{html.text(sweep.choice())}</p>']
    parts += [f"<p>{html.text(caution)}</p>" for caution in sweep.cautions()]
    if sweep.begun:
        known = {one.name: one.values(sweep.by, VALIDATION) for one in sweep.begun}
        drawn = plots.over_seeds(known, words(sweep.by), unit=sweep.unit)
        table = html.table(*seeds.mean_table(sweep.begun, VALIDATION, sweep.unit))
        text = CHOICE if len(sweep.settings) > 1 else CHOICE.partition(" The setting")[0]
        text = text if sweep.folds is None else FOLDS_CHOICE
        parts.append(
            html.section("settings", "Settings", f"<p>{text}</p>{html.picture(sweep.by, plots.png(drawn))}{table}")
        )
    if (difference := sweep.difference()) is not None:
        body = f"<p>{html.text(sweep.note())}</p>{html.table(*difference)}"
        parts.append(html.section("difference", "Do they differ by more than chance?", body))
    if sweep.joined:
        parts.append(html.section("out-of-fold", "Out-of-fold predictions", _out_of_fold(sweep)))
    if split := sweep.judged_elsewhere():
        body = f"<p>Means over seeds. {CHOOSES}</p>{html.table(*seeds.mean_table(sweep.begun))}"
        parts.append(html.section("judged", f"On the {split} split", body))
    if tested := sweep.tested():
        rows = [[words(name), shown(tested[name])] for name in _named(tested)]
        body = f"<p>{html.text(_how_tested(sweep))}</p>{html.table(['metric', 'mean over seeds'], rows)}"
        parts.append(html.section("test", "The test split", body))
    if 0 < len(sweep.begun) <= MOST_CURVES:
        curves = plots.learning_curves({one.name: next(iter(one.runs.values())).epochs for one in sweep.begun})
        picture = html.picture("learning_curves", plots.png(curves))
        body = f"<p>Of the first {sweep.unit[:-1]} of each setting.</p>{picture}"
        parts.append(html.section("curves", "Learning curves", body))
    parts.append(html.section("runs", "Runs", _links(sweep)))
    return html.page(sweep.title, "\n".join(parts))


def _out_of_fold(sweep):
    """All settings' metrics, and more of the best one's."""
    values = {one.name: one.values(sweep.by) for one in sweep.settings if one.name in sweep.joined}
    drawn = plots.over_seeds(values, words(sweep.by), "the held-out folds", "folds")
    links = ", ".join(html.link(name, joined.file) for name, joined in sweep.joined.items())
    parts = [f"<p>{html.text(out_of_fold.note(sweep.joined))}</p>", html.picture(sweep.by, plots.png(drawn))]
    parts += [html.table(*out_of_fold.table(sweep.joined)), f"<p>Predictions, image by image: {links}.</p>"]
    shown_setting = sweep.best.name if sweep.best and sweep.best.name in sweep.joined else next(iter(sweep.joined))
    joined = sweep.joined[shown_setting]
    parts += [f"<p>{html.text(text)}</p>" for text in joined.cautions()]
    pictures = (html.picture(name, plots.png(figure)) for name, figure in joined.plots().items())
    parts += [f"<h3>{html.text(shown_setting)}</h3>", html.side_by_side(*pictures), html.table(*joined.class_table())]
    return "".join(parts)


CHOOSES = "Nothing was chosen by them."


def _how_tested(sweep):
    others = sorted({row.setting for row in sweep.runs if row.tested} - {sweep.best.name})
    if others:
        return (
            f"Read for {sweep.best.name}, and before for {', '.join(others)}, when these were best on validation: the "
            "sweep has grown since. Quote the number of settings that were read."
        )
    return f"Read for {sweep.best.name} alone, after it was chosen on validation."


def _links(sweep):
    rows = []
    for row in sweep.runs:
        link = f"{sweep_folder.RUNS}/{row.name}/{run_folder.PAGE}"
        name = html.link(row.name, link) if row.run else html.text(row.name)
        judged = [VALIDATION, *[seeds.JUDGED] * (sweep.folds is not None)]
        values = [shown(from_json(row.run.report[part][sweep.by])) if row.run else "" for part in judged]
        rows.append([name, html.text(row.state), *values])
    head = [f"{words(sweep.by)} on {where}" for where in ("validation", "the held-out fold")]
    return html.table(["run", "state", *head[: 1 if sweep.folds is None else 2]], rows, as_html=True)
