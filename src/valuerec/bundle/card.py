"""The model card: what a person should know who is handed the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from valuerec.bundle import ENCODER, VOCABULARY
from valuerec.recipe import recipe_of


def model_card(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    environment: Mapping[str, Any],
    step: int,
    onnx: Mapping[str, Any],
) -> str:
    """The card, in Markdown.

    Args:
        config: of the bundle.
        metrics: of the run; empty where it was not scored.
        environment: of the run.
        step: of the weights.
        onnx: what the manifest says of it.
    """
    recipe = recipe_of(config)
    own = recipe.own_backbone
    return "\n".join(
        [
            f"# {recipe.backbone_name} by {recipe.method.name}",
            "",
            f"A sequential recommender: the last {recipe.window} items of a session in, items of a catalogue of "
            f"{recipe.n_items} out. Recommends by {recipe.method.recommends_by}"
            + (f", with value and uncertainty from {recipe.method.n_heads} Q-heads." if recipe.method.n_heads else "."),
            "",
            "## Use",
            "```python",
            "import valuerec as vr",
            "",
            f'model = vr.load("this folder"{", backbone=TheBackboneItWasTrainedWith" if own else ""})',
            'model.recommend([["an item\'s id", "the next one\'s"]], k=20)',
            "```",
            *_own(recipe.backbone_name, own),
            *_encoder(onnx),
            "",
            "## Trained on",
            f"- Dataset with fingerprint `{recipe.fingerprint}` (`valuerec info DATASET` shows a dataset's).",
            f"- Rewards: {_pairs(config.get('rewards', {}))}.",
            f"- Method {recipe.method.name}: {_pairs(config['method'], 'name')}.",
            f"- Backbone {recipe.backbone_name}: {_pairs(config['backbone'], 'name')}.",
            f"- Training: {_pairs(config['training'])}.",
            f"- Weights of step {step}, chosen by: {config.get('selection', 'unknown')}.",
            f"- With: {_pairs({name: environment.get(name) for name in ('valuerec', 'commit', 'torch', 'engine')})}.",
            "",
            "## Scores",
            *_scores(metrics),
            "",
            "## Limits",
            "- Scores on logged sessions do not say what would be bought if people saw the recommendations.",
            "- Items that are not in the vocabulary are passed over; it knows nothing of users or of item features.",
            *(
                [
                    "- Values are estimates, in units of the rewards; uncertainty is the heads' disagreement, no "
                    "confidence interval.",
                    *_outside(metrics),
                ]
                if recipe.method.n_heads
                else []
            ),
            "- What it was trained on decides what it recommends: shown often is clicked often.",
            "",
        ]
    )


def _pairs(options: Mapping[str, Any], *without: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items() if name not in without) or "defaults"


def _own(name: str, own: bool) -> Iterator[str]:
    if own:
        yield f"The backbone {name} is not part of valuerec: this folder has its weights and its name, not its code."


def _encoder(onnx: Mapping[str, Any]) -> Iterator[str]:
    if onnx["file"] is None:
        yield f"ONNX: {onnx['why']}"
        return
    yield (
        f"`{ENCODER}` (opset {onnx['opset']}) is the state encoder: `items` int64[B, L] and `lengths` int64[B] in, "
        f"`state` float32[B, D] out. An item is its place in `{VOCABULARY}`, from 0; places after the length hold the "
        "number of items, and an empty history is that number with length 1. Its states are PyTorch's to "
        f"{onnx['largest_difference']:.1g} over {onnx['checked_on']} histories (onnxruntime)."
    )


def _scores(metrics: Mapping[str, Any]) -> Iterator[str]:
    splits = [name for name in ("test", "validation") if name in metrics]
    if not splits:
        yield "The run was not scored."
        return
    names = list(next(iter(metrics[splits[0]].values())))
    yield f"| split, events | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for split in splits:
        for kind, values in metrics[split].items():
            figures = ("–" if values[name] is None else f"{values[name]:.4f}" for name in names)
            yield f"| {split}, {kind} | {' | '.join(figures)} |"
    yield ""
    looked = "was looked at once" if "test" in splits else "was not looked at"
    yield f"Ranks are over the whole catalogue. One run, one seed; the test split {looked}."


def _outside(metrics: Mapping[str, Any]) -> Iterator[str]:
    if outside := metrics.get("outside"):
        low, high = outside["bounds"]
        yield f"- {outside['share']:.2%} of the Q-values lay outside of what any session can earn, [{low:g}, {high:g}]."
