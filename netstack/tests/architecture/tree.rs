//! The modules of a crate as its sources declare them, without what is compiled for tests or docs only.

use crate::macros;
use std::collections::BTreeMap;
use syn::visit::Visit;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Expr, ImplItem, Item, Meta, Stmt, TraitItem, UseTree, Visibility};

/// The text of each file, by its path relative to `src`.
pub(crate) type Sources = BTreeMap<String, String>;

/// The modules and files of a crate; both are named by their index.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) modules: Vec<Module>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<String>,
    /// The modules that are for tests: their paths, without what follows.
    left_out: Vec<String>,
}

/// A file that is compiled into the crate.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    /// The module whose body the file is.
    pub(crate) module: usize,
    /// The file that declares that module; none for `lib.rs`.
    pub(crate) parent: Option<usize>,
}

/// A module, of a file of its own or inline.
pub(crate) struct Module {
    pub(crate) file: usize,
    pub(crate) parent: Option<usize>,
    /// Its items; those of inline modules are in the entries of these.
    pub(crate) items: Vec<Item>,
    /// What each name stands for. A name can be a module, a function and a type at once.
    pub(crate) names: BTreeMap<String, Vec<Binding>>,
    /// The modules and enums of which everything is imported.
    pub(crate) globs: Vec<PathText>,
}

/// What a name in a module stands for.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    /// An item that the module defines.
    Item,
    /// A module that it declares.
    Module(usize),
    /// Something that it imports.
    Import(PathText),
}

/// A path as it is written, without generic arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathText {
    pub(crate) segments: Vec<String>,
    /// It begins with `::`.
    pub(crate) absolute: bool,
}

/// One name that a `use` declaration brings in.
pub(crate) struct Used {
    pub(crate) path: PathText,
    /// The name it has here; none for `_` and for globs.
    pub(crate) name: Option<String>,
    pub(crate) glob: bool,
    pub(crate) line: usize,
}

impl Tree {
    /// Reads the crate whose root is `lib.rs`.
    pub(crate) fn read(sources: &Sources) -> Self {
        let mut tree = Self::default();
        tree.add_file(sources, "lib.rs", None);
        for module in 0..tree.modules.len() {
            tree.name_items(module);
        }
        tree.note_undeclared(sources);
        tree
    }

    fn add_file(&mut self, sources: &Sources, path: &str, parent: Option<usize>) -> usize {
        let parsed = sources.get(path).map(|text| syn::parse_file(text));
        let mut items = match parsed {
            Some(Ok(file)) => file.items,
            Some(Err(error)) => {
                self.unread.push(format!("{path}:{}: {error}", error.span().start().line));
                vec![]
            }
            None => {
                self.unread.push(format!("{path}: a module is declared, and there is no file"));
                vec![]
            }
        };
        let directory = directory(path);
        for item in &items {
            match item {
                Item::Mod(module) if is_left_out(&module.attrs) => {
                    self.left_out.push(format!("{directory}{}", module.ident));
                }
                _ => {}
            }
        }
        Strip.visit_items(&mut items);
        let declared_in = parent.map(|parent| self.modules[parent].file);
        self.files.push(SourceFile {
            path: path.to_owned(),
            module: self.modules.len(),
            parent: declared_in,
        });
        self.add_module(sources, self.files.len() - 1, items, parent, &directory)
    }

