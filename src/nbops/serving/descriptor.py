"""The runtime file of an endpoint, ``.nbops/endpoints/ID.json`` (mode 0600): how anybody finds it again.

It holds the token, so the process removes it when it stops; records never hold the token.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from nbops.core.errors import NotFound

FOLDER = "endpoints"


class Descriptor(msgspec.Struct, kw_only=True):
    """What it takes to start, find, call and end one endpoint.

    state : starting, ready, or failed; pid_started : in the unit of `process_start`
    bundles : folder of each model's bundle, by ref name/number
    replaces : id of the endpoint whose port it takes over
    """

    id: str
    name: str
    token: str
    workspace: str
    store_url: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    bundles: dict[str, str]
    max_batch: int = 64
    max_wait_ms: float = 0.0
    max_queue: int = 4096
    timeout_s: float = 60.0
    max_body_bytes: int = 64 << 20
    replaces: str = ""
    state: str = "starting"
    pid: int = 0
    pid_started: str = ""
    url: str = ""
    error: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether its process runs; a process that took over the number is not it."""
        return self.pid > 0 and process_start(self.pid) == self.pid_started


class Paths:
    """Files of one endpoint.

    Parameters
    ----------
    workspace : Path
        The ``.nbops`` folder.
    id : str
        Record id of the endpoint.
    """

    def __init__(self, workspace: Path, id: str) -> None:
        self.folder = workspace / FOLDER
        self.descriptor = self.folder / f"{id}.json"
        self.auth = self.folder / f"{id}.auth"
        self.log = self.folder / f"{id}.log"


def write(paths: Paths, descriptor: Descriptor) -> None:
    """Replace the runtime file at once, readable by its owner only; also the header file for curl."""
    paths.folder.mkdir(mode=0o700, exist_ok=True)
    if descriptor.token:
        _put(paths.auth, f"Authorization: Bearer {descriptor.token}\n".encode())
    _put(paths.descriptor, msgspec.json.encode(descriptor))


def update(paths: Paths, descriptor: Descriptor) -> bool:
    """Like `write`, by the endpoint's own process; False, and nothing written, if the file was removed meanwhile."""
    if not paths.descriptor.exists():
        return False
    write(paths, descriptor)
    return True


def read(path: Path) -> Descriptor:
    """Return the descriptor in `path`; `NotFound` if the endpoint has ended."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Descriptor)
    except FileNotFoundError:
        raise NotFound(f"no running endpoint '{path.stem}'", hint="Start it with nb.serve.") from None


def remove(paths: Paths) -> None:
    """Forget the runtime file and the token; the log stays."""
    paths.descriptor.unlink(missing_ok=True)
    paths.auth.unlink(missing_ok=True)


def process_start(pid: int) -> str:
    """Return when process `pid` started, as text that no later process with that number repeats; "" if it is gone.

    Linux: boot id and field 22 of ``/proc/PID/stat`` (ticks since boot); a zombie counts as gone.
    Elsewhere: psutil's creation time.
    """
    if not Path("/proc/self/stat").exists():
        return _process_start_psutil(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return "" if fields[0] in ("Z", "X") else f"{boot}:{fields[19]}"


def _process_start_psutil(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def _put(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    fresh.replace(path)
