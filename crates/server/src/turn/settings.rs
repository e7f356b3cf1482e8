//! Settings as people write them: flags, environment variables and a TOML file, all with the same names. Flags win over
//! the environment, the environment over the file, the file over the defaults.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use visavis_turn::server::{Credentials, IpRange, Rate, Realm, RelayAddress};

use super::certificates::Certificates;
use super::config::{TurnConfig, TurnError};
use crate::ids::random_text;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $kind:ty, $env:literal $(, $arg:meta)*;)*) => {
        /// What the operator set. Everything is optional.
        #[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        #[non_exhaustive]
        pub struct Settings {
            $(
                $(#[$doc])*
                #[arg(long, env = concat!("VISAVIS_TURN_", $env), hide_env_values = true $(, $arg)*)]
                #[serde(skip_serializing_if = "is_empty")]
                pub $name: $kind,
            )*
        }
    };
}

settings! {
    /// Where clients come to over UDP, TCP and DTLS [default: port 3478 of all addresses]
    listen: Vec<SocketAddr>, "LISTEN", value_delimiter = ',';
    /// Where clients come to over TLS and DTLS; "none" in place of addresses: nowhere [default: port 5349 of all addresses]
    tls_listen: Vec<String>, "TLS_LISTEN", value_delimiter = ',';
    /// Addresses to relay from: BIND, or BIND/EXTERNAL behind a 1:1 NAT [default: those of the default routes]
    relay_ip: Vec<String>, "RELAY_IP", value_delimiter = ',';
    /// Ports of relayed addresses [default: 49152-65535]
    ports: Option<String>, "PORTS";
    /// What clients shall call this server, for the addresses in minted credentials [default: the relay addresses]
    name: Vec<String>, "NAME", value_delimiter = ',';
    /// The realm; short names keep answers short [default: visavis]
    realm: Option<String>, "REALM";
    /// A user, as NAME:PASSWORD
    user: Vec<String>, "USER", value_delimiter = ',';
    /// A file of users, one NAME:PASSWORD a line
    users_file: Option<PathBuf>, "USERS_FILE";
    /// A shared secret for time-limited credentials; during a rotation the newest first
    secret: Vec<String>, "SECRET", value_delimiter = ',';
    /// A file of shared secrets, one a line
    secrets_file: Option<PathBuf>, "SECRETS_FILE";
    /// Seconds that minted credentials are good [default: 86400]
    credential_lifetime: Option<u64>, "CREDENTIAL_LIFETIME";
    /// A key for OAuth access tokens (RFC 7635), as KID:BASE64
    oauth_key: Vec<String>, "OAUTH_KEY", value_delimiter = ',';
    /// What the OAuth authorization server is called: THIRD-PARTY-AUTHORIZATION
    oauth_server: Option<String>, "OAUTH_SERVER";
    /// An HTTP service that knows users: POST {"realm","username"}, answered by {"password"} or 404
    webhook: Option<String>, "WEBHOOK";
    /// Another realm: NAME;origin=URL;host=NAME;user=NAME:PASSWORD;secret=SECRET, each part as often as need be
    tenant: Vec<String>, "TENANT";
    /// Whether a refresh needs credentials that have not expired [default: false]
    strict_expiry: Option<bool>, "STRICT_EXPIRY", num_args = 0..=1, default_missing_value = "true";
    /// Peers to allow though they are private or reserved: ADDRESS, ADDRESS/BITS or FIRST-LAST
    allow_peer: Vec<String>, "ALLOW_PEER", value_delimiter = ',';
    /// Peers to refuse, beside private and reserved ones
    deny_peer: Vec<String>, "DENY_PEER", value_delimiter = ',';
    /// Peer ports to refuse, beside those of services that amplify: PORT or FIRST-LAST
    deny_port: Vec<String>, "DENY_PORT", value_delimiter = ',';
    /// The certificate chain, in PEM [default: self-signed]
    certificate: Option<PathBuf>, "CERTIFICATE";
    /// The private key, in PEM
    private_key: Option<PathBuf>, "PRIVATE_KEY";
    /// Names to get a certificate for by ACME; `tls-listen` needs port 443
    acme_domain: Vec<String>, "ACME_DOMAIN", value_delimiter = ',';
    /// A mail address for the ACME service
    acme_email: Vec<String>, "ACME_EMAIL", value_delimiter = ',';
    /// The ACME service's directory [default: Let's Encrypt's]
    acme_directory: Option<String>, "ACME_DIRECTORY";
    /// Who vouches for the ACME service itself, beside the web's authorities: a PEM file
    acme_root: Option<PathBuf>, "ACME_ROOT";
    /// Where ACME's account and certificates are kept [default: acme]
    acme_cache: Option<PathBuf>, "ACME_CACHE";
    /// Worker threads [default: one per core]
    workers: Option<usize>, "WORKERS";
    /// Microseconds that packets may gather at moderate load; 0 never waits [default: 300]
    gather: Option<u64>, "GATHER";
    /// Milliseconds that a packet may wait in a socket's buffer [default: 20]
    queue: Option<u64>, "QUEUE";
    /// Whether the kernel may segment and coalesce [default: true]
    offload: Option<bool>, "OFFLOAD", num_args = 0..=1, default_missing_value = "true";
    /// Allocations in all [default: 50000]
    allocations: Option<usize>, "ALLOCATIONS";
    /// Allocations of one user [default: 64]
    user_allocations: Option<usize>, "USER_ALLOCATIONS";
    /// Allocations of one client address [default: 1024]
    address_allocations: Option<usize>, "ADDRESS_ALLOCATIONS";
    /// Permissions of one allocation [default: 128]
    permissions: Option<usize>, "PERMISSIONS";
    /// Channels of one allocation [default: 128]
    channels: Option<usize>, "CHANNELS";
    /// Bytes a second of one allocation [default: no limit]
    allocation_bytes: Option<u64>, "ALLOCATION_BYTES";
    /// Packets a second of one allocation [default: no limit]
    allocation_packets: Option<u64>, "ALLOCATION_PACKETS";
    /// Bytes a second of one user [default: no limit]
    user_bytes: Option<u64>, "USER_BYTES";
    /// Packets a second of one user [default: no limit]
    user_packets: Option<u64>, "USER_PACKETS";
    /// Bytes a second of one client address [default: no limit]
    address_bytes: Option<u64>, "ADDRESS_BYTES";
    /// Packets a second of one client address [default: no limit]
    address_packets: Option<u64>, "ADDRESS_PACKETS";
    /// Bytes a second in all [default: no limit]
    total_bytes: Option<u64>, "TOTAL_BYTES";
    /// Packets a second in all [default: no limit]
    total_packets: Option<u64>, "TOTAL_PACKETS";
    /// 401 and 438 answers a second to one source over UDP [default: 50]
    challenges: Option<f32>, "CHALLENGES";
    /// Binding answers a second to one source over UDP [default: 100]
    bindings: Option<f32>, "BINDINGS";
    /// TCP, TLS and DTLS connections of one worker [default: 16384]
    connections: Option<usize>, "CONNECTIONS";
    /// TCP, TLS and DTLS connections of one address and worker [default: 512]
    address_connections: Option<usize>, "ADDRESS_CONNECTIONS";
    /// Seconds that an allocation lives without a refresh, unless it asks for more [default: 600]
    default_lifetime: Option<u64>, "DEFAULT_LIFETIME";
    /// Seconds that an allocation may ask for [default: 3600]
    max_lifetime: Option<u64>, "MAX_LIFETIME";
    /// Seconds that a nonce is good [default: 600]
    nonce_lifetime: Option<u64>, "NONCE_LIFETIME";
    /// Offer SHA-256 passwords (RFC 8489) [default: true]
    sha256: Option<bool>, "SHA256", num_args = 0..=1, default_missing_value = "true";
    /// Ask clients to hide their names (USERHASH); for listed users alone [default: false]
    user_hash: Option<bool>, "USER_HASH", num_args = 0..=1, default_missing_value = "true";
    /// Let allocations move to another client address (RFC 8016) [default: true]
    mobility: Option<bool>, "MOBILITY", num_args = 0..=1, default_missing_value = "true";
    /// Give clients TCP connections to peers (RFC 6062) [default: false]
    tcp_relay: Option<bool>, "TCP_RELAY", num_args = 0..=1, default_missing_value = "true";
    /// Answer RFC 3489 clients [default: false]
    classic: Option<bool>, "CLASSIC", num_args = 0..=1, default_missing_value = "true";
    /// The second address for behaviour discovery (RFC 5780) [default: off, it is a reflector]
    other_address: Option<SocketAddr>, "OTHER_ADDRESS";
    /// Where to send clients while draining
    alternate_server: Vec<SocketAddr>, "ALTERNATE_SERVER", value_delimiter = ',';
    /// SOFTWARE to tell clients that authenticated [default: nothing]
    software: Option<String>, "SOFTWARE";
    /// Seconds that allocations may live on after SIGTERM [default: 600]
    drain: Option<u64>, "DRAIN";
    /// Where health, metrics and the admin interface are, over HTTP; "none": nowhere [default: 127.0.0.1:9641]
    admin: Option<String>, "ADMIN";
    /// What callers of the admin interface have to bring as a bearer token [default: health and metrics only]
    admin_token: Option<String>, "ADMIN_TOKEN";
    /// Leave clients' addresses out of logs [default: false]
    redact: Option<bool>, "REDACT", num_args = 0..=1, default_missing_value = "true";
    /// What to log: error, warn, info, debug [default: info]
    log: Option<String>, "LOG";
    /// Log as JSON [default: false]
    log_json: Option<bool>, "LOG_JSON", num_args = 0..=1, default_missing_value = "true";
}

