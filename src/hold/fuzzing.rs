//! What the fuzz targets drive: how the adapters read what schedulers and services answer. Only cargo-fuzz builds this (`--cfg fuzzing`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::adapter::Adapter as _;
use super::http::Http;
use super::{Purpose, systemd};
use crate::config::HttpHold;

pub use super::fossology::ask_and_stop;

/// A switch behind this URL is read and turned.
pub async fn switch(url: &str) {
    let settings = HttpHold {
        url: url.to_owned(),
        pause: json!({"status": "READ_ONLY"}),
        release: json!({"status": "READ_WRITE"}),
        field: "/status".to_owned(),
        headers: BTreeMap::new(),
        timeout: Duration::from_secs(1),
    };
    if let Ok(mut switch) = Http::new(settings, Purpose::Backup)
        && switch.look().await.is_ok()
    {
        let _ = switch.prove().await;
    }
}

/// What `systemctl show` says of a unit.
pub fn unit(text: &str) {
    systemd::parse_show("app.service", text);
}
