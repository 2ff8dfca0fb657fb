"""The child process in which a HEIC file's header is read for the first time. `files.trial` starts it."""

import sys
import warnings

from keras_vision.files import heif, trial


def read(content: bytes, mode: int) -> int:
    """Reads a header, with everything that is opened before the image itself.

    Args:
        mode: Not used.

    Returns:
        The pixels of the image.
    """
    width, height = heif.decoder().open_heif(content).size
    return width * height


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(trial.serve(read))
