"""The encoder in onnxruntime is the encoder in PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import valuerec as vr
from valuerec.backbones import BACKBONES
from valuerec.bundle import ENCODER
from valuerec.dataset import Dataset
from valuerec.network import Network

for library in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(library, reason="without the extra onnx no encoder is written")

from valuerec.bundle.onnx import NoOnnxError, run_onnx, write_onnx  # noqa: E402


def network_of(backbone: Any, window: int) -> Network:
    network = Network(backbone, 50, window, 0).eval()
    with torch.no_grad():
        for parameter in network.backbone.parameters():  # no nought, no one: each weight matters
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("window", [1, 10])
@pytest.mark.parametrize("name", list(BACKBONES))
def test_states_are_pytorchs_for_any_number_of_rows(name: str, window: int, tmp_path: Path) -> None:
    network = network_of(BACKBONES[name](width=8), window)
    told = write_onnx(tmp_path / ENCODER, network)
    assert told["file"] == ENCODER and told["largest_difference"] < 1e-5
    draw = np.random.default_rng(1)
    for rows in (1, 2, 3, 300):
        items_BL, length_B = draw.integers(0, 50, (rows, window)), draw.integers(1, window + 1, rows)
        items_BL[draw.random(rows) < 0.2, 0] = 50  # an empty history
        with torch.inference_mode():
            state_BD = network.state(torch.from_numpy(items_BL).int(), torch.from_numpy(length_B).int()).numpy()
        answer_BD = run_onnx(tmp_path / ENCODER, items_BL, length_B)
        np.testing.assert_allclose(answer_BD, state_BD, atol=1e-5, rtol=1e-5)
        items_BL[np.arange(window) >= length_B[:, None]] = 7  # what stands after the length changes nothing
        np.testing.assert_allclose(run_onnx(tmp_path / ENCODER, items_BL, length_B), state_BD, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, kind in BACKBONES.items() if hasattr(kind()(3, 3), "dense")])
def test_the_dense_form_is_the_same_states(name: str) -> None:
    network = network_of(BACKBONES[name](width=8), 6)
    draw = np.random.default_rng(2)
    items_BL, length_B = torch.from_numpy(draw.integers(0, 51, (200, 6))), torch.from_numpy(draw.integers(1, 7, 200))
    with torch.inference_mode():
        dense: Any = network.backbone.dense
        torch.testing.assert_close(dense(items_BL, length_B), network.state(items_BL, length_B), atol=1e-6, rtol=1e-5)


class Drawn(nn.Module):
    """A backbone that no graph can hold: what it does depends on the number of rows."""

    def __init__(self, n_items: int, window: int) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items + 1, 8)

    def forward(self, items_BL: Tensor, length_B: Tensor) -> Tensor:
        state: Tensor = self.item(items_BL[:, 0]) * len(items_BL)
        return state


def test_an_encoder_that_can_not_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoOnnxError, match="can't be written as ONNX for any number of rows"):
        write_onnx(tmp_path / ENCODER, network_of(Drawn, 4))


def test_a_bundle_has_an_encoder_and_says_how_near_it_is(small: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": vr.Caser(width=8), "method": vr.Supervised(), "max_steps": 3, "quiet": True}
    run = vr.train(small, out=tmp_path / "run", **options)
    bundle = vr.export(run, out=tmp_path / "bundle", onnx=True)
    told = json.loads((bundle / "manifest.json").read_text())
    assert ENCODER in told["files"] and told["onnx"]["checked_on"] == 64
    assert "`items` int64[B, L] and `lengths` int64[B] in" in (bundle / "MODEL_CARD.md").read_text()
    model = vr.load(bundle)
    items_BL = np.full((1, 10), 30)
    items_BL[0, :2] = 3, 4
    state_BD = run_onnx(bundle / ENCODER, items_BL, np.array([2]))
    logits_N = state_BD[0] @ model.network.item_head.weight_ND.detach().numpy().T
    logits_N += model.network.item_head.bias_N.detach().numpy()
    best = [model.item_ids[item] for item in np.argsort(-logits_N, kind="stable")[:5]]
    assert best == [item.id for item in model.recommend([["i003", "i004"]], k=5)[0]]
