"""Folders that valuerec writes: made whole or not at all, described by one `manifest.json`.

A dataset, a run, a checkpoint and a bundle are folders. Each holds a manifest with the kind of folder, a schema
version, for every data file its size and SHA-256, and a digest of the manifest itself.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError

from valuerec.errors import NewerFormatError, UsageError, ValuerecError
from valuerec.locks import try_lock

MANIFEST = "manifest.json"
CHECKPOINTS: Final = "checkpoints"
LARGEST_JSON: Final = 256 << 20  # bytes of a file of ours; the largest, a book of results, has some megabytes
LARGEST_MANIFEST: Final = 1 << 20
_DEEPEST: Final = 100  # levels of JSON; ours have six
_UNDIGESTED = "0" * 64


class FileEntry(BaseModel, strict=True):
    """What a manifest says of one file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel, extra="allow", strict=True):
    """What every manifest holds; each kind of folder adds what it needs and may hold more."""

    kind: str
    schema_version: int = Field(ge=1)
    files: dict[str, FileEntry]


@contextlib.contextmanager
def explained_io(what: str) -> Iterator[None]:
    """Turn an `OSError` inside into one sentence: `what` names the work ("Writing the dataset to x")."""
    try:
        yield
    except BrokenPipeError:  # nothing is wrong: the reader of our output has gone
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            reason = "no space is left on the disk; free some or choose another place"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "permission is denied; choose a place that you may write to and files that you may read"
        else:
            reason = f"{(error.strerror or str(error)).lower()}; check the path"
        raise ValuerecError(f"{what} failed: {reason}.") from error


