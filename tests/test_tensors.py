"""Weights are written as the format's library writes them, and read from files that hold exactly these."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from valuerec.errors import ValuerecError
from valuerec.safetensors_header import LONGEST_HEADER, read_header
from valuerec.tensors import load_tensors, read_into, save_tensors

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


SOME: dict[str, Tensor] = {
    "float": torch.arange(6.0).view(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "whole": torch.tensor([[1 << 40], [-1]]),
    "flag": torch.tensor([True, False, True]),
    "one": torch.tensor(7.0, dtype=torch.float64),
    "none": torch.empty(0, 4),
}


def test_what_was_saved_is_read_into_place_as_the_library_reads_it(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", SOME)
    filled = {name: torch.zeros_like(tensor) for name, tensor in SOME.items()}
    filled["float"] = torch.zeros(3, 2).t()  # not contiguous
    read_into(tmp_path / "a", filled)
    library, ours = load_file(tmp_path / "a"), load_tensors(tmp_path / "a", torch.device("cpu"))
    for name, tensor in SOME.items():
        assert (
            torch.equal(filled[name], tensor) and torch.equal(library[name], tensor) and torch.equal(ours[name], tensor)
        )


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("float", torch.zeros(3, 2), r"float is float32\[2, 3\] there and float32\[3, 2\] here"),
        ("float", torch.zeros(2, 3, dtype=torch.float64), r"float32\[2, 3\] there and float64"),
        ("more", torch.zeros(1), "it has no more"),
        ("float", None, "it has a 'float' too many"),
    ],
)
def test_other_tensors_are_refused_and_nothing_is_filled(
    tmp_path: Path, name: str, tensor: Tensor | None, says: str
) -> None:
    save_tensors(tmp_path / "a", SOME)
    wanted = {each: torch.zeros_like(content) for each, content in SOME.items()}
    if tensor is None:
        del wanted[name]
    else:
        wanted[name] = tensor
    with pytest.raises(ValuerecError, match=says):
        read_into(tmp_path / "a", wanted)
    assert not any(content.any() for content in wanted.values())


def of(header: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(start: int = 0, stop: int = 8, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "longer than the file"),
    "a length and no more": (bytes(7), "longer than the file"),
    "beyond the file": (of({"a": entry()}, length=1 << 62), "longer than the file"),
    "an endless header": (of(b" " * (LONGEST_HEADER + 1)), "longer than the file or than"),
    "no JSON": (of(b"{"), "not readable JSON"),
    "no UTF-8": (of(b'{"\xff": 1}'), "not readable JSON"),
    "deep": (of(b"[" * 100_000), "not readable JSON"),
    "many digits": (of(b"9" * 10_000), "not readable JSON"),
    "no number": (of(b'{"a": NaN}'), "NaN is no number"),
    "twice": (of(b'{"a": 1, "a": 2}'), "a name stands twice"),
    "a list": (of([entry()]), "no JSON object"),
    "no entry": (of({"a": 5}), "not described"),
    "no type": (of({"a": entry(dtype="F8")}), "not described"),
    "an unhashable type": (of({"a": entry(dtype=["F32"])}), "not described"),
    "one offset": (of({"a": entry() | {"data_offsets": [8]}}), "not described"),
    "a wrong size": (of({"a": entry(shape=[3])}), "its shape another number"),
    "a negative axis": (of({"a": entry(shape=[-1, -2])}), "that can't be"),
    "a fraction": (of({"a": entry(shape=[2.0])}), "that can't be"),
    "true": (of({"a": entry(shape=[True, 2])}), "that can't be"),
    "many axes": (of({"a": entry(shape=[1] * 8 + [2])}), "that can't be"),
    "an overflow beside a nought": (of({"a": entry(0, 0, [1 << 47, 1 << 47, 0])}, b""), "that can't be"),
    "an overflow": (of({"a": entry(shape=[1 << 62, 4])}), "that can't be"),
    "beyond the data": (of({"a": entry(0, 80, [20])}), "its tensors end at byte"),
    "backwards": (of({"a": entry(8, 0)}), "and its shape another number"),
    "overlapping": (of({"a": entry(), "b": entry(4, 12)}, bytes(12)), "overlaps another"),
    "the same": (of({"a": entry(), "b": entry()}), "overlaps another"),
    "a hole": (of({"a": entry(), "b": entry(12, 20)}, bytes(20)), "leaves a hole"),
    "a rest": (of({"a": entry()}, bytes(9)), "its tensors end at byte"),
}


@pytest.mark.parametrize("how", list(BAD))
def test_a_header_is_not_believed(tmp_path: Path, how: str) -> None:
    content, says = BAD[how]
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValuerecError, match=says) as caught:
        read_header(tmp_path / "a")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_bytes_changed_anywhere_in_a_header_are_an_error_or_another_header(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a"
    save_tensors(path, SOME)
    content = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        places = read_header(path)
    except ValuerecError:
        return
    assert max(place.stop for place in places.values()) == len(content)
