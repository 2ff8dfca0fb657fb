"""Labels for pictures, from a .tflite file alone: no framework, no data set, no recipe.

Run:     python -m keras_vision.predict runs/derma/tflite/int8.tflite lesion.jpg more_lesions/
Exit:    0; 1 when a picture could not be read (the others are answered); 2 for a mistake that stops all
"""

import csv
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_vision import cli
from keras_vision.recipe import InputError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
DECODERS = 4
# A small file can unpack to gigabytes: this many are 400 MB as RGB.
MAX_PIXELS = 2**27


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
                if item.suffix.lower() in SUFFIXES and item.is_file() and not _hidden(item.relative_to(path))
            )
            if not inside:
                raise InputError(f"{path} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist.")
    return found


def _hidden(path):
    return any(part.startswith(".") for part in path.parts)


def decode(path, flags):
    """A picture as OpenCV reads it, turned as its EXIF data says; None where the file is no picture, or too large.

    Args:
        flags: Such as `cv2.IMREAD_COLOR_RGB`.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # OpenCV looks at its first picture.
    import cv2
    import numpy as np

    try:
        content = np.fromfile(path, np.uint8)
        return cv2.imdecode(content, flags) if content.size else None
    except (OSError, cv2.error):
        return None


def read_image(path, image_shape):
    """A picture as a file's input: RGB or gray, stretched to its size.

    Args:
        image_shape: `(H, W, C)`, one channel or three.

    Returns:
        uint8 array of that shape; None where the file is no picture that OpenCV can read.
    """
    import cv2

    height, width, channels = image_shape
    image = decode(path, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB)
    if image is None:
        return None
    # Averaging over areas is right for making smaller, and OpenCV's choice for it.
    smaller = image.shape[0] > height or image.shape[1] > width
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=method)
    return image.reshape(height, width, channels)


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


def predict(runner, images):
    """Scores of image files, in order; None for what cannot be read. Decoding runs ahead in threads."""
    with ThreadPoolExecutor(DECODERS) as pool:
        for path, image in zip(
            images, pool.map(lambda path: read_image(path, runner.image_shape), images), strict=True
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
        rows, unread = [], []
        for count, (path, scores) in enumerate(predict(runner, images), 1):
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
        raise InputError(f"{path} cannot be run: {str(error).strip().splitlines()[0]}") from error
    shape = runner.image_shape
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise InputError(f"{path} takes inputs of shape {shape}; pictures are (height, width, 1 or 3).")
    return runner


if __name__ == "__main__":
    sys.exit(main())