/// Whether a setting was not given.
trait Given {
    fn given(&self) -> bool;
}

impl<T> Given for Vec<T> {
    fn given(&self) -> bool {
        !self.is_empty()
    }
}

impl<T> Given for Option<T> {
    fn given(&self) -> bool {
        self.is_some()
    }
}

fn is_empty(value: &impl Given) -> bool {
    !value.given()
}

/// What the service makes up where the operator gave nothing, once: a reload keeps it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Generated {
    /// The password of the user `visavis`.
    pub password: String,
    /// A shared secret.
    pub secret: String,
}

impl Generated {
    /// Credentials that nobody guesses, of letters and digits alone.
    pub fn draw() -> Self {
        Self {
            password: random_text(16),
            secret: random_text(32),
        }
    }
}

/// What is used where the operator named no user, secret or service.
const GENERATED_USER: &str = "visavis";

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn from_file(path: &Path) -> Result<Self, TurnError> {
        let text = fs::read_to_string(path)
            .map_err(|error| TurnError::File(format!("cannot read {}: {error}", path.display())))?;
        Self::from_toml(&text)
            .map_err(|error| TurnError::Setting(format!("{}: {error}", path.display())))
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn from_toml(text: &str) -> Result<Self, TurnError> {
        toml::from_str(text).map_err(|error| TurnError::Setting(error.to_string()))
    }

    /// These settings, and those of `below` where these say nothing.
    ///
    /// # Errors
    /// None in practice: what can be read can be written.
    pub fn over(&self, below: &Self) -> Result<Self, TurnError> {
        let wrong = |error: &dyn std::fmt::Display| TurnError::Setting(error.to_string());
        let mut table = toml::Table::try_from(below).map_err(|error| wrong(&error))?;
        table.extend(toml::Table::try_from(self).map_err(|error| wrong(&error))?);
        table.try_into().map_err(|error| wrong(&error))
    }

    /// As TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// Whether nobody was named who may allocate.
    pub fn needs_generated(&self) -> bool {
        self.user.is_empty()
            && self.users_file.is_none()
            && self.secret.is_empty()
            && self.secrets_file.is_none()
            && self.oauth_key.is_empty()
            && self.webhook.is_none()
            && self.tenant.is_empty()
    }

    /// Everything that runs, with what was made up and the defaults: what `--print-config` prints.
    pub fn effective(&self, generated: &Generated) -> Self {
        let mut all = self.clone();
        if all.needs_generated() {
            all.user = vec![format!("{GENERATED_USER}:{}", generated.password)];
            all.secret = vec![generated.secret.clone()];
        }
        let config = TurnConfig::new();
        let limits = &config.core.limits;
        if all.listen.is_empty() {
            all.listen = config.listen.clone();
        }
        if all.tls_listen.is_empty() {
            all.tls_listen = config.tls_listen.iter().map(ToString::to_string).collect();
        }
        if all.relay_ip.is_empty() {
            let relays = config.core.relays.iter();
            all.relay_ip = relays.map(|relay| relay.bind.to_string()).collect();
        }
        let or = |field: &mut Option<String>, value: &str| {
            field.get_or_insert_with(|| value.to_owned());
        };
        or(&mut all.ports, "49152-65535");
        or(&mut all.realm, GENERATED_USER);
        or(&mut all.admin, "127.0.0.1:9641");
        or(&mut all.log, "info");
        let seconds = |duration: Duration| duration.as_secs();
        all.credential_lifetime
            .get_or_insert(seconds(config.credential_lifetime));
        all.strict_expiry.get_or_insert(config.core.strict_expiry);
        all.workers.get_or_insert(config.workers);
        all.gather.get_or_insert(config.gather.as_micros() as u64);
        all.queue.get_or_insert(config.queue.as_millis() as u64);
        all.offload.get_or_insert(config.offload);
        all.allocations.get_or_insert(limits.allocations);
        all.user_allocations
            .get_or_insert(limits.allocations_per_user);
        all.address_allocations
            .get_or_insert(limits.allocations_per_address);
        all.permissions.get_or_insert(limits.permissions);
        all.channels.get_or_insert(limits.channels);
        all.challenges.get_or_insert(limits.challenges_per_second);
        all.bindings.get_or_insert(limits.bindings_per_second);
        all.connections.get_or_insert(config.connections);
        all.address_connections
            .get_or_insert(config.connections_per_address);
        all.default_lifetime
            .get_or_insert(seconds(config.core.default_lifetime));
        all.max_lifetime
            .get_or_insert(seconds(config.core.max_lifetime));
        all.nonce_lifetime
            .get_or_insert(seconds(config.core.nonce_lifetime));
        all.sha256.get_or_insert(config.core.password_algorithms);
        all.user_hash.get_or_insert(config.core.user_hash);
        all.mobility.get_or_insert(config.core.mobility);
        all.tcp_relay.get_or_insert(config.core.tcp_relay);
        all.classic.get_or_insert(config.core.classic);
        all.drain.get_or_insert(seconds(config.drain));
        all.redact.get_or_insert(config.redact);
        all.log_json.get_or_insert(false);
        all
    }

    /// Where the admin interface listens.
    ///
    /// # Errors
    /// If it is no address.
    pub fn admin_address(&self) -> Result<Option<SocketAddr>, TurnError> {
        match self.admin.as_deref() {
            None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 9641)))),
            Some("none") => Ok(None),
            Some(text) => parse("admin", text, "an address and a port").map(Some),
        }
    }

    /// What the service runs with.
    ///
    /// # Errors
    /// The setting that is wrong, and what it should be.
    pub fn resolve(&self, generated: &Generated) -> Result<TurnConfig, TurnError> {
        let mut config = TurnConfig::new();
        if !self.listen.is_empty() {
            config.listen = self.listen.clone();
        }
        match &self.tls_listen[..] {
            [] => {}
            [none] if none == "none" => config.tls_listen.clear(),
            list => {
                config.tls_listen = list
                    .iter()
                    .map(|text| parse("tls-listen", text, "an address and a port"))
                    .collect::<Result<_, _>>()?;
            }
        }
        self.resolve_relays(&mut config)?;
        self.resolve_realms(&mut config, generated)?;
        self.resolve_filter(&mut config)?;
        self.resolve_limits(&mut config);
        config.certificates = self.certificates()?;
        config.names = self.name.clone();
        if config.names.is_empty() {
            config.names = self.acme_domain.clone();
        }
        set(&mut config.workers, self.workers);
        set(&mut config.gather, self.gather.map(Duration::from_micros));
        set(&mut config.queue, self.queue.map(Duration::from_millis));
        set(&mut config.offload, self.offload);
        set(&mut config.redact, self.redact);
        set(&mut config.drain, self.drain.map(Duration::from_secs));
        if self.admin_token.as_deref() == Some("") {
            return Err(wrong(
                "admin-token",
                "",
                "a token: leave it out, or choose one",
            ));
        }
        config.admin_token = self.admin_token.clone();
        let core = &mut config.core;
        set(&mut core.strict_expiry, self.strict_expiry);
        set(&mut core.password_algorithms, self.sha256);
        set(&mut core.user_hash, self.user_hash);
        set(&mut core.mobility, self.mobility);
        set(&mut core.tcp_relay, self.tcp_relay);
        set(&mut core.classic, self.classic);
        core.other_address = self.other_address;
        core.alternate_servers = self.alternate_server.clone();
        core.software = self.software.clone();
        config.check()?;
        Ok(config)
    }

    fn resolve_relays(&self, config: &mut TurnConfig) -> Result<(), TurnError> {
        if !self.relay_ip.is_empty() {
            let address = |text: &String| {
                let expected = "an IP address, or BIND/EXTERNAL";
                let (bind, external) = text.split_once('/').unwrap_or((text, text));
                let bind: IpAddr = parse("relay-ip", bind, expected)?;
                let external: IpAddr = parse("relay-ip", external, expected)?;
                if bind.is_ipv4() != external.is_ipv4() {
                    return Err(wrong("relay-ip", text, "two addresses of one family"));
                }
                let mut relay = RelayAddress::new(bind);
                relay.external = external;
                Ok(relay)
            };
            config.core.relays = self
                .relay_ip
                .iter()
                .map(address)
                .collect::<Result<_, _>>()?;
        }
        if let Some(text) = &self.ports {
            config.core.ports = ports("ports", text)?;
        }
        Ok(())
    }

    fn resolve_realms(
        &self,
        config: &mut TurnConfig,
        generated: &Generated,
    ) -> Result<(), TurnError> {
        let lines = |path: &Option<PathBuf>| match path {
            None => Ok(Vec::new()),
            Some(path) => fs::read_to_string(path)
                .map(|text| {
                    let lines = text.lines().map(str::trim);
                    lines
                        .filter(|line| !line.is_empty() && !line.starts_with('#'))
                        .map(str::to_owned)
                        .collect()
                })
                .map_err(|error| {
                    TurnError::File(format!("cannot read {}: {error}", path.display()))
                }),
        };
        let mut users = self.user.clone();
        users.extend(lines(&self.users_file)?);
        let mut secrets = self.secret.clone();
        secrets.extend(lines(&self.secrets_file)?);
        if self.needs_generated() {
            users.push(format!("{GENERATED_USER}:{}", generated.password));
            secrets.push(generated.secret.clone());
        }
        let mut credentials = credentials(&users, &secrets)?;
        if let Some(url) = &self.webhook {
            config.webhook = Some(parse("webhook", url, "an http or https URL")?);
            credentials = credentials.lookup();
        }
        for key in &self.oauth_key {
            let expected = "KID:BASE64 with a key of 16 or 32 bytes";
            let (kid, key) = key
                .split_once(':')
                .ok_or_else(|| wrong("oauth-key", key, expected))?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(key)
                .map_err(|_| wrong("oauth-key", key, expected))?;
            credentials = credentials
                .oauth_key(kid, &bytes)
                .ok_or_else(|| wrong("oauth-key", kid, expected))?;
        }
        config.core.oauth_server = self.oauth_server.clone();
        config.secret = secrets.first().cloned();
        set(
            &mut config.credential_lifetime,
            self.credential_lifetime.map(Duration::from_secs),
        );
        let name = self.realm.clone().unwrap_or_else(|| "visavis".to_owned());
        let mut realms = vec![Realm::new(name, credentials)];
        for text in &self.tenant {
            realms.push(tenant(text)?);
        }
        let is_bad = |realm: &&Realm| realm.name.is_empty() || realm.name.len() > 127;
        if let Some(realm) = realms.iter().find(is_bad) {
            return Err(wrong("realm", &realm.name, "a name of 1 to 127 bytes"));
        }
        config.core.realms = realms;
        Ok(())
    }

    fn resolve_filter(&self, config: &mut TurnConfig) -> Result<(), TurnError> {
        let range = |name: &'static str| {
            move |text: &String| -> Result<IpRange, TurnError> {
                parse(name, text, "ADDRESS, ADDRESS/BITS or FIRST-LAST")
            }
        };
        let filter = &mut config.core.filter;
        for text in &self.allow_peer {
            filter.allow.push(range("allow-peer")(text)?);
        }
        for text in &self.deny_peer {
            filter.deny.push(range("deny-peer")(text)?);
        }
        for text in &self.deny_port {
            filter.deny_ports.push(ports("deny-port", text)?);
        }
        Ok(())
    }

    fn resolve_limits(&self, config: &mut TurnConfig) {
        let limits = &mut config.core.limits;
        set(&mut limits.allocations, self.allocations);
        set(&mut limits.allocations_per_user, self.user_allocations);
        set(
            &mut limits.allocations_per_address,
            self.address_allocations,
        );
        set(&mut limits.permissions, self.permissions);
        set(&mut limits.channels, self.channels);
        set(&mut limits.challenges_per_second, self.challenges);
        set(&mut limits.bindings_per_second, self.bindings);
        let rate = |bytes, packets| Rate { bytes, packets };
        limits.allocation_rate = rate(self.allocation_bytes, self.allocation_packets);
        limits.user_rate = rate(self.user_bytes, self.user_packets);
        limits.address_rate = rate(self.address_bytes, self.address_packets);
        limits.total_rate = rate(self.total_bytes, self.total_packets);
        set(&mut config.connections, self.connections);
        set(
            &mut config.connections_per_address,
            self.address_connections,
        );
        let core = &mut config.core;
        let seconds = |value: Option<u64>| value.map(Duration::from_secs);
        set(&mut core.default_lifetime, seconds(self.default_lifetime));
        set(&mut core.max_lifetime, seconds(self.max_lifetime));
        set(&mut core.nonce_lifetime, seconds(self.nonce_lifetime));
    }

    fn certificates(&self) -> Result<Certificates, TurnError> {
        let wrong = |text: &str| Err(TurnError::Setting(text.to_owned()));
        match (&self.certificate, &self.private_key) {
            (Some(_), _) if !self.acme_domain.is_empty() => {
                wrong("give `certificate` or `acme-domain`, not both")
            }
            (Some(certificate), Some(key)) => Ok(Certificates::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (Some(_), None) => wrong("`certificate` needs `private-key`"),
            (None, Some(_)) => wrong("`private-key` needs `certificate`"),
            (None, None) if self.acme_domain.is_empty() => Ok(Certificates::SelfSigned),
            (None, None) => Ok(Certificates::Acme {
                domains: self.acme_domain.clone(),
                contacts: self.acme_email.clone(),
                directory: self.acme_directory.clone(),
                root: self.acme_root.clone(),
                cache: self.acme_cache.clone().unwrap_or_else(|| "acme".into()),
            }),
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn wrong(name: &str, value: &str, expected: &str) -> TurnError {
    TurnError::Setting(format!("`{name}`: {value:?} is not {expected}"))
}

fn parse<T: std::str::FromStr>(name: &str, value: &str, expected: &str) -> Result<T, TurnError> {
    value
        .trim()
        .parse()
        .map_err(|_| wrong(name, value, expected))
}

fn ports(name: &str, text: &str) -> Result<RangeInclusive<u16>, TurnError> {
    let expected = "PORT or FIRST-LAST, of 1 to 65535";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (parse(name, first, expected)?, parse(name, last, expected)?);
    if first == 0 || first > last {
        return Err(wrong(name, text, expected));
    }
    Ok(first..=last)
}

fn credentials(users: &[String], secrets: &[String]) -> Result<Credentials, TurnError> {
    let mut credentials = Credentials::new();
    for user in users {
        let (name, password) = user.split_once(':').ok_or_else(|| {
            TurnError::Setting("`user`: what stands there is not NAME:PASSWORD".to_owned())
        })?;
        if password.is_empty() {
            return Err(wrong("user", user, "NAME:PASSWORD with a password"));
        }
        credentials = credentials.user(name, password);
    }
    for secret in secrets {
        // An environment variable that was left empty would let everybody in.
        if secret.is_empty() {
            return Err(wrong("secret", "", "a secret: leave it out, or choose one"));
        }
        credentials = credentials.secret(secret.as_bytes());
    }
    Ok(credentials)
}

/// NAME;origin=URL;host=NAME;user=NAME:PASSWORD;secret=SECRET.
fn tenant(text: &str) -> Result<Realm, TurnError> {
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default().trim().to_owned();
    let (mut origins, mut hosts) = (Vec::new(), Vec::new());
    let (mut users, mut secrets) = (Vec::new(), Vec::new());
    for part in parts {
        match part.trim().split_once('=') {
            Some(("origin", origin)) => origins.push(origin.to_owned()),
            // Who comes to the host over TLS, and its pages over HTTPS.
            Some(("host", host)) => {
                origins.push(format!("https://{host}"));
                hosts.push(host.to_ascii_lowercase());
            }
            Some(("user", user)) => users.push(user.to_owned()),
            Some(("secret", secret)) => secrets.push(secret.to_owned()),
            _ => {
                return Err(wrong(
                    "tenant",
                    &name,
                    "followed by parts like ;origin=URL ;host=NAME ;user=NAME:PASSWORD ;secret=SECRET",
                ));
            }
        }
    }
    let mut realm = Realm::new(name, credentials(&users, &secrets)?);
    realm.origins = origins;
    realm.hosts = hosts;
    Ok(realm)
}

#[cfg(test)]
mod tests {
    use super::{Generated, Settings};

    fn generated() -> Generated {
        Generated::draw()
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = Settings::from_toml("realm = \"file\"\nworkers = 3\nuser = [\"a:b\"]").unwrap();
        let flags = Settings {
            realm: Some("flag".into()),
            ..Settings::default()
        };
        let both = flags.over(&file).unwrap();
        assert_eq!(both.realm.as_deref(), Some("flag"));
        assert_eq!(both.workers, Some(3));
        assert_eq!(both.user, ["a:b"]);
    }

    #[test]
    fn what_is_printed_can_be_read_and_means_the_same() {
        let generated = generated();
        let printed = Settings::default().effective(&generated).to_toml();
        let read = Settings::from_toml(&printed).unwrap();
        assert_eq!(read, Settings::default().effective(&generated));
        assert!(!read.needs_generated());
    }

    #[test]
    fn without_any_setting_nobody_relays_but_with_the_generated_password() {
        let mut settings = Settings {
            relay_ip: vec!["192.0.2.1".into()],
            ..Settings::default()
        };
        let config = settings.resolve(&generated()).unwrap();
        assert_eq!(config.core.realms.len(), 1);
        assert!(config.secret.is_some());
        // Named users close it for the generated one.
        settings.user = vec!["alice:x".into()];
        let config = settings.resolve(&generated()).unwrap();
        assert!(config.secret.is_none());
    }

    #[test]
    fn wrong_settings_say_what_they_should_be() {
        for (toml, word) in [
            ("ports = \"9-1\"", "FIRST-LAST"),
            ("ports = \"0-5\"", "1 to 65535"),
            ("user = [\"alice\"]", "NAME:PASSWORD"),
            ("allow-peer = [\"10.0.0.0/99\"]", "ADDRESS/BITS"),
            ("certificate = \"x\"", "private-key"),
            ("tenant = [\"a;b\"]", "origin"),
            ("relay-ip = [\"1.2.3.4/::1\"]", "one family"),
            ("webhook = \"nowhere\"", "URL"),
            ("workers = 0", "1 to 64"),
            ("other-address = \"192.0.2.9:3479\"", "RFC 5780"),
            ("secret = [\"\"]", "leave it out"),
            ("user = [\"alice:\"]", "with a password"),
            ("admin-token = \"\"", "leave it out"),
            ("tenant = [\"a;secret=\"]", "leave it out"),
        ] {
            let mut settings = Settings::from_toml(toml).unwrap();
            if settings.relay_ip.is_empty() {
                settings.relay_ip = vec!["192.0.2.1".into()];
            }
            let error = settings.resolve(&generated()).unwrap_err().to_string();
            assert!(error.contains(word), "{toml}: {error}");
        }
        assert!(Settings::from_toml("no-such-setting = 1").is_err());
    }
}
