"""Files of every kind but a run's own: downloads, image files, folders that are written whole."""
