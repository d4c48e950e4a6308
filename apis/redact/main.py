"""Redact: takes e-mail addresses, phone, card and account numbers out of text before it is passed on.

It keeps nothing, logs no text, and reaches nothing outside of its container, so any number of instances may run.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

PLACEHOLDER = os.environ.get("PLACEHOLDER", "[{kind}]")
"""What stands in for a finding; `{kind}` becomes the kind of it."""

app = FastAPI(title="Redact", summary="Takes personal data out of text.", version="1.0.0")


class Kind(StrEnum):
    """What can be found."""

    email = "email"
    iban = "iban"
    card = "card"
    phone = "phone"


def is_card(text: str) -> bool:
    """Whether the last digit checks the others, as on all payment cards (ISO/IEC 7812-1, annex B)."""
    digits = [int(digit) for digit in reversed(text) if digit.isdecimal()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether the check digits are right (ISO 13616)."""
    compact = text.replace(" ", "").upper()
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(number) % 97 == 1


def is_phone(text: str) -> bool:
    """Whether it has as many digits as a number that can be dialled (E.164)."""
    return 7 <= sum(character.isdecimal() for character in text) <= 15


# In order of certainty. No pattern repeats a repetition, so that none can be made to run for long.
DETECTORS: dict[Kind, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    Kind.email: (re.compile(r"\b[\w.%+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b", re.I | re.A), lambda _: True),
    Kind.iban: (re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\b", re.A), is_iban),
    Kind.card: (re.compile(r"\b[0-9](?:[ -]?[0-9]){12,18}\b", re.A), is_card),
    Kind.phone: (re.compile(r"(?<![\w.])(?:\+|\(?0)[0-9](?:[ ()/.-]{0,2}[0-9]){5,13}\b", re.A), is_phone),
}


class Question(BaseModel):
    """A text to be redacted."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=100_000, examples=["Ring me on +44 20 7946 0958 or ada@example.org."])]
    kinds: Annotated[set[Kind], Field(min_length=1, description="What to take out.")] = set(Kind)


class Redacted(BaseModel):
    """A text without personal data."""

    text: str
    found: dict[Kind, int] = Field(description="How many of each kind were taken out.")


@app.get("/health")
def health() -> dict[str, str]:
    """Says that the service is up."""
    return {"status": "ok"}


@app.post("/redact")
def redact(question: Question) -> Redacted:
    """Takes findings out of a text, and puts a placeholder where each was."""
    found: Counter[Kind] = Counter()
    text = question.text
    for kind, (pattern, is_one) in DETECTORS.items():
        if kind in question.kinds:
            text = pattern.sub(lambda match: stand_in(kind, match[0], is_one, found), text)  # noqa: B023
    return Redacted(text=text, found=dict(found))


def stand_in(kind: Kind, text: str, is_one: Callable[[str], bool], found: Counter[Kind]) -> str:
    """The placeholder for a finding; the text itself where it only looks like one."""
    if not is_one(text):
        return text
    found[kind] += 1
    return PLACEHOLDER.replace("{kind}", kind)
