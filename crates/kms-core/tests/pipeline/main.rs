//! The pipeline as its callers see it: `Service` on the fakes of all four ports.

mod budgets;
mod changes;
mod clock;
mod conflicts;
mod copying;
mod destruction;
mod due;
mod in_hsm;
mod isolation;
mod life;
mod moving;
mod paging;
mod races;
mod recording;
mod recovery;
mod rotation;
mod states;
mod support;
mod tampering;
