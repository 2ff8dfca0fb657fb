"""Several finished runs as one: a run whose probabilities are the mean of theirs, with a report of its own.

Run:     python -m keras_vision.ensemble runs/derma-best runs/derma-best-seed1 runs/derma-best-seed2 --out runs/three
Then:    python -m keras_vision.derma --recipe best --teachers runs/three    one small network learns what they say
The runs must have the same images in each split. A phone gets the small network: an ensemble has no .tflite files.
"""

import sys
from collections.abc import Sequence

from keras_vision import backend, cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("ensemble"), description=__doc__, usage="%(prog)s RUN RUN [RUN ...] --out DIR [--overwrite]"
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the new run")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace a finished run")
    parser.add_argument(
        "--backend", choices=backend.BACKENDS, default=None, metavar="NAME", help="tensorflow, jax or torch"
    )
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        from keras_vision.pipeline import folder as run_folder

        run_folder.check(options.out, overwrite=options.overwrite)
        backend.choose_backend(options.backend)
        ensembles = backend.import_quietly("keras_vision.pipeline.ensembles")
        ensembles.make(options.runs, options.out, overwrite=options.overwrite)
    return status.code


if __name__ == "__main__":
    sys.exit(main())
