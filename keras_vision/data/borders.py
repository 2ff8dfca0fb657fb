"""Fill modes: coordinates outside an image mapped to coordinates inside it."""

import numpy as np


def bring_inside(places: np.ndarray, length: int, fill_mode: str) -> None:
    """Maps coordinates beyond an axis into it, in place, as in SciPy's `map_coordinates`.

    Args:
        places: Float array of coordinates in pixels, any shape.
        length: Pixels along the axis.
        fill_mode: `nearest`, `reflect` or `wrap`; coordinates that are still outside go to the nearest pixel.
    """
    if fill_mode == "reflect":
        np.mod(places + np.float32(0.5), 2 * length, out=places)
        np.minimum(places, 2 * length - places, out=places)
        places -= np.float32(0.5)
    elif fill_mode == "wrap":
        beyond = (places < 0) | (places > length - 1)
        places[beyond] = np.mod(places[beyond], length - 1)
    np.clip(places, 0, length - 1, out=places)
