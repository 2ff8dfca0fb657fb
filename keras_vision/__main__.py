"""`python -m keras_vision`: what there is to run."""

import importlib
import sys

TRACKS = ("derma", "fracture3d", "cifar", "imagenette", "bones", "plants")
COMMANDS = ("compare", "predict", "explain", "audit")


def main():
    print("keras_vision: small image classifiers from data to a phone\n")
    for title, names in (("Tracks", TRACKS), ("Commands", COMMANDS)):
        print(f"{title}:")
        for name in names:
            docstring = importlib.import_module(f"keras_vision.{name}").__doc__ or ""
            print(f"  python -m keras_vision.{name:<12} {docstring.partition(chr(10))[0]}")
        print()
    print("Each has --help.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
