//! The pipeline as its callers see it: `Service` on the fakes of all four ports.

mod batches;
mod budgets;
mod changes;
mod clock;
mod conflicts;
mod copying;
mod data;
mod destruction;
mod due;
mod import;
mod in_hsm;
mod isolation;
mod key_rotation;
mod keystores;
mod life;
mod moving;
mod paging;
mod races;
mod recording;
mod recovery;
mod rotation;
mod signing;
mod states;
mod support;
mod tampering;
mod usage;
