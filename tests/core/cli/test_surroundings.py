"""The command in odd surroundings: closed streams, no home, a folder that is gone; and interrupts that come twice."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lora_core.cli import entry
from lora_core.cli.interrupts import Interrupts
from tests import tiny
from tests.core import samples


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny.make_tiny("flux", folder / "base.safetensors")
    tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    return folder


def shell(line: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `lora-core` as `$@` in a line of shell."""
    command = [sys.executable, "-m", "lora_core", *map(str, arguments)]
    environment = {**os.environ, **(env or {}), "PYTHONPATH": str(samples.REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["/bin/bash", "-c", line, "bash", *command],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.case(45)
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('"$@" >/dev/full', 1),
        ('set -o pipefail; "$@" | true', 1),
        ('"$@" >&-', 0),
        ('"$@" <&- >&- 2>&-', 0),
    ],
)
def test_where_the_report_can_not_go(files: Path, line: str, code: int) -> None:
    done = shell(line, "inspect", files / "lora.safetensors")
    assert (done.returncode, done.stdout) == (code, "")
    reason = "No space left on device" if "full" in line else "Broken pipe"
    expected = f"lora-core: the work is done, but its report can't be printed: {reason}\n" if code else ""
    assert done.stderr == expected


@pytest.mark.case(45)
def test_an_error_that_nobody_can_read_still_has_its_code() -> None:
    done = shell('"$@" 2>/dev/full', "inspect", "gone.safetensors")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert shell('"$@" 2>&-', "inspect", "gone.safetensors").returncode == 1


@pytest.mark.case(45)
def test_letters_that_a_stream_lacks_are_escaped(files: Path, tmp_path: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = shell('"$@"', "inspect", files / "lora.safetensors", env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert r" \xb7 Flux.1 \xb7 LoRA r4 \xb7 kohya names" in done.stdout
    done = shell('"$@"', "inspect", tmp_path / "墨.safetensors", env=ascii_only)
    assert (done.returncode, done.stderr.startswith(r"lora-core: \u58a8.safetensors: no such file")) == (1, True)


@pytest.mark.case(45)
def test_a_merge_without_home_temporary_folder_streams_or_a_folder_to_write_in(files: Path, tmp_path: Path) -> None:
    """The output must not get the number of a closed stream, or what a library prints would be written into it."""
    plain, odd = tmp_path / "plain.safetensors", tmp_path / "odd.safetensors"
    words = ["merge", "--base", files / "base.safetensors", "--lora", files / "lora.safetensors", "--out"]
    assert shell('"$@"', *words, plain).returncode == 0
    line = (
        "umask 077; cd /proc; unset HOME; export TMPDIR=/no/such/folder TZ=nowhere LANG=xx_YY.none; "
        'exec "$@" <&- >&- 2>&-'
    )
    assert shell(line, *words, odd).returncode == 0
    assert odd.read_bytes() == plain.read_bytes()
    assert stat.S_IMODE(odd.stat().st_mode) == 0o600
    assert samples.listing(tmp_path) == [odd.name, plain.name]


# Interrupts


@pytest.mark.case(20)
def test_the_first_signal_interrupts_and_the_next_ones_do_not() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with Interrupts() as interrupts:
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # while what was begun is cleaned up
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.case(20)
def test_an_interrupt_that_is_lost_is_raised_at_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what is raised while an object is destroyed, and the work would go on to its end."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    steps: list[int] = []

    class Destroyed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with Interrupts() as interrupts:
        step = interrupts.watching(lambda done, total: steps.append(done))
        step(1, 3)
        thing = Destroyed()
        del thing
        with pytest.raises(KeyboardInterrupt):
            step(2, 3)
    assert steps == [1]


@pytest.mark.case(20)
def test_a_library_is_imported_to_its_end_and_then_the_interrupt_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch is imported when it is first needed, which may be after the output has been begun."""
    (tmp_path / "slow_library.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nis_whole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Interrupts() as interrupts:
        assert __import__("slow_library").is_whole
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


@pytest.mark.case(20)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_before_the_work_begins_has_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    monkeypatch.setattr(entry, "open_streams", lambda: signal.raise_signal(number))
    assert entry.main(["inspect", "gone.safetensors"]) == entry.INTERRUPTED
    assert capsys.readouterr().err == "lora-core: interrupted; nothing half-written was kept\n"


@pytest.mark.case(20)
@pytest.mark.attack(32)
def test_nothing_is_raised_while_a_lock_may_be_held_and_then_the_interrupt_comes() -> None:
    class Locked:
        def __enter__(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # as it comes between taking a lock and the beginning of its block

        def __exit__(self, *_: object) -> None:
            signal.raise_signal(signal.SIGINT)

    with Interrupts() as interrupts:
        with Locked():
            entered = True
        assert entered
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


@pytest.mark.case(20)
@pytest.mark.attack(32)
def test_an_interrupt_that_is_put_off_to_the_end_has_its_code(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry._progress, "__exit__", lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr("lora_core.cli.interrupts._SETTLING", frozenset({"<lambda>"}))
    assert entry.main(["inspect", str(files / "lora.safetensors")]) == entry.INTERRUPTED
    assert capsys.readouterr().err == "lora-core: interrupted; nothing half-written was kept\n"


@pytest.mark.case(20)
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As `nohup` wants it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            interrupts.check()
    finally:
        signal.signal(signal.SIGHUP, before)
