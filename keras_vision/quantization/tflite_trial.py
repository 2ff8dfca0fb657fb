"""The child process in which LiteRT reads and runs a file for the first time. `files.trial` starts it."""

import sys
import warnings

from keras_vision.files import trial

KEEP_TENSORS = 1


def run(content: bytes, mode: int) -> int:
    """Runs a file on an input of zeros, and on one of random values.

    Args:
        mode: `KEEP_TENSORS`, or 0.

    Returns:
        0.
    """
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(
        model_content=content, num_threads=1, experimental_preserve_all_tensors=mode == KEEP_TENSORS
    )
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for values in (np.zeros, lambda shape: random.integers(0, 256, shape)):
        for item in interpreter.get_input_details():
            interpreter.set_tensor(item["index"], values(item["shape"]).astype(item["dtype"]))
        interpreter.invoke()
    for item in interpreter.get_output_details():
        interpreter.get_tensor(item["index"])
    if mode == KEEP_TENSORS:
        for item in interpreter.get_tensor_details():
            interpreter.get_tensor(item["index"])
        interpreter._get_ops_details()
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(trial.serve(run))
