"""What a .tflite file really is: every operator, its types, its weights, and what is float inside.

Run:     python -m keras_vision.audit tflite_exports/derma-best/int8.tflite
Card:    where FILE.json lies beside FILE.tflite, the file is held against what that says of it
Exit:    0; 1 for a file that its card does not fit, or is not what --require says; 2 for one that cannot be read
"""

import json
import sys
from pathlib import Path

from keras_vision import cli
from keras_vision.recipe import InputError


def read_card(path):
    """The card beside a .tflite file, a dict, or None where there is none.

    Raises:
        InputError: If it cannot be read.
    """
    beside = Path(path).with_suffix(".json")
    if not beside.is_file() or beside == Path(path):
        return None
    try:
        card = json.loads(cli.read_file(beside))
    except ValueError as error:
        raise InputError(f"The card {beside} is damaged: {error}.") from error
    return card if isinstance(card, dict) and "sha256" in card else None


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

        reports = []
        for path in options.files:
            content, card = cli.read_file(path), read_card(path)
            audit = auditing.audit(content, path)
            wrong = None if card is None else auditing.card_differences(content, card)
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
