"""A bundle: a trained model as a folder to hand on, of which nothing is believed when it is loaded.

`reading` opens one, `writing` makes one of a RUN; `vocabulary`, `card` and `onnx` are its parts.
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 1
WEIGHTS: Final = "weights.safetensors"
CONFIG: Final = "config.json"
VOCABULARY: Final = "vocabulary.json"
METRICS: Final = "metrics.json"
CARD: Final = "MODEL_CARD.md"
ENCODER: Final = "encoder.onnx"
