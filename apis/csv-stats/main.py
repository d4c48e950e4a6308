"""CSV statistics: summarises each column of a CSV file, uploaded from a form or sent as the body itself."""

import csv
import io
import math
from asyncio import Semaphore, get_running_loop
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Literal

import pandas as pd
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

MAX_COLUMNS = 1_000
"""A file with more is hardly a table, and the answer would be larger than the question."""

uploads = Semaphore(4)
"""Bodies that are read at once: what /tmp and the memory hold. Others wait with theirs on the wire."""

workbench = ThreadPoolExecutor(max_workers=1)
"""Where tables are parsed, one after the other, while other requests go on."""

app = FastAPI(title="CSV statistics", summary="Summarises each column of a CSV file.", version="1.0.0")


class Separator(StrEnum):
    """What stands between two cells."""

    auto = "auto"
    comma = "comma"
    semicolon = "semicolon"
    tab = "tab"
    pipe = "pipe"


SEPARATORS = {Separator.comma: ",", Separator.semicolon: ";", Separator.tab: "\t", Separator.pipe: "|"}


class Numbers(BaseModel):
    """A column of numbers. What cannot be told, as the deviation of a single value, is `null`."""

    kind: Literal["numbers"] = "numbers"
    name: str
    count: int = Field(description="Cells with a value.")
    missing: int = Field(description="Empty cells, and those that hold no finite number.")
    mean: float | None
    deviation: float | None = Field(description="Sample standard deviation.")
    min: float | None
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None
    max: float | None


class Frequent(BaseModel):
    """A value and how often it occurs."""

    value: str
    count: int


class Text(BaseModel):
    """A column of anything but numbers."""

    kind: Literal["text"] = "text"
    name: str
    count: int = Field(description="Cells with a value.")
    missing: int = Field(description="Empty cells.")
    distinct: int
    most_frequent: list[Frequent] = Field(description="At most five, the most frequent first.")


class Summary(BaseModel):
    """What there is to say of a file."""

    rows: int
    columns: list[Annotated[Numbers | Text, Field(discriminator="kind")]]


@app.get("/health")
def health() -> dict[str, str]:
    """Says that the service is up, and on which pandas."""
    return {"status": "ok", "pandas": pd.__version__}


CSV_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}, "example": "city,inhabitants\nUlm,126949\nBonn,\n"},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@app.post(
    "/stats",
    openapi_extra=CSV_BODY,
    responses={422: {"description": "The body is no table that we can read; `detail` says why."}},
)
async def summarise(
    request: Request,
    separator: Annotated[Separator, Query(description="`auto` judges by the first lines.")] = Separator.auto,
    header: Annotated[bool, Query(description="Whether the first row names the columns.")] = True,
) -> Summary:
    """Summarises a CSV file: the body itself, or the field `file` of a form. UTF-8, with or without a mark."""
    async with uploads:
        content = await read_upload(request)
        return await get_running_loop().run_in_executor(workbench, summarise_bytes, content, separator, header)


async def read_upload(request: Request) -> bytes:
    """The file in the form, or else the body."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise unprocessable("the form has no file in its field 'file'")
        return await file.read()


def summarise_bytes(content: bytes, separator: Separator, header: bool) -> Summary:
    """Reads a table and summarises it column by column."""
    try:
        start = content.decode("utf-8-sig")[:16_384]
    except UnicodeDecodeError as error:
        raise unprocessable(f"the file is not UTF-8: byte {error.start} is {content[error.start]:#04x}") from None
    if not start.strip():
        raise unprocessable("the file is empty")
    delimiter = SEPARATORS.get(separator) or guess_separator(start)
    check_shape(content, delimiter)
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            encoding="utf-8-sig",
            sep=delimiter,
            index_col=False,
            header=0 if header else None,
            # Only an empty cell is a missing one: "NA" may be Namibia, and "None" a surname.
            keep_default_na=False,
            na_values=[""],
            skipinitialspace=True,
            low_memory=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError) as error:
        raise unprocessable(f"the file is not a table: {str(error).strip()}") from None
    return Summary(rows=len(table), columns=[summarise_column(str(name), table[name]) for name in table.columns])


def guess_separator(start: str) -> str:
    """The separator that the first lines suggest; a comma where they suggest none, as with a single column."""
    try:
        return csv.Sniffer().sniff(start, delimiters="".join(SEPARATORS.values())).delimiter
    except csv.Error:
        return ","


def check_shape(content: bytes, delimiter: str) -> None:
    """Refuses rows that are longer than the first, and too many columns.

    pandas would take the surplus cells for an index of its own, and a column costs it far more than its bytes.
    """
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline=""), delimiter=delimiter)
    columns = 0
    try:
        for row in rows:
            columns = columns or len(row)
            if columns > MAX_COLUMNS:
                raise unprocessable(f"the file has {columns:,} columns; at most {MAX_COLUMNS:,} are accepted")
            if len(row) > columns:
                raise unprocessable(f"line {rows.line_num} has {len(row):,} cells, and the first has {columns:,}")
    except csv.Error as error:
        raise unprocessable(f"line {rows.line_num + 1} is not part of a table: {error}") from None


def summarise_column(name: str, column: pd.Series) -> Numbers | Text:
    """Summarises one column by what it holds."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.astype(float)
        numbers = numbers[numbers.abs() < math.inf]
        low, lower, median, upper, high = numbers.quantile([0, 0.25, 0.5, 0.75, 1])
        return Numbers(
            name=name,
            count=len(numbers),
            missing=len(column) - len(numbers),
            mean=finite(numbers.mean()),
            deviation=finite(numbers.std()),
            min=finite(low),
            lower_quartile=finite(lower),
            median=finite(median),
            upper_quartile=finite(upper),
            max=finite(high),
        )
    texts = column.dropna().astype(str)
    counts = texts.value_counts()
    return Text(
        name=name,
        count=len(texts),
        missing=len(column) - len(texts),
        distinct=len(counts),
        most_frequent=[Frequent(value=str(value), count=int(count)) for value, count in counts.head(5).items()],
    )


def finite(number: float) -> float | None:
    """JSON has neither NaN nor infinities."""
    return float(number) if math.isfinite(number) else None


def unprocessable(detail: str) -> HTTPException:
    """The answer to a body that is no table."""
    return HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
