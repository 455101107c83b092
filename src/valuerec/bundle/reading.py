"""Opening a bundle: what can be known of it without taking memory is checked first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import Field

from valuerec.bundle import CARD, CONFIG, ENCODER, METRICS, SCHEMA_VERSION, VOCABULARY, WEIGHTS
from valuerec.errors import ValuerecError
from valuerec.folders import MANIFEST, Manifest, check_whole, read_bytes, read_manifest
from valuerec.recipe import LARGEST_CONFIG, read_config
from valuerec.scores import LARGEST_METRICS

LARGEST_CARD: Final = 1 << 20
REQUIRED: Final = frozenset((WEIGHTS, CONFIG, VOCABULARY, METRICS, CARD))
LARGEST: Final = {
    CONFIG: LARGEST_CONFIG,
    METRICS: LARGEST_METRICS,
    CARD: LARGEST_CARD,
}  # bytes; the others are read piece by piece


class BundleManifest(Manifest):
    """What the manifest of a bundle must hold.

    `digest` is the SHA-256 of the manifest itself, and so names the whole bundle; `onnx` says what ONNX there is, or
    why none.
    """

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    valuerec: str
    step: int = Field(ge=0)
    onnx: dict[str, Any]


class Bundle(NamedTuple):
    """A bundle whose files are whole and whose configuration is sensible."""

    path: Path
    manifest: dict[str, Any]
    config: dict[str, Any]


def read_bundle_manifest(path: Path) -> dict[str, Any]:
    """The manifest, which names the files of a bundle and none else, of sizes that are read; none is a link.

    Raises:
        UsageError: where the folder is no bundle.
        ValuerecError: where its manifest is damaged, or of a newer format.
    """
    _check_no_link(path / MANIFEST)
    manifest = read_manifest(path, "bundle", SCHEMA_VERSION, BundleManifest)
    names = manifest["files"].keys()
    if differing := sorted((names ^ REQUIRED) - {ENCODER}):
        what = "does not name" if differing[0] in REQUIRED else "names"
        raise ValuerecError(
            f"{path / 'manifest.json'} {what} the file {differing[0][:100]!r}; export the bundle again."
        )
    for name in names:
        _check_no_link(path / name)
    for name, largest in LARGEST.items():
        if manifest["files"][name]["bytes"] > largest:
            raise ValuerecError(f"{path / name} has more than {largest} bytes; export the bundle again.")
    return manifest


def _check_no_link(path: Path) -> None:
    if path.is_symlink():
        raise ValuerecError(f"{path} is a link: a bundle holds its files itself; copy it whole or export it again.")


def read_card(path: Path) -> str:
    """The model card; what is no UTF-8 in it is replaced.

    Raises:
        ValuerecError: where it is too large or can't be read.
    """
    return read_bytes(path, LARGEST_CARD).decode("utf-8", errors="replace")


def open_bundle(path: Path) -> Bundle:
    """Open a bundle, having compared every file with its size and SHA-256.

    Raises:
        UsageError: where the folder is no bundle.
        ValuerecError: where it is damaged, of a newer format, or its configuration describes no model.
    """
    manifest = read_bundle_manifest(path)
    check_whole(path, manifest)
    return Bundle(path, manifest, read_config(path / CONFIG))
