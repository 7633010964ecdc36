"""The code that watches an import from inside: its Python ends with 1, and says what was done, if anything was.

`watched(work)` calls `work` below an audit hook, which sees files that are opened to be written, processes, sockets and
changes of the environment, whoever causes them.
"""

from __future__ import annotations

WATCHED = '''\
import os, sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "os.startfile", "os.putenv", "os.unsetenv", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link",
    "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.utime", "os.kill", "shutil.", "tempfile.", "ctypes.dlopen",
    "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.", "winreg.", "pickle.", "exec:", "signal.", "threading.",
)
seen = []

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(flags, int) and flags & WRITING:
            seen.append(f"open {path} for writing")
    elif event.startswith(FORBIDDEN):
        seen.append(f"{event} {arguments!r}"[:300])

def watched(work):
    before = dict(os.environ)
    sys.addaudithook(watch)
    work()
    done = list(seen)
    assert dict(os.environ) == before, "the environment is another one"
    if "torch" in sys.modules:
        assert not sys.modules["torch"].cuda.is_initialized(), "CUDA was initialised"
    if done:
        sys.exit("\\n".join(done))
'''
