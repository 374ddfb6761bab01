//! Public functions and implemented traits, as far as tokens tell of them. Macros between items count as what is in
//! their braces; a macro of our own that declares methods counts where it is invoked.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// A public function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// The type whose function it is; empty if none.
    pub(crate) of: String,
    pub(crate) name: String,
    /// Without what may differ: names of arguments and generics, lifetimes, and the module of a type.
    pub(crate) signature: String,
    pub(crate) is_deprecated: bool,
}

impl Function {
    pub(crate) fn path(&self) -> String {
        if self.of.is_empty() { self.name.clone() } else { format!("{}::{}", self.of, self.name) }
    }
}

/// What was found in files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) functions: Vec<Function>,
    /// Traits, and the types that implement them.
    pub(crate) impls: BTreeSet<(String, String)>,
    /// What macros declare, whose type is their first argument.
    macros: BTreeMap<String, Self>,
    /// Macros, and the types that they were invoked with.
    invoked: Vec<(String, String, bool)>,
}

/// Stands for the first argument of a macro.
const ARGUMENT: &str = "$";

impl Source {
    pub(crate) fn read(texts: &[String]) -> Self {
        let mut source = Self::default();
        for text in texts {
            let tokens: TokenStream = text.parse().expect("Rust");
            source.items(&tokens.into_iter().collect::<Vec<_>>(), "");
        }
        for (name, of, is_deprecated) in std::mem::take(&mut source.invoked) {
            let Some(Self { functions, impls, .. }) = source.macros.get(&name).cloned() else { continue };
            source.functions.extend(functions.into_iter().map(|function| Function {
                signature: function.signature.replace(ARGUMENT, &of),
                // An attribute that the macro takes goes to its setter.
                is_deprecated: function.is_deprecated || is_deprecated && function.name == "set_linger",
                of: of.clone(),
                ..function
            }));
            source.impls.extend(impls.into_iter().map(|(name, _)| (name, of.clone())));
        }
        source
    }

    /// Reads the items of a file, a module, an impl block of the type `of`, or a macro.
    fn items(&mut self, tokens: &[TokenTree], of: &str) {
        let mut at = 0;
        let mut attributes = String::new();
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    if let Some(group) = group(tokens, at + 1, Delimiter::Bracket) {
                        attributes += &joined(group.stream());
                    }
                    at += 2;
                    continue;
                }
                // What is for tests or other systems.
                _ if attributes.contains("cfg(test)") || attributes.contains("cfg(windows)") => {
                    at = end_of_item(tokens, at);
                }
                TokenTree::Ident(ident) if ident == "pub" => {
                    at = self.public(tokens, at, of, &attributes);
                }
                TokenTree::Ident(ident) if ident == "impl" => at = self.impl_block(tokens, at),
                TokenTree::Ident(ident) if ident == "macro_rules" => {
                    self.macro_rules(tokens, at);
                    at += 4;
                }
                TokenTree::Ident(ident) if is_punct(tokens.get(at + 1), '!') => {
                    if ident != "cfg_windows"
                        && let Some(TokenTree::Group(group)) = tokens.get(at + 2)
                    {
                        self.invocation(&ident.to_string(), group, of);
                    }
                    at += 3;
                }
                TokenTree::Ident(ident) if ident == "fn" => at = end_of_item(tokens, at),
                _ => at += 1,
            }
            attributes.clear();
        }
    }

    fn invocation(&mut self, name: &str, group: &Group, of: &str) {
        let tokens: Vec<_> = group.stream().into_iter().collect();
        if group.delimiter() == Delimiter::Brace {
            return self.items(&tokens, of);
        }
        let first = split(&tokens).into_iter().next().unwrap_or_default();
        let argument = joined(first.into_iter().collect());
        let is_deprecated = joined(group.stream()).contains("deprecated");
        self.invoked.push((name.to_owned(), type_name(&argument), is_deprecated));
    }

    /// Reads what a macro declares, apart from the rest.
    fn macro_rules(&mut self, tokens: &[TokenTree], at: usize) {
        let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(rules))) =
            (tokens.get(at + 2), tokens.get(at + 3))
        else {
            return;
        };
        let mut inner = Self::default();
        for token in rules.stream() {
            if let TokenTree::Group(body) = token
                && body.delimiter() == Delimiter::Brace
            {
                inner.items(&body.stream().into_iter().collect::<Vec<_>>(), "");
            }
        }
        self.macros.insert(name.to_string(), inner);
    }

    /// Reads a public item, which is a function or of no interest. Returns where the next one begins.
    fn public(&mut self, tokens: &[TokenTree], at: usize, of: &str, attributes: &str) -> usize {
        let mut at = at + 1;
        if group(tokens, at, Delimiter::Parenthesis).is_some() {
            return end_of_item(tokens, at + 1);
        }
        let mut head = String::new();
        while let Some(TokenTree::Ident(word)) = tokens.get(at)
            && ["const", "async"].iter().any(|qualifier| word == qualifier)
        {
            head += &format!("{word} ");
            at += 1;
        }
        if !matches!(tokens.get(at), Some(TokenTree::Ident(word)) if word == "fn") {
            return if matches!(tokens.get(at), Some(TokenTree::Ident(word)) if word == "mod") {
                // Its items are read as those of the file.
                at + 2
            } else {
                end_of_item(tokens, at)
            };
        }
        let end = end_of_item(tokens, at);
        let name = tokens[at + 1].to_string();
        let signature = head + &signature(&tokens[at + 2..end - 1], of);
        let is_deprecated = attributes.contains("deprecated");
        self.functions.push(Function { of: of.to_owned(), name, signature, is_deprecated });
        end
    }

    fn impl_block(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let end = end_of_item(tokens, at);
        let head = joined(tokens[at + 1..end - 1].iter().cloned().collect());
        let head = head.split("where").next().unwrap_or_default();
        let head = without_generics(head);
        let body = group(tokens, end - 1, Delimiter::Brace).map(Group::stream).unwrap_or_default();
        match head.split_once(" for ") {
            Some((implemented, of)) => {
                let _ = self.impls.insert((type_name(implemented), type_name(of)));
            }
            None => self.items(&body.into_iter().collect::<Vec<_>>(), &type_name(&head)),
        }
        end
    }
}

