"""Heatmaps for image files: which parts of an image raise a class.

Run:     python -m keras_vision.explain runs/derma-augment lesion.jpg more_lesions/
         python -m keras_vision.explain runs/derma-augment-qat/tflite/qat.tflite lesion.jpg --method score-cam
Leaves:  for each file a PNG, the image next to the same with its heatmap
Exit:    0; 1 when a file could not be read (the others are explained); 2 for a mistake that stops everything
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from keras_vision import cli, predict
from keras_vision.files import image_files
from keras_vision.recipe import EXPLANATION_METHODS, InputError

LONGEST_SIDE = 512  # Of an image in the PNG, in pixels; a smaller one is enlarged.


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("explain"),
        description=__doc__,
        usage="%(prog)s RUN|MODEL.keras|FILE.tflite IMAGE|FOLDER... [flags]",
    )
    parser.add_argument("model", metavar="MODEL", help="a run's folder, a .keras file, or a .tflite file")
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="image files, or folders of them")
    parser.add_argument(
        "--method",
        choices=EXPLANATION_METHODS,
        default=None,
        help="method (default: grad-cam; score-cam for a .tflite file, which has no gradients)",
    )
    parser.add_argument(
        "--layer", default=None, metavar="NAME", help="layer to weight (default: the last convolution's)"
    )
    parser.add_argument(
        "--class", dest="target", default=None, metavar="NAME|NUMBER", help="class to explain (default: the predicted)"
    )
    parser.add_argument("--out", default="explained", metavar="DIR", help="folder for the PNGs (default: explained)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace PNGs that exist")
    parser.add_argument("--colormap", default="turbo", metavar="NAME", help="colormap of matplotlib (default: turbo)")
    parser.add_argument("--opacity", type=float, default=0.5, metavar="0..1", help="of the heatmap (default: 0.5)")
    predict.add_model_flags(parser)
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        if not 0 <= options.opacity <= 1:
            raise InputError(f"--opacity takes a number from 0 to 1. Received: {options.opacity}.")
        if Path(options.model).suffix == ".tflite" and options.method not in (None, "score-cam"):
            raise InputError(
                f"A .tflite file has no gradients: only score-cam explains it. Received: {options.method}."
            )
        targets = _places(predict.find_images(options.images), Path(options.out), options.overwrite)
        model = predict.open_model(options, keep_tensors=True)
        status.code = predict.name_unread(model, _explain_all(options, model, targets))
    return status.code


def _places(images, folder, overwrite):
    """`{image file: its PNG}`; files of one name in several folders get numbers.

    Raises:
        InputError: If a PNG exists already.
    """
    places, taken = {}, set()
    for path in images:
        name, count = path.stem, 1
        while name in taken:
            count += 1
            name = f"{path.stem}-{count}"
        taken.add(name)
        places[path] = folder / f"{name}.png"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out needs a folder, but {folder} is a file. Choose another with --out DIR.")
    there = [str(place) for place in places.values() if place.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} exists. Choose another folder with --out DIR, or pass --overwrite.")
    return places


def _explain_all(options, model, targets):
    """Writes a PNG per image file and prints a line; returns what could not be read."""
    from keras_vision import explanation

    method = explanation.METHODS[options.method or ("score-cam" if model.is_tflite else "grad-cam")]
    chosen = None if options.target is None else _class_number(options.target, model.class_names)
    explanation.overlay(*_blank(), colormap=options.colormap)  # A wrong name is refused before the work.
    width = max(len(str(path)) for path in targets)
    unread = []
    for path, place in targets.items():
        image = model.read(path)
        full = _full_image(path, model.image_shape, model.resize, model.intensity_range)
        if image is None or full is None:
            unread.append(path)
            continue
        scores = model.probabilities(image[None])[0]
        target = int(scores.argmax()) if chosen is None else chosen
        # A .tflite file brings pixels into its range by itself.
        given = image[None] if model.is_tflite else model.as_input(image[None])
        # Black, from which integrated gradients start and behind which Score-CAM masks, in the model's range.
        name = options.method or ""
        black = {} if model.is_tflite else {"integrated-gradients": {"baseline": model.input_range[0]}}.get(name, {})
        heatmap = method(model.model, given, [target], layers=options.layer, **black)[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(place, full, heatmap, options)
        print(f"{path!s:<{width}}  {model.class_names[target]} {scores[target]:.3f}  {place}")
    return unread


def _blank():
    import numpy as np

    return np.zeros((2, 2)), np.zeros((2, 2))


def _class_number(text, labels):
    if text in labels:
        return labels.index(text)
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    raise InputError(
        f"--class takes a name or a number from 0 to {len(labels) - 1}: {', '.join(labels)}. Received: {text!r}."
    )


def _full_image(path, image_shape, resize, intensity_range=None):
    """What the model sees of an image, as large as `LONGEST_SIDE`; the whole image, unstretched, for `stretch`."""
    import cv2

    try:
        content = image_files.read_bytes(path)
        image = image_files.decode(content, intensity_range=intensity_range, name=str(path))
    except image_files.UnreadableError:
        return None
    if resize != "stretch":
        height, width = (side * LONGEST_SIDE // max(image_shape[:2]) for side in image_shape[:2])
        return image_files.fit(image, height, width, resize)
    factor = LONGEST_SIDE / max(image.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _write(place, image, heatmap, options):
    import cv2
    import numpy as np

    from keras_vision import explanation

    large = explanation.resize(heatmap[None], image.shape[:2])[0]
    drawn = explanation.overlay(image, large, colormap=options.colormap, opacity=options.opacity)
    both = cv2.cvtColor(np.hstack([image, drawn]), cv2.COLOR_RGB2BGR)
    try:
        place.write_bytes(cv2.imencode(".png", both)[1].tobytes())
    except OSError as error:
        raise InputError(f"Cannot write {place}: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
