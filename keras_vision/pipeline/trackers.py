"""A run in MLflow or Weights & Biases: its parameters, the metrics of each epoch, its plots and files.

Both write beside the run's folder and send nothing anywhere, unless their own environment variables say so:
`MLFLOW_TRACKING_URI`, or `WANDB_MODE=online`. A run that is resumed is the same run there.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import unfinished
from keras_vision.recipe import InputError, Recipe, first_line

PROJECT = "keras_vision"
# What is known of the tracker's run. In a folder of its own, since it alone is no work to go on with.
STATE = Path(unfinished.RESUME) / "tracker" / "run.json"
MOST_PARAMETERS = 100  # Of one call of MLflow's.


class Tracker:
    """Follows one run; does nothing without a store. Where a store fails, that is told once, and the run goes on.

    Args:
        store: An `_MLflow` or `_Wandb`; None for no tracker.
        folder: The unfinished run's folder.
        name: The run's name.
        parameters: What the run is done with.
    """

    def __init__(self, store: Any, folder: Path, name: str, parameters: Mapping[str, Any]) -> None:
        self._store, self._file = store, folder / STATE
        self._state = {"run": None, "logged": 0}
        if store is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self._state |= json.loads(self._file.read_text("utf-8"))
        self._state["run"] = store.open(self._state["run"], name, parameters)
        self._file.parent.mkdir(exist_ok=True)
        self._remember()

    def epochs(self, rows: Sequence[Mapping[str, float]], before: int = 0) -> None:
        """Logs the metrics of epochs that were not logged yet.

        Args:
            rows: The metrics of each epoch.
            before: Epochs of the run before the first of these.
        """
        for number, row in enumerate(rows, before + 1):
            if number > self._state["logged"] and self._do("log", _finite(row), number):
                self._state["logged"] = number
                self._remember()

    def callbacks(self, before: int) -> list[keras.callbacks.Callback]:
        """For a training: logs each epoch when it ends.

        Args:
            before: Epochs of the run before the training.
        """
        return [] if self._store is None else [_EachEpoch(self, before)]

    def finish(self, folder: Path, report: Mapping[str, Any]) -> None:
        """Logs the finished run's metrics, plots and files, its data, and a note that says what the metrics mean.

        Args:
            folder: The run's folder.
            report: What is in `report.json`.
        """
        parts = ((report["split"], "metrics"), ("validation", "validation_metrics"))
        found = {f"{split}/{name}": row["value"] for split, part in parts for name, row in report[part].items()}
        left_out = {unfinished.RESUME, run_folder.TENSORBOARD}
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        files = [path.relative_to(folder) for path in paths]
        kept = [file for file in files if file.parts[0] not in left_out]
        self._do("finish", _finite(found), folder, kept, _note(report), report["data"])

    def close(self, state: str) -> None:
        """Ends the run.

        Args:
            state: `finished`, `failed` or `killed`.
        """
        self._do("close", state)

    def _do(self, what, *arguments):
        """Whether the store took something."""
        if self._store is None:
            return False
        try:
            getattr(self._store, what)(*arguments)
        except Exception as error:  # A server that is gone, a disk that is full: the training matters more.
            print(f"The tracker failed, and the run goes on without it: {first_line(error)}", file=sys.stderr)
            self._store = None
            return False
        return True

    def _remember(self):
        with contextlib.suppress(OSError):
            self._file.write_text(json.dumps(self._state), "utf-8")


class _EachEpoch(keras.callbacks.Callback):
    def __init__(self, tracker, before):
        super().__init__()
        self._tracker, self._before = tracker, before

    def on_epoch_end(self, epoch, logs=None):
        self._tracker.epochs([logs or {}], self._before + epoch)


@contextlib.contextmanager
def tracking(recipe: Recipe, out: str | os.PathLike, folder: Path, environment: Mapping[str, Any]) -> Iterator[Tracker]:
    """The tracker that a recipe asks for, until the block ends.

    Args:
        recipe: A `Recipe`.
        out: Folder of the run to be, beside which the tracker's store is.
        folder: The unfinished run's folder.
        environment: Versions and backend.

    Raises:
        InputError: If the tracker's package is not installed, or its store cannot be opened.
    """
    out, kind = Path(out).resolve(), recipe.training.tracker
    settings = dataclasses.asdict(recipe)
    # Among a hundred parameters "name" does not say what it names.
    settings["recipe"] = settings.pop("name")
    parameters = {**dict(_flat(settings)), **dict(_flat({"environment": environment}))}
    store = None if kind == "none" else _opened(kind, out.parent)
    try:
        tracker = Tracker(store, folder, out.name, parameters)
    except Exception as error:
        raise InputError(f"--tracker {kind} cannot be used: {first_line(error)}") from error
    try:
        yield tracker
    except BaseException as error:
        tracker.close("killed" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    tracker.close("finished")


def _opened(kind, place):
    try:
        return {"mlflow": _MLflow, "wandb": _Wandb}[kind](place)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--tracker {kind} needs the package {error.name}, which is not installed: "
            f"pip install 'keras-vision[{kind}]'."
        ) from error


def _flat(content, prefix=""):
    """`("training.epochs", 20)` and so on, of nested dicts."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _note(report):
    """What a finished run is and what its metrics say, in Markdown."""
    findings = "".join(f"\n- {sentence}" for sentence in report["findings"])
    return f"{report['track']}, on {report['title']}: {report['data']['description']}.\n{findings}"


