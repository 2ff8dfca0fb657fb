"""The tree and who may import whom: a star, not a chain. CONTRIBUTING.md says the same in prose."""

import ast
import functools
import sys
from pathlib import Path

import pytest

from keras_vision import cli
from keras_vision.pipeline import folder as run_folder

PACKAGE = Path(__file__).parents[1] / "keras_vision"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
STAGES = ("data", "models", "training", "evaluation", "explanation", "quantization")
ROOMS = {*STAGES, "pipeline", "many_images", "files", "keras_internals"}
TOP = {
    *("__init__.py", "__main__.py", "recipe.py", "cli.py", "backend.py", "classifier.py"),
    *(f"{name}.py" for name in (*cli.TRACKS, *cli.COMMANDS)),
}
# Modules whose import must be quick, because flags are read before Keras is imported.
LIGHT = sorted({*TOP - {"classifier.py"}, "pipeline/__init__.py", "pipeline/folder.py"})
# Where a framework is imported, inside functions: at most one file for each way in which a stage needs one.
FRAMEWORKS = {
    "explanation/gradients.py": {"tensorflow", "jax", "torch"},
    "keras_internals/placement.py": {"jax"},
    "models/state_dict.py": {"torch"},
    "quantization/export_judge.py": {"tensorflow", "torch"},
    "quantization/export_writer.py": {"torch"},
    "quantization/tflite.py": {"tensorflow"},
    "training/direct_batches.py": {"tensorflow"},
    "training/devices.py": {"jax"},
    "training/native_operations.py": {"tensorflow", "torch"},
    "training/own_loop.py": {"tensorflow", "jax", "torch"},
    "training/torch_state.py": {"torch"},
}
# Modules that may use a private name of a library other than Keras, and which.
OTHER_PRIVATE_NAMES = {
    "cli.py": {"_actions"},  # argparse
    "training/devices.py": {"_exit"},  # os
    "many_images/worker.py": {"_exit"},  # os
    "quantization/runtime.py": {"_get_ops_details"},  # LiteRT
    "quantization/tflite.py": {"_exit"},  # os
    "quantization/tflite_trial.py": {"_get_ops_details"},  # LiteRT
}


@functools.cache
def tree(module):
    return ast.parse((PACKAGE / module).read_text("utf-8"))


def imports(module, *, inside_functions=True):
    """Dotted names of everything that a module imports; without `if TYPE_CHECKING:`."""
    nodes = ast.walk(tree(module)) if inside_functions else tree(module).body
    blocks = [node for node in tree(module).body if isinstance(node, ast.If)]
    for_types = {id(part) for node in blocks if "TYPE_CHECKING" in ast.dump(node.test) for part in node.body}
    found = set()
    for node in nodes:
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def own_parts(names):
    """The parts of keras_vision among imported names: `keras_vision.data.splits` is `data`."""
    return {name.split(".")[1] for name in names if name.startswith("keras_vision.")} - {"__version__"}


def roots(names):
    return {name.partition(".")[0] for name in names}


def room(module):
    return module.partition("/")[0] if "/" in module else ""


def test_the_tree_has_these_rooms_and_no_other():
    assert {room(module) for module in MODULES} - {""} == ROOMS
    assert {module for module in MODULES if not room(module)} == TOP
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in STAGES])
def test_a_stage_imports_no_other_stage_no_pipeline_and_no_command_line(module):
    assert own_parts(imports(module)) <= {room(module), "recipe", "files", "keras_internals"}


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) == "pipeline"])
def test_the_pipeline_knows_the_stages_and_no_command_line(module):
    assert own_parts(imports(module)) <= {*STAGES, "pipeline", "recipe", "files", "keras_internals", "backend"}


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) == "many_images"])
def test_many_images_knows_the_classifier_and_no_command_line(module):
    known = {"many_images", "classifier", "files", "recipe"} | ({"quantization"} if "worker" in module else set())
    assert own_parts(imports(module)) <= known


