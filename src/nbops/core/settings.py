"""The settings of a workspace: ``config.toml`` in it, overridden by environment variables.

Each field but a table can be set as ``NBOPS_<FIELD>``. Unknown names are refused, so a typo is not silent.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

import msgspec

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.core.roles import Roles, read_roles

PREFIX = "NBOPS_"
TABLES = ("roles",)  # these have no variable


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a workspace can be told.

    Attributes
    ----------
    store_url : str
        Database of records: ``postgresql://…``; empty for ``nbops.db`` in the workspace.
    artifacts_url : str
        Where files go: any fsspec URL (``s3://…``, a shared folder); empty for ``blobs/`` in the workspace.
    dataset_max_bytes : int, bytes
        Snapshots up to this size keep their data as an artifact; larger ones keep digest and profile only.
    cell_source_max_bytes : int, bytes
        Longer cell sources are cut when a cell is recorded.
    cell_outputs_max_bytes : int, bytes
        Longer outputs of a cell are cut when they are recorded; 0 keeps none.
    diff_max_bytes : int, bytes
        A longer difference to git's commit is left out of a run.
    capture_files : bool
        Whether runs note the files and URLs that were read.
    system_metrics : bool
        Whether CPU, memory, disk, network and GPUs are sampled while a run is open.
    system_metrics_interval_s : float, seconds
        Time between two samples.
    cpu_power_w : float, watts, optional
        Power of one busy core, for estimates of energy; by default from a table by the processor's name.
    energy_price_per_kwh : float, optional
        Price of a kilowatt-hour in `currency`; by default a European household's.
    currency : str
        Of the price; empty for EUR.
    co2_g_per_kwh : float, grams, optional
        CO₂ of a kilowatt-hour; by default the world's mean.
    max_test_looks : int
        How often a sealed test set may have been looked at before a model that was scored on it is given an alias; 0:
        any number of times.
    roles : table, optional
        Who may do what through a server's routes: names to ``viewer``, ``editor`` or ``approver``; ``default`` is the
        role of everybody else. Without the table everybody may do everything.
    """

    store_url: str = ""
    artifacts_url: str = ""
    dataset_max_bytes: int = 64 << 20
    cell_source_max_bytes: int = 64 << 10
    cell_outputs_max_bytes: int = 1 << 20
    diff_max_bytes: int = 4 << 20
    capture_files: bool = True
    system_metrics: bool = True
    system_metrics_interval_s: float = 5.0
    cpu_power_w: float | None = None
    energy_price_per_kwh: float | None = None
    currency: str = ""
    co2_g_per_kwh: float | None = None
    max_test_looks: int = 0
    roles: Roles | None = None


def read_settings(text: str, environ: Mapping[str, str]) -> Settings:
    """Return settings from the text of ``config.toml`` and from ``NBOPS_*`` variables.

    Raises
    ------
    InvalidInput
        The text is no TOML, a name or a role is unknown, or a value has the wrong type.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"config.toml cannot be read: {error}", hint="Mend or remove the file.") from error
    known = Settings.__struct_fields__
    for name in values:
        if name not in known:
            hint = did_you_mean(name, known) or f"Use one of: {', '.join(known)}"
            raise InvalidInput(f"config.toml has an unknown setting '{name}'", hint=hint)
    roles = read_roles(values.pop("roles")) if "roles" in values else None
    variables = {name: PREFIX + name.upper() for name in known if name not in TABLES}
    values.update({name: environ[variable] for name, variable in variables.items() if variable in environ})
    try:
        return msgspec.structs.replace(msgspec.convert(values, Settings, strict=False), roles=roles)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"a setting cannot be used: {error}", hint="Mend config.toml or the variable.") from error
