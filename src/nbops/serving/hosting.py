"""What runs inside an endpoint's process: load the bundles, listen, tell the address, serve, drain.

It ends at SIGTERM, and when its descriptor is gone (the workspace was deleted).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvicorn

from nbops import __version__
from nbops.core.errors import EndpointError
from nbops.core.records import Signature
from nbops.serving import descriptor as runtime_file
from nbops.serving.app import LOCAL_HOSTS, App, ServedModel
from nbops.serving.batching import Batcher
from nbops.serving.descriptor import Descriptor, Paths
from nbops.serving.engines import LocalEngine
from nbops.serving.metrics import EndpointMetrics, ModelMetrics, resident_bytes

KEEP_ALIVE_S = 120  # clients pool connections for up to 75 s
_LINGER_S = 0.5
_WATCH_TICKS = 50  # of 0.1 s

log = logging.getLogger("nbops.serving")


class Server(uvicorn.Server):
    """uvicorn, with a descriptor that says when it is ready and a shutdown that lets clients leave first."""

    def __init__(self, config: uvicorn.Config, *, app: App, descriptor: Descriptor, paths: Paths) -> None:
        super().__init__(config)
        self._app = app
        app.is_alone = lambda: len(self.server_state.tasks) == 1
        self._descriptor = descriptor
        self._paths = paths

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell the address."""
        await super().startup(sockets)
        self._descriptor.state = "ready"
        if not runtime_file.update(self._paths, self._descriptor):
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """End also when the descriptor is gone: nobody could find this process any more."""
        if counter % _WATCH_TICKS == 0 and not self._paths.descriptor.exists():
            log.info("descriptor is gone: stopping")
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; answer with ``Connection: close`` for a moment, so that clients move on by themselves."""
        self._app.is_draining = True
        for server in self.servers:
            server.close()
        until = time.monotonic() + _LINGER_S
        while self.server_state.connections and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def host(descriptor: Descriptor, paths: Paths) -> None:
    """Serve until told to end."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(descriptor, paths))


async def _serve(descriptor: Descriptor, paths: Paths) -> None:
    listener = _bind(descriptor)
    metrics = EndpointMetrics()
    models = [_model(ref, Path(folder), descriptor, metrics) for ref, folder in descriptor.bundles.items()]
    app = App(
        models,
        metrics=metrics,
        token=descriptor.token,
        hosts=LOCAL_HOSTS | {descriptor.host},
        max_body_bytes=descriptor.max_body_bytes,
        server_version=__version__,
    )
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(descriptor.timeout_s)),
    )
    logging.getLogger("uvicorn.access").disabled = True
    server = Server(config, app=app, descriptor=descriptor, paths=paths)
    try:
        await server.serve(sockets=[listener])
    finally:
        for model in models:
            model.batcher.close()


def _bind(descriptor: Descriptor) -> socket.socket:
    """Return a listening socket, and note the address.

    The port may be shared by the endpoint that replaces this one, so that none of its clients
    is refused in between; a first endpoint makes sure that nobody else has the port.
    """
    address = (descriptor.host, descriptor.port)
    if descriptor.port and not descriptor.replaces:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind_to(probe, address)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _bind_to(listener, address)
    descriptor.port = listener.getsockname()[1]
    descriptor.url = f"http://{descriptor.host}:{descriptor.port}"
    return listener


def _bind_to(listener: socket.socket, address: tuple[str, int]) -> None:
    try:
        listener.bind(address)
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {address[0]}:{address[1]}: {error.strerror}", hint="Serve with port=0 for a free one."
        ) from None


def _model(ref: str, folder: Path, descriptor: Descriptor, metrics: EndpointMetrics) -> ServedModel:
    from nbops.models.runtimes import OnnxRuntime

    name, _, version = ref.rpartition("/")
    began = time.monotonic()
    runtime = OnnxRuntime(folder / "model.onnx")
    engine = LocalEngine(runtime, loop=asyncio.get_running_loop())
    by_rows = is_by_rows(runtime.signature)
    _warm_up(engine, runtime.signature, max_rows=descriptor.max_batch if by_rows else 1)
    log.info("loaded %s in %.2f s, resident %d MB", ref, time.monotonic() - began, resident_bytes() >> 20)
    counts = ModelMetrics(name, version)
    metrics.models.append(counts)
    batcher = Batcher(
        engine,
        max_batch=descriptor.max_batch,
        max_queue=descriptor.max_queue,
        max_wait_ms=descriptor.max_wait_ms,
        timeout_s=descriptor.timeout_s,
        by_rows=by_rows,
        observe=counts.batched,
    )
    return ServedModel(name, version, signature=runtime.signature, batcher=batcher, metrics=counts)


def is_by_rows(signature: Signature) -> bool:
    """Return whether dimension 0 of every input and output counts rows, so that requests can share a batch."""
    return all(spec.shape and spec.shape[0] < 0 for spec in [*signature.inputs, *signature.outputs])


def _warm_up(engine: LocalEngine, signature: Signature, *, max_rows: int) -> None:
    """Run zeros in batches of 1, 2, 4 … rows, so that no request pays for lazy set-up and the engine knows its pace.

    It ends with the first batch that is slow, or that the model does not take: its first request will tell.
    """
    if any(spec.dtype == "str" for spec in signature.inputs):
        return
    rows = 1
    while rows <= max_rows:
        zeros = {
            spec.name: np.zeros(
                [rows if side < 0 and at == 0 else max(side, 1) for at, side in enumerate(spec.shape)], spec.dtype
            )
            for spec in signature.inputs
        }
        if not engine.warm_up(zeros):
            return
        rows *= 2


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def record_end(descriptor: Descriptor) -> None:
    """Tell the workspace that this endpoint has stopped; a workspace that was deleted is not made again."""
    if not Path(descriptor.workspace).exists():
        return
    from nbops.serving.records import mark
    from nbops.store.workspace import Workspace

    workspace = Workspace.open(descriptor.workspace, store_url=descriptor.store_url or None)
    try:
        mark(workspace, descriptor.id, "STOPPED")
    finally:
        workspace.close()
