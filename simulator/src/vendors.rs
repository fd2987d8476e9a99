//! The vendors, one a file; each says which paths it answers at.

pub(crate) mod anthropic;
pub(crate) mod deepseek;
pub(crate) mod gemini;
pub(crate) mod kling;
pub(crate) mod minimax;
pub(crate) mod openai;
pub(crate) mod openrouter;
pub(crate) mod perplexity;

use axum::Router;

use crate::Sim;

/// Every path of every vendor.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .merge(openai::routes())
        .merge(gemini::routes())
        .merge(kling::routes())
        .merge(minimax::routes())
        .merge(openrouter::routes())
        .merge(deepseek::routes())
        .merge(anthropic::routes())
        .merge(perplexity::routes())
}

/// What the front page says of each vendor.
pub(crate) const INDEX: &[&str] = &[
    openai::INDEX,
    gemini::INDEX,
    kling::INDEX,
    minimax::INDEX,
    openrouter::INDEX,
    deepseek::INDEX,
    anthropic::INDEX,
    perplexity::INDEX,
];
