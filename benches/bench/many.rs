//! Ten thousand API folders, such as people write.

use std::fs;
use std::path::Path;

/// How many there are.
pub const FOLDERS: usize = 10_000;

/// Writes all of them below `root`.
pub fn write_tree(root: &Path) -> anyhow::Result<()> {
    for number in 0..FOLDERS {
        let folder = root.join("apis").join(name(number));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("main.py"), source(number))?;
        fs::write(folder.join("requirements.txt"), "httpx>=0.27,<1\norjson==3.10.*\n")?;
        let settings = format!("name: API {number}\nhealth: {{ path: /health }}\nenv: {{ NUMBER: \"{number}\" }}\n");
        fs::write(folder.join("api.yaml"), settings)?;
    }
    Ok(())
}

/// The folder of one of them.
pub fn name(number: usize) -> String {
    format!("api-{number:05}")
}

/// An API such as people write.
pub fn source(number: usize) -> String {
    format!(
        r#""""Keeps notes, number {number}."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

app = FastAPI(title="Notes {number}")
notes: dict[int, str] = {{}}


class Note(BaseModel):
    text: str = Field(min_length=1, max_length=1000)


@app.get("/health")
def health() -> dict[str, str]:
    return {{"status": "ok"}}


@app.get("/notes/{{key}}")
def read(key: int) -> Note:
    if key not in notes:
        raise HTTPException(404, f"there is no note {{key}}")
    return Note(text=notes[key])


@app.put("/notes/{{key}}")
def write(key: int, note: Note) -> None:
    notes[key] = note.text
"#
    )
}
