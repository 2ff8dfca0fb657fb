"""Many runs of a track, for seeds, recipes and values of knobs; the same command elsewhere shares the work.

Run:     python -m keras_vision.sweep derma --seeds 0-4 --recipe baseline best --jobs 2 --out sweeps/x
         python -m keras_vision.sweep derma --seeds 0-4 --set learning_rate=0.001,0.002 --augment --out sweeps/y
         ... --dry-run    only lists the runs;    ... --test    also reads the test split of the best setting, once
         ... --folds 5    cross-validation: five runs, each judged on the fifth of the images that it did not see
Writes:  runs/, sweep.html, runs.csv and summary.json in the sweep's folder; with --folds out-of-fold/
Settings are compared on the validation split. Finished runs are skipped, interrupted ones go on.
"""

import dataclasses
import difflib
import hashlib
import importlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_vision import __version__, backend, cli
from keras_vision.files.cores import cores
from keras_vision.recipe import InputError, Recipe, flag, specs

if TYPE_CHECKING:
    from keras_vision.pipeline.claimed_runs import Job, Outcome, Workers
    from keras_vision.pipeline.out_of_fold import OutOfFold
    from keras_vision.pipeline.sweep_page import Sweep, SweepRun

MOST_RUNS = 10_000
MOST_NAME = 100  # Characters of a run's folder.
SPLITS = ("val", "test")
# Flags of a track that a sweep sets itself or that would undo what others do; what to do instead.
REFUSED = {
    "--seed": "Pass --seeds, such as --seeds 0-4",
    "--overwrite": "Finished runs of a sweep are kept; delete the folder of one to repeat it",
    "--restart": "Unfinished runs of a sweep go on; delete the folder of one, RUN.partial, to begin it anew",
    "--find-learning-rate": "Sweep the rate instead, such as --set learning_rate=0.001,0.002",
}
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Planned:
    """A run to be: name, setting, seed, fold, the flags of its track and the recipe that they make."""

    name: str
    setting: str
    seed: int
    flags: tuple[str, ...]
    recipe: Recipe
    fold: int | None = None


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if words[:1] in (["-h"], ["--help"]):
        parser.parse_args(words)  # Which prints it and ends.
    with cli.exit_status() as status:
        if not words or words[0] not in cli.TRACKS:
            raise InputError(
                f"A sweep begins with its track: {', '.join(cli.TRACKS)}. Received: {' '.join(words[:1]) or 'nothing'}."
            )
        options, flags = parser.parse_known_args(words[1:])
        track = importlib.import_module(f"keras_vision.{words[0]}")
        runs, backend_name = plan(words[0], track, options, flags)
        status.code = _sweep(words[0], options, flags, runs, backend_name)
    return status.code


def _parser():
    parser = cli.Parser(
        prog=cli.program("sweep"),
        description=__doc__,
        usage="%(prog)s TRACK [--seeds 0-4] [--recipe NAME ...] [--set KNOB=VALUE,VALUE ...] --out DIR [track flags]",
    )
    parser.add_argument(
        "--seeds", nargs="+", default=["0"], metavar="N", help="such as 0-4, or 0 7 12 (default: 0 alone)"
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=None,
        metavar="K",
        help="cross-validation: K runs, each judged on the part of the images that it held out",
    )
    parser.add_argument("--recipe", nargs="+", default=None, metavar="NAME", help="recipes of the track")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KNOB=VALUE,...",
        help="values of a knob, as in --set learning_rate=0.001,0.002 augment=on,off; several knobs make a grid",
    )
    parser.add_argument("--jobs", type=int, default=None, metavar="N", help="trainings at the same time (default: 1)")
    parser.add_argument("--out", default=None, metavar="DIR", help="folder of the sweep")
    parser.add_argument("--by", default=None, metavar="METRIC", help="metric to choose by (default: accuracy)")
    parser.add_argument("--dry-run", action="store_true", default=False, help="only list the runs")
    parser.add_argument(
        "--test", action="store_true", default=False, help="read the test split with the setting best on validation"
    )
    parser.add_argument(
        "--no-wait", action="store_true", default=False, help="end when all that is left is claimed by others"
    )
    parser.add_argument(
        "--ray", default=None, metavar="ADDRESS", help="over Ray: a cluster's address, auto, or local to start one"
    )
    parser.add_argument("--cpus", type=float, default=None, metavar="N", help="cores of each job, for Ray (default: 1)")
    parser.add_argument(
        "--gpus", type=float, default=None, metavar="X", help="accelerators of each job, for Ray (default: 0)"
    )
    return parser


