//! The tests of Kiln as a whole: through the front door, on a real Postgres, an S3 service and the provider simulator.
//!
//! Every test ends with `TestApp::finish`, which checks the invariants of the house, whatever the test was about.

mod support;

mod access;
mod admin;
mod again;
mod audit;
mod bad_input;
mod billing;
mod books;
mod breaker;
mod callbacks;
mod catalog;
mod chat;
mod crash;
mod dialogs;
mod eta;
mod fallback;
mod files;
mod flow;
mod grants;
mod hygiene;
mod interleavings;
mod key_grants;
mod keys;
mod limits;
mod mail;
mod members;
mod moderation;
mod notices;
mod openai;
mod openapi;
mod people;
mod price;
mod privacy;
mod process;
mod provider_keys;
mod providers;
mod queue;
mod resend;
mod routing;
mod scheduler;
mod sessions;
mod silence;
mod telemetry;
mod tidy;
mod tiers;
mod transactions;
mod usage;
mod webhook;
mod webhook_deliveries;
mod webhook_endpoints;
