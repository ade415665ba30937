"""The check ``personal-data``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array, Column
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.rules.facts import texts

_MOST_TEXTS = 20_000
# bounded as RFC 5321 bounds them, so that a text of a million letters is read once
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){0,8}\.[A-Za-z]{2,24}(?![A-Za-z])")
_PHONE = re.compile(
    r"\+\d{1,3}[\s./-]?(\(\d+\)[\s./-]?)?\d[\d\s./-]{5,14}\d|\(\d{2,5}\)[\s./-]?\d[\d\s-]{4,12}\d|\d{3}-\d{3}-\d{4}"
)
_CARD = re.compile(r"\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}|3[47]\d{2}([ -]?)\d{6}\2\d{5}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}( ?[A-Z0-9]{4}){2,7}( ?[A-Z0-9]{1,3})?")
_SSN = re.compile(r"(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")  # United States
_AHV = re.compile(r"756\.\d{4}\.\d{4}\.\d{2}")  # Switzerland, with a check digit as EAN-13
_NINO = re.compile(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]")  # United Kingdom


def has_luhn(text: str) -> bool:
    """Tell whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    digits = [int(letter) for letter in text if letter.isdigit()][::-1]
    total = sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return len(digits) >= 12 and len(set(digits)) > 1 and total % 10 == 0


def has_iban_sum(text: str) -> bool:
    """Tell whether the check digits of an IBAN are right (ISO 13616: the number is 1 modulo 97)."""
    plain = text.replace(" ", "")
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


def has_ean_sum(text: str) -> bool:
    """Tell whether the last of thirteen digits is the check digit of the others (EAN-13)."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    return len(digits) == 13 and (sum(digits[0::2]) + 3 * sum(digits[1::2])) % 10 == 0


# what it is: pattern, proof by a check digit, and the chance that other text of that form passes the proof
KINDS: dict[str, tuple[re.Pattern[str], Callable[[str], bool] | None, float]] = {
    "email": (_EMAIL, None, 0.01),
    "card number": (_CARD, has_luhn, 0.1),
    "IBAN": (_IBAN, has_iban_sum, 1 / 97),
    "Swiss AHV number": (_AHV, has_ean_sum, 0.01),
    "US social security number": (_SSN, None, 0.1),
    "UK insurance number": (_NINO, None, 0.1),
    "phone number": (_PHONE, None, 0.1),
}


@checks.register("personal-data")
def personal_data(sample: Sample, *, max_share: float = 0.0, min_confidence: float = 0.8) -> Iterator[CheckResult]:
    """Columns with emails, phone, card or account numbers, or national identity numbers.

    What it measures
        The share of texts (and of whole numbers, for cards) that are such a number or hold an email address. Card
        numbers, IBANs and AHV numbers must have their right check digits. How sure it is, 0 to 1, counts the share of
        texts of that form whose check digits are right against the share that would be by chance; without check digits
        it is 0.9 for a column of them and less for a few. WARN above `max_share` where it is at least `min_confidence`
        sure.

    Why it matters
        Personal data in a table for training ends up in models, logs and snapshots, where the law asks for a reason.

    When it is wrong
        Product codes that look like phone numbers; addresses of a company ("info@…"). Names and birthdays are not
        looked for.

    Fix
        Drop the column, or replace it by a keyed hash.

    References
        ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN).
    """
    for column in sample.columns:
        found = _found(sample, column)
        if found is None:
            continue
        kind, confidence, hits, inverse, counts = found
        present = sample.facts.present(column.name)
        count = int(counts[hits].sum())
        share = count / present if present else 0.0
        yield judged(
            share if confidence >= min_confidence else 0.0,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {present:,} values are or hold a {kind} ({percent(share)}), "
            f"{100 * confidence:.0f} % sure",
            fix="Drop the column, or replace it by a keyed hash.",
            evidence={"kind": kind, "confidence": confidence, "values": count},
            rows=hits[inverse],
        )


def _found(sample: Sample, column: Column) -> tuple[str, float, Array, Array, Array] | None:
    """Return the surest kind of personal data, which distinct values are it, and how they lie; None if none."""
    is_whole = column.offsets is None and not column.is_tensor and column.dtype in ("int64", "uint64")
    if not column.is_text and not is_whole:
        return None
    if is_whole and (sample.facts.extremes(column.name, column.values)[1] or 0) < 10**12:
        return None
    first, inverse, counts = sample.facts.distinct(column.name)
    step = max(1, len(first) // _MOST_TEXTS)
    asked = np.arange(0, len(first), step)
    if column.missing is not None:
        asked = asked[~column.missing[first[asked]]]
    said = texts(column, first[asked])
    best: tuple[str, float, Array] | None = None
    for kind, (pattern, proof, chance) in KINDS.items():
        if is_whole and kind != "card number":
            continue
        search = pattern.search if kind == "email" else pattern.fullmatch
        shaped = [(at, text) for at, text in zip(asked.tolist(), said, strict=True) if search(text.strip())]
        proven = [at for at, text in shaped if proof is None or proof(text.strip())]
        if not proven:
            continue
        confidence = _confidence(len(proven), len(shaped), len(asked), chance, has_proof=proof is not None)
        if best is None or confidence > best[1]:
            hits = np.zeros(len(first), np.bool_)
            hits[proven] = True
            best = (kind, confidence, hits)
    return None if best is None else (*best, inverse, counts)


def _confidence(proven: int, shaped: int, asked: int, chance: float, *, has_proof: bool) -> float:
    """Return how sure it is, 0 to 1: whether so many right check digits, or so many of the form, can be chance."""
    if not has_proof:
        return 0.9 - chance if proven < 3 and proven < 0.5 * asked else 1 - chance
    share = proven / shaped
    if share < 3 * chance:
        return 0.0
    return round(1 - chance ** min(proven, 3) * (1 if share > 0.5 else 2), 4)
