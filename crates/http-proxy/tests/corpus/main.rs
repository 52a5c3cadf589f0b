//! What could be read in two ways: each message of the corpus is refused, or it goes on in exactly
//! one form, which a backend records byte by byte. Behind each stands a second request, which shows
//! where the proxy thinks that the first one ends.

#[path = "../support/mod.rs"]
mod support;

mod h1;
mod h1_bodies;
mod h1_heads;
mod h1_oracle;
mod h2;
mod h2_cases;
mod h2_wire;
mod limits;

mod record;
mod upstream;

#[test]
fn the_corpus_is_large_enough() {
    let cases = h1::cases().len() + h2_cases::cases().len();
    assert!(cases >= 200, "{cases} requests");
}
