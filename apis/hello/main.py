"""The smallest API: one file and nothing else. Its id is the name of its folder."""

from typing import Annotated

from fastapi import FastAPI, Query

app = FastAPI(title="Hello", summary="Greets whoever asks.")


@app.get("/")
def greet(name: Annotated[str, Query(min_length=1, max_length=100)] = "world") -> dict[str, str]:
    """Greets `name`."""
    return {"message": f"Hello, {name}!"}
