"""Says hello."""

from fastapi import FastAPI

app = FastAPI(title="Hello")


@app.get("/")
def hello(name: str = "world") -> dict[str, str]:
    """A greeting."""
    return {"message": f"Hello, {name}!"}
