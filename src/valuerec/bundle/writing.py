"""From a RUN to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import valuerec
from valuerec.backbones import Backbone
from valuerec.bundle import CARD, CONFIG, ENCODER, METRICS, SCHEMA_VERSION, VOCABULARY, WEIGHTS
from valuerec.bundle.card import model_card
from valuerec.bundle.onnx import NoOnnxError, write_onnx
from valuerec.bundle.reading import read_bundle_manifest
from valuerec.bundle.vocabulary import write_vocabulary
from valuerec.errors import ValuerecError
from valuerec.folders import check_unused, explained_io, new_folder, write_json, write_manifest, write_text
from valuerec.model import Model, check_finite, load
from valuerec.scores import read_metrics
from valuerec.tensors import save_tensors
from valuerec.training.run import Run


def export(run: str | Path, *, out: str | Path, onnx: bool | None = None, backbone: Backbone | None = None) -> Path:
    """Write the model of a RUN as a bundle: a folder to hand on, that appears whole or not at all.

    Args:
        run: the RUN folder.
        out: the bundle's folder, new.
        onnx: True for ONNX of the state encoder or nothing at all, False for none; None writes it where it can be
            written, and else says in the manifest and on the model card why there is none.
        backbone: the backbone's factory, where it is none of valuerec's own; the bundle holds its name, not its code.

    Returns:
        The bundle's folder, for `valuerec.load`.

    Raises:
        UsageError: where `run` is no run, `out` is in use, or the backbone is somebody's own and was not given.
        ValuerecError: where the run has no weights yet, is damaged, or ONNX was asked for and can't be.
    """
    folder, path = Run(run), Path(out)
    with explained_io(f"Writing {path}"):
        check_unused(path)
    model = load(run, backbone)
    check_finite(model.network, folder.path)
    config = _public(folder.used_config)
    scored = folder.path / METRICS
    metrics = read_metrics(scored) if scored.is_file() else {}
    with new_folder(path) as partial:
        save_tensors(partial / WEIGHTS, model.network.state_dict())
        write_json(partial / CONFIG, config)
        write_vocabulary(partial / VOCABULARY, model.item_ids)
        write_json(partial / METRICS, metrics)
        told = _onnx(partial / ENCODER, model, onnx)
        step = folder.manifest.get("step") or 0
        write_text(partial / CARD, model_card(config, metrics, folder.environment, step, told))
        content = {"valuerec": valuerec.__version__, "step": step, "onnx": told}
        write_manifest(partial, "bundle", SCHEMA_VERSION, content)
        read_bundle_manifest(partial)  # what would be refused when loaded is not made
    return path


def _public(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the places of the dataset and of the run begun with, on this machine."""
    without = {"dataset": "path", "start": "run"}
    return config | {
        part: {name: value for name, value in config[part].items() if name != place}
        for part, place in without.items()
        if part in config
    }


def _onnx(path: Path, model: Model, wanted: bool | None) -> dict[str, Any]:
    """Write the encoder, or say why not."""
    if wanted is False:
        return {"file": None, "why": "not asked for."}
    try:
        return write_onnx(path, model.network)
    except NoOnnxError as error:
        path.unlink(missing_ok=True)
        if wanted:
            raise ValuerecError(f"The bundle was not written: {error}") from error
        return {"file": None, "why": str(error)}
