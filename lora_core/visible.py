"""Text of strangers in errors, logs and reports: what can't be seen is written out, so that nothing is forged.

A file, a key or a name may hold a line end, which would begin a false line of a log; an escape sequence, which a
terminal obeys; a sign that turns the text after it around; or half a character, which no output can encode.
"""

from __future__ import annotations

import json
import re
from typing import Any

# C0, DEL and C1; zero width, except those that join; directions; line and paragraph ends; half characters; tags
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Return one line with its unseen characters written as escapes, such as `\\n`, `\\x1b` and `\\u202e`."""
    return _UNSEEN.sub(_escaped, text)


def visible_json(value: Any) -> str:
    """Return a value as indented JSON; what can't be seen in its texts is escaped as JSON has it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _UNSEEN.sub(lambda match: match[0] if match[0] == "\n" else json.dumps(match[0])[1:-1], text)


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    long = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(char, long)