def plan(track: str, module: ModuleType, options: Any, flags: Sequence[str]) -> tuple[list[Planned], str | None]:
    """Every run of a sweep, its flags read as the track would read them.

    Args:
        track: Name of the track.
        module: Its module.
        options: The sweep's own flags.
        flags: Those of the track.

    Returns:
        The runs, those of one seed after those of the one before; and the `--backend`.

    Raises:
        InputError: If a knob, a value or a flag is wrong, or two runs would be the same.
    """
    _refuse(options, flags)
    named = options.recipe or [next(iter(module.RECIPES))]
    if unknown := [name for name in named if name not in module.RECIPES]:
        raise InputError(f"Recipes of {track} are {', '.join(module.RECIPES)}. Received: --recipe {unknown[0]}.")
    knobs = _knobs(next(iter(module.RECIPES.values())))
    grid = [_values(text, knobs, flags) for text in options.set]
    if len({name for name, _ in grid}) < len(grid):
        raise InputError("--set takes each knob once, with all its values: learning_rate=0.001,0.002.")
    seeds = _seeds(options.seeds)
    folds = [None] if options.folds is None else list(range(1, options.folds + 1))
    if options.folds is not None and len(seeds) > 1:
        raise InputError(
            "With --folds the runs of a setting differ by their fold, and --seeds takes one seed. Repeat the "
            "cross-validation with another seed in another folder."
        )
    count = len(seeds) * len(named) * len(folds)
    if count * _product(len(values) for _, values in grid) > MOST_RUNS or not count:
        raise InputError(f"A sweep has at most {MOST_RUNS:,} runs.")
    choices = list(itertools.product(named, *([(name, value) for value in values] for name, values in grid)))
    judged = () if any(word.partition("=")[0] == "--judge-on" for word in flags) else ("--judge-on", "val")
    judged = judged if options.folds is None else ("--judge-on", "test")
    own = getattr(module, "FLAGS", {})
    backend_name, runs = None, []
    for seed, fold, (recipe_name, *values) in itertools.product(seeds, folds, choices):
        changed = [word for name, value in values for word in _typed(knobs[name], value)]
        changed += [] if fold is None else ["--fold", f"{fold}/{options.folds}"]
        typed = (*flags, "--recipe", recipe_name, *judged, *changed, "--seed", str(seed))
        parsed, recipe = cli.parse(track, module.RECIPES, module.__doc__, typed, own)
        cli.find_data(recipe) if own else cli.find_files(recipe)
        backend_name = parsed.backend
        setting = " ".join([recipe_name, *(f"{name}={value}" for name, value in values)])
        place = _folder_name(setting, seed) + ("" if fold is None else f"-fold{fold}of{options.folds}")
        runs.append(Planned(place, setting, seed, typed, recipe, fold))
    _refuse_equal(runs)
    if options.folds is None:
        _refuse_choice_on_test(runs)
    return runs, backend_name


