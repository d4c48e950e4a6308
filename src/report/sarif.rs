//! Findings as SARIF, the format in which tools that show findings beside code take them (OASIS SARIF 2.1.0).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::diagnostics::Findings;
use super::style::{inert_json, plain};
use crate::tree::diagnostic::ENVIRONMENT;
use crate::tree::{Diagnostic, Severity};

/// Where each kind of finding is explained, below the project's page.
const CHECKS: &str = "docs/checks.md";

impl Findings<'_> {
    /// For tools that show findings beside the code, as a forge's code scanning. Paths are relative to where the reader is.
    #[must_use]
    pub fn sarif(&self) -> String {
        let codes: BTreeSet<&str> = self.all().map(|finding| finding.code).collect();
        let codes: Vec<&str> = codes.into_iter().collect();
        let rules: Vec<Value> = codes.iter().map(|code| rule(code)).collect();
        let results: Vec<Value> = self.all().map(|finding| self.result(finding, &codes)).collect();
        let document = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "skep",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                } },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": { "ROOT": { "description": { "text": "where the command was run" } } },
                "results": results,
            }],
        });
        inert_json(&format!("{document:#}\n"))
    }

    fn result(&self, finding: &Diagnostic, codes: &[&str]) -> Value {
        let mut text = finding.message.clone();
        if !finding.hint.is_empty() {
            text = format!("{text}; {}", finding.hint);
        }
        for line in &finding.output {
            text.push_str("\n│ ");
            text.push_str(&plain(line));
        }
        let mut result = json!({
            "ruleId": finding.code,
            "ruleIndex": codes.iter().position(|code| *code == finding.code),
            "level": match finding.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": { "text": text },
        });
        // A variable of the host is in no file.
        if finding.path != ENVIRONMENT {
            let uri = uri(&self.shown(finding));
            let mut place = json!({ "artifactLocation": { "uri": uri, "uriBaseId": "ROOT" } });
            if let Some(span) = finding.span {
                place["region"] = json!({
                    "startLine": span.line,
                    "startColumn": span.column,
                    "endLine": span.end_line,
                    "endColumn": span.end_column,
                });
            }
            result["locations"] = json!([{ "physicalLocation": place }]);
        }
        result
    }
}

fn rule(code: &str) -> Value {
    let text = format!("{}; see {CHECKS}", code.replace('-', " "));
    json!({ "id": code, "shortDescription": { "text": text } })
}

/// A path as a relative reference (RFC 3986): its segments percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::source::Source;
    use crate::tree::{Tree, diagnostic};

    #[test]
    fn a_finding_names_its_rule_its_file_and_its_place() {
        let source = Source::new("apis/a/api ü.yaml", "name: x\nreplicas: 0\n");
        let placed = source.error(diagnostic::code::OUT_OF_BOUNDS, 18..19, "too few", "");
        let bare = Diagnostic { span: None, path: ENVIRONMENT.to_owned(), ..placed.clone() };
        let findings = [placed, bare];
        let text = Findings::new(&findings, &Tree::default(), None, "shop").sarif();
        let document: Value = serde_json::from_str(&text).unwrap();
        let run = &document["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 1);
        let first = &run["results"][0];
        assert_eq!(
            (&first["ruleId"], &first["ruleIndex"], &first["level"]),
            (&json!("out-of-bounds"), &json!(0), &json!("error"))
        );
        let place = &first["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "shop/apis/a/api%20%C3%BC.yaml");
        assert_eq!(place["region"], json!({ "startLine": 2, "startColumn": 11, "endLine": 2, "endColumn": 12 }));
        assert!(run["results"][1].get("locations").is_none(), "what is in no file has no place");
    }
}
