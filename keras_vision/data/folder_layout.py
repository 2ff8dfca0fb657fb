"""What a folder of pictures is taken for: which of its folders are splits, which are classes, and what is left out.

People's folders are wrapped in others, nested in themselves, and named in many ways, so it is the tree that decides: a
split is a folder with a split's name that holds class folders. What the tree does not tell is asked for.
"""

import functools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keras_vision.files import image_files
from keras_vision.recipe import InputError

# Words in the names of split folders, and those that may stand beside them.
SPLIT_WORDS = {
    "train": ("train", "training", "trainset", "traindata", "tr"),
    "val": ("val", "valid", "validation", "validate", "valset", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "testset", "testdata", "holdout"),
}
OTHER_WORDS = {
    *("set", "data", "dataset", "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "sample"),
    *("samples", "split", "folder", "files", "seg", "out", "hold", "the", "of", "class", "classes", "final", "all"),
    *("public", "private"),
}
# Left in folders by operating systems, like everything whose name starts with a dot.
NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
TEXTS = {"readme", "license", "licence", "copying", "changelog", "makefile", "notice", "authors"}
DEEPEST = 64
SHOWN = 4


@dataclass
class Folder:
    """A folder with what is below it.

    Attributes:
        path: Relative to the root, with `/`; empty for the root.
        files: Names of the files in it.
        folders: Subfolders by name.
    """

    path: str
    files: list[str] = field(default_factory=list)
    folders: dict[str, "Folder"] = field(default_factory=dict)

    def everything(self) -> Iterator[str]:
        """Paths of all files below it, relative to the root."""
        yield from (os.path.join(self.path, name) for name in self.files)
        for folder in self.folders.values():
            yield from folder.everything()

    @functools.cached_property
    def own_images(self) -> int:
        """How many files in it, not below, are meant as images."""
        return sum(map(_may_be_image, self.files))

    @functools.cached_property
    def images(self) -> int:
        """How many files below it are meant as images."""
        return sum(map(_may_be_image, self.everything()))

    @functools.cached_property
    def filled(self) -> dict[str, "Folder"]:
        """Its subfolders that have images."""
        return {name: folder for name, folder in self.folders.items() if folder.images}


@dataclass(frozen=True)
class Layout:
    """What a folder was taken for.

    Attributes:
        splits: `{split: {class: [file, ...]}}`, files relative to the root; the split is `all` if there are none.
        described: The layout in a few words.
        notes: Sentences about what a user may not expect.
    """

    splits: dict[str, dict[str, list[str]]]
    described: str
    notes: tuple[str, ...] = ()


def read(root: Path, classes_at: str | None = None) -> Layout:
    """The layout of a folder.

    Args:
        root: The folder.
        classes_at: Path below it of the folder whose subfolders are the classes; `*` stands for every folder. In a
            split's folder it stands for the same path in the others.

    Raises:
        InputError: If the folder cannot be read, or it is not clear which of its folders are the classes.
    """
    tree = scan(root)
    if classes_at is not None:
        found, described, left = _stated(root, tree, classes_at)
    else:
        found, described, left = _told(root, tree)
    names, notes = shown_names(found)
    splits = {
        split: {names[name]: files for name, files in _files(folders).items()} for split, folders in found.items()
    }
    if left:
        described += f"; left out: {', '.join(left)}"
    return Layout(splits, described, notes)


def split_of(name: str) -> str | None:
    """The split that a folder's or a table's word means: `seg_train`, `Train_Images`, `holdout`, `2-val`; or None."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = {split for split, known in SPLIT_WORDS.items() for word in words if word in known}
    if {"hold", "out"} <= set(words):
        found.add("test")
    known = {word for words in SPLIT_WORDS.values() for word in words}
    others = [word for word in words if word not in known and word not in OTHER_WORDS]
    return found.pop() if len(found) == 1 and not others else None


def _may_be_image(path):
    """Whether a file has an image's suffix, or none at all, as DICOM files often do."""
    name = os.path.basename(path).lower()
    return image_files.meant_as_image(name) or not (re.search(r"\.[a-z][a-z0-9]{0,9}$", name) or name in TEXTS)


# Reading the tree.


def scan(root: Path) -> Folder:
    """Everything below a folder.

    Links are followed, but none leads to a folder that has been read already: a link from one class to another would
    give its images a wrong label.

    Raises:
        InputError: If the folder itself cannot be read.
    """
    tree, seen = Folder(""), {os.path.realpath(root)}
    links: list[tuple[Folder, str]] = []
    _scan(root, tree, seen, links)
    while links:
        folder, name = links.pop(0)
        inside = os.path.join(folder.path, name)
        real = os.path.realpath(root / inside)
        if real not in seen:
            seen.add(real)
            folder.folders[name] = Folder(inside)
            _scan(root, folder.folders[name], seen, links)
    _sort(tree)
    return tree


def _scan(root, folder, seen, links):
    """Reads a folder and the folders in it; links to folders are noted."""
    if folder.path.count(os.sep) >= DEEPEST:
        raise InputError(f"{root} has folders nested more than {DEEPEST} deep.")
    try:
        with os.scandir(root / folder.path) as entries:
            found = [(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries if _is_data(entry.name)]
    except OSError as error:
        if not folder.path:
            raise InputError(f"{root} cannot be read: {error.strerror or error}.") from error
        folder.files.append("")  # Reading the folder as a file reports the reason.
        return
    for name, is_folder, is_link in found:
        inside = os.path.join(folder.path, name)
        if is_folder and is_link:
            links.append((folder, name))
        elif is_folder:
            seen.add(os.path.realpath(root / inside))
            folder.folders[name] = Folder(inside)
            _scan(root, folder.folders[name], seen, links)
        else:
            folder.files.append(name)


def _is_data(name):
    return not name.startswith(".") and name.lower() not in NOT_DATA


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _sort(folder):
    folder.files.sort()
    folder.folders = dict(sorted(folder.folders.items()))
    for inside in folder.folders.values():
        _sort(inside)


# What the tree tells.


def _told(root, tree):
    """`{split: {class: [Folder, ...]}}`, a description, and what is left out."""
    base = _unwrapped(tree)
    where = f"{root / base.path}" if base.path else f"{root}"
    splits, left = _split_folders(base, where)
    if not splits:
        classes = _class_folders(base, where)
        inside = f", in {base.path}" if base.path else ""
        return {"all": classes}, f"without splits{inside}", _left_of(base, classes)
    train = _unwrapped(splits["train"])
    found = {"train": _class_folders(train, f"{root / train.path}")}
    places = {"train": train}
    for split, folder in splits.items():
        if split != "train":
            places[split] = _level_with(folder, set(found["train"]))
            found[split] = {name: [part] for name, part in places[split].folders.items() if _may_be_class(part)}
    for split, folder in places.items():
        left += _left_of(folder, found[split])
    return found, _described(places), left


def _described(places):
    """The folder of each split, where its name is not the split's."""
    return "its own " + ", ".join(
        split if folder.path == split else f"{split} ({folder.path or '.'})" for split, folder in places.items()
    )


def _unwrapped(folder):
    """The folder inside of those that hold nothing but one other folder."""
    while True:
        inside = list(folder.filled.values())
        # A folder that holds images is a class, and one of a split's name may stand alone.
        if folder.own_images or len(inside) != 1 or inside[0].own_images or not inside[0].filled:
            return folder
        if split_of(os.path.basename(inside[0].path)) and not split_of(os.path.basename(folder.path)):
            return folder
        folder = inside[0]


def _split_folders(base, where):
    """`{split: Folder}`, empty if there are no splits; and what stands beside them."""
    filled = base.filled
    # A class may have a split's name, too: trains, for example.
    holding = {name for name, part in filled.items() if len(part.filled) > 1 or (part.filled and not part.own_images)}
    named = {name: split for name in filled if name in holding and (split := split_of(name))}
    if "train" not in named.values():
        if named and len(named) == len(filled):
            raise InputError(f"{where} has {', '.join(named)}, but no train folder.")
        flat = {name: split for name in filled if (split := split_of(name))}
        if len({"train", *flat.values()}) == len(set(flat.values())) > 1:
            raise InputError(
                f"{where} has the splits {_shown(flat)}, with images and no class folders in them. "
                f"{_labels_way_out(base)}"
            )
        return {}, []
    twice = [name for name, split in named.items() if list(named.values()).count(split) > 1]
    if twice:
        raise InputError(f"{where} has a split twice: {', '.join(twice)}. Keep one folder of each.")
    left = [f"{name} ({_content(folder)})" for name, folder in base.folders.items() if name not in named]
    splits = {split: base.folders[name] for name, split in named.items()}
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}, left


def _content(folder):
    """What is in a folder, in a few words."""
    if not folder.images:
        return "no images"
    images = "1 image" if folder.images == 1 else f"{folder.images:,} images"
    return images if folder.own_images else f"{images} in folders {_shown(folder.filled)}"


def _level_with(folder, classes):
    """The folder, or one that is all that it holds, whose subfolders have the names of classes."""
    inside, keys = folder, {_key(name) for name in classes}
    while not keys & {_key(name) for name in inside.folders}:
        if inside.own_images or len(inside.filled) != 1:
            return folder
        inside = next(iter(inside.filled.values()))
    return inside


def _may_be_class(folder):
    """A folder with images, or one with nothing at all, whose class then has none."""
    return folder.images > 0 or next(folder.everything(), None) is None


def _class_folders(folder, where):
    """`{class: [Folder]}` of a folder whose subfolders are the classes."""
    classes = {name: inside for name, inside in folder.folders.items() if _may_be_class(inside)}
    filled = folder.filled
    if not filled:
        raise InputError(_no_classes(folder, where))
    deep = {name: list(inside.filled) for name, inside in filled.items() if inside.filled and not inside.own_images}
    if len(deep) == len(filled):
        name, inside = next(iter(deep.items()))
        path = Path(folder.path).as_posix()
        raise InputError(
            f"{where}: its {'folder' if len(deep) == 1 else 'folders'} {_shown(deep)} "
            f"{'holds' if len(deep) == 1 else 'hold'} folders ({name}: {_shown(inside)}) and no images, so it is not "
            f"clear which are the classes. Pass --classes-at {path} if {_shown(deep)} are, or --classes-at "
            f"'{path.removeprefix('.')}{'/' * (path != '.')}*' if {_shown(inside)} are."
        )
    if len(classes) < 2:
        name, only = next(iter(classes.items()))
        inside = Path(only.path).as_posix()
        way_out = (
            f"Pass --classes-at {inside} if {_shown(only.filled)} are." if only.filled else _labels_way_out(folder)
        )
        raise InputError(
            f"{where} has one folder with images, {name} ({_content(only)}); a classifier needs at least 2 classes, "
            f"each a folder. {way_out}"
        )
    return {name: [inside] for name, inside in classes.items()}


def _no_classes(folder, where):
    found = f"{folder.own_images:,} images" if folder.own_images else "no images"
    inside = f" and the folders {_shown(folder.folders)}" if folder.folders else " and no folders"
    return (
        "--data takes a folder with one subfolder per class, or with train, val and test that have such subfolders. "
        f"{where} has {found}{inside}. {_labels_way_out(folder)}"
    )


def _labels_way_out(folder):
    """How labels come from a table, naming one that is there."""
    tables = [name for name in folder.files if name.lower().endswith((".csv", ".tsv"))]
    name = tables[0] if tables else "FILE.csv"
    return f"Labels in a table are read by --labels-csv {name}."


def _left_of(folder, classes):
    """What stands beside class folders."""
    left = [f"{part.path} (no images)" for name, part in folder.folders.items() if name not in classes]
    return left + ([f"{folder.own_images:,} images in {folder.path or 'the folder itself'}"] * bool(folder.own_images))


def _shown(names):
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


# What the user states.


def _stated(root, tree, classes_at):
    parts = [part for part in re.split(r"[/\\]", classes_at) if part not in ("", ".")]
    splits = _stated_splits(root, tree, parts)
    found, left = {}, []
    for split, folders in splits.items():
        classes: dict[str, list[Folder]] = {}
        for folder in folders:
            for name, inside in folder.folders.items():
                if _may_be_class(inside):
                    classes.setdefault(name, []).append(inside)
            left += _left_of(folder, folder.folders)
        if not classes:
            places = ", ".join(str(root / folder.path) for folder in folders)
            raise InputError(f"--classes-at {classes_at}: there are no folders in {places}.")
        found[split] = classes
    described = "without splits" if "all" in found else f"its own {', '.join(found)}"
    return found, f"{described}, classes at {classes_at}", left


def _stated_splits(root, tree, parts):
    """`{split: [Folder, ...]}`: the folders that a path names, and those beside a split's folder in it."""
    for place, part in enumerate(parts):
        if split_of(part) is None:
            continue
        found: dict[str, list[Folder]] = {}
        for base in _matching(root, tree, parts[:place]):
            for name, folder in base.folders.items():
                split = split_of(name)
                inside = _walk([folder], parts[place + 1 :]) if split and folder.images else []
                if split and inside:
                    found.setdefault(split, []).extend(inside)
        if "train" in found:
            return found
    if parts and not _walk([tree], parts):
        splits, _ = _split_folders(_unwrapped(tree), str(root))
        found = {split: _walk([folder], parts) for split, folder in splits.items()}
        if found.get("train"):
            return {split: folders for split, folders in found.items() if folders}
    return {"all": _matching(root, tree, parts)}


def _matching(root, tree, parts):
    folders = _walk([tree], parts)
    if not folders:
        raise InputError(
            f"--classes-at {'/'.join(parts)}: {root} has no such folder; it has {_shown(tree.folders) or 'no folders'}."
        )
    return folders


def _walk(folders, parts):
    """The folders at the end of a path; `*` is every folder."""
    for part in parts:
        folders = [
            inside for folder in folders for name, inside in folder.folders.items() if part == "*" or name == part
        ]
    return folders


# Classes.


def _files(classes):
    return {name: sorted(file for part in parts for file in part.everything()) for name, parts in classes.items()}


def _key(name):
    """What names have in common that look the same."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def shown_names(splits: Mapping[str, Iterable[str]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """How classes are called, so that two names that look the same can be distinguished or are one; and notes on that.

    In one split they are two classes; names that differ between splits only are one, which some program renamed.

    Args:
        splits: Names of the classes of each split.

    Returns:
        `{name: shown name}`, and a sentence for each name that has others like it.
    """
    found = {split: set(names) for split, names in splits.items()}
    spellings: dict[str, dict[str, None]] = {}  # In the order of the splits.
    for names in splits.values():
        for name in names:
            spellings.setdefault(_key(name), {})[name] = None
    shown, notes = {name: name for names in found.values() for name in names}, []
    for alike in map(list, spellings.values()):
        if len(alike) < 2:
            continue
        if any(len(names.intersection(alike)) > 1 for names in found.values()):
            shown |= {name: _visible(name, alike) for name in alike}
            words = " and ".join(repr(shown[name]) for name in alike)
            notes.append(f"The classes {words} differ only in how they are written.")
        else:
            shown |= dict.fromkeys(alike, alike[0])
            notes.append(f"The class {alike[0]!r} is written {', '.join(map(ascii, alike[1:]))} in another split.")
    return shown, tuple(notes)


def _visible(name, names):
    """A name that can be told from the others by eye."""
    alike = [other for other in names if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name)]
    if len(alike) > 1:
        return ascii(name)[1:-1]
    return name if name == " ".join(name.split()) else repr(name)
