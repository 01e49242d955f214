//! The text that is read, with what is found wrong with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::key::{Absent, Section};
use crate::config::problem::Fault;
use crate::config::value::Value;

/// The text that is read, and what was found wrong with it so far.
#[derive(Debug)]
pub(crate) struct Source<'d> {
    /// All of it.
    pub text: &'d str,
    /// Every default of the keys, by its text.
    defaults: BTreeMap<&'static str, Spanned<DeValue<'static>>>,
    root: &'static Section,
    faults: RefCell<Vec<Fault>>,
    hidden: RefCell<Vec<Range<usize>>>,
}

impl<'d> Source<'d> {
    /// To be read as `root` says.
    pub(crate) fn new(text: &'d str, root: &'static Section) -> Self {
        let mut defaults = BTreeMap::new();
        root.visit("", &mut |_, section| {
            for key in section.keys {
                if let Absent::Default(text) = key.absent
                    && let Ok(value) = DeValue::parse(text)
                {
                    defaults.insert(text, value);
                }
            }
        });
        Self { text, defaults, root, faults: RefCell::default(), hidden: RefCell::default() }
    }

    /// The value of a default.
    pub(crate) fn default_of(&'d self, text: &'static str) -> Option<Value<'d>> {
        self.defaults.get(text).map(|node| Value::new(self, node))
    }

    /// Something is wrong here.
    pub(crate) fn fault(&self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.push(Fault { span, message: message.into(), help, of_whole: false });
    }

    /// Something is wrong here that is only known when the whole file was read: what is missing, what does not fit.
    pub(crate) fn fault_of_whole(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.push(Fault { span, message: message.into(), help, of_whole: true });
    }

    fn push(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    /// A secret stands here: it is not shown with what is wrong about it.
    pub(crate) fn hide(&self, span: Range<usize>) {
        self.hidden.borrow_mut().push(span);
    }

    /// The first table that has this name, as `repository.NAME.hold`; the empty path is the top of the file.
    pub(crate) fn where_is(&self, name: &str) -> Option<String> {
        let mut place = None;
        self.root.visit("", &mut |path, section| {
            if place.is_none() && section.names().any(|known| known == name) {
                place = Some(path.to_owned());
            }
        });
        place
    }

    /// What was found wrong, and where there are secrets.
    pub(crate) fn into_findings(self) -> (Vec<Fault>, Vec<Range<usize>>) {
        (self.faults.into_inner(), self.hidden.into_inner())
    }
}
