"""Packages that are not installed: which one a missing module belongs to, and how to get it."""

import importlib.util

# Where package and module have different names.
PACKAGES = {
    "ai_edge_litert": "ai-edge-litert",
    "cv2": "opencv-python-headless",
    "huggingface_hub": "huggingface-hub",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}


def sentence(error: ModuleNotFoundError) -> str | None:
    """What to install for a module that was not found; None where its package is there and the error is a bug.

    Args:
        error: From an import.
    """
    name = (error.name or "").partition(".")[0]
    if not name or name == "keras_vision" or importlib.util.find_spec(name) is not None:
        return None
    package = PACKAGES.get(name, name)
    return f"This needs the package {package}, which is not installed: pip install {package}."