    /// Notes the files that no module declares, tests aside.
    fn note_undeclared(&mut self, sources: &Sources) {
        for path in sources.keys() {
            let is_test = |place: &String| {
                path.strip_prefix(place.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            };
            if !self.files.iter().any(|file| file.path == *path) && !self.left_out.iter().any(is_test) {
                self.unread.push(format!("{path}: no module declares it"));
            }
        }
    }

    /// Adds a module with those below it. `directory` is where the files of its children are.
    fn add_module(
        &mut self,
        sources: &Sources,
        file: usize,
        mut items: Vec<Item>,
        parent: Option<usize>,
        directory: &str,
    ) -> usize {
        let module = self.modules.len();
        self.modules.push(Module { file, parent, items: vec![], names: BTreeMap::new(), globs: vec![] });
        for item in &mut items {
            let Item::Mod(declared) = item else { continue };
            let name = declared.ident.to_string();
            let place = format!("{directory}{name}");
            let child = if let Some((_, items)) = declared.content.take() {
                self.add_module(sources, file, items, Some(module), &format!("{place}/"))
            } else {
                let (flat, nested) = (format!("{place}.rs"), format!("{place}/mod.rs"));
                let path = if sources.contains_key(&flat) { flat } else { nested };
                self.add_file(sources, &path, Some(module))
            };
            self.name(module, name, Binding::Module(child));
        }
        self.modules[module].items = items;
        module
    }

    fn name(&mut self, module: usize, name: String, binding: Binding) {
        self.modules[module].names.entry(name).or_default().push(binding);
    }

    /// Enters the names that the items of a module define and import.
    fn name_items(&mut self, module: usize) {
        let mut used = Imports::default();
        let mut defined = vec![];
        for item in &self.modules[module].items {
            used.visit_item(item);
            match item {
                Item::Macro(item) => match &item.ident {
                    Some(name) => defined.push(name.to_string()),
                    None => defined.extend(macros::names_defined(self, module, &item.mac)),
                },
                item => defined.extend(name_of(item)),
            }
        }
        for name in defined {
            self.name(module, name, Binding::Item);
        }
        for used in used.0 {
            if used.glob {
                self.modules[module].globs.push(used.path);
            } else if let Some(name) = used.name {
                self.name(module, name, Binding::Import(used.path));
            }
        }
    }

    /// Whether `module` is `ancestor` or below it.
    pub(crate) fn is_below(&self, module: usize, ancestor: usize) -> bool {
        let mut at = Some(module);
        while let Some(module) = at {
            if module == ancestor {
                return true;
            }
            at = self.modules[module].parent;
        }
        false
    }

    /// The definition of the macro called `name`, if exactly one module has one.
    pub(crate) fn macro_called(&self, name: &str) -> Option<(usize, &syn::ItemMacro)> {
        let mut all = self.modules.iter().enumerate().flat_map(|(module, entry)| {
            entry.items.iter().filter_map(move |item| match item {
                Item::Macro(item) if item.ident.as_ref().is_some_and(|ident| ident == name) => {
                    Some((module, item))
                }
                _ => None,
            })
        });
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }
}

/// All `use` declarations of a module, those inside of its functions too: what they name is then known
/// in the whole module, which shows no import less.
#[derive(Default)]
struct Imports(Vec<Used>);

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.0.extend(uses(&item.tree, item.leading_colon.is_some()));
    }
}

/// The names that a `use` declaration brings in.
pub(crate) fn uses(tree: &UseTree, absolute: bool) -> Vec<Used> {
    let mut all = vec![];
    flatten(tree, &mut PathText { segments: vec![], absolute }, &mut all);
    all
}

fn flatten(tree: &UseTree, prefix: &mut PathText, all: &mut Vec<Used>) {
    match tree {
        UseTree::Path(path) => {
            prefix.segments.push(path.ident.to_string());
            flatten(&path.tree, prefix, all);
            prefix.segments.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, all)),
        UseTree::Glob(glob) => {
            let line = glob.star_token.spans[0].start().line;
            all.push(Used { path: prefix.clone(), name: None, glob: true, line });
        }
        UseTree::Name(name) => all.push(used(prefix, &name.ident, &name.ident)),
        UseTree::Rename(rename) => all.push(used(prefix, &rename.ident, &rename.rename)),
    }
}

fn used(prefix: &PathText, item: &syn::Ident, name: &syn::Ident) -> Used {
    let mut path = prefix.clone();
    let line = item.span().start().line;
    let itself = item == "self" && !path.segments.is_empty();
    if !itself {
        path.segments.push(item.to_string());
    }
    let name = if itself && name == "self" { path.segments.last().cloned() } else { Some(name.to_string()) };
    Used { path, name: name.filter(|name| name != "_"), glob: false, line }
}

/// Whether an item is visible outside its module.
pub(crate) fn is_visible(visibility: &Visibility) -> bool {
    !matches!(visibility, Visibility::Inherited)
}

