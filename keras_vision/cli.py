"""The command line of every track: one flag per knob of the recipe, a backend, an output folder.

Nothing here imports more than the standard library until the flags are known to be right, so `--help` and a typing
error answer at once and `KERAS_BACKEND` is set before Keras is imported.
"""

import argparse
import contextlib
import dataclasses
import difflib
import math
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from keras_vision import backend
from keras_vision.files import export_packages, packages
from keras_vision.files.packaged_weights import packaged_weights
from keras_vision.recipe import LITES, SCHEMES, InputError, Recipe, flag, override, smoke, specs, unread

TRACKS = ("train", "derma", "fracture3d", "cifar", "imagenette", "bones", "plants")
COMMANDS = ("predict", "explain", "convert", "page", "audit", "compare", "sweep", "ensemble", "push")
# Of a learning-rate range test: enough to read a curve.
STEPS, SMOKE_STEPS = 100, 12
# Flags of a track that are not knobs of its recipe.
OWN_FLAGS = (
    *("recipe", "backend", "out", "overwrite", "restart", "checkpoint_seconds", "smoke", "find_learning_rate"),
    *("devices", "processes", "process_id", "coordinator"),
)
OFF = (0, None, "none")
# Where the last halving of the maps begins, which ResNet18 calls layer4.
LAST_STAGES = {"efficientnet_lite0": "block11", "efficientnet_lite1": "block15", "efficientnet_lite2": "block15"}
# Specs of what follows a training, which a learning-rate range test does not reach.
AFTER_TRAINING = ("evaluation", "explanation", "quantization")


def run_track(
    track: str,
    named_recipes: Mapping[str, Recipe],
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    choose: Callable[[Recipe, Collection[str]], Recipe] | None = None,
    flags: Mapping[str, str] = {},
) -> int:
    """Runs a track as its flags say.

    Args:
        track: Name of the track, the first part of the run's folder.
        named_recipes: The track's recipes by name; the first is the default.
        description: Text on top of `--help`.
        argv: Arguments, without the program's name; `sys.argv`'s by default.
        choose: Function from the recipe and the names of the typed flags to the recipe that suits the data. It is
            called when the backend is chosen.
        flags: Help of flags that only `choose` reads, by name.

    Returns:
        The exit status: 0, or 2 after a user's mistake.
    """
    with exit_status() as status:
        options, recipe = parse(track, named_recipes, description, argv, flags)
        _check_devices(options)
        if choose is not None and not options.smoke:
            find_data(recipe)
            backend.choose_backend(options.backend)
            words = sys.argv[1:] if argv is None else argv
            own = {"recipe"} if any(word.partition("=")[0] == "--recipe" for word in words) else set()
            typed = {name: value for name, value in vars(options).items() if name not in OWN_FLAGS}
            own |= {name for name, value in typed.items() if name not in flags or value}
            recipe = choose(recipe, own)
            _refuse_unread(recipe, typed, find_rate=options.find_learning_rate)
        find_files(recipe)
        if options.process_id:
            _take_part(options, recipe)
            return status.code
        from keras_vision.pipeline import folder as run_folder
        from keras_vision.pipeline import unfinished

        find_rate = options.find_learning_rate
        out = Path(options.out or Path("runs") / run_name(track, named_recipes, recipe, options.smoke, find_rate))
        record = run_folder.RANGE_TEST if find_rate else run_folder.REPORT
        run_folder.check(out, overwrite=options.overwrite, record=record)
        if not options.restart:
            recipe_part = {} if find_rate else {"recipe": dataclasses.asdict(recipe)}
            unfinished.check(out, {"kind": record, **recipe_part})
        backend.choose_backend(options.backend)
        export_packages.require(recipe.quantization.export or (), backend.chosen())

        if find_rate:
            steps = SMOKE_STEPS if options.smoke else STEPS
            range_test = backend.import_quietly("keras_vision.pipeline.learning_rate")
            range_test.find(recipe, out, overwrite=options.overwrite, steps=steps)
        else:
            with _told_how_to_go_on(out, argv), _devices(options):
                result = backend.import_quietly("keras_vision.pipeline.track").run(
                    recipe,
                    out,
                    overwrite=options.overwrite,
                    restart=options.restart,
                    checkpoint_seconds=options.checkpoint_seconds,
                )
            volumes = result.report.images.ndim == 5
            print("\n".join(_next_commands(result.folder, recipe, volumes=volumes)))
    return status.code


