//! The vendors, one a file; each says which paths it answers at.

pub(crate) mod anthropic;
pub(crate) mod deepseek;
pub(crate) mod fal;
pub(crate) mod gemini;
pub(crate) mod kling;
pub(crate) mod luma;
pub(crate) mod midjourney;
pub(crate) mod minimax;
pub(crate) mod openai;
pub(crate) mod openrouter;
pub(crate) mod perplexity;
pub(crate) mod recraft;
pub(crate) mod removebg;
pub(crate) mod replicate;
pub(crate) mod stability;
pub(crate) mod suno;
pub(crate) mod sunoapi;
pub(crate) mod veo;

use axum::Router;

use crate::Sim;

/// Every path of every vendor.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .merge(openai::routes())
        .merge(gemini::routes())
        .merge(kling::routes())
        .merge(minimax::routes())
        .merge(replicate::routes())
        .merge(fal::routes())
        .merge(veo::routes())
        .merge(luma::routes())
        .merge(stability::routes())
        .merge(recraft::routes())
        .merge(removebg::routes())
        .merge(midjourney::routes())
        .merge(suno::routes())
        .merge(sunoapi::routes())
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
    replicate::INDEX,
    fal::INDEX,
    veo::INDEX,
    luma::INDEX,
    stability::INDEX,
    recraft::INDEX,
    removebg::INDEX,
    midjourney::INDEX,
    suno::INDEX,
    sunoapi::INDEX,
    openrouter::INDEX,
    deepseek::INDEX,
    anthropic::INDEX,
    perplexity::INDEX,
];
