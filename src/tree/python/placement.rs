//! Statements that parse, and that Python refuses where they stand: `return` outside a function, `await` outside an
//! async one, `break` and `continue` outside a loop. The parser leaves these to the compiler.

use std::ops::Range;

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, Stmt};
use ruff_text_size::Ranged;

/// The first such statement or expression, and what Python says of it.
pub(super) fn misplaced(body: &[Stmt]) -> Option<(Range<usize>, &'static str)> {
    let mut reader = Reader { scope: Scope::Module, in_loop: false, found: None };
    reader.visit_body(body);
    reader.found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Module,
    Class,
    Function,
    AsyncFunction,
    /// A lambda or comprehension, whose rules depend on what is around and on the version; nothing is said there.
    Other,
}

struct Reader {
    scope: Scope,
    in_loop: bool,
    found: Option<(Range<usize>, &'static str)>,
}

impl Reader {
    fn within(&mut self, scope: Scope, visit: impl FnOnce(&mut Self)) {
        let outer = (std::mem::replace(&mut self.scope, scope), std::mem::take(&mut self.in_loop));
        visit(self);
        (self.scope, self.in_loop) = outer;
    }

    fn looping(&mut self, body: &[Stmt]) {
        let outer = std::mem::replace(&mut self.in_loop, true);
        self.visit_body(body);
        self.in_loop = outer;
    }

    fn refuse(&mut self, at: &impl Ranged, message: &'static str) {
        self.found.get_or_insert_with(|| (super::range(at.range()), message));
    }

    fn needs_async(&mut self, at: &impl Ranged, message: &'static str) {
        if !matches!(self.scope, Scope::AsyncFunction | Scope::Other) {
            self.refuse(at, message);
        }
    }
}

impl<'a> Visitor<'a> for Reader {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(function) => {
                // Decorators and defaults belong to the scope outside.
                for decorator in &function.decorator_list {
                    self.visit_decorator(decorator);
                }
                self.visit_parameters(&function.parameters);
                let scope = if function.is_async { Scope::AsyncFunction } else { Scope::Function };
                self.within(scope, |reader| reader.visit_body(&function.body));
            }
            Stmt::ClassDef(class) => {
                for decorator in &class.decorator_list {
                    self.visit_decorator(decorator);
                }
                if let Some(arguments) = &class.arguments {
                    self.visit_arguments(arguments);
                }
                self.within(Scope::Class, |reader| reader.visit_body(&class.body));
            }
            Stmt::For(statement) => {
                if statement.is_async {
                    self.needs_async(statement, "`async for` outside an async function");
                }
                self.visit_expr(&statement.iter);
                self.looping(&statement.body);
                self.visit_body(&statement.orelse);
            }
            Stmt::While(statement) => {
                self.visit_expr(&statement.test);
                self.looping(&statement.body);
                self.visit_body(&statement.orelse);
            }
            Stmt::With(with) if with.is_async => {
                self.needs_async(with, "`async with` outside an async function");
                visitor::walk_stmt(self, statement);
            }
            Stmt::Return(_) if matches!(self.scope, Scope::Module | Scope::Class) => {
                self.refuse(statement, "`return` outside a function");
            }
            Stmt::Break(_) if !self.in_loop => self.refuse(statement, "`break` outside a loop"),
            Stmt::Continue(_) if !self.in_loop => self.refuse(statement, "`continue` outside a loop"),
            _ => visitor::walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Await(_) => {
                self.needs_async(expression, "`await` outside an async function");
                visitor::walk_expr(self, expression);
            }
            Expr::Yield(_) | Expr::YieldFrom(_) => {
                if matches!(self.scope, Scope::Module | Scope::Class) {
                    self.refuse(expression, "`yield` outside a function");
                }
                visitor::walk_expr(self, expression);
            }
            Expr::Lambda(_) | Expr::ListComp(_) | Expr::SetComp(_) | Expr::DictComp(_) | Expr::Generator(_) => {
                self.within(Scope::Other, |reader| visitor::walk_expr(reader, expression));
            }
            _ => visitor::walk_expr(self, expression),
        }
    }

    /// Annotations may be texts that nothing evaluates.
    fn visit_annotation(&mut self, _: &'a Expr) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Option<&'static str> {
        let parsed = ruff_python_parser::parse_module(text).unwrap();
        misplaced(parsed.suite()).map(|(_, message)| message)
    }

    #[test]
    fn what_stands_where_it_may_not_is_found() {
        for text in [
            "return 1",
            "class C:\n    return 1",
            "await x()",
            "def f():\n    await x()",
            "def f():\n    async with x:\n        pass",
            "def f():\n    async for x in y:\n        pass",
            "async def f():\n    def g():\n        await x()",
            "yield 1",
            "break",
            "if x:\n    continue",
            "for x in y:\n    def f():\n        break",
            "for x in y:\n    pass\nelse:\n    break",
        ] {
            assert!(message(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_stands_where_it_may_is_left_alone() {
        for text in [
            "def f():\n    return 1",
            "async def f():\n    await x()\n    async with a as b, c:\n        async for d in e:\n            yield d",
            "for x in y:\n    if x:\n        break\n    try:\n        continue\n    finally:\n        pass",
            "while x:\n    with y:\n        break",
            "for x in y:\n    for a in b:\n        pass\n    else:\n        break",
            "f = lambda: (yield)",
            "async def f():\n    return [await x async for x in y]",
            "def f():\n    return (await x for x in y)",
            "async def f():\n    class C:\n        async def g(self):\n            await self.x",
            "match x:\n    case 1:\n        pass",
        ] {
            assert_eq!(message(text), None, "{text}");
        }
    }
}
