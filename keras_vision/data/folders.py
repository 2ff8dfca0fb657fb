"""Image files from folders: one folder per class, optionally inside `train`, `val` and `test`."""

import os
from pathlib import Path

import numpy as np

from keras_vision.data.data_report import DataReport
from keras_vision.data.picture_cache import cached
from keras_vision.data.splits import Source, Split, Splits, check_splits, take_validation
from keras_vision.files import image_files
from keras_vision.recipe import DataSpec, InputError

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Left in folders by operating systems, like everything whose name starts with a dot.
NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
MOST_SET_ASIDE = 0.05


def load(root: Path | str, spec: DataSpec, seed: int = 0) -> Splits:
    """The splits of a folder, memory-mapped.

    Args:
        root: The folder.
        spec: Size, colour, resizing, shares, limit, strictness.
        seed: Decides which images go to the splits that the folder does not have.

    Returns:
        `Splits` whose images are `Rows` of a cache, and whose report lists the files that were set aside.

    Raises:
        InputError: If the folder has another layout, more than 5 % of its image files cannot be read, or a class has
            none left.
    """
    root = Path(root)
    if _texts([str(root.resolve())]) != (str(root.resolve()),):
        raise InputError(f"The name {_texts([str(root)])[0]} contains bytes that are not text. Rename the folder.")
    listed, layout = _list(root)
    class_names = tuple(sorted({name for classes in listed.values() for name in classes}))
    splits, done = _splits(root, _labelled(listed, class_names), spec, seed)
    description = f"The folder {root.resolve().name}, {layout}{done}"
    files = Splits(**splits, class_names=_texts(class_names), source=Source("", "", ""))
    check_splits(files, str(root))  # Before gigabytes are decoded.
    files = files.limited(spec.images_at_most(spec.size**2 * (3 if spec.color == "rgb" else 1)))
    return _decoded(root, files, spec, description)


def _list(root):
    """`{split: {class: [file, ...]}}`, files relative to the root; and a description of the layout.

    The split is `all` if the folder has none.
    """
    folders = _folders(root)
    known = {name: SPLIT_FOLDERS[name.lower()] for name in folders if name.lower() in SPLIT_FOLDERS}
    if folders and len(known) == len(folders) and "train" not in known.values():
        raise InputError(f"{root} has {', '.join(known)}, but no train folder.")
    if "train" not in known.values():
        return {"all": _classes(root, "")}, "without splits"
    if len(set(known.values())) < len(known):
        raise InputError(f"{root} has a split twice: {', '.join(known)}. Keep one folder of each.")
    beside = ", ".join(sorted(set(folders) - set(known)))
    layout = f"its own {', '.join(known)}" + (f" (ignored: {beside})" if beside else "")
    return {split: _classes(root, name) for name, split in known.items()}, layout


def _folders(root):
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if _is_data(entry.name) and _is_folder(entry))
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror or error}.") from error


def _is_data(name):
    return not name.startswith(".") and name.lower() not in NOT_DATA


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _classes(root, inside):
    classes = _folders(root / inside)
    if not classes:
        raise InputError(
            "--data needs a folder with one subfolder per class, or train, val and test with such subfolders. "
            f"{root / inside} has no folders."
        )
    # A link from a class to another class, or to a parent of several, would give its images a wrong label.
    others = {os.path.realpath(path) for path in (root, root / inside, *(root / inside / name for name in classes))}
    files = {}
    for name in classes:
        path = os.path.join(inside, name)
        files[name] = sorted(_files(root, path, others - {os.path.realpath(root / path)}))
    return files


def _files(root, inside, seen):
    """Files below a folder, relative to the root; links are followed, but no folder is entered twice."""
    real = os.path.realpath(root / inside)
    if real in seen:
        return
    seen.add(real)
    try:
        with os.scandir(root / inside) as entries:
            children = [(entry.name, _is_folder(entry)) for entry in entries if _is_data(entry.name)]
    except OSError:
        yield inside  # Reading it later reports the reason.
        return
    for name, is_folder in children:
        path = os.path.join(inside, name)
        if is_folder:
            yield from _files(root, path, seen)
        else:
            yield path


def _labelled(listed, class_names):
    """`{split: Split}` with files in place of images."""
    splits = {}
    for split, classes in listed.items():
        rows = [(file, class_names.index(name)) for name, files in classes.items() for file in files]
        files = np.array([file for file, _ in rows], object)
        splits[split] = Split(files, np.array([label for _, label in rows], np.int64))
    return splits


def _splits(root, splits, spec, seed):
    """train, val and test, the missing ones taken from the others; and a description of that."""
    if "all" in splits:
        splits, done = {"train": splits["all"]}, "; "
    elif "test" not in splits and "val" in splits:
        # Choices are made on the validation split, so the images provided for testing must not be it.
        splits = {"train": splits["train"], "test": splits["val"]}
        done = "; its val is the test split here; "
    else:
        done = "; "
    for name, share in (("test", spec.test_share), ("val", spec.val_share)):
        if name not in splits:
            splits["train"], splits[name] = take_validation(splits["train"], share, seed, str(root))
            done += f"{name}: {100 * share:g} % of each class of {'all' if name == 'test' else 'train'}, "
            done += f"chosen with seed {seed}; "
    return splits, done.removesuffix("; ")


def _decoded(root, files, spec, description):
    names = sorted(name for split in files.named().values() for name in split.images)
    shape = (spec.size, spec.size, 3 if spec.color == "rgb" else 1)
    cache = cached(root, names, shape, spec.resize, strict=spec.strict)
    _check_set_aside(root, cache)
    rows = {name: row for row, name in enumerate(cache.names)}
    splits, kept_names = {}, {}
    for split, content in files.named().items():
        kept = np.array([name in rows for name in content.images], bool)
        _check_classes(root, split, files.class_names, content.labels, kept)
        kept_names[split] = np.array(_texts(content.images[kept]), object)
        images = cache.rows([rows[name] for name in content.images[kept]])
        splits[split] = Split(images, content.labels[kept])
    name = root.resolve().name
    how = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}[spec.resize]
    source = Source(
        name,
        f"{description}; {how} to {spec.size} x {spec.size}, {'colour' if spec.color == 'rgb' else 'gray'}",
        "unknown",
        {f"the {len(names):,} files of {name}": cache.sha256},
        spec.resize,
    )
    report = DataReport(len(names), _text_keys(cache.set_aside), _text_keys(cache.remarks), kept_names)
    return Splits(**splits, class_names=files.class_names, source=source, report=report)


def _check_set_aside(root, cache):
    """Stops if more than 5 % of the files with an image's extension cannot be read; other files do not count."""
    aside = _text_keys(cache.set_aside)
    bad = [name for name in aside if Path(name).suffix.lower() in image_files.SUFFIXES]
    if len(bad) > MOST_SET_ASIDE * (len(bad) + len(cache.names)):
        shown = "; ".join(f"{name}: {aside[name]}" for name in bad[:5])
        raise InputError(
            f"{root}: {len(bad)} of {len(bad) + len(cache.names)} images cannot be read, more than "
            f"{100 * MOST_SET_ASIDE:g} %. Repair or remove them. The first: {shown}."
        )


def _check_classes(root, split, class_names, labels, kept):
    for label in np.unique(labels):
        if not kept[labels == label].any():
            raise InputError(f"{root}: no file of the class {class_names[label]!r} in {split} can be read.")


def _texts(names):
    """Printable names: those on disk may contain bytes that are not text."""
    return tuple(os.fsencode(name).decode("utf-8", "replace") for name in names)


def _text_keys(named):
    return dict(zip(_texts(named), named.values(), strict=True))
