//! The web page: files of `web/dist`, which are part of the binary.

use std::{collections::HashMap, io::Write as _, sync::LazyLock};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// Name and content of each file.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// A file that gains from it, packed.
static PACKED: LazyLock<HashMap<&str, Bytes>> = LazyLock::new(|| {
    let gains = |name: &str| {
        [".js", ".css", ".html", ".svg", ".json", ".wasm"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let pack = |content: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder
            .write_all(content)
            .and_then(|()| encoder.finish())
            .ok()
    };
    let packed = FILES.iter().filter(|(name, _)| gains(name));
    packed
        .filter_map(|(name, content)| Some((*name, Bytes::from(pack(content)?))))
        .collect()
});

/// What stands in for the page where it was not built.
const NO_PAGE: &str = "<!doctype html><meta charset=utf-8><title>Visavis</title>\
    <h1>Visavis is running</h1><p>This binary was built without its web page (web/dist). \
    Clients of the LiveKit protocol, WHIP and WHEP can connect.";

const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; \
    media-src 'self' blob:; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'self'";

/// Whether `path` is an address within the page, which reads it by itself.
pub(crate) fn is_view(path: &str) -> bool {
    matches!(path, "/" | "/doctor" | "/inspect" | "/receive" | "/send") || path.starts_with("/r/")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "woff2" => "font/woff2",
        "md" | "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The page's answer to a GET of `path`.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Response {
    let view = is_view(path);
    let name = if view {
        "index.html"
    } else {
        path.trim_start_matches('/')
    };
    let Some((name, content)) = FILES.iter().find(|(known, _)| *known == name) else {
        return if view {
            (
                [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
                NO_PAGE,
            )
                .into_response()
        } else {
            (StatusCode::NOT_FOUND, "there is nothing here").into_response()
        };
    };
    let accepts = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let packed = PACKED.get(name).filter(|_| accepts.contains("gzip"));
    let mut response = match packed {
        Some(packed) => packed.clone().into_response(),
        None => Bytes::from_static(content).into_response(),
    };
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, content_type(name));
    if packed.is_some() {
        set(header::CONTENT_ENCODING, "gzip");
    }
    set(header::VARY, "accept-encoding");
    // Files beneath assets/ have their hash in their name.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    set(header::CACHE_CONTROL, cache);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(
        header::HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self)",
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_rooms_show_the_page_and_unknown_files_do_not() {
        let status = |path| answer(path, &HeaderMap::new()).status();
        assert_eq!(status("/"), StatusCode::OK);
        assert_eq!(status("/r/atrium"), StatusCode::OK);
        assert_eq!(status("/assets/nothing.js"), StatusCode::NOT_FOUND);
        assert_eq!(status("/../Cargo.toml"), StatusCode::NOT_FOUND);
    }
}
