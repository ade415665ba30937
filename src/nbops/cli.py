"""`nbops VERB args --option value`: the verbs of the magic on the command line.

Exit codes: 0 done, 1 it failed, 2 the line cannot be understood, 130 interrupted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

from nbops.core.errors import NbopsError
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.words import UsageError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``nbops``; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ shows ? and goes on
    if words[:1] in (["--version"], ["-V"]):
        from nbops import __version__

        print(f"nbops {__version__}")
        return DONE
    as_json = "--json" in words
    try:
        if words[:1] == ["mlflow-server"]:
            from nbops.server.mlflow.standalone import main as serve_mlflow

            return serve_mlflow(words[1:])
        value = dispatch([word for word in words if word != "--json"], Call())
        if value is not None:
            print(_json(value) if as_json else _text(value), flush=True)
    except UsageError as error:
        return _say(error, MISUSED)
    except NbopsError as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        print("nbops: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = io.TextIOWrapper(io.BytesIO())  # so that closing it at exit does not complain
        return DONE
    return DONE if getattr(value, "is_well", True) else FAILED


def _say(error: NbopsError, code: int) -> int:
    print(f"nbops: {error.message}", file=sys.stderr)
    if error.hint:
        print(error.hint, file=sys.stderr)
    return code


def _text(value: Any) -> str:
    from nbops.core.display import mimebundle

    return str(mimebundle(value)["text/plain"])


def _json(value: Any) -> str:
    """Return a value as JSON; what JSON cannot say (NaN, infinities) is null."""
    import msgspec

    from nbops.core.table import Table

    plain = list(value) if isinstance(value, Table) else getattr(value, "record", value)
    data = msgspec.json.encode(plain, enc_hook=_encode)
    return msgspec.json.format(data, indent=2).decode()


def _encode(value: Any) -> Any:
    from nbops.core.table import Table

    return list(value) if isinstance(value, Table) else str(value)


if __name__ == "__main__":
    sys.exit(main())
