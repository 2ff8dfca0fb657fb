"""Downloads, image files, and folders that are written atomically."""
