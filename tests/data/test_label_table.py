"""Labels from CSV files as people have them, and groups of images that stay together."""

import csv
import random

import numpy as np
import pytest

from keras_vision import data
from keras_vision.data import groups, label_table
from keras_vision.recipe import DataSpec, InputError


@pytest.fixture
def pictures(tmp_path):
    """Makes empty image files and a table; returns both places."""

    def make(files, rows, name="labels.csv", delimiter=","):
        root = tmp_path / "pictures"
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        with (root / name).open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows)
        return root / name, root

    return make


def one_each(table):
    """The labels of a table whose images have one each."""
    assert not table.several
    return [label for (label,) in table.labels]


FILES = [f"images/{number}.jpg" for number in range(4)]


@pytest.mark.parametrize("delimiter", list(",;\t"))
@pytest.mark.parametrize(
    "shown",
    [
        lambda file: file,
        lambda file: file.removeprefix("images/"),
        lambda file: file.removeprefix("images/").removesuffix(".jpg"),
        lambda file: "C:\\data\\" + file.replace("/", "\\"),
        lambda file: "./" + file.upper(),
    ],
)
def test_file_names_as_people_write_them(pictures, shown, delimiter):
    rows = [["nr", "image_id", "dx"], *([n, shown(file), "ab"[n % 2]] for n, file in enumerate(FILES))]
    table = label_table.read(*pictures(FILES, rows, delimiter=delimiter))
    assert table.files == FILES
    assert one_each(table) == ["a", "b", "a", "b"]
    assert "'image_id'" in table.described


@pytest.mark.parametrize(
    ("head", "row", "labels"),
    [
        (["file", "label"], lambda n: ["ab"[n % 2]], "abab"),
        (["file", "patient", "age", "species"], lambda n: [f"P{n}", n, "ab"[n % 2]], "abab"),
        (["file", "label", "class_name"], lambda n: [n % 2, "ab"[n % 2]], "abab"),
        (["file", "a", "b"], lambda n: [f"{1 - n % 2}.0", f"{n % 2}.0"], "abab"),
        (["file", "anything"], lambda n: ["ab"[n % 2]], "abab"),
        (["file", "split", "label"], lambda n: [["train", "test"][n // 2], "ab"[n % 2]], "abab"),
    ],
)
def test_columns_are_found(pictures, head, row, labels):
    table = label_table.read(*pictures(FILES, [head, *([file, *row(n)] for n, file in enumerate(FILES))]))
    assert one_each(table) == list(labels)
    assert table.splits == (["train", "train", "test", "test"] if "split" in head else None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["file", "age", "weight"], ["0.jpg", 3, 4]], "not clear which column has the labels; .* age, weight"),
        ([["file", "label"], ["9.jpg", "a"]], "no column names files"),
        ([["0.jpg", "a"], ["1.jpg", "b"]], "has no column names: its first row already names the file 0.jpg"),
        ([["file", "label"]], "has no rows"),
        ([["file", "label"], ["0.jpg"]], "row 2 has 1 cells, but there are 2 columns"),
        ([["file", "file"], ["0.jpg", "a"]], "has a column twice: file"),
        (
            [["file", "tags"], ["0.jpg", "sea mist"], ["1.jpg", "sea"], ["2.jpg", "sea mist ice"], ["3.jpg", "ice"]],
            "not clear whether 'sea mist' is one label or several. Pass --label-separator ' ' if it is several",
        ),
        ([["file", "split", "label"], ["0.jpg", "train", "a"], ["1.jpg", "extra", "a"]], "has 'extra' beside splits"),
        ([["file", "set", "label"], ["0.jpg", "train", "a"], ["1.jpg", "", "a"]], "has '' beside splits"),
    ],
)
def test_tables_that_are_not_clear(pictures, rows, message):
    with pytest.raises(InputError, match=message):
        label_table.read(*pictures(FILES, rows))


def test_given_columns_are_taken(pictures):
    rows = [["x", "y", "z", "s"], *([n, file, n % 2, "Train"] for n, file in enumerate(FILES))]
    path, root = pictures(FILES, rows)
    table = label_table.read(path, root, label_table.Columns("y", ("z",), None, "s", "x"))
    assert (one_each(table), table.groups, table.splits) == (list("0101"), list("0123"), ["train"] * 4)
    with pytest.raises(InputError, match="--label-column q: .* has the columns x, y, z, s"):
        label_table.read(path, root, label_table.Columns(label=("q",)))


