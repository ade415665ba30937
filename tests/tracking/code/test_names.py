"""Names that a cell reads and writes: a table of cases, and programs whose truth is found by executing them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.tracking.code.names import reads_writes

CASES = [
    # source, reads, writes
    ("x = 1", "", "x"),
    ("y = x + 1", "x", "y"),
    ("x = 1\ny = x", "", "x y"),
    ("x = x + 1", "x", "x"),
    ("x += 1", "x", "x"),
    ("x: int", "", ""),
    ("x: float = y", "y", "x"),
    ("(a, *b), c.d = q", "q c", "a b c"),
    ("import numpy as np, os.path\nfrom a.b import c as d, e", "", "np os d e"),
    ("from m import *", "", "*"),
    ("df['a'] = 1", "df", "df"),
    ("model.layer[0].bias = b", "b model", "model"),
    ("df = f()\ndf.a = 1", "f", "df"),
    ("d[k] += v", "v d k", "d"),
    ("rows.append(row)", "rows row", ""),
    ("f(x).a = 1", "f x", ""),
    ("del x", "x", "x"),
    ("del d['a']", "d", "d"),
    ("print(len(x))", "x", ""),
    ("for i, v in pairs: t = i\nprint(i)", "pairs", "i v t"),
    ("with open(p) as f, g() as (a, b): f.read()", "p g", "f a b"),
    ("try:\n    x = 1\nexcept E as e:\n    print(e)\nelse:\n    y\nfinally:\n    z = 1", "E y", "x e z"),
    ("if a:\n    x = 1\nelse:\n    print(x)\nprint(x)", "a x", "x"),
    ("if a:\n    x = 1\nelse:\n    x = 2\nprint(x)", "a", "x"),
    ("while n > 0:\n    n -= 1", "n", "n"),
    ("y = x if a else z", "a x z", "y"),
    ("if (n := len(a)) > 2: print(n)", "a", "n"),
    ("match v:\n    case {'a': x, **rest}: x\n    case [y, *more] if y > k: more\n    case C() as c: c", "v k C",
     "x rest y more c"),
    # comprehensions have a scope of their own; their first iterable and := have the cell's
    ("z = [a * i for i in rows for j in i if j]", "rows a", "z"),
    ("z = [x for x in x]", "x", "z"),
    ("i = 1\nz = {i: v for v in d}", "d", "i z"),
    ("z = [y := f(x) for x in xs]\ny", "xs f", "y z"),
    ("g = (a for a in b)", "b", "g"),
    # functions: what their bodies take is read late
    ("def f(a, b=c, *args, d: T = 1, **kw) -> R:\n    e = a + g\n    return e, args, kw", "c T R g", "f"),
    ("def f(): return k\nk = 1\nf()", "", "f k"),
    ("def f(): return k\nf()\nk = 1", "k", "f k"),
    ("def f(): return f", "", "f"),
    ("def f():\n    return g()\ndef g():\n    return h", "h", "f g"),
    ("def f():\n    def g(): return a + b\n    a = 1\n    return g", "b", "f"),
    ("def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g", "", "f"),
    ("def f():\n    global n\n    n = 1", "", "n f"),
    ("def f():\n    global n\n    n += 1", "n", "n f"),
    ("def f():\n    rows[0] = 1", "rows", "f"),
    ("@deco(a)\ndef f(): pass", "deco a", "f"),
    ("f = lambda x, y=d: x + y + k\nk = 1\nf(1)", "d", "f k"),
    ("sorted(xs, key=lambda r: r[k])\nk = 1", "xs k", "k"),
    ("async def f():\n    async for a in b: await a\n    async with c as d: d", "b c", "f"),
    ("x = await fetch(u)", "fetch u", "x"),
    # classes: the body runs at once, methods later
    ("class A(Base, metaclass=M):\n    a = b\n    c = a\n    def m(self): return self.a + q + a", "Base M b q a", "A"),
    ("class A:\n    def m(self): return k\nk = 1\nA().m()", "", "A k"),
    # IPython's own syntax
    ("%matplotlib inline\nx = y", "y", "x"),
    ("%%mlops run name -p lr 0.1\nz = x", "x", "z"),
    ("%%time\nz = x", "x", "z"),
    ("%%timeit\nz = x", "x", ""),
    ("%%capture out\nprint(x)", "x", "out"),
    ("%%bash\necho x = $y", "", ""),
    ("%%writefile a.py\nx = y", "", ""),
    ("files = !ls {folder} $other", "folder other", "files"),
    ("!pip list\ny = x", "x", "y"),
    ("%time z = f(x)", "f x", "z"),
    ("%timeit -n 10 z = f(x)", "f x", ""),
    ("%run other.ipynb", "", "*"),
    ("%mlops check df --suite s", "df", ""),
    ("%mlops runs metrics.acc > 0.9", "", ""),
    ("df.head?", "", ""),
    ("x?\ny = z", "z", "y"),
    # nothing to say
    ("", "", ""),
    ("# only words", "", ""),
    ("x = (", "", ""),
    ("\x00", "", ""),
    ("s = '\\d'\nn = 1if s else 2", "", "s n"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "reads", "writes"), CASES)
def test_reads_and_writes(source: str, reads: str, writes: str) -> None:
    import IPython.core.inputtransformer2  # noqa: F401 (loaded, as in a notebook)

    found = reads_writes(source)
    assert [sorted(names) for names in found] == [sorted(reads.split()), sorted(writes.split())]


def test_without_ipython_magics_are_left_out() -> None:
    code = (
        "import sys; from nbops.tracking.code.names import reads_writes as rw;"
        "print(rw('%matplotlib inline\\n!ls\\nx = y\\nz?'), 'IPython' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(['y'], ['x']) False\n"


def test_deep_source_gives_nothing_and_raises_nothing() -> None:
    assert reads_writes("x = " + "(" * 5000 + ")" * 5000) == ([], [])
    assert reads_writes("x = " + "-" * 100_000 + "1") == ([], [])


@given(st.text(alphabet="xyz=+-()[]{}:,.%!?\n\t '\"\\@defclassforinlambdaawait0123456789", max_size=200))
def test_any_text_is_taken(source: str) -> None:
    reads, writes = reads_writes(source)
    assert len(set(reads)) == len(reads)
    assert len(set(writes)) == len(writes)


class Watched(dict[str, Any]):
    """A namespace that notes what is taken before the program itself has put it there."""

    def __init__(self) -> None:
        super().__init__({name: 1 for name in "abcde"})
        self.taken: set[str] = set()
        self.put: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self.put and name in self:
            self.taken.add(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.put.add(name)
        super().__setitem__(name, value)


_names = st.sampled_from("abcde")
_terms = st.one_of(_names, st.just("1"), st.builds("{} + {}".format, _names, _names))
_statements = st.one_of(
    st.builds("{} = {}".format, _names, _terms),
    st.builds("{} += {}".format, _names, _terms),
    st.builds("abs({}) if True else {}".format, _terms, st.just("1")),
    st.builds("{}, {} = {}, {}".format, _names, _names, _terms, _terms),
    st.builds("for {} in range({} and 2): {} = {}".format, _names, _terms, _names, _terms),
    st.builds("{} = sum([{} * {} for {} in [{}]])".format, _names, _names, _terms, _names, _terms),
    st.builds("{} = ({} := {})".format, _names, _names, _terms),
)


@given(st.lists(_statements, min_size=1, max_size=6))
def test_straight_programs_read_and_write_what_executing_them_does(statements: list[str]) -> None:
    source = "\n".join(statements)
    seen = Watched()
    comprehension = "for" in source and "[" in source
    exec(source, {**({n: 1 for n in "abcde"} if comprehension else {})}, seen)  # noqa: S102
    reads, writes = reads_writes(source)
    assert set(writes) == seen.put
    if not comprehension:  # a comprehension of `exec` looks past the watched namespace
        assert set(reads) == seen.taken
