"""Files in MedMNIST's layout: valid ones, and every kind of error."""

import hashlib
import zipfile

import keras
import numpy as np
import pytest

from keras_vision import data, derma
from keras_vision.data import medmnist
from keras_vision.files import archives
from keras_vision.recipe import DataSpec, InputError


def load(path):
    return data.load_splits(DataSpec(data=str(path)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28), (28, 28, 1)),
        ((28, 28, 1), (28, 28, 1)),
        ((28, 28, 3), (28, 28, 3)),
        ((28, 28, 28), (28, 28, 28, 1)),
        ((16, 16, 16, 1), (16, 16, 16, 1)),
    ],
)
def test_gray_colour_and_volumes(write_npz, shape, expected):
    splits = load(write_npz(shape=shape))
    assert splits.image_shape == expected
    assert splits.train.images.dtype == np.uint8
    assert splits.train.labels.shape == (40,)


def test_class_names_without_a_source_are_numbered(write_npz):
    assert load(write_npz(num_classes=3)).class_names == ("class_0", "class_1", "class_2")


def test_class_names_from_the_file_next_to_it(write_npz):
    path = write_npz()
    path.with_name("tiny.labels.txt").write_text("cat\nnot cat\n", "utf-8")
    assert load(path).class_names == ("cat", "not cat")


def test_class_names_from_medmnist_by_the_files_name(write_npz):
    splits = load(write_npz("fracturemnist3d_64.npz", shape=(28, 28, 28), num_classes=3))
    assert splits.class_names == ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture")
    assert "official" not in splits.source.description


