"""CIFAR-10 by name, files in its layout by path, and their missing validation split."""

import hashlib
import inspect
import io
import os
import pickle
import tarfile
import urllib.error
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_vision import cifar, data
from keras_vision.data import Split, cifar10
from keras_vision.data.splits import take_validation
from keras_vision.recipe import DataSpec, InputError


@pytest.fixture
def write_keras_npz(tmp_path):
    """Writes a file with x_train, y_train, x_test and y_test, sorted by class; every image encodes its own number."""

    def write(name="cifar10.npz", *, num_classes=10, each=20, shape=(8, 8, 3), folder=tmp_path, **arrays):
        content = {}
        for split, count in (("train", num_classes * each), ("test", num_classes * 2)):
            numbers = np.arange(count)
            images = np.zeros((count, *shape), np.uint8)
            images[:, 0, 0], images[:, 0, 1] = (numbers[:, None] % 256, numbers[:, None] // 256)
            content[f"x_{split}"], content[f"y_{split}"] = images, (numbers * num_classes // count).astype(np.uint8)
        content |= arrays
        np.savez(folder / name, **{key: value for key, value in content.items() if value is not None})
        return folder / name

    return write


@pytest.fixture
def home(monkeypatch, tmp_path):
    """No data anywhere: an empty Keras cache, an empty folder, and no network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_VISION_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "keras" / "datasets").mkdir(parents=True)

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(keras.utils, "get_file", no_network)
    return tmp_path


def numbers(split):
    return split.images[:, 0, 0, 0].astype(int) + 256 * split.images[:, 0, 1, 0].astype(int)


def test_a_validation_split_is_taken_from_train_class_by_class(write_keras_npz):
    splits = data.load_splits(DataSpec(data=str(write_keras_npz()), val_share=0.2))
    assert splits.counts() == {"train": [16] * 10, "val": [4] * 10, "test": [2] * 10}
    assert splits.class_names == cifar10.CLASS_NAMES
    # Every training image is in one of the two, with its own label.
    found = np.concatenate([numbers(splits.train), numbers(splits.val)])
    assert sorted(found) == list(range(200))
    for split in (splits.train, splits.val):
        assert np.array_equal(numbers(split) // 20, split.labels)
    assert np.array_equal(numbers(splits.test), np.arange(20))


def test_the_seed_decides_which_images_validate(write_keras_npz):
    path = str(write_keras_npz())
    first, again, other = (data.load_splits(DataSpec(data=path), seed).val for seed in (0, 0, 1))
    assert np.array_equal(numbers(first), numbers(again))
    assert set(numbers(first)) != set(numbers(other))


def test_the_images_are_in_memory_only_once():
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    train, val = take_validation(Split(images, np.repeat(np.arange(2), 20)), 0.25, 0, "here")
    assert np.shares_memory(train.images, images)
    assert np.shares_memory(val.images, images)
    assert (len(train), len(val)) == (30, 10)


def test_a_rare_class_keeps_an_image_to_learn_from():
    labels = np.array([0] * 8 + [1])
    train, val = take_validation(Split(np.zeros((9, 1, 1, 1), np.uint8), labels), 0.9, 0, "here")
    assert sorted(train.labels) == [0, 1]
    assert val.labels.tolist() == [0] * 7


@pytest.mark.parametrize("layout", ["keras", "medmnist"])
def test_an_existing_split_is_not_replaced(write_keras_npz, write_npz, layout):
    if layout == "keras":
        own = {"x_val": np.full((3, 8, 8, 3), 7, np.uint8), "y_val": np.zeros(3, np.uint8)}
        splits = data.load_splits(DataSpec(data=str(write_keras_npz(**own))))
        assert (splits.val.images == 7).all()
        assert len(splits.train) == 200
    else:
        splits = data.load_splits(DataSpec(data=str(write_npz(val_images=None, val_labels=None))))
        assert splits.counts() == {"train": [18, 18], "val": [2, 2], "test": [10, 10]}
    assert ("chosen with seed 0" in splits.source.description) == (layout == "medmnist")


def test_other_numbers_of_classes(write_keras_npz):
    splits = data.load_splits(DataSpec(data=str(write_keras_npz("cifar100.npz", num_classes=100))))
    assert splits.num_classes == 100
    assert splits.class_names[99] == "class_99"
    assert splits.counts()["val"] == [2] * 100


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_test": None}, "not in the layout of Keras's data sets: it lacks y_test"),
        ({"y_val": np.zeros(3, int)}, "it lacks x_val"),
        ({"x_train": np.zeros((200, 8, 8, 3), np.float32)}, "x_train must be uint8"),
        ({"y_train": np.zeros(199, int)}, "train has 200 images and 199 labels"),
        ({"y_train": np.arange(200) % 11}, "labels must lie between 0 and 9"),
        ({"x_train": np.zeros((0, 8, 8, 3), np.uint8), "y_train": np.zeros(0, int)}, "the split train is empty"),
        ({"y_train": np.array([{}] * 200)}, "pickled objects"),
    ],
)
def test_a_wrong_file_exits_with_2_and_one_sentence(write_keras_npz, arrays, message, capsys, tmp_path):
    path = write_keras_npz(**arrays)
    assert cifar.main(["--data", str(path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unchecked_file_is_not_called_cifar_10(home, write_keras_npz):
    write_keras_npz(folder=home / "data")
    source = data.load_splits(DataSpec(data="cifar10")).source
    assert source.name == "cifar10.npz"
    assert "CIFAR-10" not in source.description
    assert "cifar10.npz" in source.files


class OldPickler(pickle._Pickler):
    """Writes like Python 2, as in the original batches: its strings are bytes without an encoding."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_old_string(self, text):
        content = text if isinstance(text, bytes) else text.encode("latin-1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    def save_old_global(self, item):
        module = item.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{item.__qualname__}\n".encode())
        self.memoize(item)

    dispatch[bytes] = dispatch[str] = save_old_string
    dispatch[type] = dispatch[type(OSError.__init__)] = save_old_global

    def save_global(self, obj, name=None):
        self.save_old_global(obj)


def old_pickle(content):
    file = io.BytesIO()
    OldPickler(file, 2).dump(content)
    return file.getvalue()


@pytest.fixture
def write_archive(tmp_path, monkeypatch):
    """Writes a small archive like the original one, and makes its SHA-256 the expected one."""

    def write(path, train_batches=5, **replaced):
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        with tarfile.open(path, "w:gz") as archive:
            for name in [*(f"data_batch_{number}" for number in range(1, 1 + train_batches)), "test_batch"]:
                content = replaced.get(name) or old_pickle(
                    {
                        "data": rng.integers(0, 256, (20, 3072), dtype=np.uint8),
                        "labels": [label % 10 for label in range(20)],
                        "batch_label": name,
                        "filenames": [f"{number}.png" for number in range(20)],
                    }
                )
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    return write


@pytest.mark.parametrize(
    "place",
    ["data/cifar-10-python.tar.gz", "keras/datasets/cifar-10-python.tar.gz", f"keras/datasets/{cifar10.CACHED}"],
)
def test_the_original_archive_is_found_in_every_folder(home, write_archive, place):
    write_archive(home / place)
    splits = data.load_splits(DataSpec(data="cifar10"))
    assert splits.counts() == {"train": [9] * 10, "val": [1] * 10, "test": [2] * 10}
    assert splits.image_shape == (32, 32, 3)
    assert splits.class_names[9] == "truck"
    assert splits.source.name == "CIFAR-10"
    assert "SHA-256 checked" in splits.source.description


def test_rows_of_a_batch_are_red_then_green_then_blue(home, write_archive):
    """Compared with the pickle's own numbers: first, second and last pixel of row 0 of the test batch."""
    rows = np.arange(20 * 3072, dtype=np.uint32).astype(np.uint8).reshape(20, 3072)
    rows[0, [0, 1, 1023, 1024, 2048, 3071]] = [11, 12, 13, 21, 31, 33]
    batch = old_pickle({"data": rows, "labels": [7] * 20})
    splits = cifar10.read_archive(write_archive(home / "data" / cifar10.ARCHIVE, test_batch=batch))
    first = splits.test.images[0]
    assert first[0, 0].tolist() == [11, 21, 31]
    assert first[0, 1, 0] == 12
    assert (first[31, 31, 0], first[31, 31, 2]) == (13, 33)
    assert splits.test.labels.tolist() == [7] * 20


def test_an_archive_with_another_hash_is_never_opened(home, write_archive, monkeypatch):
    path = write_archive(home / "data" / cifar10.ARCHIVE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    monkeypatch.setattr(tarfile, "open", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(InputError, match="is not CIFAR-10's archive: its SHA-256 is"):
        data.load_splits(DataSpec(data="cifar10"))


class Harmful:
    def __reduce__(self):
        return os.system, ("echo harm",)


def test_a_pickle_that_calls_something_is_refused(home, write_archive):
    batch = pickle.dumps({b"data": Harmful()}, protocol=3)
    path = write_archive(home / "data" / cifar10.ARCHIVE, data_batch_3=batch)
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.system"):
        cifar10.read_archive(path)


def test_a_download_is_checked_and_read(home, write_archive, monkeypatch):
    source = write_archive(home / "elsewhere" / cifar10.ARCHIVE)
    arguments = {}

    def get_file(name, url, file_hash, hash_algorithm, cache_dir, cache_subdir):
        arguments.update(url=url, file_hash=file_hash, hash_algorithm=hash_algorithm, cache_dir=cache_dir)
        return str(source)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert len(data.load_splits(DataSpec(data="cifar10")).train) == 90
    assert arguments == {
        "url": cifar10.URL,
        "file_hash": cifar10.SHA256,
        "hash_algorithm": "sha256",
        "cache_dir": home / "keras" / "datasets",
    }


def test_a_failed_download_names_three_alternatives(home, capsys):
    assert cifar.main(["--out", str(home / "run")]) == 2
    error = capsys.readouterr().err
    for part in ("no route to host", cifar10.URL, "cifar-10-python.tar.gz", "--data PATH", "synthetic"):
        assert part in error
    assert error.count("\n") == 1


def test_the_hash_is_the_one_that_keras_checks():
    from keras.src.datasets import cifar10 as reference

    assert cifar10.SHA256 in inspect.getsource(reference)
    assert cifar10.URL in inspect.getsource(reference)


@pytest.mark.real_data
def test_the_real_images(real_data, monkeypatch):
    monkeypatch.setenv("KERAS_VISION_DATA", str(real_data("cifar10.npz").parent))
    splits = data.load_splits(DataSpec(data="cifar10"))
    assert splits.counts() == {"train": [4500] * 10, "val": [500] * 10, "test": [1000] * 10}
    assert splits.train.images.base is splits.val.images.base is not None