def _refuse(options, flags):
    for word in flags:
        name = word.partition("=")[0]
        if name in REFUSED:
            raise InputError(f"{name} is not for a sweep. {REFUSED[name]}.")
        if options.folds is not None and name in ("--judge-on", "--fold"):
            raise InputError(f"With --folds each run is judged on the fold that it holds out. Leave out {name}.")
    if options.folds is not None and not 2 <= options.folds <= MOST_RUNS:
        raise InputError(f"--folds takes a number from 2 to {MOST_RUNS:,}. Received: {options.folds}.")
    if options.folds is not None and options.test:
        raise InputError(
            "--folds judges every image but those of the test split, which stays unread. Leave out --test; to read it, "
            "train the setting once without folds."
        )
    if options.out is None:
        raise InputError("A sweep needs the folder of its runs: --out DIR.")
    if options.ray is None and (options.cpus, options.gpus) != (None, None):
        raise InputError("--cpus and --gpus are what each job asks Ray for. They are used with --ray.")
    if options.ray is not None and options.jobs is not None:
        raise InputError("Ray decides how many jobs run at the same time. Leave out --jobs, or pass --cpus N.")
    for name, low in (("jobs", 1), ("cpus", 0), ("gpus", 0)):
        value = getattr(options, name)
        if value is not None and not low <= value < float("inf"):
            raise InputError(f"--{name} takes a number of at least {low}. Received: {value}.")


def _knobs(recipe):
    parts = (*specs(recipe).values(), recipe)
    return {item.name: item for part in parts for item in dataclasses.fields(part) if item.metadata}


def _values(text: str, knobs: Mapping[str, dataclasses.Field], flags: Sequence[str]) -> tuple[str, list[str]]:
    """A knob's name and values from `name=value,value`."""
    name, equals, rest = text.partition("=")
    name = name.removeprefix("--").replace("-", "_")
    values = [value.strip() for value in rest.split(",")]
    if not equals or not all(values):
        raise InputError(f"--set takes KNOB=VALUE,VALUE, such as learning_rate=0.001,0.002. Received: {text!r}.")
    if name == "seed":
        raise InputError(REFUSED["--seed"] + ".")
    if name not in knobs:
        near = difflib.get_close_matches(name, knobs, n=1)
        hint = f"Did you mean {near[0]}?" if near else "--help-all of the track lists them."
        raise InputError(f"There is no knob {name!r}. {hint}")
    if knobs[name].metadata["nargs"] is not None:
        raise InputError(f"{flag(name)} takes several values at once, so it cannot be swept. Pass it as a flag.")
    if name == "fold":
        raise InputError("--set fold: pass --folds K, which makes a run for each fold.")
    if name == "judge_on":
        raise InputError("--judge-on is the same for all runs of a sweep. Pass it as a flag.")
    for word in flags:
        if word.partition("=")[0] in (flag(name), f"--no-{flag(name)[2:]}"):
            raise InputError(f"{flag(name)} is set by --set as well. Leave one of them out.")
    if wrong := [value for value in values if knobs[name].metadata["type"] is bool and value not in ("on", "off")]:
        raise InputError(f"--set {name} takes on, off or both. Received: {wrong[0]!r}.")
    return name, values


def _typed(knob: dataclasses.Field, value: str) -> list[str]:
    if knob.metadata["type"] is bool:
        return [flag(knob.name) if value == "on" else f"--no-{flag(knob.name)[2:]}"]
    return [f"{flag(knob.name)}={value}"]


