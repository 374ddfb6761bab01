//! What the rules are about: imports, impl blocks, structs and functions, with their places.

use crate::macros::{self, Named};
use crate::resolve::{Resolution, Target};
use crate::tree::{PathText, Sources, Tree, is_visible, uses};
use proc_macro2::{Span, TokenStream};
use std::collections::BTreeMap;
use syn::visit::{self, Visit};
use syn::{FnArg, Item, Meta, Pat, Type};

/// Everything that the rules need to know of a crate.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) files: Vec<FileFacts>,
    pub(crate) imports: Vec<Import>,
    pub(crate) impls: Vec<ImplBlock>,
    pub(crate) structs: Vec<Struct>,
    pub(crate) functions: Vec<Function>,
    /// Files that could not be read, and paths into the crate of which nothing is known.
    pub(crate) unknown: Vec<String>,
    /// Lines with a reason for many fields: file, line.
    pub(crate) reasons: Vec<(usize, usize)>,
}

/// A file of the crate.
#[derive(Debug)]
pub(crate) struct FileFacts {
    pub(crate) path: String,
    /// The file that declares its module.
    pub(crate) parent: Option<usize>,
}

/// What one file names of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) line: usize,
    /// As it is written.
    pub(crate) text: String,
    pub(crate) kind: ImportKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ImportKind {
    /// An item of the file.
    Item,
    /// The module of the file, and no item of it.
    Module,
    /// A method that another file adds to the type of the impl block: `self.method()`.
    OwnMethod,
}

/// An inherent impl block.
#[derive(Debug)]
pub(crate) struct ImplBlock {
    pub(crate) name: String,
    /// The file that defines the type.
    pub(crate) defined: usize,
    pub(crate) file: usize,
    pub(crate) line: usize,
}

/// A struct.
#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) file: usize,
    pub(crate) line: usize,
    pub(crate) fields: usize,
    /// The line of the reason for its many fields.
    pub(crate) reason: Option<usize>,
}

/// A function or method.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: usize,
    pub(crate) line: usize,
    /// Besides `self`.
    pub(crate) parameters: usize,
    /// Names of parameters that are tuples of two elements or more.
    pub(crate) tuples: Vec<String>,
}

/// How a comment begins that says why a struct has many fields.
pub(crate) const REASON: &str = "More than 16 fields: ";

type TypeId = (usize, String);

impl Facts {
    /// Reads the crate.
    pub(crate) fn read(sources: &Sources) -> Self {
        let tree = Tree::read(sources);
        let methods = methods_by_type(&tree);
        let mut facts = Self { unknown: tree.unread.clone(), ..Self::default() };
        for file in &tree.files {
            facts.files.push(FileFacts { path: file.path.clone(), parent: file.parent });
            for (index, line) in text_of_file(sources, &file.path).lines().enumerate() {
                if is_reason(line) {
                    facts.reasons.push((facts.files.len() - 1, index + 1));
                }
            }
        }
        for module in 0..tree.modules.len() {
            let file = tree.modules[module].file;
            let text = text_of_file(sources, &tree.files[file].path).lines().collect();
            let mut walk = Walk {
                tree: &tree,
                methods: &methods,
                module,
                file,
                text,
                own: None,
                foreign: false,
                facts: &mut facts,
            };
            for item in &tree.modules[module].items {
                walk.visit_item(item);
            }
        }
        facts.imports.sort();
        facts.imports.dedup();
        facts.unknown.sort();
        facts.unknown.dedup();
        facts
    }

    /// The path of a file.
    pub(crate) fn path(&self, file: usize) -> &str {
        &self.files[file].path
    }

    /// Whether `file` is `ancestor` or a child of it.
    pub(crate) fn is_below(&self, file: usize, ancestor: usize) -> bool {
        std::iter::successors(Some(file), |file| self.files[*file].parent).any(|file| file == ancestor)
    }
}

/// Which file defines each method and constant of the types of the crate, by inherent impl blocks.
fn methods_by_type(tree: &Tree) -> BTreeMap<TypeId, BTreeMap<String, usize>> {
    let mut methods: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (module, entry) in tree.modules.iter().enumerate() {
        for item in &entry.items {
            let Item::Impl(block) = item else { continue };
            if block.trait_.is_some() {
                continue;
            }
            let Some(of) = type_of(tree, module, &block.self_ty) else { continue };
            for item in &block.items {
                let name = match item {
                    syn::ImplItem::Fn(method) => &method.sig.ident,
                    syn::ImplItem::Const(constant) => &constant.ident,
                    _ => continue,
                };
                methods.entry(of.clone()).or_default().insert(name.to_string(), entry.file);
            }
        }
    }
    methods
}

