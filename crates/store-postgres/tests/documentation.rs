//! The example on the documentation page is a registry file.
//!
//! In: `docs/registry-file.md`. Out: pass or fail. Never here: a database.

use store_postgres::RegistryFile;

#[test]
fn the_page_about_the_registry_file_shows_one() {
    let page = include_str!("../../../docs/registry-file.md");
    let (_, rest) = page.split_once("```toml\n").expect("the page has an example");
    let (example, _) = rest.split_once("```").expect("the example ends");
    let file = RegistryFile::from_toml(example).unwrap();
    assert_eq!(file.meters.len(), 2);
    assert_eq!(file.agreements[0].schedule, file.schedules[0].code);
}