def test_labels_with_commas_and_spaces_are_names_if_their_parts_are_none(pictures):
    labels = ["big cat", "cat", "dog, small", "dog"]
    table = label_table.read(*pictures(FILES, [["file", "label"], *zip(FILES, labels, strict=True)]))
    assert one_each(table) == labels


@pytest.mark.parametrize(
    ("head", "cells", "classes"),
    [
        (["file", "labels"], ["a|c", "b", "c | a", "b|a|c"], ("a", "b", "c")),
        (["file", "labels"], ["a; c", "b", "c;a", "b;a;c;a", "a", "c"], ("a", "b", "c")),
        (["file", "labels"], ["a, c", "b", "c", "a,b"], None),
        (["file", "labels"], ["a|c", "b", "", "c"], ("a", "b", "c")),
        (["file", "c", "b", "a"], ["1 0 1", "0 1 0", "0 0 0", "1 1 1"], ("c", "b", "a")),
    ],
)
def test_several_labels(pictures, head, cells, classes):
    files = [f"images/{number}.jpg" for number in range(len(cells))]
    cells = [cell.split() for cell in cells] if len(head) > 2 else [[cell] for cell in cells]
    path, root = pictures(files, [head, *([file, *cell] for file, cell in zip(files, cells, strict=True))])
    if classes is None:  # No image shows `a` alone.
        with pytest.raises(InputError, match="--label-separator ',' if it is several, or --label-separator '' if"):
            label_table.read(path, root)
        assert len(label_table.read(path, root, label_table.Columns(separator="")).class_names) == len(cells)
        table, classes = label_table.read(path, root, label_table.Columns(separator=",")), ("a", "b", "c")
    else:
        table = label_table.read(path, root)
    assert table.several
    assert table.class_names == classes
    assert set(table.labels[0]) == {"a", "c"}
    assert table.labels[1] == ("b",)
    assert any("Images can have several labels" in note for note in table.notes)
    if len(head) > 2 or "" in cells[2]:
        assert table.labels[2] == ()
        assert f"{2 if len(head) > 2 else 1} of 4 have two or more, 1 none." in " ".join(table.notes)


def test_marks_that_may_be_classes_or_labels_are_asked_about(pictures):
    files = [f"{number:02}.jpg" for number in range(60)]
    rows = [["file", "a", "b"], *([file, n % 2, 1 - n % 2] for n, file in enumerate(files))]
    assert not label_table.read(*pictures(files, rows)).several
    rows[7][1:] = [0, 0]  # Few without a label are dirt.
    table = label_table.read(*pictures(files, rows))
    assert not table.several
    assert table.set_aside == {"06.jpg": "no label"}
    rows[8][1:] = [1, 1]  # A typo, or the first of several labels.
    path, root = pictures(files, rows)
    with pytest.raises(InputError, match="2 of 60 images have no label or several, the others one. Pass --label-sep"):
        label_table.read(path, root)
    assert label_table.read(path, root, label_table.Columns(separator="|")).several
    table = label_table.read(path, root, label_table.Columns(separator=""))
    assert table.set_aside == {"06.jpg": "no label", "07.jpg": "two labels or more"}
    for row in rows[9:20]:
        row[1:] = [1, 1]
    assert label_table.read(*pictures(files, rows)).several


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        (
            "breed occluded truncated",
            ["poodle 1 1", "beagle 0 0", "boxer 1 0", "boxer 0 1"],
            "which column has the labels",
        ),
        ("severity male smoker", ["3 1 1", "2 0 1", "1 0 0", "0 1 0"], "which column has the labels"),
        (
            "benign malignant male",
            ["1 0 1", "0 1 0", "1 0 0", "0 1 1"],
            "each image has one of benign, malignant, and male",
        ),
    ],
)
def test_columns_that_may_be_no_labels_are_asked_about(pictures, head, rows, message):
    cells = [[file, *row.split()] for file, row in zip(FILES, rows, strict=True)]
    with pytest.raises(InputError, match=message):
        label_table.read(*pictures(FILES, [["file", *head.split()], *cells]))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["black", "bear", "black bear"], None),
        ([f"{plant} {state}" for plant in ("Apple", "Corn", "Grape") for state in ("healthy", "rust", "rot")], 9),
        ([f"{sky} {ground}" for sky in "abc" for ground in ("d", "e", "f", "d e", "d f", "e f")], None),
    ],
)
def test_words_of_a_name_are_no_labels(pictures, labels, names):
    files = [f"{number:02}.jpg" for number in range(len(labels))]
    path, root = pictures(files, [["file", "label"], *zip(files, labels, strict=True)])
    if names is None:
        with pytest.raises(InputError, match="not clear whether .* Pass --label-separator ' ' if it is several"):
            label_table.read(path, root)
    else:
        assert len(label_table.read(path, root).class_names) == names


