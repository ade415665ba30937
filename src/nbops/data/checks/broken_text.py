"""The check ``broken-text``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.text.reading import is_running, rows_with

# UTF-8 that was read as Latin-1 or Windows-1252 and written as UTF-8 again: é becomes Ã©, ’ becomes â€™
_TWICE = re.compile(rb"\xc3[\x82\x83]\xc2[\x80-\xbf]|\xc3\xa2(?:\xe2\x82\xac|\xc2\x80)(?:\xe2|\xc2|\xc5|\xc3)")
_MARKUP = re.compile(
    rb"&(?:amp|lt|gt|quot|nbsp|apos|#\d{2,5}|#x[0-9a-f]{2,5});"
    rb"|</?(?:p|br|div|span|a|b|i|u|em|strong|li|ul|ol|h[1-6]|table|tr|td|img|script|style)(?:\s[^<>\n]{0,200})?/?>",
    re.IGNORECASE,
)


@checks.register("broken-text")
def broken_text(sample: Sample, *, max_share: float = 0.0, usual_share: float = 0.5) -> Iterator[CheckResult]:
    """Texts that were decoded twice, or hold what is left of a web page.

    What it measures
        The share of texts with a sequence that only UTF-8 read as Latin-1 makes (Ã©, â€™), and of running texts with an
        HTML entity or tag. WARN above `max_share`; markup in more than `usual_share` of the texts is how the column is.

    Why it matters
        A tokenizer cuts Ã© and &nbsp; into pieces that mean nothing, and a model learns which source was scraped.

    When it is wrong
        Texts about character sets; markup that is kept on purpose in a few rows.

    Fix
        text.encode("cp1252").decode("utf-8"), or read the file as UTF-8; html.unescape(text), and strip tags.

    References
        Speer, "ftfy", Zenodo, 2019 (on texts that were decoded twice).
    """
    for column in sample.columns:
        if not column.is_text or not sample.facts.present(column.name):
            continue
        kinds = [("were decoded twice", _TWICE, 'Read the file as UTF-8, or text.encode("cp1252").decode("utf-8").')]
        if is_running(column):
            kinds.append(("hold markup", _MARKUP, "html.unescape(text), and strip tags."))
        for what, pattern, fix in kinds:
            found, shown = rows_with(column, pattern)
            count = int(np.count_nonzero(found))
            share = count / sample.facts.present(column.name)
            usual = pattern is _MARKUP and share > usual_share
            examples = ", ".join(repr(one.decode("utf-8", "replace")) for one in dict.fromkeys(shown))
            yield judged(
                share,
                warn=None if usual else max_share,
                column=column.name,
                unit="share",
                message=f"{count:,} of {sample.facts.present(column.name):,} texts {what} ({percent(share)})"
                f"{': ' if examples else ''}{examples}",
                fix=fix,
                rows=found,
            )
