"""What a page in the browser knows of one .tflite file: how its input is made, what its output means, its card."""

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vision import quantization
from keras_vision.files import outside
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline.tables import words
from keras_vision.recipe import InputError

if TYPE_CHECKING:
    from keras_vision.classifier import Classifier

TYPES = ("float32", "uint8", "int8")
PROBES = 4  # Drawn images on which the page and LiteRT in Python must agree.
# What a card says of whoever trained: paths of a machine, which strangers need not read.
PRIVATE = ("recipe", "environment")
MEDICAL = re.compile(
    r"\b(lesions?|dermat\w*|melanom\w*|nevi|x-?rays?|radiograph\w*|fractur\w*|tumou?rs?|cancer\w*|carcinom\w*|"
    r"patholog\w*|histolog\w*|retina\w*|fundus|pneumon\w*|patients?|medical|medmnist|mri|ultrasound|biops\w*|"
    r"adren\w*|endoscop\w*|benign|malignant)\b|(path|chest|derma|oct|pneumonia|retina|breast|blood|tissue|organ[acs]|"
    r"nodule|adrenal|fracture|vessel|synapse|organ)mnist",
    re.IGNORECASE,
)


def describe(classifier: "Classifier", name: str) -> dict[str, Any]:
    """A file as JSON-ready values.

    Args:
        classifier: An opened .tflite file.
        name: What the page calls it.

    Raises:
        InputError: If its input or output is of a type that the page does not know, or its card is damaged.
    """
    runner, path = classifier.model, classifier.path
    output = runner.output_type
    if runner.input_type not in TYPES or output not in TYPES:
        kinds = f"{runner.input_type} and gives {output}"
        raise InputError(f"{path} takes {kinds}. A page runs files of {', '.join(TYPES)}.")
    height, width, channels = classifier.image_shape
    pixels = np.repeat(np.arange(256)[:, np.newaxis], channels, axis=1)
    tables = runner.as_input(pixels).T.tolist()
    scores = runner.byte_scores()
    card = _public(run_folder.read_card(path))
    return {
        "name": name,
        "height": height,
        "width": width,
        "channels": channels,
        "resize": classifier.resize,
        "inputType": runner.input_type,
        "inputTables": tables[:1] if all(table == tables[0] for table in tables) else tables,
        "outputType": output,
        "outputTable": None if scores is None else scores.tolist(),
        "endsIn": runner.ends_in,
        "unsureBelow": classifier.unsure_below,
        "probes": _probe_answers(classifier),
        "facts": _facts(classifier, card),
        "card": card,
    }


def probe(number: int, shape: tuple[int, int, int]) -> np.ndarray:
    """An image that `scores.mjs` draws as well: noise for odd numbers, ramps for even ones; uint8.

    Reference: Press et al., Numerical Recipes, 3rd edition, 7.1: the linear congruential generator.
    """
    height, width, channels = shape
    if number % 2:
        state, values = number, []
        for _ in range(height * width * channels):
            state = (state * 1664525 + 1013904223) % 2**32
            values.append(state >> 24)
        return np.array(values, np.uint8).reshape(shape)
    ramp = np.arange(width) * 255 // width
    return np.broadcast_to((ramp[:, np.newaxis] + np.arange(channels) * 40 * number) & 255, shape).astype(np.uint8)


def is_medical(models: list[dict[str, Any]], class_names: tuple[str, ...]) -> bool:
    """Whether the data is medical, by its description and by the names of the classes."""
    texts = [" ".join(class_names)]
    for model in models:
        texts += [value for name, value in model["facts"] if name in ("model", "description", "data")]
    text = " ".join(texts).replace("not medical images", "")
    return MEDICAL.search(text.replace("_", " ")) is not None


def _probe_answers(classifier):
    images = np.stack([probe(number, classifier.image_shape) for number in range(PROBES)])
    return classifier.probabilities(images).tolist()


def _public(card):
    """A card without what is about a machine, and without numbers that JSON does not have."""
    if card is None:
        return None
    kept = {name: value for name, value in card.items() if name not in PRIVATE}
    return json.loads(json.dumps(kept), parse_constant=lambda name: None)


def _facts(classifier: "Classifier", card: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What a person wants to know of a file, as names and texts; what is not known is left out."""
    path = classifier.path
    content = outside.read_bytes(path)
    metadata, audit = quantization.read_metadata(content, path), quantization.audit(content, path)
    card = card or {}
    data = card.get("data") if isinstance(card.get("data"), dict) else {}
    assert isinstance(data, dict)
    stated = {
        "model": card.get("name") or (metadata.name if metadata else None),
        "licence": (metadata.licence if metadata else None) or data.get("licence"),
        "description": metadata.description if metadata else None,
        "data": data.get("description") or data.get("name"),
        "licence of the data": data.get("licence"),
        "evaluated on": f"{card['images']:,} images, split {card.get('split')}" if _is_count(card) else None,
        **_metrics(card.get("metrics")),
        **_unsure(classifier.unsure_below, card.get("unsure")),
        "arithmetic": audit.kind,
        "input": audit.input,
        "file": f"{path.name}, {audit.bytes:,} bytes",
        "SHA-256": hashlib.sha256(content).hexdigest(),
    }
    return [(name, str(value)) for name, value in stated.items() if value]


def _is_count(card):
    return isinstance(card.get("images"), int)


def _unsure(below: float | None, stated: Any) -> dict[str, str]:
    """Below which probability it is unsure, and what its card promises and measured."""
    if below is None or not isinstance(stated, dict):
        return {}
    target = stated.get("target_error")
    promised = f", which promises at most {100 * target:.3g} % wrong" if isinstance(target, int | float) else ""
    rates = _metrics({"answered": stated.get("answered"), "wrong_among_these": stated.get("error")})
    return {"unsure below": f"a probability of {below:.3f}{promised}", **rates}


def _metrics(metrics: Any) -> dict[str, str]:
    """Metrics of a card with their intervals."""
    found = {}
    for name, values in metrics.items() if isinstance(metrics, dict) else ():
        parts = [values.get(part) for part in ("value", "low", "high")] if isinstance(values, dict) else [None]
        if all(isinstance(part, int | float) for part in parts):
            found[words(name)] = "{:.3f} (95 % interval {:.3f} to {:.3f})".format(*parts)
    return found