def test_the_source_has_the_files_hash(write_npz):
    path = write_npz()
    assert load(path).source.files == {"tiny.npz": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_limit_keeps_every_class(write_npz):
    splits = data.load_splits(DataSpec(data=str(write_npz(num_classes=4)), limit=8))
    assert splits.counts()["train"] == [2, 2, 2, 2]


def objects():
    array = np.empty((40, 1), object)
    array[:] = 0
    return array


BROKEN = {
    "lacks train_images": {"train_images": None},
    "must be uint8": {"val_images": np.zeros((12, 28, 28, 3), np.float32)},
    "must have shape": {"val_images": np.zeros((12, 28), np.uint8)},
    "one shape": {"val_images": np.zeros((12, 32, 32, 3), np.uint8)},
    "labels must lie between 0 and 1": {"test_labels": np.full((20, 1), 2, np.int64), "names": "a\nb\n"},
    "labels must lie between": {"test_labels": np.full((20, 1), -1, np.int64)},
    "at most 10000 classes": {"test_labels": np.full((20, 1), 10**9, np.int64)},
    "has 40 images and 39 labels": {"train_labels": np.zeros((39, 1), np.uint8)},
    "split test is empty": {"test_images": np.zeros((0, 28, 28, 3), np.uint8), "test_labels": np.zeros((0, 1), int)},
    "no image in train shows 'class_1'": {"train_labels": np.zeros((40, 1), np.uint8)},
    "pickled objects": {"train_labels": objects()},
    "must be integers": {"train_labels": np.zeros((40, 1), np.float64)},
    "train and val have another number of labels": {"train_labels": np.eye(14, dtype=np.uint8)[np.arange(40) % 14]},
    "with several columns, labels must be 0 or 1": {"train_labels": np.full((40, 14), 3)},
    "names a class twice": {"names": "a\na\n"},
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_wrong_file_exits_with_2_and_one_sentence(write_npz, message, capsys, tmp_path):
    arrays = dict(BROKEN[message])
    names = arrays.pop("names", None)
    path = write_npz(**arrays)
    if names:
        path.with_name("tiny.labels.txt").write_text(names, "utf-8")
    assert derma.main(["--data", str(path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def marks(count, labels=3):
    """Marks of several labels an image, some images without any."""
    return np.random.default_rng(count).integers(0, 2, (count, labels)).astype(np.uint8)


def test_several_labels_an_image(write_npz):
    path = write_npz(**{f"{name}_labels": marks(count) for name, count in (("train", 40), ("val", 12), ("test", 20))})
    splits = load(path)
    assert splits.several_labels
    assert splits.class_names == ("class_0", "class_1", "class_2")
    assert splits.counts()["test"] == marks(20).sum(axis=0).tolist()
    np.testing.assert_array_equal(splits.val.labels, marks(12))
    few = splits.limited(6)
    assert len(few.train) <= 10
    assert min(few.counts()["train"]) > 0
    with pytest.raises(InputError, match="images of this data can have several labels"):
        splits.positive_label("class_0")


def test_a_limit_keeps_every_label(write_npz):
    """Also one that stands only beside rarer ones, whose first images do not have it."""
    labels = np.zeros((40, 3), np.uint8)
    labels[:12, 0], labels[12:24, 1] = 1, 1
    labels[5:12, 2], labels[17:24, 2] = 1, 1
    path = write_npz(train_labels=labels, val_labels=marks(12), test_labels=marks(20))
    for limit in (3, 6, 10):
        assert min(load(path).limited(limit).counts()["train"]) > 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_one_hot_labels_are_classes(write_npz, dtype):
    counts = (("train", 40), ("val", 12), ("test", 20))
    path = write_npz(**{f"{name}_labels": np.eye(4, dtype=dtype)[np.arange(count) % 4] for name, count in counts})
    splits = load(path)
    assert not splits.several_labels
    assert splits.num_classes == 4
    np.testing.assert_array_equal(splits.train.labels, np.arange(40) % 4)
    assert "one-hot" in splits.source.description


def test_a_label_of_every_image_cannot_be_learned(write_npz):
    always = np.column_stack([np.ones(40, int), np.arange(40) % 2])
    counts = (("train", 40), ("val", 12), ("test", 20))
    with pytest.raises(InputError, match="every image in train has the label 'class_0'"):
        load(write_npz(**{f"{name}_labels": always[:count] for name, count in counts}))


def test_a_labels_file_in_another_encoding(write_npz):
    path = write_npz()
    path.with_name("tiny.labels.txt").write_bytes("Köln\nkalt\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        load(path)
    path.with_name("tiny.labels.txt").write_text("\ufeffwarm\ncold\n", "utf-8")
    assert load(path).class_names == ("warm", "cold")


def test_an_entry_that_is_not_an_array(write_npz):
    path = write_npz(train_labels=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train_labels", b"not an array")
    with pytest.raises(InputError, match="train_labels is not an array"):
        load(path)


def test_one_class_is_not_enough(write_npz):
    with pytest.raises(InputError, match="at least 2 classes"):
        load(write_npz(num_classes=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "0 bytes. is damaged or not an .npz"), (b"hello", "damaged or not an .npz"), (None, "damaged")],
    ids=["empty", "text", "truncated"],
)
def test_incomplete_files(write_npz, content, message):
    path = write_npz()
    path.write_bytes(path.read_bytes()[:-5000] if content is None else content)
    with pytest.raises(InputError, match=message):
        load(path)


def test_a_flipped_byte_is_detected(write_npz):
    path = write_npz()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(InputError, match="takes an .npz"):
        load(tmp_path / "images.zip")


def test_a_folder_is_not_an_npz_file(tmp_path):
    (tmp_path / "images.npz").mkdir()
    with pytest.raises(InputError, match="has no images and no folders"):
        load(tmp_path / "images.npz")


@pytest.fixture
def home(offline, monkeypatch):
    """No data anywhere: an empty home, and no network."""
    monkeypatch.setenv("HOME", str(offline / "home"))
    return offline


def make_official(monkeypatch, path, name):
    """Makes MedMNIST's table expect this file."""
    known = {**medmnist.info()[name], "MD5": hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(medmnist, "info", lambda: {name: known})


@pytest.mark.parametrize("place", ["data", "home/.medmnist"])
def test_a_name_is_found_in_every_folder(home, write_npz, monkeypatch, place):
    folder = home / place
    folder.mkdir(parents=True, exist_ok=True)
    path = write_npz("dermamnist.npz", num_classes=7).rename(folder / "dermamnist.npz")
    make_official(monkeypatch, path, "dermamnist")
    splits = data.load_splits(DataSpec(data="dermamnist"))
    assert splits.class_names[4] == "melanoma"
    assert splits.source.name == "dermamnist"
    assert "official" in splits.source.description
    assert splits.source.licence == "CC BY-NC 4.0"


# Classes and channels as Yang et al. 2023 have them in tables 1 and 2, https://doi.org/10.1038/s41597-022-01721-8, of
# the sets with one label an image.
IMAGES = {
    "pathmnist": (9, 3),
    "dermamnist": (7, 3),
    "octmnist": (4, 1),
    "pneumoniamnist": (2, 1),
    "retinamnist": (5, 3),
    "breastmnist": (2, 1),
    "bloodmnist": (8, 3),
    "tissuemnist": (8, 1),
    "organamnist": (11, 1),
    "organcmnist": (11, 1),
    "organsmnist": (11, 1),
}
VOLUMES = {
    "organmnist3d": 11,
    "nodulemnist3d": 2,
    "adrenalmnist3d": 2,
    "fracturemnist3d": 3,
    "vesselmnist3d": 2,
    "synapsemnist3d": 2,
}


def test_the_sets_are_all_that_medmnist_has_with_one_label_an_image():
    assert {*IMAGES, *VOLUMES} == medmnist.info().keys() - {"chestmnist"}


@pytest.mark.parametrize("size", [28, 64, 128, 224])
@pytest.mark.parametrize("name", IMAGES)
def test_every_2d_name_at_every_size(home, write_npz, monkeypatch, name, size):
    classes, channels = IMAGES[name]
    shape = (size, size, 3) if channels == 3 else (size, size)
    splits = by_name(home, write_npz, monkeypatch, name, size, shape, classes)
    assert splits.image_shape == (size, size, channels)
    assert splits.ordered == (name == "retinamnist")


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("name", VOLUMES)
def test_every_3d_name_at_both_sizes(home, write_npz, monkeypatch, name, size):
    splits = by_name(home, write_npz, monkeypatch, name, size, (size,) * 3, VOLUMES[name])
    assert splits.image_shape == (size, size, size, 1)


def by_name(home, write_npz, monkeypatch, name, size, shape, classes):
    """The splits of a file as MedMNIST has it under a name, which is as small as can be."""
    known = medmnist.info()[name]
    file = name if size == 28 else f"{name}_{size}"
    path = write_npz(f"{file}.npz", shape=shape, num_classes=classes, counts=(classes,) * 3)
    path = path.rename(home / "data" / path.name)
    md5 = "MD5" if size == 28 else f"MD5_{size}"
    replaced = {**known, md5: hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(medmnist, "info", lambda: {name: replaced})
    splits = data.load_splits(DataSpec(data=name, size=size))
    assert splits.class_names == tuple(known["label"][str(label)] for label in range(classes))
    assert [split.labels.tolist() for split in splits.named().values()] == [list(range(classes))] * 3
    assert (splits.source.name, splits.source.licence) == (file, known["license"])
    assert splits.source.description.startswith(f"{known['python_class']}, MedMNIST's official file")
    return splits


@pytest.mark.parametrize("where", ["name", "path"])
def test_masks_may_expand_as_they_like_if_the_file_is_medmnists(home, write_npz, monkeypatch, where):
    path = write_npz("vesselmnist3d_64.npz", shape=(8, 8, 8)).rename(home / "data" / "vesselmnist3d_64.npz")
    with np.load(path) as arrays:
        np.savez_compressed(
            path, **{name: np.zeros_like(array) if "images" in name else array for name, array in arrays.items()}
        )
    monkeypatch.setattr(archives, "EXPANDS_FREELY", 1)
    monkeypatch.setattr(archives, "MAX_EXPANSION", 2)
    spec = DataSpec(data="vesselmnist3d" if where == "name" else str(path), size=64)
    with pytest.raises(InputError, match="its MD5 is" if where == "name" else "would expand"):
        data.load_splits(spec)
    known = {**medmnist.info()["vesselmnist3d"], "MD5_64": hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(medmnist, "info", lambda: {"vesselmnist3d": known})
    assert len(data.load_splits(spec).train) == 40
    if where == "path":  # Another name has another MD5, or none.
        for name in ("vesselmnist3d.npz", "own.npz"):
            other = path.rename(path.with_name(name))
            with pytest.raises(InputError, match="would expand"):
                data.load_splits(DataSpec(data=str(other)))
            path = other


def test_a_file_with_another_md5_is_refused(home, write_npz):
    write_npz("dermamnist.npz", num_classes=7).rename(home / "data" / "dermamnist.npz")
    with pytest.raises(InputError, match="its MD5 is"):
        data.load_splits(DataSpec(data="dermamnist"))


def test_a_failed_download_names_three_alternatives(home, capsys):
    assert derma.main(["--out", str(home / "run")]) == 2
    error = capsys.readouterr().err
    for part in ("no route to host", medmnist.info()["dermamnist"]["url"], ".medmnist", "--data PATH", "synthetic"):
        assert part in error


def test_a_download_is_checked_and_read(home, write_npz, monkeypatch):
    source = write_npz("dermamnist.npz", num_classes=7)
    make_official(monkeypatch, source, "dermamnist")
    arguments = {}

    def get_file(name, url, file_hash, hash_algorithm, cache_dir, cache_subdir):
        arguments.update(url=url, file_hash=file_hash, hash_algorithm=hash_algorithm)
        return str(source)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert len(data.load_splits(DataSpec(data="dermamnist")).train) == 40
    assert arguments["hash_algorithm"] == "md5"
    assert arguments["file_hash"] == medmnist.info()["dermamnist"]["MD5"]
    assert arguments["url"].endswith("dermamnist.npz?download=1")


def test_a_name_that_medmnist_does_not_know():
    with pytest.raises(InputError, match=r"Received: 'dermamist'\. MedMNIST's names: .*dermamnist"):
        data.load_splits(DataSpec(data="dermamist"))


def test_a_size_that_medmnist_does_not_have():
    with pytest.raises(InputError, match="--size of dermamnist takes one of 28, 64, 128, 224"):
        data.load_splits(DataSpec(data="dermamnist", size=32))
    with pytest.raises(InputError, match="--size of organmnist3d takes one of 28, 64"):
        data.load_splits(DataSpec(data="organmnist3d", size=128))


@pytest.mark.parametrize(("name", "ordered"), [("retinamnist_64", True), ("retinamnist", True), ("bloodmnist", False)])
def test_the_grades_of_retinamnist_have_an_order(write_npz, name, ordered):
    classes = len(medmnist.info()[name.removesuffix("_64")]["label"])
    assert load(write_npz(f"{name}.npz", num_classes=classes)).ordered == ordered


def test_classes_can_be_named_in_their_order(write_npz):
    path = write_npz(num_classes=3)
    path.with_name("tiny.labels.txt").write_text("severe\nmild\nmoderate\n", "utf-8")
    plain = load(path)
    splits = data.load_splits(DataSpec(data=str(path), ordered_classes=("mild", "moderate", "severe")))
    assert splits.ordered
    assert not plain.ordered
    assert splits.class_names == ("mild", "moderate", "severe")
    for name, split in splits.named().items():
        before = plain.named()[name]
        assert [splits.class_names[k] for k in split.labels] == [plain.class_names[k] for k in before.labels]
        assert np.array_equal(split.images, before.images)
    for wrong in (("mild", "severe"), ("mild", "moderate", "severe", "dead"), ("mild", "mild", "severe")):
        with pytest.raises(InputError, match="--ordered-classes takes the names of all classes.*'moderate'"):
            data.load_splits(DataSpec(data=str(path), ordered_classes=wrong))


@pytest.mark.real_data
def test_the_real_lesions(real_data):
    splits = load(real_data("ham10000_5984_28.npz"))
    assert splits.counts()["test"] == [37, 53, 117, 12, 98, 865, 16]
    assert splits.class_names[5] == "melanocytic nevi"


@pytest.mark.real_data
def test_the_official_adrenal_volumes_by_name(real_data, monkeypatch):
    monkeypatch.setenv("KERAS_VISION_DATA", str(real_data("adrenalmnist3d.npz").parent))
    splits = data.load_splits(DataSpec(data="adrenalmnist3d"))
    assert splits.image_shape == (28, 28, 28, 1)
    assert "official" in splits.source.description
