"""The compiled kernels: built once a machine with its C++ compiler, kept in the user's cache, loaded when first used.

An image without a compiler has them beside their source, where `python -m valuerec.ops.native` put them.
Nothing depends on them: where there is no compiler, or no AVX-512 with bfloat16 products, PyTorch does the same work,
slower. `library()` answers None then, and `why_not()` says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from valuerec.folders import flush, sha256

_FLAGS: Final = ("-std=c++17", "-O3", "-fopenmp", "-shared", "-fPIC")
# Of each argument: i whole number, s fraction; tensors: f float32, b bfloat16, l int64, w int32, d float64.
_SIGNATURES: Final = {
    "valuerec_softmax_weights": "iiiffffbbidf",
    "valuerec_item_gradient": "iiibiffbffi",
    "valuerec_slopes": "iiffsff",
    "valuerec_best": "iiiibifffsffffffisffibifll",
    "valuerec_row_step": "iillfffwisss",
    "valuerec_count_not_below": "iiffl",
    "valuerec_candidates": "iiibffffffliiblflfd",
    "valuerec_products": "iiiffdlld",
}
_NUMBERS: Final[dict[str, Any]] = {"i": ctypes.c_int64, "s": ctypes.c_float}
_TENSORS: Final = {"f": torch.float32, "b": torch.bfloat16, "l": torch.int64, "w": torch.int32, "d": torch.float64}
_NEEDED: Final = ("fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16")
_HERE: Final = Path(__file__).parent
_why_not = ""


def why_not() -> str:
    """Why there is no library here; empty where there is one."""
    library()
    return _why_not


@functools.cache
def library() -> Any:
    """The loaded kernels (a `ctypes.CDLL`), or None."""
    global _why_not
    try:
        return _load()
    except (OSError, subprocess.SubprocessError, AttributeError, RuntimeError, ValueError) as error:
        _why_not = " ".join(str(error).split())
        return None


def call(name: str, *arguments: Tensor | int | float) -> None:
    """Call a kernel.

    Raises:
        TypeError: where an argument is not what `_SIGNATURES` says, which would read or write where it must not.
    """
    kinds = _SIGNATURES[name]
    if len(kinds) != len(arguments):
        raise TypeError(f"{name} takes {len(kinds)} arguments, not {len(arguments)}")
    getattr(library(), name)(*(_converted(name, kind, value) for kind, value in zip(kinds, arguments, strict=True)))


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, where its C library is glibc.

    A step frees and takes gradients of tens of megabytes; handed back to the system each time, they cost a page fault
    for each of their pages. The price is that the process stays as large as it has been at its largest.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    for option in (trim_threshold, mmap_threshold):
        set_option(option, 1 << 30)


def return_freed_memory() -> None:
    """Hand back to the system what `keep_freed_memory` made this process keep."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _converted(name: str, kind: str, value: Tensor | int | float) -> Any:
    if kind in _NUMBERS and isinstance(value, int | float):
        return _NUMBERS[kind](value)
    fits = isinstance(value, Tensor) and value.dtype == _TENSORS.get(kind) and value.device.type == "cpu"
    if isinstance(value, Tensor) and fits and value.is_contiguous():
        return ctypes.c_void_p(value.data_ptr())
    found = f"{value.dtype} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"{name} was given {found} where it takes {_TENSORS.get(kind, kind)}, contiguous, on the CPU")


def _load() -> ctypes.CDLL:
    flags = _processor_flags()
    missing = [flag for flag in _NEEDED if flag not in flags]
    if missing:
        raise OSError(f"this processor has no {', '.join(missing)}")
    path = _shipped()
    if not path.is_file():
        compiler = _compiler()
        version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
        command = [*compiler, *_FLAGS, "-march=native"]
        path = _cache() / _name(version, " ".join(command).encode(), " ".join(flags).encode())
        if not _whole(path):
            _build(command, path)
    loaded = ctypes.CDLL(str(path))
    for name in _SIGNATURES:
        getattr(loaded, name)
    return loaded


def ship() -> Path:
    """Build the kernels beside their source, for any processor that can run them; this one need not.

    Returns:
        The library, which `library()` takes before anything else, without a compiler.

    Raises:
        OSError: where there is no compiler, or it fails.
    """
    path = _shipped()
    _build([*_compiler(), *_FLAGS, *("-m" + flag.replace("_", "") for flag in _NEEDED)], path)
    path.chmod(0o755)  # whoever runs the package loads it
    return path


def _shipped() -> Path:
    """Where `ship` puts the library of this very source."""
    return _HERE / _name()


def _compiler() -> list[str]:
    commands = [shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"]]
    compiler = next((words for words in commands if words and shutil.which(words[0])), None)
    if compiler is None:
        raise OSError("there is no C++ compiler (g++ or clang++) here")
    return compiler


def _name(*built_with: bytes) -> str:
    """The file's name, another one for another source or another way to build it."""
    key = hashlib.sha256(b"\0".join([(_HERE / "kernels.cpp").read_bytes(), *built_with]))
    return f"kernels-{key.hexdigest()[:20]}.so"


def _processor_flags() -> list[str]:
    if platform.system() != "Linux":
        raise OSError(f"the kernels are for Linux, this is {platform.system()}")
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return sorted(line.partition(":")[2].split())
    raise OSError("this is no x86-64 processor")


def _cache() -> Path:
    """A folder of this user's own, that nobody else may write to: what lies there is run."""
    asked = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(asked) if Path(asked).is_absolute() else Path.home() / ".cache") / "valuerec"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_own(folder)
    return folder


def _check_own(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"{path} belongs to somebody else or may be written to by others")


def _whole(path: Path) -> bool:
    """Whether a library was built there and is as it was built."""
    mark = path.with_suffix(".sha256")
    if not (path.is_file() and mark.is_file()):
        return False
    _check_own(path)
    return mark.read_text(encoding="utf-8", errors="replace") == sha256(path)


def _build(command: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        built, mark = (Path(work) / name for name in ("kernels.so", "kernels.sha256"))
        done = subprocess.run(
            [*command, "-w", "-o", str(built), str(_HERE / "kernels.cpp")],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        if done.returncode:
            raise OSError(f"{shlex.join(command[:1])} failed: {done.stderr[-500:]}")
        built.chmod(0o700)
        mark.write_text(sha256(built), encoding="utf-8")
        flush(built)
        built.replace(path)
        mark.replace(path.with_suffix(".sha256"))