def test_labels_that_look_the_same_are_said(pictures):
    labels = ["Cat", "cat", "caf\u00e9", "cafe\u0301"]
    table = label_table.read(*pictures(FILES, [["file", "label"], *zip(FILES, labels, strict=True)]))
    assert one_each(table) == ["Cat", "cat", r"caf\xe9", r"cafe\u0301"]
    assert sum("differ only in how they are written" in note for note in table.notes) == 2


def test_a_label_is_one_line_and_a_row_without_a_group_is_set_aside(pictures):
    rows = [["file", "label", "who"], [FILES[0], "a\nb", "P1"], [FILES[1], "c", ""], [FILES[2], "c", "P2"]]
    path, root = pictures(FILES, rows)
    table = label_table.read(path, root, label_table.Columns(group="who"))
    assert (one_each(table), table.groups) == (["a b", "c"], ["P1", "P2"])
    assert table.set_aside == {FILES[1]: "no group"}


def test_dirt_is_reported(pictures):
    rows = [["file", "label"], *([file, "a"] for file in FILES[:3]), [FILES[0], "a"], [FILES[1], "b"]]
    rows += [["gone.jpg", "a"], ["x/same.jpg", "a"], ["same.jpg", "a"], ["", "a"], [FILES[2], ""]]
    path, root = pictures([*FILES, "x/same.jpg", "y/same.jpg"], rows)
    table = label_table.read(path, root)
    assert table.files == [FILES[0], FILES[2], "x/same.jpg"]
    assert table.set_aside == {
        "gone.jpg": "listed, but there is no such file",
        "same.jpg": "fits 2 files: x/same.jpg, y/same.jpg",
        "line 10": "no file name",
        FILES[2]: "no label",
        FILES[1]: "listed 2 times in labels.csv, with different values: a and b",
    }
    assert table.unlisted == (FILES[3], "y/same.jpg")


def test_the_split_decides_between_files_of_one_name(pictures):
    files = ["train/1.jpg", "test/1.jpg"]
    rows = [["file", "label", "set"], ["1.jpg", "a", "train"], ["1.jpg", "b", "test"]]
    table = label_table.read(*pictures(files, rows))
    assert dict(zip(table.files, one_each(table), strict=True)) == {"train/1.jpg": "a", "test/1.jpg": "b"}


def test_numbers_are_ordered_by_size():
    assert label_table.ordered_classes(["10", "9", "2"]) == ("2", "9", "10")
    assert label_table.ordered_classes(["b", "10", "a"]) == ("10", "a", "b")


# Groups.


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.85])
@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_divided_and_classes_stay_even(share, seed):
    random_numbers = np.random.default_rng(seed)
    names = np.repeat([f"P{number}" for number in range(40)], random_numbers.integers(1, 8, 40))
    of_group = dict(zip(np.unique(names), random_numbers.integers(0, 2, 40), strict=True))
    labels = np.array([of_group[name] for name in names])
    chosen = groups.divide(labels, names, share, seed, "x")
    assert not set(names[chosen]) & set(names[~chosen])
    for label in (0, 1):
        assert abs(chosen[labels == label].mean() - share) < 0.15
    assert set(labels[~chosen]) == {0, 1}


def test_a_class_of_one_group_stays_in_training():
    labels, names = np.array([0] * 8 + [1] * 2), ["a", "b", "c", "d"] * 2 + ["e", "e"]
    for seed in range(10):
        assert not groups.divide(labels, names, 0.4, seed, "x")[8:].any()
    with pytest.raises(InputError, match="one group, 'a'"):
        groups.divide(labels, ["a"] * 10, 0.2, 0, "x")


def test_groups_of_a_pattern():
    assert groups.of_names(r"(P\d+)_", ["a/P07_1.png", "b/P08_1.png"]) == ["P07", "P08"]
    with pytest.raises(InputError, match="does not match 1 of 2 file names, such as x.png"):
        groups.of_names(r"P\d+", ["P07.png", "x.png"])
    with pytest.raises(InputError, match="neither a column of a table nor a pattern"):
        groups.of_names("(", ["a"])


