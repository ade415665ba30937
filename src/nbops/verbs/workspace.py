"""Verbs of the workspace: status, init, doctor, audit, roles."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb("status", examples=("%mlops", "%mlops status"))
def status(call: Call) -> Any:
    """Show what the workspace holds, what runs and what serves."""
    from nbops.verbs.status import read_status

    return read_status(call)


@verb(
    "init",
    argument("path", "folder of the workspace; found like git if absent", form="optional", completes="paths"),
    argument("--store", "database of records: postgresql://…", values="URL"),
    argument("--artifacts", "where files go: any fsspec URL, s3://…", values="URL"),
    examples=("%mlops init", "%mlops init . --store postgresql://team@db/nbops"),
)
def init(call: Call, *, path: str | None, store: str | None, artifacts: str | None) -> Any:
    """Open a workspace, making it if it is not there, and show its status."""
    from nbops.store.workspace import init as open_workspace
    from nbops.verbs.status import read_status

    open_workspace(path, store_url=store, artifacts_url=artifacts)
    return read_status(call)


@verb("doctor", examples=("%mlops doctor",))
def doctor(call: Call) -> Any:
    """Examine the installation and the workspace, and say what to mend."""
    from nbops.verbs.doctor import examine

    return examine()


@verb(
    "audit",
    argument("--last", "how many of the newest entries to show", kind=int, default=10, values="N"),
    examples=("%mlops audit", "%mlops audit --last 50"),
)
def audit(call: Call, *, last: int) -> Any:
    """Walk the log of all that happened, and say whether anybody changed it."""
    from nbops.store.auditing import audit as walk_log

    return walk_log(last=last)


@verb("roles", examples=("%mlops roles",))
def roles(call: Call) -> Any:
    """Show who may do what through the servers' routes, as config.toml says."""
    from nbops.verbs.roles import read_trust

    return read_trust()
