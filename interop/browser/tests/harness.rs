//! The harness itself: a page answers.

use interop_browser::{Browser, Kind};
use serde_json::json;

#[tokio::test]
async fn chromium_answers() {
    let Some(browser) = Browser::launch(Kind::Chromium, &[]).await else {
        return;
    };
    let page = browser.open().await;
    assert_eq!(page.eval("Promise.resolve(20 + 22)").await, 42);
    assert_eq!(
        page.call("return argument.a + 1", json!({ "a": 1 })).await,
        2
    );
    assert!(page.try_eval("nothing.there").await.is_err());
}

#[tokio::test]
async fn firefox_answers() {
    let Some(browser) = Browser::launch(Kind::Firefox, &[]).await else {
        return;
    };
    let page = browser.open().await;
    assert_eq!(page.eval("Promise.resolve(20 + 22)").await, 42);
    assert!(page.try_eval("nothing.there").await.is_err());
}
