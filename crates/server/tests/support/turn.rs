//! A TURN service on free ports of loopback.

use visavis_server::turn::{Generated, Settings, TurnService};

/// For `alice` with the password `secret`; `extra` are further lines of its settings.
pub(crate) fn service(workers: usize, extra: &str) -> TurnService {
    let settings = Settings::from_toml(&format!(
        r#"
        listen = ["127.0.0.1:0"]
        tls-listen = ["none"]
        relay-ip = ["127.0.0.1"]
        user = ["alice:secret"]
        workers = {workers}
        {extra}
        "#
    ))
    .unwrap();
    let config = settings.resolve(&Generated::draw()).unwrap();
    TurnService::start(config).unwrap()
}