/// The type of the crate that `ty` is, if it is one.
fn type_of(tree: &Tree, module: usize, ty: &Type) -> Option<TypeId> {
    match ty {
        Type::Path(path) => item_at(tree, module, &text_of(&path.path)),
        Type::Reference(inner) => type_of(tree, module, &inner.elem),
        Type::Paren(inner) => type_of(tree, module, &inner.elem),
        Type::Group(inner) => type_of(tree, module, &inner.elem),
        Type::TraitObject(object) => object.bounds.iter().find_map(|bound| match bound {
            syn::TypeParamBound::Trait(bound) => item_at(tree, module, &text_of(&bound.path)),
            _ => None,
        }),
        _ => None,
    }
}

fn item_at(tree: &Tree, module: usize, path: &PathText) -> Option<TypeId> {
    let Resolution::Found(targets) = tree.resolve(module, path) else { return None };
    targets.into_iter().find_map(|target| match target {
        Target::Item { module, name } => Some((module, name)),
        Target::Module(_) => None,
    })
}

fn text_of(path: &syn::Path) -> PathText {
    let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    PathText { segments, absolute: path.leading_colon.is_some() }
}

/// The text of a file; none, if it is declared and does not exist.
fn text_of_file<'a>(sources: &'a Sources, path: &str) -> &'a str {
    sources.get(path).map_or("", String::as_str)
}

fn line_of(span: Span) -> usize {
    span.start().line
}

/// Whether a line is a comment that gives a reason for many fields.
fn is_reason(line: &str) -> bool {
    let comment = line.trim_start();
    comment.starts_with("//")
        && comment
            .trim_start_matches('/')
            .trim_start()
            .strip_prefix(REASON)
            .is_some_and(|why| why.len() >= 10)
}

/// Walks through the items of one module.
struct Walk<'a> {
    tree: &'a Tree,
    methods: &'a BTreeMap<TypeId, BTreeMap<String, usize>>,
    module: usize,
    file: usize,
    text: Vec<&'a str>,
    /// The type of the impl block around.
    own: Option<TypeId>,
    /// The impl block around is of a trait of another crate, which says how many parameters there are.
    foreign: bool,
    facts: &'a mut Facts,
}

impl Walk<'_> {
    /// Enters what a path leads to. `must` says that it must lead somewhere if it leads into the crate.
    fn path(&mut self, path: &PathText, line: usize, reexport: bool, must: bool) {
        let targets = match self.tree.resolve(self.module, path) {
            Resolution::Found(targets) => targets,
            Resolution::Outside => return,
            Resolution::Missing if must => {
                let place = &self.tree.files[self.file].path;
                self.facts.unknown.push(format!("{place}:{line}: `{}`", path.segments.join("::")));
                return;
            }
            Resolution::Missing => return,
        };
        for target in targets {
            let (module, kind) = match target {
                Target::Item { module, .. } => (module, ImportKind::Item),
                Target::Module(module) => (module, ImportKind::Module),
            };
            // A file re-exports what is below it without using it.
            let below = self.tree.is_below(module, self.tree.files[self.file].module);
            if !(reexport && below) {
                self.import(module, line, path.segments.join("::"), kind);
            }
        }
    }

    /// Enters everything in a module or enum as imported.
    fn glob(&mut self, path: &PathText, line: usize, reexport: bool) {
        self.path(path, line, reexport, true);
        let Resolution::Found(targets) = self.tree.resolve(self.module, path) else { return };
        for target in targets {
            let Target::Module(module) = target else { continue };
            let below = self.tree.is_below(module, self.tree.files[self.file].module);
            for name in self.tree.modules[module].names.keys() {
                for target in self.tree.lookup(module, name) {
                    if let (Target::Item { module, name }, false) = (target, reexport && below) {
                        let text = format!("{}::* ({name})", path.segments.join("::"));
                        self.import(module, line, text, ImportKind::Item);
                    }
                }
            }
        }
    }

    fn import(&mut self, module: usize, line: usize, text: String, kind: ImportKind) {
        self.import_file(self.tree.modules[module].file, line, text, kind);
    }

    fn import_file(&mut self, to: usize, line: usize, text: String, kind: ImportKind) {
        if to != self.file {
            self.facts.imports.push(Import { from: self.file, to, line, text, kind });
        }
    }

    fn own_method(&mut self, method: &str, line: usize) {
        let to = self.own.as_ref().and_then(|own| self.methods.get(own)?.get(method).copied());
        if let (Some(to), Some((_, name))) = (to, &self.own) {
            let text = format!("{name}::{method}");
            self.import_file(to, line, text, ImportKind::OwnMethod);
        }
    }

    /// Enters the module that defines a macro, if it is one of the crate.
    fn invoked(&mut self, name: &str, line: usize) {
        let found = self.tree.lookup(self.module, name);
        let modules: Vec<_> = found
            .into_iter()
            .filter_map(|target| match target {
                Target::Item { module, .. } => Some(module),
                Target::Module(_) => None,
            })
            .collect();
        let textual = self.tree.macro_called(name).map(|(module, _)| module);
        let modules = if modules.is_empty() { textual.into_iter().collect() } else { modules };
        for module in modules {
            self.import(module, line, format!("{name}!"), ImportKind::Item);
        }
    }

    fn tokens(&mut self, tokens: &TokenStream) {
        for (named, line) in macros::named(tokens) {
            match named {
                Named::Path(path) => {
                    let must = matches!(path.segments[0].as_str(), "crate" | "super");
                    self.path(&path, line, false, must);
                }
                Named::Glob(path) => self.glob(&path, line, false),
                Named::OwnMethod(method) => self.own_method(&method, line),
                Named::Macro(name) => self.invoked(&name, line),
            }
        }
    }

    fn impl_block(&mut self, of: TypeId, line: usize) {
        let (module, name) = of;
        let defined = self.tree.modules[module].file;
        self.facts.impls.push(ImplBlock { name, defined, file: self.file, line });
    }

    fn function(&mut self, signature: &syn::Signature) {
        if self.foreign {
            return;
        }
        let typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        let tuples = typed.clone().filter(|typed| is_tuple(&typed.ty) || is_tuple_pattern(&typed.pat));
        let name = match &self.own {
            Some((_, own)) => format!("{own}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        self.facts.functions.push(Function {
            name,
            file: self.file,
            line: line_of(signature.ident.span()),
            parameters: typed.clone().count(),
            tuples: tuples.map(|typed| name_of(&typed.pat)).collect(),
        });
    }

    /// The line of the reason among the comments, docs and attributes above a struct.
    fn reason(&self, first: usize, last: usize) -> Option<usize> {
        let mut first = first;
        while first > 1 && self.text[first - 2].trim_start().starts_with("//") {
            first -= 1;
        }
        (first..last).find(|line| is_reason(self.text[line - 1]))
    }
}

