//! docs/format.md names every field that is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use syn::visit::Visit;

/// The fields of every structure that serde writes.
#[derive(Default)]
struct Fields(BTreeSet<String>);

impl<'ast> Visit<'ast> for Fields {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let derives = |attribute: &syn::Attribute| {
            attribute.path().is_ident("derive")
                && attribute
                    .meta
                    .require_list()
                    .is_ok_and(|list| list.tokens.to_string().contains("Serialize"))
        };
        if item.attrs.iter().any(derives) {
            let names = item.fields.iter().filter_map(|field| field.ident.as_ref());
            self.0.extend(names.map(ToString::to_string));
        }
    }
}

#[test]
fn the_format_names_every_field_of_a_day() {
    let format = include_str!("../docs/format.md");
    let mut fields = Fields::default();
    for source in [
        include_str!("../src/manifest/mod.rs"),
        include_str!("../src/manifest/record.rs"),
        include_str!("../src/manifest/segment.rs"),
        include_str!("../src/journal/due.rs"),
    ] {
        fields.visit_file(&syn::parse_file(source).unwrap());
    }
    assert!(fields.0.len() > 60, "{:?}", fields.0);
    let told = |field: &&String| {
        [format!("`{field}`"), format!("\"{field}\"")].iter().any(|name| format.contains(name.as_str()))
    };
    let missing: Vec<&String> = fields.0.iter().filter(|field| !told(field)).collect();
    assert!(missing.is_empty(), "docs/format.md does not tell of {missing:?}");
}
