//! The function below an attribute.

use crate::arguments::{Arguments, Flavor};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Error, FnArg, Ident, ItemFn, Result, Type};

/// Which attribute it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Test,
    Main,
}

impl Kind {
    pub(crate) fn default_flavor(self) -> Flavor {
        match self {
            Self::Test => Flavor::CurrentThread,
            Self::Main => Flavor::MultiThread,
        }
    }
}

/// The function that runs `item`, or the errors beside it.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream, kind: Kind) -> TokenStream {
    let expanded = syn::parse2(item.clone()).and_then(|function| {
        check(&function, kind)?;
        Ok(runner(&Arguments::parse(arguments, kind)?, function, kind))
    });
    expanded.unwrap_or_else(|error| {
        // An editor still finds the function.
        let error = error.into_compile_error();
        quote! { #item #error }
    })
}

fn check(function: &ItemFn, kind: Kind) -> Result<()> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let text = "the `async` keyword is missing from the function declaration";
        return Err(Error::new_spanned(signature.fn_token, text));
    }
    if is_test(function) {
        let text = match kind {
            Kind::Test => "there is a second attribute `#[test]`",
            Kind::Main => "this is for `main`: `#[netstack::test]` is for tests",
        };
        return Err(Error::new_spanned(&signature.ident, text));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "the function cannot be generic"));
    }
    if let Some(second) = signature.inputs.iter().nth(1) {
        return Err(Error::new_spanned(second, "the function takes the stack and nothing else"));
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => {
            Err(Error::new_spanned(receiver, "the function cannot be a method"))
        }
        Some(FnArg::Typed(argument)) if matches!(&*argument.ty, Type::Reference(_)) => {
            Err(Error::new_spanned(&argument.ty, "the function takes the stack by value: `stack: Stack`"))
        }
        _ => Ok(()),
    }
}

fn is_test(function: &ItemFn) -> bool {
    let is_test = |attribute: &Attribute| attribute.path().is_ident("test");
    function.attrs.iter().any(is_test)
}

fn runner(arguments: &Arguments, mut function: ItemFn, kind: Kind) -> TokenStream {
    let Arguments { flavor, worker_threads, start_paused, link, krate } = arguments;
    let attributes = std::mem::take(&mut function.attrs);
    let visibility = std::mem::replace(&mut function.vis, syn::Visibility::Inherited);
    let name: &Ident = &function.sig.ident;
    let output = &function.sig.output;
    let call = if function.sig.inputs.is_empty() { quote!(|_| #name()) } else { quote!(#name) };
    let support = quote!(#krate::__attributes);
    let builder = match flavor {
        Flavor::CurrentThread => quote!(#support::runtime::Builder::new_current_thread()),
        Flavor::MultiThread => quote!(#support::runtime::Builder::new_multi_thread()),
    };
    let workers = worker_threads.map(|threads| quote!(.worker_threads(#threads)));
    let link = match link {
        Some(link) => quote!(::core::option::Option::Some(#link)),
        None => quote!(::core::option::Option::None),
    };
    let drains = kind == Kind::Main;
    let settings = quote!(#support::Settings { link: #link, drains: #drains });
    let run = if *start_paused {
        quote! {
            #support::run_paused(
                #builder.start_paused(true),
                #settings,
                &|time: #support::Time| #support::boxed(#support::time::advance(time)),
                #call,
            )
        }
    } else {
        quote!(#support::run(&mut #builder #workers, #settings, #call))
    };
    // `#[test]` itself comes last: attributes as `#[should_panic]` belong to it.
    let test = (kind == Kind::Test).then(|| quote!(#[::core::prelude::v1::test]));
    let function = function.to_token_stream();
    quote! {
        #test
        #(#attributes)*
        #visibility fn #name() #output {
            #function
            #run
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, without what a formatter decides.
    fn expanded(arguments: &str, item: &str, kind: Kind) -> String {
        let expanded = expand(arguments.parse().unwrap(), item.parse().unwrap(), kind);
        expanded.to_string().split_whitespace().collect()
    }

    #[test]
    fn mistakes_are_named_and_the_function_stays() {
        const SOUND: &str = "async fn works() {}";
        for (arguments, item, message) in [
            ("", "fn works() {}", "the `async` keyword is missing from the function declaration"),
            ("", "async fn works(a: Stack, b: Stack) {}", "the function takes the stack and nothing else"),
            ("", "async fn works(a: &Stack) {}", "the function takes the stack by value: `stack: Stack`"),
            ("", "async fn works(self) {}", "the function cannot be a method"),
            ("", "async fn works<T>() {}", "the function cannot be generic"),
            ("", "#[test] async fn works() {}", "there is a second attribute `#[test]`"),
            ("paused", SOUND, "expected an argument of the form `name = value`"),
            ("flavor = 1", SOUND, "expected a string"),
            (
                "flavor = \"local\"",
                SOUND,
                "no such runtime flavor `local`: there are `current_thread` and `multi_thread`",
            ),
            (
                "flavor = \"multi_thread\", worker_threads = 0",
                SOUND,
                "expected a number of threads that is not 0",
            ),
            (
                "worker_threads = 2",
                SOUND,
                "`worker_threads` requires the `multi_thread` runtime flavor: `flavor = \"multi_thread\"`",
            ),
            (
                "flavor = \"multi_thread\", start_paused = true",
                SOUND,
                "`start_paused` requires the `current_thread` runtime flavor: `flavor = \"current_thread\"`",
            ),
            ("start_paused = 1", SOUND, "expected `true` or `false`"),
            ("link = \"\", link = \"\"", SOUND, "`link` is set twice"),
            (
                "speed = 1",
                SOUND,
                "unknown argument `speed`: there are `flavor`, `worker_threads`, `start_paused`, `link` and `crate`",
            ),
        ] {
            let found = expanded(arguments, item, Kind::Test);
            let literal: String =
                quote!(compile_error! { #message }).to_string().split_whitespace().collect();
            assert!(found.contains(&literal), "{arguments}; {item}: {found}");
            assert!(found.contains("fnworks"), "{found}");
        }
        assert!(expanded("", "#[test] async fn main() {}", Kind::Main).contains("isfortests"));
    }

    #[test]
    fn arguments_reach_the_runtime() {
        let test = expanded("", "async fn works() {}", Kind::Test);
        assert!(
            test.contains("new_current_thread()") && test.contains("link:::core::option::Option::None"),
            "{test}"
        );
        let main = expanded("worker_threads = 3, link = \"loss=1%\"", "async fn main() {}", Kind::Main);
        assert!(main.contains("new_multi_thread().worker_threads(3usize)"), "{main}");
        assert!(
            main.contains("Some(\"loss=1%\")") && !main.contains("#[::core::prelude::v1::test]"),
            "{main}"
        );
        let renamed =
            expanded("crate = \"ours::net\", start_paused = true", "async fn works() {}", Kind::Test);
        assert!(renamed.contains("ours::net::__attributes::run_paused("), "{renamed}");
        assert!(renamed.contains("start_paused(true)"), "{renamed}");
    }
}
