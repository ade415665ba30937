"""Verbs of models: register, models, promote, rollback."""

from __future__ import annotations

from typing import Any

from nbops.verbs.grammar import Call, argument, verb


@verb(
    "register",
    argument("variable", "the model: a variable of the notebook", completes="variables"),
    argument("name", "name to register it under", completes="models"),
    argument("--example", "real rows as the model takes them: a variable", completes="variables", values="VARIABLE"),
    argument("--alias", "an alias to move to the new version; may be repeated", form="list", completes="aliases"),
    examples=("%mlops register net digits --example x_test --alias prod",),
    is_notebook_only=True,
)
def register(call: Call, *, variable: str, name: str, example: str | None, alias: list[str]) -> Any:
    """Export a model, check that the export computes the same, and register it as a version."""
    from nbops.verbs.words import UsageError

    if example is None:
        raise UsageError("'register' needs --example", hint="Write --example x, where x holds real rows.")
    model, rows = call.variable(variable), call.variable(example)
    from nbops.models.registering import register as register_model

    return register_model(model, name, example=rows, aliases=tuple(alias))


@verb(
    "models",
    argument("where", 'a query: name == "digits" and metrics.acc > 0.9', form="expression", completes="fields"),
    argument("--order-by", "sort keys: 'metrics.acc desc'", completes="fields", values="KEYS"),
    argument("--last", "show at most so many", kind=int, default=20, short="-n", values="N"),
    examples=("%mlops models", "%mlops models metrics.acc > 0.9"),
)
def models(call: Call, *, where: str, order_by: str | None, last: int) -> Any:
    """List model versions, newest first."""
    from nbops.tracking.reading import find

    return find("models", where or None, order_by=order_by, limit=last)


@verb(
    "promote",
    argument("name", "the model", completes="models"),
    argument("version", "number of the version", kind=int, completes="versions"),
    argument("alias", "the alias to move: prod", completes="aliases"),
    argument("--reason", "why; kept in the alias's history", default="", values="TEXT"),
    argument("--max-looks", "looks at the sealed test set that are allowed; 0: any number", kind=int, values="N"),
    argument("--override", "let it through with more looks; needs a reason", form="flag"),
    examples=('%mlops promote digits 3 prod --reason "better on new scans"',),
)
def promote(
    call: Call, *, name: str, version: int, alias: str, reason: str, max_looks: int | None, override: bool
) -> Any:
    """Move an alias to a version."""
    from nbops.models.aliases import promote as move

    return move(name, version, alias, reason=reason, max_looks=max_looks, override=override)


@verb(
    "rollback",
    argument("name", "the model", completes="models"),
    argument("alias", "the alias to move back", completes="aliases"),
    examples=("%mlops rollback digits prod",),
)
def rollback(call: Call, *, name: str, alias: str) -> Any:
    """Move an alias back to the version before."""
    from nbops.models.aliases import rollback as move_back

    return move_back(name, alias)
