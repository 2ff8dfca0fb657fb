"""What lies beyond an image's rim: coordinates outside it, mapped to places inside it."""

import numpy as np


def bring_inside(places, length, fill_mode):
    """Maps coordinates beyond an axis into it, in place, as SciPy's `map_coordinates` does.

    Args:
        places: Float array of coordinates in pixels, any shape.
        length: Pixels along the axis.
        fill_mode: `nearest`, `reflect` or `wrap`; all that is left outside goes to the nearest pixel.
    """
    if fill_mode == "reflect":
        np.mod(places + np.float32(0.5), 2 * length, out=places)
        np.minimum(places, 2 * length - places, out=places)
        places -= np.float32(0.5)
    elif fill_mode == "wrap":
        beyond = (places < 0) | (places > length - 1)
        places[beyond] = np.mod(places[beyond], length - 1)
    np.clip(places, 0, length - 1, out=places)
