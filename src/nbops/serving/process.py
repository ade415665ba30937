"""``python -m nbops.serving.process FILE``: an endpoint. FILE is its descriptor; it gets no other argument.

Detaches before anything heavy is imported (no threads yet), then hands over to `hosting`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from nbops.serving import descriptor as runtime_file
from nbops.serving.descriptor import Descriptor, Paths

log = logging.getLogger("nbops.serving")


def main(path: str) -> int:
    """Run the endpoint that the descriptor file `path` describes; return the exit status."""
    file = Path(path)
    descriptor = runtime_file.read(file)
    paths = Paths(file.parent.parent, descriptor.id)
    _detach(paths, descriptor)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # uvicorn raises the signal again once it has drained: by then it must not kill
    signal.signal(signal.SIGTERM, _ignore)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from nbops.serving.hosting import host, record_end

        host(descriptor, paths)
        record_end(descriptor)
    except Exception as error:
        log.exception("the endpoint failed")
        descriptor.state, descriptor.error = "failed", f"{type(error).__name__}: {error}".replace("\n", " ")
        runtime_file.update(paths, descriptor)
        return 1
    runtime_file.remove(paths)
    return 0


def _detach(paths: Paths, descriptor: Descriptor) -> None:
    """Leave the process that started us: it waits for a helper only, so it keeps no child and no zombie.

    The helper ends once the descriptor tells the process id.
    """
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(ready, 1)  # end of file when the child has written, or died
        os._exit(0)
    os.close(ready)
    descriptor.pid = os.getpid()
    descriptor.pid_started = runtime_file.process_start(descriptor.pid)
    if not runtime_file.update(paths, descriptor):  # whoever started us gave up
        os._exit(1)
    os.close(told)


def _ignore(signum: int, frame: FrameType | None) -> None:
    log.info("signal %d", signum)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
