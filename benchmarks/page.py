"""Pages in a browser beside LiteRT in Python, and beside MediaPipe's package for browsers.

Run:     python benchmarks/page.py [--images 100] [--flowers .data/flower_photos] [--mediapipe FOLDER] [--quick]
Needs:   Chromium, and LiteRT for browsers in the cache (`make page`)
Each file of tflite_exports gets a page, which is opened from the disk without a network. Images are photos of
flower_photos, once as PNG files of the same pixels and once as they are; drawn ones where that folder is not there.
Recorded are the page's bytes; seconds from opening to the first answer; the median of milliseconds an image in the page
and of LiteRT in Python with one thread, in turns; on how many images all scores are the same bits, and the same class.
MediaPipe's package, @mediapipe/tasks-vision, is measured where --mediapipe names the folder that it is unpacked in.
"""

import argparse
import base64
import importlib.util
import io
import json
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import record

from keras_vision import page, quantization
from keras_vision.classifier import Classifier
from keras_vision.recipe import SCHEMES

ROOT = Path(__file__).parents[1]
NETWORKS = ("derma-best", "plants-robust")
# The tests' driver of Chromium.
SPEC = importlib.util.spec_from_file_location("driver", ROOT / "tests" / "page" / "conftest.py")
assert SPEC is not None
assert SPEC.loader is not None
driver = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(driver)


