"""Slow start: guesses the language of a text with a model that takes its time to load.

Until the model is loaded nothing answers, as with any service that reads gigabytes before it can work. No caller
should notice: the instance before it goes on serving until this one answers.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

# The commonest words of a language give it away within a sentence or two.
COMMON_WORDS = {
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er",
    "en": "the of and to in a is that for it was on are as with his they at be this have from or one had by but not",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son",
    "it": "di e il la che in un a per è una sono con non del si da le dei i come al anche più nel della ma ha gli",
}


class Model:
    """Guesses languages by common words."""

    def __init__(self, seconds: float) -> None:
        """Loads the model; takes `seconds`, as a stand-in for reading a large file."""
        started = time.monotonic()
        self.words = {language: frozenset(words.split()) for language, words in COMMON_WORDS.items()}
        time.sleep(seconds)
        self.loaded_in = time.monotonic() - started

    def scores(self, text: str) -> dict[str, float]:
        """For each language, the share of the text's words that are common in it."""
        words = re.findall(r"\w+", text.lower())
        return {
            language: round(sum(word in common for word in words) / max(1, len(words)), 3)
            for language, common in self.words.items()
        }


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Loads the model before the first request is taken."""
    app.state.model = await asyncio.to_thread(Model, float(os.environ.get("LOAD_SECONDS", "8")))
    yield


app = FastAPI(title="Slow start", summary="Guesses the language of a text.", version="1.0.0", lifespan=lifespan)


class Question(BaseModel):
    """A text to be judged."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=20_000, examples=["Der Bär ist nicht aus dem Wald."])]


class Guess(BaseModel):
    """What the model thinks of a text."""

    language: str | None = Field(description="`null` where no word gives a hint.")
    scores: dict[str, float] = Field(description="From 0 to 1, for each language that the model knows.")


@app.get("/health")
def health(request: Request) -> dict[str, float]:
    """Answers as soon as the model is loaded, with how long that took, in seconds."""
    return {"loaded_in": round(request.app.state.model.loaded_in, 3)}


@app.post("/guess")
def guess(question: Question, request: Request) -> Guess:
    """Guesses the language of a text."""
    scores = request.app.state.model.scores(question.text)
    best = max(scores, key=lambda language: scores[language])
    return Guess(language=best if scores[best] > 0 else None, scores=scores)
