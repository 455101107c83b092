"""A cell of an experiment: one training run, all that decides its outcome, and the figures it left."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from valuerec.backbones import backbone_named
from valuerec.baselines import baseline_named
from valuerec.dataset import Dataset, Rewards
from valuerec.errors import UsageError
from valuerec.experiments.rows import UNTRAINED, Row
from valuerec.methods import method_named
from valuerec.training import TrainConfig
from valuerec.training.run import describe

Key = tuple[str, str, str, str, int]  # backbone, method, protocol, variant, seed
Figures = dict[str, Any]  # a finished cell as JSON; `valuerec.experiments.making` says what it holds

COLLAPSED: Final = "collapsed"  # begins the `trouble` of a cell that ended below popularity

_DECIDES_NOTHING: Final = (
    "seed",
    "device",
    "engine",
    "log_every",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep_checkpoints",
    "protocol",
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run to be made.

    Args:
        backbone: by name.
        method: by name.
        protocol: ours or released.
        seed: of the run.
        variant: what sets the cell apart from another of the same names ("penalty=5"); empty for a row of the table.
        backbone_options: fields of the backbone's configuration that are not its defaults.
        method_options: likewise of the method.
        training: likewise of `TrainConfig` (epochs, max_steps, patience, reward_transform), and `rewards` by kind.
        test: whether the test split is read; not for a trial, of which a choice is made.
    """

    backbone: str
    method: str
    protocol: str = "ours"
    seed: int = 0
    variant: str = ""
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    method_options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    test: bool = True

    @property
    def key(self) -> Key:
        """What tells the cells of one file apart."""
        return self.backbone, self.method, self.protocol, self.variant, self.seed

    @property
    def name(self) -> str:
        """For people."""
        parts = (part for part in (self.variant, self.protocol, f"seed {self.seed}") if part not in ("", "ours"))
        return f"{Row(self.backbone, self.method).name} ({', '.join(parts)})"

    @property
    def trained(self) -> bool:
        """Whether there is anything to train; else it is a baseline, by the seed 0 alone."""
        return self.backbone != UNTRAINED

    @property
    def slug(self) -> str:
        """For files."""
        return _slug(self.key)

    def config(self, device: str = "auto") -> TrainConfig:
        """The run, whole, of a cell that is trained."""
        training = dict(self.training)
        return TrainConfig(
            backbone=backbone_named(self.backbone)(**self.backbone_options),
            method=method_named(self.method)(**self.method_options),
            protocol=self.protocol,
            seed=self.seed,
            device=device,
            checkpoint_minutes=0,  # a cell's run is dropped when it ends
            rewards=Rewards.of(training.pop("rewards", {})),
            **training,
        )

    def options(self, dataset: Dataset) -> dict[str, Any]:
        """Every option of the run with its value, as JSON: what a recorded cell must equal."""
        if not self.trained:
            method = dataclasses.asdict(baseline_named(self.method, **self.method_options))  # type: ignore[call-overload]
            return {"backbone": {}, "method": method, "rewards": {}, "training": {}}
        return options_of(describe(self.config(), dataset))


def _slug(key: Key) -> str:
    return "_".join(part for part in (*key[:-1], f"seed{key[-1]}") if part)


def slug_of(figures: Figures) -> str:
    """A recorded cell's name for files."""
    return _slug(key_of(figures))


def key_of(figures: Figures) -> Key:
    """The key of a recorded cell."""
    backbone, method, protocol, variant = (figures[name] for name in ("backbone", "method", "protocol", "variant"))
    return backbone, method, protocol, variant, figures["seed"]


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's resolved configuration, what decides its outcome beside names, seed and machine."""
    parts: dict[str, Any] = {name: dict(config[name]) for name in ("backbone", "method", "rewards", "training")}
    for part in ("backbone", "method"):
        del parts[part]["name"]
    for name in _DECIDES_NOTHING:
        parts["training"].pop(name, None)
    answer: dict[str, Any] = json.loads(json.dumps(parts))
    return answer


def collapsed_in(figures: Figures) -> bool:
    """Whether a recorded cell's best was below popularity's, so that it says nothing of its method's worth."""
    return (figures["trouble"] or "").startswith(COLLAPSED)


def first_difference(
    asked: Mapping[str, Mapping[str, Any]], figures: Figures, parts: Collection[str] | None = None
) -> tuple[str, Any, Any] | None:
    """Where a recorded cell's options differ from those asked for: name, recorded value, asked value.

    An option that valuerec did not have yet when the cell was made counts as its default.

    Args:
        asked: as `Cell.options` gives them.
        figures: the recorded cell.
        parts: which of backbone, method, rewards and training are looked at; None for all.
    """
    kinds = _kinds_of(figures) | {"training": TrainConfig}
    for part, values in asked.items():
        if parts is not None and part not in parts:
            continue
        default = {each.name: each.default for each in fields(kinds[part])} if part in kinds else {}
        for name, value in values.items():
            recorded = figures["options"][part].get(name, default.get(name))
            if recorded != value:
                return name, recorded, value
    return None


def changed_options(figures: Figures) -> list[str]:
    """Of a recorded cell, the options of backbone and method that are not the defaults, as name=value."""
    found = []
    for part, kind in _kinds_of(figures).items():
        default = {each.name: each.default for each in fields(kind)}
        options = figures["options"][part].items()
        found += [f"{name}={value}" for name, value in options if name not in default or value != default[name]]
    return found or ["defaults"]


def not_numbers(figures: Figures) -> list[str]:
    """Of a recorded cell, the options of backbone and method that should be numbers and are something else."""
    wrong = []
    for part, kind in _kinds_of(figures).items():
        for each in fields(kind):
            value = figures["options"][part].get(each.name, each.default)
            missing = value is None and "None" in str(each.type)  # no floor, say
            if _is_number(each.default) and not _is_number(value) and not missing:
                wrong.append(each.name)
    return wrong


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kinds_of(figures: Figures) -> dict[str, Any]:
    """The classes that hold a recorded cell's options, by part."""
    if figures["backbone"] == UNTRAINED:
        return {"method": type(baseline_named(figures["method"]))}
    return {"backbone": backbone_named(figures["backbone"]), "method": method_named(figures["method"])}


def refuse_other_options(cell: Cell, dataset: Dataset, figures: Figures, where: object) -> None:
    """Refuse to go on with a cell that was made with other options.

    Raises:
        UsageError: naming the first that differs.
    """
    if found := first_difference(cell.options(dataset), figures):
        name, recorded, asked = found
        raise UsageError(
            f"{where} holds {cell.name} with {name} = {recorded}, and now it is {asked}; give the same options or "
            "name another folder with --out."
        )
