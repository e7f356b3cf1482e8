//! One HTTP request, for a server's configuration and its clock.

use hyper::{Method, header};
use url::Url;

use super::facts::ServerError;
use super::probe::PATIENCE;
use crate::http::{HttpError, Question, ask};
use crate::stream::StreamError;

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The server's clock, seconds since 1970.
    pub(super) date: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// `GET url`.
pub(super) async fn get(url: &Url, insecure: bool) -> Result<Answer, ServerError> {
    let question = Question {
        method: Method::GET,
        url,
        token: None,
        body: None,
        insecure,
        patience: PATIENCE,
    };
    let answer = ask(question).await.map_err(|error| match error {
        HttpError::Stream(error @ StreamError::Name { .. }) => ServerError::Name(error.to_string()),
        HttpError::Stream(StreamError::Connect(reason)) => ServerError::Connect(reason),
        HttpError::Stream(StreamError::Tls(reason)) => ServerError::Tls(reason),
        HttpError::Protocol(reason) => ServerError::Http(reason),
    })?;
    Ok(Answer {
        status: answer.status,
        date: answer.header(header::DATE).and_then(seconds),
        body: answer.body,
    })
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
fn seconds(text: &str) -> Option<u64> {
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = months.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words
        .next()?
        .split(':')
        .map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-01-01, counted in years that begin in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_of_http_are_read() {
        let read = super::seconds;
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(read("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for wrong in [
            "",
            "yesterday",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(wrong), None);
        }
    }
}
