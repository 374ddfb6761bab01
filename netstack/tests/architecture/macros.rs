//! What can be read from macros without expanding them: paths, names of items, and heads of impl blocks.

use crate::tree::{PathText, Tree, uses};
use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use syn::UseTree;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;

/// Something that the tokens of a macro name.
#[derive(Debug)]
pub(crate) enum Named {
    /// A path of two segments or more.
    Path(PathText),
    /// Everything in a module.
    Glob(PathText),
    /// `self.method(…)` or `Self::method`.
    OwnMethod(String),
    /// A macro that is invoked by its bare name.
    Macro(String),
}

/// What the tokens name, each with its line.
pub(crate) fn named(tokens: &TokenStream) -> Vec<(Named, usize)> {
    let mut all = vec![];
    read(&tokens.clone().into_iter().collect::<Vec<_>>(), &mut all);
    all
}

fn read(tokens: &[TokenTree], all: &mut Vec<(Named, usize)>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            // `$crate` is a path like `crate`; other metavariables are not known here.
            TokenTree::Punct(dollar) if dollar.as_char() == '$' => {
                let metavariable =
                    matches!(tokens.get(at + 1), Some(TokenTree::Ident(name)) if name != "crate");
                at += if metavariable { 2 } else { 1 };
            }
            TokenTree::Ident(ident) if ident == "pub" => {
                at += if is_restriction(tokens.get(at + 1)) { 2 } else { 1 };
            }
            TokenTree::Ident(_) => at = read_path(tokens, at, false, all),
            TokenTree::Punct(_) if is_separator(tokens, at) => at = read_path(tokens, at + 2, true, all),
            TokenTree::Group(group) => {
                read(&group.stream().into_iter().collect::<Vec<_>>(), all);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Whether this is the `(super)` or `(in crate::tcp)` of a visibility.
fn is_restriction(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let inner: Vec<_> = group.stream().into_iter().collect();
    let begins_with_in = matches!(inner.first(), Some(TokenTree::Ident(ident)) if ident == "in");
    group.delimiter() == Delimiter::Parenthesis
        && (begins_with_in || matches!(inner.as_slice(), [TokenTree::Ident(_)]))
}

/// Reads the path that begins at `at`, if one does, and returns where to go on.
fn read_path(tokens: &[TokenTree], at: usize, absolute: bool, all: &mut Vec<(Named, usize)>) -> usize {
    let Some(TokenTree::Ident(first)) = tokens.get(at) else { return at };
    let line = first.span().start().line;
    let mut path = PathText { segments: vec![first.to_string()], absolute };
    let mut next = at + 1;
    while is_separator(tokens, next) {
        match tokens.get(next + 2) {
            Some(TokenTree::Ident(ident)) => path.segments.push(ident.to_string()),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                all.push((Named::Glob(path), line));
                return next + 3;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                read_group(&path, group, all);
                return next + 3;
            }
            _ => break,
        }
        next += 3;
    }
    match (path.segments.as_slice(), &tokens[next..]) {
        ([own], [TokenTree::Punct(dot), TokenTree::Ident(method), ..])
            if own == "self" && dot.as_char() == '.' =>
        {
            all.push((Named::OwnMethod(method.to_string()), line));
        }
        ([own, method, ..], _) if own == "Self" => all.push((Named::OwnMethod(method.clone()), line)),
        ([name], [TokenTree::Punct(bang), TokenTree::Group(_), ..]) if bang.as_char() == '!' => {
            all.push((Named::Macro(name.clone()), line));
        }
        ([_], _) => {}
        _ => all.push((Named::Path(path), line)),
    }
    next
}

/// Reads the names in the braces of a `use` declaration.
fn read_group(prefix: &PathText, group: &Group, all: &mut Vec<(Named, usize)>) {
    let parse = Punctuated::<UseTree, syn::Token![,]>::parse_terminated;
    let Ok(trees) = parse.parse2(group.stream()) else { return };
    for used in trees.iter().flat_map(|tree| uses(tree, false)) {
        let mut path = prefix.clone();
        path.segments.extend(used.path.segments.into_iter().filter(|segment| segment != "self"));
        all.push((if used.glob { Named::Glob(path) } else { Named::Path(path) }, used.line));
    }
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at: usize, spacing: Option<Spacing>| {
        matches!(tokens.get(at), Some(TokenTree::Punct(punct))
            if punct.as_char() == ':' && spacing.is_none_or(|spacing| punct.spacing() == spacing))
    };
    is_colon(at, Some(Spacing::Joint)) && is_colon(at + 1, None)
}

/// The names of items that a macro invocation between items defines: those in its own tokens, and, if
/// it is a macro of the crate, those in the macro's body.
pub(crate) fn names_defined(tree: &Tree, module: usize, invoked: &syn::Macro) -> Vec<String> {
    let mut names = vec![];
    defined(&invoked.tokens, &mut names);
    if let Some(body) = body_of(tree, module, invoked) {
        defined(body, &mut names);
    }
    names
}

fn body_of<'a>(tree: &'a Tree, module: usize, invoked: &syn::Macro) -> Option<&'a TokenStream> {
    let name = invoked.path.segments.last()?.ident.to_string();
    let own = tree.modules[module].items.iter().find_map(|item| match item {
        syn::Item::Macro(item) if item.ident.as_ref().is_some_and(|ident| *ident == name) => Some(item),
        _ => None,
    });
    own.or_else(|| Some(tree.macro_called(&name)?.1)).map(|item| &item.mac.tokens)
}