def _seeds(texts: Sequence[str]) -> list[int]:
    found: list[int] = []
    for text in ",".join(texts).split(","):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", text.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 2**32:
            raise InputError(f"--seeds takes numbers and ranges, such as 0-4 or 0 7 12. Received: {text!r}.")
        if last - first >= MOST_RUNS:
            raise InputError(f"A sweep has at most {MOST_RUNS:,} runs.")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def _product(numbers: Iterator[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def _folder_name(setting: str, seed: int) -> str:
    """A name that every file system takes, the same for the same setting and different for another."""
    plain = re.sub(r"[^\w.=+-]", "_", setting.replace(" ", "-"), flags=re.ASCII)
    if plain != setting.replace(" ", "-") or len(plain) > MOST_NAME or plain != plain.lower():
        plain = f"{plain[:MOST_NAME]}-{hashlib.sha256(setting.encode()).hexdigest()[:8]}"
    return f"{plain}-seed{seed}"


def _refuse_equal(runs: Sequence[Planned]) -> None:
    seen: dict[Recipe, Planned] = {}
    for run in runs:
        if (before := seen.setdefault(run.recipe, run)) is not run:
            raise InputError(f"Two settings are the same run: {before.setting!r} and {run.setting!r}.")


def _refuse_choice_on_test(runs: Sequence[Planned]) -> None:
    if len({run.setting for run in runs}) > 1 and any(run.recipe.evaluation.judge_on == "test" for run in runs):
        raise InputError(
            "With several settings the choice is made on validation. Leave out --judge-on test; --test then reads the "
            "test split for the best setting alone."
        )


def _sweep(track, options, flags, runs, backend_name) -> int:
    from keras_vision.pipeline import sweep_folder

    out = Path(options.out).resolve()
    backend.choose_backend(backend_name)
    what = {"track": track, "flags": list(flags), "backend": backend.chosen(), "keras-vision": __version__}
    what["folds"] = options.folds
    sweep_folder.check(out, what)
    if options.folds is not None:
        backend.import_quietly("keras_vision.pipeline.out_of_fold").check({run.recipe for run in runs}, options.folds)
    jobs = [_job(track, run, out, options) for run in runs]
    if options.dry_run:
        _list(jobs, out)
        return 0
    with _workers(options) as workers:
        sweep_folder.begin(out, what)
        print(f"{len(jobs)} runs in {out}; what they print is in {out / sweep_folder.LOGS}.", flush=True)
        outcomes, stopped = _work(jobs, workers, options.no_wait, "validation_metrics")
        if stopped is not None:
            print("interrupted; the same command goes on", file=sys.stderr)
            return 128 + stopped
        sweep = _written(track, options, runs, outcomes, out)
        tests = _tests(sweep, out, options) if options.test else []
        if tests:
            found, stopped = _work(tests, workers, False, None)
            sweep = _written(track, options, runs, outcomes, out)
            outcomes |= found
    from keras_vision.pipeline.sweep_page import summary

    print(f"\n{summary(sweep)}\nPage: {out / sweep_folder.PAGE}")
    return _status(outcomes, stopped, options, sweep)


def _job(track: str, run: Planned, out: Path, options: Any) -> "Job":
    from keras_vision.pipeline import folder as run_folder
    from keras_vision.pipeline import sweep_folder

    place = out / sweep_folder.RUNS / run.name
    return _new_job(
        run.name,
        place / run_folder.REPORT,
        ("-m", "keras_vision", track, *run.flags, "--out", str(place)),
        out,
        options,
    )


def _new_job(name, finished, command, out, options) -> "Job":
    from keras_vision.pipeline import sweep_folder
    from keras_vision.pipeline.claimed_runs import Job

    return Job(
        name,
        finished,
        command,
        out / sweep_folder.CLAIMS / name,
        out / sweep_folder.LOGS / f"{name}.log",
        os.getcwd(),
        _threads(options.jobs or 1) if options.ray is None else {},
    )


def _threads(at_once: int) -> dict[str, str]:
    """Variables that share the cores between trainings that run at the same time."""
    if at_once == 1:
        return {}
    return {name: str(max(1, cores() // at_once)) for name in THREADS if name not in os.environ}


def _list(jobs: Sequence["Job"], out: Path) -> None:
    """Prints what a sweep would do."""
    from keras_vision.pipeline import unfinished
    from keras_vision.recipe import printable

    for job in jobs:
        if job.is_finished():
            state = "finished: is skipped"
        elif unfinished.has_work(unfinished.place(job.finished.parent)):
            state = "unfinished: goes on"
        else:
            state = "is trained"
        print(printable(f"{job.name}: {state}"))
    print(f"{len(jobs)} runs, none of which was begun by this: --dry-run. Folder: {out}.")


def _workers(options: Any) -> Any:
    """Who does the jobs, as a context."""
    import contextlib

    if options.ray is not None:
        from keras_vision.pipeline.ray_runs import Ray

        return Ray(options.ray, cpus=1 if options.cpus is None else options.cpus, gpus=options.gpus or 0)
    from keras_vision.pipeline.claimed_runs import Threads

    return contextlib.nullcontext(Threads(options.jobs or 1, _say))


def _say(text: str) -> None:
    print(text, flush=True)


def _work(
    jobs: Sequence["Job"], workers: "Workers", no_wait: bool, part: str | None
) -> tuple[dict[str, "Outcome"], int | None]:
    """Does jobs, with a line for each that ends."""
    from keras_vision.pipeline import claimed_runs

    ended = itertools.count(1)

    def told(job: "Job", outcome: "Outcome") -> None:
        known = _headline(job.finished, part) if part and job.finished.is_file() else ""
        took = f" in {outcome.seconds:.0f} seconds" if outcome.state is claimed_runs.State.DONE else ""
        why = f": {outcome.reason}; {job.log}" if outcome.reason else ""
        print(f"[{next(ended)}/{len(jobs)}] {job.name}: {outcome.state.value}{took}{known}{why}", flush=True)

    return claimed_runs.work(jobs, workers, told, wait=not no_wait, tell=_say)


def _headline(report: Path, part: str) -> str:
    from keras_vision.files import outside
    from keras_vision.pipeline.tables import words

    found = outside.read_json(report)
    main = found.get("main_metric", "accuracy")
    return f", {words(main)} {found[part][main]['value']:.3f} on validation"


def _written(track, options, runs, outcomes, out) -> "Sweep":
    """The sweep as it is now, with its tables and its page written."""
    pages = backend.import_quietly("keras_vision.pipeline.sweep_page")
    states = {
        name: f"{one.state.value}: {one.reason}" if one.reason else one.state.value for name, one in outcomes.items()
    }
    rows = pages.read(out, [(run.name, run.setting, run.seed, run.fold) for run in runs], states)
    joined = {} if options.folds is None else _joined(rows, out)
    title = f"Sweep of {track}" if options.folds is None else f"Cross-validation of {track}, {options.folds} folds"
    sweep = pages.Sweep(title, rows, options.by, joined)
    pages.write(sweep, out)
    return sweep


def _joined(rows: Sequence["SweepRun"], out: Path) -> dict[str, "OutOfFold"]:
    """The out-of-fold predictions of each setting that has all its folds, by name."""
    from keras_vision.pipeline import out_of_fold, sweep_folder

    found = {}
    for setting in dict.fromkeys(row.setting for row in rows):
        runs = [row for row in rows if row.setting == setting]
        if all(row.run is not None for row in runs):
            folders = {row.fold or 0: out / sweep_folder.RUNS / row.name for row in runs}
            name = re.sub(r"-fold\d+of\d+$", "", runs[0].name)
            found[setting] = out_of_fold.join(f"{sweep_folder.OUT_OF_FOLD}/{name}.csv", folders)
    return found


def _tests(sweep: "Sweep", out: Path, options: Any) -> list["Job"]:
    """Jobs that read the test split of the best setting; none while runs of others are under way.

    Raises:
        InputError: If the runs were judged on the test split already.
    """
    from keras_vision.pipeline import sweep_folder, sweep_page

    if sweep.judged_elsewhere():
        raise InputError("The runs were judged on the test split already: --judge-on test. Leave out --test.")
    if sweep.best is None or any(not row.state.startswith(("failed", "killed")) for row in sweep.missing):
        print("The test split is not read before all runs have ended and a setting has all its seeds.")
        return []
    names = [row.name for row in sweep.runs if row.setting == sweep.best.name]
    print(f"Test split of {sweep.best.name}, the best on validation:", flush=True)
    jobs = []
    for name in names:
        file = sweep_page.tested_file(out, name)
        command = ("-m", "keras_vision.pipeline.tested", str(out / sweep_folder.RUNS / name), str(file))
        jobs.append(_new_job(f"test of {name}", file, command, out, options))
    return jobs


def _status(outcomes: Mapping[str, "Outcome"], stopped: int | None, options: Any, sweep: "Sweep") -> int:
    from keras_vision.pipeline.claimed_runs import State

    if stopped is not None:
        return 128 + stopped
    bad = [one for one in outcomes.values() if one.state in (State.FAILED, State.KILLED, State.STOPPED)]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
