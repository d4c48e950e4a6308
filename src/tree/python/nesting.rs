//! A bound on the nesting of source, found without recursion, so that no file can exhaust a stack.
//!
//! The bounds are those of CPython 3.11: 200 open brackets (`MAXLEVEL`), 100 indents (`MAXINDENT`) and, for chains like
//! `a + a + …`, the 3,000 levels at which its compiler gives up. What goes beyond them could not run.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};

/// `MAXLEVEL` in CPython's tokenizer.
const MAX_BRACKETS: usize = 200;

/// `MAXINDENT` in CPython's tokenizer.
const MAX_INDENTS: usize = 100;

/// The recursion limit of 1,000 times CPython's factor of three for compiler frames.
const MAX_CHAIN: usize = 3_000;

/// In what way the source is nested too deeply. The lexer does not say where.
pub(super) fn too_deep(text: &str) -> Option<&'static str> {
    let mut lexer = lexer::lex(text, Mode::Module);
    // For each open bracket, how many tokens so far may each have nested the expression once more.
    let mut chains = vec![0_usize];
    let mut total = 0;
    let mut indents = 0_usize;
    loop {
        let token = lexer.next_token();
        match token {
            TokenKind::EndOfFile => return None,
            TokenKind::Newline | TokenKind::Semi => {
                chains.clear();
                chains.push(0);
                total = 0;
            }
            TokenKind::Comma => total -= chains.last_mut().map_or(0, std::mem::take),
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents = indents.saturating_sub(1),
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace => {
                // The bracket counts where it stands, as a call of a call of a call does.
                total += 1;
                if let Some(chain) = chains.last_mut() {
                    *chain += 1;
                }
                chains.push(0);
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace if chains.len() > 1 => {
                total -= chains.pop().unwrap_or(0);
            }
            token if nests(token) => {
                total += 1;
                if let Some(chain) = chains.last_mut() {
                    *chain += 1;
                }
            }
            _ => {}
        }
        if chains.len() > MAX_BRACKETS {
            return Some("more than 200 brackets are open at once, which is all that Python takes");
        }
        if indents >= MAX_INDENTS {
            return Some("more than 99 indents, which is all that Python takes");
        }
        if total > MAX_CHAIN {
            return Some("an expression of more than 3,000 levels, at which Python gives up");
        }
    }
}

/// Whether a token can nest an expression one level deeper. Comparisons, `and` and `or` make flat lists.
fn nests(token: TokenKind) -> bool {
    matches!(
        token,
        TokenKind::Dot
            | TokenKind::Plus
            | TokenKind::Minus
            | TokenKind::Star
            | TokenKind::DoubleStar
            | TokenKind::Slash
            | TokenKind::DoubleSlash
            | TokenKind::Percent
            | TokenKind::At
            | TokenKind::Vbar
            | TokenKind::Amper
            | TokenKind::CircumFlex
            | TokenKind::LeftShift
            | TokenKind::RightShift
            | TokenKind::Tilde
            | TokenKind::Not
            | TokenKind::Lambda
            | TokenKind::If
            | TokenKind::Else
            | TokenKind::Await
            | TokenKind::Yield
            | TokenKind::ColonEqual
            | TokenKind::Colon
            | TokenKind::For
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_source_is_not_deep() {
        let long = format!("x = [{}]\ny = {{{}}}\n", "1 + 2, ".repeat(50_000), "'a': b.c(1), ".repeat(50_000));
        assert_eq!(too_deep(&long), None);
        assert_eq!(too_deep(&"x = a.b.c(d)[e]\n".repeat(50_000)), None);
        assert_eq!(too_deep(&format!("'''{}'''\n", ":( ".repeat(10_000))), None);
        assert_eq!(too_deep(&format!("x = {}0\n", "1 + ".repeat(2_000))), None);
    }

    #[test]
    fn no_nesting_gets_through_to_the_parser() {
        for piece in [
            "(",
            "[",
            "{",
            "-",
            "~",
            "not ",
            "lambda: ",
            "a.",
            "a + ",
            "a ** ",
            "a if b else ",
            "a(",
            "a[",
            "await ",
            "f'{",
            "f\"{a:{",
            "yield ",
            "(a := ",
            "{1: ",
        ] {
            let text = format!("x = {}", piece.repeat(100_000));
            let mut findings = Vec::new();
            super::super::check(super::super::Source::new("main.py", &text), &mut findings);
            assert_eq!(findings.len(), 1, "{piece:?}");
        }
        for chain in [".a", "()", "[0]", "+1"] {
            assert!(too_deep(&format!("x = a{}\n", chain.repeat(100_000))).is_some(), "{chain:?}");
        }
        let indents: String = (0..200).map(|n| format!("{}if a:\n", " ".repeat(n))).collect();
        assert!(too_deep(&indents).is_some());
    }
}
