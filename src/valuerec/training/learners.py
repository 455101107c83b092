"""The protocols: which network learns in a step, what its target is, and what must be kept to go on.

A method sees a network and a target and does not know the protocol; the training loop sees a learner and does not know
the protocol either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from valuerec.methods import Batch, CriticMethod, Losses
from valuerec.network import Network
from valuerec.ops import choose_engine
from valuerec.target import Pair, Search, Target, rows_that_differ
from valuerec.tensors import under
from valuerec.training.config import TrainConfig
from valuerec.training.optimiser import Optimiser
from valuerec.training.order import coin, step_seed


def fresh_network(config: TrainConfig, n_items: int, device: torch.device, number: int = 0) -> Network:
    """The network that a run begins with: a function of the configuration, seed included, and of its number."""
    torch.manual_seed(step_seed(config.seed, -1 - number))
    engine = choose_engine(config.engine, device)
    return config.method.network(config.backbone, n_items, config.window, engine).to(device)


class Learner(ABC):
    """Takes steps.

    Args:
        config: the run.
        network: fresh; the one that is evaluated, and whose weights count.
    """

    def __init__(self, config: TrainConfig, network: Network) -> None:
        self.config, self.network = config, network

    @abstractmethod
    def learn(self, step: int, batch: Batch) -> Losses:
        """Take the step of this number, from 0; the random generator is seeded for it."""

    @abstractmethod
    def train(self) -> None:
        """Put what learns into training mode."""

    @abstractmethod
    def start(self, weights: Callable[[Network], Mapping[str, Tensor]]) -> None:
        """Begin with what `weights` makes of each fresh network, having taken no step; moments stay fresh."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that `load` needs to go on as if nothing had happened, beside configuration and step."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave into a learner of the same configuration that has taken no step."""

    @property
    @abstractmethod
    def searches(self) -> list[Search]:
        """The searches of the catalogue that are kept from step to step."""


class OneNetwork(Learner):
    """The protocol `ours`, and any method without a critic: one network, and a frozen copy of it as target.

    The target is copied every `target_every` steps, and encodes s' without dropout.
    """

    def __init__(self, config: TrainConfig, network: Network) -> None:
        super().__init__(config, network)
        self.target = Target(network) if network.q_head is not None else None
        self.optimiser = Optimiser(network, config.learning_rate)
        self.target_every = config.method.target_every if isinstance(config.method, CriticMethod) else 1

    def learn(self, step: int, batch: Batch) -> Losses:
        """Descend, and copy the network into the target when it is time."""
        losses = self.config.method.losses(self.network, self.target, batch, step)
        self.optimiser.step(losses.total)
        if self.target is not None and (step + 1) % self.target_every == 0:
            self.target.copy_from(self.network)
        return losses

    def train(self) -> None:
        """The network; the target never is."""
        self.network.train()

    def start(self, weights: Callable[[Network], Mapping[str, Tensor]]) -> None:
        """Network and target alike."""
        begun = weights(self.network)
        names = self.target.state_dict() if self.target is not None else ()
        self.load(_named("network", begun) | _named("target", {name: begun[name] for name in names}))

    def state(self) -> dict[str, Tensor]:
        """Network, target, moments."""
        frozen = self.target.state_dict() if self.target is not None else {}
        return _named("network", self.network.state_dict()) | _named("target", frozen) | _moments("", self.optimiser)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put them back."""
        self.network.load_state_dict(under("network/", state))
        if self.target is not None:
            self.target.load_state_dict(under("target/", state))
        self.optimiser.load(under("optimiser/", state))

    @property
    def searches(self) -> list[Search]:
        """The target's."""
        return [self.target.search] if self.target is not None else []


class TwoNetworks(Learner):
    """The protocol `released`, as in the code of VPQ's paper: two networks, each with its own optimiser.

    A fair coin says each step which one learns; the other is the target, dropout on in both. The one that learns
    chooses the item at s', by the method's penalised score and all heads alike; the other judges it (double
    Q-learning). Only the first is evaluated, so it takes half the steps. `target_every` has no use here. The released
    NextItNet scripts choose without the penalty; ours choose with it for every backbone.
    """

    def __init__(self, config: TrainConfig, network: Network) -> None:
        super().__init__(config, network)
        device = network.item_head.weight_ND.device
        self.networks = (network, fresh_network(config, network.n_items, device, number=1))
        self.pair = Pair(*self.networks)
        self.optimisers = tuple(Optimiser(each, config.learning_rate) for each in self.networks)

    def learn(self, step: int, batch: Batch) -> Losses:
        """Toss the coin, and descend with the network that it falls on."""
        main = coin(self.config.seed, step)
        losses = self.config.method.losses(self.networks[main], self.pair, batch, step)
        self.optimisers[main].step(losses.total)
        self.pair.searches[main].changed(batch.action_B)
        return losses

    def train(self) -> None:
        """Both."""
        for each in self.networks:
            each.train()

    def start(self, weights: Callable[[Network], Mapping[str, Tensor]]) -> None:
        """Both, one after the other."""
        first, second = (weights(each) for each in self.networks)
        self.load(_named("network", first) | _named("second network", second))

    def state(self) -> dict[str, Tensor]:
        """Both networks, both networks' moments."""
        first, second = (each.state_dict() for each in self.networks)
        moments = _moments("", self.optimisers[0]) | _moments("second ", self.optimisers[1])
        return _named("network", first) | _named("second network", second) | moments

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put them back."""
        for place, prefix in enumerate(("", "second ")):
            tensors, network = under(f"{prefix}network/", state), self.networks[place]
            assert network.q_head is not None
            changed = rows_that_differ(network.q_head, under("q_head.", tensors))
            network.load_state_dict(tensors)
            self.pair.searches[place].replaced(changed)
            self.optimisers[place].load(under(f"{prefix}optimiser/", state))

    @property
    def searches(self) -> list[Search]:
        """One a network."""
        return list(self.pair.searches)


def learner_of(config: TrainConfig, network: Network) -> Learner:
    """The learner that the configuration asks for; a method without a critic has no use for a second network."""
    two = config.protocol == "released" and network.q_head is not None
    return TwoNetworks(config, network) if two else OneNetwork(config, network)


def _moments(prefix: str, optimiser: Optimiser) -> dict[str, Tensor]:
    return _named(f"{prefix}optimiser", optimiser.state())


def _named(what: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{what}/{name}": value for name, value in tensors.items()}