/// Whether a type is a tuple of two elements or more, perhaps behind a reference.
fn is_tuple(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => tuple.elems.len() >= 2,
        Type::Reference(inner) => is_tuple(&inner.elem),
        Type::Paren(inner) => is_tuple(&inner.elem),
        Type::Group(inner) => is_tuple(&inner.elem),
        _ => false,
    }
}

fn is_tuple_pattern(pattern: &Pat) -> bool {
    matches!(pattern, Pat::Tuple(tuple) if tuple.elems.len() >= 2)
}

fn name_of(pattern: &Pat) -> String {
    match pattern {
        Pat::Ident(ident) => ident.ident.to_string(),
        Pat::Tuple(tuple) => format!("({})", tuple.elems.iter().map(name_of).collect::<Vec<_>>().join(", ")),
        _ => "_".to_owned(),
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let reexport = is_visible(&item.vis);
        for used in uses(&item.tree, item.leading_colon.is_some()) {
            if used.glob {
                self.glob(&used.path, used.line, reexport);
            } else {
                self.path(&used.path, used.line, reexport, true);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let text = text_of(path);
        let line = path.segments.first().map_or(0, |segment| line_of(segment.ident.span()));
        match text.segments.as_slice() {
            [own, method] if own == "Self" => self.own_method(method, line),
            [_, _, ..] => self.path(&text, line, false, true),
            _ => {}
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
        if let Some(name) = invoked.path.get_ident() {
            self.invoked(&name.to_string(), line_of(name.span()));
        }
        self.visit_path(&invoked.path);
        self.tokens(&invoked.tokens);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.ident.is_some() {
            self.tokens(&item.mac.tokens);
            return;
        }
        for path in macros::impls_made(self.tree, self.module, &item.mac) {
            if let Some(of) = item_at(self.tree, self.module, &path) {
                let line = item.mac.path.segments.first().map_or(0, |segment| line_of(segment.ident.span()));
                self.impl_block(of, line);
            }
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        match &attribute.meta {
            meta if meta.path().is_ident("doc") => {}
            Meta::List(list) => self.tokens(&list.tokens),
            meta => self.visit_meta(meta),
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let own = type_of(self.tree, self.module, &block.self_ty);
        self.foreign = block
            .trait_
            .as_ref()
            .is_some_and(|(path, _)| item_at(self.tree, self.module, &text_of(path)).is_none());
        if let (Some(of), None) = (&own, &block.trait_) {
            self.impl_block(of.clone(), line_of(block.impl_token.span));
        }
        let around = std::mem::replace(&mut self.own, own);
        visit::visit_item_impl(self, block);
        self.own = around;
        self.foreign = false;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let (own, foreign) = (self.own.take(), std::mem::take(&mut self.foreign));
        self.function(&item.sig);
        visit::visit_item_fn(self, item);
        (self.own, self.foreign) = (own, foreign);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if matches!(&*call.receiver, syn::Expr::Path(path) if path.path.is_ident("self")) {
            self.own_method(&call.method.to_string(), line_of(call.method.span()));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let line = line_of(item.ident.span());
        let first = item.attrs.first().map_or(line, |attribute| line_of(attribute.pound_token.span));
        self.facts.structs.push(Struct {
            name: item.ident.to_string(),
            file: self.file,
            line,
            fields: item.fields.len(),
            reason: self.reason(first.min(line), line),
        });
        visit::visit_item_struct(self, item);
    }
}
