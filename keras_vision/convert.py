"""Files for phones from any Keras model: .tflite files that were run and compared with the model.

Run:     python -m keras_vision.convert my.keras --images photos/ --labels names.txt --out my-files
         python -m keras_vision.convert my.keras --images photos/ --input-range 0 1 --qat --out my-files
Images:  a folder, best with a folder for each class, or an .npz file; like those that the model was trained with
Leaves:  for each scheme a .tflite file that takes pixels from 0 to 255, and a card with what was measured; labels.txt;
         with --export a file for each other runtime, run by it, and exports.json
Exit:    0; 1 if the model has a layer without an 8-bit operator (the float files are written); 2 for a mistake
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_vision import backend, cli, predict
from keras_vision.files import export_packages
from keras_vision.recipe import EXPORTS, INTEGER_EXPORTS, IO_TYPES, SCHEMES, InputError


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("convert"),
        description=__doc__,
        usage="%(prog)s RUN|MODEL.keras --images FOLDER|FILE.npz [flags]",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file, or a run's folder")
    parser.add_argument(
        "--images", required=True, metavar="FOLDER|FILE.npz", help="images like those that the model was trained with"
    )
    cli.add_schemes_flag(parser, f"files to write, of {', '.join(SCHEMES)} (default: the first three)")
    parser.add_argument(
        "--qat", action="store_true", default=False, help="also a file that was fine-tuned for integers, without labels"
    )
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="of that fine-tuning (default: 4)")
    parser.add_argument(
        "--io", choices=IO_TYPES, default="uint8", help="input and output of the integer files (default: uint8)"
    )
    parser.add_argument(
        "--representative-images",
        type=int,
        default=256,
        metavar="N",
        help="images that set the ranges of integer files (default: 256)",
    )
    parser.add_argument(
        "--export", nargs="+", choices=list(EXPORTS), default=(), metavar="NAME", help=f"also, of {', '.join(EXPORTS)}"
    )
    parser.add_argument("--licence", default="unknown", metavar="TEXT", help="of the model, for the files' metadata")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
    parser.add_argument("--out", default="converted", metavar="DIR", help="folder for the files (default: converted)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace files that exist")
    predict.add_model_flags(parser)
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        schemes: list[str] = list(options.schemes or SCHEMES[:3])
        if options.qat and "qat" not in schemes:
            schemes.append("qat")
        _check(options, schemes)
        images = Path(os.path.expanduser(options.images))
        files = [] if images.suffix == ".npz" else predict.find_images([str(images)])
        model = predict.open_model(options)
        from keras_vision.pipeline import own_model

        pictures = own_model.read_pictures(model, images, files, predict.progress)
        schemes = [name for name in SCHEMES if name in schemes]
        status.code = own_model.convert(options, schemes, model, pictures, predict.progress)
    return status.code


def _check(options, schemes):
    """Refuses what cannot work before anything is imported."""
    if Path(options.model).suffix == ".tflite":
        raise InputError(f"convert takes a .keras file or a run's folder. Received: {options.model}.")
    if options.epochs < 1 or options.representative_images < 1:
        raise InputError("--epochs and --representative-images take a number of at least 1.")
    if set(INTEGER_EXPORTS) & set(options.export) and not {"int8", "qat"} & set(schemes):
        raise InputError(
            f"--export {' and '.join(INTEGER_EXPORTS)} are made of an integer .tflite file: they need int8 or qat in "
            "--schemes."
        )
    backend.choose_backend(options.backend)
    export_packages.require(options.export, backend.chosen())
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out needs a folder, but {out} is a file. Choose another with --out DIR.")
    places = [out / f"{name}.{ending}" for name in schemes for ending in ("tflite", "json")]
    places += [out / name for kind in options.export for name in EXPORTS[kind]]
    there = [place for place in places if place.exists()]
    if there and not options.overwrite:
        raise InputError(f"{there[0]} exists. Choose another folder with --out DIR, or pass --overwrite.")


if __name__ == "__main__":
    sys.exit(main())
