"""The errors that LoRA Core raises: each message says where, what, expected and found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from .text import LONGEST_MESSAGE, message_line, shortened

E = TypeVar("E", bound="LoraError")


class LoraError(ValueError):
    """Base of every error that a user can act on.

    Values in its lines may come from strangers: each is one line, each value is short, and all of it is a screen.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(shortened("\n".join(map(message_line, lines)), LONGEST_MESSAGE))


class FileFormatError(LoraError):
    """A file is missing, truncated, of another format, or breaks the safetensors rules."""


class NoSuchFileError(FileFormatError):
    """No file is what a name means."""


class AmbiguousFileError(FileFormatError):
    """Several files may be what a name means."""

    def __init__(self, text: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.candidates = tuple(candidates)


class NotHashedError(NoSuchFileError):
    """What a name means can only be told by the content of files that nobody has read yet."""

    def __init__(self, text: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.candidates = tuple(candidates)


class FileChangedError(LoraError):
    """An input file changed while it was being read."""


class WrongFileKindError(LoraError):
    """A LoRA was given where a checkpoint is needed, or the reverse."""


class NotALoraError(WrongFileKindError):
    """A file is neither a LoRA nor a checkpoint, but something else that is known."""


class UnknownArchError(LoraError):
    """No known architecture fits the keys of a checkpoint."""


class KeyCollisionError(LoraError):
    """One name would address two different targets."""


class AdapterError(LoraError):
    """The parts of one adapter are incomplete, contradictory or not finite."""


class NothingMatchedError(LoraError):
    """No module of a LoRA has a place in the checkpoint."""


class UnmatchedError(LoraError):
    """Some modules of a LoRA have no place, and the policy is to stop then."""


class OutputError(LoraError):
    """The output can't be written: it exists, is an input, or the disk is full."""


class OptionError(LoraError):
    """An option's value is out of range or contradicts another."""


class WorkflowError(LoraError):
    """A workflow file can't be read or run without ComfyUI."""


class ReceiptError(LoraError):
    """A file has no receipt that can be read, or what was given is not what the receipt names."""


class ShortageError(LoraError):
    """The machine has too little memory, or allows too few threads or open files, for the work."""


def about(error: E, before: str = "", after: str = "") -> E:
    """Return the same error with more text before and after it; its own line ends stay what they are."""
    made = type(error).__new__(type(error))
    made.__dict__.update(error.__dict__)
    lines = f"{before}{error}{after}".split("\n")
    made.args = (shortened("\n".join(map(message_line, lines)), LONGEST_MESSAGE),)
    return made
