"""Sweeps: what is planned, what is refused before anything starts, what the tables say, and one small real one."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest

from keras_vision import compare, derma, evaluation, sweep, train
from keras_vision.pipeline import out_of_fold, seeds, sweep_folder, sweep_page
from keras_vision.pipeline.folder import FinishedRun
from keras_vision.recipe import unread

TINY = [
    *("--data", "synthetic", "--limit", "40", "--epochs", "2", "--width", "4", "--batch-size", "16"),
    *("--explain", "none", "--bootstrap", "20"),
]


def planned(*words, track="derma", module=derma):
    options, flags = sweep._parser().parse_known_args([*words, "--out", "x"])
    return sweep.plan(track, module, options, flags)[0]


def test_a_grid_of_recipes_knobs_and_seeds():
    runs = planned(
        "--seeds", "0-1", "7", "--recipe", "baseline", "best", "--set", "learning_rate=0.001,0.002", "augment=on"
    )
    assert len(runs) == 3 * 2 * 2
    assert [run.seed for run in runs[::4]] == [0, 1, 7]
    assert runs[1].name == "baseline-learning_rate=0.002-augment=on-seed0"
    assert runs[1].recipe.training.learning_rate == 0.002
    assert runs[1].recipe.augment
    assert len({run.name for run in runs}) == len(runs)
    assert len({run.setting for run in runs}) == 4


def test_runs_are_judged_on_validation_unless_there_is_nothing_to_choose():
    assert planned()[0].recipe.evaluation.judge_on == "val"
    assert planned("--judge-on", "test")[0].recipe.evaluation.judge_on == "test"


def test_folds_are_runs_that_are_judged_on_what_they_hold_out():
    runs = planned("--folds", "3", "--seeds", "7", "--set", "learning_rate=0.001,0.002")
    assert [run.fold for run in runs] == [1, 1, 2, 2, 3, 3]
    assert runs[5].name == "baseline-learning_rate=0.002-seed7-fold3of3"
    assert [run.recipe.data.fold_of for run in runs[::2]] == [(1, 3), (2, 3), (3, 3)]
    assert {run.recipe.evaluation.judge_on for run in runs} == {"test"}
    assert len({run.setting for run in runs}) == 2
    assert "val_share" not in unread(dataclasses.replace(runs[0].recipe))


def test_the_track_that_chooses_for_its_data_is_planned_too(write_folder):
    root = write_folder({"a": 1, "b": 1})
    runs = planned("--seeds", "0-1", "--data", str(root), "--fast", track="train", module=train)
    assert "--fast" in runs[0].flags


def test_names_are_folders_and_differ_where_settings_do():
    names = [sweep._folder_name(setting, 0) for setting in ("best weights=a/b", "best weights=a_b", "x" * 300, "Best")]
    assert len(set(names)) == 4
    assert all("/" not in name and len(name) < 130 for name in names)
    assert names[3].lower() != sweep._folder_name("best", 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "learning_rat=1"], "no knob 'learning_rat'. Did you mean learning_rate?"),
        (["--set", "learning_rate"], "KNOB=VALUE,VALUE"),
        (["--set", "learning_rate=1,,2"], "KNOB=VALUE,VALUE"),
        (["--set", "learning_rate=fast"], "invalid float value"),
        (["--set", "width=0"], "--width takes a number of at least 1"),
        (["--set", "momentum=0.5"], "--momentum has no effect in this run"),
        (["--set", "augment=maybe"], "takes on, off or both"),
        (["--set", "seed=1,2"], "Pass --seeds"),
        (["--set", "brightness_range=1"], "takes several values at once"),
        (["--set", "epochs=1,01"], "Two settings are the same run"),
        (["--set", "epochs=1", "epochs=2"], "takes each knob once"),
        (["--set", "epochs=1", "--epochs", "2"], "--epochs is set by --set as well"),
        (["--set", "judge_on=val,test"], "is the same for all runs"),
        (["--recipe", "beste"], "Recipes of derma are"),
        (["--seeds", "4-0"], "--seeds takes numbers"),
        (["--seeds", "0-99999"], "at most 10,000 runs"),
        (["--seed", "1"], "--seed is not for a sweep"),
        (["--overwrite"], "--overwrite is not for a sweep"),
        (["--epoch", "1"], "did you mean --epochs?"),
        (["--data", "nowhere.npz"], "does not exist"),
        (["--recipe", "baseline", "best", "--judge-on", "test"], "the choice is made on validation"),
        (["--jobs", "0"], "--jobs takes a number of at least 1"),
        (["--cpus", "2"], "used with --ray"),
        (["--folds", "1"], "--folds takes a number from 2"),
        (["--folds", "5", "--seeds", "0-1"], "--seeds takes one seed"),
        (["--folds", "5", "--test"], "Leave out --test"),
        (["--folds", "5", "--judge-on", "val"], "Leave out --judge-on"),
        (["--folds", "5", "--fold=1/5"], "Leave out --fold."),
        (["--set", "fold=1/5,2/5"], "pass --folds K"),
        (["--fold", "6/5"], "--fold takes a part and the number of parts"),
        (["--ray", "local", "--jobs", "2"], "Leave out --jobs"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_starts(words, message, tmp_path, capsys):
    try:
        status = sweep.main(["derma", "--data", "synthetic", "--out", str(tmp_path / "x"), *words])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_too_many_folds_are_refused_before_anything_starts(tmp_path, capsys):
    labels = np.arange(40) % 2 + 2 * (np.arange(40) < 4)
    for_split = {f"{split}_images": np.zeros((40, 8, 8), np.uint8) for split in ("train", "val", "test")}
    np.savez(tmp_path / "toy.npz", **for_split, **{f"{split}_labels": labels for split in ("train", "val", "test")})
    command = ["derma", "--data", str(tmp_path / "toy.npz"), "--out", str(tmp_path / "x"), "--dry-run", "--folds"]
    assert sweep.main([*command, "5"]) == 2
    error = capsys.readouterr().err
    assert "--folds 5 is too many for" in error
    assert "class 'class_2' has only 4 of the 80 images" in error
    assert error.count("\n") == 1
    assert sweep.main([*command, "4"]) == 0
    assert not (tmp_path / "x").exists()


def test_a_sweep_needs_a_track_and_a_folder(capsys):
    assert sweep.main(["dermal", "--out", "x"]) == 2
    assert sweep.main([]) == 2
    assert sweep.main(["derma"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        sweep.main(["--help"])
    assert stop.value.code == 0
    assert "--seeds" in capsys.readouterr().out


def test_a_dry_run_lists_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "x"
    assert sweep.main(["derma", *TINY, "--seeds", "0-2", "--out", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [f"baseline-seed{seed}: is trained" for seed in range(3)]
    assert not out.exists()
    (out / "runs" / "baseline-seed0").mkdir(parents=True)
    (out / "runs" / "baseline-seed0" / "report.json").write_text("{}")
    (out / "runs" / "baseline-seed1.partial" / "resume").mkdir(parents=True)
    (out / "runs" / "baseline-seed1.partial" / "resume" / "work.state").touch()
    (out / "sweep.json").write_text(json.dumps({"track": "derma", "flags": TINY, "backend": sweep.backend.chosen()}))
    content = json.loads((out / "sweep.json").read_text()) | {"keras-vision": sweep.__version__}
    (out / "sweep.json").write_text(json.dumps(content))
    assert sweep.main(["derma", *TINY, "--seeds", "0-2", "--out", str(out), "--dry-run"]) == 0
    states = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[:3]]
    assert states == ["finished: is skipped", "unfinished: goes on", "is trained"]


def test_a_folder_is_of_one_sweep_which_may_grow(tmp_path, capsys):
    out = tmp_path / "x"
    what = {"track": "derma", "flags": ["--epochs", "3"], "backend": "torch"}
    sweep_folder.begin(out, what)
    sweep_folder.begin(out, what)
    with pytest.raises(sweep.InputError, match=r"begun with other flags: --epochs 3 \(now --epochs 4\)"):
        sweep_folder.begin(out, what | {"flags": ["--epochs", "4"]})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(sweep.InputError, match="holds files but no sweep"):
        sweep_folder.check(tmp_path / "mine", what)


def run(name, seed, accuracy, *, right="ab", split="val", learning_rate=0.1, backend="torch"):
    metrics = {"accuracy": {"value": accuracy, "low": 0.0, "high": 1.0}, "auc": {"value": 1 - accuracy}}
    report = {
        "recipe": {"name": "baseline", "seed": seed, "training": {"learning_rate": learning_rate}},
        "environment": {"backend": backend, "keras": "3"},
        "data": {"name": "toy", "files": {}},
        "split": split,
        "main_metric": "accuracy",
        "metrics": metrics,
        "validation_metrics": metrics,
        "training": {"epochs": 1, "best_epoch": 1, "seconds": 60.0},
    }
    epochs = [{"loss": 1.0, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.5}]
    return FinishedRun(name, report, epochs, {image: image in right for image in "abcd"})


def toy_sweep(**changes):
    found = {("fast", 0): 0.5, ("fast", 1): 0.7, ("slow", 0): 0.8, ("slow", 1): 0.9, ("new", 0): 0.99, ("new", 1): None}
    return [
        sweep_page.SweepRun(
            f"{setting}-seed{seed}",
            setting,
            seed,
            "finished" if value else "failed: no memory",
            run("x", seed, value, **changes) if value else None,
        )
        for (setting, seed), value in found.items()
    ]


def test_the_choice_is_by_the_mean_on_validation_among_complete_settings():
    found = sweep_page.Sweep("Sweep of derma", toy_sweep())
    assert found.best.name == "slow"
    assert "1 of 6 runs are not finished" in found.choice()
    assert sweep_page.Sweep("Sweep of derma", toy_sweep(), "auc").best.name == "fast"
    with pytest.raises(sweep.InputError, match="--by takes a metric of the runs: accuracy, auc. Received: f2."):
        sweep_page.Sweep("Sweep of derma", toy_sweep(), "f2")
    text = sweep_page.summary(found)
    assert "new-seed1: failed: no memory" in text
    assert "test" not in text


def test_settings_are_compared_seed_by_seed():
    head, rows = sweep_page.Sweep("x", toy_sweep()).difference()
    assert [row[:3] for row in rows] == [["slow", "fast", 2], ["slow", "new", 1]]
    # Differences .3 and .2: mean .25, t = 5 with one degree of freedom, so p = 2 * atan(1 / 5) / pi.
    assert rows[0][3].startswith("+0.250")
    assert rows[0][4] == f"{2 * math.atan(1 / 5) / math.pi:.2g}"
    assert rows[0][5] == "1, 1"
    assert rows[1][4] == "none"
    assert len(head) == len(rows[0])


def test_tables_and_page_are_written(tmp_path):
    found = sweep_page.Sweep("Sweep of <derma>", toy_sweep())
    sweep_page.write(found, tmp_path)
    page = (tmp_path / "sweep.html").read_text()
    assert "Sweep of &lt;derma&gt;" in page
    assert 'href="runs/slow-seed0/report.html"' in page
    assert "The test split" not in page
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["val_accuracy"] for row in rows] == ["0.5", "0.7", "0.8", "0.9", "0.99", ""]
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["best"] == "slow"
    assert content["settings"][1]["validation_metrics"]["accuracy"]["value"] == pytest.approx(0.85)
    assert content["test_metrics"] is None


def test_the_test_split_is_shown_for_the_setting_that_was_chosen(tmp_path):
    rows = toy_sweep()
    tested = {"metrics": {"accuracy": {"value": 0.6, "low": 0.5, "high": 0.7}, "auc": {"value": 0.0}}}
    rows[0:2] = [dataclasses.replace(row, tested=tested) for row in rows[0:2]]
    assert not sweep_page.Sweep("x", rows).tested()  # Of another setting, chosen when the sweep was smaller.
    rows[2:4] = [dataclasses.replace(row, tested=tested) for row in rows[2:4]]
    found = sweep_page.Sweep("x", rows)
    assert found.tested()["accuracy"].value == pytest.approx(0.6)
    assert found.tested()["auc"].value == 0.0
    sweep_page.write(found, tmp_path)
    assert "and before for fast" in (tmp_path / "sweep.html").read_text()


def test_runs_of_several_backends_are_remarked_on():
    rows = toy_sweep()
    rows[0] = dataclasses.replace(rows[0], run=run("x", 0, 0.5, backend="jax"))
    assert "more than one backend: jax, torch." in sweep_page.summary(sweep_page.Sweep("x", rows))


def test_runs_that_differ_by_their_seed_alone_are_one_setting():
    runs = [run("a-seed0", 0, 0.5), run("a-seed1", 1, 0.7), run("b", 0, 0.9, learning_rate=0.2)]
    runs += [run("again", 0, 0.1), run("c", 2, 0.5, backend="jax"), run("d", 3, 0.5, split="test")]
    settings = seeds.by_setting(runs)
    assert [(one.name, [*one.runs]) for one in settings] == [("a", [0, 1]), ("b", [0]), ("c", [2]), ("d", [3])]
    assert settings[0].mean("accuracy").value == pytest.approx(0.6)
    means, pairs = compare.seeds_tables(runs)
    assert means[1][0][:4] == ["a", 2, "1.0", "0.600  (-0.671 to 1.871)"]
    assert [row[:2] for row in pairs[1]] == [["a", "b"]]
    assert compare.seeds_tables(runs[1:3]) is None


def test_the_page_of_folds_counts_folds_and_shows_the_joined_predictions(tmp_path):
    labels = np.array([0, 1, 0, 1])
    judgement = evaluation.judge(labels, np.eye(2)[[0, 1, 1, 1]], resamples=10)
    means = {"accuracy": evaluation.Interval(0.75, 0.5, 1.0), "auc": evaluation.Interval(0.5, 0.4, 0.6)}
    joined = out_of_fold.OutOfFold(
        "out-of-fold/slow.csv", ("a", "<b>"), ["row", "fold"], [["0", "1"]], judgement, means, {2: ["<b>"]}, 30
    )
    found = {("fast", 1): 0.5, ("fast", 2): 0.7, ("slow", 1): 0.8, ("slow", 2): 0.9}
    rows = [
        sweep_page.SweepRun(
            f"{setting}-fold{fold}", setting, 0, "finished", run("x", 0, value, split="test"), None, fold
        )
        for (setting, fold), value in found.items()
    ]
    rows[1].run.answers.clear()
    rows[1].run.answers.update(dict.fromkeys("efgh", False))
    rows[3].run.answers.clear()
    rows[3].run.answers.update(dict.fromkeys("efgh", True))
    both = sweep_page.Sweep("Folds", rows, joined={"slow": joined})
    assert both.folds == 2
    assert both.best.runs.keys() == {1, 2}
    # On the images of both folds together fast is wrong on four that slow is right on: p = 2 / 2 ** 4.
    assert both.difference()[1][0][-1] == "0.12"
    text = sweep_page.summary(both)
    assert "folds" in text
    assert "seeds" not in text
    assert "mean over folds  0.750" in text
    assert "Best accuracy on validation: slow, 0.850  (0.215 to 1.485). Out of fold, 4 images: 0.750" in text
    sweep_page.write(both, tmp_path)
    page = (tmp_path / "sweep.html").read_text()
    assert 'href="out-of-fold/slow.csv"' in page
    assert "own test split, 30 images, was not read" in page
    assert "Some folds (2) have no image of a class, such as fold 2 of &lt;b&gt;" in page
    assert (tmp_path / "out-of-fold" / "slow.csv").read_text() == "row,fold\n0,1\n"
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["out_of_fold"]["slow"]["metrics"]["accuracy"]["value"] == 0.75
    assert (tmp_path / "runs.csv").read_text().splitlines()[0].startswith("run,setting,seed,fold,state")


@pytest.mark.slow
def test_a_small_sweep_from_its_flags_to_the_test_split(tmp_path, capsys):
    out = tmp_path / "x"
    command = ["derma", *TINY, "--set", "unfreeze=all,nowhere", "--jobs", "2", "--out", str(out)]
    assert sweep.main([*command, "--test"]) == 1
    output = capsys.readouterr().out
    assert "baseline-unfreeze=nowhere-seed0: failed: --unfreeze" in output
    assert "baseline-unfreeze=all-seed0: done in" in output
    assert "Its test split: accuracy" in output
    found = json.loads((out / "summary.json").read_text())
    report = json.loads((out / "runs" / "baseline-unfreeze=all-seed0" / "report.json").read_text())
    assert report["split"] == "val"
    assert found["best"] == "baseline unfreeze=all"
    assert found["runs"][0]["test"]["split"] == "test"
    assert found["runs"][1]["test"] is None
    assert [path.name for path in (out / "runs").iterdir()] == ["baseline-unfreeze=all-seed0"]
