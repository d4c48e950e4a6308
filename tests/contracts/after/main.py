"""A shop, as it became. openapi.json beside it is what FastAPI makes of this."""

from datetime import date
from enum import Enum
from typing import Annotated, Union

from fastapi import Depends, FastAPI, File, Header, Query, UploadFile
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

app = FastAPI(title="Shop")


class Colour(str, Enum):
    red = "red"
    green = "green"
    yellow = "yellow"


class Maker(BaseModel):
    name: str
    country: str


class Item(BaseModel):
    name: str = Field(max_length=40)
    price: float
    currency: str
    colour: Colour = Colour.red
    maker: Maker | None = None
    tags: list[str] = []


class Stored(Item):
    id: int
    added: date | None
    parts: list["Stored"] = []


class Cat(BaseModel):
    kind: str
    lives: str


class Dog(BaseModel):
    kind: str
    tricks: list[str]


@app.get("/items")
def items(limit: Annotated[int, Query(ge=1, le=50)], page: int = 1) -> list[Stored]:
    return []


@app.post("/items", status_code=201)
def add(item: Item) -> Stored: ...


@app.get("/items/{key}")
def item(key: int, accept_language: Annotated[str | None, Header()] = None) -> Stored: ...


@app.delete("/items/{key}", status_code=200)
def remove(key: int) -> None: ...


@app.get("/pets")
def pets() -> list[Union[Cat, Dog]]: ...


@app.get("/orders")
def orders(since: date, _=Depends(HTTPBearer())) -> dict[str, str]: ...


@app.get("/pets/{name}")
def pet(name: str) -> Cat: ...


@app.get("/secret", dependencies=[Depends(HTTPBearer())])
def secret() -> str: ...
