//! Files that really decode: pictures, drawings, films, speech. One module a format, all drawn from a [`crate::seed::Seed`].
//!
//! They carry no meaning, only variety: two works never give the same bytes, one work always does.

pub(crate) mod audio;
pub(crate) mod mp4;
pub(crate) mod pattern;
pub(crate) mod png;
pub(crate) mod still;
pub(crate) mod svg;
