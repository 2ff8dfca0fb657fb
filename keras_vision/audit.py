"""What a .tflite file really is: every operator, its types, its weights, and what is float inside.

Run:     python -m keras_vision.audit runs/derma/tflite/int8.tflite
Exit:    0; with --require full-integer, 1 for a file that is not; 2 for a file that cannot be read
"""

import json
import sys

from keras_vision import cli


def main(argv=None):
    parser = cli.Parser(
        prog="python -m keras_vision.audit",
        description=__doc__,
        usage="%(prog)s FILE.tflite [FILE.tflite ...] [--json] [--require full-integer]",
    )
    parser.add_argument("files", nargs="+", metavar="FILE.tflite", help="file, ours or not")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON, a list with an object a file")
    parser.add_argument(
        "--require", choices=("full-integer",), default=None, help="exit with 1 unless every file is of that kind"
    )
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        from keras_vision.quantization import auditing

        found = {path: auditing.audit(cli.read_file(path), path) for path in options.files}
        if options.json:
            print(json.dumps([{"file": path, **audit.to_dict()} for path, audit in found.items()], indent=2))
        else:
            print("\n\n".join("\n".join([path, *auditing.table(audit)]) for path, audit in found.items()))
        if options.require and any(audit.kind != options.require for audit in found.values()):
            status.code = 1
    return status.code


if __name__ == "__main__":
    sys.exit(main())
