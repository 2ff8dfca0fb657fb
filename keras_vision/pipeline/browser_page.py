"""`page`: one HTML file with LiteRT, classifiers, their cards and the JavaScript of `page_files/`.

Everything from elsewhere (class names, cards, file names) is JSON in a data block, and the page sets it as text only.
Only the scripts whose hashes are in its Content-Security-Policy run, and they can reach no network.
"""

import base64
import gzip
import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vision.files import browser_runtime, outside
from keras_vision.pipeline import page_gallery, page_model
from keras_vision.pipeline.html import text
from keras_vision.recipe import InputError, printable

if TYPE_CHECKING:
    from keras_vision.classifier import Classifier

MODULES = ("png", "resize", "pixels", "decode", "scores", "occlusion", "runtime", "view", "page")
IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.mjs";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(async )?function|const|class)", re.MULTILINE)
MAX_MODEL_BYTES = 2**28  # A browser keeps a page's text in strings of at most half a gigabyte.
FEW_NAMES = 12  # Names of classes that the head of a page lists.
NOT_A_DEVICE = (
    "Not a medical device. For teaching and research only: its answers must not be used for diagnosis or treatment."
)


def write(
    classifiers: Sequence["Classifier"],
    out: Path,
    *,
    run: Path | None = None,
    title: str | None = None,
    medical: bool = False,
    gallery: int = 0,
    runtime: str | os.PathLike | None = None,
) -> int:
    """Writes a page.

    Args:
        classifiers: Opened .tflite files of the same classes; the second is shown beside the first.
        out: The page.
        run: The run's folder, for its test images.
        title: Of the page; by default the model's name.
        medical: Whether to say that it is no medical device, whatever the data's description says.
        gallery: How many test images at most.
        runtime: Folder with LiteRT's archive; by default it is fetched once.

    Returns:
        Bytes of the page.

    Raises:
        InputError: If the files do not belong together, the runtime cannot be had, or the page cannot be written.
    """
    _check(classifiers)
    content = render(classifiers, browser_runtime.load(runtime), run, title, medical, gallery).encode("utf-8")
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, out)
    except (OSError, ValueError) as error:
        raise InputError(f"{out} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    return len(content)


def _check(classifiers):
    """Refuses files that cannot be on one page."""
    first = classifiers[0]
    for other in classifiers:
        if other.model.num_classes != first.model.num_classes or other.class_names != first.class_names:
            raise InputError(f"{first.path} and {other.path} have other class names, so a page cannot compare them.")
        if other.image_shape[2] != first.image_shape[2] or other.intensity_range != first.intensity_range:
            raise InputError(f"{first.path} and {other.path} take other images, so a page cannot compare them.")
        if not np.array_equal(_thresholds(other), _thresholds(first)):
            raise InputError(f"{first.path} and {other.path} have other thresholds, so a page cannot compare them.")
        if os.path.getsize(other.path) > MAX_MODEL_BYTES:
            raise InputError(f"{other.path} has more than {MAX_MODEL_BYTES >> 20} MB, too much for a page.")


def _thresholds(classifier):
    return [] if classifier.thresholds is None else classifier.thresholds


def render(
    classifiers: Sequence["Classifier"],
    runtime: browser_runtime.BrowserRuntime,
    run: Path | None = None,
    title: str | None = None,
    medical: bool = False,
    gallery: int = 0,
) -> str:
    """The page as text; see `write`."""
    names = _names([classifier.path for classifier in classifiers])
    models = [page_model.describe(*pair) for pair in zip(classifiers, names, strict=True)]
    shown = page_gallery.read(run, gallery) if run is not None and gallery else page_gallery.Gallery([])
    values = _values(classifiers, models, title, medical, shown)
    blocks = {"page-data": ("application/json", _json(values)), "wasm": ("text/plain", _packed(runtime.wasm))}
    for place, classifier in enumerate(classifiers):
        blocks[f"model-{place}"] = ("text/plain", _packed(outside.read_bytes(classifier.path)))
    scripts = [("", runtime.glue), (' type="module"', _litert(runtime.core)), (' type="module"', bundle())]
    parts = [f'<script type="{kind}" id="{name}">{content}</script>' for name, (kind, content) in blocks.items()]
    parts += [f"<script{kind}>{_safe_script(content)}</script>" for kind, content in scripts]
    style = _file("page.css")
    return _file("page.html").format(
        policy=_policy([content for _, content in scripts], style),
        title=text(values["title"]),
        style=style,
        version=browser_runtime.VERSION,
        licence=text(_file("litert-licence.txt").strip("\n")),
        scripts="\n".join(parts),
    )


def bundle() -> str:
    """The page's JavaScript as one module: its files one after the other, without imports and exports."""
    return "\n".join(EXPORT.sub("", IMPORT.sub("", _file(f"{name}.mjs"))) for name in MODULES)


def _litert(core):
    """LiteRT's module without its one import, which would load the WebAssembly file from a URL."""
    imported = 'import { createWasmLib } from "@litertjs/wasm-utils";\n'
    body, exported, _ = core.partition("\nexport {")
    if body.count(imported) != 1 or not exported:
        raise InputError(f"{browser_runtime.PACKAGE} is not the version that the page was written for.")
    start = (
        "const createWasmLib = async (constructor) =>\n"
        "  new constructor(await ModuleFactory({ wasmBinary: globalThis.liteRt.wasm }));\n"
    )
    end = '\nglobalThis.liteRt = { wasm: null, start: () => loadLiteRt("litert.js"), loadAndCompile, Tensor };\n'
    return start + body.replace(imported, "") + end


def _safe_script(content):
    """A script that HTML's parser reads to its end."""
    if re.search(r"</script|<!--|\r", content, re.IGNORECASE):
        raise InputError(f"{browser_runtime.PACKAGE} has a script that cannot be inside a page.")
    return content


def _policy(scripts, style):
    hashes = " ".join(_hash(content) for content in scripts)
    return (
        f"default-src 'none'; script-src {hashes} 'wasm-unsafe-eval'; style-src {_hash(style)}; img-src data:; "
        "media-src blob:; connect-src 'none'; form-action 'none'; base-uri 'none'"
    )


def _hash(content):
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}'"


