//! What an end says to the process that started it, one line each.
//!
//! Each says `ready` when its program has started. The sender, told to start, makes its connection and says
//! its offer, gets the answer, says `begin` once the channel is open and it sends, and, asked for it, the
//! processor seconds since. The receiver gets the offer, makes its connection and says its answer, and its
//! processor seconds when it has everything.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::io::{BufRead, stdin};

use serde_json::json;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes of a message.
    pub message: usize,
    /// Bytes of all.
    pub total: usize,
    pub ordered: bool,
}

impl Load {
    pub fn to_arguments(self) -> [String; 3] {
        [
            self.message.to_string(),
            self.total.to_string(),
            self.ordered.to_string(),
        ]
    }

    pub fn from_arguments(arguments: &[String]) -> Self {
        let [message, total, ordered] = arguments else {
            panic!("a load is three arguments");
        };
        Self {
            message: message.parse().expect("a number of bytes"),
            total: total.parse().expect("a number of bytes"),
            ordered: ordered.parse().expect("true or false"),
        }
    }
}

/// The program has started.
pub fn ready() {
    println!("ready");
}

/// Waits until the connection is to be made.
pub fn wait_for_start() {
    ready();
    line();
}

/// Says a description.
pub fn say(description: &str) {
    println!("{}", json!(description));
}

/// Gets a description.
pub fn hear() -> String {
    serde_json::from_str(&line()).expect("a description in JSON")
}

/// The first message is about to leave.
pub fn begin() {
    println!("begin");
}

/// Waits until it is asked how much was used.
pub fn wait_for_end() {
    line();
}

/// Says what was used.
pub fn used(seconds: f64) {
    println!("{seconds}");
}

fn line() -> String {
    let mut line = String::new();
    stdin()
        .lock()
        .read_line(&mut line)
        .expect("a parent that speaks");
    line
}
