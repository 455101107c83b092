"""How the files of a bundle are spoilt: what chance does to bytes, and what somebody would do on purpose.

A mutant is a function of the bundle, a seed and a number. `damage` spoils bytes and leaves the hashes alone, as a disk
does; `forge` spoils what the files mean and makes the hashes right again, so that what lies behind them is reached.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

Files = dict[str, bytes]
MANIFEST, WEIGHTS, METRICS, CARD = "manifest.json", "weights.safetensors", "metrics.json", "MODEL_CARD.md"
STRUCTURED = (MANIFEST, "config.json", "vocabulary.json", METRICS)

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 29, 30, 31, 255, 256, 65536, 65537),
    *(2**31 - 2, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30, 10**400, -(2**63)),
    *(0.0, -0.0, 0.5, 1.5, 1e308, 1e-308, float("nan"), float("inf"), -float("inf")),
    *(
        "",
        " ",
        "\n",
        "\0",
        "../manifest.json",
        "/etc/passwd",
        "\ud800",
        "ü" * 50,
        "a" * 10_000,
        "i001",
        "F64",
        "F32",
        "BF16",
        "\x1b]0;pwned\x07\x1b[2J",
        "\x9b31m\x7f\u202e\u2066\u2028",
    ),
    *(
        "sasrec",
        "nextitnet",
        "caser",
        "gru4rec",
        "os:system",
        "vpq",
        "sac",
        "supervised",
        "uwac",
        "factored",
        "values",
        "off",
    ),
    *([], {}, [[]], [0], [2**62, 2**62], {"name": "sasrec"}, {"__reduce__": ["os.system", "true"]}, [None] * 100),
)


def mutant(files: Files, seed: int, number: int, forged: bool) -> tuple[str, Files]:
    """The number-th mutant: the name of what was done to it, and its files."""
    draw = random.Random(f"{seed} {number} {forged}")
    name, spoil = draw.choice(FORGERIES if forged else DAMAGES)
    while True:
        spoilt = spoil(dict(files), draw)
        if spoilt != files:
            return name, (signed(spoilt, draw) if forged else spoilt)


# What a disk, a transfer or a hurried person does: bytes change, hashes do not.


def _flip(content: bytes, draw: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
    return bytes(spoilt)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def _zero(content: bytes, draw: random.Random) -> bytes:
    start, stop = sorted((draw.randrange(len(content)), draw.randrange(len(content)) + 1))
    return content[:start] + bytes(max(0, stop - start)) + content[max(start, stop) :]


def _insert(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.randbytes(draw.choice((1, 2, 8, 100))) + content[place:]


def _drop(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + content[place + draw.choice((1, 2, 8, 100)) :]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    part = content[place : place + draw.choice((1, 8, 100, 1000))]
    return content[:place] + part * draw.choice((2, 3, 50)) + content[place + len(part) :]


def _one_file(spoil: Callable[[bytes, random.Random], bytes]) -> Callable[[Files, random.Random], Files]:
    def spoilt(files: Files, draw: random.Random) -> Files:
        name = draw.choice(sorted(files))
        return files | {name: spoil(files[name], draw)}

    return spoilt


def _swap(files: Files, draw: random.Random) -> Files:
    one, other = draw.sample(sorted(files), 2)
    return files | {one: files[other], other: files[one]}


def _miss(files: Files, draw: random.Random) -> Files:
    del files[draw.choice(sorted(files))]
    return files


def _stale(files: Files, draw: random.Random) -> Files:
    """The manifest of an earlier export, whole in itself: another step, of weights that had other bytes."""
    manifest = json.loads(files[MANIFEST])
    entry = manifest["files"][draw.choice(sorted(manifest["files"]))]
    entry["sha256"] = hashlib.sha256(draw.randbytes(8)).hexdigest()
    manifest["step"] += draw.randrange(1, 1000)
    return files | {MANIFEST: digested(manifest)}


DAMAGES: list[tuple[str, Callable[[Files, random.Random], Files]]] = [
    ("bit flip", _one_file(_flip)),
    ("truncation", _one_file(_cut)),
    ("zero fill", _one_file(_zero)),
    ("swapped files", _swap),
    ("missing file", _miss),
    ("stale manifest", _stale),
]

# What somebody does who knows the format.


def _meaning(files: Files, draw: random.Random) -> Files:
    name = draw.choice(STRUCTURED)
    content = json.loads(files[name])
    for _ in range(draw.choice((1, 1, 2))):
        content = _changed(content, draw)
    return files | {name: _text(content, draw)}


def _metrics(files: Files, draw: random.Random) -> Files:
    """What `info` prints and `serve` hands on: scores that are none, or of other shapes."""
    content = json.loads(files[METRICS])
    whole = draw.choice((None, 5, "x", [1], {"test": None}, {"test": []}, {"test": {}}, {"test": {"click": {}}}))
    if draw.random() < 0.3:
        content = whole
    else:
        split = draw.choice((*content, "test", "validation"))
        content[split] = _changed(content.get(split), draw)
    return files | {METRICS: _text(content, draw)}


def _card(files: Files, draw: random.Random) -> Files:
    """A card of any bytes: no UTF-8, steering a terminal, a script, as long as is allowed, or longer."""
    card = draw.choice(
        (
            b"",
            b"\xff\xfe\0",
            b"\x1b]0;x\x07" * 9,
            b"<script>alert(1)</script>",
            b"#" * (1 << 20),
            b"#" * ((1 << 20) + 1),
        )
    )
    return files | {CARD: card + draw.randbytes(draw.choice((0, 1, 50)))}


def _description(files: Files, draw: random.Random) -> Files:
    """What the manifest says beside files: what it is, of which step, by whom, with which ONNX, or more."""
    content = json.loads(files[MANIFEST])
    name = draw.choice(("kind", "schema_version", "valuerec", "step", "onnx", "damaged", "config", "metrics", "digest"))
    content[name] = draw.choice(NASTY) if draw.random() < 0.5 else _changed(content.get(name), draw)
    return files | {MANIFEST: _text(content, draw)}


def _header(files: Files, draw: random.Random) -> Files:
    weights = files[WEIGHTS]
    length = int.from_bytes(weights[:8], "little")
    header, data = weights[8 : 8 + length], weights[8 + length :]
    if draw.random() < 0.7:
        header = _text(_changed(json.loads(header), draw), draw)
    else:
        header = draw.choice((_flip, _cut, _insert, _repeat))(header, draw)
    told = (
        len(header) if draw.random() < 0.8 else draw.choice((0, 1, 2**20, 2**31, 2**40, 2**63, 2**64 - 1, length + 8))
    )
    if draw.random() < 0.2:
        data = draw.choice((_cut, _insert, _drop))(data, draw)
    return files | {WEIGHTS: told.to_bytes(8, "little") + header + data}


def _numbers(files: Files, draw: random.Random) -> Files:
    """Other numbers in the weights: huge, NaN, infinite, or any."""
    weights = bytearray(files[WEIGHTS])
    first = 8 + int.from_bytes(weights[:8], "little")
    place = first + 4 * draw.randrange((len(weights) - first) // 4)
    number = draw.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", draw.randbytes(4)))
    weights[place : place + 4] = number
    return files | {WEIGHTS: bytes(weights)}


def _deep(files: Files, draw: random.Random) -> Files:
    """Nesting without end, or a heap of nothings."""
    name = draw.choice(STRUCTURED)
    many = draw.choice((1_000, 100_000))
    return files | {name: draw.choice((b"[" * many, b'{"a":' * many, b"[" + b"[]," * many + b"[]]", b"9" * many))}


def _changed(content: Any, draw: random.Random) -> Any:
    """A JSON value with one place in it changed."""
    if not isinstance(content, (dict, list)) or not content or draw.random() < 0.1:
        return draw.choice(NASTY)
    places = list(content) if isinstance(content, dict) else list(range(len(content)))
    place = draw.choice(places)
    how = draw.random()
    if how < 0.75:
        content[place] = _changed(content[place], draw)
    elif how < 0.85:
        del content[place]
    elif isinstance(content, dict):
        value = content.pop(place) if how < 0.95 else content[place]
        content[draw.choice(("name", "../x", "x" * 200, "\n", f"{place} ", "__class__", "__metadata__"))] = value
    else:
        content.insert(place, content[draw.choice(places)])
    return content


def _text(content: Any, draw: random.Random) -> bytes:
    text = json.dumps(content, indent=draw.choice((None, 0, 2)))
    if isinstance(content, list) and draw.random() < 0.9:  # as a vocabulary is laid out
        text = "[\n" + ",\n".join(map(json.dumps, content)) + "\n]\n"
    return text.encode()


FORGERIES: list[tuple[str, Callable[[Files, random.Random], Files]]] = [
    *(("meaning", _meaning),) * 4,
    *(("header", _header),) * 3,
    *(("metrics", _metrics),) * 2,
    ("card", _card),
    ("description", _description),
    ("numbers", _numbers),
    ("nesting", _deep),
    ("signed flip", _one_file(_flip)),
    ("signed truncation", _one_file(_cut)),
    ("signed zero fill", _one_file(_zero)),
    ("signed insertion", _one_file(_insert)),
    ("signed loss", _one_file(_drop)),
    ("signed repetition", _one_file(_repeat)),
]


def signed(files: Files, draw: random.Random) -> Files:
    """The files with sizes, hashes and digest made right, where the manifest still has places for them."""
    try:
        manifest = json.loads(files[MANIFEST])
        for name, entry in manifest["files"].items():
            if name in files and draw.random() < 0.97:
                entry |= {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
        return files | {MANIFEST: digested(manifest)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return files


def digested(manifest: dict[str, Any]) -> bytes:
    """A manifest's bytes with its digest (`valuerec.folders.write_manifest`)."""
    blank = (json.dumps(manifest | {"digest": "0" * 64}, indent=2) + "\n").encode()
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode())
