"""`keras-vision` and `python -m keras_vision`: lists the tracks and commands, and runs them."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from keras_vision import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `keras-vision NAME ...`; without a name, or with `--help`, lists what there is.

    Returns:
        The exit status: that of the track or command, 2 for a name that does not exist.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in (*cli.TRACKS, *cli.COMMANDS):
        return importlib.import_module(f"keras_vision.{name}").main(rest)
    if name in ("--help", "-h"):
        print("\n".join(_overview()))
        return 0
    if name == "--version":
        from keras_vision import __version__

        print(__version__)
        return 0
    near = difflib.get_close_matches(name, (*cli.TRACKS, *cli.COMMANDS), n=1)
    everything = f"Tracks: {', '.join(cli.TRACKS)}. Commands: {', '.join(cli.COMMANDS)}."
    hint = f"Did you mean {near[0]}?" if near else everything
    print(f"error: There is no track or command {name!r}. {hint}", file=sys.stderr)
    return 2


def _overview():
    yield "keras_vision: image classifiers from data to a phone\n"
    yield "Usage: keras-vision NAME [flags]    (or: python -m keras_vision.NAME [flags])\n"
    for title, names in (("Tracks", cli.TRACKS), ("Commands", cli.COMMANDS)):
        yield f"{title}:"
        for name in names:
            docstring = importlib.import_module(f"keras_vision.{name}").__doc__ or ""
            yield f"  {name:<12} {docstring.partition(chr(10))[0]}"
        yield ""
    yield "keras-vision NAME --help shows the flags of each."


if __name__ == "__main__":
    sys.exit(main())
