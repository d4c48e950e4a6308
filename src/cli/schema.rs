//! `skep schema`: the JSON Schemas of `api.yaml` and `skep.yaml`, and the table of all settings, made from the types.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::settings::SettingsFile;
use crate::tree::manifest::Manifest;

/// Prints the JSON Schema of api.yaml or skep.yaml, for editors that complete and check while you type.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  skep schema                        the schema of api.yaml
  skep schema skep                   the schema of skep.yaml
  skep schema --write schema         writes both into a folder

In a file, for the YAML extension of most editors:
  # yaml-language-server: $schema=../../schema/api.schema.json")]
pub struct SchemaArguments {
    /// Of which file.
    #[arg(value_enum, default_value_t)]
    pub file: File,

    /// Write both schemas into this folder instead, as api.schema.json and skep.schema.json.
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,

    /// Write the table of all settings into this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub table: Option<PathBuf>,
}

/// Which file a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum File {
    /// `api.yaml`.
    #[default]
    Api,
    /// `skep.yaml`.
    Skep,
}

/// Prints or writes.
///
/// # Errors
/// Where a file cannot be written.
pub fn run(arguments: &SchemaArguments) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &arguments.write {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write(&folder.join("api.schema.json"), &text(File::Api))?;
        write(&folder.join("skep.schema.json"), &text(File::Skep))?;
    }
    if let Some(path) = &arguments.table {
        write(path, &table())?;
    }
    if arguments.write.is_none() && arguments.table.is_none() {
        anstream::print!("{}", text(arguments.file));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The schema of a file, as text with a newline at its end.
#[must_use]
pub fn text(file: File) -> String {
    // A JSON value always becomes text.
    serde_json::to_string_pretty(&schema(file)).unwrap_or_default() + "\n"
}

/// The schema of a file.
#[must_use]
pub fn schema(file: File) -> Value {
    match file {
        File::Api => schemars::schema_for!(Manifest).to_value(),
        File::Skep => {
            let mut schema = schemars::schema_for!(SettingsFile).to_value();
            // Names belong to one API.
            if let Some(defaults) = schema.pointer_mut("/$defs/Manifest/properties").and_then(Value::as_object_mut) {
                defaults.shift_remove("name");
                defaults.shift_remove("description");
            }
            schema
        }
    }
}

/// All settings as Markdown tables.
#[must_use]
pub fn table() -> String {
    let mut text = "# Settings\n\n\
        Made from the types by `skep schema --table docs/settings.md`; edit those. Every key is optional, and a key \
        without a value counts as left out.\n\n\
        What holds for an API: its `api.yaml`, else `defaults` in `skep.yaml`, else the default below. Variables of \
        `env` are merged one by one.\n\n\
        Sizes are written `512MiB`, `100MB`, `64KiB`; spans of time `500ms`, `30s`, `5m`, `1h`, `1d`.\n"
        .to_owned();
    for (file, title, what) in [
        (File::Api, "api.yaml", "In the folder of each API."),
        (File::Skep, "skep.yaml", "At the root of the tree's repository, beside `apis/`."),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n{what}\n\n| key | type | default | bounds | |\n| --- | --- | --- | --- | --- |\n"
        );
        let schema = schema(file);
        rows(&schema, &schema, "", &mut text);
    }
    text + ENVIRONMENT
}

/// What the environment sets; no schema has it.
const ENVIRONMENT: &str = "
## Environment

What belongs to one host, or is secret. A variable that is empty counts as not set.

