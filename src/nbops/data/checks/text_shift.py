"""The check ``text-shift``."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.text.reading import chosen_texts, is_running, scripts_of, unknown_share, words_of

_MOST = 20_000  # texts that are looked at
_FEWEST = 40


@checks.register("text-shift")
def text_shift(
    sample: Sample, *, max_script: float = 0.1, max_unknown: float = 0.05, times: float = 2.0
) -> Iterator[CheckResult]:
    """Texts in another script, or with other words, than the baseline's.

    What it measures
        The share of letters in each script (Latin, Cyrillic, Han …), and the share of words that half of the baseline
        does not have, beside that of the baseline's other half. WARN where a script's share differs by more than
        `max_script`; where more words are unknown than `times` as many and `max_unknown` beyond. From 40 texts on both
        sides; needs the baseline as data, not as a profile.

    Why it matters
        A new market, another product, another source: a tokenizer and its model have not seen these words, and give
        an answer all the same.

    When it is wrong
        Texts about new events use new names; a small baseline knows few words, which the comparison with its own half
        makes up for.

    Fix
        Look at the new words; train with such texts, or keep them away from the model.

    References
        Fu et al., "Rethinking generalization of neural models: a named entity recognition case study", AAAI 2020 (on
        unseen words).
    """
    reference = sample.reference
    if reference is None:
        yield skipped("no baseline was given as data", fix="Pass baseline=: the texts to compare with.")
        return
    for column in sample.columns:
        if not is_running(column) or column.name not in reference.names or not reference.column(column.name).is_text:
            continue
        now, before = chosen_texts(column, _MOST), chosen_texts(reference.column(column.name), _MOST)
        if min(len(now), len(before)) < _FEWEST:
            continue
        yield _scripts(column.name, scripts_of(now), scripts_of(before), max_script)
        known = words_of(before[::2])
        new = words_of(now)
        usual, share = unknown_share(words_of(before[1::2]), known), unknown_share(new, known)
        unseen = [word for word, _ in (new - known).most_common(2000) if word not in known][:5]
        yield judged(
            share,
            warn=max(times * usual, usual + max_unknown),
            column=column.name,
            unit="share",
            message=f"{percent(share)} of the words are unknown to the baseline, of its own other half "
            f"{percent(usual)}: {', '.join(unseen) or 'none'}",
            fix="Look at the new words; train with such texts, or keep them away from the model.",
            evidence={"words": unseen},
        )


def _scripts(column: str, now: dict[str, float], before: dict[str, float], limit: float) -> CheckResult:
    change = {script: now.get(script, 0.0) - before.get(script, 0.0) for script in {*now, *before}}
    script = max(change, key=lambda one: (change[one], one), default="")  # what was gained
    said = "no letters" if not script else (
        f"{script.capitalize()} has {percent(now.get(script, 0.0))} of the letters, "
        f"{percent(before.get(script, 0.0))} in the baseline"
    )  # fmt: skip
    return judged(change.get(script, 0.0), warn=limit, column=column, unit="share", message=said,
                  fix="Tell the languages apart, and train with each.")  # fmt: skip
