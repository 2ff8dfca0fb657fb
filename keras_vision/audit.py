"""What a .tflite file contains: every operator, its types, its weights, and what is float inside.

Run:     python -m keras_vision.audit tflite_exports/derma-best/int8.tflite
Card:    if FILE.json is next to FILE.tflite, the file is checked against it
Exit:    0; 1 if a file differs from its card, or is not what --require asks for; 2 for a file that cannot be read
"""

import json
import sys
from collections.abc import Sequence

from keras_vision import cli
from keras_vision.files import outside


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("audit"),
        description=__doc__,
        usage="%(prog)s FILE.tflite [FILE.tflite ...] [--json] [--require full-integer]",
    )
    parser.add_argument("files", nargs="+", metavar="FILE.tflite", help="any .tflite file")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON, a list with an object per file")
    parser.add_argument(
        "--require", choices=("full-integer",), default=None, help="exit with 1 unless every file is of this kind"
    )
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        from keras_vision.pipeline import folder as run_folder
        from keras_vision.quantization import auditing

        reports = []
        for path in options.files:
            content, card = outside.read_bytes(path), run_folder.read_card(path)
            audit = auditing.audit(content, path)
            wrong = None if card is None else auditing.card_differences(content, card, path)
            reports.append({"file": path, **audit.to_dict(), "card_differences": wrong})
            if not options.json:
                print("\n".join([path, *auditing.table(audit)]))
                if wrong is not None:
                    print(f"card: {'; '.join(wrong) or 'agrees'}")
                print()
            if wrong or (options.require and audit.kind != options.require):
                status.code = 1
        if options.json:
            print(json.dumps(reports, indent=2))
    return status.code


if __name__ == "__main__":
    sys.exit(main())