def _check_devices(options):
    """Refuses flags of devices and processes that cannot be meant."""
    divides = options.devices not in (None, 1) or options.processes > 1
    received = f"--processes {options.processes} --process-id {options.process_id} --coordinator {options.coordinator}"
    if options.find_learning_rate and divides:
        raise InputError("--devices and --processes divide a training; leave out --find-learning-rate.")
    if options.processes > 1 and (options.process_id is None or options.coordinator is None):
        raise InputError(
            "--processes needs --process-id, the number of this process from 0, and --coordinator, HOST:PORT of "
            f"process 0. Received: {received}."
        )
    if options.processes == 1 and not (options.process_id is None and options.coordinator is None):
        raise InputError(f"--process-id and --coordinator go with --processes. Received: {received}.")
    if not 0 <= (options.process_id or 0) < options.processes:
        raise InputError(f"--process-id goes from 0 to one less than --processes. Received: {received}.")
    if options.coordinator and not re.fullmatch(r"\S+:[0-9]{1,5}", options.coordinator):
        raise InputError(f"--coordinator takes HOST:PORT. Received: {options.coordinator}.")
    if divides:
        backend.choose_backend(options.backend)
        if backend.chosen() != "jax":
            raise InputError(
                "A training is divided among devices on JAX only: add --backend jax, without --devices and --processes "
                f"the other backends train on one. Received: the backend {backend.chosen()}."
            )


@contextlib.contextmanager
def _devices(options):
    """Divides trainings inside among the devices that the flags name."""
    if options.devices in (None, 1) and options.processes == 1:
        yield
        return
    training = backend.import_quietly("keras_vision.training")
    devices = None if options.devices == 0 else options.devices
    many = {"processes": options.processes, "process": options.process_id or 0, "coordinator": options.coordinator}
    with training.devices.using(devices, **many):
        try:
            yield
        except training.ProcessLost as error:
            saved = error.saved or "nothing"
            print(f"error: another process of this training has ended. Saved: {saved}.", file=sys.stderr)
            training.devices.leave(1)


def _take_part(options, recipe):
    """Trains with the other processes; process 0 writes the run."""
    backend.choose_backend(options.backend)
    with _devices(options):
        backend.import_quietly("keras_vision.pipeline.track").take_part(recipe)


def find_data(recipe: Recipe) -> None:
    """Refuses a path of data that does not exist."""
    path = recipe.data.path
    if path is not None and not os.path.exists(path):
        raise InputError(f"--data names a file or folder that does not exist: {path}.")


def find_files(recipe: Recipe) -> None:
    """Refuses files and packages that do not exist before Keras is imported."""
    find_data(recipe)
    path = recipe.model.weights_path
    if path is not None and not os.path.exists(path):
        raise InputError(f"--weights names a file that does not exist: {path}.")
    if recipe.model.weights == "imagenet" and recipe.model.architecture in LITES:
        packaged_weights(recipe.model.architecture)
    if recipe.model.init_from is not None:
        from keras_vision.pipeline import folder as run_folder

        run_folder.model_file(recipe.model.init_from)


def _next_commands(run: Path, recipe: Recipe, *, volumes: bool) -> Iterator[str]:
    """What to do with a finished run, a command per line; image files are not volumes."""
    if volumes:
        return
    yield f"Next: {program('predict')} {run} IMAGE|FOLDER"
    yield f"      {program('explain')} {run} IMAGE|FOLDER"
    if not (recipe.quantization.tflite or recipe.quantization.qat):
        yield f"      {program(recipe.track)} ... --qat    also writes .tflite files for phones"


class _Status:
    code = 0


@contextlib.contextmanager
def exit_status() -> Iterator[_Status]:
    """Turns a user's mistake into one sentence on standard error and exit status 2, with no traceback."""
    status = _Status()
    try:
        yield status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status.code = 2
    except ModuleNotFoundError as error:
        if (missing := packages.sentence(error)) is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        status.code = 2
    except KeyboardInterrupt as error:
        # The pipeline's own has more to tell; it is not imported here.
        saved = getattr(error, "saved", None)
        print(f"interrupted after {saved}, which is saved" if saved else "interrupted", file=sys.stderr)
        status.code = 128 + getattr(error, "signal", signal.SIGINT)
    except BrokenPipeError:
        # Whoever reads the output, `head` say, has enough. What is flushed at the end must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _told_how_to_go_on(out: Path, argv: Sequence[str] | None) -> Iterator[None]:
    """Prints the command that goes on with a run which is interrupted inside, if anything of it is kept."""
    try:
        yield
    except KeyboardInterrupt:
        from keras_vision.pipeline import unfinished

        if unfinished.has_work(unfinished.place(out)):
            words = sys.argv[1:] if argv is None else argv
            # With it, the command would delete what is to be gone on with.
            command = shlex.join([*_called(), *(word for word in words if word != "--restart")])
            print(f"To go on: {command}", file=sys.stderr)
        raise


