"""Forms of text that mean something, and words in column names that tell a unit or a sort of number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

_MONTH = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    r"(\d{4}[-/.](0?[1-9]|1[0-2])[-/.](0?[1-9]|[12]\d|3[01])|(0?[1-9]|[12]\d|3[01])[-/.](0?[1-9]|[12]\d|3[01])[-/.](19|20)?\d\d"
    rf"|(0?[1-9]|[12]\d|3[01])[ .-]*({_MONTH})[a-z]*[ ,.-]*\d{{2,4}}|({_MONTH})[a-z]*\.? \d{{1,2}},? \d{{4}})"
    r"([T ]\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[ap]m)?( ?(Z|UTC|[+-]\d\d:?\d\d))?)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"[+-]?(\d{1,3}([, '’]\d{3})+([.]\d+)?|\d{1,3}([. ]\d{3})+(,\d+)?|\d+([.,]\d*)?|[.]\d+)([eE][+-]?\d+)?"
)
_PERCENT = re.compile(rf"{_NUMBER.pattern} ?%")
_CURRENCY = "[€$£¥₹]|EUR|USD|GBP|CHF|JPY|CNY|INR"
_AMOUNT = re.compile(rf"-?({_CURRENCY}) ?{_NUMBER.pattern}|{_NUMBER.pattern} ?({_CURRENCY})")
_MEASURE = re.compile(
    rf"{_NUMBER.pattern} ?(?P<unit>[kmcµn]?m|[kmµ]?g|[mµ]?l|ms|s|h|min|k?Wh?|°C|°F|K|mph|km/h|kB|MB|GB|Hz|kHz)"
)
_EMAIL = re.compile(r"[\w.+'%-]+@[\w-]+(\.[\w-]+)*\.[A-Za-z]{2,}")
_URL = re.compile(r"(?:(?:https?|ftp|s3|gs)://|www\.)[^\s/]+\.?[^\s]*", re.IGNORECASE)
_PHONE = re.compile(r"(\+|00)[1-9]\d{0,2}[ .()/-]*(\d[ .()/-]*){6,13}|\(?0?\d{2,4}\)?[ ./-](\d[ ./-]*){5,10}")
_POSTCODE = re.compile(
    r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{4} ?[A-Z]{2}"
    r"|\d{5}-\d{4}|\d{2}-\d{3}|[A-Z]{1,2}-\d{4,5}"
)
_DIGITS_4_TO_6 = re.compile(r"\d{4,6}")
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_ADDRESS = re.compile(r"((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)")
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"}, {"ja", "nein"}, {"oui", "non"})
# ISO 3166-1 alpha-2, in pairs of letters
_COUNTRIES = (
    "ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCGCHCICKCLCMCNCOCRCUCVCWCXCYCZDE"
    "DJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJP"
    "KEKGKHKIKMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZ"
    "OMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZTCTDTFTGTHTJTKTLTMTNTOTRTTTVTW"
    "TZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSYEYTZAZMZW"
)
COUNTRIES = frozenset(_COUNTRIES[i : i + 2] for i in range(0, len(_COUNTRIES), 2))


def _is_json(text: str) -> bool:
    if text[:1] not in "{[" or len(text) > 100_000:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _whole(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


# The first that nearly all texts fit is taken: narrower forms first.
FORMS: dict[str, Callable[[str], bool]] = {
    "email": _whole(_EMAIL),
    "url": _whole(_URL),
    "uuid": _whole(_UUID),
    "ip-address": _whole(_ADDRESS),
    "json": _is_json,
    "date-as-text": _whole(_DATE),
    "postcode": _whole(_POSTCODE),
    "percentage-as-text": _whole(_PERCENT),
    "amount-as-text": _whole(_AMOUNT),
    "measure-as-text": _whole(_MEASURE),
    "number-as-text": _whole(_NUMBER),
    "phone": _whole(_PHONE),
}  # fmt: skip
DIGITS = _whole(_DIGITS_4_TO_6)


def measure_unit(text: str) -> str:
    """Return the unit of a text such as ``12 kg``, or the currency of an amount."""
    found = _MEASURE.fullmatch(text)
    if found:
        return found["unit"]
    sign = re.search(_CURRENCY, text)
    return {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR"}.get(sign[0], sign[0]) if sign else ""


def is_boolean(values: set[str]) -> bool:
    """Tell whether texts are two spellings of true and false."""
    return any({value.strip().lower() for value in values} == pair for pair in _BOOLEANS)


def words_of(name: str) -> list[str]:
    """Return the words of a column's name: ``unitPriceEUR`` and ``unit_price_eur`` have the same."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9°%€$£]+", spaced.lower()) if word]


