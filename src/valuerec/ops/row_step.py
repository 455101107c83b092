"""One step of Adam on the rows of a table that have a gradient: see `valuerec.training.optimiser.RowAdam`.

`plain_row_step` is the reference, PyTorch's own operations; `native_row_step` does the same in one pass over the rows
by the compiled kernels, without first adding up the gradients of a row that occurs more than once.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from valuerec.ops import native

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


def plain_row_step(table: Tensor, moment: Tensor, last: Tensor, gradient: Tensor, step: int, rate: float) -> None:
    """Move the rows of a table that have a gradient, in place.

    Args:
        table: the weights, rows × columns.
        moment: the second moment of each weight as of the step when its row last moved.
        last: that step of each row (int32), 0 for none.
        gradient: sparse in rows; a row may occur more than once, and counts as their sum.
        step: the number of this step, from 1.
        rate: the learning rate.
    """
    gradient = gradient.coalesce()
    row_R, gradient_RC = gradient.indices()[0], gradient.values()
    away_R = (step - last[row_R]).to(table.dtype)
    moment_RC = moment[row_R]
    moment_RC.mul_((BETAS[1] ** away_R).unsqueeze(1)).addcmul_(gradient_RC, gradient_RC, value=1 - BETAS[1])
    moment[row_R] = moment_RC
    last[row_R] = step
    scale_RC = moment_RC.div_(1 - BETAS[1] ** step).sqrt_().add_(EPSILON)
    table.index_add_(0, row_R, gradient_RC / scale_RC, alpha=-rate)


def native_row_step(table: Tensor, moment: Tensor, last: Tensor, gradient: Tensor, step: int, rate: float) -> None:
    """The same by the compiled kernels; see `plain_row_step`."""
    row_R, gradient_RC = gradient._indices()[0], gradient._values()
    width = table[0].numel() if len(table) else 0
    fits = {table.dtype, moment.dtype, gradient_RC.dtype} == {torch.float32} and table.is_contiguous()
    if not (fits and moment.is_contiguous()):
        plain_row_step(table, moment, last, gradient, step, rate)
        return
    sorted_R, order_R = row_R.sort(stable=True)
    native.call(
        "valuerec_row_step", len(row_R), width, sorted_R, order_R, gradient_RC.contiguous(), table, moment, last, step,
        rate, 1 - BETAS[1], EPSILON,
    )  # fmt: skip
