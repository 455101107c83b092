"""A trained recommender: item ids in, item ids with score, value and uncertainty out."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from valuerec import ops
from valuerec.backbones import Backbone
from valuerec.bundle import VOCABULARY, WEIGHTS
from valuerec.bundle.reading import open_bundle
from valuerec.bundle.vocabulary import read_vocabulary
from valuerec.errors import UsageError, ValuerecError
from valuerec.folders import check_whole, kind_of
from valuerec.network import Network
from valuerec.ranking import Engine, Wanted
from valuerec.recipe import backbone_of, recipe_of
from valuerec.tensors import check_tensors, read_into
from valuerec.training.run import Run

_SCORES_AT_ONCE = 1 << 24  # numbers of one batch of scores


class Recommendation(NamedTuple):
    """One recommended item.

    `score` orders the list. By items it is the item head's softmax: where nothing weighs the cross-entropy the
    probability that the item is the next one; where a critic does, that probability times value, scaled to sum to 1
    over the catalogue. By values it is `value`. `value` is the mean of the Q-heads, the discounted reward expected from
    the item on, and `uncertainty` their standard deviation: both None without a critic.
    """

    id: str
    score: float
    value: float | None
    uncertainty: float | None


class Answer(NamedTuple):
    """What one session is recommended, and how many of its items the model does not know."""

    items: list[Recommendation]
    unknown: int


class Model:
    """A network with its catalogue, for recommending.

    Args:
        network: trained weights.
        item_ids: the items' own ids; the position is the internal index.
        config: the resolved configuration of the run or bundle.
    """

    def __init__(self, network: Network, item_ids: Sequence[str], config: dict[str, Any]) -> None:
        self.network, self.config = network.eval(), config
        self.item_ids = item_ids if isinstance(item_ids, list) else list(item_ids)
        self.recommends_by = recipe_of(config).method.recommends_by

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Each item's place, made when it is first asked for: it takes as much as the ids."""
        return {item: index for index, item in enumerate(self.item_ids)}

    def recommend(
        self, sessions: Iterable[Sequence[str]], k: int = 20, exclude_seen: bool = False
    ) -> list[list[Recommendation]]:
        """The k best items of each session, the best first, ties by the lower id.

        Args:
            sessions: each a sequence of item ids, oldest first; ids the model does not know are passed over, and a
                session without a known item gets the answer to an empty history.
            k: items a session; fewer where the catalogue, less what is excluded, is smaller.
            exclude_seen: leave out the items of the session itself.

        Raises:
            UsageError: where k is not positive or a session is no sequence of ids.
        """
        return [answer.items for answer in self.answers(sessions, k, exclude_seen)]

    def answers(self, sessions: Iterable[Sequence[str]], k: int = 20, exclude_seen: bool = False) -> Iterator[Answer]:
        """`recommend`, one answer after the other, with the count of unknown items of each session."""
        return self._stream(iter(sessions), checked_k(k), exclude_seen)

    @property
    def batch(self) -> int:
        """How many sessions are ranked at once."""
        return max(1, min(256, _SCORES_AT_ONCE // self.network.n_items))

    def _stream(self, waiting: Iterator[Sequence[str]], k: int, exclude_seen: bool) -> Iterator[Answer]:
        while block := list(islice(waiting, self.batch)):
            yield from self._answer(block, k, exclude_seen)

    def _answer(self, sessions: list[Sequence[str]], k: int, exclude_seen: bool) -> list[Answer]:
        for session in sessions:
            if isinstance(session, str) or not all(isinstance(item, str) for item in session):
                raise UsageError(f'The session {session!r} is not a sequence of item ids as text; write ["id", "id"].')
        rankings = self.engine.rank([Wanted(session=each, k=k, exclude_seen=exclude_seen) for each in sessions])
        answers = []
        for session, ranking in zip(sessions, rankings, strict=True):
            items = [Recommendation(item.id, item.score, item.value, item.uncertainty) for item in ranking.items]
            answers.append(Answer(items, sum(item not in self.index for item in session)))
        return answers

    @functools.cached_property
    def engine(self) -> Engine:
        """What ranks."""
        return Engine(self)

    def histories(self, known: list[list[int]]) -> tuple[Tensor, Tensor]:
        """What a backbone is given of sessions, these as the indices of their items: items[B, L] and lengths[B]."""
        window, device = self.network.window, self.network.item_head.weight_ND.device
        items_BL = np.full((len(known), window), self.network.n_items, dtype=np.int32)
        for row, items in enumerate(known):
            recent = items[-window:]
            items_BL[row, : len(recent)] = recent
        length_B = np.array([max(1, min(len(items), window)) for items in known], dtype=np.int32)
        return torch.from_numpy(items_BL).to(device), torch.from_numpy(length_B).to(device)


def checked_k(k: int) -> int:
    """How many items a session is recommended.

    Raises:
        UsageError: where that is no whole number or below 1.
    """
    if not isinstance(k, numbers.Integral) or k < 1:
        raise UsageError(f"k is {k!r}; it must be a whole number, at least 1.")
    return int(k)


def load(path: str | Path, backbone: Backbone | None = None) -> Model:
    """Load the model of a RUN or of a bundle.

    Nothing that the files say is believed: hashes, configuration, and the weights' names, types and shapes are checked
    before memory is taken for them.

    Args:
        path: the folder.
        backbone: the backbone's factory, where it is none of valuerec's own.

    Raises:
        UsageError: where the folder is neither, or its backbone is somebody's own and was not given.
        ValuerecError: where a run has no weights yet, or files are damaged, of a newer format or make no model.
    """
    folder = Path(path)
    if kind_of(folder) == "bundle":
        config = open_bundle(folder).config
        network = read_network(config, folder / WEIGHTS, backbone)
        check_finite(network, folder)
        return Model(network, read_vocabulary(folder / VOCABULARY, network.n_items), config)
    run = Run(folder)
    weights = run.manifest["weights"]
    if not weights:
        raise ValuerecError(f"{path} has no weights yet; let training reach its first validation.")
    check_whole(folder, run.manifest)
    network = read_network(run.config, folder / weights, backbone)
    if len(run.item_ids) != network.n_items:
        raise ValuerecError(
            f"{path} has {len(run.item_ids)} items in items.parquet and {network.n_items} in config.json; "
            "train it again."
        )
    return Model(network, run.item_ids, run.config)


def read_network(config: dict[str, Any], weights: Path, backbone: Backbone | None = None) -> Network:
    """A network of the shape that a configuration describes, with weights from a file that holds exactly these.

    Raises:
        UsageError: where the backbone is somebody's own and was not given.
        ValuerecError: where configuration and weights do not fit each other.
    """
    where = str(weights.with_name("config.json"))
    recipe = recipe_of(config, where)
    engine = ops.choose_engine("auto", torch.device("cpu"))
    if backbone is not None:
        network = recipe.method.network(backbone, recipe.n_items, recipe.window, engine)
    elif recipe.own_backbone:
        name = recipe.backbone_name
        raise UsageError(
            f"The backbone is {name}, not one of valuerec's, whose code only Python can give: "
            f"backbone={name.rpartition(':')[2]} in vr.load, vr.evaluate, vr.recommend or vr.export."
        )
    else:
        named = backbone_of(recipe, where)
        with torch.device("meta"):  # shapes without memory
            network = recipe.method.network(named, recipe.n_items, recipe.window, engine)
        check_tensors(weights, network.state_dict())
        network.to_empty(device="cpu")
    load_weights(network, weights)
    return network


def load_weights(network: Network, path: Path) -> None:
    """Fill a network from a safetensors file that holds exactly its weights.

    Raises:
        ValuerecError: where the file is unreadable or its tensors do not fit.
    """
    read_into(path, network.state_dict())


def check_finite(network: Network, path: Path) -> None:
    """Refuse weights of which nothing can be recommended.

    Raises:
        ValuerecError: naming the first tensor with NaN or infinity.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = tensor.aminmax()  # without a copy; NaN gets through both
            if not (low.isfinite() and high.isfinite()):
                raise ValuerecError(f"{path} has NaN or infinity in its weights ({name}); use another step or run.")
