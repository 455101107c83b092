"""The compiled kernels: built once a machine with its C++ compiler, kept in the user's cache, loaded when first used.

Nothing depends on them: where there is no compiler, or no AVX-512 with bfloat16 products, PyTorch does the same work,
slower. `library()` answers None then, and `why_not()` says why.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, Final

from torch import Tensor

_FLAGS: Final = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
_NEEDED: Final = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16")
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
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        _why_not = " ".join(str(error).split())
        return None


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Where a contiguous tensor's numbers lie."""
    assert tensor.is_contiguous() and tensor.device.type == "cpu"
    return ctypes.c_void_p(tensor.data_ptr())


def call(name: str, *arguments: Tensor | int | float) -> None:
    """Call a kernel: tensors by address, whole numbers as int64, fractions as float32."""
    converted = [
        pointer(value)
        if isinstance(value, Tensor)
        else ctypes.c_float(value)
        if isinstance(value, float)
        else ctypes.c_int64(value)
        for value in arguments
    ]
    getattr(library(), name)(*converted)


def _load() -> ctypes.CDLL:
    flags = _processor_flags()
    missing = [flag for flag in _NEEDED if flag not in flags]
    if missing:
        raise OSError(f"this processor has no {', '.join(missing)}")
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise OSError("there is no C++ compiler (g++ or clang++) here")
    source = resources.files(__package__).joinpath("kernels.cpp").read_bytes()
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
    key = hashlib.sha256(b"\0".join([source, version, " ".join(_FLAGS).encode(), " ".join(flags).encode()]))
    path = _cache() / f"kernels-{key.hexdigest()[:20]}.so"
    if not path.is_file():
        _build(compiler, source, path)
    return ctypes.CDLL(str(path))


def _processor_flags() -> list[str]:
    if platform.system() != "Linux":
        raise OSError(f"the kernels are for Linux, this is {platform.system()}")
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return sorted(line.partition(":")[2].split())
    raise OSError("this is no x86-64 processor")


def _cache() -> Path:
    """A folder of this user's own: what lies there is run."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "valuerec"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise OSError(f"the cache {folder} belongs to somebody else")
    return folder


def _build(compiler: str, source: bytes, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        code, built = Path(work) / "kernels.cpp", Path(work) / "kernels.so"
        code.write_bytes(source)
        done = subprocess.run(
            [compiler, *_FLAGS, "-w", "-o", str(built), str(code)], capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise OSError(f"{compiler} failed: {done.stderr[-500:]}")
        built.replace(path)
