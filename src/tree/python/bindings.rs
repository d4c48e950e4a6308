//! Bindings are the names that the top level of a module gives a value to.

use std::collections::BTreeSet;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{ExceptHandler, Expr, ExprContext, Pattern, Stmt};

/// What the top level of one module binds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    names: BTreeSet<String>,
    /// Names that are given what looks like an ASGI application, with the class, in the order of the file.
    applications: Vec<(String, String)>,
    /// Whether the module may bind names that cannot be read from it: `import *`, `__getattr__`, `globals()`, `exec`.
    open: bool,
}

/// Classes whose instances are ASGI applications.
const APPLICATIONS: [&str; 8] =
    ["FastAPI", "Starlette", "Quart", "Litestar", "Sanic", "Application", "Router", "FastMCP"];

impl Bindings {
    /// Reads the top level of a module. Its functions and classes bind nothing there but their own names.
    #[must_use]
    pub fn of(body: &[Stmt]) -> Self {
        let mut reader = Reader(Self::default());
        reader.visit_body(body);
        reader.0
    }

    /// Whether the name has a value, or may have.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.open || self.names.contains(name)
    }

    /// All names that certainly have a value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The first name that is given what looks like an ASGI application, and the class of it.
    #[must_use]
    pub fn application(&self) -> Option<(&str, &str)> {
        self.applications.first().map(|(name, class)| (name.as_str(), class.as_str()))
    }
}

struct Reader(Bindings);

impl Reader {
    fn bind(&mut self, name: &str) {
        self.0.open |= name == "__getattr__";
        self.0.names.insert(name.to_owned());
    }

    fn note_application(&mut self, target: &Expr, value: &Expr) {
        let (Expr::Name(name), Expr::Call(call)) = (target, value) else { return };
        let class = match &*call.func {
            Expr::Name(class) => class.id.as_str(),
            Expr::Attribute(class) => class.attr.as_str(),
            _ => return,
        };
        if APPLICATIONS.contains(&class) {
            self.0.applications.push((name.id.to_string(), class.to_owned()));
        }
    }
}

impl<'a> Visitor<'a> for Reader {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(function) => self.bind(&function.name),
            Stmt::ClassDef(class) => self.bind(&class.name),
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.bind(name.split('.').next().unwrap_or(name));
                }
            }
            Stmt::ImportFrom(import) => {
                for alias in &import.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.0.open |= name.as_str() == "*";
                    self.bind(name);
                }
            }
            // A bare annotation gives no value.
            Stmt::AnnAssign(assignment) => {
                if let Some(value) = &assignment.value {
                    self.note_application(&assignment.target, value);
                    visitor::walk_stmt(self, statement);
                }
            }
            Stmt::Assign(assignment) => {
                for target in &assignment.targets {
                    self.note_application(target, &assignment.value);
                }
                visitor::walk_stmt(self, statement);
            }
            _ => visitor::walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Lambda(_) => {}
            Expr::Name(name) => match name.ctx {
                ExprContext::Store => self.bind(&name.id),
                _ => self.0.open |= matches!(name.id.as_str(), "globals" | "locals" | "vars" | "exec"),
            },
            _ => visitor::walk_expr(self, expression),
        }
    }

    fn visit_except_handler(&mut self, handler: &'a ExceptHandler) {
        // The name of a handler is unbound at its end.
        visitor::walk_except_handler(self, handler);
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        let name = match pattern {
            Pattern::MatchAs(pattern) => pattern.name.as_ref(),
            Pattern::MatchStar(pattern) => pattern.name.as_ref(),
            Pattern::MatchMapping(pattern) => pattern.rest.as_ref(),
            _ => None,
        };
        if let Some(name) = name {
            self.bind(name);
        }
        visitor::walk_pattern(self, pattern);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(text: &str) -> Bindings {
        super::super::check(super::super::Source::new("main.py", text), &mut Vec::new()).unwrap()
    }

    #[test]
    fn every_way_to_bind_a_name_is_seen() {
        for text in [
            "app = FastAPI()",
            "app: FastAPI = FastAPI()",
            "other = app = 1",
            "app, x = 1, 2",
            "[x, (*app, y)] = z",
            "(app := 1)",
            "import app",
            "import app.web",
            "import web as app",
            "from web import app",
            "from web import x as app",
            "def app(): pass",
            "async def app(scope, receive, send): pass",
            "class app: pass",
            "if x:\n    app = 1",
            "if x:\n    pass\nelse:\n    app = 1",
            "try:\n    app = 1\nexcept E:\n    pass",
            "try:\n    x\nfinally:\n    app = 1",
            "with x as app:\n    pass",
            "with x:\n    app = 1",
            "for app in x:\n    pass",
            "while x:\n    app = 1",
            "match x:\n    case [app]: pass",
            "app += 1",
            "from web import *",
            "def __getattr__(name): pass",
            "globals()['app'] = 1",
        ] {
            assert!(bindings(text).has("app"), "{text}");
        }
    }

    #[test]
    fn names_of_inner_scopes_are_not_bound() {
        for text in [
            "",
            "app",
            "app: FastAPI",
            "def f():\n    app = 1",
            "class C:\n    app = 1",
            "lambda app: (app := 1)",
            "x.app = 1",
            "x['app'] = 1",
            "import web.app",
            "'app'",
        ] {
            assert!(!bindings(text).has("app"), "{text}");
        }
    }

    #[test]
    fn an_application_under_another_name_is_found() {
        let found = bindings("import fastapi\nx = 1\nservice = fastapi.FastAPI(title='x')\n");
        assert_eq!(found.application(), Some(("service", "FastAPI")));
    }
}