def _called():
    """The words with which this track was started, without its arguments."""
    if Path(sys.argv[0]).stem == "keras-vision":
        return ["keras-vision", *sys.argv[1:2]]
    package = Path(__file__).parent
    script = Path(sys.argv[0])
    if script.parent == package:
        if script.stem == "__main__":
            return ["python", "-m", package.name, *sys.argv[1:2]]
        return ["python", "-m", f"{package.name}.{script.stem}"]
    return ["python", str(script)]


def program(name: str) -> str:
    """How a track or command was called: `keras-vision NAME`, or `python -m keras_vision.NAME`."""
    if Path(sys.argv[0]).stem == "keras-vision":
        return f"keras-vision {name}"
    return f"python -m keras_vision.{name}"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Flags and their help side by side."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30)

    def _format_action_invocation(self, action):
        # `--no-augment` is known to whoever knows `--augment`.
        if isinstance(action, argparse.BooleanOptionalAction):
            return action.option_strings[0]
        return super()._format_action_invocation(action)


def add_schemes_flag(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds `--schemes`, names of .tflite files; None where it is not typed."""
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=None, metavar="NAME", help=help)


class Parser(argparse.ArgumentParser):
    """A parser that prints one sentence for a mistake and does not accept abbreviated flags."""

    def __init__(self, **kwargs: Any):
        super().__init__(
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
            argument_default=argparse.SUPPRESS,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        flags = [name for action in self._actions for name in action.option_strings]
        typed = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
        near = difflib.get_close_matches(typed, flags, n=1) if typed.startswith("--") else []
        hint = f"did you mean {near[0]}? " if near else ""
        every = "--help-all" if "--help-all" in flags else "--help"
        print(f"error: {message} ({hint}see {self.prog} {every})", file=sys.stderr)
        raise SystemExit(2)


class _FullHelp(argparse.Action):
    """`--help-all`: prints the help of a parser that hides nothing."""

    def __call__(self, parser, namespace, values, option_string=None):
        self.const().print_help()
        parser.exit()


def parse(
    track: str,
    named_recipes: Mapping[str, Recipe],
    description: str | None,
    argv: Sequence[str] | None = None,
    flags: Mapping[str, str] = {},
) -> tuple[argparse.Namespace, Recipe]:
    """The typed flags, and the recipe that they make.

    Raises:
        InputError: If a flag's value is out of range, or a typed flag is one that nothing reads in this run.
    """
    default = next(iter(named_recipes))
    first = Parser(add_help=False)
    first.add_argument("--recipe", default=default)
    chosen = first.parse_known_args(argv)[0].recipe
    base = dataclasses.replace(named_recipes.get(chosen, named_recipes[default]), track=track)
    parser = _parser(track, named_recipes, description, base, flags)
    parser.add_argument(
        "--help-all",
        action=_FullHelp,
        nargs=0,
        const=lambda: _parser(track, named_recipes, description, base, flags, show_all=True),
        help="show every flag with its default",
    )
    options = parser.parse_args(argv)
    if getattr(options, "backbone", None) in LITES:  # A backbone, too, though of no application.
        options.architecture = vars(options).pop("backbone")
    return options, _recipe(base, options, flags)


def _parser(
    track: str,
    named_recipes: Mapping[str, Recipe],
    description: str | None,
    base: Recipe,
    flags: Mapping[str, str],
    *,
    show_all: bool = False,
) -> Parser:
    name = program(track)
    # The first help is for whoever begins: what it is for and how it is run.
    short = (description or "").partition("\nExpect:")[0].partition("\nData:")[0].partition("\nSource:")[0]
    parser = Parser(prog=name, usage=f"{name} [flags]", description=description if show_all else short)
    parser.add_argument(
        "--recipe",
        choices=list(named_recipes),
        default=next(iter(named_recipes)),
        metavar="NAME",
        help=f"one of {', '.join(named_recipes)}; the defaults below are of {base.name}",
    )
    for spec_name, spec in specs(base).items():
        place = parser.add_argument_group(spec_name, (spec.__doc__ or "").partition("\n")[0]) if show_all else parser
        for item in _knobs(spec):
            _add_knob(place, item, getattr(spec, item.name), shown=show_all or item.metadata["common"])
    for item in _knobs(base):
        _add_knob(parser, item, getattr(base, item.name), shown=show_all or item.metadata["common"])
    parser.add_argument(
        "--backend",
        choices=backend.BACKENDS,
        default=None,
        metavar="NAME",
        help="tensorflow, jax or torch (default: KERAS_BACKEND, else tensorflow)",
    )
    parser.add_argument("--out", metavar="DIR", default=None, help=f"folder of the run (default: runs/{track}...)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace a finished run")
    parser.add_argument(
        "--restart", action="store_true", default=False, help="delete an interrupted run instead of resuming it"
    )
    parser.add_argument(
        "--checkpoint-seconds",
        type=_seconds,
        default=30.0,
        metavar="X",
        help="least time between two checkpoints (default: 30)" if show_all else argparse.SUPPRESS,
    )

    def add_rare(name, text, **keywords):
        parser.add_argument(name, help=text if show_all else argparse.SUPPRESS, **keywords)

    add_rare(
        "--devices",
        "divide the training among so many devices of each process, with JAX (default: 1)",
        type=_device_count,
        default=None,
        metavar="N|all",
    )
    add_rare(
        "--processes", "so many processes train together, on one host or several", type=int, default=1, metavar="N"
    )
    add_rare("--process-id", "number of this process, from 0", type=int, default=None, metavar="I")
    add_rare("--coordinator", "a free port of process 0's host", default=None, metavar="HOST:PORT")
    for own, text in flags.items():
        parser.add_argument(f"--{own}", action="store_true", default=False, help=text)
    parser.add_argument("--smoke", action="store_true", default=False, help="the whole run in seconds, on few images")
    parser.add_argument(
        "--find-learning-rate",
        action="store_true",
        default=False,
        help="train nothing, suggest a learning rate",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number of seconds, 0 or more. Received: {text}")
    return value


def _device_count(text: str) -> int:
    """A number of devices; 0 for all."""
    if text == "all":
        return 0
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"takes a number from 1, or all. Received: {text}")
    return int(text)


def _knobs(spec: Any) -> list[dataclasses.Field]:
    return [item for item in dataclasses.fields(spec) if item.metadata]


def _add_knob(parser: Any, item: dataclasses.Field, value: Any, *, shown: bool) -> None:
    meta = item.metadata
    text = meta["help"] if value is None else f"{meta['help']} (default: {_default(value)})"
    keywords = {"help": text if shown else argparse.SUPPRESS, "dest": item.name}
    if meta["type"] is bool:
        keywords["action"] = argparse.BooleanOptionalAction
    else:
        keywords |= {key: meta[key] for key in ("type", "choices", "nargs", "metavar") if meta[key] is not None}
        if not meta["choices"] and not meta["metavar"]:
            keywords["metavar"] = {"int": "N", "float": "X"}.get(meta["type"].__name__, "NAME")
    parser.add_argument(flag(item.name), **keywords)


def _default(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def _recipe(base: Recipe, options: argparse.Namespace, flags: Collection[str]) -> Recipe:
    typed = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name not in OWN_FLAGS and name not in flags
    }
    implied = {}
    if any(typed.get(item.name) not in OFF for item in dataclasses.fields(base.augmentation)):
        implied["augment"] = True
    if typed.get("explain") == "integrated-gradients":
        implied["explained_layer"] = None  # The recipe's own is for methods that have one.
    if base.model.unfreeze == "layer4" and (stage := LAST_STAGES.get(str(typed.get("architecture")))):
        implied["unfreeze"] = stage
    recipe = override(base, **implied | typed)
    if options.smoke:
        recipe = override(smoke(recipe), **typed)
    _refuse_unread(recipe, typed, find_rate=options.find_learning_rate)
    return recipe


def _refuse_unread(recipe: Recipe, typed: Mapping[str, Any], *, find_rate: bool) -> None:
    """Refuses flags that would change nothing, such as `--momentum` with Adam."""
    readers = unread(recipe)
    if find_rate:
        later = [item.name for name in AFTER_TRAINING for item in _knobs(getattr(recipe, name))]
        readers |= dict.fromkeys([*later, "profile", "tracker"], "a training; leave out --find-learning-rate")
    for name, value in typed.items():
        # To switch off what is not on is true as well.
        if name in readers and value not in OFF:
            raise InputError(f"{flag(name)} has no effect in this run. It is used with {readers[name]}.")


def run_name(
    track: str,
    named_recipes: Mapping[str, Recipe],
    recipe: Recipe,
    smoke: bool = False,
    find_learning_rate: bool = False,
) -> str:
    """The run's folder under runs/ without `--out`, such as `derma-augment` or `derma-best-seed2`."""
    default = named_recipes[next(iter(named_recipes))]
    parts = [track]
    if recipe.name != default.name:
        parts.append(recipe.name)
    if recipe.augment != named_recipes[recipe.name].augment:
        parts.append("augment" if recipe.augment else "plain")
    if recipe.quantization.qat != named_recipes[recipe.name].quantization.qat:
        parts.append("qat" if recipe.quantization.qat else "noqat")
    if recipe.data.fold_of is not None:
        parts.append("fold{}of{}".format(*recipe.data.fold_of))
    if recipe.seed != default.seed:
        parts.append(f"seed{recipe.seed}")
    if smoke:
        parts.append("smoke")
    if find_learning_rate:
        parts.append("learning-rates")
    return "-".join(parts)
