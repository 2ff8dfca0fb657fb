"""Pictures drawn from a seed, so that every track runs with no network and no files.

They stand in for real data in the demo and the tests: a network has to learn colour, texture and outline to tell the
classes apart, and some pictures are ambiguous. Figures on them say that the code works, nothing about medicine.
"""

import cv2
import numpy as np

from keras_vision.data.splits import Source, Split, Splits

LESIONS = (
    "actinic keratosis",
    "basal cell carcinoma",
    "benign keratosis",
    "dermatofibroma",
    "melanoma",
    "nevus",
    "vascular lesion",
)
# Images per class of DermaMNIST, which is HAM10000 (Tschandl et al. 2018, https://doi.org/10.1038/sdata.2018.161).
LESION_FREQUENCIES = (327, 514, 1099, 115, 1113, 6705, 142)
LESION_COUNTS = {"train": 1400, "val": 200, "test": 400}

BREAKS = ("buckle", "nondisplaced", "displaced")
BREAK_COUNTS = {"train": 300, "val": 60, "test": 120}

CANVAS = 56  # Pixels that every lesion is drawn on, twice DermaMNIST's side, before it is scaled to the size asked for.


def lesions(*, seed=0, size=28):
    """Lesion-like colour pictures of 7 classes, as uneven as DermaMNIST's.

    Args:
        seed: Decides every picture; the size does not change what is drawn.
        size: Side of the images in pixels.
    """
    return _splits(
        "synthetic",
        LESIONS,
        LESION_FREQUENCIES,
        LESION_COUNTS,
        seed,
        (size, size, 3),
        lambda rng, label: _lesion(rng, label, size),
    )


def breaks(*, seed=0, size=28):
    """Gray volumes of a rib with one of three kinds of break.

    Args:
        seed: Decides every volume.
        size: Side of the volumes in voxels.
    """
    return _splits(
        "synthetic3d",
        BREAKS,
        (1, 1, 1),
        BREAK_COUNTS,
        seed,
        (size, size, size, 1),
        lambda rng, label: _rib(rng, label, size)[..., np.newaxis],
    )


KINDS = {"synthetic": lesions, "synthetic3d": breaks}


def _splits(name, class_names, frequencies, counts, seed, shape, draw):
    rng = np.random.Generator(np.random.Philox(seed))
    splits = {}
    for split, count in counts.items():
        labels = rng.permutation(_labels(frequencies, count))
        images = np.empty((count, *shape), np.uint8)
        for index, label in enumerate(labels):
            images[index] = draw(rng, label)
        splits[split] = Split(images, labels)
    source = Source(name, f"Pictures drawn by this package from seed {seed}; not medical images", "Apache-2.0")
    return Splits(**splits, class_names=class_names, source=source)


def _labels(frequencies, count):
    """`count` labels in proportion to the frequencies, by largest remainder, at least 2 of each class."""
    share = np.asarray(frequencies) / np.sum(frequencies) * (count - 2 * len(frequencies))
    counts = 2 + np.floor(share).astype(int)
    counts[np.argsort(np.floor(share) - share)[: count - counts.sum()]] += 1
    return np.repeat(np.arange(len(frequencies)), counts)


def _lesion(rng, label, size):
    """One lesion on skin, `(size, size, 3)` uint8 RGB."""
    skin = np.float32(SKIN + rng.normal(0, 6, 3) + rng.normal(0, 12))
    canvas = skin + _clouds(rng, 4.0)[..., np.newaxis] * 7
    irregularity = (0.10, 0.10, 0.07, 0.05, 0.20, 0.06, 0.08)[label] * rng.uniform(0.6, 1.6)
    radius = CANVAS * rng.uniform(0.18, 0.34)
    centre = CANVAS / 2 + rng.normal(0, CANVAS * 0.05, 2)
    mask = _blur(_blob(rng, centre, radius, irregularity), rng.uniform(0.8, 2.5))
    colour = np.float32(LESION_COLOURS[label] + rng.normal(0, 8, 3) + rng.normal(0, 16))
    body = colour + _clouds(rng, rng.uniform(2, 4))[..., np.newaxis] * 10
    body = FEATURES[label](rng, body, centre, radius)
    opacity = mask * np.float32(rng.uniform(0.65, 1.0))
    canvas += (body - canvas) * opacity[..., np.newaxis]
    for _ in range(rng.poisson(0.7)):
        _hair(rng, canvas)
    canvas += 3 * rng.standard_normal(canvas.shape, np.float32)
    # Area averaging keeps the picture when it shrinks; growing needs interpolation.
    method = cv2.INTER_AREA if size < CANVAS else cv2.INTER_CUBIC
    small = cv2.resize(canvas, (size, size), interpolation=method)
    return np.clip(np.rint(small), 0, 255)


SKIN = np.array([226, 178, 160])
LESION_COLOURS = (
    (205, 128, 116),
    (206, 140, 136),
    (158, 112, 84),
    (172, 118, 96),
    (104, 72, 60),
    (138, 92, 70),
    (150, 52, 66),
)


