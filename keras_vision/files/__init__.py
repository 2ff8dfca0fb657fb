"""Downloads, image files, checks of files from elsewhere, and folders that are written atomically."""
