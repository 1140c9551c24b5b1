//! Who may do what with which key: grants, policies, and what is told to whom.

mod grants;
mod listings;
mod policies;
mod support;
