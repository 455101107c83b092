"""Nothing that valuerec reads can run code: what could do so is not in the source at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "ruamel"),
    *("jsonpickle", "multiprocessing", "pandas"),
}
FUNCTIONS = {"eval", "exec", "compile", "__import__", "breakpoint"}
OF_MODULES = {
    *(("torch", "load"), ("torch", "save"), ("torch.jit", "load"), ("torch.serialization", "load")),
    *(("torch.package", "PackageImporter"), ("torch.hub", "load")),
    *(("numpy", "load"), ("numpy", "save"), ("numpy", "savez"), ("os", "system"), ("os", "popen")),
}


def offences(text: str) -> Iterator[str]:
    """What is forbidden in a module, each with its line."""
    tree = ast.parse(text)
    known: dict[str, str] = {}  # what a name in this module stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [whole(node, known)]
        elif isinstance(node, ast.Name) and node.id in FUNCTIONS and node.id not in known:
            yield f"line {node.lineno}: {node.id}"
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            yield f"line {node.value.lineno}: {node.arg}="
        for name in names:
            outer, _, last = name.rpartition(".")
            if name.split(".")[0] in MODULES or (outer, last) in OF_MODULES or "pickle" in name:
                yield f"line {node.lineno}: {name}"


def whole(node: ast.expr, known: dict[str, str]) -> str:
    """`np.load` as `numpy.load`."""
    if isinstance(node, ast.Attribute):
        return f"{whole(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def test_the_source_has_nothing_that_runs_what_it_reads() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 80
    found = {str(path.relative_to(SOURCE)): list(offences(path.read_text(encoding="utf-8"))) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.ndarray.dumps\nnp.lib.format.read_array(f, allow_pickle=True)",
        "import torch\ntorch.load('x')",
        "from torch import load as read",
        "import torch.jit as j\nj.load('x')",
        "from torch import jit\njit.load('x')",
        "import yaml",
        "eval('1')",
        "run = exec",
        "__import__('os')",
        "import os\nos.system('true')",
        "import subprocess\nsubprocess.run('true', shell=True)",
        "import pandas as pd\npd.read_pickle('x')",
    ],
)
def test_what_is_forbidden_is_found(text: str) -> None:
    assert list(offences(text))


@pytest.mark.parametrize(
    "text", ["network.eval()", "import re\nre.compile('x')", "from valuerec.model import load\nload('x')"]
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert not list(offences(text))
