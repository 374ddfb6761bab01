//! What a path means, through imports and re-exports.

use crate::tree::{Binding, Module, PathText, Tree};
use std::collections::BTreeSet;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// An item, or a variant or associated item of it.
    Item {
        module: usize,
        name: String,
    },
    Module(usize),
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// To one thing, or to several of one name: a module and a function, say.
    Found(Vec<Target>),
    /// Out of the crate.
    Outside,
    /// To a module of the crate that has no such name.
    Missing,
}

impl Tree {
    /// What `path` means in `module`.
    pub(crate) fn resolve(&self, module: usize, path: &PathText) -> Resolution {
        self.resolve_guarded(module, path, &mut BTreeSet::new())
    }

    /// What `name` means in `module`: with its own names, not those of the language.
    pub(crate) fn lookup(&self, module: usize, name: &str) -> Vec<Target> {
        self.lookup_guarded(module, name, &mut BTreeSet::new())
    }

    fn resolve_guarded(
        &self,
        module: usize,
        path: &PathText,
        visiting: &mut BTreeSet<(usize, String)>,
    ) -> Resolution {
        let mut segments = path.segments.as_slice();
        if path.absolute {
            return Resolution::Outside;
        }
        let mut at = module;
        let mut inside = false;
        while let [first, rest @ ..] = segments {
            match first.as_str() {
                "crate" => at = 0,
                "self" => {}
                "super" => match self.modules[at].parent {
                    Some(parent) => at = parent,
                    None => return Resolution::Missing,
                },
                _ => break,
            }
            inside = true;
            segments = rest;
        }
        let mut targets = vec![Target::Module(at)];
        for name in segments {
            let mut next = vec![];
            for target in &targets {
                if let Target::Module(module) = target {
                    next.extend(self.lookup_guarded(*module, name, visiting));
                    inside |= !next.is_empty();
                }
            }
            if next.is_empty() {
                let reexporting = targets.iter().find_map(|target| self.imports_from_outside(target, name));
                let items = targets.into_iter().filter(|target| matches!(target, Target::Item { .. }));
                targets = items.collect();
                // The rest is a variant or an associated item of the item that was found.
                if !targets.is_empty() {
                    break;
                }
                // What a module imports from another crate is its own for those who name it there.
                return match (inside, reexporting) {
                    (false, _) => Resolution::Outside,
                    (true, Some(module)) => {
                        Resolution::Found(vec![Target::Item { module, name: name.clone() }])
                    }
                    (true, None) => Resolution::Missing,
                };
            }
            targets = next;
        }
        targets.sort();
        targets.dedup();
        Resolution::Found(targets)
    }

    /// The module that `target` is, if it has `name`, or may have it, from another crate.
    fn imports_from_outside(&self, target: &Target, name: &str) -> Option<usize> {
        let Target::Module(module) = target else { return None };
        let Module { names, globs, .. } = &self.modules[*module];
        let has = names.contains_key(name)
            || globs.iter().any(|glob| self.resolve(*module, glob) == Resolution::Outside);
        has.then_some(*module)
    }

    fn lookup_guarded(
        &self,
        module: usize,
        name: &str,
        visiting: &mut BTreeSet<(usize, String)>,
    ) -> Vec<Target> {
        if !visiting.insert((module, name.to_owned())) {
            return vec![];
        }
        let mut found = vec![];
        for binding in self.modules[module].names.get(name).into_iter().flatten() {
            match binding {
                Binding::Item => found.push(Target::Item { module, name: name.to_owned() }),
                Binding::Module(child) => found.push(Target::Module(*child)),
                Binding::Import(path) => {
                    if let Resolution::Found(targets) = self.resolve_guarded(module, path, visiting) {
                        found.extend(targets);
                    }
                }
            }
        }
        if found.is_empty() && !self.modules[module].names.contains_key(name) {
            for glob in &self.modules[module].globs {
                let Resolution::Found(targets) = self.resolve_guarded(module, glob, visiting) else {
                    continue;
                };
                for target in targets {
                    if let Target::Module(from) = target {
                        found.extend(self.lookup_guarded(from, name, visiting));
                    }
                }
            }
        }
        visiting.remove(&(module, name.to_owned()));
        found
    }
}