_UNITS = {
    **{unit: unit for unit in ("mm", "cm", "km", "kg", "mg", "ms", "mph")},
    "kwh": "kWh", "mwh": "MWh", "kw": "kW", "kb": "kB", "mb": "MB", "gb": "GB", "hz": "Hz", "khz": "kHz", "mhz": "MHz",
    "meters": "m", "metres": "m", "feet": "ft", "ft": "ft", "inches": "in", "miles": "mi", "lbs": "lb", "lb": "lb",
    "seconds": "s", "secs": "s", "sec": "s", "minutes": "min", "mins": "min", "hours": "h", "hrs": "h", "days": "d",
    "celsius": "°C", "degc": "°C", "fahrenheit": "°F", "degf": "°F", "kelvin": "K", "bytes": "B", "kmh": "km/h",
    "eur": "EUR", "euro": "EUR", "euros": "EUR", "usd": "USD", "dollars": "USD", "gbp": "GBP", "chf": "CHF",
    "jpy": "JPY", "cents": "ct", "€": "EUR", "$": "USD", "£": "GBP", "percent": "%", "pct": "%", "%": "%", "bpm": "bpm",
    "mmhg": "mmHg",
}  # fmt: skip
_LAST_UNITS = {
    "m": "m",
    "s": "s",
    "g": "g",
    "h": "h",
    "c": "°C",
    "f": "°F",
    "l": "l",
    "w": "W",
    "v": "V",
    "us": "µs",
    "ns": "ns",
}


def unit_of_name(name: str) -> str:
    """Return the unit that a column's name tells (``height_cm``), or an empty string."""
    words = words_of(name)
    for word in reversed(words[1:] if len(words) > 1 else []):
        if word in _UNITS:
            return _UNITS[word]
    return _LAST_UNITS.get(words[-1], "") if len(words) > 1 else ""


# words in names; the sort of number they speak for
NAME_HINTS: dict[str, frozenset[str]] = {
    "id": frozenset({"id", "ids", "key", "uuid", "guid", "index", "idx", "nr", "code", "number"}),
    "year": frozenset({"year", "yr", "jahr", "annee"}),
    "amount": frozenset(
        {"price", "cost", "costs", "amount", "revenue", "salary", "income", "fee", "fare", "sales", "balance",
         "payment", "eur", "usd", "gbp", "tax", "budget", "spend"}
    ),
    "percentage": frozenset({"pct", "percent", "percentage", "%"}),
    "share": frozenset({"share", "ratio", "fraction", "rate", "prob", "probability", "proportion"}),
    "latitude": frozenset({"lat", "latitude"}),
    "longitude": frozenset({"lon", "lng", "long", "longitude"}),
    "phone": frozenset({"phone", "telephone", "tel", "mobile", "fax"}),
    "postcode": frozenset({"zip", "zipcode", "postcode", "postal", "plz"}),
    "country-code": frozenset({"country", "nation", "nationality", "iso", "iso2"}),
    "epoch": frozenset({"time", "timestamp", "ts", "epoch", "at", "created", "updated", "date"}),
}  # fmt: skip


def hints(name: str, sort: str) -> bool:
    """Tell whether a word in the column's name speaks for a sort."""
    return not NAME_HINTS[sort].isdisjoint(words_of(name))


def is_whole(value: float | None) -> bool:
    """Tell whether a number is whole."""
    return value is not None and math.isfinite(value) and float(value).is_integer()
