//! What DEW's REST interface needs before it can ask the pipeline: who signed a request, or whose token it has.

pub(crate) mod iam;
pub(crate) mod signature;
pub(crate) mod token;
