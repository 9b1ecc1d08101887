//! The pages are built before the gateway; this only checks that they were.

use std::path::Path;

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=web/dist");
    if Path::new("web/dist/index.html").exists() {
        return Ok(());
    }
    Err("gateway/web/dist is missing: run `npm ci && npm run gen && npm run build` in gateway/web"
        .to_owned())
}