def _finite(metrics):
    numbers = {name: float(value) for name, value in metrics.items() if value is not None}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


class _MLflow:
    """A run in MLflow; by default in `mlflow.db`, a SQLite file, with files in `mlartifacts`."""

    def __init__(self, place):
        # It would report its own use.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # SQLAlchemy writes the file; mlflow-skinny comes without it.
        with _quiet():
            import mlflow  # pyright: ignore[reportMissingImports]
            import sqlalchemy  # noqa: F401  # pyright: ignore[reportMissingImports]
            from mlflow import entities  # pyright: ignore[reportMissingImports]

            self._entities, own = entities, os.environ.get("MLFLOW_TRACKING_URI")
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = mlflow.MlflowClient(own or f"sqlite:///{(place / 'mlflow.db').as_posix()}")
        self._files = None if own else (place / "mlartifacts").as_uri()
        self._run: Any = None

    def open(self, run, name, parameters):
        with _quiet():
            if run is not None:
                self._run = run
                self._client.update_run(run, status="RUNNING")
                return run
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self._client.get_experiment_by_name(title)
            number = found.experiment_id if found else self._client.create_experiment(title, self._files)
            source = {"mlflow.source.name": f"keras-vision {parameters['track']}", "mlflow.source.type": "LOCAL"}
            self._run = self._client.create_run(number, run_name=name, tags=source).info.run_id
            rows = [self._entities.Param(key, str(value)) for key, value in parameters.items()]
            for start in range(0, len(rows), MOST_PARAMETERS):
                self._client.log_batch(self._run, params=rows[start : start + MOST_PARAMETERS])
            return self._run

    def log(self, metrics, step):
        # MLflow's page has a section of charts for each prefix, in alphabetical order, and names without one last: the
        # curves of the training would be below twenty bars of the finished model's metrics.
        self._write({f"epoch/{name}": value for name, value in metrics.items()}, step)

    def _write(self, metrics, step):
        now = int(1000 * time.time())
        rows = [self._entities.Metric(name, value, now, step) for name, value in metrics.items()]
        with _quiet():
            self._client.log_batch(self._run, metrics=rows)

    def finish(self, metrics, folder, files, note, data):
        self._write(metrics, 0)
        with _quiet():
            self._client.set_tag(self._run, "mlflow.note.content", note)
            self._client.log_inputs(self._run, datasets=[self._entities.DatasetInput(self._dataset(data))])
            for file in files:
                self._client.log_artifact(self._run, str(folder / file), file.parent.as_posix().strip(".") or None)

    def _dataset(self, data):
        """The run's data: its name, what is known of it, and how many images each split has."""
        content = json.dumps({name: data[name] for name in ("description", "licence", "files")})
        digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]
        counts = json.dumps({split: sum(numbers) for split, numbers in data["counts"].items()})
        return self._entities.Dataset(data["name"], digest, "local", content, profile=counts)

    def close(self, state):
        with _quiet():
            self._client.set_terminated(self._run, state.upper())


class _Wandb:
    """A run in Weights & Biases; by default offline, in the folder `wandb`, for `wandb sync`."""

    def __init__(self, place):
        # It would report its own errors.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        with _quiet():
            import wandb  # pyright: ignore[reportMissingImports]

        self._wandb, self._place = wandb, place
        self._run: Any = None

    def open(self, run, name, parameters):
        run = run or secrets.token_hex(8)
        settings = self._wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
        )
        with _quiet():
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=name,
                id=run,
                resume="allow",
                mode=os.environ.get("WANDB_MODE", "offline"),
                dir=str(self._place),
                config=dict(parameters),
                settings=settings,
            )
        return run

    def log(self, metrics, step):
        with _quiet():
            self._run.log(metrics, step=step)

    def finish(self, metrics, folder, files, note, data):
        with _quiet():
            self._run.notes = note
            self._run.summary.update(metrics)
            plots = [file for file in files if file.parts[0] == run_folder.PLOTS]
            self._run.log({str(file.with_suffix("")): self._wandb.Image(str(folder / file)) for file in plots})
        # What is in this folder belongs to the run; a link would end when the run's folder is renamed.
        for file in files:
            place = Path(self._run.dir) / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, place)

    def close(self, state):
        with _quiet():
            self._run.finish(exit_code=0 if state == "finished" else 1)


@contextlib.contextmanager
def _quiet():
    """Without the warnings of the trackers about their own parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
