"""Notes every request that uvicorn hands on, and tells of them when it is asked."""

from fastapi import FastAPI, Request

app = FastAPI(title="Noting", openapi_url=None)
app.state.noted = []


@app.get("/noted")
async def noted() -> list[str]:
    """What came since this was last asked."""
    noted, app.state.noted = app.state.noted, []
    return noted


@app.api_route("/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def anything(request: Request) -> dict[str, str]:
    """Notes the method, the path and the body."""
    note = f"{request.method} {request.scope['raw_path'].decode()} "
    if smuggled := request.headers.get("x-smuggled"):
        note += f"x-smuggled={smuggled} "
    app.state.noted.append(note)
    place = len(app.state.noted) - 1
    body = await request.body()
    app.state.noted[place] += body.decode("latin-1")
    return {"note": app.state.noted[place]}
