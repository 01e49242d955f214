//! A configuration file of anything: it is refused with places in the text, or means the same when it is written out and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new("daykeep.toml");
    let config = match daykeep::config::parse(path, text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let written = config.as_toml();
    let again = daykeep::config::parse(path, &written).expect("what is written out is a configuration");
    assert_eq!(again, config, "{written}");
    assert_eq!(again.as_toml(), written);
});
