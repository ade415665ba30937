"""The code a run was made from: git's commit and branch from its files, and what was not committed.

Outside git the executed cells, which every run records, are the code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nbops.tracking.redaction import redact_line

TIME_LIMIT_S = 10.0
MAX_UNTRACKED = 200
_CHUNK = 1 << 16
_NO_SHOW = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class Changes:
    """What a checkout holds beyond its commit.

    Attributes
    ----------
    patch : bytes
        Output of ``git diff HEAD``, secrets redacted; empty when nothing differs or it was left out.
    untracked : list of str
        Files that git does not know, at most `MAX_UNTRACKED`.
    untracked_count : int
        How many there are.
    note : str
        Why the patch was left out, if so.
    """

    patch: bytes
    untracked: list[str]
    untracked_count: int
    note: str = ""

    @property
    def is_dirty(self) -> bool:
        """Whether the code that ran is not the commit."""
        return bool(self.patch or self.untracked_count or self.note)


def git_top(start: Path) -> Path | None:
    """Return the top folder of the checkout around `start`, or None outside one."""
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), None)


def git_revision(start: Path) -> dict[str, str]:
    """Return commit and branch of the checkout around `start`, read from git's files; empty outside one."""
    top = git_top(start)
    if top is None:
        return {}
    try:
        return _read_head(_git_folder(top / ".git"))
    except OSError:
        return {}


def uncommitted(top: Path, *, max_bytes: int, time_limit_s: float = TIME_LIMIT_S) -> Changes | None:
    """Ask git what differs from the commit; None where there is no git to ask.

    Parameters
    ----------
    top : Path
        A folder of the checkout.
    max_bytes : int, bytes
        A longer patch is left out, and `Changes.note` says so.
    time_limit_s : float, seconds
        For both questions together.
    """
    if shutil.which("git") is None:
        return None
    end = time.monotonic() + time_limit_s
    listed, whole = _ask(["ls-files", "--others", "--exclude-standard", "-z"], top, max_bytes=1 << 20, end=end)
    names = [name for name in listed.decode(errors="replace").split("\0") if name]
    names = names if whole else names[:-1]
    diff = ["diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv"]
    patch, complete = _ask(diff, top, max_bytes=max_bytes, end=end)
    note = "" if complete else f"the difference is longer than {max_bytes:,} bytes or took over {time_limit_s:g} s"
    return Changes(redact_patch(patch) if complete else b"", sorted(names)[:MAX_UNTRACKED], len(names), note)


def redact_patch(patch: bytes) -> bytes:
    """Redact secrets in added lines; the others are in the commit, and the patch must still apply."""
    lines = patch.decode(errors="surrogateescape").split("\n")
    clean = [redact_line(line) if re.match(r"\+(?!\+\+ )", line) else line for line in lines]
    return "\n".join(clean).encode(errors="surrogateescape")


def _ask(arguments: list[str], top: Path, *, max_bytes: int, end: float) -> tuple[bytes, bool]:
    """Return git's answer up to `max_bytes`, and whether that is all of it."""
    process = subprocess.Popen(  # noqa: S603 (the arguments are ours)
        ["git", *arguments], cwd=top, env={**os.environ, **_NO_SHOW},  # noqa: S607 (the user's git, as found)
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101 (for the type checker: it is a pipe)
    parts, size = [], 0
    with process, process.stdout as stream:
        os.set_blocking(stream.fileno(), False)
        while size <= max_bytes and time.monotonic() < end:
            part = stream.read(_CHUNK)
            if part is None:  # nothing there yet
                time.sleep(0.002)
            elif part:
                parts.append(part)
                size += len(part)
            else:
                return b"".join(parts), True
        process.kill()
    return b"".join(parts)[:max_bytes], False


def _git_folder(entry: Path) -> Path:
    if entry.is_dir():
        return entry
    return (entry.parent / entry.read_text().removeprefix("gitdir:").strip()).resolve()  # a worktree


def _read_head(folder: Path) -> dict[str, str]:
    head = (folder / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return {"commit": head}
    name = head.removeprefix("ref: ")
    common = folder / "commondir"
    places = [folder, (folder / common.read_text().strip()).resolve()] if common.exists() else [folder]
    found = {"branch": name.removeprefix("refs/heads/")}
    for place in places:
        if (place / name).exists():
            return {**found, "commit": (place / name).read_text().strip()}
        if (place / "packed-refs").exists():
            for line in (place / "packed-refs").read_text().splitlines():
                if line.endswith(f" {name}"):
                    return {**found, "commit": line.split(" ")[0]}
    return found
