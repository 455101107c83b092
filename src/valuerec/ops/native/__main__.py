"""`python -m valuerec.ops.native`: compile the kernels where the package lies, for machines without a compiler."""

from __future__ import annotations

import platform

from valuerec.ops import native

if __name__ == "__main__":
    if platform.machine() == "x86_64":
        print(native.ship())
    else:
        print(f"The kernels are for x86-64 and this is {platform.machine()}: PyTorch will do their work, slower.")
