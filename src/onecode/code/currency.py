"""Currencies (ISO 4217) and amounts of money as text: exact, in integers of minor units.

The table holds the active currencies that have minor units, with the changes up to January 2026. Fund codes, precious
metals and test codes are left out: nobody pays a merchant with them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onecode.errors import Malformed

AMOUNT_CHARS_MAX = 13  # EMVCo object 54

# alphabetic code and numeric code, by the number of decimals
_TABLE = {
    0: """
    BIF108 CLP152 DJF262 GNF324 ISK352 JPY392 KMF174 KRW410 PYG600 RWF646 UGX800 VND704 VUV548 XAF950 XOF952
    XPF953
    """,
    2: """
    AED784 AFN971 ALL008 AMD051 AOA973 ARS032 AUD036 AWG533 AZN944 BAM977 BBD052 BDT050 BMD060 BND096 BOB068
    BRL986 BSD044 BTN064 BWP072 BYN933 BZD084 CAD124 CDF976 CHF756 CNY156 COP170 CRC188 CUP192 CVE132 CZK203
    DKK208 DOP214 DZD012 EGP818 ERN232 ETB230 EUR978 FJD242 FKP238 GBP826 GEL981 GHS936 GIP292 GMD270 GTQ320
    GYD328 HKD344 HNL340 HTG332 HUF348 IDR360 ILS376 INR356 IRR364 JMD388 KES404 KGS417 KHR116 KPW408 KYD136
    KZT398 LAK418 LBP422 LKR144 LRD430 LSL426 MAD504 MDL498 MGA969 MKD807 MMK104 MNT496 MOP446 MRU929 MUR480
    MVR462 MWK454 MXN484 MYR458 MZN943 NAD516 NGN566 NIO558 NOK578 NPR524 NZD554 PAB590 PEN604 PGK598 PHP608
    PKR586 PLN985 QAR634 RON946 RSD941 RUB643 SAR682 SBD090 SCR690 SDG938 SEK752 SGD702 SHP654 SLE925 SOS706
    SRD968 SSP728 STN930 SVC222 SYP760 SZL748 THB764 TJS972 TMT934 TOP776 TRY949 TTD780 TWD901 TZS834 UAH980
    USD840 UYU858 UZS860 VED926 VES928 WST882 XCD951 XCG532 YER886 ZAR710 ZMW967 ZWG924
    """,
    3: """
    BHD048 IQD368 JOD400 KWD414 LYD434 OMR512 TND788
    """,
}


@dataclass(frozen=True, slots=True)
class Currency:
    """One currency. alpha: three letters; numeric: three digits; exponent: decimals of the minor unit."""

    alpha: str
    numeric: str
    exponent: int


CURRENCIES: tuple[Currency, ...] = tuple(
    sorted(
        (Currency(entry[:3], entry[3:], exponent) for exponent, entries in _TABLE.items() for entry in entries.split()),
        key=lambda currency: currency.alpha,
    )
)
BY_NUMERIC = {currency.numeric: currency for currency in CURRENCIES}
BY_ALPHA = {currency.alpha: currency for currency in CURRENCIES}

_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]*))?")


def find_currency(code: str) -> Currency:
    """The currency with this numeric ("978") or alphabetic ("EUR") code; raises `Malformed` code.currency."""
    currency = BY_NUMERIC.get(code) or BY_ALPHA.get(code)
    if currency is None:
        raise Malformed("code.currency", f"{code!r} is no active ISO 4217 currency with minor units", field="currency")
    return currency


def parse_amount_minor(text: str, exponent: int, *, field: str = "amount") -> int:
    """The amount in minor units, exactly: "12.5" with exponent 2 is 1250.

    Digits with at most one "." among them, at most 13 characters (EMVCo object 54; "98." is allowed, ".5" is not).
    More decimals than the currency has are refused even if they are zeros: nothing is rounded or guessed.
    Zero is a value here; who needs a payable amount checks for it.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None or len(text) > AMOUNT_CHARS_MAX:
        raise Malformed(
            "code.amount", f'an amount is up to {AMOUNT_CHARS_MAX} digits with at most one "."', field=field
        )
    whole, decimals = match[1], match[2] or ""
    if len(decimals) > exponent:
        raise Malformed(
            "code.amount_decimals",
            f"the amount has {len(decimals)} decimals where the currency has {exponent}",
            field=field,
        )
    return int(whole + decimals.ljust(exponent, "0"))


def format_amount(amount_minor: int, exponent: int) -> str:
    """The amount as text with all decimals of the currency: 1250 with exponent 2 is "12.50". At most 13 characters."""
    digits = str(amount_minor).rjust(exponent + 1, "0")
    text = digits if exponent == 0 else f"{digits[:-exponent]}.{digits[-exponent:]}"
    if amount_minor < 0 or len(text) > AMOUNT_CHARS_MAX:
        raise Malformed(
            "code.amount_range", f"an amount is 0 or more and has at most {AMOUNT_CHARS_MAX} characters", field="amount"
        )
    return text
