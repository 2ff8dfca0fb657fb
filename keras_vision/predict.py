"""Classes of image files, from a .tflite file, a run or a .keras file. A .tflite file needs no framework.

Run:     python -m keras_vision.predict runs/derma/tflite/int8.tflite lesion.jpg more_lesions/
         python -m keras_vision.predict runs/derma lesion.jpg
         python -m keras_vision.predict int8.tflite photos/ --shards 16 --out predictions/
Unsure:  stands before a class that is less probable than what the run's --target-error asks for
Exit:    0; 1 when a file could not be read (the others are classified); 2 for a mistake that stops everything
"""

import csv
import importlib
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_vision import backend, cli
from keras_vision.files import image_files
from keras_vision.files.walk import files_under
from keras_vision.recipe import TTA, InputError, first_line, printable

if TYPE_CHECKING:
    from keras_vision.classifier import Classifier


TIMED = 8  # Images on which the cost of averaging is measured.
# Flags that are used with --shards.
SHARD_FLAGS = ("out", "processes", "format", "no_scores", "ray")


def find_images(paths: Iterable[str]) -> list[Path]:
    """The image files that paths name: files as they are, folders with all image files in them, hidden ones left out.

    What else is in a folder is named on standard error.

    Raises:
        InputError: If a path does not exist, or a folder has no image file.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            files = list(files_under(path))
            inside = [item for item in files if image_files.is_image(item)]
            _name_others(path, [item for item in files if item not in set(inside)])
            if not inside:
                raise InputError(f"{path} has no image files.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist.")
    return found


def _name_others(folder, files):
    """Names the files of a folder that are no images."""
    if files:
        shown = ", ".join(str(file.relative_to(folder)) for file in files[:3]) + (", ..." if len(files) > 3 else "")
        what = "1 file is no image" if len(files) == 1 else f"{len(files):,} files are no images"
        print(f"{folder}: {what} and left out: {printable(shown)}", file=sys.stderr)


def add_model_flags(parser: cli.Parser) -> None:
    """The flags of every command that opens a model."""
    parser.add_argument("--labels", default=None, metavar="FILE", help="class names, one per line")
    parser.add_argument(
        "--input-range",
        type=float,
        nargs=2,
        default=None,
        metavar=("LOW", "HIGH"),
        help="what the model takes for black and white (default: what the file says)",
    )
    parser.add_argument(
        "--resize",
        choices=image_files.RESIZES,
        default=None,
        help="how images are brought to the model's size (default: as in its training, else stretch)",
    )
    parser.add_argument(
        "--intensity-range",
        type=float,
        nargs=2,
        default=None,
        metavar=("LOW", "HIGH"),
        help="values in the image files that become black and white (default: as in its training, else the range of "
        "the files' bits)",
    )
    parser.add_argument(
        "--size",
        default=None,
        metavar="N|HxW",
        help="side, or height x width, of the images of a .keras model that takes any size",
    )
    parser.add_argument("--output", default=None, metavar="NAME", help="which output of a .keras model with several")
    parser.add_argument(
        "--import",
        dest="modules",
        nargs="+",
        default=(),
        metavar="MODULE",
        help="Python modules that register the layers of a .keras model; they are run",
    )
    parser.add_argument(
        "--backend", choices=backend.BACKENDS, default=None, help="Keras backend (default: KERAS_BACKEND)"
    )


def open_model(options: Any, *, threads: int = 1, keep_tensors: bool = False, tta: str = "none") -> "Classifier":
    """The `Classifier` that a command's flags name.

    Raises:
        InputError: If it cannot be opened, takes no image files, or is a .tflite file without class names.
    """
    from keras_vision.classifier import Classifier, read_class_names

    if Path(options.model).suffix != ".tflite":
        backend.choose_backend(options.backend)
        _import(options.modules)
    elif options.size or options.output or options.modules:
        raise InputError("--size, --output and --import are for .keras models.")
    found = Classifier.open(
        options.model,
        class_names=None if options.labels is None else read_class_names(options.labels),
        input_range=None if options.input_range is None else tuple(options.input_range),
        resize=options.resize,
        intensity_range=None if options.intensity_range is None else tuple(options.intensity_range),
        size=None if options.size is None else _size(options.size),
        output=options.output,
        threads=threads,
        keep_tensors=keep_tensors,
        tta=tta,
    )
    if complaint := found.complaint():
        raise InputError(complaint)
    return found


def _size(text):
    """`(height, width)` of `224` or `224x192`."""
    sides = text.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and 0 < int(side) < 100_000 for side in sides):
        raise InputError(f"--size takes a side or HEIGHTxWIDTH, such as 224 or 224x192. Received: {text!r}.")
    return int(sides[0]), int(sides[-1])


def _import(names):
    """Imports modules, also from the current directory, so that Keras knows the layers that they register.

    Raises:
        InputError: If there is none of that name, or it cannot be imported.
    """
    sys.path.insert(0, "")
    try:
        for name in names:
            importlib.import_module(name)
    except Exception as error:  # A user's module may raise anything.
        raise InputError(f"--import {name} cannot be imported: {first_line(error)}") from error
    finally:
        sys.path.remove("")


def name_unread(model: "Classifier", paths: Sequence[Path]) -> int:
    """Names the unusual files and those that could not be read, with the reasons.

    Returns:
        The exit status: 1 if there are files that could not be read.
    """
    for path, remark in itertools.islice(sorted(model.remarks.items()), 3):
        more = f" ({len(model.remarks):,} such files)" if len(model.remarks) > 3 else ""
        print(f"note: {printable(str(path))}: {remark}{more}", file=sys.stderr)
    for path in paths:
        reason = image_files.why_unread(path, model.intensity_range)
        print(f"error: {printable(str(path))} was skipped: {reason}.", file=sys.stderr)
    return 1 if paths else 0


def progress(count: int, total: int, what: str = "images") -> None:
    """Shows on a terminal how far a long work is."""
    if sys.stderr.isatty() and total > 1:
        print(f"\r{count}/{total} {what}", end="" if count < total else "\n", file=sys.stderr, flush=True)


def _as_json(model, path, labels, unsure, answers):
    named = {"label": labels[0]} if model.thresholds is None else {"labels": labels}
    marked = {} if model.unsure_below is None else {"unsure": unsure}
    averaged = {} if len(model.versions) == 1 else {"averaged_over": len(model.versions)}
    return {"file": str(path), **named, **marked, **averaged, "scores": dict(answers)}


def _print_table(rows, top, several):
    width = max([len(str(path)) for path, *_ in rows], default=0)
    for path, labels, unsure, answers in rows:
        # Of several labels those that the image has; without any, the most probable, so that it can be seen how far.
        shows_all = several and top == 1 and labels
        kept = [answer for answer in answers if answer[0] in labels] if shows_all else answers[:top]
        shown = "  ".join(f"{label} {score:.3f}" for label, score in kept)
        print(f"{path!s:<{width}}  {'unsure, ' if unsure else '' if labels else 'no label, '}{shown}")


def _write_csv(rows, model):
    marked, versions = model.unsure_below is not None, len(model.versions)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = sorted(label for label, _ in rows[0][3]) if rows else []
    writer.writerow(["file", "label", *["unsure"] * marked, *["averaged_over"] * (versions > 1), *names])
    for path, labels, unsure, answers in rows:
        scores, mark = dict(answers), ["yes" if unsure else "no"] * marked + [versions] * (versions > 1)
        writer.writerow([path, "|".join(labels), *mark, *(f"{scores[name]:.6g}" for name in names)])


def _averaging(model, paths):
    """What the answers are averaged over, what that costs, and which of the run's numbers do not apply to them."""
    import numpy as np

    from keras_vision.pipeline import folder as run_folder
    from keras_vision.pipeline import symmetries

    parts = [f"averaged over {symmetries.words(model.versions)}"]
    known = [image for image in map(model.read, paths) if image is not None]
    if known:
        plain, averaged = model.milliseconds(np.stack(known))
        parts.append(f"; {averaged:.3g} ms per image, without --tta {plain:.3g}")
    parts.append(".")
    if model.thresholds is not None:
        parts.append(" The labels' thresholds were chosen without averaging.")
    elif run_folder.unsure_below(model.path) is not None:
        parts.append(" No answer is marked unsure: the confidence for that was chosen without averaging.")
    return "".join(parts)


