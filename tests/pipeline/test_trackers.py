"""Trackers: what they log of a run, once, however often it is interrupted; a run does not depend on them."""

import json
import sys
from pathlib import Path

import pytest

from keras_vision.pipeline import track, trackers
from keras_vision.recipe import InputError, override


class Store:
    """Remembers what it is told; fails at what it shall fail at."""

    def __init__(self, fails=()):
        self.told, self.fails = [], fails

    def open(self, run, name, parameters):
        self.told.append(("open", run, name))
        return run or "first"

    def __getattr__(self, what):
        def tell(*arguments):
            if what in self.fails:
                raise OSError("no route to host")
            self.told.append((what, *arguments))

        return tell


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "resume").mkdir()
    return tmp_path


def followed(store, folder):
    return trackers.Tracker(store, folder, "run", {})


def test_a_resumed_run_is_the_same_one_and_an_epoch_that_is_repeated_is_logged_once(folder):
    store = Store()
    followed(store, folder).epochs([{"loss": 3.0}, {"loss": 2.0}])
    resumed = followed(store, folder)
    (callback,) = resumed.callbacks(before=0)
    for epoch, loss in ((1, 2.0), (2, 1.0)):
        callback.on_epoch_end(epoch, {"loss": loss})
    assert store.told == [
        ("open", None, "run"),
        ("log", {"loss": 3.0}, 1),
        ("log", {"loss": 2.0}, 2),
        ("open", "first", "run"),
        ("log", {"loss": 1.0}, 3),
    ]


def test_epochs_of_the_head_come_before_those_of_the_training(folder):
    store = Store()
    tracker = followed(store, folder)
    tracker.epochs([{"loss": 3.0}])
    tracker.callbacks(before=1)[0].on_epoch_end(0, {"loss": 2.0})
    assert store.told[1:] == [("log", {"loss": 3.0}, 1), ("log", {"loss": 2.0}, 2)]


def test_what_is_no_number_is_not_logged(folder):
    store = Store()
    followed(store, folder).epochs([{"loss": float("nan"), "val_loss": 1.0}])
    assert store.told[-1] == ("log", {"val_loss": 1.0}, 1)


def test_a_tracker_that_fails_is_told_once_and_left_alone(folder, capsys):
    store = Store(fails=("log",))
    tracker = followed(store, folder)
    tracker.epochs([{"loss": 3.0}, {"loss": 2.0}])
    tracker.close("finished")
    assert store.told == [("open", None, "run")]
    assert capsys.readouterr().err == "The tracker failed, and the run goes on without it: no route to host\n"


def test_files_are_those_of_the_folder_without_what_only_resuming_needs(folder):
    for name in ("README.md", "plots/a.png", "resume/x.state", "tensorboard/events"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    store = Store()
    data = {"name": "cats", "description": "Photos of cats"}
    report = {
        "split": "test",
        "metrics": {"auc": {"value": 0.5}},
        "validation_metrics": {"auc": {"value": None}},
        "track": "plants, recipe robust",
        "title": "cats",
        "data": data,
        "findings": ["No better than chance.", "Few images."],
    }
    followed(store, folder).finish(folder, report)
    note = "plants, recipe robust, on cats: Photos of cats.\n\n- No better than chance.\n- Few images."
    files = [Path("README.md"), Path("plots/a.png")]
    assert store.told[-1] == ("finish", {"test/auc": 0.5}, folder, files, note, data)


def test_without_a_tracker_nothing_is_written(folder):
    tracker = followed(None, folder)
    tracker.epochs([{"loss": 1.0}])
    tracker.close("finished")
    assert tracker.callbacks(0) == []
    assert list(folder.rglob("*")) == [folder / "resume"]


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_missing_package_is_one_sentence_before_the_training(smoke_recipe, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(
        InputError, match=rf"--tracker {kind} needs the package .*: pip install 'keras-vision\[{kind}\]'"
    ):
        track.run(override(smoke_recipe, tracker=kind), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def interrupted_and_resumed(recipe, out, monkeypatch):
    """A run that is stopped after its training and started again."""
    with monkeypatch.context() as stopping:
        stopping.setattr(track, "_report", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            track.run(recipe, out)
    return track.run(recipe, out)


@pytest.mark.slow
def test_mlflow_has_a_resumed_run_as_one_with_parameters_epochs_metrics_and_files(smoke_recipe, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    recipe = override(smoke_recipe, tracker="mlflow")
    result = interrupted_and_resumed(recipe, tmp_path / "mine", monkeypatch)
    store = trackers._MLflow(tmp_path)
    experiment = store._client.get_experiment_by_name("keras_vision")
    (run,) = store._client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert (run.data.params["training.epochs"], run.data.params["model.width"]) == ("2", "4")
    assert (run.data.params["track"], run.data.params["recipe"]) == (recipe.track, recipe.name)
    assert run.data.params["environment.backend"] == result.report.environment["backend"]
    logged = store._client.get_metric_history(run.info.run_id, "epoch/val_loss")
    expected = [(number, epoch["val_loss"]) for number, epoch in enumerate(result.history.epochs, 1)]
    assert [(metric.step, metric.value) for metric in logged] == [
        (step, pytest.approx(value)) for step, value in expected
    ]
    accuracy = result.report.judgement.metrics["accuracy"].value
    assert run.data.metrics["test/accuracy"] == pytest.approx(accuracy)
    assert run.data.tags["mlflow.note.content"].startswith(f"{result.report.track}, on {result.report.title}: ")
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == result.report.title
    assert json.loads(data.dataset.profile)["test"] == len(result.report.labels)
    files = {file.path for file in store._client.list_artifacts(run.info.run_id)}
    assert {"README.md", "model.keras", "plots", "report.html"} <= files
    assert "resume" not in files
    plots = {file.path for file in store._client.list_artifacts(run.info.run_id, "plots")}
    assert "plots/confusion_matrix.png" in plots


@pytest.mark.slow
def test_wandb_has_a_resumed_run_as_one_offline(smoke_recipe, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    interrupted_and_resumed(override(smoke_recipe, tracker="wandb"), tmp_path / "mine", monkeypatch)
    runs = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({file.name for file in runs}) == 1  # Two parts of one run: its number is the file's name.
    content = b"".join(file.read_bytes() for file in runs)
    for text in (b"training.epochs", b"val_loss", b"test/accuracy", b"keras_vision"):
        assert text in content
    last = max(runs, key=lambda file: file.stat().st_mtime).parent / "files"
    assert (last / "plots" / "confusion_matrix.png").is_file()
    assert (last / "model.keras").is_file()
