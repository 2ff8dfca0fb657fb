"""Which installed packages write and run the files of `--export`, and the sentence where one is missing.

Standard library only, so that the command line can refuse a format before Keras is imported.
"""

import importlib.util
from collections.abc import Iterable

from keras_vision.recipe import InputError

# The backends on which Keras writes a format, and the packages that each needs for it. JAX pads as TensorFlow does, so
# that is first for its models.
WRITERS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"tensorflow": ("onnx", "tf2onnx"), "torch": ("onnx",)},
    "onnx_int8": {"tensorflow": ("onnx", "tf2onnx")},
    "openvino": {"tensorflow": ("openvino",), "torch": ("openvino",)},
    "torch": {"torch": ()},
    "saved_model": {"tensorflow": ()},
    "c_array": {},
}
# What runs the file that was written.
JUDGES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "onnx_int8": ("onnxruntime",),
    "openvino": ("openvino",),
    "torch": (),
    "saved_model": (),
    "c_array": (),
}
EXTRAS = {"onnx_int8": "onnx"}
NAMES = {"torch": "torch", "tensorflow": "TensorFlow"}


def writers(format: str, own: str) -> list[str]:
    """The backends on which a format can be written: a run's own first, because layers differ between backends.

    Args:
        format: One of `recipe.EXPORTS`.
        own: The run's backend.

    Returns:
        Names of backends; none for a format that this package writes itself.

    Raises:
        InputError: If a package is missing, with the command that installs it.
    """
    backends = WRITERS[format]
    order = sorted(backends, key=lambda name: name != own)
    there = [name for name in order if _is_installed(name)]
    if backends and not there:
        what = " and ".join(NAMES[name] for name in backends)
        can = "backend that writes such files is" if len(backends) == 1 else "backends that write such files are"
        raise InputError(f"--export {format}: the {can} not installed, {what}: pip install {order[0]}.")
    able = [name for name in there if not _missing([*backends[name], *JUDGES[format]])]
    missing = _missing([*(backends[there[0]] if there else ()), *JUDGES[format]])
    if missing and not able:
        raise InputError(
            f"--export {format} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'keras-vision[{EXTRAS.get(format, format)}]'."
        )
    return able


def require(formats: Iterable[str], own: str) -> None:
    """Refuses formats that cannot be written here, before hours of work.

    Raises:
        InputError: As `writers` does.
    """
    for name in formats:
        writers(name, own)


def _missing(modules):
    return [name for name in dict.fromkeys(modules) if not _is_installed(name)]


def _is_installed(module):
    return importlib.util.find_spec(module) is not None
