"""Orders: prices orders exactly, and takes each only once.

Money is decimal from end to end and travels as text, since binary fractions cannot hold a cent. A client that lost
our answer may send its order again under the same `Idempotency-Key`: it gets that answer again, and no second order.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from http import HTTPStatus
from typing import Annotated, Self
from uuid import UUID, uuid4

from fastapi import FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_REMEMBERED = 10_000
"""Orders kept in memory; the oldest is forgotten first."""

CENT = Decimal("0.01")
VAT = Decimal(os.environ.get("VAT_PERCENT", "20")) / 100

BULK_QUANTITY = 10
BULK_DISCOUNT = Decimal("0.05")
COUPONS = {"WELCOME10": Decimal("0.10"), "SUMMER25": Decimal("0.25")}
MAX_DISCOUNT = Decimal("0.25")
"""Discounts add up, though never beyond this share of the goods."""
SHIPPING = Decimal("4.90")
FREE_SHIPPING_FROM = Decimal("50.00")

app = FastAPI(title="Orders", summary="Prices orders exactly, and takes each only once.", version="1.0.0")

Price = Annotated[Decimal, Field(gt=0, le=Decimal("99999.99"), decimal_places=2, examples=["19.99"])]


class Line(BaseModel):
    """One article of an order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: Annotated[str, Field(pattern=r"^[A-Z0-9-]{3,20}$", examples=["MUG-01"])]
    quantity: Annotated[int, Field(ge=1, le=999)]
    unit_price: Price


class Order(BaseModel):
    """What somebody wants to buy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer: Annotated[str, Field(min_length=1, max_length=100, examples=["Ada"])]
    lines: Annotated[tuple[Line, ...], Field(min_length=1, max_length=100)]
    coupon: Annotated[str | None, Field(max_length=20, examples=["WELCOME10"])] = None

    @model_validator(mode="after")
    def check(self) -> Self:
        """What no single field can tell."""
        skus = [line.sku for line in self.lines]
        twice = sorted({sku for sku in skus if skus.count(sku) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands on more than one line; add up the quantities")
        if self.coupon is not None and self.coupon not in COUPONS:
            raise ValueError(f"there is no coupon {self.coupon!r}")
        return self


class Totals(BaseModel):
    """What an order costs. All amounts are exact to the cent: `total = goods - discount + shipping`."""

    goods: Decimal
    discount: Decimal
    shipping: Decimal
    total: Decimal
    vat_included: Decimal


class Accepted(BaseModel):
    """An order that we took."""

    id: UUID
    order: Order
    totals: Totals


class Ledger:
    """The accepted orders, the latest last, with the keys that they came under."""

    def __init__(self) -> None:
        self._orders: OrderedDict[UUID, tuple[Accepted, str | None]] = OrderedDict()
        self._keys: dict[str, UUID] = {}

    def find(self, id: UUID) -> Accepted | None:
        """The order of that id."""
        return self._orders[id][0] if id in self._orders else None

    def find_by_key(self, key: str) -> Accepted | None:
        """The order that came under that key."""
        return self.find(self._keys[key]) if key in self._keys else None

    def add(self, accepted: Accepted, key: str | None) -> None:
        """Remembers an order, and forgets the oldest where there are too many."""
        self._orders[accepted.id] = accepted, key
        if key is not None:
            self._keys[key] = accepted.id
        if len(self._orders) > MAX_REMEMBERED:
            _, (_, forgotten) = self._orders.popitem(last=False)
            if forgotten is not None:
                del self._keys[forgotten]


ledger = Ledger()


@app.get("/")
def rules() -> dict[str, str | list[str]]:
    """Tells how prices are made."""
    return {
        "bulk": f"{BULK_DISCOUNT:.0%} off a line of {BULK_QUANTITY} or more",
        "coupons": sorted(COUPONS),
        "shipping": f"{SHIPPING}, free from {FREE_SHIPPING_FROM}",
        "vat": f"{VAT:.0%}, included",
    }


@app.post("/quotes")
def quote(order: Order) -> Totals:
    """Prices an order without taking it."""
    return price(order)


# Not `async` would run in several threads, and two requests of one key could then both find it unused.
@app.post(
    "/orders",
    status_code=HTTPStatus.CREATED,
    responses={
        200: {"model": Accepted, "description": "Taken already, under the same key."},
        409: {"description": "The key was used for another order."},
    },
)
async def take(
    order: Order,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=100)] = None,
) -> Accepted:
    """Takes an order; with an `Idempotency-Key`, once only, however often it is sent."""
    earlier = ledger.find_by_key(idempotency_key) if idempotency_key else None
    if earlier is not None:
        if earlier.order != order:
            raise HTTPException(HTTPStatus.CONFLICT, "this Idempotency-Key was used for another order")
        response.status_code = HTTPStatus.OK
        return earlier
    accepted = Accepted(id=uuid4(), order=order, totals=price(order))
    ledger.add(accepted, idempotency_key)
    return accepted


@app.get("/orders/{id}", responses={404: {"description": "There is no such order."}})
async def read(id: UUID) -> Accepted:
    """An order that was taken."""
    accepted = ledger.find(id)
    if accepted is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no order {id}")
    return accepted


def price(order: Order) -> Totals:
    """What an order costs. Pure: the same order always costs the same."""
    goods = total(line.quantity * line.unit_price for line in order.lines)
    bulk = total(
        line.quantity * line.unit_price * BULK_DISCOUNT for line in order.lines if line.quantity >= BULK_QUANTITY
    )
    coupon = goods * COUPONS[order.coupon] if order.coupon else Decimal(0)
    discount = to_cents(min(bulk + coupon, goods * MAX_DISCOUNT))
    shipping = Decimal("0.00") if goods - discount >= FREE_SHIPPING_FROM else SHIPPING
    due = to_cents(goods - discount + shipping)
    return Totals(
        goods=to_cents(goods),
        discount=discount,
        shipping=shipping,
        total=due,
        vat_included=to_cents(due - due / (1 + VAT)),
    )


def total(amounts: Iterable[Decimal]) -> Decimal:
    """A sum that is decimal even where there is nothing to add."""
    return sum(amounts, Decimal(0))


def to_cents(amount: Decimal) -> Decimal:
    """Rounds half a cent up, as invoices do."""
    return amount.quantize(CENT, ROUND_HALF_UP)
