"""Secrets never reach the store: by key, by form, in sources, magics, patches, URLs; ordinary code stays as it is."""

from __future__ import annotations

import pytest

from nbops.tracking.redaction import REDACTED, redact, redact_line, redact_source, redact_url

HF = "hf_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("source", "clean"),
    [
        ("api_key = 'abc'", 'api_key = "[redacted]"'),
        ("x = 'é'; self.password = 'é' ; y = 1", "x = 'é'; self.password = \"[redacted]\" ; y = 1"),
        ("os.environ['HF_TOKEN'] = 'abc'", "os.environ['HF_TOKEN'] = \"[redacted]\""),
        ("os.environ.setdefault('API_KEY', 'abc')", "os.environ.setdefault('API_KEY', \"[redacted]\")"),
        ("login(token=f'a{b}')", 'login(token="[redacted]")'),
        ("d = {'secret': 'abc', 'lr': 'x'}", "d = {'secret': \"[redacted]\", 'lr': 'x'}"),
        ("user, password = 'me', 'abc'", "user, password = 'me', \"[redacted]\""),
        ("secrets = ['a', 'b']", 'secrets = ["[redacted]", "[redacted]"]'),
        ("def f(*, token='abc'): pass", 'def f(*, token="[redacted]"): pass'),
        ("password: str = 'a' if x else 'b'", 'password: str = "[redacted]" if x else "[redacted]"'),
        ("password = '''a\nb'''\nx = 1", 'password = "[redacted]"\n\nx = 1'),
        ("%env API_KEY=abc\nx = 1", "%env API_KEY=[redacted]\nx = 1"),
        ("!export GITHUB_TOKEN=abc && ls", "!export GITHUB_TOKEN=[redacted] && ls"),
        ("if x:\n    !login --password abc\n    y = 1", "if x:\n    !login --password [redacted]\n    y = 1"),
        ("%%bash\nexport A_TOKEN='abc'", "%%bash\nexport A_TOKEN='[redacted]'"),
        (f"k = '{HF}'", "k = '[redacted]'"),
        ("u = 'postgresql://me:pw@host/db'", "u = 'postgresql://[redacted]@host/db'"),
        ("api_key = 'abc", "api_key = 'abc"),  # no string at all: nothing runs that could use it
    ],
)
def test_secrets_leave_a_source(source: str, clean: str) -> None:
    assert redact_source(source) == clean
    assert redact_source(clean) == clean
    assert len(clean.split("\n")) == len(source.split("\n"))


@pytest.mark.parametrize(
    "source",
    [
        "token = os.environ['API_TOKEN']",
        "password = getpass('Password: ')",
        "pad_token = '<pad>'; max_tokens = '10'",
        "print('the password is not here')",
        "is_ok = password == 'abc'",
        "tokenizer = load('bert')",
        "lr = 0.1\n%time fit()\n!pip list",
        "url = 'https://host/a@b'",
    ],
)
def test_ordinary_sources_stay_as_they_are(source: str) -> None:
    assert redact_source(source) == source


def test_params_lose_secrets_by_key_and_by_form_at_any_depth() -> None:
    given = {"api_key": "a", "max_tokens": "9", "url": "s3://k:s@b", "n": {"db_password": "x", "lr": 0.1, "h": HF}}
    assert redact(given) == {
        "api_key": REDACTED,
        "max_tokens": "9",
        "url": f"s3://{REDACTED}@b",
        "n": {"db_password": REDACTED, "lr": 0.1, "h": REDACTED},
    }


def test_urls_keep_their_path_and_lose_what_opens_them() -> None:
    url = "https://me:pw@host/data.csv?page=2&api_key=abc&X-Amz-Signature=def#x"
    assert redact_url(url) == "https://host/data.csv?page=2&api_key=[redacted]&X-Amz-Signature=[redacted]"
    assert redact_url("https://host/data.csv") == "https://host/data.csv"


def test_a_line_of_any_language() -> None:
    assert redact_line('+  "client_secret": "abc",') == '+  "client_secret": "[redacted]",'
    assert redact_line('+  "client": "abc",') == '+  "client": "abc",'
