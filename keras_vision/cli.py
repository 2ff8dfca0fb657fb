"""The command line of every track: one flag a knob of the recipe, a backend, an output folder.

Nothing here imports more than the standard library until the flags are known to be right, so that `--help` and a
typing error answer at once and `KERAS_BACKEND` is set before Keras is imported.
"""

import argparse
import contextlib
import dataclasses
import importlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from keras_vision import recipe as recipes
from keras_vision import run_folder
from keras_vision.recipe import InputError, override

BACKENDS = ("tensorflow", "jax", "torch")
# Of a learning-rate range test: enough for a curve to be read.
SMOKE_STEPS = 12


def run_track(track, named_recipes, description, argv=None):
    """Runs a track as its flags say.

    Args:
        track: Name of the track, the first part of the run's folder.
        named_recipes: The track's recipes by name; the first is the default.
        description: Text on top of `--help`.
        argv: Arguments, without the program's name; `sys.argv`'s by default.

    Returns:
        The exit status: 0, or 2 after a user's mistake.
    """
    with exit_status() as status:
        options, recipe = parse(track, named_recipes, description, argv)
        find_rate = options.find_learning_rate
        out = Path(options.out or Path("runs") / run_name(track, named_recipes, recipe, options.smoke, find_rate))
        record = run_folder.RANGE_TEST if find_rate else run_folder.TRAINING
        run_folder.check(out, overwrite=options.overwrite, record=record)
        _find_files(recipe)
        choose_backend(options.backend)

        if find_rate:
            steps = SMOKE_STEPS if options.smoke else 100
            import_quietly("keras_vision.learning_rates").find(recipe, out, overwrite=options.overwrite, steps=steps)
        else:
            import_quietly("keras_vision.track").run(recipe, out, track=track, overwrite=options.overwrite)
    return status.code


def _find_files(recipe):
    """Misses a recipe's files before Keras is imported."""
    for name, kind, path in (
        ("--data", "file or folder", recipe.data.path),
        ("--weights", "file", recipe.model.weights_path),
    ):
        if path is not None and not os.path.exists(path):
            raise InputError(f"{name} names a {kind} that does not exist: {path}.")
    if recipe.model.init_from is not None:
        run_folder.model_file(recipe.model.init_from)


class _Status:
    code = 0


@contextlib.contextmanager
def exit_status():
    """Turns a user's mistake into one sentence on standard error and exit status 2, with no traceback."""
    status = _Status()
    try:
        yield status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status.code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status.code = 130


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, and that takes no abbreviated flags."""

    def __init__(self, **kwargs):
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            **kwargs,
        )

    def error(self, message):
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parse(track, named_recipes, description, argv=None):
    """The typed flags, and the recipe that they make."""
    default = next(iter(named_recipes))
    first = Parser(add_help=False)
    first.add_argument("--recipe", default=default)
    chosen = first.parse_known_args(argv)[0].recipe
    base = named_recipes.get(chosen, named_recipes[default])

    program = f"python -m keras_vision.{track}"
    parser = Parser(prog=program, usage=f"{program} [flags]", description=description)
    parser.add_argument(
        "--recipe",
        choices=list(named_recipes),
        default=default,
        help=f"named set of knobs; the defaults below are those of '{base.name}'",
    )
    parser.add_argument("--backend", choices=BACKENDS, default=None, help="Keras backend (default: KERAS_BACKEND)")
    parser.add_argument("--out", metavar="DIR", default=None, help=f"folder of the run (default: runs/{track}...)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace a finished run")
    parser.add_argument("--smoke", action="store_true", default=False, help="try the whole track in seconds")
    parser.add_argument(
        "--find-learning-rate",
        action="store_true",
        default=False,
        help="train nothing, but take 100 steps at learning rates from 1e-7 to 10, suggest one, and draw the curve",
    )
    _add_knobs(parser, base)
    options = parser.parse_args(argv)
    return options, _turned(base, options)


def _add_knobs(parser, base):
    for item in dataclasses.fields(base):
        if item.metadata:
            _add_knob(parser, item, getattr(base, item.name))
    for name, spec in recipes.specs(base).items():
        group = parser.add_argument_group(name, (spec.__doc__ or "").partition("\n")[0])
        for item in dataclasses.fields(spec):
            _add_knob(group, item, getattr(spec, item.name))


def _add_knob(parser, item, value):
    meta = item.metadata
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    keywords = {"help": f"{meta['help']} (default: {shown})", "dest": item.name}
    if meta["type"] is bool:
        keywords["action"] = argparse.BooleanOptionalAction
    else:
        keywords |= {key: meta[key] for key in ("type", "choices", "nargs", "metavar") if meta[key] is not None}
        if not meta["choices"] and not meta["metavar"]:
            keywords["metavar"] = meta["type"].__name__.upper()
    parser.add_argument(recipes.flag(item.name), **keywords)


def _turned(base, options):
    typed = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name not in ("recipe", "backend", "out", "overwrite", "smoke", "find_learning_rate")
    }
    augmentation = {item.name for item in dataclasses.fields(base.augmentation)}
    if augmentation & typed.keys():
        typed.setdefault("augment", True)
    if typed.get("explain") == "integrated-gradients":
        typed.setdefault("explained_layer", None)  # The recipe's own is for methods that have one.
    return override(recipes.smoke(base) if options.smoke else base, **typed)


def run_name(track, named_recipes, recipe, smoke=False, find_learning_rate=False):
    """The run's folder under runs/ when `--out` is silent, such as `derma-augment` or `derma-best-seed2`."""
    default = named_recipes[next(iter(named_recipes))]
    parts = [track]
    if recipe.name != default.name:
        parts.append(recipe.name)
    if recipe.augment != named_recipes[recipe.name].augment:
        parts.append("augment" if recipe.augment else "plain")
    if recipe.quantization.qat != named_recipes[recipe.name].quantization.qat:
        parts.append("qat" if recipe.quantization.qat else "noqat")
    if recipe.seed != default.seed:
        parts.append(f"seed{recipe.seed}")
    if smoke:
        parts.append("smoke")
    if find_learning_rate:
        parts.append("learning-rates")
    return "-".join(parts)


def read_file(path):
    """A file's bytes.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot read {path}: {reason}.") from error


def choose_backend(backend=None):
    """Sets `KERAS_BACKEND` before Keras is imported.

    Raises:
        InputError: If the backend is not one that this package knows, or is not installed.
    """
    # TensorFlow's native code remarks on missing GPUs at every start; its errors still come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen is None:
        return
    if chosen not in BACKENDS:
        raise InputError(f"KERAS_BACKEND takes one of {', '.join(BACKENDS)}. Received: {chosen!r}.")
    if importlib.util.find_spec(chosen) is None:
        raise InputError(f"The backend {chosen} is not installed: pip install {chosen}, or choose another --backend.")


def import_quietly(name):
    """Imports a module, holding back what native code writes to standard error unless the import fails.

    TensorFlow writes some lines before it reads any setting of how much to write.
    """
    with native_noise_held():
        return importlib.import_module(name)


@contextlib.contextmanager
def native_noise_held():
    """Holds back what is written to standard error inside, by native code too, unless the block fails."""
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