/// Where the item ends that begins at `at`: behind its braces or its semicolon.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';'),
    };
    tokens[at..].iter().position(ends).map_or(tokens.len(), |position| at + position + 1)
}

fn group(tokens: &[TokenTree], at: usize, delimiter: Delimiter) -> Option<&Group> {
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// The tokens as text, with spaces between words only.
fn joined(tokens: TokenStream) -> String {
    let mut text = String::new();
    for token in tokens {
        let next = match &token {
            TokenTree::Group(group) => {
                let inner = joined(group.stream());
                match group.delimiter() {
                    Delimiter::Parenthesis => format!("({inner})"),
                    Delimiter::Brace => format!("{{{inner}}}"),
                    Delimiter::Bracket => format!("[{inner}]"),
                    Delimiter::None => inner,
                }
            }
            token => token.to_string(),
        };
        let is_word = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
        // A trait before `for` may end in a bracket.
        let keyword = next == "for" || text.ends_with(" for");
        if keyword || is_word(text.chars().next_back()) && is_word(next.chars().next()) {
            text.push(' ');
        }
        text += &next;
    }
    text
}

/// Divides tokens at commas that are not in angle brackets.
fn split(tokens: &[TokenTree]) -> Vec<Vec<TokenTree>> {
    let (mut parts, mut depth) = (vec![vec![]], 0);
    let mut before = ' ';
    for token in tokens {
        let char = if let TokenTree::Punct(punct) = token { punct.as_char() } else { ' ' };
        match char {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(vec![]);
                before = char;
                continue;
            }
            _ => {}
        }
        before = char;
        parts.last_mut().expect("one part at least").push(token.clone());
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A signature from the generics on, in a form that can be compared.
fn signature(tokens: &[TokenTree], of: &str) -> String {
    let arguments = tokens
        .iter()
        .position(
            |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis),
        )
        .expect("a function has arguments");
    let TokenTree::Group(list) = &tokens[arguments] else { unreachable!("it is a group") };
    let generics = joined(tokens[..arguments].iter().cloned().collect());
    let rest = joined(tokens[arguments + 1..].iter().cloned().collect());
    let (result, bounds) = rest.split_once("where").unwrap_or((&rest, ""));
    let list: Vec<_> = list.stream().into_iter().collect();
    let arguments: Vec<String> = split(&list)
        .into_iter()
        .map(|argument| {
            let text = joined(argument.iter().cloned().collect());
            let text = text.replace("mut self", "self").replace("&self", "& self");
            let text = if joined(argument.into_iter().collect()).starts_with("&mut self")
                || text.starts_with("&'amut self")
            {
                "&mut self".to_owned()
            } else {
                text
            };
            match text.split_once(':') {
                Some((name, of)) if !name.contains("self") => of.to_owned(),
                _ => text,
            }
        })
        .collect();
    let bounds = bounds.trim().trim_end_matches(',');
    let bounds = if bounds.is_empty() { generics } else { format!("<{bounds}>") };
    let mut text = format!("{bounds}({}){result}", arguments.join(","));
    for (of, by) in [
        ("std::", ""),
        ("$crate::", ""),
        ("io::", ""),
        ("net::", ""),
        ("time::", ""),
        ("<'a>", ""),
        ("<'_>", ""),
        ("'a ", ""),
        ("'a", ""),
        (" ", ""),
        ("Self", of),
    ] {
        text = text.replace(of, by);
    }
    // Generics may be named otherwise.
    for (name, by) in [("A", "T"), ("F", "T")] {
        if text.contains(&format!("<{name}:")) {
            text = text.replace(&format!("<{name}:"), &format!("<{by}:"));
            text = text.replace(&format!(",{name})"), &format!(",{by})"));
            text = text.replace(&format!("({name})"), &format!("({by})"));
        }
    }
    text
}

/// Without the generics that an impl block begins with.
fn without_generics(head: &str) -> String {
    if !head.starts_with('<') {
        return head.to_owned();
    }
    let mut depth = 0;
    let end = head.find(|char| {
        depth += i32::from(char == '<') - i32::from(char == '>');
        depth == 0
    });
    head[end.map_or(0, |end| end + 1)..].to_owned()
}

/// The last name of a path, without arguments.
fn type_name(path: &str) -> String {
    if path.trim_start().starts_with('$') {
        return ARGUMENT.to_owned();
    }
    let path = path.split('<').next().unwrap_or_default();
    path.rsplit("::").next().unwrap_or_default().trim().to_owned()
}