def check_unused(path: Path) -> None:
    """Refuse an output path that holds something already.

    Raises:
        UsageError: where `path` is a file, a folder with anything in it, or the present folder.
    """
    if path.is_symlink() or path.exists():
        if not path.is_dir():
            raise UsageError(f"The output {path} is a file; name a new folder with --out.")
        if any(path.iterdir()):
            raise UsageError(f"The output folder {path} is already in use; name a new one with --out or remove it.")
        if path.samefile("."):  # the new folder would take its place, and whoever stands in it would stand in none
            raise UsageError(f"The output {path} is the folder that this runs in; name a new one with --out.")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that becomes `path` when the block ends well, and else vanishes.

    Files, the temporary folder and, after the rename, the parent are flushed, in this order. What a killed process left
    of an earlier attempt is removed; what a living one is writing is not.

    Raises:
        UsageError: where `path` is in use already.
        ValuerecError: where the disk is full or may not be written to.
    """
    with explained_io(f"Writing {path}"):
        check_unused(path)
        make_parents(path.parent)
        clear_leftovers(path)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        lock = try_lock(partial)
        try:
            yield partial
            for file in partial.iterdir():
                flush(file)
            partial.chmod(0o755)
            flush(partial)
            check_unused(path)  # somebody else may have been faster
            partial.replace(path)
            flush(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                lock.release()


def remove_folder(path: Path) -> None:
    """Remove a folder in one step: it is renamed first, so that no half of it is ever seen under its name.

    What has a folder's name and is a file or a link goes too; what a link points to stays.
    """
    partial = path.with_name(f".{path.name}.removing.partial")
    discard(partial)
    path.rename(partial)
    discard(partial)


def discard(path: Path) -> None:
    """Remove whatever is there, a folder with all in it; nothing need be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear_leftovers(path: Path) -> None:
    """Remove the temporary folders of `path` that killed processes left."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.partial")
    with contextlib.suppress(OSError):  # cleaning up is a courtesy
        for each in path.parent.iterdir():
            if temporary.fullmatch(each.name) and each.is_dir() and not each.is_symlink() and (lock := try_lock(each)):
                if lock.sure:
                    shutil.rmtree(each, ignore_errors=True)
                lock.release()


def make_parents(path: Path) -> None:
    """Make a folder and those above it; what is made is on the disk."""
    if not path.is_dir():
        make_parents(path.parent)
        path.mkdir(exist_ok=True)
        flush(path.parent)


def flush(path: Path) -> None:
    """Make sure that what was written to a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON, replacing the file in one step."""
    write_text(path, _as_json(content))


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text, replacing the file in one step."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, replacing the target in one step."""
    with replaced(target) as partial, source.open("rb") as read, partial.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary file's name that replaces `path`, flushed, when the block ends well, and else vanishes."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def read_bytes(path: Path, largest: int, remedy: str = "make it again") -> bytes:
    """Read a file of at most `largest` bytes; no pipe is waited for. `remedy` is what to do where it is damaged.

    Raises:
        ValuerecError: where it is missing, unreadable, no file or too large.
    """
    with explained_io(f"Reading {path}"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValuerecError(f"{path} is a folder, a device or a pipe, not a file; {remedy}.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                text = file.read(largest + 1)
        finally:
            os.close(descriptor)
        if len(text) > largest:
            raise ValuerecError(f"{path} has more than the {largest} bytes that are read of it; {remedy}.")
        return text


def read_json(path: Path, largest: int = LARGEST_JSON, remedy: str = "make it again") -> Any:
    """Read a JSON file of at most `largest` bytes. `remedy` is what to do where it is damaged.

    Raises:
        ValuerecError: where it is missing, unreadable, too large or not JSON (`json_of`).
    """
    return _read_json(path, read_bytes(path, largest, remedy), remedy)


def _read_json(path: Path, text: bytes, remedy: str = "make it again") -> Any:
    try:
        return json_of(text)
    except (ValueError, RecursionError) as error:
        raise ValuerecError(f"{path} is not readable JSON ({error}); {_remedy(path.parent, remedy)}.") from error


def _remedy(folder: Path, otherwise: str = "make it again") -> str:
    """What to do about a damaged file of a folder: a run has most of it twice."""
    if not (folder / CHECKPOINTS).is_dir():
        return otherwise
    return "valuerec train with --resume and the options of the first time puts it back from a checkpoint"


def json_of(text: bytes) -> Any:
    """What JSON says, if it says it in one way: no name twice in an object, no NaN, and nothing nested without end.

    Raises:
        ValueError, RecursionError: where it does not.
    """
    content = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    layer = [content]
    for _ in range(_DEEPEST):
        inner = (part.values() if isinstance(part, dict) else part for part in layer if isinstance(part, (dict, list)))
        layer = [each for parts in inner for each in parts]
        if not layer:
            return content
    raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice")
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def write_manifest(
    folder: Path, kind: str, version: int, content: dict[str, Any], files: Iterable[Path] | None = None
) -> dict[str, Any]:
    """Write `folder`'s manifest: kind, schema version, `content`, and size and SHA-256 of its data files.

    Args:
        folder: what the manifest describes.
        kind: "dataset", "run", ...
        version: schema version of that kind.
        content: what else it says.
        files: the data files; by default all files in the folder.
    """
    if files is None:
        files = (file for file in folder.iterdir() if file.is_file() and file.name != MANIFEST)
    described = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in sorted(files)}
    manifest = {"kind": kind, "schema_version": version, **content, "files": described, "digest": _UNDIGESTED}
    manifest["digest"] = _digest(_as_json(manifest).encode(), _UNDIGESTED)
    write_json(folder / MANIFEST, manifest)
    return manifest


def _digest(text: bytes, digest: str) -> str:
    """The SHA-256 of a manifest with noughts where its digest stands."""
    return hashlib.sha256(text.replace(digest.encode(), _UNDIGESTED.encode())).hexdigest()


def kind_of(folder: Path) -> str | None:
    """What kind of folder a manifest says it is; None where there is none or it says nothing of the sort."""
    path = folder / MANIFEST
    return _kind(read_json(path, LARGEST_MANIFEST)) if path.is_file() else None


def _kind(manifest: Any) -> str | None:
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if isinstance(kind, str) and kind.isascii() and kind.isalpha() else None  # others are no kinds of ours


def check_made(folder: Path, what: str) -> None:
    """Refuse a path where there is no folder with a manifest.

    Raises:
        UsageError: saying what is there.
    """
    if not (folder / MANIFEST).is_file():
        state = f"has no {MANIFEST}" if folder.is_dir() else "does not exist" if not folder.exists() else "is a file"
        remedy = _remedy(folder, "name a folder that valuerec made")
        raise UsageError(f"{folder} is no {what}: it {state}; {remedy}.")


def read_manifest(folder: Path, kind: str, version: int, shape: type[Manifest] = Manifest) -> dict[str, Any]:
    """Read the manifest of a folder of a given kind ("dataset", "run", ...) and check its version and shape.

    Raises:
        UsageError: where `folder` does not exist or is no such folder.
        ValuerecError: where its manifest is broken or from a newer valuerec.
    """
    path = folder / MANIFEST
    check_made(folder, f"valuerec {kind}")
    text = read_bytes(path, LARGEST_MANIFEST)
    manifest = _read_json(path, text)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = _kind(manifest) or "folder of something else"
        raise UsageError(f"{folder} is no valuerec {kind} but a {found[:30]}; name a {kind}.")
    if not isinstance(manifest.get("schema_version"), int) or manifest["schema_version"] > version:
        raise NewerFormatError(
            f"{folder} has schema version {manifest.get('schema_version')!r:.20}, this valuerec reads up to {version}; "
            f"upgrade valuerec or make the {kind} again."
        )
    remedy = _remedy(folder, f"make the {kind} again")
    try:
        shape.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValuerecError(f"{path}, field {' '.join(field.split())[:100]}: {first['msg']}; {remedy}.") from error
    if "digest" in manifest and _digest(text, str(manifest["digest"])) != manifest["digest"]:
        raise ValuerecError(f"{path} is damaged: it differs from its own digest; {remedy}.")
    if any(Path(name).name != name for name in manifest["files"]):
        raise ValuerecError(f"{path} names a file outside of its folder; make the {kind} again.")
    return manifest


def check_whole(folder: Path, manifest: dict[str, Any], names: Iterable[str] | None = None) -> None:
    """Refuse a folder with a file that is missing or differs from its manifest.

    Args:
        folder: the folder.
        manifest: its manifest.
        names: the files that matter; by default all.

    Raises:
        ValuerecError: naming the damaged files.
    """
    with explained_io(f"Reading {folder}"):
        wanted = manifest["files"] if names is None else {name: manifest["files"].get(name) for name in names}
        damaged = damaged_files(folder, {"files": {name: entry for name, entry in wanted.items() if entry}})
    if damaged:
        raise damage(folder, damaged)


def damage(folder: Path, names: Sequence[str]) -> ValuerecError:
    """The sentence on files that differ from their manifest."""
    return ValuerecError(f"{folder} is damaged: {', '.join(names)} differs from its manifest; {_remedy(folder)}.")


def is_sealed(folder: Path) -> bool:
    """Whether a manifest has its own digest, whatever else it says: then no chance has changed it."""
    try:
        text = read_bytes(folder / MANIFEST, LARGEST_MANIFEST)
        digest = json_of(text)["digest"]
        return bool(_digest(text, str(digest)) == digest)
    except (ValuerecError, ValueError, RecursionError, KeyError, TypeError):
        return False


def damaged_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Names of the files that are missing or differ from what the manifest says of them."""
    return [
        name
        for name, entry in manifest["files"].items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != entry["bytes"]
        or sha256(folder / name) != entry["sha256"]
    ]
