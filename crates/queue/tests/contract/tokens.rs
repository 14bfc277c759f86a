//! Tokens to log in with, and who asks for the next.

use std::time::Duration;

use staffetta_queue::KeptToken;

use crate::world::world;

const HOUR: Duration = Duration::from_secs(3_600);
const MOMENT: Duration = Duration::from_millis(30);

#[tokio::test]
async fn what_one_pod_keeps_all_have_until_its_time_is_over() {
    let world = world().await;
    let (here, there) = (world.queue.tokens(), world.another().await.tokens());
    assert_eq!(there.look("a").await.unwrap(), KeptToken::default());
    here.keep("a", Some((b"\xffone", HOUR)), Some(b"r\0")).await.unwrap();
    let kept = there.look("a").await.unwrap();
    let (token, left) = kept.token.unwrap();
    assert_eq!((&token[..], kept.refresh.as_deref(), kept.rest), (&b"\xffone"[..], Some(&b"r\0"[..]), None));
    assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
    assert_eq!(there.look("b").await.unwrap(), KeptToken::default());
    // Without one that counts, the configured one does.
    here.keep("a", Some((b"two", MOMENT)), None).await.unwrap();
    while there.look("a").await.unwrap() != KeptToken::default() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_asks_at_a_time_and_tells_the_others_what_came_of_it() {
    let world = world().await;
    let (here, there) = (world.queue.tokens(), world.another().await.tokens());
    assert!(here.lease("a", HOUR).await.unwrap());
    assert!(!there.lease("a", HOUR).await.unwrap() && there.lease("b", HOUR).await.unwrap());
    here.let_go("a").await.unwrap();
    assert!(there.lease("a", HOUR).await.unwrap());
    there.rest("a", "2 no way", HOUR).await.unwrap();
    let (why, left) = here.look("a").await.unwrap().rest.unwrap();
    assert!(why == "2 no way" && left > HOUR / 2);
    assert!(here.lease("a", HOUR).await.unwrap(), "whoever rests does not ask");
    here.keep("a", Some((b"one", HOUR)), None).await.unwrap();
    assert_eq!(there.look("a").await.unwrap().rest, None);
    // Of somebody who died.
    assert!(there.lease("a", MOMENT).await.unwrap());
    while !here.lease("a", HOUR).await.unwrap() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_refused_is_forgotten_once_in_a_while() {
    let world = world().await;
    let tokens = world.queue.tokens();
    tokens.keep("a", Some((b"one", HOUR)), Some(b"r")).await.unwrap();
    assert!(tokens.refuse("a", HOUR).await.unwrap());
    let kept = tokens.look("a").await.unwrap();
    assert_eq!((kept.token, kept.refresh.as_deref()), (None, Some(&b"r"[..])));
    tokens.keep("a", Some((b"two", HOUR)), None).await.unwrap();
    assert!(!tokens.refuse("a", HOUR).await.unwrap());
    assert!(tokens.look("a").await.unwrap().token.is_some());
}
