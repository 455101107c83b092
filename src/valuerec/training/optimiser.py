"""Adam for the dense weights; for tables of items, of which a step touches few rows, Adam on those rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

from valuerec.heads import RowSparse
from valuerec.network import Network
from valuerec.ops.row_step import BETAS, EPSILON, native_row_step, plain_row_step


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma & Ba, ICLR 2015) on the rows that have a gradient, so that a row moves as far as in dense Adam.

    Dense Adam goes on moving a row after its gradient is gone, for as long as the first moment lasts, and forgets its
    second moment meanwhile. Here a row that comes again first forgets, by β₂ to the power of the steps since; and what
    the first moment would have moved it in the steps to come is moved at once, which leaves the sum of
    (1 − β₁) β₁^i = 1 times the gradient and no first moment to keep. PyTorch's `SparseAdam` does neither: a rare row
    moves a tenth as far (measured in docs/log.md).

    Args:
        parameters: tables whose gradients are sparse.
        lr: learning rate.
        native: whether to use the compiled kernels, on the CPU.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, native: bool = False) -> None:
        super().__init__(parameters, {"lr": lr})
        self._native = native

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the rows that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, self.state[parameter], group["lr"])
        return loss

    def _move(self, table: Tensor, state: dict[str, Any], rate: float) -> None:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.int64)
            state["second_moment"] = torch.zeros_like(table)
            state["last"] = torch.zeros(len(table), dtype=torch.int32, device=table.device)
        state["step"] += 1
        move = native_row_step if self._native and table.device.type == "cpu" else plain_row_step
        move(table, state["second_moment"], state["last"], table.grad, int(state["step"]), rate)  # type: ignore[arg-type]


class Optimiser:
    """Steps a network's weights; its state can be taken out and put back as named tensors.

    A table is stepped row by row where its gradients are sparse: those of `nn.Embedding(sparse=True)` and of our own
    `RowSparse` modules. A dense Adam over N·K·D weights would cost more than the rest of the step.

    Args:
        network: what to train.
        learning_rate: of both.
    """

    def __init__(self, network: Network, learning_rate: float) -> None:
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
        tables = tables_of(network)
        rows = set(tables)
        dense = [parameter for parameter in network.parameters() if parameter not in rows]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Adam(dense, lr=learning_rate, betas=BETAS, eps=EPSILON, fused=True)
        ]
        if tables:
            self._parts.append(RowAdam(tables, learning_rate, network.engine == "native"))

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
            f"{self._names[parameter]}/{name}": value
            for part in self._parts
            for parameter, values in part.state.items()
            for name, value in values.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back a copy of what `state` gave, which may lie in a file."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        of_parameter: dict[Tensor, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, entry = key.rpartition("/")
            of_parameter.setdefault(parameters[name], {})[entry] = value
        for part in self._parts:
            for group in part.param_groups:
                for parameter in group["params"]:
                    if parameter in of_parameter:
                        kept = of_parameter[parameter].items()
                        part.state[parameter] = {name: value.clone() for name, value in kept}


def tables_of(network: Network) -> list[nn.Parameter]:
    """The parameters whose gradients are sparse."""
    tables: list[nn.Parameter] = []
    for module in network.modules():
        if isinstance(module, RowSparse):
            tables += module.tables()
        elif isinstance(module, nn.Embedding) and module.sparse:
            tables += module.parameters()
    return tables
