"""Heatmaps for pictures that nobody has seen before: which parts of them speak for a class.

Run:     python -m keras_vision.explain runs/derma-augment lesion.jpg more_lesions/
         python -m keras_vision.explain runs/derma-augment-qat/tflite/qat.tflite lesion.jpg --method score-cam
Leaves:  for each picture a PNG, the picture beside the same with its heatmap
Exit:    0; 1 when a picture could not be read (the others are explained); 2 for a mistake that stops all
"""

import sys
from pathlib import Path
from typing import Any

from keras_vision import cli, pictures, predict
from keras_vision.recipe import EXPLANATION_METHODS, InputError, first_line

LONGEST_SIDE = 512  # Of a picture in the PNG, in pixels; a smaller one is enlarged.


def main(argv=None):
    parser = cli.Parser(
        prog="python -m keras_vision.explain",
        description=__doc__,
        usage="%(prog)s RUN|MODEL.keras|FILE.tflite IMAGE|FOLDER... [flags]",
    )
    parser.add_argument("model", metavar="RUN|MODEL.keras|FILE.tflite", help="a run's folder, or a model's file")
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="pictures, or folders of them")
    parser.add_argument(
        "--method",
        choices=EXPLANATION_METHODS,
        default=None,
        help="how (default: grad-cam; score-cam for a .tflite file, which has no gradients)",
    )
    parser.add_argument(
        "--layer", default=None, metavar="NAME", help="layer to weigh (default: the last convolution's)"
    )
    parser.add_argument(
        "--class", dest="target", default=None, metavar="NAME|NUMBER", help="class to explain (default: the predicted)"
    )
    parser.add_argument("--labels", default=None, metavar="FILE", help="class names, a line each")
    parser.add_argument("--out", default="explained", metavar="DIR", help="folder for the PNGs (default: explained)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace PNGs that are there already")
    parser.add_argument("--colormap", default="turbo", metavar="NAME", help="a colormap of matplotlib (default: turbo)")
    parser.add_argument("--opacity", type=float, default=0.5, metavar="0..1", help="of the heatmap (default: 0.5)")
    parser.add_argument("--backend", choices=cli.BACKENDS, default=None, help="Keras backend (default: KERAS_BACKEND)")
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        if not 0 <= options.opacity <= 1:
            raise InputError(f"--opacity takes a number from 0 to 1. Received: {options.opacity}.")
        found = predict.find_images(options.images)
        targets = _places(found, Path(options.out), options.overwrite)
        cli.choose_backend(options.backend)
        cli.import_quietly("keras_vision.explanation")
        model, labels, image_shape = _read_model(options)
        status.code = predict.name_unread(_explain_all(options, model, labels, image_shape, targets))
    return status.code


def _places(pictures, folder, overwrite):
    """`{picture: its PNG}`; pictures of one name in several folders get numbers.

    Raises:
        InputError: If a PNG is there already.
    """
    places, taken = {}, set()
    for path in pictures:
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


def _read_model(options):
    """The model, its class names, and the shape of its images."""
    path = Path(options.model)
    if path.suffix == ".tflite":
        return _read_file_model(options)
    import keras

    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path} is no run's folder with a model.keras, no .keras and no .tflite file.")
    model: Any
    try:
        with cli.native_noise_held():
            model = keras.saving.load_model(file, compile=False)
    except Exception as error:  # Whatever a damaged archive makes of Keras's reader.
        raise InputError(f"{file} cannot be read as a Keras model: {first_line(error)}") from error
    beside = file.parent / "labels.txt"
    if options.labels is None and not beside.is_file():
        labels = [f"class {number}" for number in range(model.output_shape[-1])]
    else:
        labels = predict.read_labels(b"", file, options.labels or beside, model.output_shape[-1])
    return model, labels, model.input_shape[1:]


def _read_file_model(options):
    from keras_vision.quantization.runtime import Runner

    if options.method not in (None, "score-cam"):
        raise InputError(f"A .tflite file has no gradients: only score-cam explains it. Received: {options.method}.")
    content = cli.read_file(options.model)
    checked = predict.open_runner(content, options.model, threads=1)
    labels = predict.read_labels(content, options.model, options.labels, checked.num_classes)
    with cli.native_noise_held():
        return Runner(content, keep_tensors=True), labels, checked.image_shape


def _explain_all(options, model, labels, image_shape, targets):
    """Writes a PNG a picture and prints a line; returns what could not be read."""
    from keras_vision import explanation

    tflite = Path(options.model).suffix == ".tflite"
    method = explanation.METHODS[options.method or ("score-cam" if tflite else "grad-cam")]
    chosen = None if options.target is None else _class_number(options.target, labels)
    explanation.overlay(*_blank(), colormap=options.colormap)  # A wrong name is better said before the work.
    width = max(len(str(path)) for path in targets)
    resize = predict.trained_resize(options.model)
    unread = []
    for path, place in targets.items():
        image = predict.read_image(path, image_shape, resize)
        full = _full_picture(path, image_shape, resize)
        if image is None or full is None:
            unread.append(path)
            continue
        scores = explanation.probabilities(model, image[None])[0]
        target = int(scores.argmax()) if chosen is None else chosen
        heatmap = method(model, image[None], [target], layers=options.layer)[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(place, full, heatmap, options)
        print(f"{path!s:<{width}}  {labels[target]} {scores[target]:.3f}  {place}")
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


def _full_picture(path, image_shape, resize):
    """What the model sees of a picture, as large as `LONGEST_SIDE`: all of it, in its proportions, where stretched."""
    import cv2

    try:
        picture = pictures.decode(pictures.read_bytes(path))
    except pictures.UnreadableError:
        return None
    if resize != "stretch":
        height, width = (side * LONGEST_SIDE // max(image_shape[:2]) for side in image_shape[:2])
        return pictures.fit(picture, height, width, resize)
    factor = LONGEST_SIDE / max(picture.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _write(place, picture, heatmap, options):
    import cv2
    import numpy as np

    from keras_vision import explanation

    large = explanation.resize(heatmap[None], picture.shape[:2])[0]
    drawn = explanation.overlay(picture, large, colormap=options.colormap, opacity=options.opacity)
    both = cv2.cvtColor(np.hstack([picture, drawn]), cv2.COLOR_RGB2BGR)
    try:
        place.write_bytes(cv2.imencode(".png", both)[1].tobytes())
    except OSError as error:
        raise InputError(f"Cannot write {place}: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
