//! What people may demand of what we keep of them: a copy of everything about their account, and that it goes.
//!
//! A copy is an archive that the clock makes and that is deleted again after a week (`export.rs` its life, `contents.rs` what
//! is in it). Going begins at once, when access ends, and is finished by the clock in pieces that may be cut off anywhere and
//! repeated (`erase.rs` its life, `scrub.rs` the pieces). What stays of an account names nobody: ids, figures and the ledger.
//! Some things go by themselves when they are old (`retention.rs`). Deliberately absent: the storage and the archive's
//! format; whoever calls does that between these verbs.

mod contents;
mod erase;
mod export;
mod retention;
mod rows;
mod scrub;

pub use contents::{Form, Kept, KeptUpload, PARTS, Page, Part, Section, kept_files, kept_uploads};
pub use erase::{Demand, EraseError, cancel_open, erasing, is_quiet, request_erasure};
pub use export::{
    Begun, Export, ExportError, Stored, archives_of, begin_export, due_exports, export, exports, fail_export,
    finish_export, forget_archive, request_export, unwanted_archives,
};
pub use retention::{Forgotten, Old, close_unverified, forget_leavers, forget_old};
pub use scrub::{Erased, complete, scrub_audit_log, scrub_dialogs, scrub_jobs};
