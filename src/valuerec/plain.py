"""Text for a terminal: what somebody else wrote into a file must not steer what shows it."""

from __future__ import annotations

import re
from typing import Final

_LINES: Final = "\u2028\u2029"
_DIRECTIONS: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_STEERING: Final = re.compile(f"[\0-\x1f\x7f-\x9f{_LINES}{_DIRECTIONS}]")
_STEERING_BUT_LAYOUT: Final = re.compile(f"[\0-\x08\x0b-\x1f\x7f-\x9f{_LINES}{_DIRECTIONS}]")


def plain(text: str, one_line: bool = False) -> str:
    """A text with pictures (␛, ␇) in place of control characters, and � in place of what has none.

    Those of ASCII and Latin-1, separators of lines, and what overrides the direction of writing.

    Args:
        text: anything.
        one_line: newlines and tabs too.
    """
    return (_STEERING if one_line else _STEERING_BUT_LAYOUT).sub(lambda found: _picture(found[0]), text)


def escaped(json_text: str) -> str:
    """JSON with the same characters escaped: those between its strings stay, as newlines do."""
    return _STEERING_BUT_LAYOUT.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def _picture(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
