//! What the `kiln` command is made of: development in one process, administration, and a doctor.

pub mod admin;
pub mod dev;
pub mod doctor;
pub mod embedded;
