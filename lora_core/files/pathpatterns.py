"""How absolute paths and addresses look in texts of any origin: of all systems, in commands, lists, JSON and addresses.

Expressions over strangers' texts: each looks at any part of the text a bounded number of times. A folder's name may
hold spaces, so one that a separator follows is read to that; a last name ends at the first space.
"""

from __future__ import annotations

import re
from itertools import dropwhile
from urllib.parse import unquote

_NAME = r"""[^\s/\\"'<>|:*?,;(){}\[\]]+"""  # of a file or folder, without spaces
_LETTER = r"""(?:[^\s/\\"'<>|:*?,;]|[ ](?!-[\w-]|[ /\\])|(?<=\w)'(?=\w))"""  # of a folder's name with spaces
_FOLDER = rf"""(?:{_NAME}[/\\]+|(?![ ]){_LETTER}{{1,120}}(?<![ (\[{{])[/\\]+)"""
_SURNAME = r"(?:[ ][^\W\d_a-z][\w.'-]{0,40}){0,3}"  # of a home folder at the end of a path
_AT_HOME = "|".join(rf"(?<=(?i:{name})[/\\]{{{n}}})" for name in ("home", "homes", "users", "settings") for n in (1, 2))
_BELOW = rf"{_FOLDER}*(?:(?:{_AT_HOME}){_NAME}{_SURNAME}|{_NAME})?"
# Folders at the root of some system: these are told from a slash between two words
_ROOTS = (
    r"(?:(?i:home|homes|users|root|volumes|mnt|media|srv|opt|var|tmp|private|export|run|usr|etc|net|nfs|data\d?|"
    r"workspace|content|kaggle|scratch|cluster|storage|work|lustre|gpfs|cygdrive|system|applications|library))"
)
_OPTION = r"(?<=(?<![\w-])-[A-Za-z])"  # -I/home/…
_SEPARATOR = r"%(?:25)*(?:2[Ff]|5[Cc])"
_ANY_SEPARATOR = re.compile(_SEPARATOR)
_ENCODED = r"(?:[\w.~+$@!-]|%(?!(?:25)*(?:2[Ff]|5[Cc]))[0-9A-Fa-f]{2})+"
_BASE64 = rf"(?!/{_ROOTS}/)[A-Za-z0-9+/]{{100,}}={{0,2}}"

_KEPT = rf"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*,[\w+/=%-]*|(?<![A-Za-z0-9+/]){_BASE64}"
_WEB = r"""(?<![A-Za-z0-9+.-])(?i:https?|wss?|s3|gs|hf|ipfs|urn|doi)://[^\s"'<>]*"""
_QUOTED = r"""(?<=["'])(?:[A-Za-z]:[/\\]|[/\\~]|file:)[^"'<>|*?\n\r]{1,400}(?=["'])"""
_OTHERS = (
    r"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]{1,30}://|file:/)[^\s\"'<>]*",  # file, smb, ssh, …
    rf"(?<![\w.@-])(?!git@)[\w.-]{{1,64}}@[\w.-]{{1,255}}:(?=~?/|[\w.-]+/)~?/*{_BELOW}",  # scp
    rf"(?:(?<![\w%])|{_OPTION})(?:[A-Za-z]%(?:25)*3[Aa](?:{_SEPARATOR}{_ENCODED})+"
    rf"|(?:file%3[Aa])?(?:(?:{_SEPARATOR})+{_ENCODED}){{2,}})",
    rf"(?:(?<![\w.])|{_OPTION})[A-Za-z]:[/\\]+(?=[^\s/\\]){_BELOW}",  # C:\…, D:/…
    rf"(?:^|(?<=[\s\"'=,;:(\[|@>&])|{_OPTION})\\\\(?:\\\\)?(?:[?.]\\+[A-Za-z]:|[A-Za-z0-9][\w.$-]*)\\+(?=[^\s/\\]){_BELOW}",
    rf"(?:^|(?<=[\s\"'=,;:(\[|@>&])|{_OPTION})\\(?:{_ROOTS}|[A-Za-z_][\w$-]{{2,60}}(?=\\{_NAME}\\))\\+(?=[^\s/\\]){_BELOW}",
    rf"(?:(?<![\w.])|{_OPTION})/(?={_ROOTS}/+[^\s/\\]){_BELOW}",
    rf"(?:(?<![\w.:/\\<>+~)\]}}*-])|(?<=\w:)|{_OPTION})/(?={_NAME}/){_BELOW}",
    rf"(?<![\w~/\\])~(?:[A-Za-z_][\w.-]{{0,64}})?[/\\]+(?=[^\s/\\]){_BELOW}",
)
IN_TEXT = re.compile(rf"(?P<kept>{_KEPT})|(?P<web>{_WEB})|(?P<quoted>{_QUOTED})|{'|'.join(_OTHERS)}")

# What each of them has, to leave most texts alone at once
HINT = re.compile(
    rf"[A-Za-z]:[/\\]|(?<![\w.])/[^\s/]|(?<![\w.*)])\\[\\?.\w]|~[\w.-]{{0,65}}[/\\]|{_SEPARATOR}|-[A-Za-z][/\\]|\w:/|@"
)

# A text that is one path from end to end: there the last name may hold spaces too
_START = rf"(?:file:/|[A-Za-z]:[/\\]|\\\\|\\{_NAME}\\|~(?:[A-Za-z_][\w.-]*)?[/\\]|/(?:{_ROOTS}|{_NAME})/)"
ONE_PATH = re.compile(
    rf"(?!{_BASE64}$)\s{{0,9}}{_START}(?:[^\s\"<>|*?:;,]|[ ,;](?![ ]?(?:[A-Za-z]:[/\\]|[/\\~]|--?\w))){{1,4096}}\Z"
)

USER = re.compile(r"(://)[^\s/?#@]{1,512}@")  # name and password of an address
SECRET = re.compile(
    r"((?:[?&#;]|%26)[\w.-]{0,40}(?i:token|key|secret|sign?|signature|pass|password|auth|credential)[\w.-]{0,40}=)[^&#\s]*"
)
IN_QUERY = re.compile(rf"(?<==)(?:/|{_SEPARATOR}|~|[A-Za-z](?::|%3[Aa]))[^&#\s]+")


def names_of(path: str) -> list[str]:
    """Return the names in a path or an address, without drive, machine and user."""
    decoded = unquote(unquote(path)) if _ANY_SEPARATOR.search(path) else path
    scheme, is_address, rest = decoded.partition("://")
    names = [name for name in re.split(r"[/\\]+", rest if is_address else decoded) if name.strip(" .?")]
    if is_address and scheme.lower() != "file":  # a machine, perhaps with a user
        names = names[1:]
    names = list(dropwhile(lambda name: name.endswith(":") or name.startswith("~"), names))
    if names and ":" in names[0] and "@" in names[0]:
        names[0] = names[0].rpartition(":")[2]
    return [name.strip() for name in names]