def test_numbered_series_in_two_splits_are_pointed_out():
    frames = [f"cat/P{patient:02}_{number}.png" for patient in range(8) for number in range(6)]
    random.Random(0).shuffle(frames)
    found = groups.series({"train": frames[:30], "test": frames[30:]})
    assert found.startswith("48 of 48 file names look like 8 numbered series, and ")
    by_patient = sorted(frames)
    assert groups.series({"train": by_patient[:30], "test": by_patient[30:]}) is None
    for plain in ("IMG_{}.jpg", "{}.png", "cat.{}.jpg", "0a{}f.png"):
        names = [plain.format(number) for number in range(48)]
        assert groups.series({"train": names[::2], "test": names[1::2]}) is None


# Whole.


def load(root, **knobs):
    return data.load_splits(DataSpec(data=str(root), **{"size": 8, "audit_leaks": False, **knobs}), 0)


def write_table(root, rows):
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def test_a_folder_with_a_table_becomes_splits_without_divided_groups(write_folder):
    root = write_folder({"images": 60})
    rows = [[f"{number:03}", "ab"[number // 6 % 2], f"P{number // 6}"] for number in range(60)]
    write_table(root, [["image", "label", "patient_id"], *rows])
    splits = load(root / "labels.csv")
    assert splits.class_names == ("a", "b")
    assert "--group-by patient_id keeps" in splits.report.summary()
    for knobs in ({}, {"labels_csv": str(root / "labels.csv")}, {"labels_csv": "labels.csv"}):
        where = root if knobs else root / "labels.csv"
        splits = load(where, group_by="patient_id", **knobs)
        assert sum(map(sum, splits.counts().values())) == 60
        found = [set(names) for names in splits.report.groups.values()]
        assert sum(map(len, found)) == len(set.union(*found)) == 10
        assert "10 groups of images, none of them in two splits" in splits.report.summary()
    by_name = load(root, labels_csv=str(root / "labels.csv"), group_by=r"(\d)\d\.png")
    assert {name for names in by_name.report.groups.values() for name in names} == set("012345")


def test_the_splits_of_a_run_are_taken_again(write_folder, tmp_path):
    from keras_vision.data import split_file

    root = write_folder({"a": 20, "b": 20})
    first = load(root)
    path = tmp_path / "splits.csv"
    path.write_text(split_file.text_of(first), "utf-8")
    again = data.load_splits(DataSpec(data=str(root), size=8, audit_leaks=False, splits=str(path)), seed=5)
    assert split_file.text_of(again) == split_file.text_of(first)
    (root / "a" / "new.png").write_bytes((root / "a" / "000.png").read_bytes())
    (root / "b" / "001.png").write_bytes((root / "a" / "000.png").read_bytes())
    notes = load(root, splits=str(path)).report.summary()
    assert "1 images have no row in splits.csv and are left out, such as a/new.png." in notes
    assert "1 images have changed since the splits were written, such as b/001.png." in notes
    (root / "a" / "002.png").rename(root / "b" / "002x.png")
    (root / "b" / "003.png").unlink()
    (root / "b" / "004.png").unlink()
    with pytest.raises(InputError, match="3 of 40 files are not there"):
        load(root, splits=str(path))


def test_images_with_several_labels_become_splits_that_have_each(write_folder, tmp_path):
    from keras_vision.data import split_file

    root = write_folder({"images": 60})
    cells = ["cat|dog", "dog", "dog|owl", "dog|cat"]
    write_table(root, [["image", "labels"], *([f"{n:03}", cells[n % 4] if n > 5 else "fox"] for n in range(60))])
    splits = load(root / "labels.csv", group_by=r"(\d\d)\d\.png")
    assert splits.several_labels
    assert splits.class_names == ("cat", "dog", "fox", "owl")
    splits = load(root / "labels.csv")
    assert all(min(counts) > 0 for counts in splits.counts().values())
    for split, part in splits.named().items():
        for name, marks in zip(splits.report.names[split], part.labels, strict=True):
            number = int(name[-7:-4])
            expected = (cells[number % 4] if number > 5 else "fox").split("|")
            assert {splits.class_names[k] for k in np.flatnonzero(marks)} == set(expected)
    assert "|" in split_file.text_of(splits)
    path = tmp_path / "splits.csv"
    path.write_text(split_file.text_of(splits), "utf-8")
    again = load(root / "labels.csv", splits=str(path))
    assert split_file.text_of(again) == split_file.text_of(splits)


def test_too_many_unusable_rows_are_an_error(write_folder):
    root = write_folder({"images": 10})
    write_table(root, [["file", "label"], *([f"{n:03}.png", "ab"[n % 2]] for n in range(11))])
    with pytest.raises(InputError, match="1 of 11 rows cannot be used, .*The first: 010.png: listed, but"):
        load(root / "labels.csv")
