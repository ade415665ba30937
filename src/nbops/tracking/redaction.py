"""What looks like a secret, by its key or by its own form, is replaced before anything is stored."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

REDACTED = "[redacted]"
_WORDS = r"token|secret|password|passwd|pwd|api_?key|access_?key|credentials?|private_?key|passphrase"
_SECRET = re.compile(rf"(?i)(^|[_\-.])({_WORDS})s?($|[_\-.])")
# Counts of tokens are no secrets: language models have them as hyper-parameters; nor are their special tokens.
_HARMLESS = re.compile(
    r"(?i)(max|num|n|total|per|new|min)[_\-.]?.*token|(pad|eos|bos|unk|mask|cls|sep|special|stop|decoder)\w*_token"
)
# Keys of well-known services, web tokens, private keys, and the password of a URL.
_FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"']*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|(?<=://)[^\s/:@\"']*:[^\s/@\"']+(?=@)"
)
_QUOTED = re.compile(
    r"(?P<head>(?P<key>[A-Za-z_][\w.\-]*)[\"']?\]?\s*(?::\s*[A-Za-z_][\w.\[\]| ]*)?(?:=|:|,)\s*)[rbufRBUF]{0,2}"
    r"(?P<quote>\"\"\"|'''|\"|')(?P<value>.*?)(?P=quote)"
)
_BARE = re.compile(rf"(?i)(?P<head>(?P<key>[\w.\-]*(?:{_WORDS})[\w.\-]*)(?:=|:\s|\s+))(?P<value>[^\s\"'=]+)")
_SHELL = re.compile(r"\s*(%|!)")
_Span = tuple[int, int, int, int]


def is_secret(key: str) -> bool:
    """Return whether a key looks like that of a secret."""
    return bool(_SECRET.search(key)) and not _HARMLESS.search(key)


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which the value of each secret-looking key is replaced, at any depth."""
    return {str(key): _value(str(key), value) for key, value in values.items()}


def _value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact(value)
    if is_secret(key) and value is not None and not isinstance(value, bool | int | float):
        return REDACTED
    return _FORMS.sub(REDACTED, value) if isinstance(value, str) else value


def redact_source(source: str) -> str:
    """Return a cell's source without the string literals that are given to secret-looking names.

    Assignments, keyword arguments, entries of dictionaries and environments, and lines of magics
    are looked at; a literal that has the form of a well-known key is replaced wherever it stands.
    """
    if not _SECRET.search(source) and not re.search(rf"(?i){_WORDS}", source) and not _FORMS.search(source):
        return source
    lines = source.split("\n")
    shell = [n for n, line in enumerate(lines) if _SHELL.match(line)]
    python = [re.sub(r"\S.*", "pass", line) if n in shell else line for n, line in enumerate(lines)]
    try:
        spans = set(_spans(ast.parse("\n".join(python))))
    except (SyntaxError, ValueError, RecursionError):  # no plain Python: look line by line
        return _FORMS.sub(REDACTED, "\n".join(redact_line(line) for line in lines))
    for n in shell:
        lines[n] = redact_line(lines[n])
    for first, start, last, end in sorted(spans, reverse=True):
        head = lines[first - 1].encode()[:start].decode()
        tail = lines[last - 1].encode()[end:].decode()
        lines[first - 1 : last] = [f'{head}"{REDACTED}"{tail}', *[""] * (last - first)]
    return _FORMS.sub(REDACTED, "\n".join(lines))


def redact_line(line: str) -> str:
    """Return a line of any language with what is given to secret-looking keys replaced, quoted or (in magics) bare."""
    line = _QUOTED.sub(_without_value, line)
    if _SHELL.match(line):
        line = _BARE.sub(_without_value, line)
    return _FORMS.sub(REDACTED, line)


def redact_url(url: str) -> str:
    """Return a URL without user, password and the values of secret-looking query keys."""
    parts = urlsplit(url)
    query = [(key, REDACTED if is_secret(key) or "sig" in key.lower() else value)
             for key, value in parse_qsl(parts.query)]  # fmt: skip
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(query, safe="[]"), ""))


def _without_value(match: re.Match[str]) -> str:
    if not is_secret(match["key"]) or match["value"] in ("", REDACTED):
        return match[0]
    quote = match.groupdict().get("quote") or ""
    return f"{match['head']}{quote}{REDACTED}{quote}"


def _spans(tree: ast.AST) -> Iterator[_Span]:
    """Yield where literals stand that are given to secret-looking names."""
    for node in ast.walk(tree):
        for key, value in _pairs(node):
            if value is not None and is_secret(key):
                yield from _literals(value)


def _pairs(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List) and isinstance(node.value, ast.Tuple | ast.List):
                yield from ((_key(t), v) for t, v in zip(target.elts, node.value.elts, strict=False))
            else:
                yield _key(target), node.value
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
        yield _key(node.target), node.value
    elif isinstance(node, ast.keyword):
        yield node.arg or "", node.value
    elif isinstance(node, ast.Dict):
        yield from ((_key(k), v) for k, v in zip(node.keys, node.values, strict=True) if k is not None)
    elif isinstance(node, ast.Call) and len(node.args) > 1:  # os.environ.setdefault("API_KEY", "…")
        yield _text(node.args[0]), node.args[1]
    elif isinstance(node, ast.arguments):
        named = [*node.posonlyargs, *node.args]
        yield from zip((a.arg for a in named[len(named) - len(node.defaults) :]), node.defaults, strict=True)
        yield from zip((a.arg for a in node.kwonlyargs), node.kw_defaults, strict=True)


def _key(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return _text(node.slice if isinstance(node, ast.Subscript) else node)


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _literals(value: ast.expr) -> Iterator[_Span]:
    """Yield the string literals of a value; not those that select something, as in ``os.environ["API_KEY"]``."""
    if isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str | bytes)):
        if value.end_lineno is not None and value.end_col_offset is not None:
            yield value.lineno, value.col_offset, value.end_lineno, value.end_col_offset
    elif isinstance(value, ast.Tuple | ast.List | ast.Set):
        for item in value.elts:
            yield from _literals(item)
    elif isinstance(value, ast.BinOp):
        yield from _literals(value.left)
        yield from _literals(value.right)
    elif isinstance(value, ast.IfExp | ast.BoolOp):
        for part in [value.body, value.orelse] if isinstance(value, ast.IfExp) else value.values:
            yield from _literals(part)