| variable | default | |
| --- | --- | --- |
| `SKEP_ROOT` | `.` | The folder that holds `skep.yaml` and `apis/`; `--root` goes before it. |
| `SKEP_LISTEN` | `127.0.0.1:8663` | Where the gateway listens; `:8663` is all addresses. |
| `SKEP_ADMIN_LISTEN` | with the gateway | Where the control surface (`/admin/`, `/metrics`, `/api/`) listens, and the gateway then knows nothing of it. |
| `SKEP_STATE_DIR` | `.skep` below the root | Where skep keeps its records, keys of this host and lock. |
| `SKEP_ADMIN_KEY`, `ADMIN_API_KEY` | made, and kept in the state folder | The admin key, 16 characters at least. Set one of the two. |
| `SKEP_DB_URL`, `SUPABASE_DB_URL` | a file in the state folder | The PostgreSQL that keeps the records, as in `postgres://user:password@host:5432/postgres`; see docs/postgres.md. Set one of the two. |
| `SKEP_IMPORT_FROM` | the database of the records | The database that `skep import supabase` reads. |
| `SKEP_TLS_CERTIFICATE`, `SKEP_TLS_KEY` | `gateway.tls` | The PEM files that TLS is spoken with. Set both or neither. |
| `SKEP_JWT_SECRET` | | The secret that signs callers' tokens by HS256, 32 characters at least; see `auth.jwt`. |
| `SKEP_INDEX_URL` | `build.index_url` | The package index, where its address holds a secret. |
| `SKEP_DIAL` | `engine.dial` | `auto`, `address` or `loopback`. |
| `DOCKER_HOST` | the engine's socket | `unix://…` or `tcp://…`. |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | | Where a collector of OpenTelemetry takes in traces, as in `http://127.0.0.1:4318`; see [traces](admin.md#traces-and-errors). |
| `SENTRY_DSN`, `SENTRY_ENVIRONMENT` | | The Sentry project that errors of skep itself are told to. |
";

/// Adds the rows of all keys below `prefix`.
fn rows(root: &Value, schema: &Value, prefix: &str, text: &mut String) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (key, property) in properties {
        let described = resolve(root, property);
        let path = format!("{prefix}{key}");
        let description = property["description"].as_str().or(described["description"].as_str()).unwrap_or_default();
        if described["title"] == "api.yaml" {
            let _ = writeln!(text, "| `{path}` | | | | {} |", cell(description));
            continue;
        }
        let default = property.get("default").map(|value| match value {
            Value::String(word) if word.is_empty() => "empty".to_owned(),
            Value::String(word) => format!("`{word}`"),
            value => format!("`{value}`"),
        });
        let cells = [
            format!("`{path}`"),
            kind(property, described),
            default.unwrap_or_default(),
            bounds(property),
            cell(description),
        ];
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        rows(root, described, &format!("{path}."), text);
        rows(root, resolve(root, &described["items"]), &format!("{path}[]."), text);
        rows(root, resolve(root, &described["additionalProperties"]["allOf"][0]), &format!("{path}.<name>."), text);
    }
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// Follows references and the alternative that is not null, to what says most.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return root.pointer(reference.trim_start_matches('#')).map_or(schema, |schema| resolve(root, schema));
    }
    match schema["anyOf"].as_array() {
        Some(alternatives) => alternatives.iter().map(|schema| resolve(root, schema)).next().unwrap_or(schema),
        None => schema,
    }
}

fn kind(property: &Value, described: &Value) -> String {
    if let Some(name) = property["x-type"].as_str().or(described["x-type"].as_str()) {
        return name.to_owned();
    }
    let variants: Vec<String> = match (&described["oneOf"], &described["enum"]) {
        (Value::Array(variants), _) => variants.iter().filter_map(|v| v["const"].as_str()).map(code).collect(),
        (_, Value::Array(variants)) => variants.iter().filter_map(Value::as_str).map(code).collect(),
        _ => Vec::new(),
    };
    if !variants.is_empty() {
        return variants.join(", ");
    }
    let types = match &described["type"] {
        Value::Array(types) => types.iter().find_map(Value::as_str).unwrap_or_default(),
        name => name.as_str().unwrap_or_default(),
    };
    match types {
        "integer" => "whole number",
        "string" => "text",
        "boolean" => "true or false",
        "object" if described["properties"].is_null() => "names and values",
        "object" => "",
        "array" => "list",
        other => other,
    }
    .to_owned()
}

fn code(word: &str) -> String {
    format!("`{word}`")
}

fn bounds(property: &Value) -> String {
    let empty = Map::new();
    let property = property.as_object().unwrap_or(&empty);
    let get = |key: &str| property.get(key).map(|value| value.to_string().trim_end_matches(".0").to_owned());
    if let Some(bounds) = property.get("x-bounds").and_then(Value::as_str) {
        return bounds.to_owned();
    }
    match (get("minimum"), get("maximum"), get("minLength"), get("maxLength")) {
        (Some(low), Some(high), _, _) => format!("{low} to {high}"),
        (_, _, Some(low), Some(high)) => format!("{low} to {high} characters"),
        (_, _, None, Some(high)) => format!("up to {high} characters"),
        _ => String::new(),
    }
}