/// Where the files of the children of a file's module are, with a slash at the end.
fn directory(path: &str) -> String {
    match path.strip_suffix("mod.rs").or_else(|| path.strip_suffix("lib.rs")) {
        Some(directory) => directory.to_owned(),
        None => format!("{}/", path.strip_suffix(".rs").expect("a Rust file")),
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Takes out what is compiled for tests or docs only, and replaces macros around items
/// (`pin_project!`, `thread_local!`) by these items.
struct Strip;

impl Strip {
    fn visit_items(&mut self, items: &mut Vec<Item>) {
        Self::items(items);
        items.iter_mut().for_each(|item| self.visit_item_mut(item));
    }

    fn items(items: &mut Vec<Item>) {
        items.retain(|item| !is_left_out(attributes_of(item)));
        for item in std::mem::take(items) {
            match &item {
                Item::Macro(wrapped) if wrapped.ident.is_none() => {
                    match syn::parse2::<syn::File>(wrapped.mac.tokens.clone()) {
                        Ok(file) if !file.items.is_empty() => items.extend(file.items),
                        _ => items.push(item),
                    }
                }
                _ => items.push(item),
            }
        }
        items.retain(|item| !is_left_out(attributes_of(item)));
    }
}

impl VisitMut for Strip {
    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            Self::items(items);
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block.items.retain(|item| {
            !is_left_out(match item {
                ImplItem::Const(item) => &item.attrs,
                ImplItem::Fn(item) => &item.attrs,
                ImplItem::Type(item) => &item.attrs,
                ImplItem::Macro(item) => &item.attrs,
                _ => &[],
            })
        });
        visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_item_trait_mut(&mut self, item: &mut syn::ItemTrait) {
        item.items.retain(|item| {
            !is_left_out(match item {
                TraitItem::Const(item) => &item.attrs,
                TraitItem::Fn(item) => &item.attrs,
                TraitItem::Type(item) => &item.attrs,
                TraitItem::Macro(item) => &item.attrs,
                _ => &[],
            })
        });
        visit_mut::visit_item_trait_mut(self, item);
    }

    fn visit_fields_named_mut(&mut self, fields: &mut syn::FieldsNamed) {
        let all = std::mem::take(&mut fields.named);
        fields.named = all.into_iter().filter(|field| !is_left_out(&field.attrs)).collect();
        visit_mut::visit_fields_named_mut(self, fields);
    }

    fn visit_item_enum_mut(&mut self, item: &mut syn::ItemEnum) {
        let all = std::mem::take(&mut item.variants);
        item.variants = all.into_iter().filter(|variant| !is_left_out(&variant.attrs)).collect();
        visit_mut::visit_item_enum_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| {
            !is_left_out(match statement {
                Stmt::Local(local) => &local.attrs,
                Stmt::Item(item) => attributes_of(item),
                Stmt::Macro(invoked) => &invoked.attrs,
                Stmt::Expr(expression, _) => attributes_of_expression(expression),
            })
        });
        visit_mut::visit_block_mut(self, block);
    }

    fn visit_expr_struct_mut(&mut self, item: &mut syn::ExprStruct) {
        let all = std::mem::take(&mut item.fields);
        item.fields = all.into_iter().filter(|field| !is_left_out(&field.attrs)).collect();
        visit_mut::visit_expr_struct_mut(self, item);
    }

    fn visit_expr_match_mut(&mut self, item: &mut syn::ExprMatch) {
        item.arms.retain(|arm| !is_left_out(&arm.attrs));
        visit_mut::visit_expr_match_mut(self, item);
    }
}

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The attributes of an expression that is a statement.
fn attributes_of_expression(expression: &Expr) -> &[Attribute] {
    match expression {
        Expr::Assign(it) => &it.attrs,
        Expr::Binary(it) => &it.attrs,
        Expr::Block(it) => &it.attrs,
        Expr::Call(it) => &it.attrs,
        Expr::ForLoop(it) => &it.attrs,
        Expr::If(it) => &it.attrs,
        Expr::Loop(it) => &it.attrs,
        Expr::Macro(it) => &it.attrs,
        Expr::Match(it) => &it.attrs,
        Expr::MethodCall(it) => &it.attrs,
        Expr::Return(it) => &it.attrs,
        Expr::While(it) => &it.attrs,
        _ => &[],
    }
}

fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|meta| is_for_tests(&meta))
        }
        _ => false,
    })
}

/// Whether a `cfg` predicate holds in tests or documentation only.
fn is_for_tests(predicate: &Meta) -> bool {
    match predicate {
        Meta::Path(path) => path.is_ident("test") || path.is_ident("doc") || path.is_ident("doctest"),
        Meta::List(list) => {
            let all = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
            let Ok(inner) = list.parse_args_with(all) else { return false };
            (list.path.is_ident("all") && inner.iter().any(is_for_tests))
                || (list.path.is_ident("any") && inner.iter().all(is_for_tests))
        }
        Meta::NameValue(_) => false,
    }
}
