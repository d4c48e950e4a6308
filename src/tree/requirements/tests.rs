//! What is read of a `requirements.txt`, and what is refused.

use super::*;

fn read(text: &str) -> (Vec<String>, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let requirements = Requirements::parse(Source::new("apis/a/requirements.txt", text), &mut findings);
    (requirements.0.into_iter().map(|requirement| requirement.0).collect(), findings)
}

fn code_of(line: &str) -> &'static str {
    let (_, findings) = read(line);
    assert_eq!(findings.len(), 1, "{line}: {findings:#?}");
    assert!(!findings[0].hint.is_empty(), "{line}");
    findings[0].code
}

#[test]
fn the_base_is_always_there_unless_the_api_names_it() {
    assert_eq!(read("").0, ["fastapi", "python-multipart", "uvicorn[standard]"]);
    let pinned = read("FastAPI==0.115.0\nuvicorn == 0.30.1\nPython_Multipart\n").0;
    assert_eq!(pinned, ["fastapi==0.115.0", "python-multipart", "uvicorn==0.30.1", "websockets"]);
    assert_eq!(read("uvicorn[standard]==0.30.1").0, ["fastapi", "python-multipart", "uvicorn[standard]==0.30.1"]);
}

#[test]
fn comments_and_order_say_nothing() {
    let (one, findings) = read("pandas >=2, <3  # tables\r\n\r\nPillow\n# the end\n");
    assert_eq!(findings, []);
    assert_eq!(one, read("\u{feff}pillow\npandas<3,>=2").0);
    assert_eq!(one, ["fastapi", "pandas<3,>=2", "pillow", "python-multipart", "uvicorn[standard]"]);
}

#[test]
fn extras_and_markers_are_kept() {
    let (lines, findings) = read("requests[socks, Security]>=2 ; python_version >= '3.9'\n");
    assert_eq!(findings, []);
    assert!(lines.contains(&"requests[security,socks]>=2 ; python_full_version >= '3.9'".to_owned()), "{lines:?}");
}

#[test]
fn options_are_refused_each_with_its_reason() {
    let lines = [
        "-r more.txt",
        "-c pins.txt",
        "-e .",
        "--index-url https://index.test/simple",
        "--extra-index-url=https://index.test",
        "-f ./wheels",
        "--pre",
        "--no-binary :all:",
        "pandas==2 --hash=sha256:00",
    ];
    for line in lines {
        assert_eq!(code_of(line), code::REQUIREMENT_OPTION, "{line}");
    }
    let hints: BTreeSet<String> = lines.iter().map(|line| read(line).1[0].hint.clone()).collect();
    assert_eq!(hints.len(), 7, "{hints:#?}");
}

#[test]
fn urls_and_paths_are_refused() {
    for line in [
        "pandas @ https://files.test/pandas.whl",
        "pandas@file:///x",
        "https://files.test/pandas.whl",
        "git+https://code.test/pandas",
        "git+ssh://git@code.test/pandas",
        "./pandas",
        "../pandas",
        ".",
        "~/pandas",
        "/srv/pandas",
        "wheels/pandas.whl",
        "pandas-2.0-py3-none-any.whl",
        "C:\\pandas",
    ] {
        assert_eq!(code_of(line), code::REQUIREMENT_URL, "{line}");
    }
}

#[test]
fn what_is_no_requirement_is_refused() {
    assert_eq!(code_of("pandas==${VERSION}"), code::REQUIREMENT_VARIABLE);
    assert_eq!(code_of("pandas=2"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("pandas 2"), code::BAD_REQUIREMENT);
    // These made the parser panic.
    assert_eq!(code_of("pandas.*x"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("pandas[all-]"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("pandas[all, x_ ]>=2"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("a ; (os_name=='x')\u{feff} and"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("pandas\u{a0}>=2"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("pandas>=2,\\"), code::BAD_REQUIREMENT);
    assert_eq!(code_of("pan\0das"), code::BAD_REQUIREMENT);
    assert_eq!(code_of(&"x".repeat(501)), code::BAD_REQUIREMENT);
    assert_eq!(code_of(&format!("a ; {}os_name=='x'", "(".repeat(100))), code::BAD_REQUIREMENT);
}

#[test]
fn a_package_may_stand_twice_where_the_lines_agree_or_never_meet() {
    assert_eq!(read("pandas>=2\nPandas>=2.0").1.len(), 1);
    assert_eq!(read("pandas>=2\nPandas >= 2").1, []);
    assert_eq!(read("pandas<2; python_version < '3.9'\npandas>=2; python_version >= '3.9'").1, []);
    let (_, findings) = read("pandas>=2\n\npandas<3\n");
    assert_eq!((findings[0].code, findings[0].span.unwrap().line), (code::REQUIREMENT_TWICE, 3));
}

#[test]
fn a_file_of_another_kind_is_not_read_to_its_end() {
    assert_eq!(read(&"!\n".repeat(100_000)).1.len(), MAX_FINDINGS);
    let names: String = (0..600).map(|n| format!("package-{n}\n")).collect();
    assert_eq!(code_of(&names), code::OUT_OF_BOUNDS);
}

#[test]
fn a_finding_points_into_its_line() {
    let (_, findings) = read("fastapi\npandas=2\n");
    assert_eq!(findings[0].span.unwrap().line, 2);
}