def _add_shard_flags(parser):
    many = parser.add_argument_group("millions of images (FILE.tflite FOLDER|LIST --shards N --out DIR)")
    many.add_argument(
        "--shards", type=int, default=None, metavar="N", help="write N files of rows, those missing if called again"
    )
    many.add_argument("--out", default=None, metavar="DIR", help="folder of the shards")
    many.add_argument(
        "--processes", type=int, default=None, metavar="N", help="processes at once (default: the number of cores)"
    )
    many.add_argument("--format", choices=("csv", "parquet"), default=None, help="format of the shards (default: csv)")
    many.add_argument(
        "--no-scores", action="store_true", default=None, help="only the answer and its score, not those of all classes"
    )
    many.add_argument(
        "--ray", default=None, metavar="ADDRESS", help="run the shards on Ray; `local` starts one on this machine"
    )


def _predict_shards(options):
    """`predict --shards`; gives the exit status."""
    if options.out is None:
        raise InputError("--shards needs --out DIR, the folder of the shards.")
    if options.json or options.csv or options.top != 1:
        raise InputError("--json, --csv and --top have no effect with --shards, which writes files.")
    if options.size or options.output or options.modules:
        raise InputError("--size, --output and --import are for .keras models.")
    if options.tta != "none":
        raise InputError("--tta has no effect with --shards, which predicts every image once.")
    if len(options.images) != 1:
        raise InputError("--shards takes one folder, or one text file with a path a line.")
    from keras_vision.classifier import read_class_names
    from keras_vision.many_images import run

    summary = run.predict(
        options.model,
        options.images[0],
        options.out,
        shards=options.shards,
        processes=options.processes,
        format=options.format or "csv",
        all_scores=not options.no_scores,
        ray=options.ray,
        class_names=None if options.labels is None else read_class_names(options.labels),
        input_range=options.input_range,
        resize=options.resize,
        intensity_range=options.intensity_range,
        threads=options.threads,
    )
    run.tell(summary)
    return 1 if summary.unread else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("predict"),
        description=__doc__,
        usage="%(prog)s FILE.tflite|RUN|MODEL.keras IMAGE|FOLDER... [flags]",
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite file, a run's folder, or a .keras file")
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="image files, or folders of them")
    add_model_flags(parser)
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="K",
        help="how many classes to show (default: 1, or every label that an image has)",
    )
    parser.add_argument(
        "--tta",
        choices=TTA,
        default="none",
        metavar="NAME",
        help="average over each image and its flip (left and right), flips (of every axis), turns (quarters) or all "
        "these; auto: those of the run",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of LiteRT (default: 1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", default=False, help="print JSON, all classes and probabilities")
    form.add_argument("--csv", action="store_true", default=False, help="print CSV, a row per image, all classes")
    _add_shard_flags(parser)
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        if options.top < 1 or options.threads < 1:
            raise InputError("--top and --threads take a number of at least 1.")
        if options.threads > 1 and Path(options.model).suffix != ".tflite":
            raise InputError("--threads is for .tflite files; Keras's backends choose their threads themselves.")
        if options.shards is not None:
            return _predict_shards(options)
        if unread_flags := [name for name in SHARD_FLAGS if getattr(options, name) is not None]:
            raise InputError(f"--{unread_flags[0].replace('_', '-')} is used with --shards N.")
        images = find_images(options.images)
        model = open_model(options, threads=options.threads, tta=options.tta)
        rows, unread = [], []
        for count, (path, scores) in enumerate(model.predict(images), 1):
            if scores is None:
                unread.append(path)
            else:
                answers = zip(model.class_names, map(float, scores), strict=True)
                ranked = sorted(answers, key=lambda answer: -answer[1])
                rows.append((path, model.labels_of(scores), model.is_unsure(scores), ranked))
            progress(count, len(images))
        if options.json:
            answers = [_as_json(model, *row) for row in rows]
            print(json.dumps(answers, indent=2, ensure_ascii=False))
        elif options.csv:
            _write_csv(rows, model)
        else:
            _print_table(rows, options.top, model.thresholds is not None)
        if len(model.versions) > 1:
            print(f"note: {_averaging(model, [path for path, *_ in rows[:TIMED]])}", file=sys.stderr)
        status.code = name_unread(model, unread)
    return status.code


if __name__ == "__main__":
    sys.exit(main())
