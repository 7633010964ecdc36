"""The command `lora-core`: progress, signals, exit codes, and reports as text or JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from ..errors import LoraError, OptionError
from ..parallel.progress import OnStep
from ..report import Report
from ..shortage import tells_shortages
from ..text import LONGEST_MESSAGE, message_line, shortened, visible_json
from .commands import make_parser
from .interrupts import Interrupts
from .streams import open_streams, say

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class Shown(Protocol):
    """What a command gives back: a report, mostly."""

    def to_dict(self) -> dict[str, Any]: ...

    def text(self) -> str: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with Interrupts() as interrupts:
        try:
            code = _run(arguments, interrupts)
            interrupts.check()
        except KeyboardInterrupt:
            return _fail("interrupted; nothing half-written was kept", INTERRUPTED)
    return code


def _run(arguments: Sequence[str] | None, interrupts: Interrupts) -> int:
    try:
        open_streams()
        options = make_parser().parse_args(arguments)  # exits with 2 on wrong usage
        with _progress(options) as on_step:
            reports = _reports(options, interrupts.watching(on_step))
    except OptionError as error:
        return _fail(error, WRONG_USAGE)
    except (LoraError, OSError) as error:
        return _fail(error, FAILED)
    return _show(reports, as_json=options.json)


@tells_shortages
def _reports(options: argparse.Namespace, on_step: OnStep) -> Sequence[Shown]:
    return options.command(options, on_step)


class _progress:  # noqa: N801  (used as `with _progress(options) as on_step`)
    """A bar on standard error, if tqdm is there and somebody watches."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._wanted = not options.quiet and sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> OnStep | None:
        try:
            from tqdm import tqdm  # noqa: PLC0415  (optional, and slow to import)
        except ImportError:
            return None
        if not self._wanted:
            return None

        def on_step(done: int, total: int) -> None:
            if self._bar is None or self._bar.total != total or done < self._bar.n:
                if self._bar is not None:
                    self._bar.close()
                self._bar = tqdm(total=total, unit="", unit_scale=True, file=sys.stderr)
            self._bar.update(done - self._bar.n)

        return on_step

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _show(reports: Sequence[Shown], *, as_json: bool) -> int:
    if as_json:
        whole = [report.to_dict() for report in reports]
        text = visible_json(whole[0] if len(whole) == 1 else whole)
    else:
        text = "\n\n".join(report.text() for report in reports)
    try:
        say(sys.stdout, text + "\n")
    except OSError as error:  # a full disk, or `| head`
        return _fail(f"the work is done, but its report can't be printed: {error.strerror or error}", FAILED)
    return FAILED if any(map(_is_refuted, reports)) else DONE


def _is_refuted(report: Shown) -> bool:
    """Tell whether what was to be verified is not so."""
    return isinstance(report, Report) and report.verified is not None and not report.verified["equal"]


def _fail(error: object, code: int) -> int:
    lines = shortened(f"lora-core: {error}", LONGEST_MESSAGE).split(
        "\n"
    )  # a LoraError's own line ends are not those of a name
    with suppress(OSError):  # nobody reads it, and the code tells
        say(sys.stderr, "".join(f"{message_line(line)}\n" for line in lines))
    return code
