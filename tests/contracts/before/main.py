"""A shop, as it was. openapi.json beside it is what FastAPI makes of this."""

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
    blue = "blue"


class Maker(BaseModel):
    name: str
    country: str | None = None


class Item(BaseModel):
    name: str = Field(max_length=80)
    price: float
    colour: Colour = Colour.red
    maker: Maker | None = None
    tags: list[str] = []


class Stored(Item):
    id: int
    added: date
    parts: list["Stored"] = []


class Cat(BaseModel):
    kind: str
    lives: int


class Dog(BaseModel):
    kind: str
    tricks: list[str]


@app.get("/items")
def items(limit: Annotated[int, Query(ge=1, le=100)] = 10, colour: Colour | None = None) -> list[Stored]:
    return []


@app.post("/items", status_code=201)
def add(item: Item) -> Stored: ...


@app.get("/items/{item_id}")
def item(item_id: int, accept_language: Annotated[str | None, Header()] = None) -> Stored: ...


@app.delete("/items/{item_id}", status_code=204)
def remove(item_id: int) -> None: ...


@app.put("/items/{item_id}/picture")
def picture(item_id: int, file: Annotated[UploadFile, File()]) -> dict[str, int]: ...


@app.get("/pets")
def pets() -> list[Union[Cat, Dog]]: ...


@app.get("/orders")
def orders(since: date | None = None) -> dict[str, float]: ...


@app.get("/secret", dependencies=[Depends(HTTPBearer())])
def secret() -> str: ...