def test_only_the_pipeline_and_the_front_door_know_several_stages():
    several = {module for module in MODULES if len(own_parts(imports(module)) & set(STAGES)) > 1}
    assert {room(module) for module in several} == {"pipeline", ""}
    assert {module for module in several if not room(module)} <= {"classifier.py"}


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in ("files", "keras_internals")])
def test_what_stages_share_knows_none_of_them(module):
    assert own_parts(imports(module)) <= {room(module), "recipe"}


@pytest.mark.parametrize("module", ["recipe.py", "__init__.py"])
def test_recipe_and_front_door_need_the_standard_library(module):
    on_import = imports(module, inside_functions=False)
    assert roots(on_import) - {"keras_vision"} <= sys.stdlib_module_names
    assert own_parts(on_import) <= ({"recipe"} if module == "__init__.py" else set())


@pytest.mark.parametrize("module", LIGHT)
def test_what_reads_flags_needs_the_standard_library(module):
    on_import = imports(module, inside_functions=False)
    assert roots(on_import) - {"keras_vision"} <= sys.stdlib_module_names
    # `train`, the track for everybody, has recipes that others take.
    assert own_parts(on_import) <= {"recipe", "cli", "backend", "files", "train", *cli.COMMANDS}


@pytest.mark.parametrize("module", MODULES)
def test_frameworks_are_imported_in_their_files_inside_functions(module):
    frameworks = {"tensorflow", "jax", "torch"}
    assert roots(imports(module)) & frameworks <= FRAMEWORKS.get(module, set())
    assert not roots(imports(module, inside_functions=False)) & frameworks


def test_evaluation_needs_no_keras():
    for module in MODULES:
        if room(module) == "evaluation":
            assert not roots(imports(module)) & {"keras", "matplotlib"}, module


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) != "keras_internals"])
def test_private_names_of_keras_are_used_in_one_room(module):
    """A private attribute is this package's own, which some class or function here defines, or is listed."""
    used = {
        node.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
    }
    assert used <= own_private_names() | OTHER_PRIVATE_NAMES.get(module, set())
    assert not any(name.startswith("keras.src") for name in imports(module))


@functools.cache
def own_private_names():
    names = set()
    for module in MODULES:
        if room(module) == "keras_internals":
            continue
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.AnnAssign | ast.Name) and isinstance(getattr(node, "ctx", None), ast.Store):
                names.add(node.id)
    # namedtuple's own, which Python documents.
    return {name for name in names if name.startswith("_")} | {"_asdict", "_fields"}


def texts(module):
    """Every string in a module's code, without docstrings."""
    found, skipped = [], set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            found.append(node.value)
    return found


def test_the_names_of_a_runs_files_are_spelled_in_one_file():
    names = {
        *(run_folder.MODEL, run_folder.HISTORY, run_folder.PREDICTIONS, run_folder.RECIPE, run_folder.ENVIRONMENT),
        *(run_folder.DATA_REPORT, run_folder.PAGE, run_folder.REPORT, run_folder.RANGE_TEST),
        *(run_folder.RANGE_TEST_CURVE, run_folder.RANGE_TEST_PLOT, run_folder.CARD),
    }
    for module in MODULES:
        if module != "pipeline/folder.py":
            assert not names & set(texts(module)), module


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(tree(module))


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_annotated(module):
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ClassDef):
            members = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            checked = members if not node.name.startswith("_") and not keras_class(node) else []
        elif isinstance(node, ast.Module):
            checked = [item for item in node.body if isinstance(item, ast.FunctionDef)]
        else:
            continue
        for function in checked:
            if not function.name.startswith("_"):
                every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
                bare = [part.arg for part in every if part.annotation is None and part.arg not in ("self", "cls")]
                assert not bare, f"{function.name}: {', '.join(bare)}"
                assert function.returns is not None, f"{function.name} says nothing of what it returns"


def keras_class(node):
    """Whether a class extends one of Keras's, whose methods have Keras's signatures."""
    return any("keras" in ast.dump(base) or "layers" in ast.dump(base) for base in node.bases)
