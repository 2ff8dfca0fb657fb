"""Labels for pictures, from a .tflite file alone: no framework, no data set, no recipe.

Run:     python -m keras_vision.predict runs/derma/tflite/int8.tflite lesion.jpg more_lesions/
Exit:    0; 1 when a picture could not be read (the others are answered); 2 for a mistake that stops all
"""

import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_vision import cli, pictures
from keras_vision.recipe import InputError, first_line

DECODERS = 4
CIRCUMSTANCES = "environment.json"


def find_images(paths):
    """The image files that paths name: files as they are, folders with all pictures below them, hidden ones left out.

    Raises:
        InputError: If a path does not exist, or a folder holds no picture.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                item
                for item in path.rglob("*")
                if item.suffix.lower() in pictures.SUFFIXES and item.is_file() and not _hidden(item.relative_to(path))
            )
            if not inside:
                raise InputError(f"{path} holds no pictures ({', '.join(sorted(pictures.SUFFIXES))}).")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist.")
    return found


def _hidden(path):
    return any(part.startswith(".") for part in path.parts)


def read_image(path, image_shape, resize="stretch"):
    """A picture as a file's input: RGB or gray, brought to its size; None where the file is no picture.

    Args:
        image_shape: `(H, W, C)`, one channel or three.
        resize: See `pictures.fit`.
    """
    try:
        return pictures.read(path, image_shape, resize)
    except pictures.UnreadableError:
        return None


def name_unread(paths):
    """Names the pictures that could not be read, and gives the exit status: 1 if there are any."""
    for path in paths:
        print(f"error: {path} is not a picture that can be read, or too large; it was skipped.", file=sys.stderr)
    return 1 if paths else 0


def read_labels(content, path, labels_file, num_classes):
    """Names of the classes: those in a text file, or else those that the model's file carries.

    Raises:
        InputError: If there are none, or not one for each class.
    """
    if labels_file is not None:
        names, where = cli.read_file(labels_file).decode("utf-8", "replace").splitlines(), labels_file
    else:
        from keras_vision.quantization.metadata import read_metadata

        metadata = read_metadata(content, path)
        if metadata is None or not metadata.labels:
            raise InputError(f"{path} carries no labels. Pass --labels FILE, a text file with a name a line.")
        names, where = metadata.labels, path
    if len(names) != num_classes:
        raise InputError(f"{where} names {len(names)} classes, but {path} gives {num_classes} scores.")
    return list(names)


def trained_resize(path):
    """How the pictures that a model was trained on were brought to their size, as what lies beside it says.

    Args:
        path: A .tflite file, perhaps with its card, a run's folder, or the model in one.
    """
    from keras_vision import audit

    path = Path(path)
    run = path if path.is_dir() else path.parent
    if path.suffix == ".tflite":
        told = audit.read_card(path) or {}
    else:
        told = json.loads(cli.read_file(run / CIRCUMSTANCES)) if (run / CIRCUMSTANCES).is_file() else {}
    return told.get("data", {}).get("resize", "stretch")


def predict(runner, images, resize="stretch"):
    """Scores of image files, in order; None for what cannot be read. Decoding runs ahead in threads."""
    with ThreadPoolExecutor(DECODERS) as pool:
        for path, image in zip(
            images, pool.map(lambda path: read_image(path, runner.image_shape, resize), images), strict=True
        ):
            yield path, None if image is None else runner(image[None])[0]


def _progress(count, total):
    if sys.stderr.isatty() and total > 1:
        print(f"\r{count}/{total} pictures", end="" if count < total else "\n", file=sys.stderr, flush=True)


def _print_table(rows, top):
    width = max([len(str(path)) for path, _ in rows], default=0)
    for path, answers in rows:
        shown = "  ".join(f"{label} {score:.3f}" for label, score in answers[:top])
        print(f"{path!s:<{width}}  {shown}")


def _write_csv(rows):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = sorted(label for label, _ in rows[0][1]) if rows else []
    writer.writerow(["file", "label", *names])
    for path, answers in rows:
        scores = dict(answers)
        writer.writerow([path, answers[0][0], *(f"{scores[name]:.6g}" for name in names)])


def main(argv=None):
    parser = cli.Parser(
        prog="python -m keras_vision.predict",
        description=__doc__,
        usage="%(prog)s FILE.tflite IMAGE|FOLDER... [flags]",
    )
    parser.add_argument("model", metavar="FILE.tflite", help="file of a classifier")
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="pictures, or folders of them")
    parser.add_argument(
        "--labels", default=None, metavar="FILE", help="class names, a line each, instead of the file's"
    )
    parser.add_argument(
        "--resize",
        choices=pictures.RESIZES,
        default=None,
        help="how pictures are brought to the file's size (default: as its card says, else stretched)",
    )
    parser.add_argument("--top", type=int, default=1, metavar="K", help="how many labels to show (default: 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the interpreter (default: 1)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", default=False, help="print JSON, all labels with their scores")
    form.add_argument("--csv", action="store_true", default=False, help="print CSV, a row a picture, all scores")
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        if options.top < 1 or options.threads < 1:
            raise InputError("--top and --threads take a number of at least 1.")
        content = cli.read_file(options.model)
        images = find_images(options.images)
        runner = open_runner(content, options.model, options.threads)
        labels = read_labels(content, options.model, options.labels, runner.num_classes)
        resize = options.resize or trained_resize(options.model)
        rows, unread = [], []
        for count, (path, scores) in enumerate(predict(runner, images, resize), 1):
            if scores is None:
                unread.append(path)
            else:
                answers = zip(labels, map(float, scores), strict=True)
                rows.append((path, sorted(answers, key=lambda answer: -answer[1])))
            _progress(count, len(images))
        if options.json:
            answers = [{"file": str(path), "label": found[0][0], "scores": dict(found)} for path, found in rows]
            print(json.dumps(answers, indent=2, ensure_ascii=False))
        elif options.csv:
            _write_csv(rows)
        else:
            _print_table(rows, options.top)
        status.code = name_unread(unread)
    return status.code


def open_runner(content, path, threads):
    """The file ready to run.

    Raises:
        InputError: If it is no TensorFlow Lite file, or none that takes one picture and gives one row of scores.
    """
    from keras_vision.quantization.flatbuffer import require_identifier
    from keras_vision.quantization.runtime import Runner

    require_identifier(content, path)
    try:
        with cli.native_noise_held():
            runner = Runner(content, threads)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path} cannot be run: {first_line(error)}") from error
    shape = runner.image_shape
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise InputError(f"{path} takes inputs of shape {shape}; pictures are (height, width, 1 or 3).")
    return runner


if __name__ == "__main__":
    sys.exit(main())
