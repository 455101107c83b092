from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import (
    damaged_files,
    new_folder,
    read_bytes,
    read_json,
    read_manifest,
    remove_folder,
    write_json,
    write_manifest,
)


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


@pytest.mark.parametrize("kind", ["link to a folder", "link to nothing", "file"])
def test_what_only_has_a_folders_name_goes_too(tmp_path: Path, kind: str) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine").write_text("mine")
    if kind == "file":
        (tmp_path / "a").write_text("no folder")
    else:
        (tmp_path / "a").symlink_to(tmp_path / ("else" if kind == "link to a folder" else "nowhere"))
    remove_folder(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["else"] and (tmp_path / "else" / "mine").is_file()


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for here in (Path(), tmp_path, Path("..") / tmp_path.name):
        with pytest.raises(UsageError, match="is the folder that this runs in; name a new one"), new_folder(here):
            pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "a name stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "a name stands twice"),
        ("[NaN]", "NaN is no number"),
        ("[" * 101 + "]" * 101, "nested more than 100 deep"),
        ("[" * 100_000, "is not readable JSON"),
        ("9" * 5000, "is not readable JSON"),
    ],
)
def test_json_says_what_it_says_in_one_way(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValuerecError, match=says):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100 + "]" * 100)
    assert read_json(tmp_path / "a.json")


def test_no_more_is_read_than_was_allowed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValuerecError, match="more than the 4 bytes"):
        read_bytes(tmp_path / "a", 4)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ValuerecError, match="is a folder, a device or a pipe"):
            read_bytes(tmp_path / name, 4)
