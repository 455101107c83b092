"""Adam for the dense weights, Adam on touched rows alone for the Q-heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from valuerec.network import Network


class Optimiser:
    """Steps a network's weights; its state can be taken out and put back as named tensors.

    The Q ensemble's gradients have a row for each logged action and no other: a dense Adam over N·K·D weights
    would cost more than the rest of the step, so rows without a gradient keep weight and moments as they are.

    Args:
        network: what to train.
        learning_rate: of both.
    """

    def __init__(self, network: Network, learning_rate: float) -> None:
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
        heads = list(network.q_head.parameters()) if network.q_head else []
        rows = set(heads)
        dense = [parameter for parameter in network.parameters() if parameter not in rows]
        self._parts: list[torch.optim.Optimizer] = [torch.optim.Adam(dense, lr=learning_rate, fused=True)]
        if heads:
            self._parts.append(torch.optim.SparseAdam(heads, lr=learning_rate))

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for part in self._parts:
            part.step()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, named after their parameter."""
        return {
            f"{self._names[parameter]}/{name}": torch.as_tensor(value)
            for part in self._parts
            for parameter, values in part.state.items()
            for name, value in values.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        of_parameter: dict[Tensor, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, entry = key.rpartition("/")
            of_parameter.setdefault(parameters[name], {})[entry] = value
        for part in self._parts:
            for group in part.param_groups:
                for parameter in group["params"]:
                    values: dict[str, object] = dict(of_parameter.get(parameter, {}))
                    if isinstance(part, torch.optim.SparseAdam) and "step" in values:
                        values["step"] = int(of_parameter[parameter]["step"])
                    if values:
                        part.state[parameter] = values
