"""The same session through HTTP, Python, a file and ONNX: the same items.

The ONNX side knows nothing of valuerec's code: a bundle's vocabulary, its encoder in onnxruntime, and the heads as the
library safetensors reads them.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import valuerec as vr
from in_process import serving

onnxruntime = pytest.importorskip("onnxruntime", reason="without the extra onnx there is no fourth way")
safetensors = pytest.importorskip("safetensors.numpy")

K = 10
NEAR = 1e-5  # states are float32 in ONNX and float64 in the engine: nearer scores than this may change places
SESSIONS = 512


def sessions(window: int) -> list[list[str]]:
    """Every kind, and many at random."""
    draw = random.Random(0)
    ids = [f"i{item:03d}" for item in range(30)]
    long = [draw.choice(ids) for _ in range(3 * window)]
    kinds = [[], ["no such"], ["no such"] * 50, long, ["no such", *long, "nor this"], [ids[3]] * window, [ids[29]]]
    while len(kinds) < SESSIONS:
        kinds.append([draw.choice([*ids, "no such", "é"]) for _ in range(draw.randint(0, 2 * window + 2))])
    return kinds


class Outside:
    """A program that has only the bundle's files."""

    def __init__(self, bundle: Path) -> None:
        self.ids: list[str] = json.loads((bundle / "vocabulary.json").read_text())
        config = json.loads((bundle / "config.json").read_text())
        self.window, self._heads = config["training"]["window"], config["method"]["heads"]
        self._by_value = config["method"].get("recommend") == "values"
        self._tensors: dict[str, NDArray[Any]] = safetensors.load_file(bundle / "weights.safetensors")
        self._encoder = onnxruntime.InferenceSession(bundle / "encoder.onnx", providers=["CPUExecutionProvider"])

    def scores(self, asked: list[list[str]]) -> NDArray[np.float64]:
        """What orders the catalogue for each session, B×N."""
        index, nothing = {item: place for place, item in enumerate(self.ids)}, len(self.ids)
        items_BL = np.full((len(asked), self.window), nothing, dtype=np.int64)
        length_B = np.ones(len(asked), dtype=np.int64)
        for row, session in enumerate(asked):
            known = [index[item] for item in session if item in index][-self.window :]
            items_BL[row, : len(known)], length_B[row] = known, max(1, len(known))
        (state_BD,) = self._encoder.run(["state"], {"items": items_BL, "lengths": length_B})
        state_BD = state_BD.astype(np.float64)
        if not self._by_value:
            logit_BN = state_BD @ self._tensors["item_head.weight_ND"].T + self._tensors["item_head.bias_N"]
            weight_BN = np.exp(logit_BN - logit_BN.max(axis=1, keepdims=True))
            return np.asarray(weight_BN / weight_BN.sum(axis=1, keepdims=True))
        q_NKD = self._tensors["q_head.weight"].reshape(len(self.ids), self._heads, -1)
        q_BNK = np.einsum("bd,nkd->bnk", state_BD, q_NKD) + self._tensors["q_head.bias_NK"]
        return np.asarray(q_BNK.mean(axis=2))


@pytest.mark.parametrize("name", ["vpq", "by-values"])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_all_four_recommend_the_same(runs: dict[str, Path], name: str, exclude_seen: bool, tmp_path: Path) -> None:
    bundle = vr.export(runs[name], out=tmp_path / "bundle", onnx=True)
    outside = Outside(bundle)
    asked = sessions(outside.window)

    by_python = vr.load(runs[name]).recommend(asked, k=K, exclude_seen=exclude_seen)

    file, out = tmp_path / "asked.jsonl", tmp_path / "told.jsonl"
    file.write_text("".join(json.dumps(session) + "\n" for session in asked))
    vr.recommend(bundle, file, out=out, k=K, exclude_seen=exclude_seen)
    by_file = [json.loads(line)["items"] for line in out.read_text().splitlines()]

    async def post() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        async with serving(bundle, max_disagreement=1e9, deadline=60.0) as client:
            for start in range(0, len(asked), 256):
                wishes = [
                    {"session": each, "k": K, "exclude_seen": exclude_seen} for each in asked[start : start + 256]
                ]
                answer = await client.post("/v1/recommend/batch", json={"requests": wishes})
                told += answer.json()["answers"]
        return told

    by_http = asyncio.run(post())
    score_BN, moved = outside.scores(asked), 0
    assert len(by_python) == len(by_file) == len(by_http) == len(asked) == SESSIONS
    for session, python, line, answer, score_N in zip(asked, by_python, by_file, by_http, score_BN, strict=True):
        items = [item["id"] for item in answer["items"]]
        assert items == [item.id for item in python] == [item["id"] for item in line]
        assert [item["score"] for item in answer["items"]] == pytest.approx([item.score for item in python])
        if exclude_seen:
            score_N[[place for place, item in enumerate(outside.ids) if item in session]] = -np.inf
        count = min(K, int(np.isfinite(score_N).sum()))
        best = np.argsort(-score_N, kind="stable")[:count]  # ties by id, which is the order of the vocabulary
        assert len(items) == count
        place = {item: number for number, item in enumerate(outside.ids)}
        np.testing.assert_allclose(score_N[[place[item] for item in items]], score_N[best], atol=NEAR)
        moved += items != [outside.ids[number] for number in best]
    assert moved <= SESSIONS // 100, f"{moved} of {SESSIONS} lists differ, if only among scores that nearly tie"
