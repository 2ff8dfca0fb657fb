"""Who may import whom: a star, not a chain."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "keras_vision"
STAGES = {"data", "models", "training", "evaluation", "explanation", "quantization"}
FRAMEWORKS = {"tensorflow", "jax", "torch"}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(path, *, inside_functions=True):
    """Dotted names of everything that a module imports."""
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    nodes = ast.walk(tree) if inside_functions else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def own_parts(names):
    """The parts of keras_vision among imported names: `keras_vision.data.splits` is `data`."""
    return {name.split(".")[1] for name in names if name.startswith("keras_vision.")}


def roots(names):
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", [name for name in MODULES if name.partition("/")[0] in STAGES])
def test_a_stage_imports_no_other_stage_no_track_and_no_command_line(module):
    stage = module.partition("/")[0]
    assert own_parts(imports(module)) <= {stage, "recipe", "graph", "download", "pictures", "run_folder"}


@pytest.mark.parametrize("module", MODULES)
def test_frameworks_are_imported_nowhere_but_in_their_files(module):
    allowed = {
        "explanation/gradients.py",
        "models/state_dict.py",
        "quantization/tflite.py",
        "training/native_operations.py",
        "training/torch_state.py",
    }
    if module not in allowed:
        assert not roots(imports(module)) & FRAMEWORKS


@pytest.mark.parametrize(
    "module",
    [
        "__init__.py",
        "__main__.py",
        "cli.py",
        "download.py",
        "recipe.py",
        "run_folder.py",
        "derma.py",
        "cifar.py",
        "audit.py",
        "predict.py",
        "pictures.py",
    ],
)
def test_what_reads_flags_needs_the_standard_library_alone(module):
    import sys

    on_import = imports(module, inside_functions=False)
    assert roots(on_import) - {"keras_vision"} <= sys.stdlib_module_names
    assert own_parts(on_import) <= {"recipe", "cli", "run_folder", "pictures"}


@pytest.mark.parametrize("module", ["download.py", "graph.py", "run_folder.py"])
def test_what_stages_share_knows_none_of_them(module):
    assert own_parts(imports(module)) <= {"recipe"}


def test_decoding_knows_nothing_of_the_package():
    assert not own_parts(imports("pictures.py"))


def test_recipe_imports_nothing_of_the_package():
    assert not own_parts(imports("recipe.py"))


def test_evaluation_needs_no_keras():
    for module in MODULES:
        if module.startswith("evaluation/"):
            assert "keras" not in roots(imports(module))


def test_only_the_track_knows_all_stages():
    # `phone`, the track's last stage, brings it quantization; explanation is for users and the report.
    others = STAGES - {"explanation", "quantization"}
    knows = {module for module in MODULES if own_parts(imports(module)) >= others}
    assert knows == {"track.py"}
    assert "phone" in own_parts(imports("track.py"))


def test_every_module_says_what_it_is_for():
    for module in MODULES:
        assert ast.get_docstring(ast.parse((PACKAGE / module).read_text("utf-8"))), module