def _blob(rng, centre, radius, irregularity):
    """Mask of a wavy disc, float32 in 0..1."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    outline = np.ones_like(angle)
    for waves in (2, 3, 5, 7):
        outline += rng.normal(0, irregularity / np.sqrt(waves)) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    points = centre + radius * outline[:, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    mask = np.zeros((CANVAS, CANVAS), np.float32)
    cv2.fillPoly(mask, [np.rint(points * 8).astype(np.int32)], 1.0, lineType=cv2.LINE_8, shift=3)
    return mask


def _blur(picture, sigma):
    return cv2.GaussianBlur(picture, (0, 0), sigma)


def _clouds(rng, sigma):
    """Smooth noise, mean about 0 and standard deviation 1."""
    noise = _blur(rng.standard_normal((CANVAS, CANVAS), np.float32), sigma)
    return noise / noise.std()


def _dots(rng, body, centre, radius, count, colour, sizes):
    """Small discs scattered over the lesion."""
    places = centre + rng.normal(0, radius * 0.45, (count, 2))
    for (x, y), dot in zip(places, rng.uniform(*sizes, count), strict=True):
        cv2.circle(body, (int(x * 8), int(y * 8)), int(dot * 8), colour, -1, cv2.LINE_8, shift=3)
    return _blur(body, 0.7)


def _scales(rng, body, centre, radius):
    return _dots(rng, body, centre, radius, rng.integers(4, 12), (236, 214, 196), (0.8, 2.0))


def _vessels(rng, body, centre, radius):
    for _ in range(rng.integers(1, 4)):
        _line(rng, body, centre + rng.normal(0, radius * 0.4, 2), radius, (178, 60, 62))
    return _dots(rng, body, centre, radius, rng.integers(2, 6), (92, 84, 104), (1.0, 2.2))


def _cysts(rng, body, centre, radius):
    return _dots(rng, body, centre, radius, rng.integers(5, 14), (214, 186, 150), (0.7, 1.4))


def _scar(rng, body, centre, radius):
    scar = _blur(_blob(rng, centre, radius * rng.uniform(0.35, 0.55), 0.1), 1.5)
    return body + (np.array([226, 196, 184], np.float32) - body) * (np.float32(0.8) * scar[..., np.newaxis])


def _patches(rng, body, centre, radius):
    for colour in ((64, 48, 52), (150, 90, 64), (110, 116, 134)):
        if rng.random() < 0.8:
            place = centre + rng.normal(0, radius * 0.45, 2)
            patch = _blur(_blob(rng, place, radius * rng.uniform(0.3, 0.6), 0.2), 1.2)
            body = body + (np.array(colour, np.float32) - body) * (np.float32(0.8) * patch[..., np.newaxis])
    return body


def _plain(rng, body, centre, radius):
    del rng, centre, radius
    return body


def _lagoons(rng, body, centre, radius):
    return _dots(rng, body, centre, radius, rng.integers(3, 8), (112, 22, 58), (1.5, 3.5))


FEATURES = (_scales, _vessels, _cysts, _scar, _patches, _plain, _lagoons)


def _line(rng, canvas, start, length, colour):
    """A thin line that wanders."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 6))
    points = start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / 6, axis=0)
    cv2.polylines(canvas, [np.rint(points * 8).astype(np.int32)], False, colour, 1, cv2.LINE_8, shift=3)


def _hair(rng, canvas):
    _line(rng, canvas, rng.uniform(0, CANVAS, 2), CANVAS * 1.2, (62, 44, 38))


def _rib(rng, label, size):
    """One rib, `(size, size, size)` uint8: a bright shell around softer marrow, broken near its middle."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    side = np.cross(direction, rng.standard_normal(3))
    side /= np.linalg.norm(side)
    grid = np.moveaxis(np.indices((size,) * 3, np.float32), 0, -1) - np.float32(size / 2 - 0.5)
    position = ((grid - rng.normal(0, size * 0.04, 3).astype(np.float32)) * np.float32(28 / size)).astype(np.float32)
    along = position @ direction.astype(np.float32)
    at = along - rng.normal(0, 2)
    offset = rng.uniform(2.5, 5.0) * (at > 0) if label == 2 else 0.0  # displaced: one half moves sideways
    centre = 0.012 * rng.uniform(-1, 1) * along**2 + offset
    across = position - along[..., np.newaxis] * direction.astype(np.float32) - centre[..., np.newaxis] * side
    distance = np.sqrt(np.square(across).sum(-1))
    radius = rng.uniform(4.0, 6.0)
    if label == 0:  # buckle: the shell bulges, unbroken
        radius = radius * (1 + rng.uniform(0.25, 0.5) * np.exp(-np.square(at) / rng.uniform(3, 8)))
    shell = np.exp(-np.square((distance - radius) / 1.1))
    bone = 150 * shell + 70 / (1 + np.exp((distance - radius) * 2))
    if label > 0:  # nondisplaced and displaced: a dark cleft
        bone *= 1 - rng.uniform(0.6, 0.95) * np.exp(-np.square(at / rng.uniform(0.7, 1.4)))
    volume = 45 + bone * rng.uniform(0.75, 1.1) + rng.normal(0, 9, bone.shape)
    return np.clip(np.rint(volume), 0, 255)