fn defined(tokens: &TokenStream, names: &mut Vec<String>) {
    const KEYWORDS: [&str; 8] = ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    for pair in tokens.windows(2) {
        match pair {
            [TokenTree::Ident(keyword), TokenTree::Ident(name)]
                if KEYWORDS.iter().any(|known| keyword == known) =>
            {
                names.push(name.to_string());
            }
            _ => {}
        }
    }
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                defined(&group.stream(), names)
            }
            _ => {}
        }
    }
}

/// The types of the inherent impl blocks that a macro invocation between items makes, as paths to be
/// resolved where it is invoked.
pub(crate) fn impls_made(tree: &Tree, module: usize, invoked: &syn::Macro) -> Vec<PathText> {
    let Some(body) = body_of(tree, module, invoked) else { return vec![] };
    let argument: Vec<_> = invoked.tokens.clone().into_iter().collect();
    let mut types = vec![];
    for token in body.clone() {
        let TokenTree::Group(group) = token else { continue };
        let rule: Vec<_> = group.stream().into_iter().collect();
        for at in 0..rule.len() {
            let of = head_of_impl(&rule, at);
            match of {
                Some([TokenTree::Punct(dollar), TokenTree::Ident(_), ..]) if dollar.as_char() == '$' => {
                    types.extend(path_at(&argument));
                }
                Some(of) => types.extend(path_at(of)),
                None => {}
            }
        }
    }
    types
}

/// The tokens of the type, if an inherent impl block begins at `at`.
fn head_of_impl(tokens: &[TokenTree], at: usize) -> Option<&[TokenTree]> {
    let is_impl = matches!(&tokens[at], TokenTree::Ident(ident) if ident == "impl");
    // Not `-> impl Trait` or `&impl Trait`.
    let inside_type =
        at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(before) if before.as_char() != ';');
    if !is_impl || inside_type {
        return None;
    }
    let rest = &tokens[at + 1..];
    let end = rest.iter().position(
        |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace),
    )?;
    let mut head = &rest[..end];
    if head.iter().any(|token| matches!(token, TokenTree::Ident(ident) if ident == "for")) {
        return None;
    }
    if is_punct(head.first(), '<') {
        let mut depth = 0;
        let close = head.iter().position(|token| {
            depth += i32::from(is_punct(Some(token), '<')) - i32::from(is_punct(Some(token), '>'));
            depth == 0
        })?;
        head = &head[close + 1..];
    }
    Some(head)
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// The path with which the tokens begin.
fn path_at(tokens: &[TokenTree]) -> Option<PathText> {
    let Some(TokenTree::Ident(first)) = tokens.first() else { return None };
    let mut segments = vec![first.to_string()];
    let mut at = 1;
    while let (true, Some(TokenTree::Ident(next))) = (is_separator(tokens, at), tokens.get(at + 2)) {
        segments.push(next.to_string());
        at += 3;
    }
    Some(PathText { segments, absolute: false })
}
