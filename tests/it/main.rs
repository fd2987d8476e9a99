//! The tests of Kiln as a whole: through the front door, on a real Postgres, an S3 service and the provider simulator.
//!
//! Every test ends with `TestApp::finish`, which checks the invariants of the house, whatever the test was about.

mod support;

mod bad_input;
mod billing;
mod crash;
mod flow;
mod process;
mod providers;
mod queue;
mod scheduler;
mod tidy;
mod webhook;
