//! The pipeline as its callers see it: `Service` on the fakes of all four ports.

mod changes;
mod conflicts;
mod isolation;
mod moving;
mod paging;
mod races;
mod recording;
mod recovery;
mod states;
mod support;
mod tampering;
