from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from valuerec.errors import ValuerecError
from valuerec.tensors import load_tensors, save_tensors

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
         torch.uint8, torch.bool]  # fmt: skip
SPECS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3)),
    max_size=6,
)


@given(SPECS)
def test_the_bytes_are_those_of_the_formats_own_library(specs: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    tensors = {name: (torch.rand(shape) * 9).to(kind) for name, (kind, shape) in specs.items()}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        save_tensors(ours, tensors)
        save_file(tensors, theirs)
        assert ours.read_bytes() == theirs.read_bytes()
        back = load_tensors(ours, torch.device("cpu"))
        assert all(torch.equal(value, back[name]) for name, value in tensors.items())


def test_tied_and_strided_tensors_come_back_as_they_are(tmp_path: Path) -> None:
    table = torch.rand(4, 6)
    tensors = {"a": table, "b": table, "c": table.t(), "d": table[:, ::2], "e": torch.nn.Parameter(table[1])}
    save_tensors(tmp_path / "x", tensors)
    back = load_tensors(tmp_path / "x", torch.device("cpu"))
    assert set(back) == set(tensors) and all(torch.equal(value, back[name]) for name, value in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValuerecError, match=r"Writing .* failed: no such file"):
        save_tensors(tmp_path / "nowhere" / "x", {"a": torch.ones(1)})
