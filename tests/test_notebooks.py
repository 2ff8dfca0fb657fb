"""The notebooks: what they may contain, that their files are up to date, and that they run."""

import ast
import importlib.util
import warnings
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
assert spec is not None
assert spec.loader is not None
build = importlib.util.module_from_spec(spec)
with warnings.catch_warnings():
    # jupyter_core announces that the folders of its next major version are others.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="jupyter_core")
    spec.loader.exec_module(build)

SOURCES = build.sources()
NAMES = [source.stem for source in SOURCES]
PICTURES = [NOTEBOOKS.parent / "docs" / "notebooks" / f"{name[:2]}.png" for name in NAMES]
MOST_LINES = 3
LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LOGIC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try)
MOST_LAMBDA = 30  # Characters.

# `make notebooks` runs them on JAX, which compiles for longer than they compute.
on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the notebooks run once, on torch, to keep the suite short"
)


@pytest.fixture(params=SOURCES, ids=NAMES)
def source(request):
    return request.param


def executed(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def complaints(text):
    """What the code of a notebook must not have."""
    for node in ast.walk(ast.parse(text)):
        lines = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1
        if isinstance(node, LOGIC):
            yield f"line {node.lineno}: {type(node).__name__}"
        elif isinstance(node, LOOPS) and lines > MOST_LINES:
            yield f"line {node.lineno}: a loop of {lines} lines"
        elif isinstance(node, ast.Lambda) and len(ast.unparse(node)) > MOST_LAMBDA:
            yield f"line {node.lineno}: a long lambda"


def test_there_are_nine_each_with_its_own_number():
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(1, 10)]


def test_notebooks_define_no_logic(source):
    assert not list(complaints(source.read_text("utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "def double(x):\n    return 2 * x",
        "class Net:\n    pass",
        "for x in range(3):\n    a = x\n    b = a\n    c = b",
        "while True:\n    a = 1\n    b = 2\n    break",
        "rows = [\n    x\n    for x in range(3)\n]",
        "f = lambda x: x * 2 + 3 * x ** 2 - 1 / (x + 4)",
    ],
)
def test_logic_is_recognized(text):
    assert list(complaints(text))
    assert not list(complaints("for x in range(3):\n    a = x\n    b = a\nrows = [x for x in range(3)]"))


def test_a_notebook_begins_with_a_question_and_ends_with_an_answer(source):
    texts = [cell.source for cell in build.read(source).cells if cell.cell_type == "markdown"]
    assert texts[0].startswith("# ")
    assert texts[0].splitlines()[0].endswith("?")
    assert texts[-1].startswith("## Answer")


def test_a_notebook_says_how_to_install_and_what_to_change_for_real_data(source):
    text = source.read_text("utf-8")
    assert "%pip install" in text
    assert text.count("# For real data:") == 1


def test_the_ipynb_has_the_cells_of_the_py(source):
    """`make notebooks` after every change of a .py."""
    expected, found = build.read(source), executed(source)
    assert [(cell.cell_type, cell.source) for cell in found.cells] == [
        (cell.cell_type, cell.source) for cell in expected.cells
    ]
    assert [cell.id for cell in found.cells] == [cell.id for cell in expected.cells]


def test_the_ipynb_has_outputs_and_none_that_it_must_not_have(source):
    notebook = executed(source)
    assert not build.faults(notebook)
    assert build.pictures(notebook)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ({"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}, "an error"),
        ({"output_type": "stream", "name": "stderr", "text": "WARNING"}, "standard error"),
        ({"output_type": "stream", "name": "stdout", "text": "saved in /home/me/runs"}, "a path"),
        ({"output_type": "stream", "name": "stdout", "text": "on 2025-01-31 12:00:01"}, "a time"),
        ({"output_type": "stream", "name": "stdout", "text": "44/44 - 1s - 30ms/step"}, "a time"),
        ({"output_type": "stream", "name": "stdout", "text": "<object at 0x7f12ab34cd56>"}, "in memory"),
        ({"output_type": "display_data", "metadata": {}, "data": {"text/plain": "b'\\x89PNG'"}}, "bytes in place"),
        (
            {"output_type": "display_data", "metadata": {}, "data": {"image/png": "A" * 4 * build.PICTURE_BYTES}},
            "a picture of",
        ),
    ],
)
def test_faults_are_found(output, fault):
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.from_dict(output)])
    assert fault in "; ".join(build.faults(nbformat.v4.new_notebook(cells=[cell])))
    assert build.faults(nbformat.v4.new_notebook(cells=[])) == ["no output"]


@pytest.mark.parametrize("picture", PICTURES, ids=NAMES)
def test_the_docs_have_a_small_picture_of_each(picture):
    assert picture.stat().st_size < build.DOCS_BYTES
    page = (picture.parents[1] / "notebooks.md").read_text("utf-8")
    assert f"notebooks/{picture.name}" in page


def test_the_docs_name_each_notebook(source):
    page = (NOTEBOOKS.parent / "docs" / "notebooks.md").read_text("utf-8")
    assert f"../notebooks/{source.stem}.ipynb" in page


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, with the caches inside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield tmp_path
    plt.close("all")
    plt.switch_backend(before)


@pytest.mark.backend
@pytest.mark.slow
@on_torch
@pytest.mark.parametrize("source", SOURCES[1:], ids=NAMES[1:])
def test_a_notebook_runs(source, elsewhere):
    """As a script in this process; magics are comments there. The first one runs in a kernel, below."""
    names = {"__name__": "__main__"}
    exec(compile(source.read_text("utf-8"), source.name, "exec"), names)
    assert all(path.name in ("runs", "keras") for path in elsewhere.iterdir())


@pytest.mark.backend
@pytest.mark.slow
@on_torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Of tornado, zmq and jupyter_client, on their own code.
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Sockets that zmq closes when it is collected.
def test_the_first_notebook_runs_in_a_kernel(elsewhere):
    notebook = build.execute(build.read(SOURCES[0]), elsewhere)
    assert not build.faults(notebook)
    assert len(build.pictures(notebook)) == len(build.pictures(executed(SOURCES[0])))
    caches = {"ipythondir", "jax_compilation_cache_dir", "keras_home"}
    assert {path.name for path in elsewhere.iterdir()} - caches == {"runs"}
