from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import damaged_files, new_folder, read_manifest, remove_folder, write_json, write_manifest


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as partial:
        (partial / "a").write_text("1")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["a"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("trouble", [ValueError, KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_or_not_at_all(tmp_path: Path, trouble: BaseException) -> None:
    with pytest.raises(BaseException) as caught, new_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("1")
        raise trouble
    assert list(tmp_path.iterdir()) == []
    if isinstance(trouble, OSError):
        assert isinstance(caught.value, ValuerecError) and "no space is left" in str(caught.value)


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    left, others = tmp_path / ".out.abcd0123.partial", tmp_path / ".out.mine.partial"
    for folder in (left, others):
        folder.mkdir()
        (folder / "a").write_text("half")
    with new_folder(tmp_path / "out") as living:
        assert not left.exists() and others.exists()
        with new_folder(tmp_path / "out") as second:
            (second / "a").write_text("2")
            assert living.exists()
        (living / "a").write_text("1")
        (tmp_path / "out").rename(tmp_path / "second")
    assert (tmp_path / "out" / "a").read_text() == "1" and (tmp_path / "second" / "a").read_text() == "2"


def test_a_folder_goes_in_one_step(tmp_path: Path) -> None:
    for attempt in range(2):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text(str(attempt))
        if attempt:  # a killed process had not finished
            (tmp_path / ".a.removing.partial" / "deep").mkdir(parents=True)
        remove_folder(tmp_path / "a")
        assert list(tmp_path.iterdir()) == []


def test_any_change_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    write_manifest(tmp_path, "dataset", 1, {"x": 1e-07})
    path = tmp_path / "manifest.json"
    text = path.read_bytes()
    for changed in (text.replace(b"1e-07", b"1E-07"), text.replace(b"1e-07", b"1e-06"), text + b"\n"):
        path.write_bytes(changed)
        with pytest.raises(ValuerecError, match="differs from its own digest"):
            read_manifest(tmp_path, "dataset", 1)
    path.write_bytes(text)
    assert read_manifest(tmp_path, "dataset", 1)["x"] == 1e-07


def test_what_is_in_use_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("used", "file", "link"):
        with pytest.raises(UsageError), new_folder(tmp_path / name):
            pass
    assert (tmp_path / "used" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("1")
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_a_manifest_knows_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    write_manifest(tmp_path, "dataset", 1, {"x": 1})
    manifest = read_manifest(tmp_path, "dataset", 1)
    assert manifest["x"] == 1 and damaged_files(tmp_path, manifest) == []
    (tmp_path / "a").write_text("3")
    (tmp_path / "b").unlink()
    assert damaged_files(tmp_path, manifest) == ["a", "b"]


@pytest.mark.parametrize(
    "files", [{"../a": {"bytes": 1, "sha256": "0" * 64}}, {"a": {"bytes": -1, "sha256": "0" * 64}}, {"a": 5}, [], None]
)
def test_a_manifest_is_not_believed(tmp_path: Path, files: object) -> None:
    write_json(tmp_path / "manifest.json", {"kind": "run", "schema_version": 1, "files": files})
    with pytest.raises(ValuerecError):
        read_manifest(tmp_path, "run", 1)


def test_another_kind_or_a_newer_version_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path, "run", 3, {})
    with pytest.raises(UsageError, match="no valuerec dataset but a run"):
        read_manifest(tmp_path, "dataset", 1)
    with pytest.raises(ValuerecError, match="schema version 3"):
        read_manifest(tmp_path, "run", 2)
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(UsageError):
        read_manifest(tmp_path, "run", 2)