def _file(name):
    return (importlib.resources.files("keras_vision") / "page_files" / name).read_text("utf-8")


def _packed(content):
    # Without a time, the same files make the same page.
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def _json(values):
    """JSON that HTML's parser cannot read a tag in; everything beyond ASCII is escaped as well."""
    written = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def _names(paths):
    """Short names of files that differ: `int8`, or `derma-best/int8` where two have the same."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    longer = [f"{path.parent.name}/{path.stem}" for path in paths]
    return longer if len(set(longer)) == len(longer) else [f"{number}: {name}" for number, name in enumerate(longer, 1)]


def _values(classifiers, models, title, medical, shown) -> dict[str, Any]:
    first = classifiers[0]
    facts = dict(models[0]["facts"])
    height, width, channels = first.image_shape
    thresholds = None if first.thresholds is None else first.thresholds.tolist()
    what = f"{len(first.class_names):,} {'classes' if thresholds is None else 'labels'}"
    if len(first.class_names) <= FEW_NAMES:
        what += f": {', '.join(first.class_names)}"
    colors = "gray" if channels == 1 else "colour"
    lead = (
        f"Knows {what}. It sees {height} x {width} pixels, {colors}. It runs in this browser: no picture leaves this "
    )
    lead += "device."
    medical = medical or page_model.is_medical(models, first.class_names)
    return {
        "title": printable(title or facts.get("model") or first.path.stem),
        "lead": lead,
        "medical": NOT_A_DEVICE if medical else None,
        "classNames": list(first.class_names),
        "thresholds": thresholds,
        "gray": channels == 1,
        "range": None if first.intensity_range is None else list(first.intensity_range),
        "models": models,
        "gallery": shown.images,
        "galleryNote": shown.note,
        "heatMethod": shown.method,
        "reportImage": None if shown.heatmaps is None else base64.b64encode(shown.heatmaps).decode("ascii"),
        "reportCaption": shown.caption,
    }
