"""Greeter: greets people by their names."""

from typing import Annotated

from fastapi import FastAPI, Path

app = FastAPI(title="Greeter")


@app.get("/")
def greet_all() -> dict[str, str]:
    """Greets whoever asks."""
    return {"greeting": "Hello, world!"}


@app.get("/{name}")
def greet(name: Annotated[str, Path(max_length=100)]) -> dict[str, str]:
    """Greets `name`."""
    return {"greeting": f"Hello, {name}!"}