def pictures(flowers, folder, count):
    """PNG files, and the JPEG files that they are copies of; drawn PNG files and none where there are no photos."""
    photos = sorted((flowers / "val").glob("*/*.jpg"))
    photos = photos[:: max(1, len(photos) // count)][:count]
    images = [cv2.imread(str(path)) for path in photos]
    if not photos:
        random = np.random.default_rng(0)
        coarse = [random.random((6, 6, 3)) * 255 for _ in range(count)]
        images = [cv2.resize(one, (180, 140), interpolation=cv2.INTER_CUBIC).clip(0, 255) for one in coarse]
    paths = [folder / f"{number:03}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    return paths, photos


def agreement(classifier, paths, tab):
    """On how many files the scores have the same bits, the class is the same, and the largest difference."""
    tab.run("document.getElementById('clear').click()")
    tab.choose(*paths)
    found = np.array([answers[0] for _, answers in tab.results()])
    images = [classifier.read(path) for path in paths]
    expected = classifier.probabilities(np.stack(images))
    return {
        "images": len(paths),
        "same_bits": int((found == expected).all(axis=1).sum()),
        "same_class": int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        "largest_difference": float(np.abs(found - expected).max()),
    }


def measure(file, browser, folder, pngs, jpegs):
    """A row of the table."""
    out = folder / "page.html"
    with redirect_stdout(io.StringIO()):
        assert page.main([str(file), "--out", str(out), "--overwrite"]) == 0
    started = time.perf_counter()
    tab = browser.open(out.as_uri()).ready()
    tab.choose(pngs[0])
    first = time.perf_counter() - started
    classifier = Classifier.open(file)
    row = {"page_megabytes": out.stat().st_size / 1e6, "seconds_to_first_answer": first}
    row["png"] = agreement(classifier, pngs, tab)
    times = tab.run("kerasVisionPage.results.map(({ answers }) => answers[0].milliseconds)")
    row["page_milliseconds"] = float(np.median(times))
    image = classifier.read(pngs[0])
    row["litert_milliseconds"] = quantization.latencies({"it": file.read_bytes()}, image)["it"]
    if jpegs:
        row["jpeg"] = agreement(classifier, jpegs, tab)
    tab.close()
    return row


MEDIAPIPE = """<!doctype html><meta charset="utf-8"><canvas id="canvas"></canvas><script>
const parts = PARTS;
const bytes = (name) => Uint8Array.from(atob(parts[name]), (letter) => letter.charCodeAt(0));
const url = (name, type) => URL.createObjectURL(new Blob([bytes(name)], { type }));
globalThis.prepared = (async () => {
  const { ImageClassifier } = await import(url("bundle", "text/javascript"));
  const fileset = { wasmLoaderPath: url("loader", "text/javascript"), wasmBinaryPath: url("wasm", "application/wasm") };
  const baseOptions = { modelAssetBuffer: bytes("model"), delegate: "CPU" };
  globalThis.classifier = await ImageClassifier.createFromOptions(fileset, { baseOptions, runningMode: "IMAGE" });
})();
globalThis.classify = async (content) => {
  const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))]));
  const start = performance.now();
  const found = classifier.classify(bitmap);
  return [found.classifications[0].categories[0].categoryName, performance.now() - start];
};
</script>"""


def mediapipe(file, browser, folder, package, pngs):
    """MediaPipe's page of a file: bytes, seconds, milliseconds with resizing, and how often it gives LiteRT's class."""
    places = {
        "bundle": package / "vision_bundle.mjs",
        "loader": package / "wasm" / "vision_wasm_internal.js",
        "wasm": package / "wasm" / "vision_wasm_internal.wasm",
        "model": file,
    }
    parts = {name: base64.b64encode(path.read_bytes()).decode() for name, path in places.items()}
    out = folder / "mediapipe.html"
    out.write_text(MEDIAPIPE.replace("PARTS", json.dumps(parts)))
    contents = [base64.b64encode(path.read_bytes()).decode() for path in pngs]
    started = time.perf_counter()
    tab = browser.open(out.as_uri())
    tab.until("globalThis.prepared !== undefined")
    tab.run("prepared")
    tab.run(f"classify('{contents[0]}')")
    first = time.perf_counter() - started
    found = [tab.run(f"classify('{content}')") for content in contents]
    tab.close()
    classifier = Classifier.open(file)
    expected = classifier.probabilities(np.stack([classifier.read(path) for path in pngs])).argmax(axis=1)
    same = sum(name == classifier.class_names[label] for (name, _), label in zip(found, expected, strict=True))
    return {
        "page_megabytes": out.stat().st_size / 1e6,
        "seconds_to_first_answer": first,
        "page_milliseconds": float(np.median([milliseconds for _, milliseconds in found])),
        "same_class": same,
        "images": len(pngs),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--flowers", type=Path, default=ROOT / ".data" / "flower_photos")
    parser.add_argument("--mediapipe", type=Path, default=None)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    schemes = ("qat",) if options.quick else SCHEMES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pngs, jpegs = pictures(options.flowers, folder, 10 if options.quick else options.images)
        browser = driver.Browser(folder / "profile")
        try:
            rows = {}
            for network in NETWORKS:
                for scheme in schemes:
                    file = ROOT / "tflite_exports" / network / f"{scheme}.tflite"
                    rows[f"{network}/{scheme}"] = measure(file, browser, folder, pngs, jpegs)
                    if options.mediapipe is not None:
                        found = mediapipe(file, browser, folder, options.mediapipe, pngs)
                        rows[f"{network}/{scheme}, MediaPipe"] = found
        finally:
            browser.close()
    print("| file | MB | s to first answer | ms in the page | ms, LiteRT | same bits, class: PNG | the same: JPEG |")
    print("|---|---|---|---|---|---|---|")
    for key, row in rows.items():
        cells = [f"{row['page_megabytes']:.1f}", f"{row['seconds_to_first_answer']:.1f}"]
        cells += [
            f"{row['page_milliseconds']:.2f}",
            f"{row['litert_milliseconds']:.2f}" if "litert_milliseconds" in row else "-",
        ]
        for kind in ("png", "jpeg"):
            found = row.get(kind, {"same_class": row.get("same_class", "-") if kind == "png" else "-"})
            cells.append(f"{found.get('same_bits', '-')}, {found['same_class']}")
        print(f"| `{key}` | {' | '.join(cells)} |")
    record.finish("page_quick" if options.quick else "page", rows, {"photos": bool(jpegs)})


if __name__ == "__main__":
    main()
