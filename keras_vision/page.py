"""One HTML file that runs .tflite classifiers in a browser: no server, no network, pictures stay on the device.

Run:     python -m keras_vision.page runs/mine --out page.html
         python -m keras_vision.page tflite_exports/derma-best/float32.tflite tflite_exports/derma-best/int8.tflite
Takes:   a run's folder, from which also test images are shown, or .tflite files of the same classes, compared
Needs:   npm and a network the first time, for LiteRT's build for browsers; or --runtime FOLDER
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_vision import backend, cli, predict
from keras_vision.recipe import SCHEMES, InputError

MOST_FILES = 4


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("page"),
        description=__doc__,
        usage="%(prog)s RUN|FILE.tflite... [--out page.html] [flags]",
    )
    parser.add_argument("models", nargs="+", metavar="RUN|FILE.tflite", help="a run's folder, or .tflite files")
    cli.add_schemes_flag(parser, f"files of a run, of {', '.join(SCHEMES)} (default: the last that it has)")
    parser.add_argument("--title", default=None, metavar="TEXT", help="of the page (default: the model's name)")
    parser.add_argument(
        "--medical",
        action="store_true",
        default=False,
        help='say "not a medical device", as is said where the data\'s description or class names are medical',
    )
    parser.add_argument(
        "--gallery", type=int, default=40, metavar="N", help="most test images of a run to show (default: 40; 0: none)"
    )
    parser.add_argument(
        "--runtime", default=None, metavar="FOLDER", help="folder with LiteRT's archive, where npm cannot fetch it"
    )
    parser.add_argument("--out", default="page.html", metavar="FILE", help="the page (default: page.html)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace a page that exists")
    predict.add_model_flags(parser)
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        out = Path(os.path.expanduser(options.out))
        _check_out(out, options.overwrite)
        if options.gallery < 0:
            raise InputError("--gallery takes a number of at least 0.")
        run, paths = _files(options)
        if run is not None and options.gallery:
            backend.choose_backend(options.backend)  # For its test images and their heatmaps.
        from keras_vision.pipeline import browser_page

        classifiers = []
        for path in paths:
            options.model = str(path)
            classifiers.append(predict.open_model(options))
        size = browser_page.write(
            classifiers,
            out,
            run=run,
            title=options.title,
            medical=options.medical,
            gallery=options.gallery,
            runtime=options.runtime,
        )
        print(f"{out}: {size / 1e6:.1f} MB, {', '.join(path.name for path in paths)}. Open it in a browser.")
    return status.code


def _check_out(out, overwrite):
    """Refuses what cannot be written before anything is imported."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out takes the name of an .html file. Received: {out}.")
    if out.is_dir() or (out.exists() and not out.is_file()):
        raise InputError(f"--out needs a file, but {out} is none. Choose another with --out FILE.html.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists. Choose another with --out FILE.html, or pass --overwrite.")


def _files(options):
    """The run, or None, and the .tflite files."""
    from keras_vision.pipeline import folder as run_folder

    paths = [Path(os.path.expanduser(name)) for name in options.models]
    if len(paths) == 1 and paths[0].is_dir():
        there = [name for name in SCHEMES if (paths[0] / run_folder.tflite_names(name)[0]).is_file()]
        if not there:
            raise InputError(
                f"{paths[0]} has no .tflite files. Make them with keras-vision convert {paths[0]} --images FOLDER, "
                "or train with --tflite."
            )
        wanted = options.schemes or there[-1:]
        absent = [name for name in wanted if name not in there]
        if absent:
            raise InputError(f"{paths[0]} has no {absent[0]}.tflite. It has: {', '.join(there)}.")
        return paths[0], [paths[0] / run_folder.tflite_names(name)[0] for name in wanted]
    if options.schemes:
        raise InputError("--schemes chooses files of a run's folder. Leave it out where files are named.")
    for path in paths:
        if path.suffix != ".tflite":
            raise InputError(
                f"page takes one run's folder or .tflite files, which keras-vision convert makes. Received: {path}."
            )
    if len(paths) > MOST_FILES:
        raise InputError(f"A page has at most {MOST_FILES} files. Received: {len(paths)}.")
    return None, paths


if __name__ == "__main__":
    sys.exit(main())
