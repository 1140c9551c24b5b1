//! What DEW's REST interface needs before it can ask the pipeline: who signed a request.

pub(crate) mod signature;
