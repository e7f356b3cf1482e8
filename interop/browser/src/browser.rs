//! A headless browser, driven from a Rust test: pages that evaluate JavaScript and answer JSON.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Which browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Debian's Chromium.
    Chromium,
    /// Debian's Firefox ESR.
    Firefox,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }

    fn executable(self) -> &'static str {
        match self {
            Self::Chromium => "/usr/bin/chromium",
            Self::Firefox => "/usr/bin/firefox-esr",
        }
    }
}

type Waiting = Arc<std::sync::Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// What is said to a browser's driver, a line each.
type Requests = mpsc::UnboundedSender<String>;

/// A running browser. It ends when this is dropped, or with the program.
pub struct Browser {
    kind: Kind,
    /// What the browser says its version is.
    pub version: String,
    requests: Requests,
    waiting: Waiting,
    last: AtomicU64,
}

/// A page of a browser; it closes when this is dropped.
pub struct Page {
    browser: Arc<Browser>,
    number: u64,
}

impl Drop for Page {
    fn drop(&mut self) {
        let request = json!({ "page": self.number, "close": true });
        let _ = self.browser.requests.send(request.to_string());
    }
}

/// Which browser runs, and what it was started with.
type Running = (Kind, Vec<String>, Arc<Browser>);

/// The browsers of this program live as long as it does, each test has a runtime of its own.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

impl Browser {
    /// A browser with extra flags (Chromium; one that begins with `!` takes a flag away) or `pref=value`
    /// pairs (Firefox): the one that runs already, or a new one.
    ///
    /// `None`, with the reason printed, where the browser or its driver is not installed; never
    /// when `CI` is set: there, a missing browser is a failure.
    pub async fn launch(kind: Kind, extra: &[&str]) -> Option<Arc<Self>> {
        static RUNNING: Mutex<Vec<Running>> = Mutex::const_new(Vec::new());
        let mut running = RUNNING.lock().await;
        let same = |(its_kind, its_extra, _): &&Running| *its_kind == kind && its_extra == extra;
        if let Some((_, _, browser)) = running.iter().find(same)
            && !browser.requests.is_closed()
        {
            return Some(Arc::clone(browser));
        }
        let extra: Vec<String> = extra.iter().map(|&flag| flag.to_owned()).collect();
        let starting = runtime().spawn(Self::start(kind, extra.clone()));
        let browser = Arc::new(starting.await.expect("the browser starts")?);
        running.push((kind, extra, Arc::clone(&browser)));
        Some(browser)
    }

    async fn start(kind: Kind, extra: Vec<String>) -> Option<Self> {
        let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let reason = if !Path::new(kind.executable()).exists() {
            Some(format!("{} is not installed", kind.executable()))
        } else if !interop.join("node_modules").exists() {
            Some("run `npm ci --ignore-scripts` in interop/ first".to_owned())
        } else {
            None
        };
        if let Some(reason) = reason {
            interop_common::skip(&reason);
            return None;
        }
        let mut child = Command::new("node")
            .arg(interop.join("browser/driver.mjs"))
            .arg(kind.name())
            .args(extra)
            .current_dir(&interop)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(false)
            .spawn()
            .expect("node starts");
        let mut input = child.stdin.take().expect("stdin is piped");
        let output = child.stdout.take().expect("stdout is piped");
        let waiting = Waiting::default();
        let mut lines = BufReader::new(output).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(message) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if message["ready"] == true {
                    return message["version"].as_str().unwrap_or_default().to_owned();
                }
            }
            panic!("the browser did not start");
        };
        let version = tokio::time::timeout(Duration::from_secs(120), ready)
            .await
            .expect("browser starts");
        let (requests, mut said) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(request) = said.recv().await {
                if input
                    .write_all(format!("{request}\n").as_bytes())
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(message) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if let Some(log) = message["log"].as_str() {
                    eprintln!("[page] {log}");
                }
                let Some(id) = message["id"].as_u64() else {
                    continue;
                };
                let answer = match message.get("error") {
                    Some(error) => Err(error.as_str().unwrap_or("error").to_owned()),
                    None => Ok(message["value"].clone()),
                };
                if let Some(waiting) = answers.lock().unwrap().remove(&id) {
                    let _ = waiting.send(answer);
                }
            }
            // The driver ended: nobody will answer any more.
            answers.lock().unwrap().clear();
            let _ = child.wait().await;
        });
        Some(Self {
            kind,
            version,
            requests,
            waiting,
            last: AtomicU64::new(0),
        })
    }

    /// Name and version.
    pub fn name(&self) -> String {
        let version = self.version.rsplit('/').next().unwrap_or_default();
        format!("{:?} {version}", self.kind)
    }

    /// Opens an empty page of a secure context.
    pub async fn open(self: &Arc<Self>) -> Page {
        self.open_request(json!({ "open": true })).await
    }

    /// Opens a page by its address.
    pub async fn open_url(self: &Arc<Self>, url: &str) -> Page {
        self.open_request(json!({ "open": true, "url": url })).await
    }

    async fn open_request(self: &Arc<Self>, request: Value) -> Page {
        let number = self.request(request).await.expect("a page opens");
        Page {
            browser: Arc::clone(self),
            number: number.as_u64().expect("a page number"),
        }
    }

    async fn request(&self, mut request: Value) -> Result<Value, String> {
        let (answer, answered) = oneshot::channel();
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        request["id"] = id.into();
        self.waiting.lock().unwrap().insert(id, answer);
        let ended = |_| "the browser ended".to_owned();
        self.requests.send(request.to_string()).map_err(ended)?;
        match tokio::time::timeout(Duration::from_secs(120), answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the browser ended".to_owned()),
            Err(_) => Err("no answer within 120 s".to_owned()),
        }
    }
}

impl Page {
    /// Evaluates an expression; a promise is awaited.
    ///
    /// # Errors
    /// The page's exception, as text.
    pub async fn try_eval(&self, expression: &str) -> Result<Value, String> {
        self.browser
            .request(json!({ "page": self.number, "eval": expression }))
            .await
    }

    /// Evaluates an expression; a promise is awaited. Panics with the page's exception.
    pub async fn eval(&self, expression: &str) -> Value {
        match self.try_eval(expression).await {
            Ok(value) => value,
            Err(error) => panic!("page: {error}\nin: {expression}"),
        }
    }

    /// Evaluates a function's body, with `argument` bound to a JSON value.
    pub async fn call(&self, body: &str, argument: Value) -> Value {
        self.eval(&format!("(async (argument) => {{ {body} }})({argument})"))
            .await
    }

    /// Takes a picture of the page.
    pub async fn screenshot(&self, file: &Path) {
        let request = json!({ "page": self.number, "screenshot": file.to_string_lossy() });
        self.browser.request(request).await.expect("a screenshot");
    }
}
