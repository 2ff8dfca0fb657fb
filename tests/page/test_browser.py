"""The page in a headless Chromium without a network, opened from the disk; its answers beside LiteRT's in Python."""

import base64
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_vision import quantization
from keras_vision.classifier import Classifier
from keras_vision.pipeline import browser_page, page_gallery
from keras_vision.quantization.flatbuffer import pack
from keras_vision.quantization.verification import unpack

ROOT = Path(__file__).parents[2]
EXPORTS = ROOT / "tflite_exports"
AXE = ROOT / "page" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = "<img src=x onerror=alert(1)>"
# Float files: processors add in different orders. With 8-bit weights a value may be rounded the other way.
TOLERANCES = {"float32": 1e-5, "dynamic": 2e-3, "int8": 0, "qat": 0}
pytestmark = pytest.mark.slow


def files(network, *schemes):
    return [EXPORTS / network / f"{scheme}.tflite" for scheme in schemes]


@pytest.fixture
def pictures(tmp_path, scene):
    """Writes PNG files of odd sizes: a function of their number."""

    def write(count):
        paths = []
        for number in range(count):
            height, width = 20 + 7 * number % 90, 30 + 11 * number % 70
            paths.append(tmp_path / f"{number:03}.png")
            cv2.imwrite(str(paths[-1]), cv2.resize(scene(number), (width, height)))
        return paths

    return write


@pytest.mark.parametrize("network", ["derma-best", "plants-robust"])
def test_a_hundred_answers_are_those_of_litert_to_the_bit_for_integer_files(network, browser, make_page, pictures):
    paths, models = pictures(100), files(network, *TOLERANCES)
    tab = browser.open(make_page(*models)).ready()
    tab.choose(*paths)
    # The other two files, on the same pictures.
    for name, place in (("model", 2), ("other", 3)):
        tab.run(
            f"document.getElementById('{name}').value = {place};"
            f"document.getElementById('{name}').dispatchEvent(new Event('change')); kerasVisionPage.idle()"
        )
    results = tab.results()
    assert [name for name, _ in results] == [path.name for path in paths]
    for place, model in enumerate(models):
        classifier = Classifier.open(model)
        expected = classifier.probabilities(np.stack([classifier.read(path) for path in paths]))
        found = np.array([answers[place] for _, answers in results])
        assert np.abs(found - expected).max() <= TOLERANCES[model.stem], model.stem
        np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert "int8 and qat: another class on" in tab.text("#differences")
    assert tab.text("#problems") == ""
    assert tab.complaints() == []
    tab.close()


@pytest.fixture(scope="module")
def small_page(tmp_path_factory, runtime_folder):
    """A page of one file, for the tests that look at the page and not at its scores."""
    from keras_vision import page

    out = tmp_path_factory.mktemp("page") / "page.html"
    arguments = [str(files("derma-best", "int8")[0]), "--runtime", str(runtime_folder), "--out", str(out)]
    assert page.main(arguments) == 0
    assert out.stat().st_size < 8e6
    return out.as_uri()


@pytest.fixture
def tab(browser, small_page):
    found = browser.open(small_page).ready()
    yield found
    assert found.complaints() == []
    found.close()


