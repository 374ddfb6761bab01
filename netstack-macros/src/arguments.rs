//! The arguments of an attribute.

use crate::function::Kind;
use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, MetaNameValue, Path, Result, Token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    CurrentThread,
    MultiThread,
}

/// What the arguments say.
pub(crate) struct Arguments {
    pub(crate) flavor: Flavor,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) start_paused: bool,
    pub(crate) link: Option<LitStr>,
    /// Where the crate is.
    pub(crate) krate: Path,
}

/// A value, and where it was given.
type Given<T> = Option<(T, Span)>;

#[derive(Default)]
struct Found {
    flavor: Given<Flavor>,
    worker_threads: Given<usize>,
    start_paused: Given<bool>,
    link: Given<LitStr>,
    krate: Given<Path>,
}

impl Arguments {
    pub(crate) fn parse(tokens: TokenStream, kind: Kind) -> Result<Self> {
        let mut found = Found::default();
        for argument in Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)? {
            match argument {
                Meta::NameValue(pair) => found.set(&pair)?,
                other => {
                    let text = "expected an argument of the form `name = value`";
                    return Err(Error::new(other.span(), text));
                }
            }
        }
        let Found { flavor, worker_threads, start_paused, link, krate } = found;
        let flavor = flavor.map_or(kind.default_flavor(), |(flavor, _)| flavor);
        if let Some((_, span)) = worker_threads
            && flavor != Flavor::MultiThread
        {
            let text =
                "`worker_threads` requires the `multi_thread` runtime flavor: `flavor = \"multi_thread\"`";
            return Err(Error::new(span, text));
        }
        if let Some((true, span)) = start_paused
            && flavor != Flavor::CurrentThread
        {
            let text =
                "`start_paused` requires the `current_thread` runtime flavor: `flavor = \"current_thread\"`";
            return Err(Error::new(span, text));
        }
        Ok(Self {
            flavor,
            worker_threads: worker_threads.map(|(threads, _)| threads),
            start_paused: start_paused.is_some_and(|(paused, _)| paused),
            link: link.map(|(link, _)| link),
            krate: krate.map_or_else(|| syn::parse_quote!(::netstack), |(path, _)| path),
        })
    }
}

impl Found {
    fn set(&mut self, pair: &MetaNameValue) -> Result<()> {
        let name = pair.path.get_ident().map(Ident::to_string).unwrap_or_default();
        let span = pair.span();
        let once = |is_there: bool| {
            if is_there { Err(Error::new(span, format!("`{name}` is set twice"))) } else { Ok(()) }
        };
        match name.as_str() {
            "flavor" => {
                once(self.flavor.is_some())?;
                let text = string(&pair.value)?;
                let flavor = match text.value().as_str() {
                    "current_thread" => Flavor::CurrentThread,
                    "multi_thread" => Flavor::MultiThread,
                    other => {
                        let text = format!(
                            "no such runtime flavor `{other}`: there are `current_thread` and `multi_thread`"
                        );
                        return Err(Error::new(pair.value.span(), text));
                    }
                };
                self.flavor = Some((flavor, span));
            }
            "worker_threads" => {
                once(self.worker_threads.is_some())?;
                self.worker_threads = Some((threads(&pair.value)?, span));
            }
            "start_paused" => {
                once(self.start_paused.is_some())?;
                self.start_paused = Some((boolean(&pair.value)?, span));
            }
            "link" => {
                once(self.link.is_some())?;
                self.link = Some((string(&pair.value)?, span));
            }
            "crate" => {
                once(self.krate.is_some())?;
                self.krate = Some((string(&pair.value)?.parse()?, span));
            }
            other => {
                let text = format!(
                    "unknown argument `{other}`: there are `flavor`, `worker_threads`, `start_paused`, `link` and \
                     `crate`"
                );
                return Err(Error::new(span, text));
            }
        }
        Ok(())
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn string(value: &Expr) -> Result<LitStr> {
    match literal(value) {
        Some(Lit::Str(text)) => Ok(text.clone()),
        _ => Err(Error::new(value.span(), "expected a string")),
    }
}

fn boolean(value: &Expr) -> Result<bool> {
    match literal(value) {
        Some(Lit::Bool(on)) => Ok(on.value),
        _ => Err(Error::new(value.span(), "expected `true` or `false`")),
    }
}

fn threads(value: &Expr) -> Result<usize> {
    let number = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse::<usize>().ok(),
        _ => None,
    };
    let number = number.filter(|threads| *threads > 0);
    number.ok_or_else(|| Error::new(value.span(), "expected a number of threads that is not 0"))
}