def file_in_page(path):
    """A JavaScript expression that makes a `File`."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f"new File([Uint8Array.from(atob('{content}'), (c) => c.charCodeAt(0))], '{path.name}')"


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("drop", "new DragEvent('drop', { dataTransfer: data, bubbles: true })"),
        ("paste", "new ClipboardEvent('paste', { clipboardData: data, bubbles: true })"),
    ],
)
def test_pictures_are_dropped_and_pasted(kind, event, tab, pictures):
    path = pictures(1)[0]
    tab.run(
        f"(() => {{ const data = new DataTransfer(); data.items.add({file_in_page(path)});"
        f"document.getElementById('drop').dispatchEvent({event}); return kerasVisionPage.idle(); }})()"
    )
    assert [name for name, _ in tab.results()] == ["000.png"]
    assert tab.text("#status").startswith("000.png: ")


def test_the_camera_takes_a_picture(tab):
    tab.run("document.getElementById('camera-open').click()")
    tab.until("document.getElementById('video').videoWidth > 0")
    assert tab.run("document.activeElement.id") == "camera-shot"
    tab.run("document.getElementById('camera-shot').click(); kerasVisionPage.idle()")
    assert tab.results()[0][0].startswith("camera, ")
    tab.run("document.getElementById('camera-close').click()")
    assert tab.run("document.getElementById('video').srcObject") is None


def test_a_class_below_the_threshold_is_unsure_and_a_test_image_has_its_heatmap_beside_it(
    browser, runtime_folder, pictures, tmp_path, monkeypatch
):
    classifier = Classifier.open(files("derma-best", "int8")[0])
    path = pictures(1)[0]
    image = classifier.read(path)
    probabilities = classifier.probabilities(image[np.newaxis])[0]
    classifier.unsure_below = float(np.nextafter(probabilities.max(), 1))
    ramp = np.tile(np.linspace(0, 255, 28), (28, 1)).astype(np.uint8)
    seen, heat = (base64.b64encode(cv2.imencode(".png", part)[1]).decode() for part in (image[..., ::-1], ramp))
    item = {"name": "one.png", "truth": HOSTILE, "png": seen, "heat": heat, "heatOf": HOSTILE}
    shown = page_gallery.Gallery([item], "note", "grad-cam")
    monkeypatch.setattr(page_gallery, "read", lambda run, most: shown)
    out = tmp_path / "page.html"
    browser_page.write([classifier], out, run=tmp_path, gallery=1, runtime=runtime_folder)
    tab = browser.open(out.as_uri()).ready()
    tab.choose(path)
    tab.run("document.querySelector('#thumbs button').click(); kerasVisionPage.idle()")
    name = classifier.labels_of(probabilities)[0]
    assert tab.text(".answer") == f"unsure, perhaps {name}"
    assert tab.text("#status") == f"one.png: unsure, perhaps {name}."
    assert tab.text(".bars caption").startswith("The line: unsure where no class reaches ")
    assert tab.run("document.querySelectorAll('article:first-child .mark').length") == 7
    captions = "[...document.querySelectorAll('figcaption')].map((part) => part.textContent)"
    raised = f"grad-cam of the report: what raises {HOSTILE}"
    assert tab.run(captions) == ["what it sees", raised, "what it sees"]
    pixel = "[...document.querySelectorAll('figure canvas')][1].getContext('2d').getImageData(27, 0, 1, 1).data"
    red = [round((value + hot) / 2) for value, hot in zip(image[0, 27].tolist(), (215, 40, 30), strict=True)]
    assert np.abs(np.subtract(tab.run(f"[...{pixel}].slice(0, 3)"), red)).max() <= 1
    assert tab.complaints() == []
    tab.close()


def test_what_is_no_picture_gets_a_sentence(tab, tmp_path, pictures):
    header = (
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIHDR" + (20_000).to_bytes(4) + (10_000).to_bytes(4) + b"\x08\2\0\0\0" * 4
    )
    good = pictures(1)[0]
    contents = {
        "text.jpg": b"not a picture at all, only text that somebody renamed",
        "huge.png": header,
        "volume.npy": b"\x93NUMPY" + bytes(100),
        "empty.png": b"",
        "cut.png": good.read_bytes()[:200],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    tab.choose(*(tmp_path / name for name in contents), good)
    assert tab.text("#problems").split("\n") == [
        "text.jpg is no picture that this browser can read.",
        "huge.png has 200 megapixels; at most 134 are read. Make it smaller first.",
        "volume.npy is a NumPy array; save its slices as PNG.",
        "empty.png is empty.",
        "cut.png is a damaged PNG file: the file ends too early.",
    ]
    assert [name for name, _ in tab.results()] == ["000.png"]


def test_the_heatmap_is_drawn_over_the_picture(tab, pictures):
    tab.choose(*pictures(1))
    tab.run("document.querySelector('.seen button').click(); kerasVisionPage.idle()")
    note = tab.text(".seen p")
    pixels = (
        "[...document.querySelectorAll('.seen canvas')].map((canvas) => "
        "[...canvas.getContext('2d').getImageData(0, 0, 28, 28).data].join())"
    )
    drawn = tab.run(pixels)
    assert (len(drawn) == 2) == note.startswith("Red: covering it lowers")
    assert len(set(drawn)) == len(drawn)
    assert note in tab.text("#status")


def test_a_browser_without_simd_gets_a_sentence(browser, small_page):
    tab = browser.open(small_page, before="WebAssembly.validate = () => false")
    tab.until("document.querySelectorAll('#problems li').length")
    assert tab.text("#problems").startswith("This browser has no WebAssembly with SIMD")
    assert tab.run("document.getElementById('files').disabled")
    tab.close()


def test_a_browser_that_computes_otherwise_is_noticed(browser, small_page, tmp_path):
    text = Path(small_page.removeprefix("file://")).read_text("utf-8")
    begin, probes, end = text.partition('"probes":[[')
    changed = tmp_path / "changed.html"
    changed.write_text(begin + probes + "0.5" + end[end.index(",") :], "utf-8")
    tab = browser.open(changed.as_uri()).ready()
    assert tab.text("#problems").startswith("int8: this browser's scores differ from LiteRT's by up to 0.")
    tab.close()


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_and_nothing_is_cut_off(width, dark, browser, small_page, pictures):
    if not AXE.is_file():
        pytest.skip("needs axe-core: make page")
    tab = browser.open(small_page, width=width, dark=dark).ready()
    tab.choose(*pictures(2))
    tab.run("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    tab.run(AXE.read_text("utf-8") + "; null")
    found = tab.run(
        "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html)}`))"
    )
    assert found == []
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    tab.close()


def test_the_keyboard_reaches_every_control(tab, pictures):
    tab.choose(*pictures(1))
    tab.run("document.getElementById('files').focus()")
    reached = ["files"]
    for _ in range(8):
        for kind in ("keyDown", "keyUp"):
            tab.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(tab.run("document.activeElement.id || document.activeElement.textContent.trim()"))
    expected = ["files", "camera-open", "save", "clear", "Which parts matter?", "int8"]
    assert [name for name in reached if name in expected][: len(expected)] == expected


@pytest.fixture
def hostile(tmp_path):
    """A file whose class names and card are HTML; it gives several labels."""
    source = files("derma-best", "int8")[0]
    model = unpack(source.read_bytes())
    codes = [schema.BuiltinOperator.SOFTMAX, schema.BuiltinOperator.LOGISTIC]
    for code in model.operatorCodes:
        if code.builtinCode == codes[0]:
            code.builtinCode = code.deprecatedBuiltinCode = codes[1]
    for operator in model.subgraphs[0].operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == codes[1]:
            operator.builtinOptions, operator.builtinOptionsType = None, 0
    labels = [HOSTILE, "</script><script>alert(1)</script>", '"><svg onload=alert(1)>', *"abcd"]
    metadata = quantization.Metadata(HOSTILE, HOSTILE, "1", HOSTILE, tuple(labels))
    path = tmp_path / "hostile.tflite"
    path.write_bytes(quantization.add_metadata(pack(model), metadata))
    card = json.loads(source.with_suffix(".json").read_text("utf-8"))
    card |= {"name": HOSTILE, "split": HOSTILE, "thresholds": {str(place): 0.25 for place in range(7)}}
    card["data"] = {"description": HOSTILE, "licence": "</script>" + HOSTILE, "odd": float("nan")}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_names_and_cards_that_are_html_do_nothing(hostile, browser, make_page, pictures, tmp_path):
    before = "globalThis.alert = () => { globalThis.alerted = true; }"
    tab = browser.open(make_page(hostile, "--title", "</title>" + HOSTILE), before=before).ready()
    picture = tmp_path / "<img src=x onerror=alert(1)>.png"
    shutil.copy(pictures(1)[0], picture)
    (tmp_path / "<b>.jpg").write_bytes(b"no picture")
    tab.choose(picture, tmp_path / "<b>.jpg")
    tab.run("document.querySelector('.seen button').click(); kerasVisionPage.idle()")
    tab.run("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    assert tab.run("document.images.length") == 1  # The report's heatmaps, which this page has not.
    assert tab.run("globalThis.alerted") is None
    assert tab.text("h1") == "</title>" + HOSTILE
    assert HOSTILE in tab.text("article")
    assert "</script>" + HOSTILE in tab.text("#about")
    # What injected HTML could do is refused as well.
    tab.run(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(HOSTILE)})")
    tab.run("document.body.append(Object.assign(document.createElement('script'), { textContent: 'alert(1)' }))")
    assert tab.run("fetch('https://example.org').then(() => 'fetched', () => 'refused')") == "refused"
    assert tab.run("globalThis.alerted") is None
    assert any("Content Security Policy" in text for text in tab.complaints())
    tab.close()


def test_several_labels_are_those_of_the_classifier(hostile, browser, make_page, pictures):
    paths = pictures(5)
    tab = browser.open(make_page(hostile)).ready()
    tab.choose(*paths)
    classifier = Classifier.open(hostile)
    assert classifier.thresholds is not None
    for (_, answers), path, shown in zip(
        tab.results(),
        paths,
        tab.run("[...document.querySelectorAll('.answer')].map((part) => part.textContent)"),
        strict=True,
    ):
        probabilities = classifier.probabilities(classifier.read(path)[np.newaxis])[0]
        np.testing.assert_array_equal(answers[0], probabilities)
        assert shown == (", ".join(classifier.labels_of(probabilities)) or "no label")
    assert tab.text("caption") == "The line is a label's threshold."
    tab.close()
